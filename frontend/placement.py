"""`with weft.device(...)`: what runs where, inside of a traced function and outside."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from weft.compiler.build import Builder
from weft.compiler.errors import UnsupportedError, WeftError, caller_origin
from weft.compiler.ir import Graph, Node
from weft.compiler.lazy_dataclass import replace
from weft.compiler.placement import Place, device_of, outline, placed_inside
from weft.devices.protocol import DeviceError
from weft.devices.registry import AUTO, device_id, get_device
from weft.frontend.recording import Trace, active

if TYPE_CHECKING:
    from weft.frontend.calling import CallTrace
    from weft.runtime.choose import Choice

__all__ = ["decided", "device", "outlined"]

class device:
    """Run a block on a device: ``with weft.device("gpu"):``.

    Inside of a compiled function, the operations recorded in the block run on that device, each
    block as one program; what they need is moved there, and what others need of them is moved from
    there. Everything else, arguments and results included, stays on the device of the function.
    Derivatives and batches of placed operations are placed like these. Blocks may stand inside of
    each other, the innermost counts, and in the bodies of loops and branches. ``"auto"`` leaves the
    choice to the cost model; `weft.explain` shows the partitions, what is moved, and why.

    Outside of compiled functions, it is `weft.default_device` for what is called in the block.

    Args:
        name: a device by its name, ``"gpu"``, or name and number, ``"gpu:1"``.

    Raises `DeviceError` for a device that there is not or that cannot be used here.

    >>> import numpy as np, weft
    >>> @weft.jit
    ... def f(x):
    ...     with weft.device("reference"):
    ...         y = np.sin(x)
    ...     return y + 1
    >>> f(np.zeros(3))
    array([1., 1., 1.])
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise UnsupportedError(f"weft.device got a {type(name).__name__}",
                                   expected="the name of a device, such as 'cpu' or 'gpu:0'",
                                   origin=caller_origin())
        self.name = name
        self._entered = _Entered()

    def __enter__(self) -> device:
        trace, origin = active(), caller_origin()
        try:
            name = self.name if self.name == AUTO and trace is not None else \
                device_id(get_device(self.name))
        except WeftError as error:
            error.origin = error.origin or origin
            raise
        block: AbstractContextManager[object]
        if trace is None:
            from weft.frontend.location import default_device  # seldom used with tracing

            block = default_device(name)
        else:
            block = _Block(trace, (name, origin))
        block.__enter__()
        self._entered.blocks.append(block)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._entered.blocks.pop().__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"weft.device({self.name!r})"


class _Entered(threading.local):
    """What a `device` object has entered in this thread and not left yet."""

    def __init__(self) -> None:
        self.blocks: list[AbstractContextManager[object]] = []


class _Block(AbstractContextManager["_Block"]):
    """A block of a running trace: the nodes that are added while it lasts."""

    def __init__(self, trace: Trace, place: Place) -> None:
        self._trace = trace
        self._place = place
        self._builder = trace.builder
        self._start = 0

    def __enter__(self) -> _Block:
        self._start = len(self._builder.nodes)
        return self

    def __exit__(self, *error: object) -> None:
        placed = self._trace.placed
        for node in self._builder.nodes[self._start:]:
            placed.setdefault(node, self._place)        # inner blocks were there before


def decided(call: CallTrace, device: str, everything: bool, on_mesh: bool
            ) -> tuple[CallTrace, tuple[Choice, ...]]:
    """A trace whose parts on ``"auto"`` have a device each, and why; `device` is the function's.

    `everything`: what is not placed is such a part too. A function `on_mesh` has no parts.
    """
    from weft.runtime.choose import chosen  # for "auto" only

    graph = call.traced.graph
    if on_mesh:
        part = next((n for n in placed_inside(graph)), None)
        if part is not None or everything:
            where = AUTO if part is None else device_of(part)
            raise DeviceError(
                f"{graph.name} runs on a mesh, and what is in it is placed on {where!r}",
                origin=part.origin if part is not None else caller_origin(),
                expected="a mesh, or parts on devices",
                repair="leave out mesh=, or what places the part")
    if everything:
        graph = outline(graph, dict.fromkeys(graph.nodes, (AUTO, None)))
    made, choices = chosen(graph, device)
    if everything and all(c.device == device for c in choices):
        made, _ = chosen(call.traced.graph, device)     # as if nothing had been asked
    return replace(call, traced=replace(call.traced, graph=made, placed=True)), choices


def outlined(builder: Builder, nodes: Sequence[Node], results: Sequence[Node],
             trace: Trace) -> tuple[list[Node], list[Node]]:
    """The nodes with placed ones in calls, and what the results are then."""
    graph = outline(Graph(builder.name, builder.params, nodes, results), trace.placed)
    return list(graph.nodes), list(graph.results)
