"""Every op's code compiles for AArch64, whatever machine the tests run on."""

from __future__ import annotations

import pytest

from weft.compiler.build import Builder
from weft.compiler.ops import Op
from weft.compiler.passes.simplify import Decompose
from weft.devices.conformance.checks import ALL
from weft.devices.conformance.samples import cases, results_of, types_of
from weft.devices.cpu.device import CpuDevice
from weft.devices.cpu.host import target_named


@pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)
def test_op_compiles(op: Op) -> None:
    """The assembly is NEON's: vector registers, and no call that x86 alone has."""
    b, count, results = Builder(op.name), 0, []
    for _, (operands, attrs) in list(cases(op))[:24]:
        nodes = []
        for t in types_of(operands):
            nodes.append(b.param(f"x{count}", t))
            count += 1
        results += results_of(b, b.add(op.name, *nodes, **attrs))
    target = target_named("aarch64")
    graph = Decompose(CpuDevice().supported()).run(b.graph(results), target)
    text = CpuDevice().lower(graph, target).text("asm")
    assert "main:" in text
    assert "xmm" not in text
    assert "__truncsfhf2" not in text and "__extendhfsf2" not in text
