"""A graph on its way to XLA: its text, and what is compiled of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax

from weft.compiler.errors import Origin
from weft.compiler.ir import Graph
from weft.compiler.target import Target
from weft.compiler.types import Size, TensorType, TupleType
from weft.devices.mesh import Layout
from weft.devices.protocol import Cache, DeviceError, KernelInfo
from weft.devices.xla.compiled import XlaCompiled
from weft.devices.xla.locations import located
from weft.devices.xla.program import Check, Program
from weft.devices.xla.sharded import Placement, XlaSharded
from weft.devices.xla.table import TABLES

if TYPE_CHECKING:
    from weft.devices.xla.device import XlaDevice

__all__ = ["XlaLowered"]

_KINDS = ("stablehlo", "hlo")


class XlaLowered:
    """The whole graph as one function of JAX's, traced when it is first asked for."""

    kinds = _KINDS

    def __init__(self, graph: Graph, device: XlaDevice, donated: tuple[int, ...],
                 target: Target, layout: Layout | None = None) -> None:
        self.graph = graph
        self.layout = layout
        self.device = device
        self.donated = donated
        self.fast_math = target.fast_math
        self.program = Program(graph, TABLES, device.platform, target.precision)

    @property
    def is_symbolic(self) -> bool:
        """Whether sizes are known only when it runs."""
        return bool(self.graph.symbols)

    def jitted(self, checks: list[Check]) -> Any:
        """The function as `jax.jit` makes it; its checks are appended when it is traced."""
        function = self.program.function(checks)
        if self.layout is None:
            return jax.jit(function, donate_argnums=self.donated)
        placed = Placement(self.layout, self.device)
        results = [*placed.results, *([placed.whole] if self.program.may_fail else [])]
        return jax.jit(function, donate_argnums=self.donated, in_shardings=tuple(placed.params),
                       out_shardings=results[0] if self.program.is_single else results)

    def specs(self) -> list[Any]:
        """The parameters as JAX describes arrays; symbolic sizes as symbols of JAX's."""
        names = self.graph.symbols
        scope = dict(zip(names, jax.export.symbolic_shape(", ".join(names)))) if names else {}
        return [jax.ShapeDtypeStruct(tuple(
            d.evaluate(scope) if isinstance(d, Size) else d for d in p.shape), p.dtype.numpy)
            for p in self.graph.params]

    def traced(self, specs: Sequence[Any] | None = None) -> tuple[Any, list[Check]]:
        """JAX's trace of the function, and what it checks."""
        checks: list[Check] = []
        with jax.enable_x64(True):
            made = self.jitted(checks).trace(*(specs if specs is not None else self.specs()))
        return made, checks

    def export(self) -> Any:
        """The program as `jax.export.Exported`, for this device's platform, present or not: can
        be serialized, and run by JAX elsewhere."""
        platform = self.device.platform
        with jax.enable_x64(True):
            return jax.export.export(self.jitted([]), platforms=[platform])(*self.specs())

    def text(self, kind: str) -> str:
        """`stablehlo`, the program as XLA is given it; `hlo`, what XLA makes of it here."""
        if kind == "stablehlo":
            return self._stablehlo
        if kind == "hlo":
            return self.compile().text()
        raise DeviceError(f"device {self.device.name!r} has no {kind} text",
                          expected=f"one of {', '.join(_KINDS)}")

    @cached_property
    def _stablehlo(self) -> str:
        if self.is_symbolic:
            return located(str(self.export().mlir_module()))
        traced, _ = self.traced()
        with jax.enable_x64(True):
            lowered = traced.lower(lowering_platforms=(self.device.platform,))
        return located(str(lowered.as_text(debug_info=True)))

    @property
    def kernels(self) -> tuple[KernelInfo, ...]:
        """One: XLA is given the graph whole, and divides it as it likes."""
        graph = self.graph
        origins = dict.fromkeys(n.origin for n in graph.nodes if isinstance(n.origin, Origin))
        ends = [*graph.params, *dict.fromkeys(graph.results)]
        return (KernelInfo(
            graph.name, tuple(n.opname for n in graph.nodes if n.opname != "constant"),
            tuple(origins), flops=sum((_flops(n) for n in graph.nodes), 0),
            nbytes=sum((t.nbytes for n in ends for t in _tensors(n.type)), 0),
            stopped="XLA takes the graph whole; text('hlo') shows how it fuses"),)

    def compile(self, cache: Cache | None = None) -> XlaCompiled:
        """XLA's program, for static sizes at once, else when a call tells the sizes.

        `cache` is not used: JAX has one of its own (`jax_compilation_cache_dir`).
        """
        self.device.jax_device()        # which raises where there is none
        return self._compiled

    @cached_property
    def _compiled(self) -> XlaCompiled:
        return XlaCompiled(self) if self.layout is None else XlaSharded(
            self, Placement(self.layout, self.device))


def _tensors(type: Any) -> tuple[TensorType, ...]:
    return type.elements if isinstance(type, TupleType) else (type,)


def _flops(node: Any) -> Any:
    """Operations of a node by its declared cost; of a loop's body none."""
    if node.op is None or node.kind in ("view", "creation", "structure", "control"):
        return 0
    over = node.inputs[0] if node.kind in ("reduction", "scan") and node.inputs else node
    size = sum((t.size for t in _tensors(over.type)), 0)
    if node.kind == "contraction":
        for axis in node.attrs["contract"][0]:
            size = size * node.inputs[0].shape[axis]
    return size * max(1, round(node.op.cost))
