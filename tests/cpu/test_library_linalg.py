"""Library steps of linear algebra and FFT in native code: shapes and sizes beyond the samples'."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from weft.compiler.build import Builder
from weft.compiler.ops import OPS
from weft.compiler.types import Dim, Size, TensorType, TupleType, dtype_of
from weft.devices.cpu import numpy_loops
from weft.devices.cpu.device import CpuDevice
from weft.devices.protocol import DeviceError

Array = np.ndarray[Any, Any]
DEVICE = CpuDevice()
B, N = Size.symbol("B"), Size.symbol("N")
RNG = np.random.default_rng(5)


def compiled(op: str, *arrays: Array, shapes: list[tuple[Dim, ...]] | None = None, **attrs: Any
             ) -> Any:
    """The native function of one op, from arrays to its results."""
    b = Builder()
    nodes = [b.param(f"x{i}", TensorType(s, dtype_of(a.dtype)))
             for i, (a, s) in enumerate(zip(arrays, shapes or [a.shape for a in arrays]))]
    node = b.add(op, *nodes, **attrs)
    results = [node]
    if isinstance(node.type, TupleType):
        results = [b.get(node, index=i) for i in range(len(node.type.elements))]
    return DEVICE.lower(b.graph(results), DEVICE.target()).compile().run


def numbers(*shape: int, dtype: str = "f8") -> Array:
    x = RNG.normal(size=shape)
    return (x + 1j * RNG.normal(size=shape) if dtype[0] == "c" else x).astype(dtype)


def close(got: Array, want: Array, ulp: float) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape
    scale = np.abs(want).max(initial=1)
    np.testing.assert_allclose(got, want, rtol=0, atol=ulp * np.finfo(got.dtype).eps * scale)


def same(got: list[Array], want: Any) -> None:
    for g, w in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        np.testing.assert_array_equal(g, w)


# ---- own code: triangular systems and LU

@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("m, n", [(1, 1), (5, 1), (37, 3), (64, 64), (130, 200), (3, 129)])
def test_triangular_solve(dtype: str, m: int, n: int) -> None:
    a = numbers(m, m, dtype=dtype) / m + np.eye(m, dtype=dtype) * 2
    for left in (True, False):
        b = numbers(*((m, n) if left else (n, m)), dtype=dtype)
        for lower in (True, False):
            for how in ("NO_TRANSPOSE", "TRANSPOSE", "ADJOINT"):
                attrs = {"left_side": left, "lower": lower, "transpose_a": how,
                         "unit_diagonal": False}
                (x,) = compiled("triangular_solve", a, b, **attrs)([a, b])
                t = np.tril(a) if lower else np.triu(a)
                t = {"NO_TRANSPOSE": t, "TRANSPOSE": t.T, "ADJOINT": t.conj().T}[how]
                close(t @ x if left else x @ t, b, 40 + m)


def test_triangular_solve_of_zeros() -> None:
    """A zero on the diagonal is no error, as in BLAS."""
    a, b = np.array([[0.0, 0.0], [1.0, 2.0]]), np.ones((2, 3))
    attrs = {"left_side": True, "lower": True, "transpose_a": "NO_TRANSPOSE"}
    (x,) = compiled("triangular_solve", a, b, **attrs, unit_diagonal=False)([a, b])
    assert np.isinf(x[0]).all()
    (x,) = compiled("triangular_solve", a, b, **attrs, unit_diagonal=True)([a, b])
    np.testing.assert_array_equal(x, [[1.0] * 3, [0.0] * 3])


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("m, n", [(1, 1), (3, 70), (70, 3), (33, 70), (130, 130), (200, 65)])
def test_lu(dtype: str, m: int, n: int) -> None:
    x = numbers(2, m, n, dtype=dtype)
    lu, pivots, order = compiled("lu", x)([x])
    k = min(m, n)
    low = np.tril(lu[..., :k], -1) + np.eye(m, k, dtype=dtype)
    close(low @ np.triu(lu[..., :k, :]), np.take_along_axis(x, order[..., None], -2), 60 + m)
    assert np.abs(low).max() <= 1.42 and pivots.dtype == order.dtype == np.int32
    for p, o in zip(pivots, order):
        rows = np.arange(m)
        for i, j in enumerate(p):
            rows[[i, j]] = rows[[j, i]]
        np.testing.assert_array_equal(rows, o)


def test_lu_of_singular_matrices() -> None:
    for x in (np.zeros((3, 3)), np.array([[0.0, 1.0], [0.0, 2.0]]), np.ones((4, 4))):
        lu, _, order = compiled("lu", x)([x])
        low = np.tril(lu, -1) + np.eye(len(x))
        np.testing.assert_allclose(low @ np.triu(lu), x[order], atol=1e-15)


# ---- NumPy's loops

CASES: list[tuple[str, dict[str, Any]]] = [
    ("cholesky", {"lower": True}), ("det", {}), ("slogdet", {}), ("qr", {"mode": "reduced"}),
    ("qr", {"mode": "complete"}), ("svd", {"full_matrices": True, "compute_uv": True}),
    ("eigh", {"lower": True, "vectors": True}), ("eig", {"vectors": True}),
    ("eig", {"vectors": False}),
]


@pytest.mark.parametrize("op, attrs", CASES, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("shape", [(600, 4, 4), (3, 150, 150)])
def test_stacks_are_numpys_to_the_bit(op: str, attrs: dict[str, Any], shape: Any) -> None:
    """Small matrices on several threads, large ones on LAPACK's."""
    x = numbers(*shape)
    x = x @ x.swapaxes(-1, -2) + np.eye(shape[-1])
    same(compiled(op, x, **attrs)([x]), OPS[op].reference(np, x, **attrs))


def test_symbolic_sizes() -> None:
    a = numbers(4, 5, 5) + 3 * np.eye(5)
    a = a @ a.swapaxes(-1, -2)
    b = numbers(4, 5, 2)
    for op, attrs in CASES:
        if attrs.get("mode") == "complete":
            continue
        run = compiled(op, a, shapes=[(B, N, N)], **attrs)
        for x in (a, a[:0], a[:1, :3, :3]):
            x = np.ascontiguousarray(x)
            same(run([x]), OPS[op].reference(np, x, **attrs))
    run = compiled("solve", a, b, shapes=[(B, N, N), (B, N, 2)], check=True)
    np.testing.assert_array_equal(run([a, b])[0], np.linalg.solve(a, b))
    triangular = {"left_side": True, "lower": True, "transpose_a": "NO_TRANSPOSE",
                  "unit_diagonal": False}
    run = compiled("triangular_solve", a, b, shapes=[(B, N, N), (B, N, 2)], **triangular)
    close(np.tril(a) @ run([a, b])[0], b, 100)


def test_symbolic_transforms() -> None:
    x = numbers(3, 8, dtype="c16")
    for kind, fn in (("FFT", np.fft.fft), ("IFFT", np.fft.ifft)):
        for norm in ("backward", "ortho", "forward"):
            run = compiled("fft", x, shapes=[(B, N)], fft_type=kind, axis=1, length=N, norm=norm)
            for y in (x, x[:0], np.ascontiguousarray(x[:, :5])):
                np.testing.assert_array_equal(run([y])[0], fn(y, norm=norm))


@pytest.mark.parametrize("shape, axis", [((500, 64), 1), ((64, 500), 0), ((3, 60, 70), 1),
                                         ((7919,), 0), ((2, 100003), 1)])
def test_long_transforms(shape: Any, axis: int) -> None:
    x = numbers(*shape, dtype="c16")
    attrs = {"axis": axis, "length": shape[axis], "norm": "backward"}
    np.testing.assert_array_equal(compiled("fft", x, fft_type="FFT", **attrs)([x])[0],
                                  np.fft.fft(x, axis=axis))
    np.testing.assert_array_equal(compiled("fft", x.real.copy(), fft_type="RFFT", **attrs)(
        [x.real.copy()])[0], np.fft.rfft(x.real, axis=axis))


def test_one_bad_matrix_of_many() -> None:
    """A failure is noted whichever thread meets it."""
    x = np.tile(np.eye(4), (2000, 1, 1))
    x[1777] = -1.0
    run = compiled("cholesky", x, lower=True)
    for _ in range(3):
        with pytest.raises(np.linalg.LinAlgError, match="Matrix is not positive definite"):
            run([x])
        x[1777] = np.eye(4)
        np.testing.assert_array_equal(run([x])[0], x)
        x[1777] = -1.0


def test_many_threads_at_once() -> None:
    x = numbers(200, 6, 6)
    run, want, wrong = compiled("svd", x, full_matrices=True, compute_uv=True), np.linalg.svd(x), []

    def work() -> None:
        for _ in range(20):
            if not all(np.array_equal(g, w) for g, w in zip(run([x]), want)):
                wrong.append(1)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_loops_that_numpy_does_not_have() -> None:
    with pytest.raises(DeviceError, match=r"has no loop qr_r_raw for f->f where it is looked for"):
        numpy_loops.find_loop("qr_r_raw", "f->f")
    with pytest.raises(DeviceError, match="has no loop nothing for d->d"):
        numpy_loops.find_loop("nothing", "d->d")
    with pytest.raises(RuntimeError, match="NumPy has no loop for weft_loop_det_i_i"):
        numpy_loops.addresses(["weft_loop_det_i_i"])
    assert numpy_loops.addresses(["weft_parallel_for"]) == {}
