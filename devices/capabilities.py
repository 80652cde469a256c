"""What a device says it can do, held against a graph before the device gets to see it."""

from __future__ import annotations

from collections.abc import Iterator

from weft.compiler.ir import Graph, Node, nested_graphs
from weft.compiler.ops.registry import OUTSIDE
from weft.compiler.types import DTYPES, TupleType
from weft.devices.protocol import Device, DeviceError
from weft.devices.registry import device_id

__all__ = ["check_graph", "lacking"]


def check_graph(graph: Graph, device: Device) -> None:
    """Raise a `DeviceError`, at the user's line, where the graph needs what the device lacks."""
    error = lacking(graph, device)
    if error is not None:
        raise error


def lacking(graph: Graph, device: Device) -> DeviceError | None:
    """The error for the first thing in the graph that the device says it has not."""
    name = device_id(device)
    if graph.symbols and not device.symbolic_sizes:
        return DeviceError(
            f"device {name!r} cannot leave sizes open: {', '.join(graph.symbols)}",
            expected="sizes that are known when a function is compiled",
            repair="leave out shapes=, so that it compiles for each size")
    ops, dtypes = device.supported(), device.dtypes()
    for node in _nodes(graph):
        if node.op is not None and node.opname not in ops:
            return _no_op(node, name)
        if len(dtypes) < len(DTYPES):
            types = node.type.elements if isinstance(node.type, TupleType) else (node.type,)
            missing = [t.dtype.name for t in types if t.dtype.name not in dtypes]
            if missing:
                return DeviceError(
                    f"device {name!r} has no {missing[0]}", origin=node.origin,
                    expected=f"one of {', '.join(d for d in DTYPES if d in dtypes)}",
                    repair="convert with astype, or run this on another device")
    return None


def _nodes(graph: Graph) -> Iterator[Node]:
    yield from graph.params
    for node in graph.nodes:
        yield node
        if node.kind == "control":
            for inner in nested_graphs(node).values():
                yield from _nodes(inner)


def _no_op(node: Node, device: str) -> DeviceError:
    base = device.partition(":")[0]
    own = node.opname in OUTSIDE
    return DeviceError(
        f"device {device!r} has no {'kernel for the op' if own else 'op'} {node.opname}",
        origin=node.origin, repair=(
            f"give one: weft.custom_op(..., kernels={{{base!r}: ...}})" if own
            else "run this on another device"))
