"""Every module says what it offers: a sorted `__all__` of things that exist, with nothing public left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from sources import modules


def defined(tree: ast.Module) -> Iterator[str]:
    """Names that a module defines itself."""
    for node in statements(tree.body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if not registered(node):
                yield node.name
        elif isinstance(node, ast.Assign):
            yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def registered(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether something like ``@router.get("/jobs")`` hands the definition on: it is reached through that."""
    calls = [call.func for call in node.decorator_list if isinstance(call, ast.Call)]
    return any(isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) for function in calls)


def imported(tree: ast.Module) -> Iterator[str]:
    """Names that a module has from elsewhere."""
    for node in statements(tree.body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements, those under an ``if`` or a ``try`` too."""
    for node in body:
        yield node
        for field in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, ast.If | ast.Try):
                yield from statements(getattr(node, field, []))


def listed(tree: ast.Module) -> list[str] | None:
    """The value of `__all__`, None where there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as the linter sorts them."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name


WITH_NAMES = [name for name, tree in modules().items() if [*defined(tree), *imported(tree)]]


@pytest.mark.parametrize("name", WITH_NAMES)
def test_a_module_lists_existing_names_in_order(name: str) -> None:
    tree = modules()[name]
    names = listed(tree)
    assert names is not None, "no __all__"
    assert names == sorted(set(names), key=order)
    assert set(names) <= {*defined(tree), *imported(tree)}


@pytest.mark.parametrize("name", WITH_NAMES)
def test_a_module_lists_every_public_class_and_function(name: str) -> None:
    """Constants of a module's own neighbourhood (in capitals) may stay unlisted."""
    tree = modules()[name]
    public = {one for one in defined(tree) if not one.startswith("_") and not one.isupper()}
    assert sorted(public - set(listed(tree) or [])) == []
