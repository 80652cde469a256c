"""Running graphs on the emulated GPU, and their code through NVRTC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.gpu.double import COMPILER, EmulatedDriver
from weft.compiler.build import Builder
from weft.compiler.ir import Graph, Node
from weft.compiler.ops import Op
from weft.compiler.passes.simplify import Decompose
from weft.compiler.types import DTYPES
from weft.devices import registry
from weft.devices.conformance.compare import assert_close, assert_scaled, expected
from weft.devices.conformance.samples import cases, results_of, types_of
from weft.devices.gpu.device import GpuDevice
from weft.devices.gpu.driver import set_driver
from weft.devices.gpu.lowered import GpuLowered, lower, supported
from weft.devices.gpu.target import target_named

needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="no C++ compiler to run the generated CUDA C++ with")
TARGET = target_named("sm_90", processors=4)


@contextmanager
def emulated(**options: Any) -> Iterator[EmulatedDriver]:
    """The device "gpu" is emulated for a while."""
    driver = EmulatedDriver(**options)
    before = set_driver(driver)
    registry.register_device("gpu", GpuDevice)
    registry.get_device("gpu")          # now arrays are known to be its
    try:
        yield driver
    finally:
        set_driver(before)
        registry.register_device("gpu", "weft.devices.gpu.device:GpuDevice")


def lowered(graph: Graph, donated: Sequence[int] = ()) -> GpuLowered:
    """The graph lowered as it is, without passes but for what has to be."""
    return lower(Decompose(supported()).run(graph, TARGET), TARGET, donated)


def run(graph: Graph, arrays: Sequence[Any], donated: Sequence[int] = ()) -> list[np.ndarray]:
    """The results of a graph on the emulated device."""
    with emulated() as driver:
        memory = GpuDevice().memory
        out = lowered(graph, donated).compile().run([driver.put(np.asarray(a)) for a in arrays])
        return [memory.get(a) for a in out]


@dataclass
class Batch:
    """Cases of several ops as one graph, so that they are compiled together."""

    builder: Builder = field(default_factory=lambda: Builder("batch"))
    arrays: list[np.ndarray] = field(default_factory=list)
    results: list[Node] = field(default_factory=list)
    wanted: list[tuple[Op, str, np.ndarray, tuple[np.ndarray, ...]]] = field(default_factory=list)

    def add(self, op: Op, label: str, operands: tuple[np.ndarray, ...], attrs: dict[str, Any]
            ) -> None:
        """One more case."""
        nodes = []
        for a, t in zip(operands, types_of(operands)):
            nodes.append(self.builder.param(f"x{len(self.arrays)}", t))
            self.arrays.append(np.ascontiguousarray(a).reshape(t.shape))
        node = self.builder.add(op.name, *nodes, **attrs)
        want = _better(op, operands, attrs)
        for made, due in zip(results_of(self.builder, node),
                             want if isinstance(want, tuple) else (want,)):
            self.results.append(made)
            self.wanted.append((op, f"{op.name} {label}", due, operands))

    @property
    def graph(self) -> Graph:
        """All of them."""
        return self.builder.graph(self.results)

    def check(self, found: Sequence[np.ndarray]) -> None:
        """Hold all results to the reference's."""
        wrong = []
        for got, (op, label, want, operands) in zip(found, self.wanted):
            try:
                if op.name == "cholesky":       # cuSOLVER's lower triangle, turned where need be
                    assert_scaled(label, got, want, 64 * np.finfo(want.dtype).eps)
                else:
                    assert_close(op, label, got, want, operands)
            except AssertionError as error:
                wrong.append(str(error))
        assert not wrong, "\n".join(wrong[:5])


def _better(op: Op, operands: tuple[np.ndarray, ...], attrs: dict[str, Any]) -> Any:
    """The reference's result; that of complex powers in double precision, as the device has it."""
    if op.name == "pow" and operands[0].dtype == np.complex64:
        with np.errstate(all="ignore"):
            wide = op.reference(np, *(a.astype(np.complex128) for a in operands))
        return np.asarray(wide).astype(np.complex64)
    return expected(op, operands, attrs)


def batch(ops: Iterable[Op], all_cases: bool = False) -> Batch:
    """The cases of some ops: of elementwise ones, not those that only repeat a kernel's loop."""
    out = Batch()
    for op in ops:
        for label, (operands, attrs) in cases(op):
            again = op.kind == "elementwise" and label.split("-")[0] in DTYPES and \
                label[-2:] not in ("-0", "-1")
            if all_cases or not again:
                out.add(op, label, operands, attrs)
    return out
