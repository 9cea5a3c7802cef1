"""Optional packages: imported only where they are used, with the pip command if one is missing."""

from importlib import import_module
from types import ModuleType


def import_extra(module: str, package: str, extra: str | None = None) -> ModuleType:
    """The module, or a ModuleNotFoundError that names the command which installs ``package``, or
    the extra of setup.py that holds it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            # the package is installed, but one of its own dependencies is missing
            raise
        what = f'-e ".[{extra}]"' if extra else package
        raise ModuleNotFoundError(
            f"this needs {package}, which is not installed: pip install {what}",
            name=error.name,
        ) from error
