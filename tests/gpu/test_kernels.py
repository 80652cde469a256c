"""Schedules: what each of them prints, and that it computes what the reference does."""

from __future__ import annotations

import numpy as np
import pytest

from tests.gpu.harness import Batch, lowered, needs_compiler, run
from tests.strategies import assert_same
from weft.compiler.build import Builder
from weft.compiler.ir import Graph, Node
from weft.compiler.ops.registry import OPS
from weft.compiler.ops.updates import COMBINE
from weft.compiler.types import DTYPES, TensorType
from weft.devices.reference import evaluate

RNG = np.random.default_rng(0)


def whole(shape: tuple[int, ...], dtype: str = "f32", low: int = -3, high: int = 4) -> np.ndarray:
    """Small whole numbers, on which sums and products are exact in any order."""
    return RNG.integers(low, high, shape).astype(DTYPES[dtype].numpy)


def schedules(graph: Graph) -> list[str]:
    """What the kernels of a graph say of their schedules."""
    return [line[3:] for line in lowered(graph).text("cuda").splitlines()
            if line.startswith(("// points", "// rows", "// product", "// tiles"))]


def graph_of(build, *arrays: np.ndarray) -> Graph:
    """The graph that a function of a builder and parameters makes."""
    b = Builder("f")
    params = [b.param(f"x{i}", TensorType(a.shape, dtype)) for i, (a, dtype) in enumerate(
        (a, next(d for d in DTYPES.values() if d.numpy == a.dtype)) for a in arrays)]
    made = build(b, *params)
    return b.graph(list(made) if isinstance(made, tuple) else [made])


def check(graph: Graph, *arrays: np.ndarray) -> None:
    """The emulated device's results are the reference's, to the bit."""
    assert_same(run(graph, arrays), evaluate(graph, arrays), str(graph))


# ---- updates that meet

@needs_compiler
def test_many_updates_that_meet() -> None:
    """One thread makes few of them in their order; many are atomic, or the last one wins."""
    cases = Batch()
    at = RNG.integers(-60, 60, 5000)
    for name, dtype in DTYPES.items():
        for combine in COMBINE:
            if dtype.is_complex and combine in ("min", "max"):
                continue
            x, v = whole((50,), name, 0, 2), whole((5000,), name, 1, 2 if combine == "mul" else 9)
            if dtype.itemsize == 2 and dtype.is_float:
                v = v[:4096] * 0 + 1        # sums that 16 bits hold
            attrs = {"axes": (0,), "position": 0, "mode": "drop", "combine": combine}
            cases.add(OPS["scatter"], f"{name} {combine}", (x, at[:len(v)], v), attrs)
    rows = whole((5000, 6))
    cases.add(OPS["scatter"], "rows", (whole((50, 6)), at, rows),
              {"axes": (0,), "position": 0, "mode": "drop", "combine": "set"})
    said = " ".join(schedules(cases.graph))
    assert "atomic" in said and "last" in said
    cases.check(run(cases.graph, cases.arrays))


@needs_compiler
def test_updates_in_their_order() -> None:
    """Places are shared by warps; the bits are those of one thread that makes all updates."""
    def build(b: Builder, x: Node, at: Node, v: Node, y: Node, w: Node) -> tuple[Node, ...]:
        def put(x: Node, v: Node, combine: str, position: int = 0, mode: str = "clip") -> Node:
            return b.add("scatter", x, at, v, axes=(position,), position=position, mode=mode,
                         combine=combine)
        return (put(x, v, "add"), put(x, v, "set", 0, "drop"), put(y, w, "add", 1),
                put(y, w, "mul", 1, "drop"))

    # 1500 turns: more than are looked at together; rounding shows the order
    rng = np.random.default_rng(1)
    at = rng.integers(0, 9, 1500)
    at[::7] = 40                # outside
    arrays = [rng.standard_normal(s).astype(np.float32)
              for s in ((9,), (1500,), (70, 9), (70, 1500))]
    x, v, y, w = arrays
    graph = graph_of(build, x, at, v, y, w)
    assert sum("updates in their order" in line
               for line in lowered(graph).text("cuda").splitlines()) == 4
    check(graph, x, at, v, y, w)


# ---- products

@needs_compiler
@pytest.mark.parametrize("dtype", ["f32", "f64", "c64", "c128", "i32", "u8", "bf16", "f16"])
def test_products(dtype: str) -> None:
    """Tiles at the edges, transposed operands, batches, and what follows the sum."""
    def build(b: Builder, x: Node, y: Node, z: Node, bias: Node) -> tuple[Node, ...]:
        plain = b.dot_general(x, y, contract=((1,), (0,)), batch=((), ()))
        after = b.mul(b.add("add", plain, b.broadcast(bias, plain.shape, [1])), plain)
        turned = b.dot_general(x, z, contract=((0,), (2,)), batch=((), ()))
        batched = b.dot_general(z, z, contract=((2,), (2,)), batch=((0,), (0,)))
        return after, turned, batched

    arrays = [whole(s, dtype, 0, 3) for s in ((70, 33), (33, 40), (2, 17, 70), (40,))]
    graph = graph_of(build, *arrays)
    assert sum("product" in s for s in schedules(graph)) == 3
    check(graph, *arrays)


@needs_compiler
def test_long_products_are_summed_in_chunks() -> None:
    # 3001 has no divisors by which it could be cut for several blocks
    x, y = (RNG.standard_normal(s).astype(np.float32) for s in ((20, 3001), (3001, 20)))
    graph = graph_of(lambda b, x, y: b.dot_general(x, y, contract=((1,), (0,)), batch=((), ())),
                     x, y)
    assert "whole[i][j]" in lowered(graph).text("cuda")
    got, want = run(graph, [x, y])[0], x.astype(np.float64) @ y.astype(np.float64)
    assert np.abs(got - want).max() <= np.abs(x @ y - want).max() * 2


@needs_compiler
def test_long_products_of_few_results_are_cut() -> None:
    """As the derivative of a convolution's weights: blocks share the sum."""
    def build(b: Builder, x: Node, y: Node, bias: Node) -> Node:
        out = b.dot_general(x, y, contract=((0, 1), (0, 1)), batch=((), ()))
        return b.add("add", out, b.broadcast(bias, out.shape, [1]))

    arrays = [whole(s) for s in ((12, 400, 27), (12, 400, 32), (32,))]
    graph = graph_of(build, *arrays)
    assert [s.split(",")[0] for s in schedules(graph)] == ["product", "rows"]
    check(graph, *arrays)


# ---- reductions

@needs_compiler
@pytest.mark.parametrize(("shape", "axes"), [
    ((7, 3), (0,)), ((300, 5), (0,)), ((300, 12), (0,)), ((5, 70, 24), (1,)), ((3000, 8), (0,)),
    ((40, 300), (0,)), ((1000, 64), (0,)), ((9, 4), (1,)),
    ((33, 100), (1,)), ((3, 5000), (1,)), ((70000,), (0,)), ((3, 30, 700), (0, 2)),
    ((20, 3, 50), (1,)), ((5, 0), (1,)), ((0, 5), (1,))])
def test_reductions_of_all_shapes(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    def build(b: Builder, x: Node, n: Node) -> tuple[Node, ...]:
        out = [b.reduce_sum(x, axes=axes), b.reduce_sum(n, axes=axes)]
        if 0 not in shape:
            out += [b.reduce_max(x, axes=axes), b.reduce_min(n, axes=axes)]
            if len(axes) == 1:
                out += [b.add(op, v, axis=axes[0]) for op in ("argmax", "argmin") for v in (x, n)]
        return tuple(out)

    x, n = whole(shape, "f64"), whole(shape, "i16")
    if x.size:
        x.flat[x.size // 2] = np.nan
    check(graph_of(build, x, n), x, n)


def test_schedules_are_said() -> None:
    """Decisions are plain data, printed above each kernel."""
    def build(b: Builder, x: Node) -> tuple[Node, ...]:
        row = b.reduce_sum(b.mul(x, x), axes=(1,))
        scaled = b.div(x, b.broadcast(row, x.shape, [0]))
        return scaled, b.reduce_sum(x, axes=(0,))

    said = schedules(graph_of(build, np.zeros((4096, 1024), np.float32)))
    assert said == [
        "rows, 256 threads, 32 for a row, vectors of 4, 4, held turns 8, 8",
        "rows, 256 threads, 4 for a row, rows side by side, 4 for a thread",
        "rows, 512 threads, 16 for a row, rows side by side, 4 for a thread"]


def test_each_input_is_read_once() -> None:
    """A row that fits a team's registers is loaded by one stage only."""
    def build(b: Builder, x: Node) -> Node:
        top = b.broadcast(b.reduce_max(x, axes=(1,)), x.shape, [0])
        e = b.exp(b.sub(x, top))
        return b.div(e, b.broadcast(b.reduce_sum(e, axes=(1,)), x.shape, [0]))

    text = lowered(graph_of(build, np.zeros((512, 4096), np.float32))).text("cuda")
    assert text.count("*(const w_vec<f32, 4>*)(b0") == 1 and text.count("expf(") == 1
    assert text.count("*(w_vec<f32, 4>*)(b1") == 1


@needs_compiler
def test_rows_in_registers_and_shared_memory() -> None:
    """Of a longer row, a part is kept in shared memory: it is read once all the same."""
    def build(b: Builder, x: Node) -> tuple[Node, ...]:
        top = b.broadcast(b.reduce_max(x, axes=(1,)), x.shape, [0])
        e = b.exp(b.sub(x, top))
        return b.div(e, b.broadcast(b.reduce_sum(e, axes=(1,)), x.shape, [0])), top

    x = np.random.default_rng(2).standard_normal((130, 33000)).astype(np.float32)
    graph = graph_of(build, x)
    (said,) = [s for s in schedules(graph) if s.startswith("rows")]
    assert said.startswith("rows, 512 threads, 512 for a row, vectors of 4") and \
        "1, 1, 1 in shared memory" in said
    text = lowered(graph).text("cuda")
    assert text.count("*(const w_vec<f32, 4>*)(b0") == 2 and text.count("expf(") == 2
    (got, top), (want, most) = run(graph, [x]), evaluate(graph, [x])
    assert_same([top], [most], "")
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=0)


@needs_compiler
@pytest.mark.parametrize("dtype", ["f32", "bf16", "bool", "c64"])
def test_padding_is_read_by_vectors(dtype: str) -> None:
    """What lies outside is decided once for a vector, where it is the same for all of it."""
    x = whole((3, 20, 40, 64), dtype, 0, 3)
    def build(b: Builder, x: Node) -> Node:
        zero = b.constant(np.zeros((), x.dtype.numpy))
        return b.add("pad", x, zero, low=(0, 1, 2, 0), high=(0, 3, 1, 0))

    graph = graph_of(build, x)
    (said,) = schedules(graph)
    assert "vectors of" in said
    check(graph, x)


# ---- transposes

@needs_compiler
@pytest.mark.parametrize("dtype", ["f32", "f64", "bool", "bf16", "c128", "i8"])
def test_transposes(dtype: str) -> None:
    """Arrays that are read across go through squares in shared memory."""
    def build(b: Builder, x: Node, y: Node, z: Node) -> tuple[Node, ...]:
        turned = b.transpose(x, perm=(1, 0))
        return b.mul(turned, y), b.transpose(z, perm=(1, 2, 0)), b.transpose(z, perm=(2, 1, 0))

    arrays = [whole(s, dtype, 0, 3) for s in ((250, 301), (301, 250), (40, 3, 700))]
    graph = graph_of(build, *arrays)
    assert sum("tiles of 32 x 32" in s for s in schedules(graph)) == 3
    check(graph, *arrays)


# ---- which reductions are chunks first

@pytest.mark.parametrize(("shape", "axes", "kernels"), [
    ((8192, 8192), (0,), 2),        # columns: long, and too few threads without
    ((1 << 20, 64), (0,), 2),
    ((1024, 768), (0,), 2),
    ((64, 1 << 20), (0,), 1),       # columns enough
    ((512, 768), (0,), 1),          # short
    ((4, 1 << 20), (1,), 2),        # rows: long and few
    ((12288, 256), (1,), 1),        # short
    ((1024, 65536), (1,), 1),       # long, but enough of them
    ((64, 1024, 1024), (1,), 2)])
def test_what_is_split(shape: tuple[int, ...], axes: tuple[int, ...], kernels: int) -> None:
    """Sums of an array, of its product with another, and with a mean of each row (or column)."""
    b = Builder("f")
    x, y = (b.param(n, TensorType(shape, DTYPES["f32"])) for n in "xy")
    rest = [d for i, d in enumerate(shape) if i not in axes]
    m = b.param("m", TensorType(tuple(rest), DTYPES["f32"]))
    wide = b.broadcast(m, shape, [i for i in range(len(shape)) if i not in axes])
    for value in (x, b.mul(x, y), b.mul(b.sub(x, wide), y)):
        steps = lowered(b.graph([b.reduce_sum(value, axes=axes)])).program.steps
        assert len(steps) == kernels
