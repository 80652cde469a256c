"""A small GPT learns to write like this project's documents, letter by letter, in plain NumPy.

    python examples/train_gpt.py

Nothing here is a framework's: attention, layer normalisation, the loss and Adam are a few lines of
NumPy each. `weft.value_and_grad` differentiates them, and `weft.jit` makes a step of training one
native call, which writes the new weights over the old ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import weft

Array = np.ndarray
Weights = dict[str, Array]
LAYERS, WIDTH, HEADS, PLACES = 2, 64, 4, 48
STEPS, BATCH = 400, 16
DOCS = Path(__file__).resolve().parent.parent / "docs"


def init(rng: np.random.Generator, letters: int) -> Weights:
    """All weights: embeddings, and for each layer its two norms and four matrices."""
    shapes = {"letter": (letters, WIDTH), "place": (PLACES, WIDTH), "norm": (WIDTH,)}
    for i in range(LAYERS):
        shapes |= {f"norm1.{i}": (WIDTH,), f"qkv.{i}": (WIDTH, 3 * WIDTH),
                   f"out.{i}": (WIDTH, WIDTH), f"norm2.{i}": (WIDTH,),
                   f"up.{i}": (WIDTH, 4 * WIDTH), f"down.{i}": (4 * WIDTH, WIDTH)}
    return {k: np.ones(s, np.float32) if k.startswith("norm") else
            (rng.standard_normal(s) * 0.6 * s[0] ** -0.5).astype(np.float32)
            for k, s in shapes.items()}


def normed(x: Array, scale: Array) -> Array:
    """Layer normalisation."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return scale * centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)


def softmax(x: Array) -> Array:
    """Shares that add up to one."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(x: Array, qkv: Array, out: Array) -> Array:
    """Every place looks back at those before it."""
    batch, t, _ = x.shape
    q, k, v = (x @ qkv).reshape(batch, t, 3, HEADS, WIDTH // HEADS).transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(-1, -2) * (WIDTH // HEADS) ** -0.5
    seen = softmax(np.where(np.tri(t, dtype=bool), scores, -np.inf))
    return (seen @ v).swapaxes(1, 2).reshape(batch, t, WIDTH) @ out


def gpt(p: Weights, text: Array) -> Array:
    """For each place, how likely each letter is to come next (logits)."""
    x = p["letter"][text] + p["place"][:text.shape[1]]
    for i in range(LAYERS):
        x = x + attention(normed(x, p[f"norm1.{i}"]), p[f"qkv.{i}"], p[f"out.{i}"])
        h = normed(x, p[f"norm2.{i}"]) @ p[f"up.{i}"]
        x = x + (h * h * (h > 0)) @ p[f"down.{i}"]
    return normed(x, p["norm"]) @ p["letter"].T


def loss(p: Weights, text: Array) -> Array:
    """The mean of -log(the probability given to the letter that came), in nats."""
    z = gpt(p, text[:, :-1])
    z = z - z.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_p, text[:, 1:, None], axis=-1).mean()


@weft.jit(donate=("p", "m", "v"))
def step(p: Weights, m: Weights, v: Weights, t: float, text: Array
         ) -> tuple[Weights, Weights, Weights, Array]:
    """A step of Adam."""
    value, g = weft.value_and_grad(loss)(p, text)
    m = {k: 0.9 * m[k] + 0.1 * g[k] for k in p}
    v = {k: 0.99 * v[k] + 0.01 * g[k] ** 2 for k in p}
    size = np.float32(0.003) * np.sqrt(1 - 0.99**t) / (1 - 0.9**t)
    return {k: p[k] - size * m[k] / (np.sqrt(v[k]) + 1e-8) for k in p}, m, v, value


def written(p: Weights, letters: list[str], start: str, rng: np.random.Generator) -> str:
    """`start`, and 120 letters more."""
    shares, text = weft.jit(lambda p, text: softmax(gpt(p, text)[0] / 0.6)), start
    for _ in range(120):
        last = text[-PLACES:]
        window = [letters.index(c) for c in last.ljust(PLACES)]
        next_one = shares(p, np.array([window]))[len(last) - 1].astype(float)
        text += letters[rng.choice(len(letters), p=next_one / next_one.sum())]
    return text


def main() -> None:
    """Train on docs/*.md, then write."""
    corpus = "\n".join(f.read_text(encoding="utf-8") for f in sorted(DOCS.glob("**/*.md")))
    letters = sorted(set(corpus))
    codes = np.array([letters.index(c) for c in corpus])
    rng = np.random.default_rng(0)
    p = init(rng, len(letters))
    m, v = ({k: np.zeros_like(w) for k, w in p.items()} for _ in range(2))
    losses = []
    for t in range(1, STEPS + 1):
        starts = rng.integers(0, len(codes) - PLACES - 1, BATCH)
        text = codes[starts[:, None] + np.arange(PLACES + 1)]
        p, m, v, value = step(p, m, v, np.float32(t), text)
        losses.append(float(value))
        if t % 50 == 0:
            print(f"step {t:4}   loss {np.mean(losses[-25:]):.3f} nats a letter")
    for start in ("A kernel is ", "The compiler "):
        print("\n" + written(p, letters, start, rng))
    assert np.mean(losses[-25:]) < 0.7 * losses[0]


if __name__ == "__main__":
    main()
