"""A transformer's feed-forward block in plain NumPy, compiled as it is.

    python examples/transformer_block.py
"""

from __future__ import annotations

import numpy as np

import weft

Array = np.ndarray


def block(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Array:
    """Two layers with a GELU between them, a residual connection, layer normalisation."""
    h = x @ w1 + b1
    h = 0.5 * h * (1 + np.tanh(0.7978845608 * (h + 0.044715 * h**3)))
    y = h @ w2 + b2 + x
    m = y.mean(axis=-1, keepdims=True)
    return (y - m) / np.sqrt(((y - m) ** 2).mean(axis=-1, keepdims=True) + 1e-5)


def inputs(tokens: int = 256, width: int = 384) -> tuple[Array, ...]:
    """Random activations and weights, float32."""
    rng = np.random.default_rng(0)
    shapes = (tokens, width), (width, 4 * width), (4 * width,), (4 * width, width), (width,)
    scales = 1.0, width**-0.5, 0.1, (4 * width) ** -0.5, 0.1
    return tuple((rng.standard_normal(shape) * scale).astype(np.float32)
                 for shape, scale in zip(shapes, scales))


if __name__ == "__main__":
    compiled = weft.jit(block)
    arguments = inputs()
    result = compiled(*arguments)
    print("largest difference from NumPy:", np.abs(result - block(*arguments)).max())
    print(weft.explain(compiled, *arguments))
