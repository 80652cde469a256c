"""Rules of elementwise ops that formulas do not say: linear ones turned round, and a few tangents.

A transpose rule need not care for 0-d operands that stand for every element: their cotangents are
summed by whoever called it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.compiler.build import Builder
    from weft.compiler.ir import Node

__all__ = ["TRANSPOSES", "abs_jvp", "asinh_jvp", "pair", "sign_jvp"]

Rule = Callable[["Builder", "Node", Any, Set[int]], list[Any]]


def pair(wanted: Set[int], *cotangents: Callable[[], Any]) -> list[Any]:
    """The cotangents of the operands wanted, None for the others."""
    return [make() if k in wanted else None for k, make in enumerate(cotangents)]


def _mul(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    x, y = node.inputs
    return pair(wanted, lambda: b.mul(ct, y), lambda: b.mul(ct, x))


def _select(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    mask, zero = node.inputs[0], b.scalar(0, ct.dtype)
    return pair(wanted, lambda: None, lambda: b.select(mask, ct, zero),
                lambda: b.select(mask, zero, ct))


def _convert(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    dtype = node.inputs[0].dtype
    if ct.dtype.is_complex and not dtype.is_complex:
        ct = b.real(ct)
    return [b.convert(ct, dtype)]


def _real(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    return [b.complex(ct, b.scalar(0, ct.dtype))]


def _imag(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    return [b.complex(b.scalar(0, ct.dtype), b.neg(ct))]


def _complex(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    dtype = node.inputs[0].dtype
    return pair(wanted, lambda: b.convert(b.real(ct), dtype),
                lambda: b.convert(b.neg(b.imag(ct)), dtype))


TRANSPOSES: dict[str, Rule] = {
    "add": lambda b, node, ct, wanted: pair(wanted, lambda: ct, lambda: ct),
    "sub": lambda b, node, ct, wanted: pair(wanted, lambda: ct, lambda: b.neg(ct)),
    "neg": lambda b, node, ct, wanted: [b.neg(ct)],
    "mul": _mul,
    "div": lambda b, node, ct, wanted: pair(wanted, lambda: b.div(ct, node.inputs[1]),
                                            lambda: None),
    "select": _select,
    "convert": _convert,
    "conj": lambda b, node, ct, wanted: [b.conj(ct)],
    "real": _real,
    "imag": _imag,
    "complex": _complex,
    "ldexp": lambda b, node, ct, wanted: pair(wanted, lambda: b.ldexp(ct, node.inputs[1]),
                                              lambda: None),
}


def abs_jvp(b: Builder, node: Node, ts: Sequence[Any]) -> Node:
    """``d|x| = sign(x) dx``, and the part of dx along x where x is complex; 0 at 0."""
    x, t = node.inputs[0], ts[0]
    direction = b.sign(x)
    if not x.dtype.is_complex:
        return b.mul(t, direction)
    return b.real(b.mul(t, b.conj(direction)))


def asinh_jvp(b: Builder, node: Node, ts: Sequence[Any]) -> Node:
    """``dx / sqrt(1 + x*x)``, of real numbers without overflow of the square."""
    x, t = node.inputs[0], ts[0]
    one = b.scalar(1, x.dtype)
    if x.dtype.is_complex:
        return b.div(t, b.sqrt(b.add("add", one, b.mul(x, x))))
    return b.div(t, b.hypot(x, one))


def sign_jvp(b: Builder, node: Node, ts: Sequence[Any]) -> Node | None:
    """0 for real numbers; what turns x/|x| for complex ones: ``(dx - s Re(conj(s) dx)) / |x|``."""
    x, t = node.inputs[0], ts[0]
    if not x.dtype.is_complex:
        return None
    along = b.real(b.mul(t, b.conj(node)))
    turning = b.sub(t, b.mul(node, b.complex(along, b.scalar(0, along.dtype))))
    return b.div(turning, b.convert(b.abs(x), x.dtype))
