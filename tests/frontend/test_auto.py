"""`device="auto"`: the cost model chooses, says why, and changes nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import weft
from tests.devices.toy import ToyDevice, toys
from weft.compiler.cost import Costs, Work, work_of
from weft.compiler.errors import WeftError
from weft.compiler.ops.registry import OPS
from weft.compiler.text import parse
from weft.devices.costs import TABLE, costs_of
from weft.devices.registry import get_device

X = np.ones((64, 64))


class Fast(ToyDevice):
    """A device that takes no time but for moving."""

    name = "fast"
    costs = Costs(launch=0.0, flops=1e18, bandwidth=1e18, transfer=1e-3, link=1e9, why="a test")

    def supported(self) -> frozenset[str]:
        return frozenset(OPS) - {"sort"}


class Slow(ToyDevice):
    """A device that takes a second more than others."""

    name = "slow"
    costs = Costs(launch=1.0, why="a test")


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    with toys(fast=Fast, slow=Slow):
        get_device("fast"), get_device("slow")
        yield


def choices(f: Any, *args: Any) -> dict[str, str]:
    """What each part runs on."""
    return {str(c.origin): c.device for c in f.trace(*args).choices}


def long(x: Any) -> Any:
    for _ in range(40):
        x = np.tanh(x @ x)
    return x


def test_much_work_goes_where_it_is_done_fast() -> None:
    big, small = np.full((512, 512), 0.01), np.full((8, 8), 0.01)
    f = weft.jit(long, device="auto")
    assert choices(f, big) == {"None": "fast"} and choices(f, small) == {"None": "cpu"}
    for x in (big[:64, :64], small):
        assert type(f(x)) is np.ndarray         # as if no device was given
        np.testing.assert_allclose(f(x), long(x))


def test_where_nothing_else_is_worth_it_calls_are_native() -> None:
    f = weft.jit(lambda x: x + 1, device="auto")
    for _ in range(3):
        f(X)
    assert f.compiled_for(X)[0].is_native


def test_explain() -> None:
    f = weft.jit(long, device="auto")
    text = str(weft.explain(f, np.full((512, 512), 0.01)))
    part = text[text.index("\nauto\n"):].partition("\n\n")[0]
    part = re.sub(r"cpu {8}[\d.]+ m?s", "cpu        TIME", part)
    lines = part.strip().splitlines()
    assert lines[:4] == ["auto", "  the function runs on fast: 1.09e+04 MFLOP, 256 MB, 80 ops",
                         "    fast       6.21 ms, of which 6.19 ms to move arrays",
                         "    cpu        TIME"]
    assert "    assumed of fast: 1e+18 FLOP/s, 1e+18 B/s, 0 µs a run (a test)" in "\n".join(
        line.removeprefix("  ") for line in lines)
    assert "placement: 1 partition on fast, 4.19 MB moved" in text


def test_parts_are_chosen_one_by_one() -> None:
    def f(x: Any) -> Any:
        y = np.sin(x)
        with weft.device("auto"):
            a = long(y)
        with weft.device("auto"):
            b = y + 1
        with weft.device("auto"):
            c = np.sort(long(y), axis=0)
        return a + b + c
    g = weft.jit(f)
    big = np.full((512, 512), 0.01)
    assert [*choices(g, big).values()] == ["fast", "cpu", "cpu"]
    lines = [line for c in g.trace(big).choices for line in c.lines()]
    assert "  fast       cannot: it has no op sort" in lines
    x = X[:8, :8] * 0.01
    np.testing.assert_allclose(g(x), 2 * long(np.sin(x)) + np.sin(x) + 1)


def test_parts_in_loops_and_parts_are_where_these_are() -> None:
    def f(x: Any) -> Any:
        def body(i: Any, y: Any) -> Any:
            with weft.device("auto"):
                return np.sin(y)
        with weft.device("fast"), weft.device("auto"):
            x = x * 2
        return weft.fori_loop(0, 3, body, x)
    g = weft.jit(f)
    np.testing.assert_allclose(g(X), np.sin(np.sin(np.sin(2 * X))))
    assert '"auto"' not in g.trace(X).text() and "@auto" not in g.trace(X).text()


def test_to() -> None:
    f = weft.jit(long)
    assert f.to("auto") is f.to("auto") is f.to("auto").to("auto")
    assert f.to("auto").to("cpu").options.device == "cpu"
    np.testing.assert_allclose(f.to("auto")(X[:4, :4] * 0.01), long(X[:4, :4] * 0.01))


def test_it_is_no_device_outside() -> None:
    with pytest.raises(WeftError, match="there is no device named 'auto'"), weft.device("auto"):
        pass


def test_work() -> None:
    """Operations of loops count as often as they turn, the most of branches, and views nothing."""
    graph = parse("""graph @f(%x: f32[100]) -> (f32[100]) {
      %s = scan %x {consts=0, carries=1, length=5, reverse=false,
        body=graph @body(%c: f32[100]) -> (f32[100]) {
          %e = neg %c : f32[100]
          return %e
        }} : (f32[100])
      %y = get %s {index=0} : f32[100]
      %z = reverse %y {axes=[0]} : f32[100]
      return %z
    }""")
    assert work_of(graph) == Work(5 * 100.0, 800 + 5 * 800.0, 5 + 1.0)


def test_the_table() -> None:
    """Every line has its reason, and the CPU's is made of what it has."""
    assert all(c.why for c in TABLE.values())
    cpu, reference = costs_of(get_device("cpu")), costs_of(get_device("reference"))
    assert "float32 lanes" in cpu.why
    work = work_of(weft.jit(lambda x: np.exp(x) * 2 + 1).trace(X).graph)
    assert reference.seconds(work) > 5 * cpu.seconds(work)
