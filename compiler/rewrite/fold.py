"""Constant folding: nodes of known operands are computed while compiling."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.rewrite.driver import Rewriter, Rule
from weft.compiler.rewrite.match import CONSTANT, is_op, scalar_value
from weft.compiler.types import TensorType

__all__ = ["fold_rules"]

_FOLDED_KINDS = frozenset(("elementwise", "view", "reduction", "scan", "contraction", "indexing",
                           "sort"))


def fold_rules(max_elements: int) -> list[Rule]:
    """The folding rules, for results and operands of at most `max_elements` elements."""
    def fold(n: Node, b: Rewriter) -> Node | None:
        if not n.inputs or n.kind not in _FOLDED_KINDS:
            return None
        for i in n.inputs:
            if i.op is None or i.op.name not in CONSTANT:
                return None
        if n.kind == "elementwise":
            uniform = _uniform(n, b)
            if uniform is not None:
                return uniform
        return _computed(n, b, max_elements)

    return [Rule("fold", "op(constants) → constant", ("*",), fold, on=CONSTANT)]


def _uniform(n: Node, b: Rewriter) -> Node | None:
    """An elementwise node of scalars, perhaps broadcast: one value, broadcast."""
    values = [scalar_value(i) for i in n.inputs]
    if any(v is None for v in values):
        return None
    value = _reference(n, [np.asarray(v) for v in values])
    return b.like(n, b.constant(value)) if value is not None else None


def _computed(n: Node, b: Rewriter, max_elements: int) -> Node | None:
    """Any node of constants. A broadcast that repeats elements stays: it is the smaller form."""
    if not all(is_op(i, "constant") for i in n.inputs) or not isinstance(n.type, TensorType):
        return None
    size = n.type.size if n.type.is_static else None
    operands = [i.attrs["value"] for i in n.inputs]
    if not isinstance(size, int) or max(size, *(v.size for v in operands)) > max_elements:
        return None
    if is_op(n, "broadcast_in_dim") and (size > operands[0].size or operands[0].shape == ()):
        return None
    value = _reference(n, operands)
    return b.constant(value) if value is not None and value.shape == n.shape else None


def _reference(n: Node, operands: list[Any]) -> np.ndarray[Any, Any] | None:
    """The op's own meaning; None where it refuses (an index out of bounds raises when it runs)."""
    assert n.op is not None
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(n.op.reference(np, *operands, **n.attrs))
    except (ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None
    return value if value.dtype == n.dtype.numpy else None
