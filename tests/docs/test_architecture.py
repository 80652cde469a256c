"""docs/architecture.md shows what the code gives: every stage of its example is made again."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest

import weft
from tests.docs.markdown import ROOT, block, check_generated, run
from weft.compiler.ir import Graph
from weft.devices.cpu.device import CpuDevice
from weft.devices.cpu.entry import entry_ir
from weft.devices.cpu.host import target_named
from weft.devices.cpu.lowered import CpuLowered

FILE = ROOT / "docs" / "architecture.md"


@functools.cache
def _example() -> dict[str, Any]:
    """The names of the document's code, run as model.py."""
    names: dict[str, Any] = {}
    run(block(FILE, "run: model.py"), names, "model.py")
    return names


def _call() -> tuple[Any, ...]:
    names = _example()
    return names["shares"], names["x"], names["w"], names["b"]


def _traced() -> str:
    f, *arguments = _call()
    return f.trace(*arguments).text()  # type: ignore[no-any-return]


def _optimized() -> Graph:
    f, *arguments = _call()
    graph: Graph = f.trace(*arguments).optimize().graph
    return graph


def _history() -> str:
    f, *arguments = _call()
    history = f.trace(*arguments).optimize().history
    return "\n".join(f"{i} {step.name:<17} "
                     + (f"{len(step.before.nodes)} → {len(step.after.nodes)} nodes"
                        if step.changed else "unchanged") for i, step in enumerate(history))


@functools.cache
def _lowered() -> CpuLowered:
    """The program for one processor, so that the text is the same on all."""
    return CpuDevice().lower(_optimized(), target_named("avx2"))


def _loop() -> str:
    """The block of the last kernel that divides: the inner loop of its second stage."""
    kernel = _lowered().text("llvm").split("define i32 @main")[0]
    found = [b for b in re.split(r"^(?=\w+:$)", kernel, flags=re.MULTILINE)
             if re.search(r"= fdiv <\d+ x float>", b)]
    return found[-1]


def _main() -> str:
    """The instructions of `main` that run the kernels."""
    main = _lowered().text("llvm").split("define i32 @main")[1]
    calls = [line for line in main.splitlines() if re.search(r"call .*@(k\d|weft)", line)]
    return "\n".join(calls)


def _entry() -> str:
    """The head of the native entry: the checks of the first argument."""
    f, *arguments = _call()
    spec = f.compile(*arguments).entry_spec()
    assert spec is not None
    text = entry_ir(spec)
    body = text[text.index("define ptr @entry"):].splitlines()
    checks = next(i for i, line in enumerate(body) if "%kwnames, null" in line)
    return "\n".join([body[0], "  ; … stack slots", *body[checks:checks + 22], "  ; …"])


def _explained() -> str:
    f, *arguments = _call()
    parts = weft.explain(f, *arguments).text().split("\n\n")
    return next(p for p in parts if p.startswith("kernels:"))


def _error() -> str:
    f, x, _, b = _call()
    with pytest.raises(weft.errors.ShapeError) as caught:
        f(x, np.ones((3, 48), np.float32), b)
    return f"weft.errors.ShapeError: {caught.value}"


def test_generated(bless: bool) -> None:
    """Every stage's text, as it is now."""
    check_generated(FILE, {
        "traced": _traced, "history": _history, "optimized": lambda: _optimized().text(),
        "kernels": lambda: _lowered().text("kernels"), "loop": _loop, "main": _main,
        "entry": _entry, "explain": _explained, "error": _error}, bless)


def test_example_is_right() -> None:
    """The example gives what NumPy gives."""
    f, *arguments = _call()
    # a product of 64 float32 terms near 1 is known to about 64 * 6e-8, also where it is near 0
    np.testing.assert_allclose(f(*arguments), f.__wrapped__(*arguments), rtol=1e-5, atol=4e-6)


def test_every_folder_is_in_the_map() -> None:
    """The map names each package of weft."""
    text = FILE.read_text(encoding="utf-8")
    for folder in ("compiler", "devices", "runtime", "frontend"):
        for path in (ROOT / folder).rglob("__init__.py"):
            name = path.parent.relative_to(ROOT).as_posix()
            assert f"`{name}/`" in text, f"{name} is not in {FILE.name}"
