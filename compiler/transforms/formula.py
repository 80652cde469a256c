"""Derivatives of elementwise ops, written as formulas.

An op's declaration says ``partials=("cos(x)",)``: the derivative by each operand, over the operands
`x`, `y`, `z`, the result `out`, numbers, Python's arithmetic and comparison signs, and ops by name.
Formulas are text, so that declarations stay data and cost nothing until something is
differentiated.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping

from weft.compiler.build import Builder
from weft.compiler.ir import Node
from weft.compiler.types import DType

__all__ = ["evaluate", "names_in", "parse", "scaled"]

_BINARY = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
_COMPARE = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt",
            ast.GtE: "ge"}

Names = Mapping[str, Node]


@functools.lru_cache(maxsize=512)
def parse(formula: str) -> ast.expr:
    """The formula's expression tree."""
    return ast.parse(formula, mode="eval").body


def names_in(formula: str) -> frozenset[str]:
    """The operands that a formula mentions."""
    return frozenset(n.id for n in ast.walk(parse(formula)) if isinstance(n, ast.Name))


def evaluate(b: Builder, expr: ast.expr, names: Names, dtype: DType) -> Node:
    """The nodes of an expression; its numbers are of element type `dtype`."""
    match expr:
        case ast.Name(id=name):
            return names[name]
        case ast.Constant(value=value):
            return b.scalar(value, dtype)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=float() | int() as value)):
            return b.scalar(-value, dtype)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return b.neg(evaluate(b, operand, names, dtype))
        case ast.BinOp(left=left, op=op, right=right):
            return b.add(_BINARY[type(op)], evaluate(b, left, names, dtype),
                         evaluate(b, right, names, dtype))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return b.add(_COMPARE[type(op)], evaluate(b, left, names, dtype),
                         evaluate(b, right, names, dtype))
        case ast.Call(func=ast.Name(id=name), args=args):
            return b.add(name, *[evaluate(b, a, names, dtype) for a in args])
    raise ValueError(f"not a formula: {ast.unparse(expr)}")


def scaled(b: Builder, expr: ast.expr, names: Names, t: Node) -> Node | None:
    """The tangent `t` times the expression; None where that is zero.

    Quotients divide the tangent (``t / x``, not ``t * (1/x)``), and where a choice between zero and
    something else is made, the tangent is chosen, so that an infinite tangent gives no NaN. Other
    choices are made among the factors, which takes less to turn round.
    """
    match expr:
        case ast.Constant(value=0):
            return None
        case ast.Constant(value=1):
            return t
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            term = scaled(b, operand, names, t)
            return None if term is None else b.neg(term)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            term = scaled(b, left, names, t)
            return None if term is None else b.div(term, evaluate(b, right, names, t.dtype))
        case ast.Call(func=ast.Name(id="select"), args=[mask, yes, no]) if _is_zero(yes, no):
            zero = b.scalar(0, t.dtype)
            chosen = [scaled(b, e, names, t) for e in (yes, no)]
            return b.select(evaluate(b, mask, names, t.dtype),
                            *[zero if c is None else c for c in chosen])
    return b.mul(t, evaluate(b, expr, names, t.dtype))


def _is_zero(*branches: ast.expr) -> bool:
    return any(isinstance(e, ast.Constant) and e.value == 0 for e in branches)
