"""The generator: published vectors, and the same bits everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import weft
from tests.conformance.devices import DEVICES, Subject
from weft.compiler.build import Builder
from weft.compiler.types import DTYPES, TensorType
from weft.devices.reference import evaluate

Array = np.ndarray[Any, Any]

# counter, key, result of Threefry-2x32-20, from the file kat_vectors of Random123 1.14; words are
# given in order, the first is the low half of a uint64
VECTORS = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


def joined(words: tuple[int, int]) -> int:
    return words[0] | words[1] << 32


def column(number: int) -> Array:
    return np.array([joined(v[number]) for v in VECTORS], np.uint64)


def cipher() -> Any:
    b = Builder("cipher")
    key, counter = (b.param(n, TensorType((3,), DTYPES["u64"])) for n in ("key", "counter"))
    return b.graph([b.threefry(key, counter)])


def test_published_vectors_on_the_reference() -> None:
    (out,) = evaluate(cipher(), [column(1), column(0)])
    np.testing.assert_array_equal(out, column(2))


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_published_vectors(device: Subject) -> None:
    (out,) = device.run(cipher(), [column(1), column(0)])
    np.testing.assert_array_equal(out, column(2))


def test_the_decomposition_is_the_cipher() -> None:
    b = Builder("parts")
    key, counter = (b.param(n, TensorType((3,), DTYPES["u64"])) for n in ("key", "counter"))
    node = b.threefry(key, counter)
    assert node.op is not None and node.op.decompose is not None
    graph = b.graph([node.op.decompose(b, node)])
    (out,) = evaluate(graph, [column(1), column(0)])
    np.testing.assert_array_equal(out, column(2))


def test_the_first_word_of_a_key_is_a_published_one() -> None:
    assert weft.random.bits(weft.random.key(0), (), np.uint64) == joined(VECTORS[0][2])


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000, 70001])
def test_short_arrays_begin_long_ones_and_halves_lie_as_in_memory(count: int) -> None:
    key = weft.random.key(5)
    long = weft.random.bits(key, 80000, np.uint64)
    np.testing.assert_array_equal(weft.random.bits(key, count, np.uint64), long[:count])
    np.testing.assert_array_equal(weft.random.bits(key, count, np.uint32),
                                  long.astype("<u8").view("<u4")[:count])
    np.testing.assert_array_equal(weft.random.bits(key, count, np.uint8),
                                  (long.astype("<u8").view("<u4") >> 24).astype(np.uint8)[:count])


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (7, 9), (3, 5, 7), (101, 333), (40000, 2)])
def test_the_shape_is_that_of_a_row_major_array(shape: tuple[int, ...]) -> None:
    key = weft.random.key(6)
    for dtype in (np.uint64, np.int32, np.float64, np.float32, np.float16):
        draw = weft.random.uniform if np.dtype(dtype).kind == "f" else weft.random.bits
        got, flat = draw(key, shape, dtype), draw(key, int(np.prod(shape)), dtype)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, flat.reshape(shape))


def draws(key: Any) -> Any:
    """Something of everything that is drawn in another way."""
    r = weft.random
    keys = r.split(key, 8)
    return (keys, r.fold_in(key, 7), r.bits(keys[0], (33, 1001)), r.bits(keys[1], 17, np.int64),
            r.uniform(keys[2], (33, 1001), np.float32), r.uniform(keys[3], (1001, 33)),
            r.uniform(keys[4], 1001, np.float16, -1, 3))


def test_devices_agree_to_the_bit() -> None:
    """On arrays large enough that compiled code takes them apart into pairs."""
    key = weft.random.key(7)
    want = weft.jit(draws, device="reference")(key)
    for got, w in zip(weft.jit(draws)(key), want):
        np.testing.assert_array_equal(got, w)
    graph = weft.jit(draws).trace(key).optimize().graph
    for device in DEVICES:
        for g, w in zip(device.run(graph, [np.asarray(key)]), want):
            np.testing.assert_array_equal(g, w, str(device))


def test_numbers_drawn_with_another_array_are_the_same() -> None:
    """Adding to an array changes how the loops run, not what is drawn."""
    key, x = weft.random.key(8), np.arange(40001, dtype=np.float32)
    added = weft.jit(lambda key, x: x + weft.random.uniform(key, x.shape, x.dtype))
    np.testing.assert_array_equal(added(key, x), x + weft.random.uniform(key, x.shape, x.dtype))
    across = weft.jit(lambda key, x: x.T + weft.random.uniform(key, x.T.shape, x.dtype))
    x = x[:40000].reshape(160, 250)
    np.testing.assert_array_equal(across(key, x),
                                  x.T + weft.random.uniform(key, (250, 160), np.float32))


def test_symbolic_sizes_give_the_same_numbers() -> None:
    draw = weft.jit(lambda key, x: weft.random.normal(key, x.shape, np.float32) + x,
                    shapes={"x": ("B", 3)})
    key = weft.random.key(9)
    for rows in (1, 4, 501):
        x = np.zeros((rows, 3), np.float32)
        np.testing.assert_array_equal(draw(key, x), weft.random.normal(key, x.shape, np.float32))
    assert len(draw.history()) == 1


def test_uniform_numbers_are_the_documented_multiples() -> None:
    key = weft.random.key(10)
    word = weft.random.bits(key, 1000, np.uint64)
    half = weft.random.bits(key, 1000, np.uint32)
    np.testing.assert_array_equal(weft.random.uniform(key, 1000), (word >> 11) * 2.0 ** -53)
    np.testing.assert_array_equal(weft.random.uniform(key, 1000, np.float32),
                                  ((half >> 8) * 2.0 ** -24).astype(np.float32))
    np.testing.assert_array_equal(weft.random.uniform(key, 1000, np.float16),
                                  ((half >> 21) * 2.0 ** -11).astype(np.float16))


def test_bounds_are_kept_where_rounding_would_pass_them() -> None:
    key = weft.random.key(11)
    low, high = np.float32(1), np.float32(1 + 2 ** -22)
    x = weft.random.uniform(key, 10000, np.float32, low, high)
    assert x.min() == low and x.max() < high
    assert (weft.random.uniform(key, 5, np.float32, 2.5, 2.5) == 2.5).all()
    assert weft.random.uniform(key, (2, 3), float, np.zeros(3), [1, 2, 3]).shape == (2, 3)
