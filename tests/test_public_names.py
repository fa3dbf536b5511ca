"""Every module says what it offers: a sorted `__all__` of things that exist, with nothing public left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from sources import modules

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def defined(tree: ast.Module) -> Iterator[str]:
    """Names that a module defines itself."""
    yield from (node.name for node in statements(tree.body) if isinstance(node, Definition))
    for node in statements(tree.body):
        if isinstance(node, ast.Assign):
            yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def registered(node: Definition) -> bool:
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
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.expr() as value):
                return list(ast.literal_eval(value))
            case ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value):
                return list(ast.literal_eval(value))
    return None


def wanted_elsewhere() -> set[tuple[str, str]]:
    """Module and name of everything that one module has from another."""
    nodes = [node for tree in modules().values() for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {(str(node.module), alias.name) for node in nodes for alias in node.names}


def order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as the linter sorts them."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name


WANTED = wanted_elsewhere()
WITH_NAMES = [name for name, tree in modules().items() if [*defined(tree), *imported(tree)]]


@pytest.mark.parametrize("name", WITH_NAMES)
def test_a_module_lists_existing_names_in_order(name: str) -> None:
    tree = modules()[name]
    names = listed(tree)
    assert names is not None, "no __all__"
    assert names == sorted(set(names), key=order)
    assert set(names) <= {*defined(tree), *imported(tree)}


@pytest.mark.parametrize("name", WITH_NAMES)
def test_a_module_lists_every_public_class_and_function_and_what_others_take(name: str) -> None:
    """Other names (aliases of types) are listed where another module takes them; constants in capitals need not be."""
    tree = modules()[name]
    public = {node.name for node in statements(tree.body) if isinstance(node, Definition) and not registered(node)}
    public |= {one for one in defined(tree) if (name, one) in WANTED and not one.isupper()}
    assert sorted(one for one in public - set(listed(tree) or []) if not one.startswith("_")) == []
