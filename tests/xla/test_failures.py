"""What fails while a program runs is raised when that is known, as NumPy would, at the user's line.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import weft
from weft.devices.registry import get_device

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'weft[tpu]'")
PENDING = importlib.import_module("weft.devices.xla.pending").PENDING
ROOT = Path(__file__).parents[2]
X = np.arange(12.0).reshape(4, 3)


def message(f: Callable[..., Any], *args: Any, kind: type[Exception] = IndexError) -> str:
    """What a call on XLA raises, with LINE for the number of the line."""
    with pytest.raises(kind) as caught:
        weft.block_until_ready(weft.jit(f, device="xla")(*args))
    return re.sub(r"(test_failures\.py:)\d+", r"\1LINE", str(caught.value))


def picked(x: Any, i: Any) -> Any:
    return x[i] + 1


def test_index() -> None:
    """The first index that is out of bounds is named."""
    assert message(picked, X, np.array([0, 7, 9])) == (
        "index 7 is out of bounds for axis 0 with size 4\n"
        "  at test_failures.py:LINE: return x[i] + 1")
    assert message(picked, X, np.array(-5)).startswith("index -5 is out of bounds")


def test_good_indices_after_bad_ones() -> None:
    """A failure is of one call."""
    f = weft.jit(picked, device="xla")
    with pytest.raises(IndexError):
        weft.block_until_ready(f(X, np.array([4])))
    np.testing.assert_array_equal(np.asarray(f(X, np.array([-1]))), X[[-1]] + 1)


def test_written_index() -> None:
    """Writes check too."""
    def f(x: Any, i: Any) -> Any:
        return weft.index_update(x, i, 0.0)

    assert message(f, X, np.array([1, 4])).startswith(
        "index 4 is out of bounds for axis 0 with size 4\n  at test_failures.py:LINE: return weft")


def test_first_of_two() -> None:
    """Of several, the one that comes first in the program."""
    def f(x: Any, i: Any, j: Any) -> Any:
        return x[i].sum() + x[:, j].sum()

    assert message(f, X, np.array([0]), np.array([3])).startswith("index 3 is out of bounds for "
                                                                  "axis 1 with size 3")
    assert message(f, X, np.array([8]), np.array([3])).startswith("index 8 ")


def test_in_a_loop() -> None:
    """The status goes through loops; the first turn that failed is told."""
    f = weft.jit(lambda x, n: weft.fori_loop(0, n, lambda i, t: t + x[i, 0], 0.0), device="xla")
    assert float(f(X, np.int64(4))) == X[:, 0].sum()
    with pytest.raises(IndexError, match="index 4 is out of bounds"):
        weft.block_until_ready(f(X, np.int64(6)))


def test_in_a_branch() -> None:
    """Only the branch that is taken can fail."""
    def f(x: Any, i: Any) -> Any:
        return weft.cond(i > 100, lambda: x[i, 0], lambda: 0.0)

    assert float(weft.jit(f, device="xla")(X, np.int64(50))) == 0
    assert message(f, X, np.int64(101)).startswith("index 101 is out of bounds")


def test_in_a_scan() -> None:
    """Stacked results come with the status."""
    def f(x: Any, at: Any) -> Any:
        return weft.scan(lambda c, i: (c + x[i, 1], x[i, 2]), 0.0, at)

    f = weft.jit(f, device="xla")
    total, rows = f(X, np.array([0, 3, 1]))
    assert float(total) == X[[0, 3, 1], 1].sum()
    np.testing.assert_array_equal(np.asarray(rows), X[[0, 3, 1], 2])
    with pytest.raises(IndexError, match="index -9 is out of bounds for axis 0 with size 4"):
        weft.block_until_ready(f(X, np.array([0, -9, 7])))


def test_exponent() -> None:
    """Integers to negative powers."""
    def f(x: Any, n: Any) -> Any:
        return x ** n

    assert message(f, np.arange(3), np.array([1, -2, 0]), kind=ValueError) == (
        "Integers to negative integer powers are not allowed.\n"
        "  at test_failures.py:LINE: return x ** n")
    np.testing.assert_array_equal(np.asarray(weft.jit(f, device="xla")(
        np.arange(-3, 3), np.arange(6))), np.arange(-3, 3) ** np.arange(6))


@pytest.mark.parametrize(("f", "text"), [
    (lambda x: np.linalg.solve(x, x), "Singular matrix"),
    (lambda x: np.linalg.inv(x), "Singular matrix"),
    (lambda x: np.linalg.cholesky(-x - np.eye(3)), "Matrix is not positive definite"),
    (lambda x: np.linalg.eigvals(x * np.inf), "Array must not contain infs or NaNs"),
], ids=["solve", "inv", "cholesky", "eigvals"])
def test_linear_algebra(f: Callable[..., Any], text: str) -> None:
    """What LAPACK would report."""
    assert message(f, np.ones((3, 3)), kind=np.linalg.LinAlgError).startswith(text)


def test_what_cannot_fail_is_not_waited_for() -> None:
    """A program without checks returns no status."""
    plain = weft.jit(lambda x: x * 2, device="xla").lower(X).text()
    checked = weft.jit(picked, device="xla").lower(X, np.array([0])).text()
    assert "tensor<2xi64>" in checked and "tensor<2xi64>" not in plain


# ---- when it is raised

N = 1500


def slow(w: Any, i: Any) -> Any:
    """Some tenths of a second before the index is looked up."""
    for _ in range(6):
        w = w @ w
    return w[i]


def begun(i: int) -> Any:
    """A call that takes a while, and whose index is out of bounds if i is."""
    w = jax.numpy.ones((N, N), np.float32) * np.float32(1 / N)
    f = weft.jit(slow, device="xla").compile(w, np.array(i))
    return f(w, np.array(i))


def settle() -> None:
    """Wait without asking weft for anything."""
    while not all(status.is_ready() for status, _ in PENDING.waiting):
        time.sleep(1e-3)


def test_a_call_does_not_wait() -> None:
    """The result is there before it is computed; the error comes where the host waits for it."""
    result = begun(N)
    assert result.shape == (N,) and not result.is_ready()
    with pytest.raises(IndexError) as caught:
        weft.block_until_ready(result)
    assert re.sub(r":[0-9]+: ", ":LINE: ", str(caught.value)) == (
        f"index {N} is out of bounds for axis 0 with size {N}\n"
        "  at test_failures.py:LINE: return w[i]")
    weft.block_until_ready(result)          # it is told once
    weft.block_until_ready(begun(N - 1))


def test_raised_by_the_next_call() -> None:
    """Of another program too, on its first call, its second and those that go the short way."""
    double = weft.jit(lambda x: x * 2, device="xla")
    x = jax.numpy.ones(3)
    for _ in range(4):
        begun(N)
        settle()
        with pytest.raises(IndexError, match=f"index {N} is out of bounds"):
            double(x)
        assert np.asarray(double(x)).tolist() == [2, 2, 2]


def test_raised_where_a_number_is_read() -> None:
    """Whatever waits for the device looks at what was checked, in the order of the calls."""
    begun(N + 1)
    begun(N)
    memory = get_device("xla").memory
    for i in (N + 1, N):
        with pytest.raises(IndexError, match=f"index {i} is out of bounds"):
            memory.get(memory.put(X))
    np.testing.assert_array_equal(memory.get(memory.put(X)), X)


def test_raised_at_the_end() -> None:
    """Where no call came after it, the error is printed when Python ends."""
    code = ("import jax, numpy as np, weft\n"
            "from tests.xla.test_failures import N, begun\n"
            "jax.block_until_ready(begun(N))\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert f"index {N} is out of bounds for axis 0 with size {N}" in done.stderr
