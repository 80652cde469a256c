"""`donate`: results written over arguments that are not needed after the call."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import weft


def sgd(params: Any, slopes: Any) -> Any:
    return {k: params[k] - 0.5 * slopes[k] for k in params}


def tree(value: float, n: int = 5) -> dict[str, Any]:
    return {"w": np.full((n, 3), value, np.float32), "b": np.full(n, value)}


@pytest.mark.parametrize("n", [5, 60_000])
def test_results_are_the_arrays_that_were_passed(n: int) -> None:
    """Small and large ones, at the first call and through native code."""
    step = weft.jit(sgd, donate="params")
    params, slopes = tree(1.0, n), tree(1.0, n)
    for turn in range(1, 5):
        before = dict(params)
        params = step(params, slopes)
        assert params["w"] is before["w"] and params["b"] is before["b"]
        np.testing.assert_array_equal(params["w"], np.full((n, 3), 1 - 0.5 * turn, np.float32))
    np.testing.assert_array_equal(slopes["w"], tree(1.0, n)["w"])


def test_flat_arguments_go_through_native_entries() -> None:
    """Two donated arrays and one that is not."""
    step = weft.jit(lambda w, m, g: (w - (0.9 * m + g), 0.9 * m + g), donate=("w", "m"))
    w, m, g = (np.full(8, v) for v in (1.0, 2.0, 3.0))
    want_w, want_m = w.copy(), m.copy()
    for _ in range(5):
        want_m = 0.9 * want_m + g
        want_w = want_w - want_m
        new_w, new_m = step(w, m, g)
        assert new_w is w and new_m is m
        np.testing.assert_array_equal(w, want_w)
        np.testing.assert_array_equal(m, want_m)
    assert g.tolist() == [3.0] * 8


def test_what_cannot_be_overwritten_is_copied() -> None:
    """Read-only and strided arrays, and arrays passed twice, stay as they are."""
    step = weft.jit(lambda w, g: w + g, donate=["w"])
    g = np.ones(4)
    for _ in range(4):
        frozen = np.arange(4.0)
        frozen.flags.writeable = False
        out = step(frozen, g)
        assert out is not frozen and out.tolist() == [1, 2, 3, 4] and frozen[0] == 0
        strided = np.arange(8.0)[::-2]
        out = step(strided, g)
        assert out.tolist() == [8, 6, 4, 2] and strided.tolist() == [7, 5, 3, 1]
        out = step(g, g)
        assert out.tolist() == [2] * 4 and g.tolist() == [1] * 4
        whole = np.arange(8.0)
        out = step(whole[:4], whole[2:6])
        assert out.tolist() == [2, 4, 6, 8] and whole.tolist() == list(range(8))


def test_failures_are_told_as_ever() -> None:
    """An index out of bounds raises with the user's line; donation is no promise then."""
    step = weft.jit(lambda w, i: w + w[i], donate="w")
    w = np.arange(4.0)
    for _ in range(3):
        w = step(w, np.array([0, 1, 2, 3]))
    with pytest.raises(IndexError, match="index 9 is out of bounds for axis 0 with size 4"):
        step(w, np.array([0, 1, 2, 9]))


def test_a_training_step_reuses_its_arguments() -> None:
    """Forward, backward and update of a small network; the same as without donation."""
    def loss(p: Any, x: Any, y: Any) -> Any:
        return ((np.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] - y) ** 2).mean()

    def step(p: Any, m: Any, x: Any, y: Any) -> Any:
        value, g = weft.value_and_grad(loss)(p, x, y)
        m = {k: 0.9 * m[k] + g[k] for k in p}
        return value, {k: p[k] - 0.1 * m[k] for k in p}, m

    rng = np.random.default_rng(0)
    p = {"w1": rng.standard_normal((3, 8)), "b1": np.zeros(8), "w2": rng.standard_normal(8)}
    m = {k: np.zeros_like(v) for k, v in p.items()}
    x, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    plain, donating = weft.jit(step), weft.jit(step, donate=("p", "m"))
    q, n = {k: v.copy() for k, v in p.items()}, {k: v.copy() for k, v in m.items()}
    for _ in range(5):
        a, p, m = plain(p, m, x, y)
        held = dict(q)
        b, q, n = donating(q, n, x, y)
        assert a == b and all(q[k] is held[k] for k in q)
    for k in p:
        np.testing.assert_array_equal(p[k], q[k])


@pytest.mark.parametrize(("m", "k", "n"), [
    (1, 3, 1), (5, 700, 7), (33, 65, 129), (130, 1100, 95), (64, 64, 64), (257, 20, 3),
    (1, 784, 512), (513, 33, 1), (13, 1, 100), (25, 2000, 25)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_stored_over_what_they_are_added_to(m: int, k: int, n: int, dtype: Any
                                                         ) -> None:
    """Every element once, whatever the tiles."""
    def step(w: Any, v: Any, x: Any, y: Any) -> Any:
        g = x.T @ y
        v = 0.9 * v + g
        return w - 0.1 * v, v
    rng = np.random.default_rng(m)
    w, v = (rng.standard_normal((m, n)).astype(dtype) for _ in range(2))
    x, y = rng.standard_normal((k, m)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    want = weft.jit(step)(w, v, x, y)
    got = weft.jit(step, donate=("w", "v"))(w, v, x, y)
    assert got[0] is w and got[1] is v
    for a, b in zip(got, want):
        np.testing.assert_array_equal(a, b)


def test_from_the_disk_cache(tmp_path: Any) -> None:
    """A program found on disk overwrites the same arguments; one without donation does not."""
    code = ("import numpy as np, weft\n"
            "f = lambda w: w + 1.0\n"
            "w = np.zeros(4)\n"
            "print(weft.jit(f, donate='w')(w) is w, weft.jit(f)(w) is w, w[0])\n")
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env={**os.environ, "WEFT_CACHE_DIR": str(tmp_path)})
        assert done.stdout.split() == ["True", "False", "1.0"], done.stderr


def test_unknown_names() -> None:
    with pytest.raises(ValueError) as caught:
        weft.jit(sgd, donate="weights")
    assert str(caught.value) == (
        "donate names 'weights', but sgd has no such argument; it has params, slopes")
