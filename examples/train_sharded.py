"""One training program on many devices: by data, by model, by both, and as a pipeline.

    pip install 'weft[tpu]'
    python examples/train_sharded.py

The functions are plain NumPy, and know of no device. A mesh and a few specs decide where weights
and batches lie; XLA divides the work and adds the communication. On a CPU, eight devices are made
of it: what is shown then is that the losses agree, not that it is fast.

On several machines, or to try it in several processes of one, with the same address everywhere:

    python examples/train_sharded.py --processes 2 --process 0 --address first-host:1234
    python examples/train_sharded.py --processes 2 --process 1 --address first-host:1234

Each runs the same program on the same batches, and holds its own part of them and of the weights.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import weft

Array = np.ndarray
Weights = dict[str, Array]
STEPS, BATCH, WIDTH, HIDDEN = 100, 64, 16, 64
STAGES, PARTS = 4, 8            # of the pipeline: layers on devices of their own, parts of a batch

DEVICES = 8                     # of all processes together



# ---- a perceptron, divided in four ways

def init(rng: np.random.Generator) -> Weights:
    """Two layers."""
    return {"up": (rng.standard_normal((WIDTH, HIDDEN)) * WIDTH**-0.5).astype(np.float32),
            "bias": np.zeros(HIDDEN, np.float32),
            "down": (rng.standard_normal((HIDDEN, WIDTH)) * HIDDEN**-0.5).astype(np.float32)}


def loss(p: Weights, x: Array, y: Array) -> Array:
    """The mean of squares."""
    return ((np.tanh(x @ p["up"] + p["bias"]) @ p["down"] - y) ** 2).mean()


def step(p: Weights, x: Array, y: Array) -> tuple[Weights, Array]:
    """Gradient descent."""
    value, g = weft.value_and_grad(loss)(p, x, y)
    return {k: p[k] - np.float32(0.5) * g[k] for k in p}, value


WHOLE, ROWS = weft.spec(), weft.spec("data")
DIVIDED = {"up": weft.spec(None, "model"), "bias": weft.spec("model"), "down": weft.spec("model")}
LAYOUTS: dict[str, tuple[tuple[int, int], Any, Any]] = {    # the mesh; the specs of weights, rows
    "data-parallel": ((8, 1), WHOLE, ROWS),                 # every device has all the weights
    "model-parallel": ((1, 8), DIVIDED, WHOLE),             # every device has an eighth of them
    "both": ((4, 2), DIVIDED, ROWS),
}


def sharded(fn: Callable[..., Any], shape: tuple[int, int], weights: Any, rows: Any) -> weft.Jit:
    """The step for a mesh; weights come back as they came."""
    return weft.jit(fn, device="xla", donate="p", mesh=weft.mesh(shape, ("data", "model")),
                    in_specs=(weights, rows, rows), out_specs=(weights, WHOLE))


def train(run: Callable[..., Any]) -> list[float]:
    """The losses of all steps."""
    rng = np.random.default_rng(0)
    p, teacher = init(rng), init(rng)
    losses = []
    for _ in range(STEPS):
        x = rng.standard_normal((BATCH, WIDTH)).astype(np.float32)
        p, value = run(p, x, np.tanh(x @ teacher["up"]) @ teacher["down"])
        losses.append(float(value))
    return losses


# ---- a pipeline: every device has one layer, and parts of the batch pass from one to the next

def layer(w: Array, x: Array) -> Array:
    """One layer of a deep network."""
    return x + np.tanh(x @ w)


def deep(w: Array, x: Array) -> Array:
    """All layers, one after another, on all parts."""
    for i in range(STAGES):
        x = layer(w[i], x)
    return x


def pipelined(w: Array, parts: Array) -> Array:
    """The same. In a tick every stage works on the part that the one before it had last."""
    def tick(held: Array, entering: Array) -> tuple[Array, Array]:
        moved = np.concatenate([entering[None], held[:-1]])     # to the next device
        held = weft.vmap(layer)(w, moved)
        return held, held[-1]

    last = np.zeros((STAGES - 1, *parts.shape[1:]), np.float32)     # while the pipeline empties
    start = np.zeros((STAGES, *parts.shape[1:]), np.float32)
    return weft.scan(tick, start, np.concatenate([parts, last]))[1][STAGES - 1:]


def deep_step(network: Callable[..., Any]) -> Callable[..., Any]:
    """A step of training of the layers, run in one of the two ways."""
    def error(w: Array, parts: Array, wanted: Array) -> Array:
        return ((network(w, parts) - wanted) ** 2).mean()

    def step(w: Array, parts: Array, wanted: Array) -> tuple[Array, Array]:
        value, g = weft.value_and_grad(error)(w, parts, wanted)
        return w - np.float32(2.0) * g, value
    return step


def pipeline() -> weft.Jit:
    """The step on as many devices as there are stages."""
    return weft.jit(deep_step(pipelined), device="xla", mesh=weft.mesh((STAGES,), ("stage",)),
                    in_specs=(weft.spec("stage"), None, None),
                    out_specs=(weft.spec("stage"), weft.spec()))


def train_deep(run: Callable[..., Any]) -> list[float]:
    """The losses of all steps, batches in parts."""
    rng = np.random.default_rng(1)
    w, teacher = (rng.standard_normal((STAGES, WIDTH, WIDTH)).astype(np.float32) * 0.2
                  for _ in range(2))
    losses = []
    for _ in range(STEPS):
        x = rng.standard_normal((PARTS, BATCH // PARTS, WIDTH)).astype(np.float32)
        w, value = run(w, x, deep(teacher, x))
        losses.append(float(value))
    return losses


def compared(name: str, losses: list[float], wanted: list[float]) -> None:
    """Print how far the losses are from those of one device."""
    apart = np.abs(np.array(losses) / np.array(wanted) - 1).max()
    print(f"{name:>16}: loss {losses[0]:.4f} → {losses[-1]:.4f}, at most {apart:.0e} apart")
    assert apart < 1e-3 and losses[-1] < 0.5 * losses[0]


def begin(arguments: Sequence[str]) -> bool:
    """Join the other processes, if there are any; whether this one is alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0, help="which of them this one is, from 0")
    parser.add_argument("--address", help="host:port of the first one, where they meet")
    options = parser.parse_args(arguments)
    here = DEVICES // options.processes
    os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={here}")  # on a CPU
    if options.processes > 1:
        import jax  # after the flags are set

        jax.distributed.initialize(options.address, options.processes, options.process)
    return options.processes == 1


def main(arguments: Sequence[str] = ()) -> None:
    """Train in all ways, and compare the losses."""
    alone = begin(arguments)
    print(next(str(d) for d in weft.devices() if d.name == "xla"))
    wanted = train(weft.jit(step))
    compared("one CPU", wanted, wanted)
    for name, layout in LAYOUTS.items():
        compared(name, train(sharded(step, *layout)), wanted)
    if not alone:
        return                      # the pipeline is shorter: some would have no part in it
    wanted = train_deep(weft.jit(deep_step(deep)))
    compared("deep, one CPU", wanted, wanted)
    compared("pipeline", train_deep(pipeline()), wanted)


if __name__ == "__main__":
    main(sys.argv[1:])
