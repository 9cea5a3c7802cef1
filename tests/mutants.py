"""Mutation testing: makes a copy of a module with one planted mistake, which a test must notice."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType


def mutant(module: ModuleType, right: str, wrong: str) -> ModuleType:
    """A copy of the module in which ``wrong`` replaces ``right``, which must occur exactly once in
    its source."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    # not an AssertionError, because the caller expects one from the mutant
    if source.count(right) != 1:
        raise ValueError(f"{right!r} occurs {source.count(right)} times in {module.__file__}")
    twin = ModuleType(module.__name__ + "_mutant")
    twin.__dict__.update(__file__=module.__file__, __package__=module.__package__)
    # a dataclass looks up its module here
    sys.modules[twin.__name__] = twin
    exec(
        compile(source.replace(right, wrong), f"{module.__file__} (mutant)", "exec"), twin.__dict__
    )
    return twin
