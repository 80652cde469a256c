"""The exact text of every error a NumPy user can run into while a function is traced."""

from __future__ import annotations

import linecache
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weft.compiler.types import TensorType, dtype_of
from weft.frontend.trace import ArgSpec, trace_flat

X = np.ones((3, 4))
V = np.ones(3)
OUTSIDE = np.zeros(3)


def trace(fn: Callable[..., Any], *args: Any) -> None:
    """Trace `fn` as jit would."""
    specs = []
    for name, a in zip("xyz", args):
        weak = type(a) in (int, float, bool)
        kind = type(a).__name__ if weak else "array"
        dtype = dtype_of(type(a) if weak else a.dtype)
        specs.append(ArgSpec(kind, TensorType(np.shape(a), dtype), name, a if weak else None))
    trace_flat(lambda tracers: [fn(*tracers)], specs, "f")


def add_to_argument(x: Any) -> Any:
    x += 1
    return x


def add_to_view(x: Any) -> Any:
    y = x * 2
    row = y[0]
    row *= 2
    return y


def add_below_view(x: Any) -> Any:
    y = x * 2
    row = y[0]
    y -= 1
    return row


def add_to_global(x: Any) -> Any:
    global OUTSIDE
    OUTSIDE += x


def write_to_global(x: Any) -> Any:
    y = x + OUTSIDE
    OUTSIDE[0] += 1
    return y


def write(x: Any) -> Any:
    y = x * 2
    y[0] = 1
    return y


def sort_argument(x: Any) -> None:
    x.sort()


NOT_KNOWN = "needs the value of Tracer({}), which is not known while tracing\nHERE\n" \
            "  expected: code that does not depend on the values of arrays\n  repair:   "
TYPES = "bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, bfloat16, " \
        "float32, float64, complex64, complex128"

ERRORS: list[tuple[Callable[..., Any], tuple[Any, ...], type[Exception], str]] = [
    # ---- shapes, axes, indices
    (lambda x, y: x + y,
     (X, V), ValueError,
     "operands could not be broadcast together with shapes (3,4) (3,)\nHERE\n"
     "  expected: equal sizes, or 1, along each axis; axis -1 has 4 and 3\n"
     "  repair:   reshape or index with np.newaxis so that axes line up"),
    (lambda x: x.reshape(5, -1),
     (X,), ValueError,
     "cannot reshape array of size 12 into shape (5,-1)\nHERE\n"
     "  expected: a shape whose other sizes divide 12"),
    (lambda x: x.sum(axis=2),
     (X,), np.exceptions.AxisError,
     "axis 2 is out of bounds for array of dimension 2\nHERE\n"
     "  expected: an axis in [-2, 2)"),
    (lambda x, axis: x.sum(axis=axis),
     (X, 5), IndexError,
     "axis 5 is out of bounds for array of dimension 2\nHERE\n"
     "  expected: an axis in [-2, 2)"),
    (lambda x: x @ x,
     (X,), ValueError,
     "matmul: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature "
     "(n?,k),(k,m?)->(n?,m?) (size 3 is different from 4)\nHERE\n"
     "  expected: (3,4) and (3,4) with equal sizes along the summed axis\n"
     "  repair:   transpose one of them (x.T or np.swapaxes)"),
    (lambda x: np.dot(x, x[:2]),
     (V,), ValueError,
     "shapes (3,) and (2,) not aligned: 3 (dim 0) != 2 (dim 0)\nHERE\n"
     "  expected: equal sizes along the summed axis\n"
     "  repair:   transpose one of them (x.T or np.swapaxes)"),
    (lambda x: np.concatenate([x, x[:, :2]]),
     (X,), ValueError,
     "all the input array dimensions except for the concatenation axis must match exactly, but "
     "along dimension 1, the array at index 0 has size 4 and the array at index 1 has size 2"
     "\nHERE"),
    (lambda x: np.stack([x, x[:2]]),
     (X,), ValueError,
     "all input arrays must have the same shape\nHERE\n"
     "  expected: equal shapes, got (3,4) and (2,4)"),
    (lambda x: np.max(x[:0]),
     (V,), ValueError,
     "zero-size array to reduction operation maximum which has no identity\nHERE\n"
     "  expected: at least one element along the axes\n"
     "  repair:   give initial="),
    (lambda x: x[5],
     (V,), IndexError,
     "index 5 is out of bounds for axis 0 with size 3\nHERE"),
    (lambda x: x[[0, 7]],
     (V,), IndexError,
     "index 7 is out of bounds for axis 0 with size 3\nHERE"),
    (lambda x: x[0, 0],
     (V,), IndexError,
     "too many indices for array: array is 1-dimensional, but 2 were indexed\nHERE"),
    (lambda x: x[1.5],
     (V,), IndexError,
     "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or "
     "boolean arrays are valid indices\nHERE"),
    (lambda x: np.einsum("ij,j", x, x),
     (V,), ValueError,
     "einstein sum subscripts string contains too many subscripts for operand\nHERE\n"
     "  expected: 1 label(s), got 'ij'"),
    # ---- element types
    (lambda x: x + 300,
     (np.ones(3, "u1"),), OverflowError,
     "Python integer 300 out of bounds for uint8\nHERE\n"
     "  expected: an integer in [0, 255]\n"
     "  repair:   convert the array to a wider type with astype"),
    (lambda x, n: x + n,
     (np.ones(3, "u1"), -1), OverflowError,
     "Python integer -1 out of bounds for uint8\nHERE\n"
     "  expected: an integer in [0, 255]\n"
     "  repair:   convert the array to a wider type with astype"),
    (lambda x: -(x > 0),
     (V,), TypeError,
     "The numpy boolean negative, the `-` operator, is not supported, use the `~` operator or the "
     "logical_not function instead.\nHERE"),
    (lambda x: x & 1,
     (V,), TypeError,
     "ufunc 'bitwise_and' not supported for the input types, and the inputs could not be safely "
     "coerced to any supported types according to the casting rule ''safe''\nHERE\n"
     "  repair:   convert the operands with astype"),
    (lambda x: x + np.array([None]),
     (V,), TypeError,
     f"arrays of dtype object cannot be traced\nHERE\n  expected: {TYPES}\n"
     "  repair:   object arrays, strings, dates and records stay outside compiled functions"),
    (lambda x: x.astype("U3"),
     (V,), TypeError,
     f"arrays of dtype <U3 cannot be traced\nHERE\n  expected: {TYPES}\n"
     "  repair:   object arrays, strings, dates and records stay outside compiled functions"),
    (lambda x: x.dot(object()),
     (V,), TypeError,
     "an object of type object cannot be traced\nHERE\n"
     "  expected: arrays, NumPy scalars, Python numbers, or lists of them"),
    # ---- values
    (lambda x: float(x.sum()),
     (V,), TypeError,
     "float() " + NOT_KNOWN.format("f64[]")
     + "keep it an array: x.astype(float) converts, np.exp(x) replaces math.exp(x)"),
    (lambda x: math.exp(x[0]),
     (V,), TypeError,
     "float() " + NOT_KNOWN.format("f64[]")
     + "keep it an array: x.astype(float) converts, np.exp(x) replaces math.exp(x)"),
    (lambda x: int(x[0]),
     (V,), TypeError,
     "int() " + NOT_KNOWN.format("f64[]") + "keep it an array: x.astype(int) converts"),
    (lambda x: x if x.sum() > 0 else -x,
     (V,), TypeError,
     "bool() " + NOT_KNOWN.format("bool[]")
     + "use np.where(condition, a, b) instead of a branch, & | ~ for and, or, not"),
    (lambda x: x if x > 0 else -x,
     (V,), ValueError,
     "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
     "\nHERE"),
    (lambda x: range(x.astype(int)[0]),
     (V,), TypeError,
     "an index " + NOT_KNOWN.format("i64[]") + "pass it to the compiled function as a Python int; "
     "to index an array with it, index a traced array or use np.take"),
    (lambda x: x.item(),
     (V,), TypeError,
     ".item() needs the value of Tracer(f64[3]), which is not known while tracing\nHERE\n"
     "  repair:   keep it an array; read it from the result of the compiled function"),
    (lambda x: np.asarray(x),
     (V,), TypeError,
     "NumPy needs the value of Tracer(f64[3]), which is not known while tracing\nHERE\n"
     "  expected: a function of NumPy that dispatches on this argument\n"
     "  repair:   leave out np.asarray and np.array (weft.numpy has both, for traced arrays), and "
     "write methods of plain arrays as functions: np.dot(w, x) for w.dot(x), np.take(w, i, "
     "axis=0) for w[i]"),
    (lambda x: np.arange(x[0]),
     (V,), TypeError,
     "NumPy needs the value of Tracer(f64[]), which is not known while tracing\nHERE\n"
     "  expected: a function of NumPy that dispatches on this argument\n"
     "  repair:   pass sizes and bounds to the compiled function as Python numbers; weft.numpy "
     "has np.asarray and np.array for traced values"),
    # ---- shapes that depend on values
    (lambda x: x[x > 0],
     (V,), TypeError,
     "x[mask] picks as many elements as the mask has True ones, which is not known while tracing"
     "\nHERE\n  expected: results whose shapes follow from shapes alone\n"
     "  repair:   use np.where(mask, x, 0), or give sums and means where=mask"),
    (lambda x: np.nonzero(x),
     (V,), TypeError,
     "the shape of the result of numpy.nonzero depends on values, which are not known while "
     "tracing\nHERE\n"
     "  repair:   use np.where(mask, x, 0), or give sums and means where=mask"),
    (lambda x: np.where(x > 0),
     (V,), TypeError,
     "np.where(mask) finds as many indices as the mask has True ones, which is not known while "
     "tracing\nHERE\n  repair:   use np.where(mask, x, y)"),
    (lambda x: np.repeat(x, x.astype(int)),
     (V,), TypeError,
     "the shape of the result of np.repeat depends on the counts, which are not known while "
     "tracing\nHERE\n  repair:   pass the counts as Python ints"),
    (lambda x: np.intersect1d(x, x),
     (V,), TypeError,
     "the shape of the result of numpy.intersect1d depends on values, which are not known while "
     "tracing\nHERE\n  repair:   use np.isin(x, y), which keeps the shape of x"),
    # ---- functions that are not there
    (lambda x: np.packbits(x > 0),
     (V,), TypeError,
     "numpy.packbits cannot be traced yet\nHERE\n"
     "  repair:   compute it outside the compiled function and pass the result in"),
    (lambda x: np.resize(x, 3),
     (V,), TypeError,
     "numpy.resize cannot be traced: it repeats or cuts by size\nHERE\n"
     "  repair:   use np.tile, np.reshape and slices"),
    (lambda x: np.put(x, 0, 1),
     (V,), TypeError,
     "np.put changes an argument, the caller's own array, which is not traced yet\nHERE\n"
     "  expected: a new array, bound to the name\n"
     "  repair:   write to a copy, or start with x = x.copy()"),
    (lambda x: np.add.at(x, 0, 1),
     (V,), TypeError,
     "np.add.at changes an argument, the caller's own array, which is not traced yet\nHERE\n"
     "  expected: a new array, bound to the name\n"
     "  repair:   write to a copy, or start with x = x.copy()"),
    (lambda x: np.arctan2.at(x.copy(), np.array([0, 0]), 1),
     (V,), TypeError,
     "np.arctan2.at with index arrays is not traced\nHERE\n"
     "  expected: np.add.at, np.multiply.at, np.maximum.at, np.minimum.at, np.subtract.at\n"
     "  repair:   where no place is met twice, x[i] = f(x[i]) says the same"),
    (lambda x: np.add.reduceat(x, [0]),
     (V,), TypeError,
     "np.add.reduceat cannot be traced yet\nHERE\n"
     "  repair:   write it with np.add.reduce, np.where or np.take"),
    (lambda x: np.add(x, 1, where=x > 0),
     (V,), TypeError,
     "np.add with where= and without out= leaves elements undefined\nHERE\n"
     "  repair:   give out=, or use np.where(mask, value, other)"),
    (lambda x: x.byteswap(),
     (V,), TypeError,
     "ndarray.byteswap cannot be traced yet\nHERE\n"
     "  repair:   call it on the result of the compiled function"),
    # ---- writes
    (lambda x: np.add(x, 1, out=OUTSIDE),
     (V,), TypeError,
     "out= writes into an array from outside the compiled function, which is not traced yet\nHERE\n"
     "  repair:   return the new values and assign them at the caller"),
    (lambda x: np.add(x, 1, out=x),
     (V,), TypeError,
     "out= changes an argument, the caller's own array, which is not traced yet\nHERE\n"
     "  expected: a new array, bound to the name\n"
     "  repair:   leave out= out and bind the result, or start with x = x.copy()"),
    (add_to_argument,
     (X,), TypeError,
     "x += y changes an argument, the caller's own array, which is not traced yet\nHERE: x += 1\n"
     "  expected: a new array, bound to the name\n"
     "  repair:   write x = x + y instead of x += y, or start with x = x.copy()"),
    (add_to_view,
     (X,), TypeError,
     "x *= y changes an array through a view of it, or under one, which is not traced yet\n"
     "HERE: row *= 2\n  expected: a new array, bound to the name\n"
     "  repair:   write x = x * y instead of x *= y, or copy() the view"),
    (add_below_view,
     (X,), TypeError,
     "x -= y changes an array through a view of it, or under one, which is not traced yet\n"
     "HERE: y -= 1\n  expected: a new array, bound to the name\n"
     "  repair:   write x = x - y instead of x -= y, or copy() the view"),
    (add_to_global,
     (V,), TypeError,
     "out= writes into an array from outside the compiled function, which is not traced yet\n"
     "HERE: OUTSIDE += x\n"
     "  repair:   return the new values and assign them at the caller"),
    (write_to_global,
     (V,), TypeError,
     "the function writes into an array from outside itself, f64[3], which is not traced yet\n"
     "HERE: y = x + OUTSIDE\n"
     "  repair:   return the new values and assign them at the caller"),
    (write,
     (X,), TypeError,
     "writing into a traced array (x[...] = v) is not traced yet\nHERE: y[0] = 1\n"
     "  repair:   build the new array instead: x = np.where(mask, v, x), or np.concatenate or "
     "np.stack of its parts"),
    (sort_argument,
     (V,), TypeError,
     "x.sort() changes an argument, the caller's own array, which is not traced yet\n"
     "HERE: x.sort()\n  expected: a new array, bound to the name\n"
     "  repair:   write x = np.sort(x), or start with x = x.copy()"),
]


def _here(fn: Callable[..., Any], text: str) -> str:
    """`HERE` as the line of the lambda, or the line of the function that the text shows."""
    first = fn.__code__.co_firstlineno
    line = first
    if "HERE: " in text:
        shown = text.split("HERE: ")[1].splitlines()[0]
        line = next(n for n in range(first, first + 9)
                    if linecache.getline(__file__, n).strip() == shown)
        text = text.replace(f": {shown}", "")
    source = linecache.getline(__file__, line).strip()
    return text.replace("HERE", f"  at {Path(__file__).name}:{line}: {source}")


@pytest.mark.parametrize(("fn", "args", "builtin", "text"), ERRORS,
                         ids=[e[3].splitlines()[0] for e in ERRORS])
def test_text(fn: Callable[..., Any], args: tuple[Any, ...], builtin: type[Exception],
              text: str) -> None:
    with pytest.raises(builtin) as caught:
        trace(fn, *args)
    assert str(caught.value) == _here(fn, text)


def test_escaped() -> None:
    kept: list[Any] = []

    def keep(x: Any) -> Any:
        kept.append(x * 2)
        return x
    trace(keep, V)
    line = keep.__code__.co_firstlineno + 1
    for use in (lambda: kept[0] + 1, lambda: np.sum(kept[0]), lambda: kept[0][0],
                lambda: trace(lambda x: x + kept[0], V)):
        with pytest.raises(RuntimeError) as caught:
            use()
        assert str(caught.value).splitlines()[0] == (
            "Tracer(f64[3]) of @f was used after the tracing of that function had ended; it was "
            f"made at test_errors.py:{line}: kept.append(x * 2)")


def test_close_names() -> None:
    from weft.frontend.tracer import unsupported_function

    def nanmaxx() -> None:
        """Stands for a function that NumPy does not have."""
    assert "cannot be traced yet (close to it: nanmax, nanargmax, amax)" in str(
        unsupported_function(nanmaxx))
