"""Short last axes are written out, row by row, where rows are many and read in order."""

from __future__ import annotations

import pytest
from kernel_graphs import TARGET, Make, build, check

from weft.compiler.kernel import pieces
from weft.compiler.kernel.columns import split_columns
from weft.compiler.kernel.ir import Kernel
from weft.compiler.kernel.program import build_program


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
