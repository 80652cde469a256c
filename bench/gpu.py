"""``python -m bench --gpu``: weft beside CuPy, JAX and PyTorch on one GPU.

All run in one process, one after another in each row, in alternating rounds. A round calls a
function as often as fits into a fifth of a second, waits once, and gives the time of a call. Inputs
are on the device before the clock starts; answers are held to NumPy's. `first` is the time from the
finished import to the first result: tracing, compiling, running.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import workloads
from bench.gpu_cases import CASES, Case
from bench.gpu_peers import PEERS, GpuPeer
from bench.plot import COLOURS, draw
from bench.worker import describe

__all__ = ["gpu_problem", "main"]

SECONDS = 0.2           # of a round
WARM_UP = 10            # calls before the first round: some libraries record or tune at later ones
TRAINING = ("train_mlp", "train_gpt")
GOALS = {"train/": 1.1, "matmul-4096": 1.0, "matmul-gelu": 1.0}     # of the best peer's speed
FOLDER = Path(__file__).parent / "results"


def gpu_problem() -> str | None:
    """Why there is no GPU to measure, or None."""
    from weft.devices.registry import device_problem
    return device_problem("gpu")


def main(only: str | None = None, rounds: int = 5, place: str = "gpu", shrink: int = 1) -> None:
    """Measure, print a line a row, write the results. `place` and `shrink` are for checking this
    very code where there is no GPU: ``main(place="cpu", shrink=64)``; nothing is written then."""
    problem = gpu_problem() if place == "gpu" else None
    if problem:
        print(f"no GPU to measure: {problem.splitlines()[0]}")
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")     # others need memory too
    peers, left_out = _peers(place)
    limits = _limits() if place == "gpu" else {}
    data: dict[str, Any] = {
        "date": datetime.date.today().isoformat(), "device": _device() if place == "gpu" else place,
        "limits": limits, "rounds": rounds, "left_out": left_out,
        "versions": {name: p.versions() for name, p in peers.items()}, "rows": {}}
    for text in (data["device"], *(f"{n}: {w}" for n, w in left_out.items())):
        print(text)
    for run in _rows(only, shrink):
        row = _measure(run, peers, rounds)
        case = next((c for c in CASES if c.name == run.name), None)
        row["share"] = _share(case, row, limits)
        data["rows"][run.name] = row
        print(_line(run.name, row), flush=True)
        if place == "gpu":
            path = _write(data, bool(only))     # after each row: a machine may be taken away
    if place == "gpu" and data["rows"]:
        _draw(data, path.with_suffix(""))
        print(f"written: bench/results/{path.name}")


def _write(data: dict[str, Any], partial: bool) -> Path:
    """The results so far, into the folder of results."""
    FOLDER.mkdir(exist_ok=True)
    device = "-".join(str(data["device"]).lower().split(",")[0].split())
    path = FOLDER / f"{data['date']}-{device}{'-partial' if partial else ''}.json"
    path.write_text(json.dumps(data, indent=1) + "\n")
    return path


def _draw(data: dict[str, Any], path: Path) -> None:
    """The picture, as of the CPU's rows; the goals that are times of a peer's."""
    rows = []
    for name, row in data["rows"].items():
        medians = {label.replace(".", "-"): t for label, t in row["seconds"].items()}
        medians = {n: t for n, t in medians.items() if n in ("weft", *COLOURS)}
        peers = {label: t for label, t in medians.items() if label != "weft"}
        best = min(peers, key=peers.__getitem__, default=None)
        own, goal = medians.get("weft"), next((g for n, g in GOALS.items() if n in name), None)
        speed = peers[best] / own if best and own else None
        rows.append({"name": name, "best_peer": best, "weft_speed_vs_best": speed,
                     "goal_speed_vs_best": goal, "goal_met": speed and goal and speed >= goal,
                     "peers": {label: {"median": t} for label, t in medians.items()}})
    draw({"rows": rows, "machine": {"cpu": data["device"]}, "date": data["date"]}, path)


class Row:
    """What one row runs: inputs and the right answers are made once, before any clock starts."""

    def __init__(self, name: str, inputs: Callable[[], list[np.ndarray]],
                 want: Callable[..., Any] | None, rtol: float,
                 make: Callable[[GpuPeer, list[np.ndarray]], Callable[..., Any]],
                 parameters: int = 0) -> None:
        self.name, self.rtol, self._make, self._parameters = name, rtol, make, parameters
        self._inputs, self._want = inputs, want
        self.want: list[np.ndarray] | None = None

    def prepare(self) -> None:
        """Make the inputs and the answers."""
        self.inputs = self._inputs()
        if self._want is not None:
            with np.errstate(all="ignore"):
                self.want = [np.asarray(self._want(*self.inputs))]

    def arguments(self, peer: GpuPeer) -> list[Any]:
        """What the function is called with, on the device."""
        return peer.put(self.inputs[self._parameters:])

    def make(self, peer: GpuPeer) -> Callable[..., Any]:
        """A library's function, which may be compiled when it is first called."""
        return self._make(peer, self.inputs)


def _rows(only: str | None, shrink: int) -> list[Row]:
    """The rows that were asked for."""
    rows = [_training(w) for w in workloads.BY_NAME.values() if w.kernel in TRAINING]
    rows += [_case(case, shrink) for case in CASES]
    wanted = set(workloads.select([r.name for r in rows], only))
    return [r for r in rows if r.name in wanted]


def _case(case: Case, shrink: int) -> Row:
    want = None if case.gradient else functools.partial(case.function, np)
    return Row(case.name, lambda: case.inputs(shrink), want, case.rtol,
               lambda peer, _: peer.make(case))


def _training(workload: workloads.Workload) -> Row:
    def make(peer: GpuPeer, inputs: list[np.ndarray]) -> Callable[..., Any]:
        step = peer.train(workload, inputs)
        if step is None:
            raise NotImplementedError("no training")
        return step
    return Row(workload.name, workload.make_inputs, None, 0.0, make, len(workload.parameters))


# ---- measuring

def _measure(run: Row, peers: dict[str, GpuPeer], rounds: int) -> dict[str, Any]:
    calls: dict[str, tuple[GpuPeer, Callable[..., Any], list[Any]]] = {}
    row: dict[str, Any] = {"seconds": {}, "first": {}, "left_out": {}}
    found: dict[str, list[np.ndarray]] = {}
    run.prepare()
    for label, peer in peers.items():
        try:
            args = run.arguments(peer)
            begun = time.perf_counter()
            call = run.make(peer)
            result = call(*args)
            peer.wait(result)
            row["first"][label] = time.perf_counter() - begun
            if run.rtol:
                parts = result if isinstance(result, (tuple, list)) else [result]
                found[label] = [peer.get(x) for x in parts]
                _check(found[label], run.want or next(iter(found.values())), run.rtol)
            for _ in range(WARM_UP):
                result = call(*args)
            peer.wait(result)
            calls[label] = peer, call, args
        except Exception as error:      # of any library: the others are measured all the same
            row["left_out"][label] = describe(error)
    times: dict[str, list[float]] = {label: [] for label in calls}
    for _ in range(rounds):
        for label, (peer, call, args) in calls.items():
            times[label].append(_time(peer, call, args))
    row["seconds"] = {label: statistics.median(t) for label, t in times.items() if t}
    return row


def _check(got: Sequence[np.ndarray], want: Sequence[np.ndarray], rtol: float) -> None:
    for g, w in zip(got, want):
        distance = np.linalg.norm(g.astype(np.float64) - w)
        if not distance <= rtol * max(float(np.linalg.norm(w)), 1e-30):
            raise ValueError(f"wrong answer: off by {distance:.3g} of {np.linalg.norm(w):.3g}")


def _time(peer: GpuPeer, call: Callable[..., Any], args: list[Any]) -> float:
    """Seconds of a call, of many that are waited for together."""
    def several(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            result = call(*args)
        peer.wait(result)
        return time.perf_counter() - begun
    once = min(several(2) / 2 for _ in range(2))
    count = max(1, min(10_000, int(SECONDS / max(once, 1e-6))))
    return several(count) / count


def _share(case: Case | None, row: dict[str, Any], limits: dict[str, float]) -> float | None:
    """weft's share of the limit: of the copy's bandwidth, or of cuBLAS."""
    own = row["seconds"].get("weft")
    if case is None or own is None or not limits:
        return None
    if case.nbytes:
        return case.nbytes / limits["copy_bytes_per_second"] / own
    return limits[f"matmul_{case.precision}_seconds"] / own if case.product else None


def _line(name: str, row: dict[str, Any]) -> str:
    times = ", ".join(f"{label} {1e6 * t:.4g} us" for label, t in row["seconds"].items())
    share = f"  ({100 * row['share']:.0f} % of the limit)" if row["share"] is not None else ""
    out = "".join(f"\n  {label} left out: {why}" for label, why in row["left_out"].items())
    return f"{name}: {times}{share}{out}"


# ---- the machine

def _peers(place: str) -> tuple[dict[str, GpuPeer], dict[str, str]]:
    peers: dict[str, GpuPeer] = {}
    left_out: dict[str, str] = {}
    for name, cls in PEERS.items():
        try:
            peers[name] = cls(place)
        except Exception as error:      # a library that is there but does not start, too
            left_out[name] = f"left out ({describe(error)})"
    return peers, left_out


def _device() -> str:
    from weft.devices.registry import get_device
    return get_device("gpu").describe()


def _limits() -> dict[str, float]:
    """The bandwidth of a copy, and cuBLAS's time for the product, by CuPy and PyTorch."""
    import cupy
    x = cupy.empty(1 << 28, cupy.float32)
    y = cupy.empty_like(x)
    peer = PEERS["cupy"]("gpu")
    copy = min(_time(peer, cupy.copyto, [y, x]) for _ in range(3))
    limits = {"copy_bytes_per_second": 2 * x.nbytes / copy}
    del x, y
    cupy.get_default_memory_pool().free_all_blocks()
    # tf32 through PyTorch, where it is there: CuPy has one mode for a whole process
    for name, label in (("torch", "tf32"), ("cupy", "highest")):
        case = next(c for c in CASES if c.product and c.precision == label
                    and c.name.startswith("matmul-4096"))
        try:
            own = PEERS[name]("gpu")
            call, args = own.make(case), own.put(case.inputs())
            limits[f"matmul_{label}_seconds"] = min(_time(own, call, args) for _ in range(3))
        except Exception as error:
            print(f"no limit for products in {label}: {describe(error)}", file=sys.stderr)
            limits[f"matmul_{label}_seconds"] = float("nan")
    return limits
