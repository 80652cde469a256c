"""Rules of slices and updates at computed places: where the place is known, they are plain ones."""

from __future__ import annotations

from collections.abc import Sequence

from weft.compiler.ir import Node
from weft.compiler.rewrite.driver import Rewriter, Rule, rule
from weft.compiler.rewrite.match import scalar_value
from weft.compiler.types import Dim

__all__ = ["RULES"]

RULES: list[Rule] = []


def _begin(start: Node, size: Dim, whole: Dim) -> Dim | None:
    """Where a part of this size begins, if that is known."""
    if size == whole:
        return 0
    value = scalar_value(start)
    if value is None or not isinstance(size, int) or not isinstance(whole, int):
        return None
    return min(max(int(value), 0), whole - size)


def _begins(x: Node, part: Sequence[Dim], starts: Sequence[Node]) -> list[Dim] | None:
    found = [_begin(s, n, d) for s, n, d in zip(starts, part, x.shape)]
    return None if any(b is None for b in found) else found  # type: ignore[return-value]


@rule(RULES, "dynamic_slice(x) with known starts → slice(x)", "dynamic_slice")
def _slice_is_static(n: Node, b: Rewriter) -> Node | None:
    x, *starts = n.inputs
    begins = _begins(x, n.shape, starts)
    if begins is None:
        return None
    limit = tuple(lo + d for lo, d in zip(begins, n.shape))
    return b.add("slice", x, start=tuple(begins), limit=limit, stride=(1,) * len(begins))


@rule(RULES, "dynamic_update_slice(x, u) with u as large as x → u", "dynamic_update_slice")
def _update_is_all(n: Node, b: Rewriter) -> Node | None:
    return n.inputs[1] if n.inputs[1].shape == n.shape else None


@rule(RULES, "an update of nothing → what it updates", "dynamic_update_slice", "scatter")
def _update_is_nothing(n: Node, b: Rewriter) -> Node | None:
    updates = n.inputs[-1] if n.opname == "scatter" else n.inputs[1]
    return n.inputs[0] if 0 in updates.shape else None
