"""Attention as one kernel: what is recognised, and that its results are those of the three."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import weft
from tests.gpu.double import EmulatedDriver
from tests.gpu.harness import emulated, needs_compiler
from weft.devices.gpu.nvrtc import build, nvrtc_problem

pytestmark = needs_compiler
needs_nvrtc = pytest.mark.skipif(nvrtc_problem() is not None, reason=str(nvrtc_problem()))
Function = Callable[..., np.ndarray]


@pytest.fixture(autouse=True)
def driver() -> Iterator[EmulatedDriver]:
    """The emulated device."""
    with emulated() as made:
        yield made


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(sum(shape) + seed).standard_normal(shape).astype(np.float32)


def plain(q, k, v):
    s = q @ np.swapaxes(k, -1, -2) / np.sqrt(np.float32(q.shape[-1]))
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


def biased(q, k, v, bias):
    s = q @ np.swapaxes(k, -1, -2) * np.float32(0.2) + bias
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


def masked(q, k, v, mask):
    s = np.where(mask, q @ np.swapaxes(k, -1, -2), np.float32(-np.inf))
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


def causal(q, k, v):
    return weft.nn.scaled_dot_product_attention(q, k, v, is_causal=True)


def split_heads(x, wq, wk, wv):
    """As in a block of a transformer: heads are cut out of features, and joined behind."""
    return weft.nn.multi_head_attention(x @ wq, x @ wk, x @ wv, 2, is_causal=True)


def three(b: int, h: int, t: int, s: int, d: int, e: int) -> tuple[np.ndarray, ...]:
    return rand(b, h, t, d), rand(b, h, s, d, seed=1), rand(b, h, s, e, seed=2)


CASES = {
    "one head": (plain, (rand(64, 16), rand(64, 16, seed=1), rand(64, 16, seed=2))),
    "sizes that tiles do not divide": (plain, three(1, 2, 70, 83, 37, 19)),
    "wide": (plain, three(1, 1, 65, 130, 64, 128)),
    "short": (plain, three(2, 1, 16, 17, 8, 8)),
    "bias": (biased, (*three(2, 2, 40, 50, 16, 16), rand(2, 1, 40, 50, seed=3))),
    "mask": (masked, (*three(1, 2, 40, 70, 16, 16), rand(1, 2, 40, 70, seed=4) > -1)),
    "causal": (causal, three(1, 2, 100, 100, 16, 16)),
    "grouped": (causal, (rand(1, 4, 40, 16), rand(1, 2, 40, 16), rand(1, 2, 40, 16, seed=5))),
    "heads": (split_heads, (rand(1, 66, 32), *(rand(32, 32, seed=i) for i in range(3)))),
}


@pytest.mark.parametrize("name", CASES)
def test_results(name: str) -> None:
    f, args = CASES[name]
    jitted = weft.jit(f, device="gpu")
    text = jitted.lower(*args).text("kernels")
    assert "attention(" in text and "max(" not in text
    want = np.asarray(weft.jit(f)(*(a.astype(np.float64) if a.dtype.kind == "f" else a
                                    for a in args)))
    ours = weft.jit(f)(*args)
    got = jitted(*args).get()
    error, usual = (np.abs(x - want).max() for x in (got, ours))
    assert error <= max(2 * usual, 1e-6), (error, usual)


def test_one_kernel_instead_of_three() -> None:
    (step,) = weft.jit(causal, device="gpu").lower(*three(1, 2, 64, 64, 16, 16)).kernels
    assert step.name == "k2_attention" and "scores are not stored" in step.stopped
    assert step.nbytes == 4 * 4 * 2 * 64 * 16


SPECIAL = {
    "no key counts": (masked, lambda q, k, v: (q, k, v, np.arange(40)[:, None] != 7)),
    "no key counts, zeros": (
        lambda q, k, v, m: weft.nn.scaled_dot_product_attention(q, k, v, m),
        lambda q, k, v: (q, k, v, np.broadcast_to(np.arange(40)[:, None] != 7, (40, 70)))),
    "first tile masked": (masked, lambda q, k, v: (
        q, k, v, np.broadcast_to(np.arange(70)[None] >= 66, (40, 70)))),
    "nan in a query": (plain, lambda q, k, v: (_with(q, np.nan, 3, 2), k, v)),
    "inf in a key": (plain, lambda q, k, v: (q, _with(k, np.inf, 66, 2), v)),
    "nan in a value": (plain, lambda q, k, v: (q, k, _with(v, np.nan, 69, 2))),
    "inf in a value that does not count": (masked, lambda q, k, v: (
        q, k, _with(v, np.inf, 5, 1), np.broadcast_to(np.arange(70)[None] != 5, (40, 70)))),
    "large scores": (plain, lambda q, k, v: (q * 1000, k * 1000, v)),
    "rising scores": (plain, lambda q, k, v: (
        np.ones_like(q), k * 0 + np.arange(70, dtype=np.float32)[:, None] * 2, v)),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str) -> None:
    """Rows without keys, NaN and infinities come out as from the three kernels."""
    f, make = SPECIAL[name]
    args = make(rand(40, 16), rand(70, 16, seed=1), rand(70, 16, seed=2))
    jitted = weft.jit(f, device="gpu")
    assert "attention(" in jitted.lower(*args).text("kernels")
    with np.errstate(all="ignore"):
        want = np.asarray(weft.jit(f)(*args))
    np.testing.assert_allclose(jitted(*args).get(), want, rtol=2e-5, atol=2e-5)


def _with(x: np.ndarray, value: float, *at: int) -> np.ndarray:
    x = x.copy()
    x[at] = value
    return x


def weights_too(q, k, v):
    s = q @ k.T
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return p @ v, p


OTHERS = {
    "weights are a result": (weights_too, (rand(64, 16),) * 3, {}),
    "few queries": (plain, (rand(4, 16), rand(64, 16), rand(64, 16)), {}),
    "wide values": (plain, (rand(32, 16), rand(32, 16), rand(32, 200)), {}),
    "float64": (plain, (rand(32, 16).astype(float),) * 3, {}),
    "precision was given up": (plain, (rand(32, 16),) * 3, {"precision": "tf32"}),
    "something done to the results": (
        lambda q, k, v: np.log(plain(q, k, v)), (*(rand(32, 16),) * 2, np.abs(rand(32, 16))), {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_stays_three_kernels(name: str) -> None:
    f, args, options = OTHERS[name]
    jitted = weft.jit(f, device="gpu", **options)
    assert "attention(" not in jitted.lower(*args).text("kernels")
    got, want = jitted(*args), weft.jit(f)(*args)
    for g, w in zip(got if isinstance(got, tuple) else (got,),
                    want if isinstance(want, tuple) else (want,)):
        np.testing.assert_allclose(g.get(), w, rtol=2e-5, atol=2e-5)


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_compiles(arch: str) -> None:
    for name in ("wide", "causal", "mask", "heads"):
        f, args = CASES[name]
        text = weft.jit(f, device="gpu").lower(*args).text("cuda")
        assert build(text, arch).cubin
