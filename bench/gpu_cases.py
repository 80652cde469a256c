"""What the GPU benchmark runs: plain NumPy functions with their inputs, and PyTorch's own versions.

The functions take the library as their first argument, so that weft (`numpy`), CuPy and JAX
(`jax.numpy`) run the same code; PyTorch gets what its users write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from bench.kernels import EPSILON, GELU_CUBE, GELU_SCALE

__all__ = ["CASES", "Case", "torch_functions"]

Array = Any


@dataclass(frozen=True)
class Case:
    """One row: `function` over a library and inputs of these shapes.

    The limit is `nbytes` by the measured bandwidth of a copy, or, with `product`, the time that
    cuBLAS takes for the product of the first two inputs.
    """

    name: str
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    nbytes: int = 0
    product: bool = False
    gradient: bool = False
    precision: str = "highest"
    rtol: float = 2e-4

    def inputs(self, shrink: int = 1) -> list[np.ndarray]:
        """Seeded normal numbers; with `shrink`, sizes of at most so many."""
        rng = np.random.default_rng(len(self.name))
        shapes = [tuple(min(d, shrink) if shrink > 1 else d for d in s) for s in self.shapes]
        return [rng.standard_normal(s, dtype=np.float32) * np.float32(0.5) for s in shapes]


def chain(xp: Any, x: Array, y: Array) -> Array:
    """Ten operations on each element."""
    z = x * y + 0.5
    return xp.where(z > 0, z * 0.5, z) / (1 + xp.abs(x)) + xp.sqrt(xp.abs(y)) - x * 0.25


def gelu(xp: Any, x: Array) -> Array:
    """GELU in its tanh form."""
    return 0.5 * x * (1 + xp.tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x)))


def softmax(xp: Any, x: Array) -> Array:
    """Softmax over the last axis."""
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(xp: Any, x: Array, scale: Array, shift: Array) -> Array:
    """Layer normalisation over the last axis, then an affine map."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / xp.sqrt(variance + EPSILON) * scale + shift


def total(xp: Any, x: Array) -> Array:
    """The sum of all elements."""
    return x.sum()


def columns(xp: Any, x: Array) -> Array:
    """Sums over the first axis."""
    return x.sum(axis=0)


def product(xp: Any, a: Array, b: Array) -> Array:
    """A matrix product."""
    return a @ b


def dense(xp: Any, a: Array, b: Array, bias: Array) -> Array:
    """A matrix product, a bias and GELU."""
    return gelu(xp, a @ b + bias)


def attention(xp: Any, q: Array, k: Array, v: Array) -> Array:
    """Attention to the keys before each query, and to its own."""
    at = xp.arange(q.shape[-2])
    scores = q @ xp.swapaxes(k, -1, -2) * q.shape[-1] ** -0.5
    return softmax(xp, xp.where(at[:, None] >= at, scores, -xp.inf)) @ v


def attention_loss(xp: Any, q: Array, k: Array, v: Array) -> Array:
    """A number, so that attention has a gradient."""
    out = attention(xp, q, k, v)
    return (out * out).sum()


def fifty(xp: Any, x: Array) -> Array:
    """Fifty kernels behind one another, each of which takes no time."""
    for _ in range(50):
        x = x - x.max() * 0.5
    return x


def fifty_products(xp: Any, x: Array, w: Array) -> Array:
    """Fifty kernels that no compiler makes one of."""
    for _ in range(50):
        x = xp.tanh(x @ w * 0.125)          # which keeps small differences small
    return x


def _rows() -> list[Case]:
    n, heads = 4096, (8, 12, 1024, 64)
    flat, one = (1 << 26,), 4 << 26
    out = [Case("chain-64M", chain, (flat, flat), 3 * one),
           Case("gelu-64M", gelu, (flat,), 2 * one)]
    for shape in ((1 << 18, 256), (1 << 14, 4096), (1 << 10, 1 << 16)):
        size, label = 4 * prod(shape), "x".join(map(str, shape))
        row = (shape[-1],)
        out.append(Case(f"softmax-{label}", softmax, (shape,), 2 * size))
        out.append(Case(f"layer-norm-{label}", layer_norm, (shape, row, row), 2 * size))
    out += [Case("sum-64M", total, (flat,), one, rtol=1e-2),
            Case("sum-columns-8192x8192", columns, ((8192, 8192),), one, rtol=1e-3)]
    for precision, rtol in (("highest", 2e-4), ("tf32", 1e-2)):
        out.append(Case(f"matmul-{n}-{precision}", product, ((n, n), (n, n)), product=True,
                        precision=precision, rtol=rtol))
        out.append(Case(f"matmul-gelu-{n}-{precision}", dense, ((n, n), (n, n), (n,)), product=True,
                        precision=precision, rtol=rtol))
    return [*out, Case("attention-8x12x1024x64", attention, (heads,) * 3, rtol=1e-3),
            Case("attention-gradient-8x12x1024x64", attention_loss, (heads,) * 3, gradient=True,
                 rtol=5e-3),
            Case("fifty-kernels", fifty, ((1024,),)),
            Case("fifty-products-64x64", fifty_products, ((64, 64),) * 2, rtol=1e-3)]


CASES = _rows()


def torch_functions(torch: Any) -> dict[str, Callable[..., Any]]:
    """The same as PyTorch's users write them, by name."""
    F = torch.nn.functional

    def attend(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def fifty_maxima(x: Any) -> Any:
        for _ in range(50):
            x = x - x.max() * 0.5
        return x

    def products(x: Any, w: Any) -> Any:
        for _ in range(50):
            x = torch.tanh(x @ w * 0.125)
        return x

    def chained(x: Any, y: Any) -> Any:
        z = x * y + 0.5
        return torch.where(z > 0, z * 0.5, z) / (1 + x.abs()) + y.abs().sqrt() - x * 0.25

    return {
        "chain": chained, "gelu": lambda x: F.gelu(x, approximate="tanh"),
        "softmax": lambda x: torch.softmax(x, -1),
        "layer_norm": lambda x, g, b: F.layer_norm(x, g.shape, g, b, EPSILON),
        "total": torch.sum, "columns": lambda x: x.sum(0), "product": torch.matmul,
        "dense": lambda a, b, c: F.gelu(torch.addmm(c, a, b), approximate="tanh"),
        "attention": attend, "attention_loss": lambda q, k, v: attend(q, k, v).square().sum(),
        "fifty": fifty_maxima, "fifty_products": products,
    }
