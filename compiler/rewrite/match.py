"""What rules ask of nodes: constants, bits, and how shapes correspond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.types import Dim, DType, Shape, numel

__all__ = [
    "CONSTANT",
    "has_value",
    "is_constant",
    "is_magnitude",
    "is_op",
    "keeps_values",
    "power_of_two",
    "reshape_groups",
    "same_bits",
    "scalar_value",
    "unit_map",
    "without",
]


CONSTANT = ("constant", "broadcast_in_dim")
"""The ops of which a node may be that `scalar_value` knows: for the `on` of rules."""


def is_op(node: Node, *names: str) -> bool:
    """Whether the node is of one of these ops."""
    return node.op is not None and node.op.name in names


def scalar_value(node: Node) -> Any:
    """The value of a node that is one constant everywhere (a NumPy scalar), else None."""
    while node.op is not None and node.op.name == "broadcast_in_dim":
        node = node.inputs[0]
    if node.op is None or node.op.name != "constant":
        return None
    value = node.attrs["value"]
    return value[()] if value.shape == () else None


def is_constant(node: Node) -> bool:
    """Whether the node's value is known: a constant, or a 0-d one broadcast."""
    return is_op(node, "constant") or scalar_value(node) is not None


def same_bits(a: Any, b: Any) -> bool:
    """Whether two NumPy scalars are equal to the bit (all NaN count as one)."""
    return bool(a == b and a.tobytes() == b.tobytes()) or bool(a != a and b != b)


def has_value(node: Node, value: Any) -> bool:
    """Whether the node is this constant everywhere, to the bit: 0.0 is not -0.0."""
    found = scalar_value(node)
    if found is None:
        return False
    return same_bits(found, np.asarray(value).astype(found.dtype)[()])


def is_magnitude(node: Node) -> bool:
    """Whether a real node is known to be NaN or at least 0.0, and never -0.0: a sum of squares."""
    if node.op is None or not node.dtype.is_float:
        return False
    name, inputs = node.op.name, node.inputs
    value = scalar_value(node)
    if value is not None:
        return bool(value != value or not np.signbit(value))
    if name == "mul" and inputs[0] is inputs[1]:
        return True
    if name in _KEEP_MAGNITUDE:
        return all(map(is_magnitude, inputs[1:] if name == "select" else inputs))
    return name in ("abs", "exp", "cosh")


_KEEP_MAGNITUDE = frozenset((
    "reduce_sum", "broadcast_in_dim", "reshape", "transpose", "convert", "sqrt", "mul", "div",
    "add", "pow", "select"))


def power_of_two(value: Any) -> int | None:
    """k where a positive integer is 2**k, else None.

    >>> power_of_two(8), power_of_two(12), power_of_two(-4)
    (3, None, None)
    """
    v = int(value)
    return v.bit_length() - 1 if v > 0 and v & (v - 1) == 0 else None


_MANTISSA = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53, "c64": 24, "c128": 53}
_EXPONENT = {"f16": 5, "bf16": 8, "f32": 8, "f64": 11, "c64": 8, "c128": 11}


def keeps_values(src: DType, dst: DType) -> bool:
    """Whether every value of `src` is a value of `dst`, so that converting loses nothing.

    >>> from weft.compiler.types import DTYPES
    >>> [keeps_values(DTYPES["i32"], DTYPES[d]) for d in ("i64", "u64", "f32", "f64")]
    [True, False, False, True]
    """
    if src is dst or src.kind == "bool":
        return True
    if src.is_integer and dst.is_integer:
        return src.bits < dst.bits if src.kind != dst.kind and src.kind == "uint" else \
            src.kind == dst.kind and src.bits <= dst.bits
    if src.is_integer and dst.is_inexact:
        return src.bits - (src.kind == "int") <= _MANTISSA[dst.name]
    if src.is_inexact and dst.is_inexact and (dst.is_complex or not src.is_complex):
        return (_MANTISSA[src.name] <= _MANTISSA[dst.name]
                and _EXPONENT[src.name] <= _EXPONENT[dst.name])
    return False


# --------------------------------------------------------------------------- shapes

def without(items: Sequence[Any], axes: Sequence[int]) -> tuple[Any, ...]:
    """The items whose positions are not among `axes`."""
    return tuple(d for a, d in enumerate(items) if a not in axes)


def unit_map(src: Shape, dst: Shape) -> dict[int, int] | None:
    """For shapes that differ in unit axes only: where each other axis of `src` is in `dst`.

    >>> unit_map((1, 3, 4), (3, 1, 4)), unit_map((2, 6), (3, 4))
    ({1: 0, 2: 2}, None)
    """
    a = [i for i, d in enumerate(src) if d != 1]
    b = [i for i, d in enumerate(dst) if d != 1]
    if [src[i] for i in a] != [dst[i] for i in b]:
        return None
    return dict(zip(a, b))


def reshape_groups(src: Shape, dst: Shape) -> list[tuple[list[int], list[int]]] | None:
    """Axes of `src` and of `dst` in corresponding groups of equal size, as small as can be.

    None where sizes are zero or symbolic ones do not line up.

    >>> reshape_groups((2, 3, 4), (6, 4))
    [([0, 1], [0]), ([2], [1])]
    """
    if 0 in src or 0 in dst:
        return None
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(src) or j < len(dst):
        a, b = [i] if i < len(src) else [], [j] if j < len(dst) else []
        while (size := numel(src[k] for k in a)) != (other := numel(dst[k] for k in b)):
            if not _grow(a, b, size, other, len(src), len(dst)):
                return None
        i, j = (a[-1] + 1 if a else i), (b[-1] + 1 if b else j)
        groups.append((a, b))
    return groups


def _grow(a: list[int], b: list[int], size: Dim, other: Dim, na: int, nb: int) -> bool:
    """Add the next axis to the smaller group; False if that cannot be told or there is none."""
    if not isinstance(size, int) or not isinstance(other, int):
        return False
    side, limit = (a, na) if size < other else (b, nb)
    if not side or side[-1] + 1 >= limit:
        return False
    side.append(side[-1] + 1)
    return True
