"""Mutation testing: a module with one mistake in it, on which a good test must fail."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType


def mutant(module: ModuleType, right: str, wrong: str) -> ModuleType:
    """A copy of the module with ``wrong`` in place of ``right``, which must occur exactly once in
    its source."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    # not an AssertionError, which the caller expects from its test
    if source.count(right) != 1:
        raise ValueError(f"{right!r} stands {source.count(right)} times in {module.__file__}")
    twin = ModuleType(module.__name__ + "_mutant")
    twin.__dict__.update(__file__=module.__file__, __package__=module.__package__)
    # A dataclass looks itself up there.
    sys.modules[twin.__name__] = twin
    exec(
        compile(source.replace(right, wrong), f"{module.__file__} (mutant)", "exec"), twin.__dict__
    )
    return twin
