"""Parts on XLA and on the CPU in one function."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
