"""A perceptron learns to read digits: plain NumPy, its gradient, and Adam in ten lines.

    python examples/train_mlp.py

The digits are drawn here, from a font of 5 x 7 dots: moved, blurred, and covered with noise. A
step of training (the loss, its gradient, the update of every weight) is one native call.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

import weft

Array = np.ndarray
Weights = dict[str, Array]
STEPS, BATCH, SIDE = 1000, 64, 10
FONT = [  # a row of dots in each number's bits
    (14, 17, 19, 21, 25, 17, 14), (4, 12, 4, 4, 4, 4, 14), (14, 17, 1, 2, 4, 8, 31),
    (31, 2, 4, 2, 1, 17, 14), (2, 6, 10, 18, 31, 2, 2), (31, 16, 30, 1, 1, 17, 14),
    (6, 8, 16, 30, 17, 17, 14), (31, 1, 2, 4, 8, 8, 8), (14, 17, 17, 14, 17, 17, 14),
    (14, 17, 17, 15, 1, 2, 12),
]  # fmt: skip


def draw(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Pictures of random digits, one a row, and which digits they are."""
    digits = rng.integers(0, 10, count)
    dots = (np.array(FONT)[digits][:, :, None] >> np.arange(4, -1, -1)) & 1
    pictures = np.zeros((count, SIDE, SIDE))
    for picture, digit, y, x in zip(pictures, dots, rng.integers(0, 4, count),
                                    rng.integers(1, 5, count)):
        picture[y:y + 7, x:x + 5] = digit
    blurred = (pictures + np.roll(pictures, 1, axis=1) + np.roll(pictures, 1, axis=2)) / 3
    noisy = blurred + 0.25 * rng.standard_normal(pictures.shape)
    return noisy.reshape(count, -1).astype(np.float32), digits


def init(rng: np.random.Generator, *sizes: int) -> Weights:
    """Weights and biases of layers of these sizes."""
    weights = {}
    for i, (k, n) in enumerate(pairwise(sizes), 1):
        weights[f"w{i}"] = (rng.standard_normal((k, n)) * (2 / k) ** 0.5).astype(np.float32)
        weights[f"b{i}"] = np.zeros(n, np.float32)
    return weights


def logits(p: Weights, x: Array) -> Array:
    """How much each picture looks like each digit."""
    h = np.maximum(x @ p["w1"] + p["b1"], 0)
    h = np.maximum(h @ p["w2"] + p["b2"], 0)
    return h @ p["w3"] + p["b3"]


def loss(p: Weights, x: Array, digits: Array) -> Array:
    """The mean of -log(the probability given to the right digit)."""
    z = logits(p, x)
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(digits)), digits].mean()


def adam(p: Weights, g: Weights, m: Weights, v: Weights, t: float) -> tuple[Weights, ...]:
    """Weights and both moments after step number `t`."""
    m = {k: 0.9 * m[k] + 0.1 * g[k] for k in p}
    v = {k: 0.999 * v[k] + 0.001 * g[k] ** 2 for k in p}
    size = np.float32(0.002) * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return {k: p[k] - size * m[k] / (np.sqrt(v[k]) + 1e-8) for k in p}, m, v


@weft.jit(donate=("p", "m", "v"))
def step(p: Weights, m: Weights, v: Weights, t: float, x: Array, digits: Array
         ) -> tuple[Weights, Weights, Weights, Array]:
    """One step of training; the old weights and moments are overwritten."""
    value, gradient = weft.value_and_grad(loss)(p, x, digits)
    return *adam(p, gradient, m, v, t), value


def main() -> None:
    """Train, and see how many digits are read that were not trained with."""
    rng = np.random.default_rng(0)
    p = init(rng, SIDE * SIDE, 128, 64, 10)
    m, v = ({k: np.zeros_like(w) for k, w in p.items()} for _ in range(2))
    losses = []
    for t in range(1, STEPS + 1):
        p, m, v, value = step(p, m, v, np.float32(t), *draw(rng, BATCH))
        losses.append(float(value))
        if t % 200 == 0:
            print(f"step {t:4}   loss {np.mean(losses[-50:]):.3f}")
    x, digits = draw(rng, 2000)
    share = (weft.jit(logits)(p, x).argmax(axis=1) == digits).mean()
    print(f"of 2000 new pictures, {100 * share:.1f} % are read right")
    assert np.mean(losses[-50:]) < 0.3 * losses[0] and share > 0.9


if __name__ == "__main__":
    main()
