"""What a name in a source file means: the file and the line that define it.

Nothing is imported or run: the sources are parsed. So a name is a link only where the text alone
says what it means. ``from tinycv.vision import ViT`` leads through tinycv/vision/__init__.py to the
class in tinycv/vision/vit.py, and ``draw.figure`` to the function in tinycv/show/draw.py. A name
that a file also uses for something of its own is no link there.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Definition:
    """Where something is defined: a file, as a path below the root, and a line. Line 0: the name
    means the whole file, which is a module."""

    file: str
    line: int


@dataclass
class Module:
    """What a file defines (name: line), and what it imports (name: module, and name there, or ""
    if the name means the module itself)."""

    file: str
    defined: dict[str, int] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)


@cache
def tree(file: str) -> ast.Module:
    """The parsed source of a file, whose path is one below the root."""
    return ast.parse(text(file))


@cache
def text(file: str) -> str:
    """The source of a file."""
    return (ROOT / file).read_text(encoding="utf-8")


@cache
def modules() -> dict[str, str]:
    """The file of every module of the package, by its dotted name."""
    found = {}
    for path in sorted((ROOT / "tinycv").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = path.relative_to(ROOT).as_posix()
    return found


def dotted(file: str) -> str:
    """The module name of a file: "tinycv.sequence.lstm"."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def module(file: str) -> Module:
    """What a file defines and imports at its top level, also below ``if`` and ``try``."""
    found = Module(file)
    package = dotted(file) if file.endswith("__init__.py") else dotted(file).rpartition(".")[0]
    waiting = list(reversed(tree(file).body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.defined[node.name] = node.lineno
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for name in stored_names(node):
                found.defined.setdefault(name, node.lineno)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                found.imported[name] = (alias.name if alias.asname else name, "")
        elif isinstance(node, ast.ImportFrom):
            start = imported_module(node, package)
            for alias in node.names:
                found.imported[alias.asname or alias.name] = (start, alias.name)
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            waiting += reversed(list(ast.iter_child_nodes(node)))
    return found


def imported_module(node: ast.ImportFrom, package: str) -> str:
    """The module of ``from MODULE import``, also where it is relative to a package."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def stored_names(node: ast.AST) -> list[str]:
    """The names to which an assignment gives a value."""
    return [
        inner.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
    ]


@cache
def resolve(module_name: str, name: str = "") -> Definition | None:
    """Where ``name`` of a module is defined, or where the module is. None: not in the package."""
    if not name:
        return Definition(modules()[module_name], 0) if module_name in modules() else None
    seen = set()
    while module_name in modules() and (module_name, name) not in seen:
        seen.add((module_name, name))
        here = module(modules()[module_name])
        if name in here.defined:
            return Definition(here.file, here.defined[name])
        if name in here.imported:
            start, original = here.imported[name]
            if not original:
                return resolve(start)
            module_name, name = start, original
        else:
            return resolve(f"{module_name}.{name}")
    return resolve(f"{module_name}.{name}")


class Uses:
    """What the names of one file mean, wherever they stand."""

    def __init__(self, file: str):
        self.file = file
        self.module = module(file)
        name, is_package = dotted(file), file.endswith("__init__.py")
        self.package = name if is_package else name.rpartition(".")[0]
        self.lines = text(file).splitlines()
        self.nodes = list(ast.walk(tree(file)))
        self.ambiguous = self.names_bound_in_functions()
        self.found: dict[tuple[int, int], Definition] = {}
        for node in self.nodes:
            self.read(node)

    def names_bound_in_functions(self) -> set[str]:
        """The names that a file binds inside functions, or more than once: arguments, variables of
        loops. What such a name means depends on where it stands."""
        stored: dict[str, int] = {}
        for node in self.nodes:
            if isinstance(node, ast.arg):
                stored[node.arg] = stored.get(node.arg, 0) + 2
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                is_import = node.id in self.module.imported
                stored[node.id] = stored.get(node.id, 0) + (2 if is_import else 1)
        return {
            name for name, count in stored.items() if count > 1 or name not in self.module.defined
        }

    def read(self, node: ast.AST) -> None:
        """Note what a node means, if it is a name."""
        if isinstance(node, ast.ImportFrom):
            start = imported_module(node, self.package)
            if not node.level:  # the last part of "from tinycv.nn import" is the link
                place = node.col_offset + len("from ") + start.rfind(".") + 1
                self.note(node.lineno, place, resolve(start))
            for alias in node.names:
                self.note(alias.lineno, alias.col_offset, resolve(start, alias.name))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                self.note(alias.lineno, alias.col_offset, resolve(alias.name))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            self.note(node.lineno, node.col_offset, self.meaning(node))
        elif isinstance(node, ast.Attribute):
            start = (node.end_col_offset or 0) - len(node.attr.encode())
            self.note(node.end_lineno or node.lineno, start, self.meaning(node))

    def note(self, line: int, byte: int, definition: Definition | None) -> None:
        """Note a meaning at a place that the parser counts in bytes."""
        if definition is not None:
            column = len(self.lines[line - 1].encode()[:byte].decode())
            self.found[line, column] = definition

    def meaning(self, node: ast.AST) -> Definition | None:
        """What a name, or a name after a dot, means."""
        if isinstance(node, ast.Name) and node.id not in self.ambiguous:
            if node.id in self.module.imported:
                return resolve(*self.module.imported[node.id])
            if node.id in self.module.defined and self.file.startswith("tinycv/"):
                return Definition(self.file, self.module.defined[node.id])
        if isinstance(node, ast.Attribute):
            base = self.meaning(node.value)
            if base is not None and base.line == 0:
                return resolve(dotted(base.file), node.attr)
        return None


@cache
def uses(file: str) -> dict[tuple[int, int], Definition]:
    """What the names of a file mean: (line, column) of the name's first character, from line 1 and
    column 0, to the definition in the package. The definitions themselves are not among them."""
    return Uses(file).found


def files_used(file: str) -> set[str]:
    """The files of the package whose definitions a file uses."""
    return {definition.file for definition in uses(file).values()}
