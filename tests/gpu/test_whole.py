"""Functions on the emulated GPU, from `weft.jit` on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import weft
from tests.gpu.double import EmulatedArray, EmulatedDriver
from tests.gpu.harness import emulated, needs_compiler
from weft.devices.registry import get_device
from weft.runtime.cache import DiskCache

pytestmark = needs_compiler


@pytest.fixture(autouse=True)
def driver() -> Iterator[EmulatedDriver]:
    """The emulated device, for each test anew."""
    with emulated() as made:
        yield made


def host(value: object) -> np.ndarray:
    """The values of an array that must lie on the device."""
    assert type(value) is EmulatedArray
    return value.get()


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("n", [5, 33, 128, 1000, 4096, 20000, 40000])
def test_rows_of_all_lengths(n: int) -> None:
    """Held in registers, by one thread to a whole block, or read again."""
    x = np.random.default_rng(n).standard_normal((3, n)).astype(np.float32)
    got = host(weft.jit(softmax, device="gpu")(x))
    np.testing.assert_allclose(got, softmax(x), rtol=3e-6)


def test_loops_and_branches() -> None:
    def newton(x):
        return weft.while_loop(lambda s: (abs(s[0] * s[0] - x) > 1e-12) & (s[1] < 50),
                               lambda s: (0.5 * (s[0] + x / s[0]), s[1] + 1), (x, 0))[0]

    def powers(x):
        def turn(x, i):
            x = weft.cond(x.sum() > 1, lambda x: x * x, lambda x: x + 1, x)
            return x, x * i
        return weft.scan(turn, x, np.arange(7.0))

    assert abs(float(weft.jit(newton, device="gpu")(2.0)) - 2 ** 0.5) < 1e-12
    x = np.array([0.5, 0.25, 0.125])
    for got, want in zip(weft.jit(powers, device="gpu")(x), weft.jit(powers)(x)):
        np.testing.assert_array_equal(host(got), want)


def test_arguments_that_begin_anywhere(driver: EmulatedDriver) -> None:
    """Vectors need multiples of 16 bytes: what is not there is copied first."""
    f = weft.jit(lambda x: x * 2 + 1, device="gpu")
    x = np.arange(4097, dtype=np.float32)
    whole = driver.put(x)
    part = EmulatedArray(whole.values[1:])
    assert driver.pointer(part) % 16 == 4
    np.testing.assert_array_equal(host(f(part)), x[1:] * 2 + 1)


@pytest.mark.parametrize("n", [4, 7, 40])
def test_elements_of_scanned_arrays_begin_anywhere(n: int) -> None:
    def running(x):
        def turn(total, row):
            total = total + row
            return total, total * row.sum()
        return weft.scan(turn, np.zeros(n, np.float32), x)

    x = np.random.default_rng(0).integers(-3, 4, (5, n)).astype(np.float32)
    for got, want in zip(weft.jit(running, device="gpu")(x), weft.jit(running)(x)):
        np.testing.assert_array_equal(host(got), want)


def test_symbolic_sizes() -> None:
    """One compilation serves every batch."""
    f = weft.jit(softmax, device="gpu", shapes={"x": ("B", 33)})
    for rows in (1, 2, 50):
        x = np.random.default_rng(rows).standard_normal((rows, 33))
        np.testing.assert_allclose(host(f(x)), softmax(x), rtol=1e-14)
    assert len(f.history()) == 1


def test_donated_arguments_are_overwritten(driver: EmulatedDriver) -> None:
    f = weft.jit(lambda x, d: x - 0.5 * d, device="gpu", donate=("x",))
    x = driver.put(np.arange(6.0))
    out = f(x, np.ones(6))
    assert driver.pointer(out) == driver.pointer(x)
    np.testing.assert_array_equal(host(out), np.arange(6.0) - 0.5)


def test_code_is_kept_on_disk(driver: EmulatedDriver, tmp_path) -> None:
    cache = DiskCache(tmp_path)
    x = np.arange(4.0)
    for _ in range(2):
        low = weft.jit(lambda x: np.sin(x) + 1, device="gpu").trace(x).optimize().lower("gpu")
        low.lowered.compile(cache)
    assert driver.built == 1


def test_parts_on_two_devices() -> None:
    """What is placed on the device runs there, between parts on the CPU."""
    def f(x):
        y = np.sin(x)
        with weft.device("gpu"):
            z = np.exp(y) * 2
        return z + 1

    x = np.arange(5.0)
    np.testing.assert_allclose(weft.jit(f)(x), np.exp(np.sin(x)) * 2 + 1)


def test_bad_index_is_told_at_the_next_wait(driver: EmulatedDriver) -> None:
    driver.eager = False
    f = weft.jit(lambda x, i: x[i] * 2, device="gpu")
    x = np.arange(5.0)
    out = f(x, np.array([1, 7]))                            # no error yet
    with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 5"):
        weft.block_until_ready(out)
    np.testing.assert_array_equal(host(f(x, np.array([1, -1]))), [2.0, 8.0])


def test_what_a_function_makes_for_itself_is_put_there_once(driver: EmulatedDriver) -> None:
    """An array from outside may have changed, and is copied at each call."""
    given = np.sin(np.arange(20000.0))
    f = weft.jit(lambda x: x + np.cos(np.arange(20000.0)) + given, device="gpu")
    x = get_device("gpu").memory.put(np.ones(20000))
    put, driver.put = driver.put, lambda array: counted.append(array.size) or put(array)
    counted: list[int] = []
    for _ in range(3):
        np.testing.assert_allclose(host(f(x)), 1 + np.cos(np.arange(20000.0)) + given)
        given[0] += 1
    assert counted.count(20000) == 1 + 3


def test_open_sizes_are_taken_by_vectors() -> None:
    """The last vector of an open length is short; rows of a known length are whole vectors."""
    f = weft.jit(lambda x, y: x * y + 1, device="gpu", shapes={"x": ("N",), "y": ("N",)})
    g = weft.jit(lambda x, b: x + b, device="gpu", shapes={"x": ("N", 12)})
    rng = np.random.default_rng(0)
    for n in (0, 1, 3, 4, 5, 1000, 1023):
        x, y = (rng.standard_normal(n).astype(np.float32) for _ in range(2))
        np.testing.assert_array_equal(host(f(x, y)), x * y + 1)
        rows, b = (rng.standard_normal(s).astype(np.float32) for s in ((n, 12), (12,)))
        np.testing.assert_array_equal(host(g(rows, b)), rows + b)
    for h, args in ((f, (x, y)), (g, (rows, b))):
        assert "vectors of 4" in h.trace(*args).optimize().lower("gpu").text("cuda")
