"""Matrix products through cuBLASLt: what is said to it, and what comes of that.

The library is played by `cublaslt.cpp`, which takes the very calls and computes on the host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np
import pytest

import weft
from tests.gpu.double import EmulatedArray, EmulatedDriver
from tests.gpu.harness import emulated, needs_compiler
from weft.devices.gpu.cublaslt import CublasLt
from weft.devices.protocol import DeviceError
from weft.errors import UnsupportedError

pytestmark = needs_compiler
Function = Callable[..., np.ndarray]


@pytest.fixture(autouse=True)
def driver() -> Iterator[EmulatedDriver]:
    """The emulated device, with the library."""
    with emulated(cublaslt=True) as made:
        yield made


def rand(*shape: int, dtype: object = np.float32) -> np.ndarray:
    rng = np.random.default_rng(len(shape) + sum(shape))
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def steps(f: Function, *args: np.ndarray, **options: object) -> list[str]:
    """The steps of a function's program, those of cuBLASLt as their attributes."""
    text = weft.jit(f, device="gpu", **options).lower(*args).text("kernels")
    return [re.sub(r"library \w+ ", "", line) for line in text.splitlines()
            if line.startswith(("library", "kernel"))]


def check(f: Function, *args: np.ndarray, products: int = 1, rtol: float = 1e-5,
          **options: object) -> None:
    """Results are NumPy's, and so many products went to cuBLASLt."""
    found = steps(f, *args, **options)
    assert sum(s.startswith("matmul") for s in found) == products, found
    got = weft.jit(f, device="gpu", **options)(*args)
    assert type(got) is EmulatedArray
    want = f(*(a.astype(np.complex128 if a.dtype.kind == "c" else np.float64) for a in args))
    assert got.dtype == f(*args).dtype
    error = np.abs(got.get().astype(want.dtype) - want).max()
    assert error <= rtol * np.abs(want).max() * 4, error


LAYOUTS = {
    "plain": (lambda a, b: a @ b, (rand(96, 128), rand(128, 112))),
    "left transposed": (lambda a, b: a.T @ b, (rand(128, 96), rand(128, 112))),
    "right transposed": (lambda a, b: a @ b.T, (rand(96, 128), rand(112, 128))),
    "both": (lambda a, b: a.T @ b.T, (rand(128, 96), rand(112, 128))),
    "batch": (lambda a, b: a @ b, (rand(3, 64, 96), rand(3, 96, 80))),
    "batch shared right": (lambda a, b: a @ b, (rand(3, 64, 96), rand(96, 80))),
    "batch shared left": (lambda a, b: a @ b, (rand(64, 96), rand(3, 96, 80))),
    "heads in the middle": (lambda q, k: np.einsum("bthd,bshd->bhts", q, k),
                            (rand(2, 64, 3, 64), rand(2, 64, 3, 64))),
    "heads moved": (lambda x, w: np.swapaxes((x @ w).reshape(2, 64, 4, 32), 1, 2) * 1.0,
                    (rand(2, 64, 96), rand(96, 128))),
    "part of a matrix": (lambda a, b: a[8:104, 16:] @ b[:, :112], (rand(128, 144), rand(128, 128))),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str) -> None:
    """Transposes, strides and batches are said, not copied."""
    f, args = LAYOUTS[name]
    check(f, *args)
    assert len(steps(f, *args)) <= 2


def test_what_is_said() -> None:
    """Attributes are in cuBLASLt's terms: columns lie one behind another."""
    f = lambda a, b: a @ b  # noqa: E731
    assert steps(f, rand(3, 64, 96), rand(3, 96, 80)) == [
        "matmul(b0: f32[3, 96, 80], b1: f32[3, 64, 96]) -> (b2: f32[3, 64, 80]) {rows=80, "
        "columns=64, depth=96, a=('N', 80, 0), b=('N', 96, 0), d=(80, 0), batch=(3, 7680, 6144, "
        "5120), loops=(), type=f32, out=f32, compute=f32, epilogue=, places=(0, 1, 2)}"]


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-14), (np.float16, 2e-3),
                                         (ml_dtypes.bfloat16, 2e-2), (np.complex64, 1e-6),
                                         (np.complex128, 1e-14)])
def test_types(dtype: object, rtol: float) -> None:
    check(lambda a, b: a @ b, rand(96, 128, dtype=dtype), rand(128, 112, dtype=dtype), rtol=rtol)
    check(lambda a, b, c: np.sqrt(np.abs(a @ b)) + c, rand(96, 128, dtype=dtype),
          rand(128, 112, dtype=dtype), rand(112, dtype=dtype), rtol=rtol * 4)


LAID_OUT = {
    "heads joined": (lambda x, w: np.swapaxes(x, 1, 2).reshape(2, 64, 96) @ w,
                     (rand(2, 3, 64, 32), rand(96, 128)), 1),
    "heads joined, summed over": (
        lambda x, g: np.swapaxes(x, 1, 2).reshape(128, 96).T @ g.reshape(128, 128),
        (rand(2, 3, 64, 32), rand(2, 64, 128)), 1),
    "convolution": (lambda x, w: weft.nn.conv2d(x, w, padding="same", channels_last=True),
                    (rand(2, 9, 9, 32), rand(3, 3, 32, 144)), 2),       # the first one pads
}


@pytest.mark.parametrize("name", LAID_OUT)
def test_operands_that_are_laid_out(name: str) -> None:
    """What does not lie as a matrix is written as one first."""
    f, args, most = LAID_OUT[name]
    found = steps(f, *args)
    assert sum(s.startswith("matmul") for s in found) == 1 and len(found) <= 1 + most, found
    want = np.asarray(weft.jit(f)(*(a.astype(np.float64) for a in args)))
    got = weft.jit(f, device="gpu")(*args).get()
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.abs(want).max())


EPILOGUES = {
    "bias": (lambda a, b, c: a @ b + c, "bias", "bias"),
    "array": (lambda a, b, c: a @ b + a[:, :112] * 1.0, "", ""),
    "relu": (lambda a, b, c: np.maximum(a @ b, 0), "", "relu"),
    "bias and relu": (lambda a, b, c: np.maximum(a @ b + c, 0), "", "bias_relu"),
    "gelu": (lambda a, b, c: weft.nn.gelu(a @ b + c, approximate=True), "", "bias_gelu"),
    "exact gelu": (lambda a, b, c: weft.nn.gelu(a @ b + c), "", ""),
}


@pytest.mark.parametrize("name", EPILOGUES)
def test_epilogues(name: str) -> None:
    """What keeps answers is fused always; what need not keep NaN where precision was given up."""
    f, exact, relaxed = EPILOGUES[name]
    args = rand(96, 128), rand(128, 112), rand(112)
    for options, epilogue in (({}, exact), ({"precision": "tf32"}, relaxed)):
        (product,) = [s for s in steps(f, *args, **options) if s.startswith("matmul")]
        assert f"epilogue={epilogue}," in product
        got = weft.jit(f, device="gpu", **options)(*args).get()
        want = np.asarray(weft.jit(f)(*(a.astype(np.float64) for a in args)))
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 if not options else 3e-2)


def test_sum_with_an_array() -> None:
    """The residual of a block is cuBLASLt's C."""
    args = rand(96, 128), rand(128, 112), rand(96, 112)
    f = lambda a, b, c: a @ b + c  # noqa: E731
    assert "epilogue=sum" in steps(f, *args)[0]
    check(f, *args)


def test_nan_comes_through() -> None:
    a, b = rand(96, 128), rand(128, 112)
    a[3, 4] = np.nan
    got = weft.jit(lambda a, b: np.maximum(a @ b, 0), device="gpu")(a, b).get()
    assert np.isnan(got[3]).all() and not np.isnan(got[4]).any()


def test_second_result_for_the_derivative() -> None:
    """GELU's argument is cuBLASLt's auxiliary output."""
    def f(a, b, c):
        x = a @ b + c
        return weft.nn.gelu(x, approximate=True), x
    args = rand(96, 128), rand(128, 112), rand(112)
    assert "epilogue=bias_gelu_aux" in steps(f, *args, precision="bf16")[0]
    got = weft.jit(f, device="gpu", precision="bf16")(*args)
    for g, want in zip(got, weft.jit(f)(*args)):
        np.testing.assert_allclose(g.get(), want, atol=0.3)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_precision(precision: str) -> None:
    """Operands are rounded where that was allowed, and float64 ones never."""
    f = lambda a, b: a @ b  # noqa: E731
    assert f"compute=f32 by {precision}" in steps(f, rand(96, 128), rand(128, 112),
                                                  precision=precision)[0]
    assert "compute=f64" in steps(f, rand(96, 128, dtype=np.float64),
                                  rand(128, 112, dtype=np.float64), precision=precision)[0]
    a = np.full((96, 128), 1 + 2.0 ** -12, np.float32)
    exact = weft.jit(f, device="gpu")(a, np.ones((128, 112), np.float32)).get()
    less = weft.jit(f, device="gpu", precision=precision)(a, np.ones((128, 112), np.float32)).get()
    assert (exact == np.float32(128 * (1 + 2.0 ** -12))).all() and (less == 128).all()
    np.testing.assert_array_equal(weft.jit(f, precision=precision)(a, a.T), weft.jit(f)(a, a.T))


def test_unknown_precision() -> None:
    with pytest.raises(UnsupportedError) as error:
        weft.jit(lambda x: x, precision="half")
    assert str(error.value) == ("weft.jit got precision='half'\n"
                                "  expected: one of 'highest', 'tf32', 'bf16', 'fp16'")


def test_open_sizes() -> None:
    """A batch of unknown size, in the product and in both products of its gradient."""
    loss = lambda x, w: np.sum(np.tanh(x @ w))  # noqa: E731
    f = weft.jit(weft.grad(loss, argnums=1), device="gpu", shapes={"x": ("B", 128)})
    plain = weft.jit(weft.grad(loss, argnums=1))
    for rows in (96, 33, 0):
        x, w = rand(rows, 128), rand(128, 112)
        np.testing.assert_allclose(f(x, w).get(), plain(x, w), rtol=1e-5, atol=1e-4)
    assert "columns=B" in f.lower(x, w).text("kernels")


def test_inside_loops() -> None:
    def f(x, w):
        return weft.scan(lambda x, _: (np.tanh(x @ w), None), x, None, 3)[0]
    x, w = rand(96, 128), rand(128, 128) / 16       # so that rounding does not grow
    np.testing.assert_allclose(weft.jit(f, device="gpu")(x, w).get(), weft.jit(f)(x, w), atol=1e-5)


SMALL = {
    "rows": (lambda a, b: a @ b, (rand(4, 512), rand(512, 512)), "fewer than 16 rows or columns"),
    "all": (lambda a, b: a @ b, (rand(32, 32), rand(32, 32)), "it is small"),
    "integers": (lambda a, b: a @ b, (np.ones((128, 128), int), np.ones((128, 128), int)),
                 "its factors are not elements of two arrays of one float type"),
    "backwards": (lambda a, b: a[:, ::-1] @ b, (rand(96, 128), rand(128, 112)),
                  "an operand has no axis whose elements lie side by side"),
}


@pytest.mark.parametrize("name", SMALL)
def test_what_stays_a_kernel(name: str) -> None:
    """`explain` says why."""
    f, args, reason = SMALL[name]
    (step,) = steps(f, *args)
    assert step.startswith("kernel")
    (kernel,) = weft.jit(f, device="gpu").lower(*args).kernels
    assert reason in kernel.stopped


def test_a_product_that_the_library_refuses(driver: EmulatedDriver) -> None:
    class Refusing:
        def __getattr__(self, name):
            return (lambda *_: 15) if "Heuristic" in name else lambda *_: 0
    driver.library = CublasLt(Refusing())   # type: ignore[arg-type]
    with pytest.raises(DeviceError, match=r"^cuBLASLt has no way for this product: rows=112, "
                       r"columns=96, .* \(not supported\)\n  at test_products.py:\d+: .*\n"
                       "  repair:   please report it"):
        weft.jit(lambda a, b: a @ b, device="gpu")(rand(96, 128), rand(128, 112))
