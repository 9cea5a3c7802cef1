"""A module with one mistake planted in it: a check that does not fail on that checks nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType


def mutant(module: ModuleType, right: str, wrong: str) -> ModuleType:
    """The module anew, with ``wrong`` in the place of ``right``, which must stand in its source
    exactly once."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    # no AssertionError, which the caller hopes for
    if source.count(right) != 1:
        raise ValueError(f"{right!r} stands {source.count(right)} times in {module.__file__}")
    twin = ModuleType(module.__name__ + "_mutant")
    twin.__dict__.update(__file__=module.__file__, __package__=module.__package__)
    # where a dataclass looks itself up
    sys.modules[twin.__name__] = twin
    exec(
        compile(source.replace(right, wrong), f"{module.__file__} (mutant)", "exec"), twin.__dict__
    )
    return twin
