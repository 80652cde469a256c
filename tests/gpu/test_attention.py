"""Attention as one kernel: what is recognised, and that its results are those of the three."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import weft
from tests.gpu.double import EmulatedDriver
from tests.gpu.harness import emulated, needs_compiler
from weft.compiler.kernel.expr import Expr
from weft.compiler.kernel.index import Axis, as_index
from weft.compiler.types import DTYPES
from weft.devices.gpu import attention_code, attention_shapes
from weft.devices.gpu.attention_mask import Numbers, tile_counts, unmasked
from weft.devices.gpu.attention_tiles import shared_limit
from weft.devices.gpu.lowered import lower
from weft.devices.gpu.nvrtc import build as compiled
from weft.devices.gpu.nvrtc import nvrtc_problem
from weft.devices.gpu.target import target_named
from weft.frontend.numpy.common import as_array, build

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


def by_numbers(keep, q, k, v):
    """Only the keys that a condition of the numbers of queries and keys keeps."""
    s = q @ np.swapaxes(k, -1, -2) * np.float32(0.3)
    shape = s.node.shape[-2:]
    i, j = (as_array(build().iota(shape=shape, axis=n, dtype=DTYPES["i64"])) for n in (0, 1))
    s = np.where(keep(i, j), s, np.float32(-np.inf))
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


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
    "as many keys as elements": (causal, three(2, 3, 32, 32, 32, 32)),
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


MASKS = {
    "causal": lambda i, j: j <= i,
    "keys before": lambda i, j: j < i + 1,
    "keys from behind": lambda i, j: i >= j - 30,
    "offset": lambda i, j: i + 40 >= j,
    "window": lambda i, j: (j <= i) & (i - j < 24),
    "window of both sides": lambda i, j: np.logical_and(i - j <= 20, j - i <= 20),
    "first keys and a window": lambda i, j: (j < 4) | ((j <= i) & (j > i - 16)),
    "blocks": lambda i, j: i // 32 == j // 32,
    "other blocks": lambda i, j: ~((i // 48 != j // 48) | (j == i + 1)),
    "all but one": lambda i, j: j != 2 * i,
    "no comparison of indices": lambda i, j: (i ^ j) < 50,
    "scaled": lambda i, j: 2 * j <= 3 * i,
    "only the last": lambda i, j: j >= 190,
}
TILES = attention_shapes.SHAPES


def numbered(name: str) -> Function:
    return lambda q, k, v: by_numbers(MASKS[name], q, k, v)


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_indices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles that a mask leaves out are passed over, and what is in them counts as for NumPy."""
    args = three(1, 2, 150, 200, 16, 16)
    f = numbered(name)
    shape = TILES[list(MASKS).index(name) % len(TILES)]
    monkeypatch.setattr(attention_code, "shape_for", lambda *_: shape)
    jitted = weft.jit(f, device="gpu")
    text = jitted.lower(*args).text("cuda")
    known = name != "no comparison of indices"
    assert "// attention" in text and ("seek" in text) == known
    v = args[2]
    for value, row in ((0.0, 0), (np.inf, 199), (np.nan, 0), (-np.inf, 70)):
        args = (*args[:2], _with(v, value, 0, 1, row, 3))
        with np.errstate(all="ignore"):
            want = np.asarray(weft.jit(f)(*args))
        np.testing.assert_allclose(jitted(*args).get(), want, rtol=2e-5, atol=2e-5)


def test_masks_of_indices_are_bounds() -> None:
    """Of every mask: a tile is passed over only if nothing in it counts, and is whole only if all
    does."""
    i, j = Axis("i", 150), Axis("j", 200)
    score = Expr("load", DTYPES["f32"], "score", (), (as_index(0),))
    lowest = Expr("const", DTYPES["f32"], np.float32(-np.inf))
    number = {a: Expr("index", DTYPES["i64"], None, (), (as_index(a),)) for a in (i, j)}

    def compare(op: str, a: Expr, b: Expr) -> Expr:
        return Expr("apply", DTYPES["bool"], op, (a, b))

    def shifted(a: Axis, by: int) -> Expr:
        return Expr("apply", DTYPES["i64"], "add", (
            number[a], Expr("const", DTYPES["i64"], np.int64(by))))

    rng = np.random.default_rng(0)
    grid = np.arange(150)[:, None], np.arange(200)[None]
    ops = {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
           "eq": np.equal, "ne": np.not_equal}
    for op, ufunc in ops.items():
        for by in (-37, 0, 5):
            mask = ufunc(grid[0] + by, grid[1])
            e = Expr("apply", DTYPES["f32"], "select", (
                compare(op, shifted(i, by), number[j]), score, lowest))
            for _ in range(50):
                a, b = (int(x) for x in rng.integers(0, 140, 2))
                c, d = a + int(rng.integers(1, 10)), b + int(rng.integers(1, 60))
                over = Numbers({i: (a, c - 1), j: (b, d - 1)})
                part = mask[a:c, b:d]
                assert tile_counts(e, None, over) == part.any(), (op, by, a, b, c, d)
                assert unmasked(e, over)[0] == part.all(), (op, by, a, b, c, d)


@pytest.mark.parametrize("shape", TILES, ids=str)
@pytest.mark.parametrize("name", ["sizes that tiles do not divide", "bias", "heads", "wide"])
def test_tiles(name: str, shape: attention_shapes.Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any tile gives the same."""
    monkeypatch.setattr(attention_code, "shape_for", lambda *_: shape)
    f, args = CASES[name]
    jitted = weft.jit(f, device="gpu")
    assert f"tiles of {shape.queries} queries and {shape.keys} keys" in \
        jitted.lower(*args).text("cuda")
    np.testing.assert_allclose(jitted(*args).get(), weft.jit(f)(*args), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_86", "sm_90", "sm_999"])
@pytest.mark.parametrize("size", [16, 64, 128])
@pytest.mark.parametrize("batch", [1, 200])
def test_chosen_tiles_fit(arch: str, size: int, batch: int) -> None:
    """Every architecture has the shared memory that is asked for."""
    arrays = (np.broadcast_to(np.float32(0), (batch, 256, size)),) * 3
    for f in (plain, causal):
        graph = weft.jit(f).trace(*arrays).optimize().graph
        target = target_named(arch, 132)
        (code,) = lower(graph, target).unit.functions.values()
        assert code.plan.startswith("attention") and code.shared <= shared_limit(target)


@pytest.mark.parametrize("depth", [130, 200])
def test_long_queries(depth: int) -> None:
    """Such that do not stay in shared memory."""
    args = three(1, 1, 70, 131, depth, 24)
    jitted = weft.jit(causal, device="gpu")
    assert "c0 += 64" in jitted.lower(*args).text("cuda")
    np.testing.assert_allclose(jitted(*args).get(), weft.jit(causal)(*args), rtol=2e-5, atol=2e-5)


def test_arrays_that_begin_anywhere() -> None:
    """Rows of a loop's arrays need not begin at a multiple of 16 bytes."""
    def f(q, k, v):
        return weft.scan(lambda c, x: (c, plain(x[0], x[1], x[2])), np.float32(0), (q, k, v))[1]
    args = rand(3, 17, 5), rand(3, 17, 5, seed=1), rand(3, 17, 5, seed=2)
    jitted = weft.jit(f, device="gpu")
    np.testing.assert_allclose(jitted(*args).get(), weft.jit(f)(*args), rtol=2e-5, atol=2e-5)


# what rounding scores of about 1 and weights to so many bits may change, and a sum of them
ROUNDED = {"tf32": 2e-3, "bf16": 1.6e-2, "fp16": 2e-3}


@pytest.mark.parametrize("precision", ROUNDED)
@pytest.mark.parametrize("name", CASES)
def test_rounded_operands(name: str, precision: str) -> None:
    """With tensor cores, where precision was given up."""
    f, args = CASES[name]
    if name == "heads":         # whose scores are large otherwise
        args = tuple(a * np.float32(0.4) for a in args)
    jitted = weft.jit(f, device="gpu", precision=precision)
    assert "w_mma" in jitted.lower(*args).text("cuda")
    want = np.asarray(weft.jit(f)(*args))
    np.testing.assert_allclose(jitted(*args).get(), want, rtol=0,
                               atol=ROUNDED[precision] * np.abs(want).max())


@pytest.mark.parametrize("name", [n for n in SPECIAL if n != "large scores"])
def test_special_values_rounded(name: str) -> None:
    """Rows without keys, NaN and infinities come out as without."""
    f, make = SPECIAL[name]
    args = make(rand(40, 16), rand(70, 16, seed=1), rand(70, 16, seed=2))
    with np.errstate(all="ignore"):
        want = np.asarray(weft.jit(f)(*args))
    np.testing.assert_allclose(weft.jit(f, device="gpu", precision="tf32")(*args).get(), want,
                               rtol=0, atol=4e-3)


@pytest.mark.parametrize("name", ["causal", "window", "all but one"])
@pytest.mark.parametrize("shape", attention_shapes.TENSOR_SHAPES, ids=str)
def test_masks_on_tensor_cores(name: str, shape: attention_shapes.Shape,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles and warps pass over what is left out, whatever the tile."""
    monkeypatch.setattr(attention_code, "shape_for", lambda *_: shape)
    f, (q, k, v) = numbered(name), three(1, 2, 150, 200, 48, 40)
    jitted = weft.jit(f, device="gpu", precision="tf32")
    for value, row in ((0.0, 0), (np.inf, 199), (np.nan, 0)):
        args = q, k, _with(v, value, 0, 1, row, 3)
        with np.errstate(all="ignore"):
            want = np.asarray(weft.jit(f)(*args))
        np.testing.assert_allclose(jitted(*args).get(), want, rtol=0, atol=8e-3)


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_compiles(arch: str) -> None:
    for name in ("wide", "causal", "mask", "heads"):
        f, args = CASES[name]
        text = weft.jit(f, device="gpu").lower(*args).text("cuda")
        assert compiled(text, arch).cubin
    for precision in ROUNDED:
        f, args = CASES["causal"]
        text = weft.jit(f, device="gpu", precision=precision).lower(*args).text("cuda")
        assert compiled(text, arch).cubin
