"""Long reductions with few rows are done in chunks that depend on nothing but sizes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from kernel_graphs import TARGET, B, Make, N, build, check, kernels

from weft.compiler.kernel import split
from weft.compiler.kernel.program import build_program
from weft.compiler.kernel.split import split_reductions
from weft.compiler.target import Target

split_it = partial(split_reductions, target=TARGET)
SUM = 1e-12


def everything(b: Make, *shape, op="reduce_sum", dtype="f64"):
    x = b.x("x", *shape, dtype=dtype)
    return b.add(op, x, axes=tuple(range(len(shape))))


@pytest.mark.parametrize("shape", [(70001,), (1 << 17,), (2, 70000), (300, 300), (3, 5, 40000),
                                   (1, 99999), (65537, 1), (257, 263)])
def test_sum_of_everything(shape):
    program = check(build(lambda b: everything(b, *shape)), rtol=SUM, transform=split_it)
    assert kernels(program) == 2
    first, second = (s.kernel for s in program.steps)
    assert first.rows * 4 >= np.prod(shape) / split.CHUNK and second.rows == 1


@pytest.mark.parametrize("op, dtype", [("reduce_max", "f32"), ("reduce_min", "i16"),
                                       ("reduce_and", "bool"), ("reduce_or", "bool"),
                                       ("reduce_prod", "u32"), ("reduce_sum", "f16")])
def test_other_operations(op, dtype):
    check(build(lambda b: everything(b, 70001, op=op, dtype=dtype)), rtol=1e-6, transform=split_it)


@pytest.mark.parametrize("shape, axis, dtype", [((3, 40001), 1, "f32"), ((50001, 4), 0, "f64")])
def test_few_rows(shape, axis, dtype):
    def make(b: Make):
        x = b.x("x", *shape, dtype=dtype)
        return b.reduce_sum(x, axes=(axis,)), b.reduce_max(b.mul(x, x), axes=(axis,))
    program = check(build(make), rtol=1e-5, transform=split_it)
    assert kernels(program) == 2


@pytest.mark.parametrize("shape, axis", [((70001,), 0), ((1 << 17,), 0), ((3, 40001), 1),
                                         ((50001, 4), 0), ((30, 5001), 1)])
@pytest.mark.parametrize("op", ["argmax", "argmin"])
@pytest.mark.parametrize("dtype", ["f32", "i64", "u8", "bool"])
def test_positions(shape, axis, op, dtype):
    """Chunks give values; the first that has the best is searched. Many values occur repeatedly."""
    make = build(lambda b: b.add(op, b.x("x", *shape, dtype=dtype), axis=axis))
    assert kernels(check(make, transform=split_it)) == 2


def test_positions_that_are_used_and_values_that_need_other_reductions():
    def make(b: Make):
        x = b.x("x", 70001, dtype="f64")
        off = b.sub(x, b.broadcast(b.reduce_max(x, axes=(0,)), (70001,), ()))
        best = b.add("argmin", off, axis=0)
        return best, b.mul(best, best), b.add("argmax", b.mul(x, x), axis=0)
    check(build(make), transform=split_it)


def test_stages_that_need_each_other():
    """The variance of everything: its second sum needs the first, whose parts it combines again."""
    program = check(build(lambda b: b.variance(b.x("x", 1 << 17, dtype="f64"))), rtol=SUM,
                    transform=split_it)
    assert kernels(program) == 3
    check(build(lambda b: b.logsumexp(b.x("x", 2, 70000, dtype="f64"))), rtol=SUM,
          transform=split_it)


def test_dot_product():
    def make(b: Make):
        x, y = b.x("x", 70000, dtype="f64"), b.x("y", 70000, dtype="f64")
        return b.dot_general(x, y, contract=((0,), (0,)), batch=((), ()))
    assert kernels(check(build(make), rtol=SUM, transform=split_it)) == 2


def test_checks_stay_with_their_reads():
    def make(b: Make):
        x, i = b.x("x", 7, dtype="f64"), b.x("i", 70001, dtype="i64")
        return b.reduce_sum(b.gather(x, i, axes=(0,), position=0, mode="raise"), axes=(0,))
    program = check(build(make), rtol=SUM, transform=split_it)
    assert [bool(s.kernel.stages[0].checks) for s in program.steps] == [True, False]


@pytest.mark.parametrize("n", [0, 1, 5, 1000, 40000, 70001])
def test_symbolic_length(n, monkeypatch):
    program = check(build(lambda b: everything(b, N)), rtol=SUM, transform=split_it, N=n)
    assert kernels(program) == 2
    monkeypatch.setattr(split, "CHUNK", 16)     # many turns of each chunk
    check(build(lambda b: everything(b, N)), rtol=SUM, transform=split_it, N=n)


@pytest.mark.parametrize("rows, columns", [(0, 3), (3, 0), (1, 70000), (300, 300)])
def test_two_symbolic_lengths(rows, columns):
    graph = build(lambda b: everything(b, B, N))
    assert kernels(check(graph, rtol=SUM, transform=split_it, B=rows, N=columns)) == 2


def test_nothing_is_left_as_it_is():
    graph = build(lambda b: everything(b, N, 0))
    assert kernels(check(graph, transform=split_it, N=3)) == 1


def test_what_is_left_alone():
    def positions(b: Make):
        return b.argmax(b.x("x", 1 << 17, dtype="c64"), axis=0)
    for make in (positions, lambda b: everything(b, 1 << 16),
                 lambda b: b.softmax(b.x("x", 60000)),
                 lambda b: b.reduce_sum(b.x("x", 1000, 1000), axes=(1,))):
        program = build_program(build(make), TARGET)
        assert split_it(program) is program


def test_the_number_of_threads_does_not_matter():
    program = build_program(build(lambda b: everything(b, 123457)), TARGET)
    one, many = (split_reductions(program, Target(threads=n)) for n in (1, 64))
    assert one == many
