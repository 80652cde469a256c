"""One peer in a process of its own: reads one JSON command a line, answers one JSON line each.

``python -m bench.worker PEER`` first answers with what the peer is, or why it cannot run. Then::

    {"cmd": "threads"}                                     how many it uses by default
    {"cmd": "load", "workload": NAME, "reference": FILE}   build, first call, check of the answer
    {"cmd": "time", "budget": SECONDS}                     median seconds of a call
    {"cmd": "memory", "workload": NAME, "reference": FILE} the same as load, and the memory it took
    {"cmd": "drop"}                                        forget the workload

Whatever the libraries print goes to stderr; the answers have the pipe to themselves.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import re
import statistics
import sys
import time
from timeit import Timer
from typing import Any, TextIO

import numpy as np

from bench import memory, peers, workloads
from bench.peers.base import Peer, Trainer

BATCH_SECONDS = 2e-4  # calls shorter than this are timed several at once
MEMORY_SECONDS = 0.3  # for how long a workload runs while its memory is watched


class Session:
    """The commands, over one peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.timer: Timer | None = None
        self.trainer: Trainer | None = None

    def threads(self) -> dict[str, Any]:
        """How many threads the library uses. Not part of the first answer: asking makes some
        libraries get ready, which is what their first calls are measured for."""
        return {"ok": True, "threads": self.peer.threads()}

    def load(
        self, workload: str, reference: str, inputs: list[np.ndarray] | None = None
    ) -> dict[str, Any]:
        """Build the workload's call; time from nothing to its first result; check the answer."""
        spec = workloads.BY_NAME[workload]
        inputs = spec.make_inputs() if inputs is None else inputs
        started = time.perf_counter()
        call = self.peer.build(spec, inputs)
        if call is None:
            return {"ok": False, "left_out": f"no {spec.kernel} here"}
        args = self.peer.arguments(spec, inputs)
        result = self.peer.sync(call(*args))
        first = time.perf_counter() - started
        names = {f"a{i}": arg for i, arg in enumerate(args)}
        statement = self.peer.statement.format(args=", ".join(names))
        self.timer = Timer(statement, globals={"call": call, "sync": self.peer.sync, **names})
        if isinstance(call, Trainer):
            self.trainer = call
        got = results(self.peer, spec, inputs, call, args, result)
        return {"ok": True, "first": first, **self._check(spec, got, reference)}

    def _check(self, spec: workloads.Workload, got: list[np.ndarray], reference: str
               ) -> dict[str, Any]:
        with np.load(reference) as stored:
            wanted = [stored[name] for name in stored]
        errors = [_error(spec, g, w) for g, w in zip(got, wanted)]
        right = len(got) == len(wanted) and all(used <= 1 for used, _ in errors)
        if self.peer.keeps_dtype:
            right = right and all(str(g.dtype) == spec.dtype for g in got)
        return {"right": right, "tolerance_used": max(used for used, _ in errors),
                "max_error": max(error for _, error in errors),
                "dtypes": [str(g.dtype) for g in got]}

    def time(self, budget: float) -> dict[str, Any]:
        """The median time of a call, over calls that together take about ``budget`` seconds."""
        if self.trainer is not None:
            self.trainer.reset()  # long training would end among vanishing numbers, slow to some
        samples = self._samples(budget)
        return {"ok": True, "seconds": statistics.median(samples), "samples": len(samples)}

    def _samples(self, budget: float) -> list[float]:
        assert self.timer is not None, "load comes first"
        once = min(self.timer.timeit(1) for _ in range(2))  # also warms the caches
        batch = max(1, round(BATCH_SECONDS / max(once, 1e-9)))
        self.timer.timeit(batch)
        samples: list[float] = []
        end = time.perf_counter() + budget
        while len(samples) < 3 or time.perf_counter() < end:
            samples.append(self.timer.timeit(batch) / batch)
        return samples

    def drop(self) -> dict[str, Any]:
        """Forget the workload and its arrays."""
        self.timer = self.trainer = None
        gc.collect()
        return {"ok": True}


    def memory(self, workload: str, reference: str) -> dict[str, Any]:
        """Load, and measure how far the process grew at most while it ran (``bench.memory``)."""
        spec, small = workloads.BY_NAME[workload], workloads.BY_NAME["dispatch-4"]
        inputs = spec.make_inputs()
        call = self.peer.build(small, small.make_inputs())
        if call is not None:  # the compiler is there and warm: what follows is this workload's
            self.peer.sync(call(*self.peer.arguments(small, small.make_inputs())))
        gc.collect()
        before = memory.resident()
        answer = self.load(workload, reference, inputs)
        if answer["ok"]:
            gc.collect()
            memory.forget_peak()  # of loading and of the check
            self._samples(MEMORY_SECONDS)
            answer["grown"] = memory.peak() - before
        return answer


def results(
    peer: Peer, spec: workloads.Workload, inputs: list[np.ndarray], call: Any, args: list[Any],
    result: Any,
) -> list[np.ndarray]:
    """What is checked: the parts of the result; in training, the losses of the first steps and
    what became of the parameters."""
    parts = result if isinstance(result, tuple | list) else (result,)
    got = [peer.numpy(part) for part in parts]
    if not isinstance(call, Trainer):
        return got
    got += [peer.numpy(peer.sync(call(*args))) for _ in range(workloads.CHECKED_STEPS - 1)]
    return got + [new - old for new, old in zip(call.parameters(), inputs)]


def _error(spec: workloads.Workload, got: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """How much of the tolerance is used (right: at most 1), and the largest absolute error."""
    if got.shape != wanted.shape:
        return float("inf"), float("inf")
    distance = np.abs(got.astype(np.float64) - wanted)
    if spec.norm:
        used = np.linalg.norm(distance) / (spec.rtol * np.linalg.norm(wanted))
    else:
        used = np.max(distance / (spec.atol + spec.rtol * np.abs(wanted)))
    return float(np.nan_to_num(used, nan=np.inf)), float(np.max(distance))


def describe(error: BaseException) -> str:
    """An error in a line, without this machine's paths."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0] if lines else ''}"
    return re.sub(r"(?:/[\w.+-]+)+/", "", text)[:300]


def private_pipe() -> TextIO:
    """The real stdout for the answers; anything else that prints goes to stderr from now on."""
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return pipe


def serve(name: str, pipe: TextIO) -> None:
    """Answer commands until stdin ends."""
    def answer(reply: dict[str, Any]) -> None:
        pipe.write(json.dumps(reply) + "\n")

    try:
        peer = peers.BY_NAME[name].load()
        session = Session(peer)
        versions = {"python": platform.python_version(), **peer.versions()}
        answer({"ok": True, "versions": versions})
    except Exception as error:
        answer({"ok": False, "left_out": describe(error)})
        return
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer(getattr(session, command.pop("cmd"))(**command))
        except Exception as error:
            session.drop()
            answer({"ok": False, "left_out": describe(error)})


if __name__ == "__main__":
    serve(sys.argv[1], private_pipe())
    os._exit(0)  # some libraries take seconds to leave, or crash there
