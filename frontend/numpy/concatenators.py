"""`r_` and `c_` of weft.numpy: arrays put together by writing them into brackets.

NumPy's own objects of these names dispatch on nothing, so they cannot be traced.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.frontend.numpy.common import as_array, build, lift, same_dtype
from weft.frontend.numpy.joins import concatenate
from weft.frontend.problems import problem
from weft.frontend.recording import active
from weft.frontend.table import FUNCTIONS
from weft.frontend.tracer import Tracer

__all__ = ["CONCATENATORS", "Concatenator"]


class Concatenator:
    """NumPy's `r_` or `c_`, which also takes traced arrays while tracing.

    The defaults are those of NumPy's directive ``"axis,ndmin,trans1d"``: the axis to join along,
    the least number of axes, and where the axes of smaller arrays go among these.
    """

    def __init__(self, own: Any, axis: int, ndmin: int, trans1d: int) -> None:
        self._own = own
        self._defaults = axis, ndmin, trans1d

    def __getitem__(self, key: Any) -> Any:
        trace = active()
        return self._own[key] if trace is None else trace.run(self._joined, (key,), {})

    def __len__(self) -> int:
        return 0

    def _joined(self, key: Any) -> Tracer:
        items = list(key) if isinstance(key, tuple) else [key]
        axis, ndmin, trans1d = self._defaults
        if items and isinstance(items[0], str):
            axis, ndmin, trans1d = self._directive(items.pop(0))
        nodes = same_dtype([_item(item) for item in items])
        tracers: Any = [as_array(_filled(n, ndmin, trans1d)) for n in nodes]
        return concatenate(tracers, axis)       # type: ignore[no-any-return]

    def _directive(self, text: str) -> tuple[int, int, int]:
        try:
            given = [int(part) for part in text.split(",")]
        except ValueError:
            raise problem(UnsupportedError, f"the directive {text!r} makes a matrix",
                          expected='"axis", "axis,ndmin" or "axis,ndmin,trans1d"') from None
        axis, ndmin, trans1d = (*given, *self._defaults[len(given):])[:3]
        return axis, ndmin, trans1d


def _item(item: Any) -> Tracer:
    """A slice stands for its numbers."""
    if not isinstance(item, slice):
        return lift(item)
    start = 0 if item.start is None else item.start
    step = 1 if item.step is None else item.step
    if isinstance(step, complex):
        made = FUNCTIONS[np.linspace](start, item.stop, int(abs(step)))
    else:
        made = FUNCTIONS[np.arange](start, item.stop, step)
    return lift(made)


def _filled(node: Node, ndmin: int, trans1d: int) -> Node:
    """The array with at least `ndmin` axes."""
    new = ndmin - len(node.shape)
    if new <= 0:
        return node
    at = new if trans1d == -1 else trans1d + (new + 1 if trans1d < 0 else 0)
    at = min(at, new)
    return build().reshape(node, ((1,) * at + node.shape + (1,) * (new - at)))


CONCATENATORS = {"r_": Concatenator(np.r_, 0, 1, -1), "c_": Concatenator(np.c_, -1, 2, 0)}
