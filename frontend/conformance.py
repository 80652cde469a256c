"""``python -m weft conformance``: a device held to what it promises, calls of functions included.

The checks of graphs are in `weft.devices.conformance`. These add the graphs of random numbers,
which have to be the same everywhere, and calls of compiled functions.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

import weft.frontend.random.counts as counts
import weft.frontend.random.gammas as gammas
from weft.compiler.ops import get_op
from weft.devices.conformance import GROUPS, Job, Outcome, Subject, conformance, report
from weft.devices.conformance.checks import ALL
from weft.devices.conformance.compare import assert_scaled
from weft.devices.conformance.jobs import excuse, failure
from weft.devices.host_memory import HostMemory
from weft.devices.reference import evaluate
from weft.devices.registry import device_id, owner_of
from weft.frontend.jit import jit
from weft.frontend.location import block_until_ready
from weft.frontend.random import continuous, discrete, keys, shuffles

__all__ = ["ALL_GROUPS", "call_outcomes", "check_device_conformance", "command", "random_jobs"]

Array = np.ndarray[Any, Any]
ALL_GROUPS = {**GROUPS, "random": "the same random numbers", "calls": "calls of functions"}

# What is drawn: a function of a key; the tolerance, 0 where the numbers are equal to the bit.
_DRAWN: dict[str, tuple[Callable[[Any], Any], float]] = {
    "bits-u32": (lambda k: continuous.bits(k, (5, 3)), 0),
    "bits-u64": (lambda k: continuous.bits(k, (7,), np.uint64), 0),
    "split": (lambda k: keys.split(k, 4), 0),
    "fold_in": (lambda k: keys.fold_in(k, 17), 0),
    "uniform-f32": (lambda k: continuous.uniform(k, (33,), np.float32), 0),
    "uniform-f64": (lambda k: continuous.uniform(k, (33,)), 0),
    "integers": (lambda k: discrete.integers(k, -5, 1000, (40,)), 0),
    "permutation": (lambda k: shuffles.permutation(k, 20), 0),
    "bernoulli": (lambda k: discrete.bernoulli(k, 0.3, (50,)), 0),
    "normal-f32": (lambda k: continuous.normal(k, (33,), np.float32), 2e-6),
    "normal-f64": (lambda k: continuous.normal(k, (33,)), 1e-14),
    "exponential": (lambda k: continuous.exponential(k, (33,)), 1e-14),
    "gamma": (lambda k: gammas.gamma(k, 2.5, (20,)), 1e-12),
    "poisson": (lambda k: counts.poisson(k, 4.0, (20,)), 0),
}


def random_jobs() -> Iterator[Job]:
    """Graphs that draw random numbers, which the reference's have to be equal to."""
    key = np.uint64(20261126)
    for name, (draw, rtol) in _DRAWN.items():
        graph = jit(draw, device="reference").trace(key).graph
        arrays = [np.asarray(key)]

        def compare(results: list[Array], graph: Any = graph, arrays: Any = arrays,
                    name: str = name, rtol: float = rtol) -> None:
            for got, want in zip(results, evaluate(graph, arrays), strict=True):
                assert_scaled(name, got, want, rtol)
        yield Job("random", name, graph.results[0].dtype.name, graph, arrays, compare)


# ---- calls


def _step(params: dict[str, Any], x: Any, rate: float) -> Any:
    y = np.maximum(x @ params["w"] + params["b"], 0)
    return {"w": params["w"] - rate * (x.T @ y), "b": params["b"]}, y.sum()


def _arguments() -> tuple[dict[str, Array], Array, float]:
    rng = np.random.default_rng(0)
    w, b, x = (rng.standard_normal(s).astype(np.float32) for s in ((4, 3), (3,), (5, 4)))
    return {"w": w, "b": b}, x, 0.5


def _near(got: Any, want: Any, where: Subject) -> None:
    """Compare a result, which has to lie on the device, with NumPy's."""
    memory = where.device.memory
    if isinstance(want, np.generic) and isinstance(memory, HostMemory):
        assert type(got) is type(want), f"{type(got).__name__}, expected {type(want).__name__}"
    elif isinstance(want, (np.ndarray, np.generic)):
        assert memory.owns(got), f"a result is a {type(got).__name__}, not the device's array"
        got = memory.get(got)
    assert_scaled("a result", np.asarray(got), np.asarray(want), 1e-5)


def _numpy_arguments(where: Subject) -> None:
    """NumPy's arrays are put on the device, and results stay there."""
    f, (params, x, rate) = jit(_step, device=device_id(where.device)), _arguments()
    want, total = _step(params, x, rate)
    for _ in range(3):
        got, loss = block_until_ready(f(params, x, rate))
        for name in want:
            _near(got[name], want[name], where)
        _near(loss, total, where)
        assert abs(float(loss) - float(total)) <= 1e-4 * abs(float(total))


def _own_arguments(where: Subject) -> None:
    """The device's own arrays are taken as they are, and say where to run."""
    params, x, rate = _arguments()
    put = where.device.memory.put
    there = {name: put(a) for name, a in params.items()}
    f = jit(_step, device=device_id(where.device))
    want = _step(_step(params, x, rate)[0], x, rate)[1]
    first, _ = f(there, put(x), rate)
    _near(f(first, x, rate)[1], want, where)
    if isinstance(where.device.memory, HostMemory):
        return
    assert owner_of(there["w"]) is where.device, "its arrays are taken for another device's"
    _near(jit(_step)(first, x, rate)[1], want, where)


def _python_numbers(where: Subject) -> None:
    """Python's numbers go in and come out."""
    f = jit(lambda a, b: (a + b, a < b, a * 2), device=device_id(where.device))
    for a, b in ((2, 3), (2.5, 1.0), (True, 2)):
        got = f(a, b)
        want = (a + b, a < b, a * 2)
        assert got == want and [type(g) for g in got] == [type(w) for w in want], (
            f"{got}, expected {want}")


def _views(where: Subject) -> None:
    """Arguments in any order of memory, of other byte order, and read-only."""
    f = jit(lambda x: x * 2 + 1, device=device_id(where.device))
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    frozen = x.copy()
    frozen.flags.writeable = False
    for given in (x, x.T, x[::-1, ::2], x.astype(">f4"), frozen, x[:0], x[0, 0]):
        _near(f(given), given.astype(np.float32) * 2 + 1, where)


_CALLS: dict[str, Callable[[Subject], None]] = {
    "numpy-arguments": _numpy_arguments, "own-arguments": _own_arguments,
    "python-numbers": _python_numbers, "views": _views}


def call_outcomes(subject: Subject) -> Iterator[Outcome]:
    """Calls of functions that were compiled for the device by its name."""
    for name, check in _CALLS.items():
        why = excuse(subject, "calls", name, "")
        if why:
            yield Outcome("calls", name, "", "skipped", why)
            continue
        try:
            check(subject)
        except Exception as error:      # of the device, which may raise anything
            yield Outcome("calls", name, "", "failed", failure(error))
        else:
            yield Outcome("calls", name, "", "passed")


def check_device_conformance(device: str, groups: Sequence[str] = (), ops: Sequence[str] = (),
                             dtypes: Sequence[str] = ()) -> list[Outcome]:
    """Every check of a device, or those of some groups, ops and element types.

    Raises `DeviceError` for a device that cannot be used here, `WeftError` for an unknown op.

    >>> outcomes = check_device_conformance("reference", ["calls"])
    >>> {o.status for o in outcomes}
    {'passed'}
    """
    for op in ops:
        get_op(op)
    chosen = list(groups or ALL_GROUPS)
    subject = Subject.of(device)
    outcomes = list(conformance(subject, chosen, ops, dtypes, random_jobs()))
    if "calls" in chosen and not ops and not dtypes:
        outcomes += call_outcomes(subject)
    return outcomes


def _in_processes(device: str, groups: Sequence[str], ops: Sequence[str], dtypes: Sequence[str],
                  jobs: int) -> list[Outcome]:
    """The same, by so many processes, each with some of the ops; the last part is the rest."""
    chosen = groups or list(ALL_GROUPS)
    by_op = [g for g in chosen if g in ("ops", "jvp", "vjp", "batch")]
    rest = [g for g in chosen if g not in by_op]
    names = list(ops or [op.name for op in ALL]) if by_op else []
    parts = [(device, by_op, names[i::jobs], dtypes) for i in range(min(jobs, len(names)))]
    if rest and not ops:
        parts.append((device, rest, [], dtypes))
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        found = pool.map(check_device_conformance, *zip(*parts))
        return [outcome for part in found for outcome in part]


def command(options: argparse.Namespace) -> int:
    """The command of that name; 1 where a check failed."""
    chosen = options.device, options.group, options.op, options.dtype
    outcomes = _in_processes(*chosen, options.jobs) if options.jobs > 1 else \
        check_device_conformance(*chosen)
    device = Subject.of(options.device).device
    about = device.describe()
    print(report(f"{device_id(device)}{f' ({about})' if about else ''}", outcomes, options.verbose))
    return int(any(o.status == "failed" for o in outcomes))
