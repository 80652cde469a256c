"""Derivatives of attention by tiles: what is recognised, and that results are those of products and
rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import weft
from tests.gpu.double import EmulatedDriver
from tests.gpu.harness import emulated, needs_compiler
from tests.gpu.test_attention import CASES, SPECIAL, biased, causal, masked, plain, rand, three
from weft.devices.gpu.lowered import lower
from weft.devices.gpu.nvrtc import build, nvrtc_problem
from weft.devices.gpu.target import target_named

pytestmark = needs_compiler
needs_nvrtc = pytest.mark.skipif(nvrtc_problem() is not None, reason=str(nvrtc_problem()))
Function = Callable[..., np.ndarray]


@pytest.fixture(autouse=True)
def driver() -> Iterator[EmulatedDriver]:
    """The emulated device."""
    with emulated() as made:
        yield made


def gradient(f: Function, n: int = 3) -> Function:
    """The derivatives of a number made of the first so many arguments."""
    def loss(*args: np.ndarray) -> np.ndarray:
        out = f(*args)
        return (out * np.cos(np.arange(out.shape[-1], dtype=np.float32)) * out).sum()

    return weft.grad(loss, argnums=tuple(range(n)))


def check(f: Function, args: tuple[np.ndarray, ...], found: tuple[np.ndarray, ...]) -> None:
    """Hold results to those in double precision, by what single precision has on a CPU."""
    jitted = weft.jit(f)
    want = jitted(*(a.astype(np.float64) if a.dtype.kind == "f" else a for a in args))
    for got, usual, exact in zip(found, jitted(*args), want):
        error, ours = (np.abs(x - exact).max() for x in (got, usual))
        # sums of the same numbers in another order; 0 of the maximum's derivative is not computed
        assert error <= max(3 * ours, 4e-6 * np.abs(exact).max()), (error, ours)


@pytest.mark.parametrize("name", CASES)
def test_results(name: str) -> None:
    f, args = CASES[name]
    g = gradient(f, 4 if name == "heads" else 3)
    jitted = weft.jit(g, device="gpu")
    text = jitted.lower(*args).text("kernels")
    assert text.count("attention_gradient(") == 2 and " attention(" in text
    assert "max(" not in text.replace("maximum", "")
    check(g, args, [x.get() for x in jitted(*args)])


def done_to_results(q, k, v):
    return np.tanh(plain(q, k, v)) * 2


def twice(q, k, v):
    """One attention behind another."""
    return plain(causal(q, k, v), k, v)


def capped(q, k, v):
    """Scores that are kept small by a function whose derivative depends on them."""
    s = np.tanh(q @ np.swapaxes(k, -1, -2) / np.float32(4)) * np.float32(4)
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


FORMS = {
    "something done to the results": (done_to_results, three(1, 2, 33, 20, 16, 16), (0, 1, 2)),
    "of queries alone": (causal, three(1, 2, 40, 40, 16, 16), (0,)),
    "of keys alone": (plain, three(1, 2, 40, 50, 16, 16), (1,)),
    "of keys and values": (masked, (*three(1, 2, 20, 70, 16, 16), rand(20, 70) > -1), (1, 2)),
    "two behind one another": (twice, three(1, 1, 32, 32, 16, 16), (0, 1, 2)),
    "a slope that depends on scores": (capped, three(1, 2, 40, 50, 16, 16), (0, 1, 2)),
    "one array": (lambda x: plain(x, x, x), (rand(2, 40, 16),), (0,)),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str) -> None:
    f, args, which = FORMS[name]
    g = weft.grad(lambda *a: (f(*a) ** 3).sum(), argnums=which)
    jitted = weft.jit(g, device="gpu")
    text = jitted.lower(*args).text("kernels")
    assert "attention_gradient(" in text and "max(" not in text.replace("maximum", "")
    check(g, args, [x.get() for x in jitted(*args)])


@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str) -> None:
    """Rows without keys, NaN and infinities come out as from the unfused kernels."""
    f, make = SPECIAL[name]
    args = make(rand(40, 16), rand(70, 16, seed=1), rand(70, 16, seed=2))
    upstream = rand(40, 16, seed=3)
    g = weft.grad(lambda *a: (f(*a) * upstream).sum(), argnums=(0, 1, 2))
    fused, plainly = weft.jit(g, device="gpu"), weft.jit(g, device="gpu", precision="tf32")
    assert "attention_gradient(" in fused.lower(*args).text("kernels")
    assert "attention" not in plainly.lower(*args).text("kernels")
    for got, want in zip(fused(*args), plainly(*args)):
        largest = np.abs(want.get()[np.isfinite(want.get())]).max(initial=1)
        np.testing.assert_allclose(got.get(), want.get(), rtol=2e-4, atol=2e-6 * largest)
