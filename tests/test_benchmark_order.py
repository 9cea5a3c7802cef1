"""The files of benchmarks/ have no circular imports, including imports inside functions."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


def imports(text: str) -> set[str]:
    """The files of benchmarks/ that a source text imports anywhere: at the top, in a function, only
    for types, or by name (import_module)."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    names = {name.removeprefix("benchmarks.") for name in found if name.startswith("benchmarks.")}
    return {name for name in names if (FOLDER / f"{name}.py").exists()}


def graph() -> dict[str, set[str]]:
    files = sorted(FOLDER.glob("*.py"))
    return {file.stem: imports(file.read_text(encoding="utf-8")) for file in files}


def test_the_files_of_benchmarks_have_no_circular_imports():
    found = graph()
    assert "measure" in found["__main__"] and "session" in found["__main__"]
    order = list(
        TopologicalSorter(found).static_order()
    )  # raises CycleError, which names the cycle
    assert set(order) == set(found)


@pytest.mark.parametrize(
    "text",
    [
        "from benchmarks.row import Row",
        "from benchmarks import row",
        "import benchmarks.row",
        "def later():\n    from benchmarks.row import Row",
        "if TYPE_CHECKING:\n    from benchmarks.row import Row",
        "importlib.import_module('benchmarks.row')",
    ],
)
def test_an_import_is_found_anywhere_in_a_file(text):
    assert imports(text) == {"row"}
    with pytest.raises(CycleError):
        list(TopologicalSorter({"row": {"work"}, "work": imports(text)}).static_order())
