"""Attention, embeddings, losses, recurrent cells and CTC against their definitions in float64."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import weft
from weft import nn

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(3)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def slopes(f: Callable[..., Any], formula: Callable[..., Any], *xs: Array) -> None:
    """Gradients along a random direction, against central differences of the formula."""
    h = 1e-6
    ts = [RNG.normal(size=x.shape) for x in xs]
    c = RNG.normal(size=np.shape(formula(*xs)))
    grads = weft.grad(lambda *xs: (f(*xs) * c).sum(), argnums=tuple(range(len(xs))))(*xs)
    got = sum((g * t).sum() for g, t in zip(grads, ts))
    plus, minus = (formula(*[x + s * h * t for x, t in zip(xs, ts)]) for s in (1, -1))
    np.testing.assert_allclose(got, ((plus - minus) * c).sum() / (2 * h), rtol=2e-7, atol=2e-7)


# ---- attention

Q, K, V = (RNG.normal(size=s) for s in ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 3)))
MASK, BIAS = RNG.random((2, 1, 5, 7)) < 0.7, RNG.normal(size=(4, 5, 7))
MASK[..., 0] = True


def attention(q: Array, k: Array, v: Array, keep: Any = True, bias: Any = 0.0, scale: Any = None
              ) -> Array:
    scores = q @ k.swapaxes(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale) + bias
    return softmax(np.where(keep, scores, -np.inf)) @ v


@pytest.mark.parametrize(("given", "meant"), [
    ({}, {}), ({"attn_mask": MASK}, {"keep": MASK}), ({"attn_mask": BIAS}, {"bias": BIAS}),
    ({"attn_mask": MASK, "bias": BIAS}, {"keep": MASK, "bias": BIAS}), ({"scale": 0.3}, {
        "scale": 0.3}), ({"is_causal": True}, {"keep": np.tri(5, 7, dtype=bool)}),
    ({"is_causal": True, "attn_mask": MASK}, {"keep": MASK & np.tri(5, 7, dtype=bool)})])
def test_attention(given: dict[str, Any], meant: dict[str, Any]) -> None:
    got = nn.scaled_dot_product_attention(Q, K, V, **given)
    np.testing.assert_allclose(got, attention(Q, K, V, **meant), rtol=1e-12, atol=1e-13)
    slopes(lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, **given),
           lambda q, k, v: attention(q, k, v, **meant), Q, K, V)


def test_grouped_queries() -> None:
    """Each head of the keys serves neighbouring heads of the queries."""
    k, v = K[:, :2], V[:, :2]
    for mask in (MASK, np.broadcast_to(MASK, (2, 4, 5, 7)) & (BIAS > 0) | (np.arange(7) == 0)):
        got = nn.scaled_dot_product_attention(Q, k, v, mask)
        want = attention(Q, np.repeat(k, 2, 1), np.repeat(v, 2, 1), mask)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_nothing_to_attend_to() -> None:
    """A query for which no key counts gets zeros, and gradients of zero."""
    keep = np.ones((5, 7), bool)
    keep[2] = False
    out = nn.scaled_dot_product_attention(Q, K, V, keep)
    assert not out[:, :, 2].any() and out[:, :, 1].all()
    slope = weft.grad(lambda q: nn.scaled_dot_product_attention(q, K, V, keep).sum())(Q)
    assert not slope[:, :, 2].any() and np.isfinite(slope).all()


def test_heads() -> None:
    x = RNG.normal(size=(2, 5, 8))
    heads = x.reshape(2, 5, 2, 4).swapaxes(1, 2)
    want = attention(heads, heads, heads).swapaxes(1, 2).reshape(2, 5, 8)
    np.testing.assert_allclose(nn.multi_head_attention(x, x, x, 2), want, rtol=1e-12, atol=1e-13)


def test_attention_kernels() -> None:
    """Two products, and one kernel for scale, mask and softmax between them."""
    def f(q: Array, k: Array, v: Array) -> Any:
        return nn.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert len(weft.jit(f).lower(Q, K, V).kernels) == 3


def test_embedding_and_one_hot() -> None:
    table, at = RNG.normal(size=(5, 3)), np.array([[4, 0], [1, 1]])
    np.testing.assert_array_equal(nn.embedding(at, table), table[at])
    slope = weft.grad(lambda t: nn.embedding(at, t).sum())(table)
    np.testing.assert_array_equal(slope[:, 0], [1, 2, 0, 0, 1])
    np.testing.assert_array_equal(nn.one_hot(at, 5), np.eye(5)[at])
    np.testing.assert_array_equal(nn.one_hot(at, 5, np.float32, axis=0),
                                  np.moveaxis(np.eye(5, dtype=np.float32)[at], -1, 0))
    np.testing.assert_array_equal(nn.one_hot(np.array([-1, 7]), 5), np.zeros((2, 5)))


# ---- losses

LOGITS = RNG.normal(size=(6, 5)) * 3
LABELS = RNG.integers(0, 5, 6)
DIST = RNG.dirichlet(np.ones(5), 6)
LOGS = np.log(softmax(LOGITS))
TARGET = RNG.normal(size=(6, 5))
PICKED = -LOGS[np.arange(6), LABELS]


@pytest.mark.parametrize(("got", "want"), [
    (lambda: nn.cross_entropy(LOGITS, LABELS), PICKED.mean()),
    (lambda: nn.cross_entropy(LOGITS.T, LABELS, 0, "none"), PICKED),
    (lambda: nn.cross_entropy(LOGITS, DIST, reduction="sum"), -(DIST * LOGS).sum()),
    (lambda: nn.cross_entropy(LOGITS, LABELS, label_smoothing=0.1),
     (0.9 * PICKED - 0.1 * LOGS.mean(-1)).mean()),
    (lambda: nn.cross_entropy(LOGITS, LABELS, ignore_index=int(LABELS[0])),
     PICKED[np.not_equal(LABELS, LABELS[0])].mean()),
    (lambda: nn.binary_cross_entropy_with_logits(LOGITS, DIST),
     -(DIST * np.log(sigmoid(LOGITS)) + (1 - DIST) * np.log(sigmoid(-LOGITS))).mean()),
    (lambda: nn.binary_cross_entropy_with_logits(LOGITS, DIST, "mean", 2.0),
     -(2 * DIST * np.log(sigmoid(LOGITS)) + (1 - DIST) * np.log(sigmoid(-LOGITS))).mean()),
    (lambda: nn.binary_cross_entropy(DIST, DIST),
     -(DIST * np.log(DIST) + (1 - DIST) * np.log1p(-DIST)).mean()),
    (lambda: nn.mse_loss(LOGITS, TARGET), ((LOGITS - TARGET) ** 2).mean()),
    (lambda: nn.l1_loss(LOGITS, TARGET, "sum"), np.abs(LOGITS - TARGET).sum()),
    (lambda: nn.huber_loss(LOGITS, TARGET, "none", 0.7), np.where(
        np.abs(LOGITS - TARGET) < 0.7, (LOGITS - TARGET) ** 2 / 2,
        0.7 * (np.abs(LOGITS - TARGET) - 0.35))),
    (lambda: nn.smooth_l1_loss(LOGITS, TARGET, "none", 0.7), np.where(
        np.abs(LOGITS - TARGET) < 0.7, (LOGITS - TARGET) ** 2 / 1.4,
        np.abs(LOGITS - TARGET) - 0.35)),
    (lambda: nn.hinge_loss(LOGITS, np.sign(TARGET)),
     np.maximum(0, 1 - LOGITS * np.sign(TARGET)).mean()),
    (lambda: nn.kl_div(LOGS, DIST, "sum"), (DIST * (np.log(DIST) - LOGS)).sum()),
    (lambda: nn.kl_div(LOGS, np.log(DIST), "sum", True), (DIST * (np.log(DIST) - LOGS)).sum()),
    (lambda: nn.cosine_similarity(LOGITS, TARGET), (LOGITS * TARGET).sum(-1) / (
        np.linalg.norm(LOGITS, axis=-1) * np.linalg.norm(TARGET, axis=-1))),
])
def test_losses(got: Callable[[], Any], want: Any) -> None:
    np.testing.assert_allclose(got(), want, rtol=1e-12, atol=1e-14)


def test_losses_at_extremes() -> None:
    """Certain predictions, right and wrong: values and derivatives stay finite."""
    x = np.array([[1e4, 0.0], [0.0, 1e4]])
    np.testing.assert_array_equal(nn.cross_entropy(x, np.array([0, 0]), reduction="none"), [0, 1e4])
    slope = weft.grad(lambda x: nn.cross_entropy(x, np.array([0, 0]), reduction="sum"))(x)
    np.testing.assert_array_equal(slope, [[0, 0], [-1, 1]])
    slope = weft.grad(lambda x: nn.binary_cross_entropy_with_logits(x, np.ones(2), "sum"))(
        np.array([-1e4, 1e4]))
    np.testing.assert_array_equal(slope, [-1, 0])
    assert nn.cross_entropy(np.array([[0.0, -np.inf]]), np.array([[1.0, 0.0]])) == 0
    assert nn.kl_div(np.array([0.0, -np.inf]), np.array([1.0, 0.0]), "sum") == 0


@pytest.mark.parametrize(("call", "text"), [
    (lambda: nn.cross_entropy(LOGITS, LABELS[:5]), "cross_entropy got classes of shape (5,) for "
     "logits of shape (6, 5)\n  expected: (6,)\n  repair:   give `axis`, that of the classes"),
    (lambda: nn.mse_loss(LOGITS, TARGET, "avg"), "mse_loss got reduction='avg'\n  expected: "
     '"mean", "sum" or "none"'),
    (lambda: nn.scaled_dot_product_attention(Q, K[:, :3], V[:, :3]), "scaled_dot_product_attention "
     "got 4 heads of queries and 3 of keys\n  expected: a multiple of the keys' heads"),
    (lambda: nn.one_hot(LOGITS, 3), "one_hot got indices of type f64\n  expected: integers"),
])
def test_errors(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(weft.errors.WeftError) as error:
        call()
    lines = str(error.value).split("\n")
    assert "\n".join(x for x in lines if not x.startswith("  at ")) == text


# ---- over time

def test_lstm() -> None:
    x, h, c = RNG.normal(size=(5, 2, 3)), RNG.normal(size=(2, 4)), RNG.normal(size=(2, 4))
    wi, wh, bi, bh = (RNG.normal(size=s) for s in ((16, 3), (16, 4), (16,), (16,)))
    outputs, (last_h, last_c) = nn.lstm(x, (h, c), wi, wh, bi, bh)
    for t in range(5):
        i, f, g, o = np.split(x[t] @ wi.T + bi + h @ wh.T + bh, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(outputs[t], h, rtol=1e-12)
    np.testing.assert_allclose(last_h, h, rtol=1e-12)
    np.testing.assert_allclose(last_c, c, rtol=1e-12)
    slopes(lambda x, w: nn.lstm(x, (last_h, last_c), wi, w, bi, bh)[0],
           lambda x, w: nn.lstm(x, (last_h, last_c), wi, w, bi, bh)[0], x, wh)


@pytest.mark.parametrize("reverse", [False, True])
def test_gru(reverse: bool) -> None:
    x, h = RNG.normal(size=(5, 2, 3)), RNG.normal(size=(2, 4))
    wi, wh, bi, bh = (RNG.normal(size=s) for s in ((12, 3), (12, 4), (12,), (12,)))
    outputs, last = nn.gru(x, h, wi, wh, bi, bh, reverse)
    for t in range(5)[::-1] if reverse else range(5):
        (r, z, n), (hr, hz, hn) = (np.split(v, 3, -1) for v in (x[t] @ wi.T + bi, h @ wh.T + bh))
        n = np.tanh(n + sigmoid(r + hr) * hn)
        h = (1 - sigmoid(z + hz)) * n + sigmoid(z + hz) * h
        np.testing.assert_allclose(outputs[t], h, rtol=1e-12)
    np.testing.assert_allclose(last, h, rtol=1e-12)


def alignments(p: Array, labels: list[int], blank: int) -> float:
    """The probability of a labelling: all paths that collapse to it, one by one."""
    total = 0.0
    for path in product(range(p.shape[1]), repeat=len(p)):
        short = [s for i, s in enumerate(path) if i == 0 or s != path[i - 1]]
        if [s for s in short if s != blank] == labels:
            total += float(np.prod([p[t, s] for t, s in enumerate(path)]))
    return total


@pytest.mark.parametrize("blank", [0, 2])
def test_ctc(blank: int) -> None:
    """Against the sum over all paths; repeated labels, an empty and a padded target among them."""
    p = RNG.dirichlet(np.ones(3), size=(6, 4))
    one, two = (s for s in range(3) if s != blank)
    targets = np.array([[one, two, one], [one, one, 9], [9, 9, 9], [two, 9, 9]])
    lengths, frames = np.array([3, 2, 0, 1]), np.array([6, 5, 6, 4])
    got = nn.ctc_loss(np.log(p), targets, frames, lengths, blank, "none")
    want = [-np.log(alignments(p[:frames[b], b], list(targets[b, :lengths[b]]), blank))
            for b in range(4)]
    np.testing.assert_allclose(got, want, rtol=1e-12)
    mean = nn.ctc_loss(np.log(p), targets, frames, lengths, blank)
    np.testing.assert_allclose(mean, (np.array(want) / np.maximum(lengths, 1)).mean(), rtol=1e-12)
    logits = RNG.normal(size=p.shape)

    def loss(x: Array) -> Any:
        return nn.ctc_loss(nn.log_softmax(x), targets, frames, lengths, blank, "sum")
    slope, t, h = weft.grad(loss)(logits), RNG.normal(size=p.shape), 1e-6
    difference = (loss(logits + h * t) - loss(logits - h * t)) / (2 * h)
    np.testing.assert_allclose((slope * t).sum(), difference, rtol=1e-7)
    short = nn.ctc_loss(np.log(p), targets, np.array([2, 2, 2, 2]), lengths, blank, "none")
    assert np.isinf(short[:2]).all() and np.isfinite(short[2:]).all()


def test_dropout() -> None:
    """What is kept is scaled; the gradient goes the same way; equal keys leave out the same."""
    key, x = weft.random.key(7), np.ones(4000)
    out = nn.dropout(x, key, 0.25)
    kept = out != 0
    np.testing.assert_allclose(out[kept], 1 / 0.75)
    assert abs(kept.mean() - 0.75) < 0.03           # four standard deviations
    slope = weft.grad(lambda x: nn.dropout(x, key, 0.25).sum())(x)
    np.testing.assert_array_equal(slope, out)
    np.testing.assert_array_equal(nn.dropout(x, key, 0.25, training=False), x)
    assert nn.dropout(x.astype(np.float32), key).dtype == np.float32
