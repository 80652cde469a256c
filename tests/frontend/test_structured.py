"""Arrays that a traced function makes for itself, by rules: they are computed, not read."""

from __future__ import annotations

import numpy as np
import pytest

import weft
from weft.compiler.build import Builder
from weft.devices.reference import evaluate
from weft.frontend.structured import structured

RULES = {
    "lower": np.tri(20, 30, dtype=bool), "lower, moved": np.tri(20, 30, 4, dtype=bool),
    "lower, moved down": np.tri(20, 30, -3, dtype=bool), "upper": ~np.tri(20, 30, dtype=bool),
    "upper, moved": ~np.tri(30, 20, -7, dtype=bool), "of four axes": np.tri(9, 9, dtype=bool)[
        None, None], "arange": np.arange(100), "falling": np.arange(300, 0, -3),
    "a column": np.arange(100, dtype=np.int32)[:, None],
    "in bytes": np.arange(5, 105, dtype=np.uint8),
    "wrapping": np.arange(100, dtype=np.int8) * np.int8(3), "zeros": np.zeros((30, 40)),
    "ones": np.ones(100, np.float32), "-0.0": np.full(70, -0.0), "nan": np.full(70, np.nan),
    "true": np.ones((20, 20), bool), "complex": np.full((10, 10), 1 - 2j), "reversed": np.arange(
        100)[::-1], "strided": np.arange(200, dtype=np.uint64)[::2],
    "halves": np.full(80, 0.5, np.float16)}
NONE = {
    "two diagonals": np.tri(20, 20, dtype=bool) & ~np.tri(20, 20, -5, dtype=bool),
    "one off": np.tri(20, 20, dtype=bool) ^ (np.arange(400).reshape(20, 20) == 7),
    "signs of zero": np.array([0.0] * 40 + [-0.0] + [0.0] * 40),
    "floats": np.arange(100.0), "few": np.arange(10), "modulo": np.arange(100) % 7,
    "nan bits": np.array([np.nan] * 70 + [-np.nan] + [np.nan] * 4)}


@pytest.mark.parametrize("name", RULES)
def test_rules_give_the_values(name: str) -> None:
    value = RULES[name]
    rule = structured(value)
    assert rule is not None
    b = Builder()
    graph = b.graph([rule(b)])
    (got,) = evaluate(graph, [])
    got = np.asarray(got)
    assert (got.dtype, got.shape) == (value.dtype, value.shape)
    assert got.tobytes() == value.tobytes()
    assert "base64" not in graph.text()


@pytest.mark.parametrize("name", NONE)
def test_no_rule(name: str) -> None:
    assert structured(NONE[name]) is None


def attention(q, k, v):
    at = np.arange(q.shape[0])
    s = np.where(at[:, None] >= at, q @ k.T, -np.inf)
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


@pytest.mark.parametrize("n", [40, 600])
def test_a_mask_is_no_argument(n: int) -> None:
    """Of any size: what the function made for itself, nobody can change."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((n, 8)) for _ in range(3))
    f = weft.jit(attention)
    np.testing.assert_allclose(f(q, k, v), attention(q, k, v), rtol=1e-10)
    text = f.trace(q, k, v).graph.text()
    assert "captured = le %iota" in text and "base64" not in text
    assert text.count("%captured:") == 0


def test_an_array_that_others_have_stays_an_argument() -> None:
    """Its contents may change between calls."""
    mask = np.tri(300, dtype=bool)
    holder = [mask]

    def f(x):
        return np.where(holder[0], x, 0.0)
    g, x = weft.jit(f), np.ones((300, 300))
    np.testing.assert_array_equal(g(x), np.tri(300))
    mask[0] = True
    np.testing.assert_array_equal(g(x), f(x))


def test_filled_arrays_are_not_read() -> None:
    def f(x):
        return x + np.zeros((300, 300)) + np.full((300, 300), 2.0)
    g, x = weft.jit(f), np.ones((300, 300))
    np.testing.assert_array_equal(g(x), f(x))
    assert "captured:" not in g.trace(x).graph.text()


def test_frozen_arrays_follow_rules_too() -> None:
    mask = np.tri(30, dtype=bool)
    mask.flags.writeable = False
    g, x = weft.jit(lambda x: np.where(mask, x, 0.0)), np.ones((30, 30))
    np.testing.assert_array_equal(g(x), np.tri(30))
    assert "base64" not in g.trace(x).graph.text()
