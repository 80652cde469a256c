"""One of several processes with a mesh between them; run by `test_mesh.py`.

    python process_worker.py PORT COUNT NUMBER
"""

from __future__ import annotations

import sys

import jax
import numpy as np

import weft


def main() -> None:
    """Rows lie with both processes, columns with both devices of each."""
    port, count, number = map(int, sys.argv[1:])
    jax.distributed.initialize(f"127.0.0.1:{port}", count, number)
    assert len(jax.devices()) == 2 * count and len(jax.local_devices()) == 2
    mesh = weft.mesh((count, 2), ("data", "model"))
    rows, whole = weft.spec("data"), weft.spec()

    def loss(w: np.ndarray, x: np.ndarray) -> np.ndarray:
        return (np.tanh(x @ w) ** 2).mean()

    def step(w: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        value, g = weft.value_and_grad(loss)(w, x)
        return w - 0.1 * g, value, x * 2

    run = weft.jit(step, device="xla", mesh=mesh, in_specs=(weft.spec(None, "model"), rows),
                   out_specs=(weft.spec(None, "model"), whole, rows))
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((4, 6)), rng.standard_normal((8, 4))
    alone, theirs = weft.jit(step), w
    for _ in range(5):
        w, value, doubled = run(w, x)
        theirs, wanted, _ = alone(theirs, x)
        assert abs(float(value) - float(wanted)) < 1e-12
    for shard in doubled.addressable_shards:
        np.testing.assert_array_equal(np.asarray(shard.data), (x * 2)[shard.index])
    try:
        weft.jit(lambda a: a.sum(), device="cpu")(doubled)
    except weft.errors.WeftError as error:
        assert "lie with other processes" in str(error), error
    else:
        raise AssertionError("half an array was taken for the whole")
    print(f"process {number} of {count}: loss {float(value):.12f}", flush=True)


if __name__ == "__main__":
    main()
