"""Calls like the last one on a GPU: the short way, and what does not fit it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import weft
from tests.gpu.double import EmulatedDriver
from tests.gpu.harness import emulated, needs_compiler
from weft.devices.registry import get_device

pytestmark = needs_compiler
X = np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def driver() -> Iterator[EmulatedDriver]:
    """Two emulated GPUs."""
    with emulated(devices=2) as made:
        yield made


def there(value: Any, ordinal: int = 0) -> Any:
    """The value on a GPU."""
    return get_device(f"gpu:{ordinal}").memory.put(np.asarray(value))


def held(f: Any, *args: Any) -> None:
    """A call gives what the function gives on the host."""
    memory = get_device("gpu").memory
    host = [memory.get(a) if memory.owns(a) else a for a in args]
    np.testing.assert_allclose(memory.get(f(*args)), f.__wrapped__(*host), rtol=1e-6)


def scaled(x: Any, y: Any) -> Any:
    return x * y + 1


def test_arrays_that_fit_and_others() -> None:
    """Types, shapes, order and place are looked at."""
    f = weft.jit(scaled, device="gpu")
    x, y = there(X), there(X + 1)
    for _ in range(4):
        held(f, x, y)
    assert f._shortcut.call is not None
    for other in (there(X[:1]), there(X.astype(np.float64)), X, X.astype(">f4"), X[::-1], 2.0, 3):
        held(f, other, y)
        held(f, x, y)
    far = there(X, 1)
    for _ in range(40):
        held(f, x, y)
    assert f._shortcut.call is not None
    np.testing.assert_allclose(get_device("gpu").memory.get(f(far, y)), scaled(X, X + 1))


def test_arrays_of_the_host_and_numbers() -> None:
    """They are brought there at each call."""
    f = weft.jit(lambda p, s: {"a": p["a"] * s, "b": [p["b"] + 1]}, device="gpu")
    memory = get_device("gpu").memory
    for k in range(6):
        out = f({"a": there(X), "b": X + k}, 0.5 + k)
        np.testing.assert_allclose(memory.get(out["a"]), X * np.float32(0.5 + k))
        np.testing.assert_allclose(memory.get(out["b"][0]), X + k + 1)
    assert f._shortcut.call is not None


def test_donated_and_passed_twice() -> None:
    """A donated argument that is passed twice is copied."""
    f = weft.jit(lambda x, y: (x + y, x * y), device="gpu", donate="x")
    memory = get_device("gpu").memory
    y = there(X)
    for _ in range(4):
        f(there(X), y)
    assert f._shortcut.call is not None
    total, product = f(y, y)
    np.testing.assert_allclose(memory.get(total), X + X)
    np.testing.assert_allclose(memory.get(product), X * X)
    np.testing.assert_array_equal(memory.get(y), X)
