"""CUDA graphs: when a program is recorded, when it is launched as a whole, and when not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import weft
from tests.gpu.double import EmulatedDriver
from tests.gpu.harness import emulated, needs_compiler
from weft.devices.gpu import replay
from weft.devices.registry import get_device

pytestmark = needs_compiler


@pytest.fixture(autouse=True)
def driver() -> Iterator[EmulatedDriver]:
    """The emulated device, whose pool gives the memory of freed arrays again, as CuPy's does."""
    with emulated(cublaslt=True, pooled=True) as made:
        yield made


def two_kernels(x, y):
    return (x / x.sum()) @ np.outer(y, y)


def run(f, *args, times=5):
    """A function called again and again on the same arrays: its results on the host."""
    memory = get_device("gpu").memory
    there = [memory.put(a) for a in args]
    return [memory.get(f(*there)) for _ in range(times)]


X, Y = np.linspace(1, 2, 64), np.linspace(-1, 1, 64)


def test_the_second_call_on_the_same_memory_is_recorded(driver: EmulatedDriver) -> None:
    f = weft.jit(two_kernels, device="gpu")
    want = two_kernels(X, Y)
    for got in run(f, X, Y, times=6):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    assert (driver.captured, driver.replayed) == (1, 5)


def test_contents_may_change(driver: EmulatedDriver) -> None:
    """A graph holds addresses, not values."""
    f = weft.jit(two_kernels, device="gpu")
    memory = get_device("gpu").memory
    x, y = memory.put(X), memory.put(Y)
    for i in range(5):
        x.values[...] = X + i
        np.testing.assert_allclose(memory.get(f(x, y)), two_kernels(X + i, Y), rtol=1e-12)
    assert driver.replayed == 4


def test_other_memory_is_another_graph(driver: EmulatedDriver) -> None:
    f = weft.jit(two_kernels, device="gpu")
    memory = get_device("gpu").memory
    there = [[memory.put(X + i), memory.put(Y)] for i in range(3)]
    for _ in range(4):
        for i, args in enumerate(there):
            np.testing.assert_allclose(memory.get(f(*args)), two_kernels(X + i, Y), rtol=1e-12)
    assert driver.captured == 3
    kept = []                               # results that live on: new memory each time
    before = driver.replayed
    for _ in range(4):
        kept.append(f(*there[0]))
    assert driver.replayed <= before + 1
    for out in kept:
        np.testing.assert_allclose(memory.get(out), two_kernels(X, Y), rtol=1e-12)


def test_open_sizes_are_part_of_the_key(driver: EmulatedDriver) -> None:
    f = weft.jit(lambda x: x / np.sum(x), device="gpu", shapes={"x": ("N",)})
    memory = get_device("gpu").memory
    big = memory.put(np.arange(1.0, 65.0))
    for n in (64, 64, 64, 32, 32, 32):
        part = big if n == 64 else memory.put(np.arange(1.0, n + 1))
        np.testing.assert_allclose(memory.get(f(part)), np.arange(1.0, n + 1) / (n * (n + 1) / 2))


def test_products_and_loops_are_part_of_graphs(driver: EmulatedDriver) -> None:
    def f(x, w):
        return weft.scan(lambda x, _: (np.tanh(x @ w), None), x, None, 3)[0]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((96, 128)).astype(np.float32)
    w = rng.standard_normal((128, 128)).astype(np.float32) / 16
    want = weft.jit(f)(x, w)
    for got in run(weft.jit(f, device="gpu"), x, w, times=6):
        np.testing.assert_allclose(got, want, atol=1e-5)
    assert (driver.captured, driver.replayed) == (1, 5)


def test_checks_are_made_in_graphs(driver: EmulatedDriver) -> None:
    f = weft.jit(lambda x, i: np.sum(x[i] * 2) + x, device="gpu")
    memory = get_device("gpu").memory
    x, i = memory.put(np.arange(5.0)), memory.put(np.array([1, 2]))
    for _ in range(4):
        assert memory.get(f(x, i))[0] == 6.0
    i.values[1] = 9
    with pytest.raises(IndexError, match="index 9 is out of bounds"):
        memory.get(f(x, i))
    assert driver.replayed


def test_a_host_that_runs_ahead_replays(driver: EmulatedDriver) -> None:
    """Statuses that were not looked at yet are no reason for other memory."""
    driver.eager = False
    f = weft.jit(lambda x, i: np.sum(x[i] * 2) + x, device="gpu")
    memory = get_device("gpu").memory
    x, i = memory.put(np.arange(5.0)), memory.put(np.array([1, 2]))
    for _ in range(12):
        out = f(x, i)
        del out
    assert (driver.captured, driver.replayed) == (1, 11)
    i.values[1] = 9
    out = f(x, i)
    with pytest.raises(IndexError, match="index 9 is out of bounds"):
        weft.block_until_ready(out)
    i.values[1] = 2
    assert memory.get(f(x, i))[0] == 6.0


def test_what_is_not_recorded(driver: EmulatedDriver) -> None:
    """Work that the host decides on, single kernels, a stream that the user captures."""
    def newton(x):
        return weft.while_loop(lambda s: s[1] < 3, lambda s: (s[0] / 2 + x.sum(), s[1] + 1),
                               (x, 0))[0]
    run(weft.jit(newton, device="gpu"), X)
    run(weft.jit(lambda x: x + 1, device="gpu"), X)
    run(weft.jit(lambda x: np.sort(x) / x.sum(), device="gpu"), X)
    driver.user_captures = True
    run(weft.jit(two_kernels, device="gpu"), X, Y)
    assert not driver.captured
    driver.user_captures = False
    replay.set_replay(False)
    try:
        run(weft.jit(two_kernels, device="gpu"), X, Y)
    finally:
        replay.set_replay(True)
    assert not driver.captured


def test_few_graphs_are_kept(driver: EmulatedDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "KEPT", 2)
    monkeypatch.setattr(replay, "HOPELESS", 3)
    f = weft.jit(two_kernels, device="gpu")
    memory = get_device("gpu").memory
    there = [[memory.put(X), memory.put(Y)] for _ in range(3)]
    for _ in range(3):
        for args in there:
            memory.get(f(*args))
    assert driver.captured >= 3
    before, kept = driver.captured, []
    for _ in range(12):                     # never again the same: it is given up
        kept.append([memory.put(X), memory.put(Y)])
        memory.get(f(*kept[-1]))
    for args in (*kept, *kept):
        memory.get(f(*args))
    assert driver.captured == before
