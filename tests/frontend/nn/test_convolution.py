"""Convolutions and pooling against loops in float64, in both layouts, with derivatives."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import weft
from weft import nn

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(2)


def windows(x: Array, size: tuple[int, ...], stride: tuple[int, ...], pads: Any,
            dilation: tuple[int, ...], value: float = 0.0) -> Array:
    """(batch, channels, positions…, kernel…) of a channels-first array."""
    x = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=value)
    n = len(size)
    count = [(x.shape[2 + i] - (size[i] - 1) * dilation[i] - 1) // stride[i] + 1 for i in range(n)]
    out = np.zeros((*x.shape[:2], *count, *size))
    for at in np.ndindex(*size):
        pick = tuple(slice(k * d, k * d + (c - 1) * s + 1, s)
                     for k, d, c, s in zip(at, dilation, count, stride))
        out[(..., *at)] = x[(slice(None), slice(None), *pick)]
    return out


def conv(x: Array, w: Array, stride: Any, pads: Any, dilation: Any, groups: int) -> Array:
    n = w.ndim - 2
    view = windows(x, w.shape[2:], stride, pads, dilation)
    parts = []
    for part, weights in zip(np.split(view, groups, 1), np.split(w, groups, 0)):
        axes = ((1, *range(2 + n, 2 + 2 * n)), (1, *range(2, 2 + n)))
        parts.append(np.moveaxis(np.tensordot(part, weights, axes), -1, 1))
    return np.concatenate(parts, 1)


def last(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def last_weights(w: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(w, (0, 1), (-1, -2)))


STRIDES, PADS, DILATIONS, GROUPS = ((1, 1), (2, 1)), (0, (1, 2)), ((1, 1), (1, 2)), (1, 2, 4)
CASES = list(product(STRIDES, PADS, DILATIONS, GROUPS))


@pytest.mark.parametrize(("stride", "pad", "dilation", "groups"), CASES)
def test_conv2d(stride: Any, pad: Any, dilation: Any, groups: int) -> None:
    """Every combination, in both layouts, and the gradients of both operands."""
    x, w = RNG.normal(size=(2, 4, 7, 8)), RNG.normal(size=(8, 4 // groups, 3, 2))
    pads = [(p, p) for p in (pad if isinstance(pad, tuple) else (pad, pad))]
    want = conv(x, w, stride, pads, dilation, groups)
    got = nn.conv2d(x, w, None, stride, pad, dilation, groups)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    got = nn.conv2d(last(x), last_weights(w), None, stride, pad, dilation, groups,
                    channels_last=True)
    np.testing.assert_allclose(got, last(want), rtol=1e-12, atol=1e-13)
    c, tx, tw = (RNG.normal(size=a.shape) for a in (want, x, w))
    dx, dw = weft.grad(lambda x, w: (nn.conv2d(x, w, None, stride, pad, dilation, groups)
                                     * c).sum(), argnums=(0, 1))(x, w)
    # linear in each operand: the derivative along a direction is the function of it
    np.testing.assert_allclose((dx * tx).sum(), (conv(tx, w, stride, pads, dilation, groups)
                                                 * c).sum(), rtol=1e-10)
    np.testing.assert_allclose((dw * tw).sum(), (conv(x, tw, stride, pads, dilation, groups)
                                                 * c).sum(), rtol=1e-10)


@pytest.mark.parametrize("n", [1, 3])
def test_other_ranks(n: int) -> None:
    f = {1: nn.conv1d, 3: nn.conv3d}[n]
    x, w = RNG.normal(size=(2, 3, 5, 6, 7)[:2 + n]), RNG.normal(size=(4, 3, 2, 3, 2)[:2 + n])
    b = RNG.normal(size=4)
    want = conv(x, w, (1,) * n, [(1, 1)] * n, (1,) * n, 1) + b.reshape(-1, *(1,) * n)
    np.testing.assert_allclose(f(x, w, b, padding=1), want, rtol=1e-12, atol=1e-13)
    got = f(last(x), last_weights(w), b, padding=1, channels_last=True)
    np.testing.assert_allclose(got, last(want), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("size", "stride", "dilation", "pads"), [
    (7, 1, 1, (1, 1)), (7, 2, 1, (1, 1)), (8, 2, 1, (0, 1)), (8, 3, 2, (1, 2)), (5, 1, 2, (2, 2))])
def test_same(size: int, stride: int, dilation: int, pads: tuple[int, int]) -> None:
    """ceil(size / stride) positions, as TensorFlow and JAX lay them."""
    x, w = RNG.normal(size=(1, 2, size)), RNG.normal(size=(3, 2, 3))
    want = conv(x, w, (stride,), [pads], (dilation,), 1)
    assert want.shape[-1] == -(-size // stride)
    got = nn.conv1d(x, w, None, stride, "same", dilation)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(nn.conv1d(x, w, None, stride, "VALID"),
                                  nn.conv1d(x, w, None, stride))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32, np.complex128])
def test_element_types(dtype: Any) -> None:
    """Whole numbers: exact in every type."""
    x = RNG.integers(-3, 4, (2, 3, 6, 5)).astype(dtype)
    w = RNG.integers(-3, 4, (4, 3, 3, 3)).astype(dtype)
    got = nn.conv2d(x, w, padding=1)
    assert got.dtype == dtype
    want = conv(x.real.astype(float), w.real.astype(float), (1, 1), [(1, 1)] * 2, (1, 1), 1)
    np.testing.assert_array_equal(got.real.astype(float), want)


def test_mixed_types_and_empty_batch() -> None:
    x, w = np.ones((2, 1, 4, 4), np.float32), np.ones((1, 1, 2, 2), np.float64)
    assert nn.conv2d(x, w).dtype == np.float64
    assert nn.conv2d(x, w.astype(np.float32), np.ones(1, np.float32)).dtype == np.float32
    assert nn.conv2d(x[:0], w).shape == (0, 1, 3, 3)


@pytest.mark.parametrize(("stride", "padding", "more", "groups", "dilation"), [
    (1, 0, 0, 1, 1), (2, 1, 1, 1, 1), ((3, 2), (1, 0), (2, 0), 2, 1), (2, 2, 0, 1, 2)])
def test_conv_transpose(stride: Any, padding: Any, more: Any, groups: int, dilation: int) -> None:
    """The gradient of a convolution by its input, of the size that output_padding asks for."""
    y, w = RNG.normal(size=(2, 4, 4, 5)), RNG.normal(size=(4, 6 // groups, 3, 3))
    got = nn.conv_transpose2d(y, w, None, stride, padding, more, groups, dilation)
    x = np.zeros(got.shape)
    grad = weft.grad(lambda x: (nn.conv2d(x, w, None, stride, padding, dilation, groups)
                                * y).sum())(x)
    np.testing.assert_allclose(got, grad, rtol=1e-12, atol=1e-13)
    got = nn.conv_transpose2d(last(y), last_weights(w), None, stride, padding, more, groups,
                              dilation, channels_last=True)
    np.testing.assert_allclose(got, last(grad), rtol=1e-12, atol=1e-13)
    same = nn.conv_transpose1d(y[0], w[..., 0], None, 2, "same")
    assert same.shape[-1] == 2 * y.shape[-1] if groups == 1 else True


def message(call: Callable[[], Any]) -> str:
    with pytest.raises(weft.errors.ShapeError) as error:
        call()
    return "\n".join(x for x in str(error.value).split("\n") if not x.startswith("  at "))


ONES = np.ones((2, 3, 8, 8), np.float32)


@pytest.mark.parametrize(("call", "text"), [
    (lambda: nn.conv2d(ONES[0], np.ones((4, 3, 3, 3))), "conv2d got x of 3 dimension(s)\n"
     "  expected: (batch, channels, height, width)"),
    (lambda: nn.conv2d(ONES, np.ones((3, 3, 3)), channels_last=True), "conv2d got weight of 3 "
     "dimension(s)\n  expected: (height, width, in, out)"),
    (lambda: nn.conv2d(ONES, ONES[:, :2], padding="full"), "conv2d got padding='full'\n  expected: "
     '"same", "valid", a number, or a pair (low, high) for each axis'),
    (lambda: nn.conv2d(ONES, ONES, padding=(1, 2, 3)), "conv2d got 3 paddings for 2 axes\n"
     "  expected: one number, or 2 numbers or pairs"),
    (lambda: nn.conv2d(ONES, ONES, stride=(1,)), "stride got 1 numbers for 2 axes\n"
     "  expected: one number, or 2"),
    (lambda: nn.conv2d(ONES, ONES, np.ones(5, np.float32)), "conv2d got a bias of shape (5,) for 2 "
     "output channel(s)\n  expected: (2,)"),
    (lambda: nn.max_pool2d(ONES, 9), "a window of 9 element(s), 1 apart, does not fit axis 2 of "
     "f32[2, 3, 8, 8] with padding (0, 0)\n  expected: at most 8 neighbouring elements\n"
     "  repair:   use a smaller window or more padding"),
    (lambda: nn.avg_pool1d(ONES, 2), "avg_pool1d got an array of 4 dimension(s)\n"
     "  expected: (batch, channels, width)"),
    (lambda: nn.global_avg_pool(ONES[0, 0]), "global_avg_pool got an array of 2 dimension(s)\n"
     "  expected: a batch, channels, and axes to pool over"),
    (lambda: nn.conv_transpose2d(ONES, np.ones((3, 1, 2, 2)), groups=2), "3 input channel(s) do "
     "not fall into 2 groups\n  expected: a multiple of 2"),
])
def test_errors(call: Callable[[], Any], text: str) -> None:
    assert message(call) == text


# ---- pooling

@pytest.mark.parametrize(("size", "stride", "pad", "dilation"), [
    ((2, 2), None, 0, 1), ((3, 3), 2, 1, 1), ((2, 3), (1, 2), (1, 0), (2, 1))])
def test_pooling(size: Any, stride: Any, pad: Any, dilation: Any) -> None:
    x = RNG.normal(size=(2, 3, 7, 8))
    pads = [(p, p) for p in (pad if isinstance(pad, tuple) else (pad, pad))]
    steps = size if stride is None else stride if isinstance(stride, tuple) else (stride,) * 2
    apart = dilation if isinstance(dilation, tuple) else (dilation,) * 2
    view = windows(x, size, steps, pads, apart, -np.inf)
    np.testing.assert_array_equal(nn.max_pool2d(x, size, stride, pad, dilation), view.max((-1, -2)))
    np.testing.assert_array_equal(
        nn.max_pool2d(last(x), size, stride, pad, dilation, channels_last=True),
        last(view.max((-1, -2))))
    np.testing.assert_array_equal(-nn.min_pool2d(-x, size, stride, pad, dilation),
                                  view.max((-1, -2)))
    if apart == (1, 1):
        zeros = windows(x, size, steps, pads, apart).sum((-1, -2))
        inside = np.isfinite(view).sum((-1, -2))
        np.testing.assert_allclose(nn.avg_pool2d(x, size, stride, pad), zeros / np.prod(size))
        np.testing.assert_allclose(nn.avg_pool2d(x, size, stride, pad, False), zeros / inside)
        np.testing.assert_allclose(nn.sum_pool2d(x, size, stride, pad), zeros)


def test_ties_go_to_the_first() -> None:
    """The derivative of a maximum is that of the first of equal elements, row by row."""
    x = np.array([[1.0, 2, 2, 0], [2, 0, 0, 0], [5, 5, 7, 7], [5, 5, 7, 7]])[None, None]
    slope = weft.grad(lambda x: (nn.max_pool2d(x, 2) * np.array([[1.0, 2], [3, 4]])).sum())(x)
    want = np.zeros((4, 4))
    want[0, 1], want[0, 2], want[2, 0], want[2, 2] = 1, 2, 3, 4
    np.testing.assert_array_equal(slope[0, 0], want)
    over = weft.grad(lambda x: nn.max_pool2d(x, 3, 1).sum())(np.ones((1, 1, 4, 4)))
    np.testing.assert_array_equal(over[0, 0], np.pad(np.ones((2, 2)), (0, 2)))


def test_overlapping_averages() -> None:
    """The gradient of a mean is spread over its window; overlaps add up."""
    c = RNG.normal(size=(1, 2, 3, 3))
    slope = weft.grad(lambda x: (nn.avg_pool2d(x, 3, 2, 1) * c).sum())(np.zeros((1, 2, 6, 5)))
    want = np.zeros((1, 2, 8, 7))
    for i, j in np.ndindex(3, 3):
        want[:, :, 2 * i:2 * i + 3, 2 * j:2 * j + 3] += c[:, :, i:i + 1, j:j + 1] / 9
    np.testing.assert_allclose(slope, want[:, :, 1:7, 1:6], rtol=1e-13, atol=1e-15)


def test_global_pooling() -> None:
    x = RNG.normal(size=(2, 3, 4, 5))
    np.testing.assert_allclose(nn.global_avg_pool(x), x.mean((2, 3)))
    np.testing.assert_array_equal(nn.global_max_pool(last(x), True, channels_last=True),
                                  last(x.max((2, 3), keepdims=True)))


def test_epilogues_fuse() -> None:
    """A bias and an activation are computed where the convolution's sums are; nothing is stored
    between, and the window never is."""
    def f(x: Array, w: Array, b: Array) -> Any:
        return nn.relu(nn.conv2d(x, w, b, 1, "same", channels_last=True))
    x, w, b = (np.ones(s, np.float32) for s in ((2, 8, 8, 3), (3, 3, 3, 4), (4,)))
    steps = weft.jit(f).lower(x, w, b).kernels
    assert {s.name.split("_", 1)[1].split("_p")[0] for s in steps} == {"copy", "dot_general"}
    assert sum(s.name.endswith("dot_general") for s in steps) == 1
