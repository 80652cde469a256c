"""Random graphs on the emulated GPU, against the reference, to the bit."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, reject, settings

from tests.conformance.test_graphs import SPECIAL, WHOLE
from tests.gpu.harness import needs_compiler, run
from tests.strategies import assert_same, inputs
from weft.compiler.ir import Graph
from weft.devices.reference import evaluate

pytestmark = needs_compiler
few = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))


def holds(graph: Graph, seed: int, size: int, integral: bool) -> None:
    """The emulated device's results are the reference's."""
    arrays = inputs(graph, seed, integral=integral, sizes={"B": size})
    try:
        want = evaluate(graph, arrays)
    except ValueError:          # the largest of nothing, where B is 0
        reject()
    assert_same(run(graph, arrays), want, str(graph))


@few
@given(*WHOLE)
def test_whole_numbers(graph: Graph, seed: int, size: int) -> None:
    """Sums and products of small whole numbers are exact in any order; sizes may be open."""
    holds(graph, seed, size, integral=True)


@few
@given(*SPECIAL)
def test_special_values(graph: Graph, seed: int) -> None:
    """Ops that round correctly, on NaN, infinities and zeros of both signs."""
    holds(graph, seed, 0, integral=False)


@pytest.mark.slow
@many
@given(*WHOLE)
def test_many_whole_numbers(graph: Graph, seed: int, size: int) -> None:
    """As above, at length."""
    holds(graph, seed, size, integral=True)


@pytest.mark.slow
@many
@given(*SPECIAL)
def test_many_special_values(graph: Graph, seed: int) -> None:
    """As above, at length."""
    holds(graph, seed, 0, integral=False)
