"""The benchmark's arithmetic: goals, ratios, limits, workloads. No times are asserted."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # bench is not installed with weft

from bench import by_hand, kernels, memory, peers, report, startup, workloads
from bench.machine import Limits
from bench.measure import fill
from bench.results import Cell, Row
from bench.worker import describe
from bench.workloads import Goal, faster

SMALL = [w for w in workloads.WORKLOADS if w.flops < 1e8]
DERIVATIVES = [w for w in workloads.WORKLOADS if w.group in ("train", "gradient")]


def row(goal: Goal, **rounds: list[float]) -> Row:
    return Row("name", "group", goal, {name: Cell(times) for name, times in rounds.items()})


def test_the_best_peer_is_never_weft() -> None:
    assert row(faster(1), weft=[1.0], numpy=[3.0], jax=[2.0]).best == "jax"


def test_speed_is_the_median_over_pairs_of_a_round() -> None:
    measured = row(faster(1), weft=[1.0, 2.0, 1.0], jax=[3.0, 4.0, 1.5])
    assert measured.speed("jax") == 2.0


@pytest.mark.parametrize(("goal", "met"), [
    (faster(1.9), True), (faster(2.1), False),
    (Goal({"numpy": 0.2}), True), (Goal({"numpy": 0.09}), False),
    (Goal({"compiling": 0.5}), True), (Goal({"compiling": 0.4}), False),
    (Goal(under=1.1), True), (Goal(under=0.9), False),
    (Goal({"torch": 1.0}), None),  # not measured
])
def test_goals(goal: Goal, met: bool | None) -> None:
    assert row(goal, weft=[1.0], jax=[2.0], numpy=[10.0]).met() is met


def test_a_wrong_answer_misses_the_goal_and_a_wrong_peer_is_no_peer() -> None:
    measured = row(faster(1), weft=[1.0], jax=[0.5], numpy=[2.0])
    measured.cells["jax"].left_out = "wrong answer"
    assert measured.best == "numpy" and measured.met()
    measured.cells["weft"].left_out = "wrong answer"
    assert measured.met() is False


def test_names_are_unique_and_every_row_is_selectable() -> None:
    assert len(workloads.BY_NAME) == len(workloads.WORKLOADS)
    names = [*workloads.BY_NAME, *startup.row_names()]
    assert workloads.select(names, "softmax,first-*dispatch*") == [
        "softmax-4096x1024", "first-call/softmax-4096x1024", "first-call/dispatch-4",
        "from-disk/softmax-4096x1024",
    ]
    assert workloads.select(names, "softmax-4096x1024") == ["softmax-4096x1024"]


@pytest.mark.parametrize("workload", SMALL, ids=lambda w: w.name)
def test_inputs_are_seeded_and_sizes_are_right(workload: workloads.Workload) -> None:
    inputs, again = workload.make_inputs(), workload.make_inputs()
    for one, two in zip(inputs, again):
        assert one.dtype == workload.dtype
        np.testing.assert_array_equal(one, two)
    if workload.group == "gradient":
        parts = tuple(by_hand.answers(workload, inputs))
    else:
        answer = getattr(kernels, workload.kernel)(*inputs)
        parts = answer if isinstance(answer, tuple) else (answer,)
    assert sum(part.size for part in parts) == workload.written
    assert workload.bytes_read == sum(x.nbytes for x in inputs)


def test_the_limit_is_the_slower_of_arithmetic_and_memory() -> None:
    def limits(flops: float, bandwidth: float) -> Limits:
        speed = {"one": bandwidth / 2, "all": bandwidth}
        return Limits({"float32": {"one": flops / 2, "all": flops}}, {"1": speed}, {"1": speed})

    product = workloads.BY_NAME["matmul-64x64x64"]
    assert limits(1.0, 1e30).seconds(product) == product.flops
    assert limits(1e30, 1.0).seconds(product) == product.bytes_read + product.bytes_written


def test_reasons_carry_no_paths() -> None:
    assert describe(OSError("no /some/where/on/disk.txt here")) == "OSError: no disk.txt here"


def test_a_peers_environment_fills_in_a_folder() -> None:
    for spec in peers.PEERS:
        for values in (spec.cold, spec.warm or {}):
            assert "{" not in "".join(fill(values, Path("x")).values())


@pytest.mark.parametrize("workload", DERIVATIVES, ids=lambda w: w.name)
def test_derivatives_have_their_memory_measured_and_are_judged_by_length(
    workload: workloads.Workload
) -> None:
    assert workload.norm and workload.memory and workload.first
    assert bool(workload.parameters) is (workload.group == "train")
    assert f"memory/{workload.name}" in startup.row_names()
    assert f"from-disk/{workload.name}" not in startup.row_names()


def test_back_propagation_by_hand_follows_differences() -> None:
    rng = np.random.default_rng(0)
    sizes = (5, 4, 3, 2)
    p = {}
    for i, (k, n) in enumerate(pairwise(sizes), 1):
        p[f"w{i}"], p[f"b{i}"] = rng.standard_normal((k, n)), rng.standard_normal(n)
    x, labels = rng.standard_normal((6, 5)), rng.integers(0, 2, 6)
    _, gradient = by_hand.train_mlp(p, x, labels)
    for name, array in p.items():
        at = tuple(0 for _ in array.shape)
        losses = []
        for step in (1e-6, -1e-6):
            moved = {**p, name: array.copy()}
            moved[name][at] += step
            losses.append(by_hand.train_mlp(moved, x, labels)[0])
        assert gradient[name][at] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-7)


def test_the_integrators_adjoint_follows_a_complex_step() -> None:
    starts = [np.array([1.0, 1.5]), np.array([1.2, 0.5]), np.array([1.1, 2.0])]
    constants = np.array([10.0, 8.0, 3.0])
    gradients = by_hand.lorenz_gradient(*starts, constants)
    for i, at in ((0, 1), (1, 0), (2, 1), (3, 0), (3, 1), (3, 2)):
        moved = [a.astype(complex) for a in (*starts, constants)]
        moved[i][at] += 1e-30j
        state = np.stack(moved[:3])
        for _ in range(by_hand.STEPS):
            state = by_hand._rk4(state, moved[3])[0]
        slope = (state * state).mean(axis=1).sum().imag / 1e-30
        assert gradients[i][at] == pytest.approx(slope, rel=1e-10)


def test_memory_is_seen_to_grow() -> None:
    memory.forget_peak()
    before = memory.peak()
    held = np.ones(10_000_000)
    assert memory.peak() - before > held.nbytes / 2
    assert memory.resident() > 0


def test_memory_is_shown_in_megabytes() -> None:
    measured = row(workloads.MEMORY, weft=[2e7], jax=[3e7])
    measured.unit = "B"
    text = report.table([measured], ["weft", "jax"])
    assert "workload, ms, or MB" in text and " 20 " in text and " 30 " in text
    assert measured.met()
