"""Temporaries share an arena, never with one that lives at the same time."""

from __future__ import annotations

from itertools import combinations

import pytest
from kernel_graphs import TARGET, B, Make, N, build, check

from weft.compiler.kernel.ir import Program
from weft.compiler.kernel.plan import ALIGN, lifetimes
from weft.compiler.kernel.program import build_program
from weft.compiler.types import Dim, evaluate_dim


def chain(rows: Dim, depth: int, width: int = 8, dtypes: tuple[str, ...] = ("f32",)):
    def make(b: Make):
        x = b.x("x", rows, width)
        for k in range(depth):
            x = b.matmul(b.convert(x, "f32"), b.x(f"w{k}", width, width))
            x = b.convert(b.maximum(x, b.num(x, 0)), dtypes[k % len(dtypes)])
        return x
    return build(make)


def check_plan(program: Program, sizes: dict[str, int]) -> int:
    """No two that live together overlap, all are aligned and inside. Returns the arena's bytes."""
    life = lifetimes(program)
    arena = evaluate_dim(program.arena, sizes)
    span = {}
    for b in program.buffers:
        if b.kind == "temp":
            lo = evaluate_dim(b.offset, sizes)
            span[b.name] = (lo, lo + evaluate_dim(b.type.nbytes, sizes))
            assert lo % (ALIGN if b.type.is_static else b.type.dtype.itemsize) == 0
            assert span[b.name][1] + (0 if b.type.is_static else ALIGN) <= arena
    for p, q in combinations(span, 2):
        if life[p][0] <= life[q][1] and life[q][0] <= life[p][1]:
            assert span[p][1] <= span[q][0] or span[q][1] <= span[p][0], (p, q)
    return arena


def test_a_chain_needs_two_temporaries():
    program = build_program(chain(16, 9), TARGET)
    assert len(program.steps) == 9
    assert check_plan(program, {}) == 2 * 16 * 8 * 4


def test_a_symbolic_chain_needs_two_temporaries():
    program = build_program(chain(B, 9), TARGET)
    assert check_plan(program, {"B": 16}) == 2 * (16 * 8 * 4 + ALIGN)
    check(chain(B, 9), rtol=1e-5, B=5)


@pytest.mark.parametrize("size", [0, 1, 3, 17])
def test_mixed_element_types_stay_aligned(size):
    graph = chain(B, 7, 3, ("f16", "f64", "f32"))
    check_plan(build_program(graph, TARGET), {"B": size})
    check(graph, rtol=2e-2, B=size)


def test_known_and_symbolic_sizes_together():
    def make(b: Make):
        x, y = b.x("x", B, N), b.x("y", 6, N)
        p = b.dot_general(x, y, contract=((1,), (1,)), batch=((), ()))
        q = b.dot_general(y, y, contract=((1,), (1,)), batch=((), ()))
        return b.matmul(p, b.matmul(q, q)), b.dot_general(p, x, contract=((0,), (0,)),
                                                          batch=((), ()))
    graph = build(make)
    check_plan(build_program(graph, TARGET), {"B": 3, "N": 5})
    check(graph, rtol=1e-5, B=3, N=5)
