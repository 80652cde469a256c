"""One function, two devices: a part runs elsewhere while the processor does the rest.

    python examples/two_devices.py [DEVICE]

DEVICE is where the part runs; by default a GPU or XLA where one can be used, else the reference
device, which runs anywhere (and slowly, since it is there to define what is right).
"""

import sys

import numpy as np

import weft

USABLE = {d.name for d in weft.devices() if d.problem is None}
DEVICE = sys.argv[1] if len(sys.argv) > 1 else next(
    name for name in ("gpu", "tpu", "xla", "reference") if name in USABLE)


def score(device, pictures, filters, weights):
    """Features by products on a device, statistics on the CPU meanwhile, and both put together."""
    with weft.device(device):
        features = np.maximum(pictures @ filters, 0)
        features = features / (1 + features.sum(axis=1, keepdims=True))
    brightness = pictures.mean(axis=1)                  # runs at the same time
    contrast = np.sqrt(((pictures - brightness[:, None]) ** 2).mean(axis=1))
    return features @ weights + brightness * contrast


rng = np.random.default_rng(0)
pictures = rng.random((2000, 256), np.float32)
filters = rng.normal(size=(256, 128)).astype(np.float32)
weights = rng.normal(size=128).astype(np.float32)

split = weft.jit(score, static_argnames="device")
here = split("cpu", pictures, filters, weights)
there = split(DEVICE, pictures, filters, weights)
print(f"the CPU and {DEVICE} agree to {np.abs(here - there).max():.1e}")

print("\nwhat runs where, and what is moved:")
print(split.lower(DEVICE, pictures, filters, weights).text("schedule"))


def loss(device, filters, weights):
    return (score(device, pictures, filters, weights) ** 2).mean()


step = weft.jit(weft.grad(loss, argnums=(1, 2)), static_argnames="device")
gradients = step(DEVICE, filters, weights)
for mine, its in zip(step("cpu", filters, weights), gradients, strict=True):
    assert np.allclose(mine, its, rtol=1e-3, atol=1e-6)
print("\nits gradient runs there too:")
print(step.lower(DEVICE, filters, weights).text("schedule"))

anywhere = weft.jit(score, static_argnames="device")
print("\nand where the cost model would run it:")
for choice in anywhere.trace("auto", pictures, filters, weights).choices:
    print("\n".join(choice.lines()))


def train(device, filters, weights, batches):
    """A loop with parts on both: the filters stay on the device, statistics are the CPU's."""
    def turn(filters, pictures):
        with weft.device(device):
            filters = filters - 0.1 * weft.grad(
                lambda f: (np.maximum(pictures @ f, 0) @ weights).mean())(filters)
        return filters, pictures.std()
    return weft.scan(turn, filters, batches)


train = weft.jit(train, static_argnames="device")
batches = pictures.reshape(4, 500, 256)
mine, its = (train(d, filters, weights, batches) for d in ("cpu", DEVICE))
print(f"\nafter {len(its[1])} turns the filters agree to {np.abs(mine[0] - its[0]).max():.1e}:")
print(train.lower(DEVICE, filters, weights, batches).text("schedule"))
