"""Right answers that JAX gives in float64, for models whose derivative nobody worked out by hand.

``python -m bench.reference WORKLOAD FILE`` writes them; it runs with the interpreter of the peer
``jax``.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np

from bench import peers, worker, workloads
from bench.workloads import Workload


def double(workload: Workload) -> tuple[Workload, list[np.ndarray]]:
    """The workload in float64, with the same numbers as inputs."""
    inputs = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in workload.make_inputs()]
    return dataclasses.replace(workload, dtype="float64"), inputs


def write(name: str, file: str) -> None:
    """Compute the workload's answers with JAX."""
    workload, inputs = double(workloads.BY_NAME[name])
    peer = peers.BY_NAME["jax"].load()
    call = peer.build(workload, inputs)
    assert call is not None
    args = peer.arguments(workload, inputs)
    result = peer.sync(call(*args))
    np.savez(file, *worker.results(peer, workload, inputs, call, args, result))


if __name__ == "__main__":
    write(*sys.argv[1:])
