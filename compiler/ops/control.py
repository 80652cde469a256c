"""Control flow: graphs applied to operands, once (`case`) or again and again (`while`, `scan`).

The graphs are closed: whatever they need is an operand. The result is a tuple, of which `get`
takes the elements. A reference meaning gets each graph as a function from arrays to a list of
arrays, with the types of its results as `result_types` (see `weft.devices.reference`).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError, WeftError
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.types import DTYPES, TensorType, TupleType, shape_text

__all__ = ["carry_problem"]

Types = tuple[Any, ...]


def _check_operands(what: str, graph: Any, types: Sequence[Any]) -> None:
    """Refuse a graph that does not take these operands."""
    if len(graph.params) != len(types):
        raise ShapeError(f"{what} takes {len(graph.params)} operands, got {len(types)}",
                         expected=f"{len(types)} parameters")
    for p, t in zip(graph.params, types):
        if p.type != t:
            raise ShapeError(f"{what} takes {p.type} as %{p.name}, got {t}", expected=str(t))


def _array(what: str, type: Any) -> TensorType:
    if not isinstance(type, TensorType):
        raise ShapeError(f"{what} got a tuple as an operand", expected="arrays")
    return type


def carry_problem(what: str, name: str, before: TensorType, after: TensorType) -> WeftError:
    """The error for a loop whose body turns a carry into another type."""
    if before.dtype is not after.dtype:
        return DTypeError(
            f"{what} turns the carry {name} from {before} into {after}",
            expected="the same shape and element type after every turn",
            repair=f"begin with {after.dtype.numpy} values, or end the body with "
            f"{name}.astype(np.{before.dtype.numpy})")
    return ShapeError(
        f"{what} turns the carry {name} from {before} into {after}",
        expected="the same shape and element type after every turn",
        repair=f"begin with an array of shape {shape_text(after.shape)}, or keep the shape "
        f"{shape_text(before.shape)} in the body (values computed in each turn, but not needed in "
        "the next, are no carries)")


def _check_carries(what: str, graph: Any, types: Sequence[TensorType], first: int) -> None:
    """The first results of a body are its carries (parameters from `first` on), typed alike."""
    for p, before, r in zip(graph.params[first:], types, graph.results):
        if r.type != before:
            raise carry_problem(what, p.name, before, r.type)


# ---- case

def _case(types: Types, attrs: Attrs) -> TupleType:
    branches = attrs["branches"]
    if not branches:
        raise ShapeError("case got no branches", expected="at least one")
    if not types or types[0] != TensorType((), DTYPES["i32"]):
        raise DTypeError(f"case got an index {types[0] if types else 'of no type'}",
                         expected="a 0-d i32")
    for k, g in enumerate(branches):
        _check_operands(f"branch {k} of case", g, types[1:])
    first = [r.type for r in branches[0].results]
    for k, g in enumerate(branches):
        if [r.type for r in g.results] != first:
            raise DTypeError(
                f"branch {k} of case gives ({', '.join(str(r.type) for r in g.results)}), "
                f"branch 0 ({', '.join(map(str, first))})",
                expected="the same shapes and element types from all branches")
    return TupleType(tuple(_array("case", t) for t in first))


def _case_ref(xp: Any, index: Any, *operands: Any, branches: Sequence[Any]) -> tuple[Any, ...]:
    at = int(index)
    chosen = branches[at] if 0 <= at < len(branches) else branches[-1]
    return tuple(chosen(*operands))


# ---- while

def _while(types: Types, attrs: Attrs) -> TupleType:
    n, cond, body = attrs["carries"], attrs["cond"], attrs["body"]
    if not 0 <= n <= len(types):
        raise ShapeError(f"while got {len(types)} operands for {n} carries")
    carries = [_array("while", t) for t in types[:n]]
    _check_operands("the condition of while", cond, types)
    _check_operands("the body of while", body, types)
    given = [r.type for r in cond.results]
    if given != [TensorType((), DTYPES["bool"])]:
        raise DTypeError(f"the condition of while gives {', '.join(map(str, given)) or 'nothing'}",
                         expected="one bool of shape []")
    if len(body.results) != n:
        raise ShapeError(f"the body of while gives {len(body.results)} results",
                         expected=f"one for each of its {n} carries")
    _check_carries("the body of while", body, carries, 0)
    return TupleType(tuple(carries))


def _while_ref(xp: Any, *operands: Any, cond: Any, body: Any, carries: int) -> tuple[Any, ...]:
    state, fixed = list(operands[:carries]), operands[carries:]
    while bool(cond(*state, *fixed)[0]):
        state = body(*state, *fixed)
    return tuple(state)


# ---- scan

def _scan(types: Types, attrs: Attrs) -> TupleType:
    c, m, length, body = attrs["consts"], attrs["carries"], attrs["length"], attrs["body"]
    if not 0 <= c <= c + m <= len(types):
        raise ShapeError(f"scan got {len(types)} operands for {c} constants and {m} carries")
    carries = [_array("scan", t) for t in types[c:c + m]]
    slices = []
    for k, t in enumerate(types[c + m:]):
        x = _array("scan", t)
        if not x.rank or x.shape[0] != length:
            raise ShapeError(f"scan over {length} turns got {x} as array {k} to run along",
                             expected=f"a first axis of size {length}")
        slices.append(TensorType(x.shape[1:], x.dtype))
    _check_operands("the body of scan", body, (*types[:c + m], *slices))
    if len(body.results) < m:
        raise ShapeError(f"the body of scan gives {len(body.results)} results",
                         expected=f"one for each of its {m} carries, then the values to stack")
    _check_carries("the body of scan", body, carries, c)
    ys = [_array("scan", r.type) for r in body.results[m:]]
    return TupleType((*carries, *(TensorType((length, *y.shape), y.dtype) for y in ys)))


def _scan_ref(xp: Any, *operands: Any, body: Any, consts: int, carries: int, length: int,
              reverse: bool) -> tuple[Any, ...]:
    fixed, xs = operands[:consts], operands[consts + carries:]
    state = list(operands[consts:consts + carries])
    stacks = [xp.empty((length, *shape), dtype)
              for shape, dtype in body.result_types[carries:]]
    for i in reversed(range(length)) if reverse else range(length):
        out = body(*fixed, *state, *(x[i] for x in xs))
        state = out[:carries]
        for stack, y in zip(stacks, out[carries:]):
            stack[i] = y
    return (*state, *stacks)


# ---- samples, as text: a graph cannot be imported here, since graphs are made of ops

_YES = "graph @yes(%x: f64[3]) -> (f64[3], f64[]) { %y = sin %x : f64[3] " \
    "%s = reduce_sum %x {axes=[0]} : f64[] return %y, %s }"
_NO = "graph @no(%x: f64[3]) -> (f64[3], f64[]) { return %x, 2.0:f64 }"
_BELOW = "graph @cond(%i: i64[], %x: f64[2], %n: i64[], %c: f64[2]) -> (bool[]) " \
    "{ %t = lt %i, %n : bool[] return %t }"
_STEP = "graph @body(%i: i64[], %x: f64[2], %n: i64[], %c: f64[2]) -> (i64[], f64[2]) " \
    "{ %j = add %i, 1:i64 : i64[] %y = mul %x, %c : f64[2] return %j, %y }"
_FIBONACCI = "graph @body(%c: f64[2], %a: f64[2], %b: f64[2], %x: f64[2]) -> " \
    "(f64[2], f64[2], f64[2], f64[2]) { %s = add %a, %b : f64[2] %t = add %s, %x : f64[2] " \
    "%y = mul %t, %c : f64[2] return %b, %t, %y, %a }"


def _parsed(text: str) -> Any:
    from weft.compiler.parse import parse  # graphs are made of ops
    return parse(text)


def _case_samples() -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    x = np.array([0.5, -1.0, 2.0])
    branches = tuple(map(_parsed, (_YES, _NO)))
    return [((np.array(i, np.int32), x), {"branches": branches}) for i in (0, 1, -1, 7)]


def _while_samples() -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    attrs = {"cond": _parsed(_BELOW), "body": _parsed(_STEP), "carries": 2}
    return [((np.array(i), np.array([1.0, -0.5]), np.array(5), np.array([1.5, -2.0])), attrs)
            for i in (0, 2, 9)]


def _scan_samples() -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    body, c = _parsed(_FIBONACCI), np.array([2.0, 0.5])
    return [((c, c + 1, c - 1, np.arange(2.0 * n).reshape(n, 2)),
             {"body": body, "consts": 1, "carries": 2, "length": n, "reverse": r})
            for n, r in ((4, False), (5, True), (1, False), (0, False))]


# ---- transforms: of the graphs, and hence in `weft.compiler.transforms`, which imports ops

def _rule(module: str, name: str) -> Any:
    def rule(*args: Any) -> Any:
        return getattr(importlib.import_module(f"weft.compiler.transforms.{module}"), name)(*args)
    return rule


_CASE = {name: _rule("control", f"case_{name}")
         for name in ("jointly", "linearize", "transpose", "batch")}
_SCAN = {name: _rule("control", f"scan_{name}")
         for name in ("jointly", "linearize", "transpose", "batch")}
_WHILE = {name: _rule("loops", f"while_{name}")
          for name in ("jointly", "jvp", "transpose", "batch")}

_PLACES = ("device", "places")      # of those with parts on several devices, after partitioning

register(Op("case", "control", None, "the results of the branch that the first operand, an index, "
            "picks; of the last branch where it is out of range", _case, _case_ref,
            attrs=("branches", *_PLACES), cost=0, samples=_case_samples, **_CASE))
register(Op("while", "control", None, "the carries after the body has replaced them as long as the "
            "condition holds; both take the carries and the constants behind them", _while,
            _while_ref, attrs=("cond", "body", "carries", *_PLACES), cost=0, samples=_while_samples,
            **_WHILE))
register(Op("scan", "control", None, "a body run for each element of the first axis of its arrays: "
            "the carries after the last turn, and the other results of all turns, stacked; "
            "operands are constants, carries, arrays", _scan, _scan_ref,
            attrs=("body", "consts", "carries", "length", "reverse", *_PLACES), cost=0,
            samples=_scan_samples, **_SCAN))
