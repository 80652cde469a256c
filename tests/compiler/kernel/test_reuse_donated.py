"""Donated arguments: which results are written over them, and which must not be."""

from __future__ import annotations

import numpy as np
from kernel_graphs import TARGET, build, kernels

from weft.compiler.kernel.interp import run_program
from weft.compiler.kernel.ir import Program
from weft.compiler.kernel.program import build_program


def donated(make, count: int = 1) -> Program:
    graph = build(make)
    return build_program(graph, TARGET, donated=graph.params[:count])


def test_an_elementwise_result_is_written_over_its_argument():
    program = donated(lambda b: b.plus(b.x("w", 6, 5), b.tanh(b.x("g", 6, 5))))
    assert program.results == ("w",) and kernels(program) == 1
    assert "in place" in program.steps[0].kernel.text()
    assert program.steps[0].notes == ("%w is overwritten: it is donated",)
    w, g = np.ones((6, 5), np.float32), np.zeros((6, 5), np.float32)
    (out,) = run_program(program, [w, g])
    assert out is w and w.sum() == 30


def test_each_result_takes_the_argument_that_it_is_computed_of():
    def make(b):
        w, m, g = b.x("w", 6, 5), b.x("m", 6, 5), b.x("g", 6, 5)
        moment = b.plus(m, g)
        return [moment, b.plus(w, moment)]
    assert donated(make, 2).results == ("m", "w")


def test_not_where_other_elements_are_read():
    def make(b):
        x = b.x("x", 5, 5)
        return b.plus(x, b.transpose(x, perm=(1, 0)))
    assert donated(make).results != ("x",)


def test_not_where_it_is_read_afterwards():
    def make(b):
        x = b.x("x", 6, 6)
        first = b.tanh(x)
        return [first, b.dot_general(first, x, contract=((1,), (0,)), batch=((), ()))]
    assert donated(make).results[0] != "x"


def test_not_where_a_later_result_of_the_same_kernel_reads_it():
    """The first result could take `b` or `c`; the second reads `c`, element by element."""
    def make(b):
        a, c, d, e = b.x("a", 4), b.x("c", 4), b.x("d", 4), b.x("e", 4)
        n, m = b.mul(a, d), b.mul(a, e)
        return [b.plus(b.mul(m, d), n), b.plus(c, m), b.plus(e, b.mul(d, a))]
    program = donated(make, 4)
    arrays = [np.arange(4, dtype=np.float32) + i for i in range(4)]
    a, c, d, e = (x.copy() for x in arrays)
    for got, want in zip(run_program(program, arrays), (a * e * d + a * d, c + a * e, e + d * a)):
        np.testing.assert_array_equal(got, want)


def test_not_of_another_type():
    assert donated(lambda b: b.reduce_sum(b.x("x", 6, 5), axes=(1,))).results != ("x",)


def test_a_product_is_stored_over_what_is_added_to_it():
    """The epilogue reads the element that it writes; the factors must be others."""
    def make(b):
        w, x, y = b.x("w", 6, 6), b.x("x", 6, 6), b.x("y", 6, 6)
        return b.plus(w, b.dot_general(x, y, contract=((1,), (0,)), batch=((), ())))
    program = donated(make)
    assert program.results == ("w",)

    def square(b):
        w = b.x("w", 6, 6)
        return b.plus(w, b.dot_general(w, w, contract=((1,), (0,)), batch=((), ())))
    assert donated(square).results != ("w",)
