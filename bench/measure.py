"""Steady state: the workers of all peers, asked in turn, round after round."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench import by_hand, kernels
from bench.client import ROOT, Worker, WorkerDied, environment
from bench.machine import Limits
from bench.peers import PeerSpec
from bench.reference import double
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
    """The right answers, computed once in float64 and kept as files.

    They come from the NumPy kernels, from derivatives worked out by hand, or else from JAX, which
    runs in `python`. weft has no part in it.
    """

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.python = folder, python

    def path(self, workload: Workload) -> str:
        """The file with a workload's answers; `MissingReference` where nobody can give them."""
        file = self.folder / f"{workload.name.replace('/', '-')}.npz"
        if not file.is_file():
            wide, inputs = double(workload)
            if wide.group not in ("train", "gradient"):
                answer = getattr(kernels, wide.kernel)(*inputs)
                np.savez(file, *(answer if isinstance(answer, tuple) else (answer,)))
            elif hasattr(by_hand, wide.kernel):
                np.savez(file, *by_hand.answers(wide, inputs))
            else:
                self._ask_jax(workload, file)
        return str(file)

    def _ask_jax(self, workload: Workload, file: Path) -> None:
        command = [self.python, "-m", "bench.reference", workload.name, str(file)]
        done = subprocess.run(command, capture_output=True, cwd=ROOT, env=environment({}))
        if done.returncode:
            raise MissingReference("nothing to compare with: JAX is not installed, or fails")


class MissingReference(RuntimeError):
    """A workload whose right answer cannot be had here."""


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
    plan = team.plan
    cells = {spec.name: Cell() for spec in plan.specs if spec.name not in team.left_out}
    present = [spec for spec in plan.specs if spec.name in cells]
    try:
        reference = references.path(workload)
    except MissingReference as error:
        cells, present = {name: Cell(left_out=str(error)) for name in cells}, []
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
