"""The arrows between the folders: frontend → runtime → devices → compiler, and none back."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

import pytest

from tests.structure.sources import LAYERS, Module, modules

_BELOW = {layer: {*LAYERS[:i + 1]} for i, layer in enumerate(LAYERS)} | {"weft": {*LAYERS, "weft"}}
_OTHERS = {layer: {"numpy", "ml_dtypes"} for layer in LAYERS} | {"weft": {"numpy"}}
_OF_DEVICES: dict[str, set[str]] = {
    "cpu": {"llvmlite"}, "gpu": {"cupy", "cupyx"}, "reference": set(), "xla": {"jax"}}
_BESIDE = {"conformance": "reference"}      # is held to it
_TOOLS = {"weft.devices.cpu.math.fit": {"mpmath"}}      # not part of what runs


def imports(module: Module, tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Every import statement below `tree`, with the dotted name of what it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: write imports in full"
            for alias in node.names:
                yield node, f"{node.module}.{alias.name}"


def _layer(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "weft"


def _device(name: str) -> str | None:
    """The device whose folder a module stands in, None for the protocol and the registry."""
    parts = name.split(".")
    return parts[2] if _layer(name) == "devices" and len(parts) > 2 and parts[2] in _OF_DEVICES \
        else None


@pytest.mark.parametrize("module", modules(), ids=str)
def test_arrows(module: Module) -> None:
    """A module imports from its own folder and those below it; a device from no other device."""
    for node, name in imports(module, module.tree):
        if name.split(".")[0] != "weft":
            continue
        where = f"{module}:{node.lineno} imports {name}"
        assert _layer(name) in _BELOW[module.layer], f"{where}: against the arrows"
        if module.layer == "devices":
            beside = _BESIDE.get(".".join(module.name.split(".")[2:3]))
            assert _device(name) in (None, _device(module.name), beside), f"{where}: another device"


@pytest.mark.parametrize("module", modules(), ids=str)
def test_other_packages(module: Module) -> None:
    """Only NumPy, ml_dtypes and the standard library; a device's own library in its folder."""
    allowed = (_OTHERS[module.layer] | _OF_DEVICES.get(_device(module.name) or "", set())
               | _TOOLS.get(module.name, set()))
    for node, name in imports(module, module.tree):
        top = name.split(".")[0]
        if top != "weft" and top not in sys.stdlib_module_names:
            assert top in allowed, f"{module}:{node.lineno} imports {top}"


@pytest.mark.parametrize("module", modules(), ids=str)
def test_imports_stand_at_the_top(module: Module) -> None:
    """What a function imports from weft says why, in a comment on its line."""
    lines = module.text.splitlines()
    for function in ast.walk(module.tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node, name in imports(module, function):
                if name.split(".")[0] == "weft":
                    assert "  # " in lines[node.lineno - 1], (
                        f"{module}:{node.lineno} imports {name} inside {function.name}, "
                        "with no comment that says why")
