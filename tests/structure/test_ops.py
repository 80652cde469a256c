"""The tables of ops hang together: every op is described, tested and runs on the CPU."""

from __future__ import annotations

import pytest

from weft.compiler.ops import KINDS, OPS, Op
from weft.devices.cpu.device import CpuDevice
from weft.devices.cpu.lower import TABLE
from weft.devices.reference.device import ReferenceDevice

ALL = sorted(OPS.values(), key=lambda op: op.name)


@pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)
def test_declaration(op: Op) -> None:
    """An op has a kind, a line that describes it, a cost, and samples where no kind makes them."""
    assert op.kind in KINDS
    assert op.doc and "\n" not in op.doc
    assert op.cost >= 0
    assert op.kind in ("elementwise", "structure") or op.samples is not None, (
        f"{op.name} has no samples, so the conformance tests cannot reach it")


@pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)
def test_cpu_runs_it(op: Op) -> None:
    """An op is lowered by the CPU, composed of ops that are, or inlined before."""
    assert op.name in CpuDevice().supported() or op.decompose is not None or op.name == "call", (
        f"{op.name} has neither a line in a table of devices/cpu nor a decomposition")


def test_reference_runs_all() -> None:
    """The reference device supports whatever is declared."""
    assert ReferenceDevice().supported() == frozenset(OPS)


def test_no_lowering_without_an_op() -> None:
    """A line of the CPU's table belongs to an op that exists, and is elementwise."""
    assert not TABLE - set(OPS)
    assert {OPS[name].kind for name in TABLE} == {"elementwise"}
