"""Rules that need `fast_math`: true of real numbers, not of every NaN, infinity or rounding."""

from __future__ import annotations

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.rewrite.driver import Rewriter, Rule, rule
from weft.compiler.rewrite.match import CONSTANT, has_value, is_op, scalar_value

__all__ = ["RULES"]

RULES: list[Rule] = []


def _is_zero(n: Node) -> bool:
    value = scalar_value(n)
    return n.dtype.is_float and value is not None and value == 0


@rule(RULES, "x * 0 → 0", "mul", on=CONSTANT, fast=True)
def _fast_times_zero(n: Node, b: Rewriter) -> Node | None:
    return b.fill(n, 0) if _is_zero(n.inputs[1]) else None


@rule(RULES, "x + 0 → x, x - 0 → x, of either sign", "add", "sub", on=CONSTANT, fast=True)
def _fast_plus_zero(n: Node, b: Rewriter) -> Node | None:
    return b.like(n, n.inputs[0]) if _is_zero(n.inputs[1]) else None


@rule(RULES, "0 - x → -x", "sub", on=CONSTANT, fast=True)
def _fast_zero_minus(n: Node, b: Rewriter) -> Node | None:
    return b.like(n, b.add("neg", n.inputs[1])) if _is_zero(n.inputs[0]) else None


@rule(RULES, "x - x → 0", "sub", on=("=",), fast=True)
def _fast_minus_itself(n: Node, b: Rewriter) -> Node | None:
    same = n.inputs[0] is n.inputs[1] and n.dtype.is_float
    return b.fill(n, 0) if same else None


@rule(RULES, "x / x → 1", "div", on=("=",), fast=True)
def _fast_divided_by_itself(n: Node, b: Rewriter) -> Node | None:
    same = n.inputs[0] is n.inputs[1] and n.dtype.is_float
    return b.fill(n, 1) if same else None


@rule(RULES, "-(x - y) → y - x", "neg", on=("sub",), fast=True)
def _fast_neg_of_difference(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    fits = is_op(x, "sub") and n.dtype.is_float and b.used_once(x)
    return b.add("sub", x.inputs[1], x.inputs[0]) if fits else None


_INVERSE = {"log": "exp", "exp": "log", "log2": "exp2", "exp2": "log2", "log1p": "expm1",
            "expm1": "log1p", "sinh": "asinh", "asinh": "sinh", "tan": "atan", "tanh": "atanh"}


@rule(RULES, "log(exp(x)) → x, exp(log(x)) → x and other inverse pairs", *_INVERSE,
      on=tuple(_INVERSE), fast=True)
def _fast_inverse(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    fits = is_op(x, _INVERSE[n.opname]) and n.dtype.is_float
    return x.inputs[0] if fits else None


@rule(RULES, "sqrt(x * x) → |x|", "sqrt", on=("mul",), fast=True)
def _fast_root_of_square(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    fits = is_op(x, "mul") and x.inputs[0] is x.inputs[1] and n.dtype.is_float
    return b.add("abs", x.inputs[0]) if fits else None


@rule(RULES, "sqrt(x) * sqrt(x) → x", "mul", on=("=",), fast=True)
def _fast_square_of_root(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    return x.inputs[0] if x is y and is_op(x, "sqrt") and n.dtype.is_float else None


@rule(RULES, "x ** 0.5 → sqrt(x) (differs for -inf and -0.0)", "pow", on=CONSTANT, fast=True)
def _fast_power_half(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    fits = n.dtype.is_float and has_value(y, 0.5)
    return b.like(n, b.add("sqrt", x)) if fits else None


@rule(RULES, "x / c → x * (1 / c)", "div", on=CONSTANT, fast=True)
def _fast_divide_by_constant(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    c = scalar_value(y)
    if c is None or not n.dtype.is_float or c == 0 or not np.isfinite(c):
        return None
    with np.errstate(all="ignore"):
        inverse = np.asarray(1.0 / np.float64(c)).astype(c.dtype)
    usable = inverse != 0 and np.isfinite(inverse)
    return b.add("mul", x, b.like(y, b.constant(inverse))) if usable else None


@rule(RULES, "(x + c) + d → x + (c + d); and so for *", "add", "mul", on=CONSTANT, fast=True)
def _fast_merge_constants(n: Node, b: Rewriter) -> Node | None:
    x, d = n.inputs
    if not is_op(x, n.opname) or not n.dtype.is_float or n.op is None:
        return None
    x, c = x.inputs
    v, w = scalar_value(c), scalar_value(d)
    if v is None or w is None:
        return None
    with np.errstate(all="ignore"):
        merged = np.asarray(n.op.reference(np, v, w)).astype(v.dtype)
    return b.like(n, b.add(n.opname, x, b.constant(merged))) if np.isfinite(merged) else None


@rule(RULES, "exp(x) * exp(y) → exp(x + y)", "mul", on=("exp",), fast=True)
def _fast_product_of_exp(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    if is_op(x, "exp") and is_op(y, "exp") and n.dtype.is_float:
        return b.add("exp", b.add("add", x.inputs[0], y.inputs[0]))
    return None


@rule(RULES, "1 / (1 + exp(-x)) → logistic(x)", "div", on=("add",), fast=True)
def _fast_logistic(n: Node, b: Rewriter) -> Node | None:
    one, s = n.inputs
    if not has_value(one, 1) or not is_op(s, "add") or not has_value(s.inputs[1], 1):
        return None
    e = s.inputs[0]
    fits = is_op(e, "exp") and is_op(e.inputs[0], "neg") and n.dtype.is_float
    return b.like(n, b.add("logistic", e.inputs[0].inputs[0])) if fits else None
