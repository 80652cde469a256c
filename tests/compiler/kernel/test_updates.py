"""Updates: where they are done in place, in which order, and by how many threads."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from kernel_graphs import TARGET, B, Make, build, check, kernels

from weft.compiler.errors import IndexOutOfBoundsError
from weft.compiler.ir import Graph
from weft.compiler.kernel.interp import run_program
from weft.compiler.kernel.program import build_program
from weft.compiler.kernel.spread import spread_updates
from weft.compiler.lazy_dataclass import replace
from weft.compiler.types import dtype_of

SPREAD = partial(spread_updates, target=replace(TARGET, threads=3))
ROWS = {"axes": (0,), "position": 0, "mode": "raise"}


def notes(program):
    return [n for s in program.steps for n in s.notes]


def rows(b: Make, x, i=None, combine="add", n=4, **attrs):
    i = b.x("i", n, dtype="i64") if i is None else i
    u = b.x(f"u{len(b.params)}", *i.shape, *x.shape[1:])
    return b.scatter(x, i, u, combine=combine, **{**ROWS, **attrs})


def test_the_array_of_an_argument_is_copied():
    program = check(build(lambda b: rows(b, b.x("x", 6, 5))))
    assert kernels(program) == 2
    assert "%x is copied before it is updated: it is an argument" in notes(program)


def test_a_temporary_is_updated_in_place():
    """The zeros are written to the result's memory, and so are both updates."""
    def make(b):
        x = b.broadcast(b.scalar(0, "f32"), (6, 5))
        first = rows(b, x, combine="max")
        return rows(b, first, i=b.params[0])
    program = check(build(make))
    assert [x.kind for x in program.buffers] == ["param"] * 3 + ["result"]
    assert kernels(program) == 3 and program.arena == 0


def test_what_is_needed_afterwards_is_copied():
    def make(b):
        x = b.tanh(b.x("x", 6, 5))
        y = rows(b, x)
        return b.plus(x, y)
    assert any(n.endswith("it is needed afterwards") for n in notes(check(build(make))))


def test_what_is_a_result_is_copied():
    def make(b):
        x = b.tanh(b.x("x", 6, 5))
        return [x, rows(b, x)]
    assert any(n.endswith("it is a result") for n in notes(check(build(make))))


def test_constants_are_copied():
    program = check(build(lambda b: rows(b, b.constant(np.ones((6, 5), np.float32)))))
    assert any(n.endswith("it is a constant") for n in notes(program))


def test_other_readers_come_first():
    """The sum is written after the update, but does not need it."""
    def make(b):
        x = b.tanh(b.x("x", 6, 5))
        y = rows(b, x)
        return [y, b.reduce_sum(x, axes=(1,))]
    program = check(build(make), rtol=1e-6)
    assert any(n.endswith("is updated in place") for n in notes(program))


def test_two_updates_of_one_array():
    def make(b):
        x = b.tanh(b.x("x", 6, 5))
        return [rows(b, x), rows(b, x, i=b.params[1], combine="set")]
    found = notes(check(build(make)))
    assert sum(n.endswith("is updated in place") for n in found) == 1
    assert sum(n.endswith("is needed afterwards") for n in found) == 1


def counter(b: Make, x, plus: float = 1.0):
    """x[i] += 1, the heart of many loops."""
    i, zero = b.x("i", dtype="i64"), b.scalar(0, "i64")
    part = b.dynamic_slice(x, i, zero, sizes=(1, 5))
    return b.dynamic_update_slice(x, b.plus(part, b.num(x, plus)), i, zero)


def test_elements_are_read_where_they_are_written():
    """An update of a part by what is computed of it is one kernel, in place."""
    program = check(build(lambda b: counter(b, b.tanh(b.x("x", 6, 5)))))
    assert kernels(program) == 2 and any(n.endswith("in place") for n in notes(program))


def test_other_elements_are_read_before():
    """What is read elsewhere in the array is put aside first."""
    def make(b):
        x, i, zero = b.tanh(b.x("x", 6, 5)), b.x("i", dtype="i64"), b.scalar(0, "i64")
        part = b.dynamic_slice(x, b.plus(i, b.scalar(1, "i64")), zero, sizes=(2, 5))
        return b.dynamic_update_slice(x, b.tanh(part), i, zero)
    program = check(build(make))
    assert kernels(program) == 3 and any(n.endswith("in place") for n in notes(program))


def one_place(b, x):
    """x[i] = tanh(x[i]), with an index that may count from the end."""
    i = b.x("i", dtype="i64")
    return b.scatter(x, i, b.tanh(b.gather(x, i, **ROWS)), combine="set", **ROWS)


def known_part(b, x):
    """x[1:4] = tanh(x[1:4])."""
    part = b.slice(x, start=(1, 0), limit=(4, 5), stride=(1, 1))
    return b.dynamic_update_slice(x, b.tanh(part), b.scalar(1, "i64"), b.scalar(0, "i64"))


def every_other(b, x):
    """x[1::2] = tanh(x[1::2])."""
    part = b.slice(x, start=(1, 0), limit=(6, 5), stride=(2, 1))
    at = b.iota(shape=(3,), axis=0, dtype=dtype_of("i64"))
    at = b.plus(b.mul(at, b.scalar(2, "i64")), b.scalar(1, "i64"))
    return b.scatter(x, at, b.tanh(part), combine="set", **ROWS)


def turned(b, x):
    """x[:] = tanh(x[::-1]), whose turns read what others write."""
    return b.scatter(x, b.iota(shape=(6,), axis=0, dtype=dtype_of("i64")),
                     b.tanh(b.reverse(x, axes=(0,))), combine="set", **ROWS)


@pytest.mark.parametrize("make, steps", [(one_place, 2), (known_part, 2), (every_other, 2),
                                         (turned, 3)])
def test_reads_of_what_is_overwritten(make, steps):
    """One kernel where each turn reads just what it writes, however that is said."""
    program = check(build(lambda b: make(b, b.exp(b.x("x", 6, 5)))))
    assert kernels(program) == steps and any(n.endswith("in place") for n in notes(program))


def test_read_at_the_places_of_a_scatter():
    """Places may be met twice: all of them are read before any is written."""
    def make(b):
        x, i = b.tanh(b.x("x", 6, 5)), b.x("i", 4, dtype="i64")
        return b.scatter(x, i, b.tanh(b.gather(x, i, **ROWS)), combine="set", **ROWS)
    program = check(build(make))
    assert kernels(program) == 3 and any(n.endswith("in place") for n in notes(program))


def donated(make) -> tuple[Graph, object]:
    graph = build(make)
    return graph, build_program(graph, TARGET, donated=graph.params[:1])


def test_donated_parameters_are_overwritten():
    _, program = donated(lambda b: counter(b, b.x("x", 6, 5)))
    assert program.results == ("x",) and kernels(program) == 1
    x = np.zeros((6, 5), np.float32)
    (out,) = run_program(program, [x, np.array(2)])
    assert out is x and x[2].tolist() == [1] * 5 and x.sum() == 5


def test_donated_parameters_that_are_needed_are_not():
    def make(b):
        x = b.x("x", 6, 5)
        return [counter(b, x), b.plus(x, b.num(x, 1))]
    _, program = donated(make)
    assert program.results[0] == "x", "the sum can be computed before"

    def late(b):
        x = b.x("x", 6, 5)
        return b.plus(counter(b, x), x)
    assert any("%x is copied before it is updated" in n for n in notes(donated(late)[1]))


def test_order_is_kept_where_places_may_coincide():
    (kernel,) = (s.kernel for s in check(build(lambda b: rows(b, b.x("x", 6, 5)))).steps
                 if s.kernel.updates)
    assert "for i in 4, j in 5 in order of i:" in kernel.text()


def test_no_order_where_an_axis_says_where():
    """Places of different rows differ, since the rows' own numbers are part of them."""
    def make(b):
        x, i = b.x("x", 6, 5), b.x("i", 6, 1, dtype="i64")
        row = b.iota(shape=(6, 1), axis=0, dtype=i.dtype)
        return b.scatter(x, row, i, b.x("u", 6, 1), combine="add", axes=(0, 1), position=0,
                         mode="clip")
    (kernel,) = (s.kernel for s in check(build(make)).steps if s.kernel.updates)
    assert "in order" not in kernel.text() and kernel.rows == 6


@pytest.mark.parametrize("width", [192, 300, 1021])
@pytest.mark.parametrize("combine", ["add", "set"])
def test_wide_rows_are_shared_out(width, combine):
    program = check(build(lambda b: rows(b, b.x("x", 6, width), n=200, combine=combine)),
                    transform=SPREAD)
    (kernel,) = (s.kernel for s in program.steps if s.kernel.updates)
    assert kernel.rows == min(3, width * 4 // 256)


def test_narrow_rows_stay_together():
    program = check(build(lambda b: rows(b, b.x("x", 6, 100), n=500)), transform=SPREAD)
    assert all(s.kernel.rows == 1 for s in program.steps if s.kernel.updates)


def test_symbolic_sizes():
    check(build(lambda b: rows(b, b.x("x", B, 5), mode="clip")), B=6)
    graph = build(lambda b: rows(b, b.x("x", B, 5), mode="clip"))
    x = np.zeros((0, 5), np.float32)
    u = np.ones((4, 5), np.float32)
    (out,) = run_program(build_program(graph, TARGET), [x, np.arange(4), u])
    assert out.shape == (0, 5)


def test_out_of_bounds():
    graph = build(lambda b: rows(b, b.x("x", 6, 5)))
    arrays = [np.zeros((6, 5), np.float32), np.array([0, -6, 6, 5]), np.ones((4, 5), np.float32)]
    with pytest.raises(IndexOutOfBoundsError,
                       match=r"index 6 is out of bounds for axis 0 with size 6"):
        run_program(build_program(graph, TARGET), arrays)
    assert not arrays[0].any()
