"""Random graphs, on every device that is here, against the reference."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from tests.conformance.devices import DEVICES, Subject
from tests.strategies import assert_same, graphs, inputs
from weft.compiler.ir import Graph
from weft.devices.reference import evaluate

EXACT = ("bool", "i8", "u32", "i64", "f64")
MOVES = ("elementwise", "elementwise", "convert", "select", "broadcast", "reshape", "transpose",
         "reverse", "slice", "pad", "concatenate", "iota", "constant", "along",
         "scatter", "part")
few = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
every_device = pytest.mark.parametrize("device", DEVICES, ids=str)


def holds(device: Subject, graph: Graph, seed: int, size: int, integral: bool) -> None:
    """The device's results are the reference's, to the bit."""
    arrays = inputs(graph, seed, integral=integral, sizes={"B": size})
    try:
        want = evaluate(graph, arrays)
    except ValueError:          # the largest of nothing, where B is 0
        reject()
    assert_same(device.run(graph, arrays), want, str(graph))


def is_ordered(graph: Graph) -> bool:
    """Without the larger or smaller of two floats, which may be zeros of both signs: NumPy returns
    the first of them on some processors and the second on others."""
    return not any(n.opname in ("maximum", "minimum", "fmax", "fmin") and n.dtype.is_inexact
                   for n in graph.nodes)


WHOLE = (graphs(integral=True, dtypes=EXACT, symbolic=True, max_nodes=14).filter(is_ordered),
         st.integers(0, 9), st.integers(0, 70))


def is_defined(graph: Graph) -> bool:
    """Without complex numbers, since NumPy's products round otherwise in arrays that fill its
    vectors, and without the larger or smaller of two zeros, of which it may return either."""
    nodes = (*graph.params, *graph.nodes)
    return not any(n.dtype.is_complex or n.opname in ("maximum", "minimum", "fmax", "fmin")
                   for n in nodes)


SPECIAL = (graphs(transcendental=False, steps=MOVES, max_nodes=14,
                  dtypes=("bool", "i8", "u32", "i64", "f16", "bf16", "f32", "f64"))
           .filter(is_defined), st.integers(0, 9))


@every_device
@few
@given(*WHOLE)
def test_whole_numbers(device: Subject, graph: Graph, seed: int, size: int) -> None:
    """Sums and products of small whole numbers are exact in any order."""
    holds(device, graph, seed, size, integral=True)


@every_device
@few
@given(*SPECIAL)
def test_special_values(device: Subject, graph: Graph, seed: int) -> None:
    """Ops that round correctly, on NaN, infinities and zeros of both signs."""
    holds(device, graph, seed, 0, integral=False)


@pytest.mark.slow
@every_device
@many
@given(*WHOLE)
def test_many_whole_numbers(device: Subject, graph: Graph, seed: int, size: int) -> None:
    """As above, at length."""
    holds(device, graph, seed, size, integral=True)


@pytest.mark.slow
@every_device
@many
@given(*SPECIAL)
def test_many_special_values(device: Subject, graph: Graph, seed: int) -> None:
    """As above, at length."""
    holds(device, graph, seed, 0, integral=False)
