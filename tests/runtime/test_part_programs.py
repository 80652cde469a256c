"""Programs of partitions: what they may overwrite, where they are kept, how they are compiled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import weft
from tests.devices.toy import ToyDevice, ToyLowered, toys
from weft.compiler.errors import Origin, WeftError
from weft.devices.cpu import device as cpu_device
from weft.devices.protocol import DeviceError
from weft.runtime.cache import DiskCache

PATIENCE = 60
X = np.linspace(-1.0, 2.0, 12).reshape(3, 4)


class Noting(ToyDevice):
    """A device that notes what it may overwrite."""

    name = "noting"
    seen: ClassVar[list[tuple[int, ...]]] = []

    def lower(self, graph: Any, target: Any, donated: Any = ()) -> Any:
        self.seen.append(tuple(donated))
        return super().lower(graph, target, donated)


class Meeting(ToyDevice):
    """A device whose programs compile only while another one does."""

    name = "meeting"
    barrier = threading.Barrier(2)

    def lower(self, graph: Any, target: Any, donated: Any = ()) -> Any:
        return MeetingLowered(self, graph)


class MeetingLowered(ToyLowered):
    def compile(self, cache: Any = None) -> Any:
        self.device.barrier.wait(PATIENCE)
        return super().compile(cache)


class Refusing(ToyDevice):
    """A device that compiles nothing; the second one of a function is the first to say so."""

    name = "refusing"
    told = threading.Event()

    def lower(self, graph: Any, target: Any, donated: Any = ()) -> Any:
        return RefusingLowered(self, graph)


class RefusingLowered(ToyLowered):
    def compile(self, cache: Any = None) -> Any:
        first = any(n.opname == "sin" for n in self.graph.nodes)
        if first:
            self.device.told.wait(PATIENCE)
        else:
            self.device.told.set()
        raise DeviceError(f"no {'first' if first else 'second'} part")


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    Noting.seen.clear()
    with toys(noting=Noting, meeting=Meeting, refusing=Refusing):
        yield


def on(name: str, fn: Any, *args: Any) -> Any:
    with weft.device(name):
        return fn(*args)


# ---- donation

def test_what_is_made_for_one_part_is_donated_to_it() -> None:
    """Copies made by moving too; what two read, is a result or has no result of its type is not."""
    def f(x: Any) -> Any:
        return on("noting", np.sin, x) * 2          # x is moved, and its copy is nobody else's
    np.testing.assert_allclose(weft.jit(f)(X), np.sin(X) * 2)
    assert Noting.seen == [(0,)]
    Noting.seen.clear()

    def g(x: Any) -> Any:
        y = np.cos(x)
        return on("noting", lambda y: (y.sum(axis=0), y @ y.T), y), on("toy", np.sin, y), y
    weft.jit(g)(X)
    assert Noting.seen == [()]
    Noting.seen.clear()

    def h(x: Any) -> Any:
        a = on("noting", np.sin, x)
        b = on("toy", np.cos, a)
        return on("noting", np.exp, a) + b          # a is read twice
    np.testing.assert_allclose(weft.jit(h)(X), np.exp(np.sin(X)) + np.cos(np.sin(X)))
    assert Noting.seen == [(0,), ()]


def test_donated_arguments_reach_the_part_that_reads_them() -> None:
    """On the CPU a step's new weights are written over the old ones, through another part."""
    def step(w: Any, x: Any) -> Any:
        g = on("toy", lambda x: np.sin(x), x)
        return w - 0.1 * g
    w = X.copy()
    out = weft.jit(step, donate="w")(w, X)
    assert out is w
    np.testing.assert_allclose(out, X - 0.1 * np.sin(X))
    kept = X.copy()
    assert weft.jit(step)(kept, X) is not kept
    np.testing.assert_array_equal(kept, X)


def test_a_donated_argument_that_two_parts_read_is_kept() -> None:
    def f(w: Any) -> Any:
        a = on("reference", np.sin, w)
        return w * 2 + a, on("reference", np.cos, w)
    got = weft.jit(f, donate="w")(X.copy())
    np.testing.assert_allclose(got[0], X * 2 + np.sin(X))
    np.testing.assert_allclose(got[1], np.cos(X))


def test_equal_results_are_one_array() -> None:
    """Two results of a part that turn out equal are not overwritten one without the other."""
    def f(x: Any) -> Any:
        a, b = np.sin(x) * 1.0, np.sin(x)
        c = on("reference", lambda a, b: a @ b.T, a, b)
        return a + 1, b * 2, c
    for got, want in zip(weft.jit(f)(X), (np.sin(X) + 1, np.sin(X) * 2, np.sin(X) @ np.sin(X).T)):
        np.testing.assert_allclose(got, want)


# ---- the disk cache

def test_parts_are_kept_whole_on_disk(tmp_path: Path, monkeypatch: Any) -> None:
    """A second process, here another function of the same meaning, lowers nothing on the CPU."""
    disk = DiskCache(tmp_path, enabled=True)
    monkeypatch.setattr("weft.frontend.jit.disk_cache", lambda: disk)
    lowered: list[Any] = []
    lower = cpu_device.CpuDevice.lower

    def noting(self: Any, graph: Any, *args: Any) -> Any:
        lowered.append(graph)
        return lower(self, graph, *args)
    monkeypatch.setattr(cpu_device.CpuDevice, "lower", noting)

    def f(x: Any) -> Any:
        y = np.sin(x) @ x.T
        return np.tanh(on("toy", np.cos, y)) * y
    want = np.tanh(np.cos(np.sin(X) @ X.T)) * (np.sin(X) @ X.T)
    first, again = weft.jit(f), weft.jit(f)
    np.testing.assert_allclose(first(X), want)
    assert len(lowered) == 2
    np.testing.assert_allclose(again(X), want)
    assert len(lowered) == 2
    assert again.compiled_for(X)[0].about.from_cache
    assert again.compiled_for(X)[0].about.kernel_count == len(first.lower(X).kernels)
    lowered.clear()
    np.testing.assert_allclose(weft.jit(f, fast_math=True)(X), want)
    assert len(lowered) == 2                    # other programs


# ---- compiling

def test_parts_compile_side_by_side(monkeypatch: Any) -> None:
    """Two compile at once, or neither would ever be done."""
    monkeypatch.setattr("weft.runtime.part_program._cores", lambda: 2)

    def f(x: Any) -> Any:
        a = on("meeting", np.sin, x)
        return on("meeting", np.cos, a + 1) * 2
    np.testing.assert_allclose(weft.jit(f)(X), np.cos(np.sin(X) + 1) * 2)


@pytest.mark.parametrize("cores", [1, 2])
def test_of_several_errors_the_first_parts_is_raised(cores: int, monkeypatch: Any) -> None:
    """Whichever thread comes to its own first."""
    monkeypatch.setattr("weft.runtime.part_program._cores", lambda: cores)
    Refusing.told.clear()
    if cores == 1:
        Refusing.told.set()

    def f(x: Any) -> Any:
        with weft.device("refusing"):
            a = np.sin(x)
        b = a + 1
        with weft.device("refusing"):
            return np.cos(b)
    with pytest.raises(WeftError, match="no first part") as caught:
        weft.jit(f)(X)
    origin = caught.value.origin
    assert isinstance(origin, Origin)
    assert origin.source() == 'with weft.device("refusing"):'
