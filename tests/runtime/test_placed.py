"""Random graphs, placed at random on devices with memories of their own, run by the scheduler."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import assert_same, graphs, inputs

from tests.devices.toy import toys
from weft.compiler.ir import Graph
from weft.compiler.passes import run_pipeline
from weft.compiler.placement import is_elsewhere, outline
from weft.compiler.target import Target
from weft.devices.reference import evaluate
from weft.devices.registry import get_device
from weft.runtime.placed import lower_placed, passes_for

DEVICES = (None, "reference", "toy", "toy:1")


@settings(max_examples=60)
@given(graphs(transcendental=False), st.lists(st.sampled_from(DEVICES), min_size=12, max_size=12),
       st.sampled_from(["reference", "toy"]), st.integers(0, 9))
def test_any_placement_computes_the_same(graph: Graph, devices: Sequence[str | None], home: str,
                                         seed: int) -> None:
    """Whatever is where, every value is there in time, and nothing is dropped too early."""
    with toys():
        places = {n: (d, None) for n, d in zip(graph.nodes, [*devices, *devices]) if d is not None}
        placed = outline(graph, places)
        if not is_elsewhere(placed, home):
            return
        out, _ = run_pipeline(placed, Target(), passes_for(placed, home, Target()))
        program = lower_placed(out, home, Target()).compile()
        memory = get_device(home).memory
        arrays = inputs(graph, seed, integral=True)
        for _ in range(2):
            got = program.run([memory.put(a) for a in arrays])
            assert all(map(memory.owns, got))
            assert_same([memory.get(g) for g in got], evaluate(graph, arrays), str(out))


@settings(max_examples=40)
@given(graphs(transcendental=False), st.lists(st.sampled_from([None, "toy", "reference"]),
                                              min_size=12, max_size=12), st.integers(0, 9))
def test_parts_on_the_cpu_overwrite_nothing_that_is_read(
        graph: Graph, devices: Sequence[str | None], seed: int) -> None:
    """Its programs write results over what is donated to them, arguments included."""
    with toys():
        places = {n: (d, None) for n, d in zip(graph.nodes, [*devices, *devices]) if d is not None}
        placed = outline(graph, places)
        if not is_elsewhere(placed, "cpu"):
            return
        target = get_device("cpu").target()
        out, _ = run_pipeline(placed, target, passes_for(placed, "cpu", target))
        arrays = inputs(graph, seed, integral=True)
        want = evaluate(graph, arrays)
        for donated in ((), range(len(arrays))):
            program = lower_placed(out, "cpu", target, donated).compile()
            for _ in range(3):          # by native entries, at last
                given = [a.copy() for a in arrays]
                assert_same(program.run(given), want, str(out))
                if not donated:
                    assert_same(given, arrays, str(out))
