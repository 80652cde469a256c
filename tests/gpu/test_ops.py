"""Every op: its generated CUDA C++ run on the host against the reference, and taken by NVRTC."""

from __future__ import annotations

import pytest

from tests.gpu.harness import batch, lowered, needs_compiler, run
from weft.compiler.ops import Op
from weft.devices.conformance.checks import ALL
from weft.devices.gpu.nvrtc import build, nvrtc_problem

_OPS = [op for op in ALL if op.name != "call"]
_SOME = 8               # ops whose kernels make one translation unit
GROUPS = [g for kind in ("elementwise", "") for of_kind in [
    [op for op in _OPS if (op.kind == "elementwise") == bool(kind)]]
    for g in (of_kind[i:i + _SOME] for i in range(0, len(of_kind), _SOME))]
each_group = pytest.mark.parametrize("ops", GROUPS, ids=lambda ops: ops[0].name)
needs_nvrtc = pytest.mark.skipif(nvrtc_problem() is not None, reason=str(nvrtc_problem()))


@needs_compiler
@each_group
def test_emulated(ops: list[Op]) -> None:
    """Results are the reference's."""
    cases = batch(ops)
    cases.check(run(cases.graph, cases.arrays))


@needs_nvrtc
@each_group
def test_compiles(ops: list[Op]) -> None:
    """NVRTC takes all kernels, for an A100's architecture; an H100's is for the long run."""
    unit = lowered(batch(ops).graph).unit
    if unit.functions:
        assert build(unit.source, "sm_80").cubin


@pytest.mark.slow
@needs_nvrtc
@each_group
def test_compiles_for_hopper(ops: list[Op]) -> None:
    """As above, for an H100."""
    unit = lowered(batch(ops).graph).unit
    if unit.functions:
        assert build(unit.source, "sm_90").cubin
