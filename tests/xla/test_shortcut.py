"""Calls that are like the last one go a shorter way: with the same answers, and not if they differ.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import weft

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'weft[tpu]'")
jnp = jax.numpy
Pair = namedtuple("Pair", "a b")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
SINGLE = np.float32(2)


def shortcut(f: Any) -> Any:
    """The short way of a function, if it has one now."""
    return f._shortcut.call


def settled(f: Any, *args: Any) -> Any:
    """The result of a call that goes the short way."""
    for _ in range(40):
        if shortcut(f) is not None:
            break
        f(*args)
    assert shortcut(f) is not None
    return f(*args)


CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "one": (lambda x: x * 2, (jnp.asarray(X),)),
    "two results": (lambda x, y: (x + y, x - y), (jnp.asarray(X), jnp.asarray(X))),
    "one in a list": (lambda x: [x + 1], (jnp.asarray(X),)),
    "numpy": (lambda x: np.tanh(x), (X,)),
    "numpy in 64 bits": (lambda x: x / 3, (X.astype(np.float64),)),
    "strided": (lambda x: x + 1, (X[::-1, ::2],)),
    "large": (lambda x: x + 1, (np.ones((300, 300)),)),
    "mixed": (lambda x, y: x @ y.T, (jnp.asarray(X), X)),
    "numbers": (lambda x, f, n, b, c: (x * f + n, x * b, c * x),
                (jnp.asarray(X), 0.1, 3, True, 1j)),
    "a number alone": (lambda f: np.sin(f), (0.5,)),
    "a scalar of NumPy's": (lambda x, s: x * s, (jnp.asarray(X), SINGLE)),
    "halves": (lambda x: x * 3, (X.astype(np.float16),)),
    "dict": (lambda p, x: {"w": p["w"] * x, "b": [p["b"][0] + 1, (x - 1, p["b"][1] + x)]},
             ({"w": jnp.asarray(X), "b": (jnp.ones(3), X)}, X)),
    "namedtuple": (lambda p: Pair(p.b + 1, {"a": -p.a}), (Pair(jnp.ones(2), X),)),
    "none": (lambda p: p[0] + 1, ((jnp.ones(2), None),)),
    "no arrays": (lambda p: (), ([],)),
}


@pytest.mark.parametrize("name", CALLS)
def test_same_answers(name: str) -> None:
    """As the first call's, in the same containers and types."""
    fn, args = CALLS[name]
    f = weft.jit(fn, device="xla")
    first = f(*args)
    again = settled(f, *args)
    assert jax.tree.structure(first) == jax.tree.structure(again)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again)):
        assert type(a) is type(b) and a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert len(f.history()) == 1


X64 = X.astype(np.float64)
OTHERS: dict[str, tuple[Any, ...]] = {
    "shape": (jnp.ones((3, 3)), 2.0), "rank": (jnp.ones(3), 2.0), "int": (jnp.asarray(X), 2),
    "dtype": (jnp.asarray(X, np.int32), 2.0), "numpy": (X, 2.0), "numpy in 64 bits": (X64, 2.0),
    "array for a number": (jnp.asarray(X), jnp.float32(2)), "big-endian": (X.astype(">f4"), 2.0),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("given", ["jax", "numpy", "numpy in 64 bits"])
def test_others_do_not_fit(name: str, given: str) -> None:
    """They are compiled for, as if there was no short way, and so is what came before."""
    known = {"jax": jnp.asarray(X), "numpy": X, "numpy in 64 bits": X64}[given]
    f = weft.jit(lambda x, y: x * y + 1, device="xla")
    for args in ((known, 2.0), OTHERS[name], (known, 3.0), OTHERS[name]):
        got = settled(f, known, 2.0) if args[1] == 2.0 and args[0] is known else f(*args)
        want = np.multiply(*map(np.asarray, args)) + 1 if not isinstance(args[1], (int, float)) \
            else np.asarray(args[0]) * args[1] + 1
        assert got.dtype == want.dtype.newbyteorder("=")
        np.testing.assert_array_equal(np.asarray(got), want)


def test_arguments_may_be_changed_after_the_call() -> None:
    """JAX computes later, and would read NumPy's arrays then."""
    n = 1200
    w = jnp.ones((n, n), np.float32) / n
    f = weft.jit(lambda x, w: w @ w @ w @ w + x, device="xla")
    for _ in range(4):
        x = np.ones((n, n), np.float32)
        out = f(x, w)
        x[...] = 7
        assert abs(float(out[0, 0]) - 1 - 1 / n) < 1e-3


def test_functions_whose_calls_vary() -> None:
    """The short way is taken after longer and longer runs of equal calls."""
    f = weft.jit(lambda x: x + 1, device="xla")
    a, b = jnp.ones(3), jnp.ones(4)
    missed = 0
    for _ in range(200):
        for x in (a, b):
            missed += shortcut(f) is not None
            assert f(x).shape == x.shape
    assert missed < 12


def test_containers_that_differ() -> None:
    """Keys, order, lengths and classes count."""
    def f(p: Any) -> Any:
        return {k: v if isinstance(v, list) else v * 2 for k, v in p.items()} if isinstance(
            p, dict) else p

    f = weft.jit(f, device="xla")
    one = jnp.ones(2)
    settled(f, {"a": one, "b": one})
    for p in ({"a": one, "c": one}, {"b": one, "a": one}, {"a": one}, {"a": [one], "b": one},
              (one, one), [one, one], [one]):
        out = f(p)
        assert type(out) is type(p) and (not isinstance(p, dict) or [*out] == [*p])
        assert jax.tree.structure(out) == jax.tree.structure(p)


def test_what_is_read_from_outside_counts() -> None:
    """Globals and closed-over values are looked at on the short way too."""
    scale = 2.0
    f = weft.jit(lambda x: x * scale, device="xla")
    for _ in range(3):
        assert float(f(jnp.ones(1))[0]) == 2
    assert shortcut(f) is not None
    scale = 3.0
    assert float(f(jnp.ones(1))[0]) == 3 and shortcut(f) is None


def test_donated() -> None:
    """Arrays are used up as before; the same one given twice is copied."""
    f = weft.jit(lambda x, y: (x + y, y * 2), device="xla", donate="x")
    y = jnp.ones(500)
    x = y + 0
    for k in range(5):
        given = x
        x, _ = f(x, y)
        assert given.is_deleted() and float(x[0]) == k + 2
    assert shortcut(f) is not None
    out, _ = f(y, y)
    assert float(out[0]) == 2 and not y.is_deleted()


def test_functions_that_name_no_device() -> None:
    """They follow their arguments, back to the CPU too."""
    f = weft.jit(lambda x: x + 1)
    there = settled(f, jnp.asarray(X))
    assert isinstance(there, jax.Array)
    assert type(f(X)) is np.ndarray and isinstance(f(jnp.asarray(X)), jax.Array)
    with weft.default_device("xla"):
        for _ in range(4):
            assert isinstance(f(X), jax.Array)
    assert type(f(X)) is np.ndarray


def test_keywords() -> None:
    """Arguments given by name take the same way."""
    f = weft.jit(lambda x, y: x - y, device="xla")
    settled(f, jnp.ones(2), jnp.zeros(2))
    assert np.asarray(f(y=jnp.ones(2), x=jnp.zeros(2))).tolist() == [-1, -1]


def test_inside_of_jaxs_own_transforms() -> None:
    """JAX's tracers are refused as before."""
    f = weft.jit(lambda x: x * 2, device="xla")
    settled(f, jnp.ones(2))
    with pytest.raises(Exception, match=r"(?i)tracer|argument 'x'"):
        jax.jit(lambda x: f(x))(jnp.ones(2))


def test_arguments_given_back() -> None:
    """A result that is an argument is that very array, or one on the device: no short way."""
    f = weft.jit(lambda x, y: (x, y + 1), device="xla")
    a = jnp.ones(3)
    for _ in range(4):
        assert f(a, X)[0] is a and isinstance(f(X, a)[0], jax.Array)
    assert shortcut(f) is None


def test_failing_programs() -> None:
    """What they check is looked at on the short way too."""
    f = weft.jit(lambda x, i: x[i], device="xla")
    x = jnp.asarray(X)
    settled(f, x, np.array([0]))
    with pytest.raises(IndexError, match="index 5 is out of bounds"):
        weft.block_until_ready(f(x, np.array([5])))
    np.testing.assert_array_equal(np.asarray(f(x, np.array([1]))), X[[1]])
