"""Steady state: the workers of all peers, asked in turn, round after round."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench import kernels
from bench.client import Worker, WorkerDied
from bench.machine import Limits
from bench.peers import PeerSpec
from bench.results import Cell, Row
from bench.workloads import Workload

REST_SECONDS = 0.02  # between two peers: an idle library's threads may still spin a moment
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How long to measure, and with whom."""

    specs: Sequence[PeerSpec]
    pythons: Mapping[str, str]  # interpreter of each peer
    rounds: int = 7
    first_rounds: int = 3  # of first calls and imports, each of which costs a process
    budget: float = 0.25  # seconds of a round on one peer
    say: Say = print


class References:
    """The right answers, computed once in float64 by the NumPy kernels and kept as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, workload: Workload) -> str:
        """The file with a workload's answers."""
        file = self.folder / f"{workload.name}.npz"
        if not file.is_file():
            inputs = [x.astype(np.float64) for x in workload.make_inputs()]
            answer = getattr(kernels, workload.kernel)(*inputs)
            parts = answer if isinstance(answer, tuple) else (answer,)
            np.savez(file, *parts)
        return str(file)


@dataclass
class Team:
    """One worker a peer. Who cannot run is left out; who dies is started anew when next needed."""

    plan: Plan
    cache: Path  # for what the peers keep on disk
    workers: dict[str, Worker] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)  # versions, threads
    left_out: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start everyone and learn who is there."""
        for spec in self.plan.specs:
            try:
                self.worker(spec)
            except WorkerDied as error:
                self.left_out[spec.name] = str(error)
        for name, reason in self.left_out.items():
            self.plan.say(f"left out: {name} ({reason})")

    def worker(self, spec: PeerSpec) -> Worker | None:
        """The running worker of a peer; None if the peer is left out."""
        if spec.name not in self.workers and spec.name not in self.left_out:
            env = fill(spec.warm or {}, self.cache / spec.name)
            worker = Worker(spec, self.plan.pythons[spec.name], env)
            if not worker.hello["ok"]:
                self.left_out[spec.name] = worker.hello["left_out"]
                worker.close()
                return None
            self.about[spec.name] = {**worker.hello, **worker.ask("threads")}
            self.workers[spec.name] = worker
        return self.workers.get(spec.name)

    def ask(self, spec: PeerSpec, cell: Cell, cmd: str, **arguments: Any) -> dict[str, Any]:
        """Ask a peer; if that goes wrong, say so in its cell."""
        try:
            worker = self.worker(spec)
            if worker is None:
                return self._out(cell, self.left_out[spec.name])
            answer = worker.ask(cmd, **arguments)
        except WorkerDied as error:
            if spec.name in self.workers:
                self.workers.pop(spec.name).close()
            return self._out(cell, str(error))
        return answer if answer["ok"] else self._out(cell, str(answer["left_out"]))

    @staticmethod
    def _out(cell: Cell, reason: str) -> dict[str, Any]:
        cell.left_out = reason
        return {"ok": False, "left_out": reason}

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()


def fill(variables: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Environment variables with ``{dir}`` filled in."""
    return {name: value.format(dir=folder) for name, value in variables.items()}


def judge(cell: Cell, loaded: Mapping[str, Any]) -> None:
    """Note what ``load`` answered; a wrong answer leaves the peer out of the row."""
    if loaded["ok"]:
        cell.first = loaded["first"]
        cell.max_error, cell.tolerance_used = loaded["max_error"], loaded["tolerance_used"]
        if not loaded["right"]:
            used, dtypes = loaded["tolerance_used"], ", ".join(loaded["dtypes"])
            cell.left_out = f"wrong answer: error {used:.3g} of the tolerance, dtype {dtypes}"


def steady(workload: Workload, team: Team, references: References, limits: Limits | None) -> Row:
    """Measure one workload: load everywhere, then alternating rounds."""
    plan, reference = team.plan, references.path(workload)
    cells = {spec.name: Cell() for spec in plan.specs if spec.name not in team.left_out}
    present = [spec for spec in plan.specs if spec.name in cells]
    for spec in present:
        cell = cells[spec.name]
        judge(cell, team.ask(spec, cell, "load", workload=workload.name, reference=reference))
    for _ in range(plan.rounds):
        for spec in present:
            cell = cells[spec.name]
            if cell.left_out:
                continue
            time.sleep(REST_SECONDS)
            answer = team.ask(spec, cell, "time", budget=plan.budget)
            if answer["ok"]:
                cell.rounds.append(answer["seconds"])
    for spec in present:
        if spec.name in team.workers:
            team.ask(spec, Cell(), "drop")
    return Row(
        workload.name, workload.group, workload.goal, cells,
        limits.seconds(workload) if limits and workload.group != "dispatch" else None,
        workload.flops, workload.bytes_read + workload.bytes_written,
    )  # fmt: skip


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for references and caches, gone when the run ends."""
    return tempfile.TemporaryDirectory(prefix="weft-bench-", ignore_cleanup_errors=True)
