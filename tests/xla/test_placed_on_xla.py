"""Parts on XLA and on the CPU in one function."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import weft
from weft.compiler.ops.registry import OPS, OUTSIDE

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'weft[tpu]'")
X = np.linspace(-1.0, 2.0, 12, dtype=np.float32).reshape(3, 4)
W = np.linspace(0.5, 1.5, 16, dtype=np.float32).reshape(4, 4)


def mixed(x: Any, w: Any) -> Any:
    p = np.sin(x)
    with weft.device("xla"):
        a = np.exp(p) @ w
        a = a - a.sum(axis=0)
    with weft.device("reference"):
        b = np.tanh(a)
    return (a * np.cos(x) + b).sum()


def plain(x: Any, w: Any) -> Any:
    a = np.exp(np.sin(x)) @ w
    a = a - a.sum(axis=0)
    return (a * np.cos(x) + np.tanh(a)).sum()


@pytest.mark.parametrize("transform", [
    lambda f: f, lambda f: weft.grad(f, argnums=(0, 1)),
    lambda f: lambda x, w: weft.jvp(f, (x, w), (w[:3], w)),
    lambda f: lambda x, w: weft.vmap(weft.grad(f), in_axes=(0, None))(np.stack([x, x + 1]), w),
    lambda f: weft.grad(lambda x, w: weft.checkpoint(f, policy="products")(x, w)),
])
def test_values(transform: Any) -> None:
    got = weft.jit(transform(mixed))(X, W)
    want = weft.jit(transform(plain))(X, W)
    got, want = (v if isinstance(v, tuple) else (v,) for v in (got, want))
    for a, b in zip(got, want, strict=True):
        assert type(a) is type(b)
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("home", ["cpu", "xla"])
def test_loops_with_parts_on_xla(home: str) -> None:
    """Donated from turn to turn, without a word of warning."""
    def f(x: Any, w: Any, device: Any = weft.device) -> Any:
        def body(c: Any, v: Any) -> Any:
            a, n = c
            with device("xla"):
                a = np.tanh(a @ w)
            with device("cpu"):
                n = n + np.cos(v)
            return (a, n), (a.sum(axis=1), v * 2)
        return weft.scan(body, (x, x[0]), x)
    want = weft.jit(lambda x, w: f(x, w, lambda name: nullcontext()))(X, W)
    g = weft.jit(f, device=home)
    assert "turn by turn" in g.lower(X, W).text("schedule")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            (a, n), ys = g(X, W)
            for got, due in zip((a, n, *ys), (*want[0], *want[1]), strict=True):
                np.testing.assert_allclose(np.asarray(got), due, rtol=1e-5)


def test_what_is_moved_to_xla_is_donated_there() -> None:
    def f(x: Any) -> Any:
        with weft.device("xla"):
            y = np.sin(x)
        return y * x
    g = weft.jit(f)
    assert [p.program.donated for p in g.lower(X).lowered.parts] == [(0,), (0,)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(12):
            np.testing.assert_allclose(g(X), np.sin(X) * X, rtol=1e-6)


def test_results_on_xla() -> None:
    out = weft.jit(mixed, device="xla")(X, W)
    assert isinstance(out, jax.Array)
    np.testing.assert_allclose(out, plain(X, W), rtol=1e-5)


def test_text() -> None:
    lowered = weft.jit(mixed).lower(X, W)
    assert "move %dot_general" not in lowered.text("schedule")
    assert "# xla.0\n" in lowered.text("stablehlo") and "exponential" in lowered.text("stablehlo")
    assert "# cpu.0\n" in lowered.text("kernels")


@pytest.fixture
def meeting() -> Iterator[Any]:
    """An op that returns once two threads are in it."""
    barrier = threading.Barrier(2)

    def meet(x: Any) -> Any:
        barrier.wait(60)
        return np.asarray(x) * 2
    yield weft.custom_op(meet, name="test_meet_xla")
    del OPS["test_meet_xla"]
    OUTSIDE.discard("test_meet_xla")


def test_overlap(meeting: Any) -> None:
    """The CPU and XLA are in the op at once, or neither would ever leave it."""
    def f(x: Any) -> Any:
        with weft.device("xla"):
            a = meeting(x)
        return a + meeting(x + 1)
    g = weft.jit(f)
    big = np.ones((200, 1000), np.float32)
    for _ in range(3):
        np.testing.assert_allclose(g(big), 6)
