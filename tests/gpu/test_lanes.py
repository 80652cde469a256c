"""Lanes: steps that meet in memory stay in order, and others need not."""

from __future__ import annotations

import numpy as np
import pytest

import weft
from tests.gpu.harness import TARGET, emulated, needs_compiler
from tests.gpu.test_models import losses, training
from weft.compiler.kernel.plan import plan_memory
from weft.devices.gpu.lanes import Place, lanes, touched
from weft.devices.gpu.lowered import lower


def memory(program, names: list[str]) -> set[tuple[str, int]]:
    """What these buffers occupy, in pieces of 64 bytes."""
    out: set[tuple[str, int]] = set()
    for b in map(program.by_name.__getitem__, names):
        begin = b.offset // 64 if b.kind == "temp" else 0
        end = -(-(b.offset + max(1, b.type.nbytes)) // 64) if b.kind == "temp" else 1
        out |= {("arena" if b.kind == "temp" else b.name, i) for i in range(begin, end)}
    return out


def assert_in_order(program, places: tuple[Place, ...]) -> None:
    """Of two steps that meet, the later one waits for the earlier one, perhaps through others."""
    found = [tuple(memory(program, names) for names in touched(s)) for s in program.steps]
    before: list[set[int]] = []             # of each step, those that are done when it begins
    for i, (place, (reads, writes)) in enumerate(zip(places, found)):
        direct = set(place.after) | {j for j in range(i) if places[j].lane == place.lane}
        before.append(direct.union(*(before[j] for j in direct)) if direct else set())
        assert all(places[j].told for j in place.after)
        for j, (read, written) in enumerate(found[:i]):
            meet = written & (reads | writes) or read & writes
            assert not meet or j in before[i], f"step {i} does not wait for {j}"


def gpu_program(f, *args, **options):
    stage = weft.jit(f, **options).trace(*args).optimize()
    return lower(stage.graph, TARGET).program


@pytest.mark.parametrize("name", ["train_mlp", "train_gpt"])
def test_training_is_in_order(name: str) -> None:
    m, (weights, data) = training(name)
    graph = m.step.trace(weights, weights, weights, 1.0, *data).optimize().graph
    for donated in ((), tuple(range(3 * len(weights)))):
        program = lower(graph, TARGET, donated).program
        places = lanes(program)
        assert_in_order(program, places)
        assert len({p.lane for p in places}) > 1
        tight = plan_memory(program)            # temporaries share memory again
        assert tight.arena < program.arena
        assert_in_order(tight, lanes(tight))


def test_independent_branches_lie_side_by_side() -> None:
    def f(x, y):
        return (x @ x) @ x, (y @ y) @ y
    program = gpu_program(f, np.ones((64, 64)), np.ones((64, 64)))
    places = lanes(program)
    assert_in_order(program, places)
    assert [p.lane for p in places] in ([0, 0, 1, 1], [0, 1, 0, 1])
    assert not any(p.after for p in places)


def test_a_chain_is_one_lane() -> None:
    def f(x):
        return ((x @ x) @ x) @ x
    assert lanes(gpu_program(f, np.ones((64, 64)))) == (Place(0),) * 3


def test_open_sizes_stay_in_order() -> None:
    program = gpu_program(lambda x, y: (np.sort(x), np.sort(y)), np.ones(4), np.ones(5),
                          shapes={"x": ("N",), "y": ("M",)})
    assert {p.lane for p in lanes(program)} == {0}


@needs_compiler
@pytest.mark.parametrize("name", ["train_mlp", "train_gpt"])
def test_any_order_that_lanes_allow(name: str) -> None:
    """The double replays nodes in a random order in which each comes behind what it waits for."""
    m, (weights, data) = training(name)
    want = losses(m, weights, data, "cpu", 7)
    with emulated(cublaslt=True, pooled=True) as driver:
        got = losses(m, weights, data, "gpu", 7)
        assert driver.replayed >= 2
    np.testing.assert_allclose(got, want, rtol=2e-5)
