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


def rebound(file: str) -> set[str]:
    """The names that a file binds inside functions, or binds more than once at the top: arguments,
    loop variables. What such a name means depends on where it stands."""
    found: set[str] = set()
    top = {id(node) for node in tree(file).body}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef) and id(node) not in top:
            found.add(node.name)
    once = [
        name
        for node in tree(file).body
        if isinstance(node, ast.Assign)
        for name in stored_names(node)
    ]
    arguments = {node.arg for node in ast.walk(tree(file)) if isinstance(node, ast.arg)}
    stored = [
        node.id
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    return found - {name for name in once if stored.count(name) == 1 and name not in arguments}


def uses(file: str) -> dict[tuple[int, int], Definition]:
    """What the names of a file mean: (line, column) of the name's first character, from line 1 and
    column 0, to the definition in the package. The definitions themselves are not among them."""
    here = module(file)
    lines = text(file).splitlines()
    ambiguous = rebound(file)
    package = dotted(file) if file.endswith("__init__.py") else dotted(file).rpartition(".")[0]
    found: dict[tuple[int, int], Definition] = {}

    def note(line: int, byte: int, definition: Definition | None) -> None:
        if definition is not None:
            column = len(lines[line - 1].encode()[:byte].decode())
            found[line, column] = definition

    def meaning(node: ast.AST) -> Definition | None:
        if isinstance(node, ast.Name):
            if node.id in ambiguous:
                return None
            if node.id in here.imported:
                return resolve(*here.imported[node.id])
            if node.id in here.defined and file.startswith("tinycv/"):
                return Definition(file, here.defined[node.id])
        if isinstance(node, ast.Attribute):
            base = meaning(node.value)
            if base is not None and base.line == 0:
                return resolve(dotted(base.file), node.attr)
        return None

    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ImportFrom):
            start = imported_module(node, package)
            if not node.level:
                note(node.lineno, node.col_offset + len("from "), resolve(start))
            for alias in node.names:
                note(alias.lineno, alias.col_offset, resolve(start, alias.name))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                note(alias.lineno, alias.col_offset, resolve(alias.name))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            note(node.lineno, node.col_offset, meaning(node))
        elif isinstance(node, ast.Attribute):
            end = node.end_col_offset or 0
            note(node.end_lineno or node.lineno, end - len(node.attr.encode()), meaning(node))
    return found


def files_used(file: str) -> set[str]:
    """The files of the package whose definitions a file uses."""
    return {definition.file for definition in uses(file).values()}
