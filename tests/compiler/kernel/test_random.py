"""Programs of random graphs compute what the graphs mean, run by the kernel interpreter."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from kernel_graphs import TARGET
from strategies import assert_same, graphs, inputs

from weft.compiler.ir import Graph
from weft.compiler.kernel.flatten import flatten
from weft.compiler.kernel.interp import run_program
from weft.compiler.kernel.ir import Kernel, Program
from weft.compiler.kernel.program import build_program
from weft.compiler.kernel.split import split_reductions
from weft.devices.reference import evaluate

EXACT = ("bool", "i8", "u32", "i64", "f64")
ANY = ("elementwise", "elementwise", "convert", "select", "broadcast", "reshape", "transpose",
       "reverse", "slice", "pad", "concatenate", "iota", "constant", "along")
quick = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


def flattened(program: Program) -> Program:
    """The program as code generation sees it."""
    return replace(program, steps=tuple(
        replace(s, kernel=flatten(s.kernel)) if isinstance(s.kernel, Kernel) else s
        for s in program.steps))


def holds(graph: Graph, seed: int, size: int, integral: bool) -> None:
    arrays = inputs(graph, seed, integral=integral, sizes={"B": size})
    try:
        want = evaluate(graph, arrays)
    except ValueError:          # the largest of nothing, where B is 0
        reject()
    program = split_reductions(build_program(graph, TARGET), TARGET)
    for p in (program, flattened(program)):
        assert_same(run_program(p, arrays), want, f"{graph}\n{p.text()}")


@quick
@given(graphs(integral=True, dtypes=EXACT, symbolic=True), st.integers(0, 9), st.integers(0, 4))
def test_sums_of_whole_numbers(graph, seed, size):
    holds(graph, seed, size, integral=True)


@quick
@given(graphs(integral=True, dtypes=EXACT, max_nodes=20), st.integers(0, 9))
def test_known_sizes(graph, seed):
    holds(graph, seed, 0, integral=True)


@quick
@given(graphs(transcendental=False, steps=ANY, max_nodes=20), st.integers(0, 9))
def test_special_values(graph, seed):
    holds(graph, seed, 0, integral=False)
