"""Contractions against NumPy: element types, shapes, layouts, instruction sets, epilogues."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from weft.compiler.build import Builder
from weft.compiler.ir import Graph, Node
from weft.compiler.kernel.ir import Kernel, Program
from weft.compiler.kernel.program import build_program
from weft.compiler.target import Target
from weft.compiler.types import DTYPES, DType, Shape, Size, TensorType, evaluate_dim
from weft.devices.cpu import gemm, native
from weft.devices.cpu.assembler import assemble, assembly_text
from weft.devices.cpu.engine import load
from weft.devices.cpu.host import host_target, target_named
from weft.devices.cpu.module import build_module

Array = np.ndarray[Any, Any]
LEVELS = ("avx512", "avx2", "baseline")


def _runs(level: str) -> bool:
    return host_target().vector_bytes >= target_named(level).vector_bytes


RUNNABLE = [x for x in LEVELS if _runs(x)]


def target(level: str, threads: int = 1) -> Target:
    return replace(target_named(level), threads=threads)


def program_of(graph: Graph, machine: Target) -> Program:
    """The graph's program, which must be one contraction."""
    program = build_program(graph, machine)
    (step,) = program.steps
    assert isinstance(step.kernel, Kernel)
    assert gemm.plan(step.kernel, machine) is not None, step.kernel.text()
    return program


def run(graph: Graph, machine: Target, *arrays: Array, planned: bool = True,
        **sizes: int) -> list[Array]:
    """The graph's results, from native code for the machine."""
    program = program_of(graph, machine) if planned else build_program(graph, machine)
    library = load(assemble(build_module(program, machine).text, machine))
    results = [np.full([evaluate_dim(d, sizes) for d in b.type.shape], 77).astype(
        b.type.dtype.numpy) for b in sorted(program.buffers, key=lambda b: b.index)
               if b.kind == "result"]
    everything = [*map(np.ascontiguousarray, arrays), *results]
    pointers = (ctypes.c_void_p * len(everything))(*(a.ctypes.data for a in everything))
    values = (ctypes.c_int64 * (len(sizes) + 1))(*(sizes[s] for s in program.symbols))
    main = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(
        library.address("main"))
    assert main(pointers, values) == 0
    return results


def product(dtype: str, m: Any, n: int, k: int, layout: str = "nn",
            epilogue: Callable[[Builder, Node], Node] | None = None) -> Graph:
    """A matrix product; `layout` says which operands are transposed ("t") in memory."""
    b, d = Builder("f"), DTYPES[dtype]
    x = b.param("x", TensorType((m, k) if layout[0] == "n" else (k, m), d))
    y = b.param("y", TensorType((k, n) if layout[1] == "n" else (n, k), d))
    contract = ((1 if layout[0] == "n" else 0,), (0 if layout[1] == "n" else 1,))
    out = b.dot_general(x, y, contract=contract, batch=((), ()))
    return b.graph([epilogue(b, out) if epilogue else out])


def sample(rng: np.random.Generator, dtype: DType, shape: Shape) -> Array:
    if dtype.kind == "bool":
        return rng.random(shape) < 0.2
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        return rng.integers(info.min, info.max, shape, dtype=dtype.numpy, endpoint=True)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if dtype.is_complex else x).astype(dtype.numpy)


def wide(x: Array) -> Array:
    """Values in a type with room to spare."""
    if x.dtype.kind == "c":
        return x.astype(np.clongdouble)
    return x.astype(np.longdouble if x.dtype == np.float64 else np.float64)


def check_product(got: Array, a: Array, b: Array, dtype: DType) -> None:
    """Integers exactly; floats within the bound on a sum of k products in any order, which every
    order of k roundings keeps, plus the rounding of the result to its type."""
    if not dtype.is_inexact:
        np.testing.assert_array_equal(got, a @ b)
        return
    sums = np.float32 if dtype.itemsize == 2 else dtype.real.numpy
    exact = wide(a) @ wide(b)
    eps = 4 if dtype.is_complex else 1
    bound = (a.shape[-1] + 2) * eps * np.finfo(sums).eps * (np.abs(wide(a)) @ np.abs(wide(b)))
    if dtype.itemsize == 2:
        bound = bound + np.abs(exact) * 2.0 ** (-11 if dtype.name == "f16" else -8) + 1e-7
    assert got.shape == exact.shape
    assert np.all(np.abs(wide(got) - exact) <= bound)


def operands(rng: np.random.Generator, dtype: DType, m: int, n: int, k: int, layout: str
             ) -> tuple[Array, Array, Array, Array]:
    """Both operands as matrices and as they lie in memory."""
    a, b = sample(rng, dtype, (m, k)), sample(rng, dtype, (k, n))
    return a, b, a if layout[0] == "n" else a.T, b if layout[1] == "n" else b.T


# ---- plain products

@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [(5, 7, 3, "nt"), (33, 50, 37, "nn"), (18, 64, 40, "tn"),
                                  (7, 129, 65, "tt")])
def test_every_dtype(level: str, dtype: str, case: tuple[int, int, int, str]) -> None:
    m, n, k, layout = case
    d = DTYPES[dtype]
    a, b, x, y = operands(np.random.default_rng(m), d, m, n, k, layout)
    (got,) = run(product(dtype, m, n, k, layout), target(level), x, y)
    check_product(got, a, b, d)


SHAPES = [(1, 1, 2), (1, 100, 64), (1, 7, 5), (2, 3, 1000), (13, 16, 16), (31, 17, 1), (100, 1, 9),
          (47, 53, 61), (1, 512, 100), (4, 10, 300), (29, 300, 2)]


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("layout", ["nn", "nt", "tn"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(level: str, layout: str, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    graph = product("f32", m, n, k, layout)
    d = DTYPES["f32"]
    a, b, x, y = operands(np.random.default_rng(n), d, m, n, k, layout)
    check_product(run(graph, target(level), x, y, planned=1 not in shape)[0], a, b, d)


@pytest.mark.parametrize("shape", [(5, 6, 0), (0, 6, 4), (5, 0, 4), (0, 0, 0)])
def test_nothing_to_add_or_to_write(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    graph = product("f32", m, n, k, epilogue=lambda b, x: b.exp(x))
    (got,) = run(graph, target(RUNNABLE[0]), np.zeros((m, k), "f"), np.zeros((k, n), "f"),
                 planned=m * n > 0)
    np.testing.assert_array_equal(got, np.ones((m, n), "f"))


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("dtype", ["f32", "f64", "c64"])
def test_blocks_of_k(level: str, dtype: str) -> None:
    m, n, k = 37, 45, 5001
    d = DTYPES[dtype]
    a, b, x, y = operands(np.random.default_rng(3), d, m, n, k, "nt")
    machine = replace(target(level), l2_bytes=64 << 10)
    graph = product(dtype, m, n, k, "nt", lambda b, x: b.neg(x))
    assert gemm.plan(program_of(graph, machine).steps[0].kernel,  # type: ignore[arg-type, union-attr]
                     machine).depth < k
    check_product(-run(graph, machine, x, y)[0], a, b, d)


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("shape", [(256, 192, 64), (1024, 40, 64), (8, 1000, 400)])
def test_threads(level: str, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    machine = target(level, threads=3)
    graph = product("f32", m, n, k)
    plan = gemm.plan(program_of(graph, machine).steps[0].kernel,  # type: ignore[arg-type]
                     machine)
    assert plan is not None and plan.parallel
    before = native.num_threads()
    native.set_num_threads(3)
    try:
        a, b, x, y = operands(np.random.default_rng(4), DTYPES["f32"], m, n, k, "nn")
        check_product(run(graph, machine, x, y)[0], a, b, DTYPES["f32"])
    finally:
        native.set_num_threads(before)


@pytest.mark.parametrize("layout", ["nn", "tn", "nt"])
@pytest.mark.parametrize("rows", [0, 1, 7, 50, 129])
def test_symbolic_rows(rows: int, layout: str) -> None:
    graph = product("f32", Size.symbol("B"), 40, 30, layout, lambda b, x: b.abs(x))
    a, b, x, y = operands(np.random.default_rng(5), DTYPES["f32"], rows, 40, 30, layout)
    (got,) = run(graph, target(RUNNABLE[0]), x, y, B=rows)
    check_product(np.copysign(got, a @ b), a, b, DTYPES["f32"])


# ---- epilogues

def gelu(b: Builder, x: Node, bias: Node) -> Node:
    """0.5 * t * (1 + tanh(0.7978845608 * (t + 0.044715 * t**3))) with t = x + bias."""
    def c(value: float) -> Node:
        return b.broadcast(b.scalar(value, "f32"), x.shape, ())
    t = b.add("add", x, b.broadcast(bias, x.shape))
    inner = b.mul(c(0.7978845608), b.add("add", t, b.mul(c(0.044715), b.mul(b.mul(t, t), t))))
    return b.mul(b.mul(c(0.5), t), b.add("add", c(1.0), b.tanh(inner)))


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("shape", [(1, 33, 20), (13, 48, 16), (100, 37, 24), (64, 64, 2100)])
def test_bias_gelu_and_residual(level: str, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    b, d = Builder("f"), DTYPES["f32"]
    x, w = b.param("x", TensorType((m, k), d)), b.param("w", TensorType((k, n), d))
    bias, rest = b.param("b", TensorType((n,), d)), b.param("r", TensorType((m, n), d))
    product = b.dot_general(x, w, contract=((1,), (0,)), batch=((), ()))
    graph = b.graph([b.add("add", gelu(b, product, bias), rest)])
    rng = np.random.default_rng(6)
    xs, ws, bs, rs = (sample(rng, d, s) for s in ((m, k), (k, n), (n,), (m, n)))
    (got,) = run(graph, target(level), xs, ws, bs, rs)
    t = wide(xs) @ wide(ws) + bs
    want = 0.5 * t * (1 + np.tanh(0.7978845608 * (t + 0.044715 * t ** 3))) + rs
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=4e-7 * k)     # k roundings of sums


@pytest.mark.parametrize("level", RUNNABLE)
def test_two_stores_and_another_type(level: str) -> None:
    m, n, k = 21, 35, 19
    b, d = Builder("f"), DTYPES["f32"]
    x, w = b.param("x", TensorType((m, k), d)), b.param("w", TensorType((k, n), d))
    y = b.dot_general(x, w, contract=((1,), (0,)), batch=((), ()))
    graph = b.graph([y, b.convert(b.gt(y, b.broadcast(b.scalar(0.0, "f32"), (m, n), ())), "i8")])
    rng = np.random.default_rng(7)
    xs, ws = sample(rng, d, (m, k)), sample(rng, d, (k, n))
    got, positive = run(graph, target(level), xs, ws)
    check_product(got, xs, ws, d)
    np.testing.assert_array_equal(positive, (got > 0).astype(np.int8))


# ---- batches

@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("rows", [1, 9])
def test_batch(level: str, rows: int) -> None:
    b, d = Builder("f"), DTYPES["f32"]
    x = b.param("x", TensorType((3, 4, rows, 16), d))
    y = b.param("y", TensorType((3, 4, 25, 16), d))
    graph = b.graph([b.dot_general(x, y, contract=((3,), (3,)), batch=((0, 1), (0, 1)))])
    rng = np.random.default_rng(8)
    xs, ys = sample(rng, d, (3, 4, rows, 16)), sample(rng, d, (3, 4, 25, 16))
    (got,) = run(graph, target(level), xs, ys, planned=rows > 1)
    check_product(got, xs, ys.swapaxes(2, 3), d)


def test_symbolic_batch_and_rows() -> None:
    b, d = Builder("f"), DTYPES["f32"]
    size, length = Size.symbol("B"), Size.symbol("T")
    x = b.param("x", TensorType((size, length, 16), d))
    y = b.param("y", TensorType((size, 16, 25), d))
    graph = b.graph([b.dot_general(x, y, contract=((2,), (1,)), batch=((0,), (0,)))])
    rng = np.random.default_rng(8)
    xs, ys = sample(rng, d, (5, 11, 16)), sample(rng, d, (5, 16, 25))
    (got,) = run(graph, target(RUNNABLE[0]), xs, ys, B=5, T=11)
    check_product(got, xs, ys, d)


def test_leading_axes_are_rows() -> None:
    b, d = Builder("f"), DTYPES["f32"]
    x, y = b.param("x", TensorType((6, 7, 16), d)), b.param("y", TensorType((16, 25), d))
    graph = b.graph([b.dot_general(x, y, contract=((2,), (0,)), batch=((), ()))])
    rng = np.random.default_rng(9)
    xs, ys = sample(rng, d, (6, 7, 16)), sample(rng, d, (16, 25))
    check_product(run(graph, target(RUNNABLE[0]), xs, ys)[0], xs, ys, d)


def test_two_contracted_axes() -> None:
    b, d = Builder("f"), DTYPES["f32"]
    x, y = b.param("x", TensorType((9, 3, 5), d)), b.param("y", TensorType((3, 5, 20), d))
    graph = b.graph([b.dot_general(x, y, contract=((1, 2), (0, 1)), batch=((), ()))])
    rng = np.random.default_rng(10)
    xs, ys = sample(rng, d, (9, 3, 5)), sample(rng, d, (3, 5, 20))
    (got,) = run(graph, target(RUNNABLE[0]), xs, ys)
    check_product(got, xs.reshape(9, 15), ys.reshape(15, 20), d)


# ---- general bodies

def pairs(dtype: str, m: int, n: int, k: int, body: Callable[[Builder, Node, Node], Node],
          after: str | None = None) -> Graph:
    """sum over k of body(x[m, k], y[n, k])."""
    b, d = Builder("f"), DTYPES[dtype]
    x, y = b.param("x", TensorType((m, k), d)), b.param("y", TensorType((n, k), d))
    value = body(b, b.broadcast(x, (m, n, k), (0, 2)), b.broadcast(y, (m, n, k), (1, 2)))
    out = b.reduce_sum(value, axes=(2,))
    return b.graph([b.add(after, out) if after else out])


def squared(b: Builder, x: Node, y: Node) -> Node:
    return b.mul(b.sub(x, y), b.sub(x, y))


BODIES: dict[str, tuple[Callable[[Builder, Node, Node], Node], Callable[[Array, Array], Array]]] = {
    "squared": (squared, lambda x, y: (x - y) ** 2),
    "absolute": (lambda b, x, y: b.abs(b.sub(x, y)), lambda x, y: np.abs(x - y)),
    "smaller": (lambda b, x, y: b.minimum(b.exp(x), b.exp(y)),
                lambda x, y: np.minimum(np.exp(x), np.exp(y))),
    "scaled": (lambda b, x, y: b.mul(b.mul(x, b.broadcast(b.scalar(3.0, x.dtype), x.shape, ())), y),
               lambda x, y: 3 * x * y),
}


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_general_bodies(level: str, body: str, dtype: str) -> None:
    m, n, k = 39, 45, 16
    build, meaning = BODIES[body]
    d = DTYPES[dtype]
    rng = np.random.default_rng(11)
    xs, ys = sample(rng, d, (m, k)), sample(rng, d, (n, k))
    (got,) = run(pairs(dtype, m, n, k, build), target(level), xs, ys)
    want = meaning(wide(xs)[:, None], wide(ys)[None]).sum(-1)
    np.testing.assert_allclose(got, want, rtol=0, atol=20 * k * float(np.finfo(d.numpy).eps))


@pytest.mark.parametrize("level", RUNNABLE)
def test_distances_of_integers(level: str) -> None:
    rng = np.random.default_rng(12)
    xs, ys = (sample(rng, DTYPES["i32"], (n, 12)) for n in (20, 30))
    (got,) = run(pairs("i32", 20, 30, 12, squared), target(level), xs, ys)
    np.testing.assert_array_equal(got, ((xs[:, None] - ys[None]) ** 2).sum(-1, dtype=np.int32))


def test_a_row_sum_is_no_contraction() -> None:
    b, d = Builder("f"), DTYPES["f32"]
    x = b.param("x", TensorType((30, 40), d))
    for axes in ((0,), (1,)):
        kernel = build_program(b.graph([b.reduce_sum(x, axes=axes)]), host_target()).steps[0].kernel
        assert isinstance(kernel, Kernel)
        assert gemm.plan(kernel, host_target()) is None


# ---- other machines

@pytest.mark.parametrize("dtype", ["f32", "f16", "c64", "i8"])
@pytest.mark.parametrize("layout", ["nn", "nt"])
def test_compiles_for_aarch64(dtype: str, layout: str) -> None:
    machine = target_named("aarch64")
    program = program_of(product(dtype, 61, 83, 47, layout), machine)
    assert "fmla" in assembly_text(build_module(program, machine).text, machine) or dtype == "i8"


# ---- what the code generator makes of the inner loop

def innermost(assembly: str) -> str:
    """The loop with most multiply-adds and no additions (which epilogues have)."""
    lines = assembly.splitlines()
    labels = {line.split(":")[0]: i for i, line in enumerate(lines) if line.startswith(".L")}
    loops = []
    for i, line in enumerate(lines):
        goal = line.split()[-1] if line.strip().startswith("j") else ""
        if goal in labels and labels[goal] < i:
            body = lines[labels[goal]:i]
            if not any(x.startswith(".L") or "vadd" in x for x in body[1:]):
                loops.append("\n".join(body))
    return max(loops, key=lambda body: body.count("vfmadd"))


def squash(b: Builder, x: Node) -> Node:
    return b.mul(b.tanh(x), b.exp(x))


@pytest.mark.parametrize("level", ["avx512", "avx2"])
@pytest.mark.parametrize("shape", [(64, 64, 64), (512, 512, 512), (100, 75, 33)])
@pytest.mark.parametrize("epilogue", [None, squash])
@pytest.mark.parametrize("layout", ["nn", "nt"])
def test_accumulators_stay_in_registers(level: str, shape: tuple[int, int, int], epilogue: Any,
                                        layout: str) -> None:
    machine = target(level)
    program = program_of(product("f32", *shape, layout, epilogue), machine)
    loop = innermost(assembly_text(build_module(program, machine).text, machine))
    assert loop.count("vfmadd") >= 8
    assert "rsp" not in loop, loop
