"""Every public name is documented and typed."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.structure.sources import Module, modules

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _exported(module: Module) -> list[str] | None:
    """The names in `__all__`; None where the module has none."""
    for node in module.tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else (
            node.target if isinstance(node, ast.AnnAssign) else None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            assert isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


def _decorators(node: Function) -> set[str]:
    return {ast.unparse(d).split(".")[-1] for d in node.decorator_list}


def _public(module: Module) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Exported functions and classes, and the public methods of the latter."""
    exported = set(_exported(module) or ())
    for node in module.tree.body:
        if isinstance(node, (Function, ast.ClassDef)) and node.name in exported:
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                yield from ((f"{node.name}.{m.name}", m) for m in node.body
                            if isinstance(m, Function) and not m.name.startswith("_"))


def _unannotated(node: Function, method: bool) -> list[str]:
    a = node.args
    named = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    first = 1 if method and "staticmethod" not in _decorators(node) else 0
    missing = [arg.arg for arg in named[first:] if arg.annotation is None]
    return missing + ([] if node.returns is not None else ["return"])


@pytest.mark.parametrize("module", modules(), ids=str)
def test_module(module: Module) -> None:
    """A module says what it is for and which of its names are public."""
    assert ast.get_docstring(module.tree), f"{module} has no docstring"
    if module.path.name != "__main__.py" and len(module.tree.body) > 1:
        assert _exported(module) is not None or module.name == "weft.numpy", (
            f"{module} has no __all__")


@pytest.mark.parametrize("module", modules(), ids=str)
def test_public_names(module: Module) -> None:
    """Exported functions, classes and their methods have a docstring and full annotations."""
    problems = []
    for name, node in _public(module):
        if isinstance(node, Function):
            if _decorators(node) & {"overload", "setter"}:
                continue
            missing = _unannotated(node, method="." in name)
            problems += [f"{name} (line {node.lineno}) lacks the annotation of {', '.join(missing)}"
                         ] if missing else []
        if not ast.get_docstring(node):
            problems.append(f"{name} (line {node.lineno}) has no docstring")
    assert not problems, f"{module}: " + "; ".join(problems)
