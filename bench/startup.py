"""What takes a fresh process: import times, first calls, and the memory of a workload."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.client import ROOT, Worker, WorkerDied, environment
from bench.measure import MissingReference, Plan, References, Team, fill, judge
from bench.peers import PeerSpec
from bench.results import Cell, Row
from bench.workloads import (
    BY_NAME,
    FIRST_CALL,
    IMPORT,
    MEMORY,
    WARM_CALL,
    WORKLOADS,
    Workload,
)

FIRST, WARM, MEMORIES, IMPORTS = "first-call", "from-disk", "memory", "import"
IMPORT_SECONDS = 1.5  # of a round on one peer: quick imports are repeated within it
_IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def row_names() -> list[str]:
    """Names of all rows that this module measures."""
    firsts = [f"{FIRST}/{w.name}" for w in WORKLOADS if w.first]
    warm = [f"{WARM}/{w.name}" for w in WORKLOADS if w.first and w.first_goal is FIRST_CALL]
    return firsts + warm + [f"{MEMORIES}/{w.name}" for w in WORKLOADS if w.memory] + [IMPORTS]


def fresh_row(name: str, specs: Sequence[PeerSpec], team: Team, references: References) -> Row:
    """Measure one of `row_names`."""
    if name == IMPORTS:
        return import_row(specs, team.plan)
    kind, _, of = name.partition("/")
    if kind == MEMORIES:
        return memory_row(BY_NAME[of], specs, team, references)
    return first_row(BY_NAME[of], specs, team.plan, references, kind)


def memory_row(
    workload: Workload, specs: Sequence[PeerSpec], team: Team, references: References
) -> Row:
    """How far a fresh process grows with the workload, see ``bench.worker.Session.memory``.

    The peers find what they compiled earlier in this run, where they can: compiling is not what is
    measured, though what it leaves behind in the process counts. NumPy, which has no derivatives
    of its own, takes no part.
    """
    specs = [spec for spec in specs if spec.name != "numpy"]
    cells = {spec.name: Cell() for spec in specs}
    for spec in specs:
        env = fill(spec.warm or {}, team.cache / spec.name)
        grown = _ask(workload, spec, team.plan, references, cells[spec.name], env, "memory")
        if grown is not None:
            cells[spec.name].rounds.append(max(grown, 1))
    return Row(f"{MEMORIES}/{workload.name}", MEMORIES, MEMORY, cells, unit="B")


def import_row(specs: Sequence[PeerSpec], plan: Plan) -> Row:
    """Seconds that ``import`` takes, in alternating rounds of fresh processes."""
    seen: dict[str, PeerSpec] = {}
    for spec in specs:  # variants of one library share an import
        seen.setdefault(spec.imports, spec)
    cells = {spec.name: Cell() for spec in seen.values()}
    for spec in seen.values():
        _import_seconds(spec, plan, cells[spec.name])  # brings files into memory, writes byte code
        cells[spec.name].rounds.clear()
    for _ in range(plan.rounds):
        for spec in seen.values():
            if not cells[spec.name].left_out:
                _import_seconds(spec, plan, cells[spec.name])
    return Row(IMPORTS, IMPORTS, IMPORT, cells)


def _import_seconds(spec: PeerSpec, plan: Plan, cell: Cell) -> None:
    samples: list[float] = []
    end = time.perf_counter() + IMPORT_SECONDS
    while not samples or time.perf_counter() < end:
        done = subprocess.run(
            [plan.pythons[spec.name], "-c", _IMPORT.format(spec.imports)],
            capture_output=True, text=True, cwd=ROOT, env=environment({}),
        )  # fmt: skip
        if done.returncode:
            cell.left_out = "does not import"
            return
        samples.append(float(done.stdout.split()[-1]))
    cell.rounds.append(statistics.median(samples))


def first_row(
    workload: Workload, specs: Sequence[PeerSpec], plan: Plan, references: References, kind: str
) -> Row:
    """First calls of one workload: from the finished import to the first result.

    With ``kind`` WARM each peer finds on disk what an earlier process compiled (peers that cannot
    keep that, or take very long, are left out); with FIRST nobody finds anything.
    """
    warm = kind == WARM
    specs = [s for s in specs if s.compiles and not (warm and (s.warm is None or s.slow_compile))]
    if workload.first_goal is not FIRST_CALL:  # seconds each: no matter of noise
        plan = dataclasses.replace(plan, first_rounds=1)
        specs = [spec for spec in specs if not spec.slow_compile]
    cells = {spec.name: Cell() for spec in specs}
    with TemporaryDirectory(prefix="weft-bench-", ignore_cleanup_errors=True) as folder:
        if warm:
            for spec in specs:
                _first_call(workload, spec, plan, references, Cell(), _warm(spec, folder))
        for number in range(plan.first_rounds):
            for spec in specs:
                cell = cells[spec.name]
                if cell.left_out or (spec.slow_compile and number):
                    continue
                env = _warm(spec, folder) if warm else _cold(spec, folder)
                _first_call(workload, spec, plan, references, cell, env)
    goal = WARM_CALL if warm else workload.first_goal
    return Row(f"{kind}/{workload.name}", kind, goal, cells)


_fresh = itertools.count()


def _cold(spec: PeerSpec, folder: str) -> Mapping[str, str]:
    return fill(spec.cold, Path(folder) / f"cold-{next(_fresh)}")


def _warm(spec: PeerSpec, folder: str) -> Mapping[str, str]:
    return fill(spec.warm or {}, Path(folder) / f"warm-{spec.name}")


def _first_call(
    workload: Workload,
    spec: PeerSpec,
    plan: Plan,
    references: References,
    cell: Cell,
    env: Mapping[str, str],
) -> None:
    if _ask(workload, spec, plan, references, cell, env, "load") is not None:
        assert cell.first is not None
        cell.rounds.append(cell.first)


def _ask(
    workload: Workload, spec: PeerSpec, plan: Plan, references: References, cell: Cell,
    env: Mapping[str, str], cmd: str,
) -> int | None:
    """Ask a fresh process; how far it grew, if that was the question. None if it has no answer."""
    try:
        reference = references.path(workload)
        with Worker(spec, plan.pythons[spec.name], env) as worker:
            answer = worker.hello
            if answer["ok"]:
                answer = worker.ask(cmd, workload=workload.name, reference=reference)
                judge(cell, answer)
            if answer["ok"]:
                return int(answer.get("grown", 0))
            cell.left_out = answer["left_out"]
    except (WorkerDied, MissingReference) as error:
        cell.left_out = str(error)
    return None
