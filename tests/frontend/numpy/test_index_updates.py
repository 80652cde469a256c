"""Functional updates, and NumPy's functions that write at indices, against NumPy itself."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import weft
from tests.frontend.numpy.same_as_numpy import against_numpy
from weft import errors

X = np.arange(24.0).reshape(2, 3, 4)
DEVICES = ("cpu", "reference")
AT = np.array([1, 0, 1, -1])
M = np.array([True, False, True])


def jitted(fn: Any, *args: Any, device: str = "cpu") -> Any:
    return weft.jit(fn, device=device)(*args)


INDICES = {
    "int": lambda i: 1, "negative": lambda i: -1, "ints": lambda i: (0, -1, 2),
    "slice": lambda i: slice(1, None), "part": lambda i: (slice(None), slice(1, 3)),
    "stride": lambda i: (0, slice(None, None, 2)),
    "turned": lambda i: (slice(None), slice(None, None, -1)),
    "turned stride": lambda i: (Ellipsis, slice(3, 0, -2)), "all": lambda i: Ellipsis,
    "nothing": lambda i: slice(2, 2), "new": lambda i: (None, 0, Ellipsis, None),
    "traced": lambda i: i[0], "traced ints": lambda i: (i[0], 1, i[3]),
    "array": lambda i: i, "middle": lambda i: (slice(None), i[:3]),
    "pair": lambda i: (i, i), "apart": lambda i: (i, slice(None), i),
    "int and array": lambda i: (0, slice(None), i), "array and int": lambda i: (i, 2),
    "slice and array": lambda i: (slice(None), slice(1, None), i),
    "stride and array": lambda i: (i, slice(None, None, 2)),
    "list": lambda i: [1, 0, 1], "grid": lambda i: (i[:2, None], i[None, :3]),
    "mask": lambda i: (slice(None), M), "mask and int": lambda i: (1, M, 0),
    "whole mask": lambda i: np.array([[True, False, True], [False] * 3]),
    "flag": lambda i: True, "new array": lambda i: (None, i),
}
COMBINE = {"set": None, "add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def numpy_update(x: Any, index: Any, value: Any, combine: str) -> Any:
    out = x.copy()
    if COMBINE[combine] is None:
        out[index] = value
    else:
        COMBINE[combine].at(out, index, value)
    return out


@pytest.mark.parametrize("name", INDICES)
def test_index_update(name: str) -> None:
    """All kinds of indices, and values that fill the place, repeat, or are single."""
    index = INDICES[name](AT)
    shape = X[index].shape
    values = [np.arange(1.0, np.prod(shape) + 1).reshape(shape), 7.0]
    if shape and shape[-1]:
        values.append(np.arange(shape[-1]) - 1.5)
    for value, combine in itertools.product(values, COMBINE):
        def fn(x: Any, i: Any, v: Any, combine: str = combine) -> Any:
            return weft.index_update(x, INDICES[name](i), v, combine)
        want = numpy_update(X, index, value, combine)
        before = X.copy()
        got = jitted(fn, X, AT, value)
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(X, before)
        np.testing.assert_array_equal(weft.index_update(X, index, value, combine), want)


def test_other_element_types() -> None:
    for dtype, value in (("i1", 3), ("u2", 9), ("f2", 1.5), ("?", True), ("c8", 1 + 2j)):
        x = np.ones((4, 3), dtype)
        for combine in COMBINE if dtype != "?" else ("set",):
            want = numpy_update(x, AT, value, combine)
            got = jitted(lambda x, i, c=combine, v=value: weft.index_update(x, i, v, c), x, AT)
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)


def test_traced_masks() -> None:
    for value in (7.0, np.arange(4.0)):
        for mask in (lambda x: x[..., 0] > 5,):
            want = X.copy()
            want[mask(X)] = value
            np.testing.assert_array_equal(
                jitted(lambda x, v: weft.index_update(x, x[..., 0] > 5, v), X, value), want)
    np.testing.assert_array_equal(
        jitted(lambda x: weft.index_update(x, x > 5, 1.0, "add"), X), np.where(X > 5, X + 1, X))


def test_an_argument_is_not_written() -> None:
    x = np.zeros(4)
    x.flags.writeable = False
    out = jitted(lambda x, i: weft.index_update(x, i, 1.0, "add"), x, AT)
    assert out.tolist() == [1, 2, 0, 1] and not x.any()


ERRORS = [
    (lambda x, i: weft.index_update(x, 2, 0.0), IndexError,
     "index 2 is out of bounds for axis 0 with size 2"),
    (lambda x, i: weft.index_update(x, i + 7, 0.0), IndexError,
     "index 8 is out of bounds for axis 0 with size 2"),
    (lambda x, i: weft.index_update(x, 0, np.ones(3)), ValueError,
     "could not broadcast input array from shape (3,) into shape (3,4)"),
    (lambda x, i: weft.index_update(x, (i, 0), np.ones(3)), ValueError,
     "shape mismatch: value array of shape (3,) could not be broadcast to indexing result of "
     "shape (4,4)"),
    (lambda x, i: weft.index_update(x, 0, 0.0, "sub"), TypeError,
     "weft.index_update got combine='sub'"),
    (lambda x, i: weft.index_update(x, x > 0, np.ones(23)), ValueError,
     "as many values as a traced mask has True ones, shape (23,)"),
    (lambda x, i: weft.dynamic_slice(x, (i[0], 0), (1, 1)), ValueError,
     "weft.dynamic_slice got 2 start(s) and a part of shape (1, 1) for an array of shape "
     "(2, 3, 4)"),
    (lambda x, i: weft.dynamic_slice(x, (x[0, 0, 0], 0, 0), (1, 1, 1)), TypeError,
     "a start is float64 of shape ()"),
]


@pytest.mark.parametrize("fn, kind, text", ERRORS, ids=[t for *_, t in ERRORS])
def test_errors(fn: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        jitted(fn, X, AT)
    error = caught.value
    assert isinstance(error, errors.WeftError)
    assert error.what == text
    assert error.origin is not None and error.origin.file.endswith("test_index_updates.py")


def test_dynamic_slices() -> None:
    starts = [(0, 1, 2), (1, -1, -1), (-9, 9, 0), (1, 2, 3)]
    for s, sizes in itertools.product(starts, [(1, 2, 2), (2, 3, 4), (1, 0, 4)]):
        want = weft.dynamic_slice(X, s, sizes)
        got = jitted(lambda x, a, b, c, n=sizes: weft.dynamic_slice(x, (a, b, c), n), X, *s)
        np.testing.assert_array_equal(got, want)
        update = -np.ones(sizes)
        want = weft.dynamic_update_slice(X, update, s)
        got = jitted(lambda x, u, a, b, c: weft.dynamic_update_slice(x, u, (a, b, c)), X, update,
                     *s)
        np.testing.assert_array_equal(got, want)


# ---- NumPy's own functions; y is made inside

WRITES = """
np.put(y, [1, -1, 0], [9, 8, 7])
np.put(y, i, v[:3])
np.put(y, i, 5)
np.put(y, [1, 99], [3.0, 4.0], mode='clip')
np.put(y, [1, -99], [3.0, 4.0], mode='wrap')
np.put(y, [1, 99], 3.0)
np.put(y, i + 99, 3.0)
y.put([0, 1], [2.5, 3.5])
np.putmask(y, y > 2, v)
np.putmask(y, y > 2, 1)
np.putmask(y, y > 2, y * 10)
np.putmask(y, v > 2, 1)
np.place(y, y % 2 == 0, [1, 2, 3])
np.place(y, y > 100, [1])
np.place(y, y > 2, [])
np.put_along_axis(y, np.argsort(-y, axis=1)[:, :2], 99, axis=1)
np.put_along_axis(y, i[None, :] % 3, v[None], axis=0)
np.put_along_axis(y, i, 7, axis=None)
np.put_along_axis(y, i, 7, axis=1)
np.put_along_axis(y, i[None, :1] + 9, 7, axis=1)
np.fill_diagonal(y, 5)
np.fill_diagonal(y, [1, 2, 3])
np.fill_diagonal(y.T.copy(), 1, wrap=True)
np.add.at(y, i % 3, 1)
np.add.at(y, (i % 3, i), v)
np.add.at(y, (slice(None), i), 2)
np.add.at(y, 1, v)
np.add.at(y, slice(0, 2), 1)
np.subtract.at(y, i % 3, v)
np.multiply.at(y, i % 3, v)
np.maximum.at(y, (0, i), v)
np.minimum.at(y, (i % 3, 1), v)
np.negative.at(y, 1)
np.floor_divide.at(y, (slice(None), 1), 4)
np.power.at(y, 0, 2)
np.add.at(y, i + 9, 1)
"""


@pytest.mark.parametrize("dtype", ["f8", "i8", "f4"])
@pytest.mark.parametrize("line", WRITES.strip().splitlines())
def test_writes(line: str, dtype: str) -> None:
    scope: dict[str, Any] = {"np": np}
    exec(f"def fn(x, v, i):\n    y = x * 1\n    {line}\n    return y", scope)
    x = np.arange(12).reshape(3, 4).astype(dtype)
    v = np.array([4, -1, 2, 3]).astype(dtype)
    for device in DEVICES:
        against_numpy(lambda fn, *args, d=device: jitted(fn, *args, device=d), scope["fn"],
                      x, v, AT)


COUNTS = """
np.bincount(i % 3, minlength=3)
np.bincount(i % 3, minlength=9)
np.bincount(i % 3, weights=v, minlength=5)
np.bincount(i % 3, v > 0, 4)
np.histogram(x, bins=4)
np.histogram(x, bins=4, range=(1, 9))
np.histogram(x, bins=[0.0, 1.0, 5.0, 11.0])
np.histogram(x, bins=[3, 3, 5])
np.histogram(x, weights=x * 2)
np.histogram(v, bins=3, density=True)
np.histogram(i, bins=4)
np.histogram(i, bins=[-1, 0, 2])
np.histogram2d(v, v * v, bins=3)
np.histogram2d(v, v * v, bins=[2, 3], range=[[-1, 4], [0, 9]], weights=v)
np.histogram2d(v, v * v, bins=[0.0, 2.0, 9.0], density=True)
np.histogramdd(x.reshape(4, 3), bins=2)
np.histogramdd(x.reshape(4, 3), bins=(2, 3, 1), range=[(0, 9), None, (0, 11)])
np.histogramdd((v, v), bins=3, density=True)
"""


@pytest.mark.parametrize("line", COUNTS.strip().splitlines())
def test_counts(line: str) -> None:
    scope: dict[str, Any] = {"np": np}
    exec(f"def fn(x, v, i):\n    return {line}", scope)
    x = np.arange(12.0).reshape(3, 4)
    v = np.array([4.0, -1.0, 2.0, 3.0])
    for device in DEVICES:
        against_numpy(lambda fn, *args, d=device: jitted(fn, *args, device=d), scope["fn"],
                      x, v, AT)


def test_histograms_leave_nan_out() -> None:
    x = np.array([0.0, np.nan, 1.0, 2.0, -1.0, 9.0])
    np.testing.assert_array_equal(jitted(lambda x: np.histogram(x, 4, (0, 2))[0], x), [1, 0, 1, 1])


def test_bincount_errors() -> None:
    with pytest.raises(errors.WeftError, match=r"the length of np\.bincount\(x\)"):
        jitted(np.bincount, np.array([1, 2]))
    for bad in ([1, 5], [1, -1]):
        with pytest.raises(IndexError, match="out of bounds for axis 0 with size 3"):
            jitted(lambda x: np.bincount(x, minlength=3), np.array(bad))


def test_at_in_another_type() -> None:
    def fn(x: Any, i: Any) -> Any:
        y = x * 1
        np.add.at(y, i % 3, np.float64(0.1))
        return y
    with pytest.raises(errors.UnsupportedError) as caught:
        jitted(fn, np.ones(3, np.float32), AT)
    assert caught.value.what == "np.add.at of float32 values computes in float64 and is not traced"
    assert caught.value.repair == "convert the operand: values.astype('float32')"


def test_at_of_an_argument() -> None:
    with pytest.raises(errors.UnsupportedError, match=r"np\.add\.at changes an argument"):
        jitted(lambda x, i: np.add.at(x, i, 1), np.ones(3), AT % 3)
