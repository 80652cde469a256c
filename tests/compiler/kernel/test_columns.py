"""Short last axes are written out, row by row, where rows are many and read in order."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_graphs import TARGET, Make, build, check

from weft.compiler.kernel import pieces
from weft.compiler.kernel.columns import split_columns
from weft.compiler.kernel.ir import Kernel
from weft.compiler.kernel.program import build_program
from weft.compiler.types import DTYPES


def stores(program):
    return [len(s.kernel.stages[0].stores) for s in program.steps if isinstance(s.kernel, Kernel)]


@pytest.mark.parametrize("count", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("dtype", ["f32", "c64", "i8", "bool"])
def test_stacks(count, dtype, monkeypatch):
    monkeypatch.setattr(pieces, "LEAST_ELEMENTS", 64)

    def make(b: Make):
        columns = [b.x(f"x{i}", 101, 1, dtype=dtype) for i in range(count)]
        return b.add("concatenate", *columns, axis=1)
    assert stores(check(build(make), transform=split_columns)) == [count]


def test_rows_with_one_bias(monkeypatch):
    monkeypatch.setattr(pieces, "LEAST_ELEMENTS", 64)

    def make(b: Make):
        return b.plus(b.x("x", 200, 3), b.broadcast(b.x("y", 3), (200, 3), (1,)))
    assert stores(check(build(make), transform=split_columns)) == [3]


@pytest.mark.parametrize("make", [
    lambda b: b.plus(b.x("x", 9000, 3), b.x("y", 9000, 3)),                     # one loop anyway
    lambda b: b.slice(b.x("x", 9000, 100), start=(0, 0), limit=(9000, 3), stride=(1, 1)),
    lambda b: b.add("concatenate", b.x("x", 30, 1), b.x("y", 30, 1), axis=1),   # few
    lambda b: b.add("concatenate", b.x("x", 9000, 5), b.x("y", 9000, 5), axis=1)])
def test_what_is_left_alone(make):
    program = build_program(build(make), TARGET)
    assert split_columns(program) is program


def halves(b: Make, rows: int):
    """Elements 2*i and 2*i + 1 of a row are two halves of one value."""
    wide = b.broadcast(b.x("x", rows, dtype="u64"), (rows, 2), (0,))
    by = b.mul(b.iota(shape=(rows, 2), axis=1, dtype=DTYPES["u64"]), b.scalar(32, "u64"))
    return b.convert(b.shift_right(wide, by), "u32")


@pytest.mark.parametrize(("rows", "shape", "steps"), [
    (100, (200,), [2]), (100, (199,), [2, 1]), (500, (10, 100), [2]), (700, (200, 7), [2]),
    (350, (99, 7), [2, 1]), (200, (20, 2, 10), [2])])
def test_axes_used_by_halves_are_taken_apart(rows, shape, steps, monkeypatch):
    monkeypatch.setattr(pieces, "LEAST_ELEMENTS", 64)

    def make(b: Make):
        size = int(np.prod(shape))
        flat = b.reshape(halves(b, rows), (2 * rows,))
        if size != 2 * rows:
            flat = b.slice(flat, start=(0,), limit=(size,), stride=(1,))
        return b.add_(b.reshape(flat, shape), b.x("y", *shape, dtype="u32"))
    assert stores(check(build(make), transform=split_columns)) == steps


def test_axes_used_by_halves_and_thirds_are_left_alone(monkeypatch):
    monkeypatch.setattr(pieces, "LEAST_ELEMENTS", 64)

    def make(b: Make):
        twice = b.reshape(b.broadcast(b.x("x", 300), (300, 2), (0,)), (600,))
        thrice = b.reshape(b.broadcast(b.x("y", 200), (200, 3), (0,)), (600,))
        return b.plus(twice, thrice)
    program = build_program(build(make), TARGET)
    assert split_columns(program) is program
