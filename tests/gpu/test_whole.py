"""Functions on the emulated GPU, from `weft.jit` on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import weft
from tests.gpu.double import EmulatedArray, EmulatedDriver
from tests.gpu.harness import emulated, needs_compiler

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


def test_bad_index_is_told_at_the_next_wait(driver: EmulatedDriver) -> None:
    driver.eager = False
    f = weft.jit(lambda x, i: x[i] * 2, device="gpu")
    x = np.arange(5.0)
    out = f(x, np.array([1, 7]))                            # no error yet
    with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 5"):
        weft.block_until_ready(out)
    np.testing.assert_array_equal(host(f(x, np.array([1, -1]))), [2.0, 8.0])
