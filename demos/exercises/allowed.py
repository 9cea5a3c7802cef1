"""What an answer may use: an answer that calls the package's own answer is none.

The check reads the source and runs nothing.  It is a list of what is allowed, so a name that is not
on the list is refused with one sentence, which says what to use instead.
"""

from __future__ import annotations

import ast

BUILTINS = """
    NotImplementedError ValueError abs all any bool dict enumerate float int isinstance len list max
    min print range reversed round set slice sorted sum tuple zip
"""
TENSORS = """
    T abs astype clip dtype exp expand flip log max mean min ndim reshape shape size split sqrt
    squeeze std sum swapaxes transpose unsqueeze var
"""
CONTAINERS = """
    add all any append extend get index insert items keys pop remove reverse setdefault sort update
    values
"""


def forbidden_use(tree: ast.Module, exercise) -> str:
    """One sentence about the first thing in an answer that is not allowed, or ""."""
    own = names_bound_in(tree)
    nodes = [node for node in ast.walk(tree) if hasattr(node, "lineno")]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        problem = problem_of(node, own, exercise)
        if problem:
            return f"line {node.lineno}: {problem}"
    return ""


def problem_of(node: ast.AST, own: set[str], exercise) -> str:
    """What is wrong with one piece of the source, or ""."""
    tools = ", ".join(exercise.names) or "operators and methods only"
    if isinstance(node, ast.Import):
        return (
            f"`import {node.names[0].name}` is not allowed here, so that you write the answer "
            f"yourself; this exercise needs: {tools}"
        )
    if isinstance(node, ast.ImportFrom):
        return problem_of_import(node, exercise, tools)
    if isinstance(node, ast.Attribute):
        usual = tensor_methods(exercise)
        if node.attr not in usual and node.attr not in CONTAINERS.split():
            return (
                f"`.{node.attr}` is not among the methods that this exercise allows: "
                f"{', '.join(usual)}"
            )
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        if node.id in own or node.id in BUILTINS.split():
            return ""
        if node.id in exercise.names:
            return f"`{node.id}` is used but not imported; keep the line `from tinycv import ...`"
        return (
            f"`{node.id}` is not a name of this file, and not one of the names of Python that an "
            f"answer may use; this exercise needs: {tools}"
        )
    if isinstance(node, (ast.Global, ast.Nonlocal, ast.ClassDef, ast.AsyncFunctionDef)):
        return "an answer consists of plain functions, without classes, global or async"
    return ""


def tensor_methods(exercise) -> list[str]:
    """The attributes of Tensors (and of the graph's Nodes) that an answer may use."""
    usual = [*TENSORS.split(), *exercise.methods]
    return [name for name in usual if name not in exercise.forbidden]


def problem_of_import(node: ast.ImportFrom, exercise, tools: str) -> str:
    """What is wrong with ``from ... import ...``, or ""."""
    names = [alias.name for alias in node.names]
    if node.module == "__future__":
        return ""
    answers = {part.reference_name for part in exercise.parts} | {"grad", "vjp", "hvp"}
    answers -= set(exercise.names)
    for name in names:
        whole = f"{'.' * node.level}{node.module or ''}.{name}"
        if name in answers or (whole.startswith("tinycv") and node.module != "tinycv"):
            return (
                f"`{whole}` is the package's own answer, or a way to it, so it does not count; "
                f"write the answer yourself. This exercise needs: {tools}"
            )
        if node.module != "tinycv" or name not in exercise.names:
            return f"`{whole}` is not allowed here; this exercise needs: {tools}"
    return ""


def names_bound_in(tree: ast.Module) -> set[str]:
    """The names that a file defines, assigns, imports, or takes as arguments."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names
