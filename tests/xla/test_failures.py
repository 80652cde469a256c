"""What fails while a program runs is raised by the call, as NumPy would, at the user's line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import weft

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'weft[tpu]'")
X = np.arange(12.0).reshape(4, 3)


def message(f: Callable[..., Any], *args: Any, kind: type[Exception] = IndexError) -> str:
    """What a call on XLA raises, with LINE for the number of the line."""
    with pytest.raises(kind) as caught:
        weft.jit(f, device="xla")(*args)
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
        f(X, np.array([4]))
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
        f(X, np.int64(6))


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
        f(X, np.array([0, -9, 7]))


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
