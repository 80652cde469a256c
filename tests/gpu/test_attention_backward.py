"""Derivatives of attention by tiles: what is recognised, and that results are those of products and
rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import weft
from bench.models import train_gpt
from tests.gpu.double import EmulatedDriver
from tests.gpu.harness import emulated, needs_compiler
from tests.gpu.test_attention import CASES, SPECIAL, biased, causal, masked, plain, rand, three
from weft.compiler.lazy_dataclass import replace
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
    for got, usual, exact in zip(found, _all(jitted(*args)), _all(want)):
        error, ours = (np.abs(x - exact).max() for x in (got, usual))
        # sums of the same numbers in another order; 0 of the maximum's derivative is not computed
        assert error <= max(3 * ours, 4e-6 * np.abs(exact).max()), (error, ours)


def _all(found: object) -> tuple[np.ndarray, ...]:
    return found if isinstance(found, tuple) else (found,)      # type: ignore[return-value]


@pytest.mark.parametrize("name", CASES)
def test_results(name: str) -> None:
    f, args = CASES[name]
    g = gradient(f, 4 if name == "heads" else 3)
    jitted = weft.jit(g, device="gpu")
    text = jitted.lower(*args).text("kernels")
    assert text.count(" attention_gradient(") == 1 and " attention(" in text
    assert "max(" not in text.replace("maximum", "")
    check(g, args, tuple(x.get() for x in _all(jitted(*args))))


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
    check(g, args, tuple(x.get() for x in _all(jitted(*args))))


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
    q, k, v = (np.abs(x)[np.isfinite(x)].max() for x in args[:3])
    # where one key has all the weight, dP less its mean is what rounding leaves of numbers so large
    largest = np.abs(upstream).max() * 16 * v * max(q, k, 1)
    for got, want in zip(fused(*args), plainly(*args)):
        np.testing.assert_allclose(got.get(), want.get(), rtol=2e-4, atol=1e-7 * largest)


def weights_too(q, k, v):
    """The weights are a result: they have to be stored anyway."""
    s = q @ k.T
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return p @ v, p


OTHERS = {
    "weights have a derivative of their own": (
        lambda q, k, v: sum((x * x * x).sum() for x in weights_too(q, k, v)), {}),
    "precision was given up": (lambda q, k, v: (plain(q, k, v) ** 3).sum(), {"precision": "tf32"}),
    "float64": (lambda q, k, v: (plain(q, k, v).astype(np.float64) ** 3).sum(), {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_stays(name: str) -> None:
    f, options = OTHERS[name]
    args = tuple(rand(32, 16, seed=n).astype(name if name == "float64" else "f4")
                 for n in range(3))
    g = weft.grad(f, argnums=(0, 1, 2))
    jitted = weft.jit(g, device="gpu", **options)
    assert "attention_gradient(" not in jitted.lower(*args).text("kernels")
    for got, want in zip(jitted(*args), weft.jit(g)(*args)):
        np.testing.assert_allclose(got.get(), want, rtol=2e-4, atol=2e-5)


def by_hand(score, k, v, upstream):
    """Results and derivatives, written out by the user; arguments may have any names."""
    q = score
    s = q @ k.T * np.float32(0.25)
    e = np.exp(s - s.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    dp = upstream @ v.T
    ds = p * (dp - (p * dp).sum(-1, keepdims=True)) * np.float32(0.25)
    return p @ v, ds @ k, ds.T @ q, p.T @ upstream


def test_derivatives_written_by_hand() -> None:
    args = rand(40, 16), rand(50, 16), rand(50, 24), rand(40, 24)
    jitted = weft.jit(by_hand, device="gpu")
    assert " attention_gradient(b0" in jitted.lower(*args).text("kernels")
    check(by_hand, args, tuple(x.get() for x in _all(jitted(*args))))


def test_a_block_of_gpt() -> None:
    """Heads are cut out of one product, their derivatives joined again; the mask is NumPy's."""
    d, shapes = 96, {"wqkv": (96, 288), "bqkv": (288,), "wout": (96, 96), "wup": (96, 384),
                     "bup": (384,), "wdown": (384, 96)}
    p = {n: rand(*shapes.get(n, (d,)), seed=i) * np.float32(0.2) for i, n in enumerate(
        ("scale1", "shift1", "wqkv", "bqkv", "wout", "bout", "scale2", "shift2", "wup", "bup",
         "wdown", "bdown"))}
    x, target = rand(1, 40, d), rand(1, 40, d, seed=1)
    step = weft.value_and_grad(train_gpt)
    jitted = weft.jit(step, device="gpu")
    text = jitted.lower(p, x, target).text("kernels")
    assert text.count("attention_gradient(b0") == 1 and "f32[1, 12, 40, 40]" not in text
    (loss, found), (want, usual) = jitted(p, x, target), weft.jit(step)(p, x, target)
    assert abs(float(loss.get()) - float(want)) < 1e-5 * abs(float(want))
    for name in p:
        np.testing.assert_allclose(found[name].get(), usual[name], rtol=1e-3,
                                   atol=2e-5 * np.abs(usual[name]).max())


def test_a_bias_that_is_learned() -> None:
    """Its derivative is dS, which has to be stored: that is said of the kernel that makes it."""
    args = (*three(1, 2, 40, 50, 16, 16), rand(40, 50))
    g = weft.grad(lambda *a: (biased(*a) ** 3).sum(), argnums=(0, 1, 2, 3))
    jitted = weft.jit(g, device="gpu")
    lowered = jitted.lower(*args)
    assert "attention_gradient(" not in lowered.text("kernels")
    assert any("derivative of attention, but not in one kernel: %add.83 is needed elsewhere"
               in k.stopped for k in lowered.kernels)
    check(g, args, tuple(x.get() for x in _all(jitted(*args))))


def test_memory_is_of_rows_not_of_scores() -> None:
    args = three(2, 2, 256, 256, 16, 16)
    graph = weft.jit(gradient(causal)).trace(*args).optimize().graph
    ours, others = (lower(graph, target_named("sm_90")).program.arena,
                    lower(graph, replace(target_named("sm_90"), precision="tf32")).program.arena)
    rows, scores = 4 * 2 * 2 * 256, 4 * 2 * 2 * 256 * 256
    assert others >= 3 * scores
    assert ours <= (2 * 16 + 6) * rows      # results and their derivative; numbers of rows and keys


def test_steps_and_notes() -> None:
    jitted = weft.jit(gradient(causal), device="gpu")
    steps = jitted.lower(*three(1, 2, 64, 64, 16, 16)).kernels
    names = [s.name.partition("_")[2] for s in steps]
    assert names == ["attention", "dot_general_rest", "attention_dot", "attention_sound",
                     "attention_turns", "attention_keys"]
    assert "weights are computed again" in steps[-1].stopped


@pytest.mark.parametrize("odd", ["q", "v", "upstream"])
def test_passed_over_tiles_are_looked_at(odd: str) -> None:
    """0 times an infinity is NaN, in tiles that a causal mask leaves out too."""
    args = dict(zip(("q", "k", "v"), three(1, 1, 200, 200, 16, 16)), upstream=rand(1, 1, 200, 16))
    args[odd][0, 0, 150, 3] = np.inf
    g = weft.grad(lambda q, k, v, u: (causal(q, k, v) * u).sum(), argnums=(0, 1, 2))
    fused, plainly = weft.jit(g, device="gpu"), weft.jit(g, device="gpu", precision="tf32")
    assert "sound" in fused.lower(*args.values()).text("kernels")
    for got, want in zip(fused(*args.values()), plainly(*args.values())):
        np.testing.assert_allclose(got.get(), want.get(), rtol=2e-4, atol=1e-5)


def test_the_same_bits_again() -> None:
    args = three(1, 2, 100, 100, 16, 16)
    jitted = weft.jit(gradient(causal), device="gpu")
    for first, second in zip(jitted(*args), jitted(*args)):
        assert first.get().tobytes() == second.get().tobytes()


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_compiles(arch: str) -> None:
    for f, args in (CASES["causal"], CASES["wide"], (causal, three(1, 12, 256, 256, 64, 64)),
                    (masked, (*three(8, 12, 512, 512, 64, 64), rand(512, 512) > 0))):
        graph = weft.jit(gradient(f)).trace(*args).optimize().graph
        text = lower(graph, target_named(arch, processors=4)).text("cuda")
        assert "derivatives of keys" in text and build(text, arch).cubin
