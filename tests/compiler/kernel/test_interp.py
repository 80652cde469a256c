"""Programs, run by the kernel interpreter, compute what their graphs mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_graphs import TARGET, B, Make, N, build, check, data
from random_graphs import random_graph

from weft.compiler.errors import IndexOutOfBoundsError
from weft.compiler.kernel.interp import bind_sizes, run_program
from weft.compiler.kernel.program import build_program
from weft.compiler.types import dtype_of
from weft.devices.reference import evaluate

SUM = 1e-12     # float64 sums, added in another order than NumPy's


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_random_graphs(random):
    check(random_graph(random.randrange), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_many_random_graphs(block):
    import random
    for seed in range(1000 * block, 1000 * block + 1000):
        check(random_graph(random.Random(seed).randrange, most=25), rtol=1e-9)


def views(b: Make):
    x = b.x("x", 4, 6, dtype="f64")
    y = b.reverse(b.transpose(x, perm=(1, 0)), axes=(0,))
    y = b.pad(y, b.num(x, 7), low=(1, 0), high=(0, 2))
    y = b.slice(y, start=(0, 1), limit=(7, 6), stride=(2, 1))
    z = b.concatenate(b.reshape(y, (2, 10)), b.slice(b.reshape(x, (2, 12)), start=(0, 1),
                                                     limit=(2, 12), stride=(1, 3)), axis=1)
    return b.reshape(b.mul(z, z), (7, 4)), b.reshape(z, (28,)), y


def shared(b: Make):
    x, y = b.x("x", 5, 7, dtype="f64"), b.x("y", 7, dtype="f64")
    t = b.tanh(b.mul(x, b.broadcast(y, (5, 7))))
    return b.plus(t, x), b.sub(t, b.num(x, 1)), b.reduce_sum(t, axes=(1,)), \
        b.reduce_max(t, axes=(0,)), b.reduce_sum(t, axes=(0, 1))


def gathers(b: Make):
    x, i = b.x("x", 5, 4, 3, dtype="f64"), b.x("i", 2, 3, dtype="i64")
    j = b.minimum(i, b.scalar(2, "i64"))
    return (b.gather(x, i, axes=(0,), position=0, mode="raise"),
            b.gather(x, b.neg(j), axes=(2,), position=1, mode="wrap"),
            b.gather(x, i, j, axes=(0, 2), position=1, mode="clip"),
            b.gather(b.transpose(b.exp(x), perm=(2, 0, 1)), j, axes=(0,), position=2, mode="raise"))


def moved_positions(b: Make):
    x = b.x("x", 4, 5, 6, dtype="f64")
    y = b.transpose(b.mul(x, x), perm=(2, 0, 1))
    return b.argmax(y, axis=1), b.argmin(x, axis=2), b.argmax(b.reverse(x, axes=(0,)), axis=0)


def returned_as_is(b: Make):
    x, y = b.x("x", 3, dtype="f32"), b.x("y", dtype="i64")
    c = b.constant(np.arange(6.0).reshape(2, 3))
    s, z = b.scalar(2.5, "f32"), b.neg(x)
    return x, c, s, z, x, z, y, c, s, b.iota(shape=(3, 2), axis=1, dtype=dtype_of("f32"))


def sorts(b: Make):
    x = b.x("x", 4, 5, dtype="f64")
    s = b.sort(b.neg(x), axis=0, stable=False)
    i = b.argsort(x, axis=1, stable=True)
    first = b.reshape(b.slice(s, start=(0, 0), limit=(4, 1), stride=(1, 1)), (4,))
    return (s, b.cumsum(b.exp(x), axis=1), b.plus(i, i),
            b.searchsorted(first, x, side="right"), b.cummax(x, axis=0))


def temporaries(b: Make):
    """Matrix products in a row: their temporaries share the arena, and none is overwritten."""
    x = b.x("x", 6, 6, dtype="f64")
    out = [x]
    for _ in range(6):
        out.append(b.matmul(out[-1], out[len(out) // 2]))
    return out[-1], b.plus(out[3], out[-2])


def batched(b: Make):
    x, y = b.x("x", 3, 4, 5, dtype="f64"), b.x("y", 5, 3, 2, dtype="f64")
    z = b.dot_general(x, y, contract=((2,), (0,)), batch=((0,), (1,)))
    return b.tanh(b.transpose(z, perm=(1, 0, 2))), b.dot_general(
        x, x, contract=((0, 1, 2), (0, 1, 2)), batch=((), ()))


def normalised(b: Make):
    """Reductions over several axes and over the first one, with their operand behind them."""
    x = b.x("x", 2, 3, 4, 5, dtype="f64")
    d = b.sub(x, b.keep(b.mean(x, (2, 3)), x, (2, 3)))
    v = b.sqrt(b.plus(b.mean(b.mul(d, d), (2, 3)), b.num(x, 1e-5)))
    e = b.sub(x, b.keep(b.reduce_max(x, axes=(0,)), x, (0,)))
    return b.div(d, b.keep(v, x, (2, 3))), e


def short_floats(b: Make):
    x, y = b.x("x", 4, 40, dtype="f16"), b.x("y", 4, 40, dtype="bf16")
    return b.softmax(x), b.reduce_sum(y, axes=(1,)), b.matmul(x, b.transpose(x, perm=(1, 0))), \
        b.convert(b.mul(y, y), "f16")


def other_types(b: Make):
    z, m = b.x("z", 3, 4, dtype="c64"), b.x("m", 3, 4, dtype="bool")
    u = b.x("u", 3, 4, dtype="u8")
    return (b.abs(z), b.reduce_sum(b.mul(z, b.conj(z)), axes=(1,)), b.reduce_or(m, axes=(0,)),
            b.select(m, u, b.plus(u, u)), b.reduce_and(b.not_(m), axes=(0, 1)),
            b.reduce_prod(u, axes=(1,)), b.complex(b.real(z), b.imag(z)))


HAND_MADE = [(views, 0.0), (shared, SUM), (gathers, 0.0), (moved_positions, 0.0),
             (returned_as_is, 0.0), (sorts, 0.0), (temporaries, 1e-9), (batched, SUM),
             (normalised, SUM), (short_floats, 2e-3), (other_types, 1e-6)]


@pytest.mark.parametrize("make, rtol", HAND_MADE, ids=[m.__name__ for m, _ in HAND_MADE])
def test_hand_made_graphs(make, rtol):
    check(build(make), rtol=rtol)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (1, 5), (5, 1), (0, 0)])
def test_empty_and_single_sizes(shape):
    def make(b: Make):
        x, y = b.x("x", *shape, dtype="f64"), b.x("y", shape[0], 2, dtype="f64")
        c = b.concatenate(x, y, axis=1)
        s = b.reduce_sum(x, axes=(1,))
        return (c, s, b.sub(x, b.keep(s, x, (1,))), b.reduce_prod(x, axes=(0, 1)),
                b.pad(x, b.num(x, 1), low=(1, 0), high=(0, 1)), b.exp(b.transpose(x, perm=(1, 0))),
                b.dot_general(x, y, contract=((0,), (0,)), batch=((), ())),
                b.sort(x, axis=0, stable=False))
    check(build(make), rtol=SUM)


def centred(b: Make, x, y):
    s = b.reduce_sum(x, axes=(1,))
    return b.mul(b.exp(b.sub(x, b.keep(s, x, (1,)))), b.broadcast(y, x.shape))


def symbolic(b: Make):
    x, y = b.x("x", B, N, dtype="f64"), b.x("y", N, dtype="f64")
    w = b.x("w", B + 1, 3, dtype="f64")
    flat = b.reshape(x, (B * N,))
    grown = b.pad(x, b.num(x, 1), low=(1, 0), high=(0, 2))
    return (centred(b, x, y), flat, b.reverse(flat, axes=(0,)), grown,
            b.concatenate(grown, b.broadcast(w, (B + 1, 3)), axis=1),
            b.transpose(b.reshape(flat, (N, B)), perm=(1, 0)), b.cumsum(x, axis=0),
            b.matmul(x, b.transpose(x, perm=(1, 0))),
            b.slice(w, start=(1, 0), limit=(B + 1, 3), stride=(1, 2)),
            b.mul(b.size(size=B * N), b.size(size=B)),
            b.slice(b.reverse(b.iota(shape=(N,), axis=0, dtype=dtype_of("i64")), axes=(0,)),
                    start=(0,), limit=(1,), stride=(1,)))


@pytest.mark.parametrize("rows, columns", [(3, 4), (1, 1), (1, 5), (7, 1), (4, 1)])
def test_symbolic_sizes(rows, columns):
    graph = build(symbolic)
    program = build_program(graph, TARGET)
    arrays = data(graph, B=rows, N=columns)
    assert bind_sizes(program, arrays) == {"B": rows, "N": columns}
    check(graph, arrays, rtol=SUM)


@pytest.mark.parametrize("axis, index, message", [
    (0, 10, "index 10 is out of bounds for axis 0 with size 5"),
    (1, -5, "index -5 is out of bounds for axis 1 with size 4")])
def test_index_out_of_bounds(axis, index, message):
    graph = build(lambda b: b.tanh(b.gather(
        b.x("x", 5, 4), b.x("i", 3, dtype="i64"), axes=(axis,), position=axis, mode="raise")))
    x, i = np.zeros((5, 4), np.float32), np.array([0, index, 99])
    with pytest.raises(IndexError, match=message):
        x[(slice(None),) * axis + (i,)]
    with pytest.raises(IndexOutOfBoundsError, match=message):
        run_program(build_program(graph, TARGET), [x, i])


def test_negative_exponents():
    graph = build(lambda b: b.pow(b.x("x", 3, dtype="i32"), b.x("y", 3, dtype="i32")))
    program = build_program(graph, TARGET)
    x = np.array([2, 3, 4], np.int32)
    assert run_program(program, [x, x])[0].tolist() == [4, 27, 256]
    with pytest.raises(ValueError, match="Integers to negative integer powers are not allowed"):
        run_program(program, [x, -x])


def test_indices_under_a_guard_are_not_checked():
    def make(b: Make):
        x, y = b.x("x", 5, dtype="f64"), b.x("y", 5, dtype="f64")
        i = b.plus(b.iota(shape=(3,), axis=0, dtype=dtype_of("i64")), b.scalar(2, "i64"))
        picked = b.gather(x, i, axes=(0,), position=0, mode="raise")
        return b.concatenate(picked, y, axis=0), b.pad(picked, b.num(x, 1), low=(4,), high=(9,))
    check(build(make))


def test_index_into_nothing():
    graph = build(lambda b: b.gather(b.x("x", 0, dtype="f64"), b.x("i", N, dtype="i64"),
                                     axes=(0,), position=0, mode="raise"))
    program = build_program(graph, TARGET)
    nothing = np.zeros(0)
    with pytest.raises(IndexOutOfBoundsError, match="index 0 is out of bounds for axis 0 with"):
        run_program(program, [nothing, np.zeros(2, np.int64)])
    (out,) = run_program(program, [nothing, np.zeros(0, np.int64)])
    assert out.shape == (0,)


def test_large_spaces_are_cut_into_blocks(monkeypatch):
    monkeypatch.setattr("weft.compiler.kernel.interp.POINTS", 50)
    check(build(lambda b: b.softmax(b.x("x", 11, 13, dtype="f64"))), rtol=SUM)
    check(build(lambda b: b.matmul(b.x("x", 7, 5, dtype="i64"), b.x("y", 5, 6, dtype="i64"))))


def test_results_are_not_arguments():
    graph = build(lambda b: b.x("x", 3))
    (x,) = data(graph)
    (out,) = run_program(build_program(graph, TARGET), [x])
    assert not np.shares_memory(out, x) and np.array_equal(out, evaluate(graph, [x])[0])
