"""Optional packages are imported where they are used, and their absence says which command mends
it."""

from importlib import import_module
from types import ModuleType


def import_extra(module: str, package: str) -> ModuleType:
    """The module, or a ModuleNotFoundError that names the command which installs ``package``."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            # the package is there, and misses something of its own
            raise
        raise ModuleNotFoundError(
            f"this needs {package}, which is not installed: pip install {package}",
            name=error.name,
        ) from error
