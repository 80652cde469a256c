"""Rules of integers, bits, comparisons, masks and conversions. All are exact."""

from __future__ import annotations

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.rewrite.arith import letter, negated
from weft.compiler.rewrite.driver import Rewriter, Rule, rule
from weft.compiler.rewrite.match import (
    CONSTANT,
    has_value,
    is_magnitude,
    is_op,
    keeps_values,
    power_of_two,
    same_bits,
    scalar_value,
)
from weft.compiler.types import DType

__all__ = ["RULES"]

RULES: list[Rule] = []


# --------------------------------------------------------------------------- integers

@rule(RULES, "x - c → x + -c, for integers", "sub", on=CONSTANT)
def _sub_constant(n: Node, b: Rewriter) -> Node | None:
    x, c = n.inputs
    if letter(n) == "i" and scalar_value(c) is not None:
        return b.add("add", x, negated(b, c))
    return None


@rule(RULES, "(x ∘ c) ∘ d → x ∘ (c ∘ d), for integers and bool", "add", "mul", "and", "or", "xor",
      on=CONSTANT)
def _merge_constants(n: Node, b: Rewriter) -> Node | None:
    x, d = n.inputs
    if not is_op(x, n.opname) or letter(n) not in "bi" or n.op is None:
        return None
    x, c = x.inputs
    v, w = scalar_value(c), scalar_value(d)
    if v is None or w is None:
        return None
    with np.errstate(all="ignore"):
        merged = b.constant(np.asarray(n.op.reference(np, v, w)).astype(v.dtype))
    return b.like(n, b.add(n.opname, x, merged))


@rule(RULES, "x // 2**k → x >> k, for integers", "floor_divide", on=CONSTANT)
def _divide_by_shift(n: Node, b: Rewriter) -> Node | None:
    x, c = n.inputs
    k = power_of_two(scalar_value(c)) if letter(n) == "i" and scalar_value(c) is not None else None
    return b.like(n, b.add("shift_right", x, b.scalar(k, n.dtype))) if k else None


@rule(RULES, "x % 2**k → x & (2**k - 1), for integers", "remainder", on=CONSTANT)
def _remainder_by_mask(n: Node, b: Rewriter) -> Node | None:
    x, c = n.inputs
    value = scalar_value(c)
    k = power_of_two(value) if letter(n) == "i" and value is not None else None
    return b.like(n, b.add("and", x, b.scalar(int(value) - 1, n.dtype))) if k else None


@rule(RULES, "x >= 0 → true, x < 0 → false, for unsigned x", "ge", "lt", on=CONSTANT)
def _unsigned_sign(n: Node, b: Rewriter) -> Node | None:
    x, c = n.inputs
    return b.fill(n, n.opname == "ge") if x.dtype.kind == "uint" and has_value(c, 0) else None


# --------------------------------------------------------------------------- bits and masks

@rule(RULES, "x ^ ~0 → not(x)", "xor", on=CONSTANT)
def _xor_ones(n: Node, b: Rewriter) -> Node | None:
    x, c = n.inputs
    ones = True if letter(n) == "b" else -1
    return b.like(n, b.add("not", x)) if has_value(c, ones) else None


@rule(RULES, "x & not(x) → 0, x | not(x) → ~0, x ^ not(x) → ~0", "and", "or", "xor", on=("not",))
def _complement(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    if (is_op(y, "not") and y.inputs[0] is x) or (is_op(x, "not") and x.inputs[0] is y):
        return b.fill(n, 0 if n.opname == "and" else True if letter(n) == "b" else -1)
    return None


_ABSORBED = {"and": ("or", "and"), "or": ("and", "or")}


@rule(RULES, "x & (x | y) → x, x & (x & y) → x & y; and so with & and | exchanged", "and", "or",
      on=("and", "or"))
def _absorption(n: Node, b: Rewriter) -> Node | None:
    for x, y in (n.inputs, n.inputs[::-1]):
        dual, same = _ABSORBED[n.opname]
        if is_op(y, dual, same) and x in y.inputs and x.shape == n.shape:
            return x if y.opname == dual else b.like(n, y)
    return None


_OPPOSITE = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}


@rule(RULES, "not(x == y) → x != y; not(x < y) → x >= y, for integers only (NaN)", "not",
      on=("eq", "ne", "lt", "le", "gt", "ge"))
def _not_compare(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if x.opname in _OPPOSITE and (x.opname in ("eq", "ne") or letter(x.inputs[0]) in "bi"):
        return b.add(_OPPOSITE[x.opname], *x.inputs)
    return None


@rule(RULES, "x == true → x, x == false → not(x), for bool; and so for !=", "eq", "ne",
      on=CONSTANT)
def _compare_bool(n: Node, b: Rewriter) -> Node | None:
    x, c = n.inputs
    if letter(x) != "b" or scalar_value(c) is None:
        return None
    keep = bool(scalar_value(c)) == (n.opname == "eq")
    return b.like(n, x if keep else b.add("not", x))


@rule(RULES, "convert(mask) != 0 → mask, convert(mask) == 0 → not(mask)", "ne", "eq",
      on=("convert",))
def _compare_converted_mask(n: Node, b: Rewriter) -> Node | None:
    x, c = n.inputs
    value = scalar_value(c)
    if not is_op(x, "convert") or letter(x.inputs[0]) != "b" or value is None or value != 0:
        return None
    mask = x.inputs[0]
    return b.like(n, mask if n.opname == "ne" else b.add("not", mask))


@rule(RULES, "is_nan(convert(x)) → false, for integer x", "is_nan", on=("convert",))
def _integer_is_no_nan(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    integer = is_op(x, "convert") and letter(x.inputs[0]) in "bi"
    return b.fill(n, False) if integer else None


# --------------------------------------------------------------------------- select

@rule(RULES, "select(m, a, a) → a", "select")
def _select_same(n: Node, b: Rewriter) -> Node | None:
    _, x, y = n.inputs
    v = scalar_value(x)
    equal = x is y or (v is not None and v == v and (w := scalar_value(y)) is not None
                       and same_bits(v, w))
    return b.like(n, x) if equal and x.shape in ((), n.shape) else None


@rule(RULES, "select(true, a, b) → a, select(false, a, b) → b", "select", on=CONSTANT)
def _select_known(n: Node, b: Rewriter) -> Node | None:
    m, x, y = n.inputs
    value = scalar_value(m)
    return b.like(n, x if value else y) if value is not None else None


@rule(RULES, "select(not(m), a, b) → select(m, b, a)", "select", on=("not",))
def _select_not(n: Node, b: Rewriter) -> Node | None:
    m, x, y = n.inputs
    return b.add("select", m.inputs[0], y, x) if is_op(m, "not") else None


@rule(RULES, "select(m, true, false) → m, select(m, a, false) → m & a, select(m, true, b) → m | b",
      "select", on=CONSTANT)
def _select_mask(n: Node, b: Rewriter) -> Node | None:
    m, x, y = n.inputs
    if letter(n) != "b":
        return None
    if has_value(x, True):
        return b.like(n, m if has_value(y, False) else b.add("or", m, y))
    if has_value(x, False) and has_value(y, True):
        return b.like(n, b.add("not", m))
    return b.like(n, b.add("and", m, x)) if has_value(y, False) else None


@rule(RULES, "select(m, select(m, a, b), c) → select(m, a, c); select(m, a, select(m, b, c)) → "
      "select(m, a, c)", "select", on=("select",))
def _select_of_select(n: Node, b: Rewriter) -> Node | None:
    m, x, y = n.inputs
    a = x.inputs[1] if is_op(x, "select") and x.inputs[0] is m else x
    c = y.inputs[2] if is_op(y, "select") and y.inputs[0] is m else y
    return b.like(n, b.add("select", m, a, c)) if a is not x or c is not y else None


@rule(RULES, "select(x == 0, 0, f(select(x == 0, 1, x))) → f(x), for x that is never -0.0 and f "
      "sqrt or ** c with c > 0", "select", on=("sqrt", "pow"))
def _root_of_nothing(n: Node, b: Rewriter) -> Node | None:
    mask, zero, root = n.inputs
    if not (is_op(root, "sqrt", "pow") and is_op(mask, "eq") and has_value(zero, 0.0)):
        return None
    safe, *power = root.inputs
    x = mask.inputs[0]
    fits = has_value(mask.inputs[1], 0.0) and is_op(safe, "select") and safe.inputs[0] is mask \
        and has_value(safe.inputs[1], 1.0) and safe.inputs[2] is x and is_magnitude(x)
    if not fits or (power and not ((c := scalar_value(power[0])) is not None and c > 0)):
        return None
    return b.replace(root, (x, *power))


# --------------------------------------------------------------------------- conversions

@rule(RULES, "convert(x) → x, to the type it has", "convert", "bitcast")
def _convert_same(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    return x if x.dtype is n.dtype else None


@rule(RULES, "bitcast(bitcast(x)) → bitcast(x)", "bitcast", on=("bitcast",))
def _bitcast_twice(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    return b.add("bitcast", x.inputs[0], dtype=n.dtype) if is_op(x, "bitcast") else None


def _skips(src: DType, via: DType, dst: DType) -> bool:
    """Whether converting from src to dst is the same with and without `via` between."""
    if not keeps_values(src, via):
        return False
    if src.kind in ("bool", "int", "uint"):
        # a float that does not fit an integer converts in another way than an integer does
        return via.is_integer or dst.kind == "bool" or keeps_values(src, dst)
    return not dst.is_integer or dst is src


@rule(RULES, "convert(convert(x)) → convert(x), where the first loses nothing", "convert",
      on=("convert",))
def _convert_twice(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if is_op(x, "convert") and _skips(x.inputs[0].dtype, x.dtype, n.dtype):
        return b.convert(x.inputs[0], n.dtype)
    return None


# Computed in a type at least twice as precise plus two bits and then rounded, these give the
# correctly rounded result of the narrow type (Figueroa, "When is double rounding innocuous?").
_ROUNDED = ("add", "sub", "mul", "div", "sqrt")
_SIGNS = ("neg", "abs")
_WRAPPING = ("add", "sub", "mul", "neg", "and", "or", "xor", "not")
_TWICE_AS_WIDE = {("f16", "f32"), ("bf16", "f32"), ("f32", "f64"), ("f16", "f64"), ("bf16", "f64")}


def _narrowed(b: Rewriter, x: Node, dtype: DType) -> Node | None:
    """The operand in the narrow type, where it is one of its values."""
    if is_op(x, "convert") and x.inputs[0].dtype is dtype:
        return x.inputs[0]
    value = scalar_value(x)
    if value is None or x.shape != ():
        return None
    with np.errstate(all="ignore"):
        narrow = np.asarray(value).astype(dtype.numpy)
    return b.constant(narrow) if same_bits(narrow.astype(value.dtype)[()], value) else None


@rule(RULES, "narrow(wide(x) ∘ wide(y)) → x ∘ y, where ∘ rounds the same: + - * / sqrt and signs "
      "for floats, + - * and bits for integers", "convert",
      on=(*_ROUNDED, *_SIGNS, *_WRAPPING))
def _compute_narrow(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    src, dst = x.dtype, n.dtype
    if src.is_float:
        fits = (dst.name, src.name) in _TWICE_AS_WIDE and x.opname in _ROUNDED + _SIGNS
    else:
        fits = src.kind == dst.kind and dst.is_integer and dst.bits < src.bits \
            and x.opname in _WRAPPING
    if not fits:
        return None
    operands = [_narrowed(b, i, dst) for i in x.inputs]
    known = [i for i in operands if i is not None]
    return b.add(x.opname, *known) if len(known) == len(operands) else None


@rule(RULES, "wide(x) < wide(y) → x < y, where widening loses nothing; and so for all comparisons",
      "eq", "ne", "lt", "le", "gt", "ge", on=("convert",))
def _compare_narrow(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    if not is_op(x, "convert"):
        return None
    src = x.inputs[0].dtype
    if not keeps_values(src, x.dtype) or x.dtype.is_complex != src.is_complex:
        return None
    other = _narrowed(b, y, src)
    return b.add(n.opname, x.inputs[0], other) if other is not None else None
