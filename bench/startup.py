"""What comes before steady state: import times and first calls, each in a fresh process."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.client import ROOT, Worker, WorkerDied, environment
from bench.measure import Plan, References, fill, judge
from bench.peers import PeerSpec
from bench.results import Cell, Row
from bench.workloads import FIRST_CALL, IMPORT, WARM_CALL, WORKLOADS, Workload

FIRST, WARM, IMPORTS = "first-call", "from-disk", "import"
IMPORT_SECONDS = 1.5  # of a round on one peer: quick imports are repeated within it
_IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def row_names() -> list[str]:
    """Names of all rows that this module measures."""
    firsts = [w.name for w in WORKLOADS if w.first]
    return [f"{kind}/{name}" for kind in (FIRST, WARM) for name in firsts] + [IMPORTS]


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
    cells = {spec.name: Cell() for spec in specs}
    reference = references.path(workload)
    with TemporaryDirectory(prefix="weft-bench-", ignore_cleanup_errors=True) as folder:
        if warm:
            for spec in specs:
                _first_call(workload, spec, plan, reference, Cell(), _warm(spec, folder))
        for number in range(plan.first_rounds):
            for spec in specs:
                cell = cells[spec.name]
                if cell.left_out or (spec.slow_compile and number):
                    continue
                env = _warm(spec, folder) if warm else _cold(spec, folder)
                _first_call(workload, spec, plan, reference, cell, env)
    goal = WARM_CALL if warm else FIRST_CALL
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
    reference: str,
    cell: Cell,
    env: Mapping[str, str],
) -> None:
    try:
        with Worker(spec, plan.pythons[spec.name], env) as worker:
            loaded = worker.hello
            if loaded["ok"]:
                loaded = worker.ask("load", workload=workload.name, reference=reference)
                judge(cell, loaded)
            if loaded["ok"]:
                cell.rounds.append(loaded["first"])
            else:
                cell.left_out = loaded["left_out"]
    except WorkerDied as error:
        cell.left_out = str(error)
