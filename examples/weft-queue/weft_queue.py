"""A weft device of one page: ops run one at a time on a thread, over a library's arrays.

The library is NumPy here, and the thread stands for an accelerator's queue: calls return before the
work is done, arrays live where nothing else reaches them, errors surface when one is waited for.
For a real one, `xp` is its module, and `Held` its array.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy as xp

from weft.compiler.errors import IndexOutOfBoundsError, LinAlgError
from weft.compiler.ir import Graph, Node
from weft.compiler.ops.registry import OPS
from weft.compiler.target import Target
from weft.devices.protocol import Cache, Device, KernelInfo, Memory

QUEUE = ThreadPoolExecutor(1, "queue")


class Held:
    """An array in the device's memory, perhaps still being computed."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, values: Future[Any]) -> None:
        self.shape, self.dtype, self.values = shape, np.dtype(dtype), values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("take it to the host by weft.devices.registry.get_device('queue').memory")

    def __float__(self) -> float:
        return float(self.values.result())


class QueueMemory(Memory):
    """Copies to the device and back; what went wrong on the way is raised where one waits."""

    def owns(self, value: object, /) -> bool:
        return isinstance(value, Held)

    def put(self, array: Any, /) -> Held:
        mine = array.copy()             # the caller may write to it at once
        return Held(array.shape, array.dtype, QUEUE.submit(lambda: xp.asarray(mine)))

    def get(self, array: Held, /) -> Any:
        return np.array(array.values.result())

    def wait(self, arrays: Sequence[Held], /) -> None:
        for array in arrays:
            array.values.result()


class QueueDevice(Device):
    """Every op that has no graphs in it, by its declared meaning over `xp`."""

    name, memory, symbolic_sizes = "queue", QueueMemory(), False

    def __init__(self, ordinal: int = 0) -> None:
        """A library that is missing would raise its `ImportError` here."""

    def describe(self) -> str:
        return f"{xp.__name__} {xp.__version__} on a thread"

    def target(self) -> Target:
        return Target(device="queue")

    def supported(self) -> frozenset[str]:
        return frozenset(name for name, op in OPS.items() if op.kind not in ("control", "custom"))

    def lacks(self) -> dict[str, str]:
        return {"ops/exp2/c64": "NumPy's complex64 exp2 is its pow, off by more than 4e-6"}

    def lower(self, graph: Graph, target: Target, donated: Sequence[int] = ()) -> QueueLowered:
        return QueueLowered(graph)


class QueueLowered:
    """The graph, which is all the code there is."""

    kinds = ("ops",)

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @property
    def kernels(self) -> tuple[KernelInfo, ...]:
        return tuple(KernelInfo(n.name, (n.opname,), (n.origin,) if n.origin else ())
                     for n in self.graph.nodes)

    def text(self, kind: str) -> str:
        return self.graph.text()

    def compile(self, cache: Cache | None = None) -> QueueCompiled:
        return QueueCompiled(self.graph)


class QueueCompiled:
    """Puts the whole graph on the queue, and hands out what it will give."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, arrays: Sequence[Held], /) -> list[Held]:
        whole = QUEUE.submit(self.work, [a.values for a in arrays])
        return [Held(r.shape, r.dtype.numpy, part(whole, i))
                for i, r in enumerate(self.graph.results)]

    def work(self, arguments: Sequence[Future[Any]]) -> list[Any]:
        values: dict[Node, Any] = dict(zip(self.graph.params, [a.result() for a in arguments]))
        with np.errstate(all="ignore"):
            for node in self.graph.nodes:
                values[node] = one(node, [values[i] for i in node.inputs])
        return [xp.array(values[r], order="C") for r in self.graph.results]

    def entry(self, spec: Any, /, cache: Cache | None = None) -> None:
        """Nothing: calls go through Python."""


def one(node: Node, operands: list[Any]) -> Any:
    """An op's result; its errors name the user's line."""
    try:
        made = node.op.reference(xp, *operands, **node.attrs)
    except IndexError as error:
        raise IndexOutOfBoundsError(str(error), origin=node.origin) from None
    except np.linalg.LinAlgError as error:
        raise LinAlgError(str(error), origin=node.origin) from None
    return made if isinstance(made, tuple) else xp.asarray(made)


def part(whole: Future[list[Any]], number: int) -> Future[Any]:
    """One of the results that a piece of work will give, or its error."""
    made: Future[Any] = Future()

    def done(_: Any) -> None:
        error = whole.exception()
        if error is None:
            made.set_result(whole.result()[number])
        else:
            made.set_exception(error)
    whole.add_done_callback(done)
    return made
