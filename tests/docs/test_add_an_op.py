"""docs/add-an-op.md adds an op; this performs it, with the tables put back afterwards."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.conformance.devices import DEVICES
from tests.conformance.test_ops import test_op as conformance
from tests.docs.markdown import ROOT, block, check_generated, run
from tests.structure.test_ops import test_cpu_runs_it as runs_on_cpu
from weft.compiler.build import Builder
from weft.compiler.ops import OPS, Op
from weft.compiler.passes import Decompose
from weft.compiler.target import Target
from weft.compiler.types import TensorType, dtype_of
from weft.devices.conformance.compare import assert_close
from weft.devices.conformance.samples import cases
from weft.devices.cpu import lower, lowered
from weft.devices.reference import evaluate
from weft.frontend.numpy.ufunc_rules import RULES

FILE = ROOT / "docs" / "add-an-op.md"
MODULES = ("weft.compiler.ops.elementwise", "weft.devices.cpu.lower",
           "weft.frontend.numpy.ufunc_rules")


@pytest.fixture(scope="module", autouse=True)
def op() -> Iterator[Op]:
    """The op, as the document adds it, for as long as these tests run."""
    tables: tuple[dict[str, Any], ...] = (OPS, lower.REAL, RULES)
    before = [dict(t) for t in tables]
    keys = lower.TABLE
    try:
        for name in MODULES:
            run(block(FILE, f"run: {name}"), dict(vars(importlib.import_module(name))))
        lower.TABLE = lowered.TABLE = keys | {"heaviside"}   # made from REAL when it is imported
        yield OPS["heaviside"]
    finally:
        lower.TABLE = lowered.TABLE = keys
        for table, content in zip(tables, before):
            table.clear()
            table.update(content)


@pytest.mark.parametrize("where", DEVICES, ids=str)
def test_conformance(op: Op, where: Any) -> None:
    """The table line gives what the declaration means, as for every op."""
    assert len(list(cases(op))) >= 20
    conformance(op, where)


def test_decomposition(op: Op) -> None:
    """A device without the line computes the same."""
    for label, ((x, y), _) in cases(op):
        b = Builder("f")
        nodes = [b.param(n, TensorType(a.shape, dtype_of(a.dtype))) for n, a in zip("xy", (x, y))]
        graph = b.graph([b.heaviside(*nodes)])
        out = Decompose(frozenset(OPS) - {"heaviside"}).run(graph, Target())
        assert "heaviside" not in {n.opname for n in out.nodes}
        for got, want in zip(evaluate(out, [x, y]), evaluate(graph, [x, y])):
            assert_close(op, label, got, want, (x, y))


def test_a_gap_is_noticed(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the line the decomposition serves; without both, the test of the tables fails."""
    monkeypatch.setattr(lowered, "TABLE", lowered.TABLE - {op.name})
    runs_on_cpu(op)
    with pytest.raises(AssertionError, match="neither a line in a table"):
        runs_on_cpu(replace(op, decompose=None))


def test_use(bless: bool) -> None:
    """The user's code runs, and its kernel is the one shown."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run(block(FILE, "run: user.py"), {}, "user.py")
    check_generated(FILE, {"kernels": printed.getvalue}, bless)
