"""The checks, by group; each gives jobs, or outcomes of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.errors import WeftError
from weft.compiler.ir import Graph
from weft.compiler.ops import OPS, Op
from weft.compiler.text import parse
from weft.compiler.transforms import batch, jvp, vjp
from weft.devices.capabilities import lacking
from weft.devices.conformance.compare import (
    aligned,
    assert_close,
    assert_scaled,
    expected,
    flushed,
)
from weft.devices.conformance.contract import contract
from weft.devices.conformance.control import (
    GATHER,
    SYMBOLIC,
    SYMBOLIC_SIZES,
    control_cases,
    symbolic_arguments,
)
from weft.devices.conformance.jobs import (
    Array,
    Job,
    Outcome,
    Status,
    Subject,
    excuse,
    failure,
    run_jobs,
)
from weft.devices.conformance.points import NO_DERIVATIVE, Point, differentiable, points
from weft.devices.conformance.samples import cases, results_of, types_of
from weft.devices.reference import evaluate

__all__ = ["ALL", "GROUPS", "conformance", "control_jobs", "op_jobs", "rule_jobs"]

ALL: tuple[Op, ...] = tuple(op for op in OPS.values() if op.name not in ("get", "transfer"))
_NARROW = {"f64": "f32", "c128": "c64"}
_RULES_RTOL = {"f64": 1e-10, "c128": 1e-10, "f32": 2e-3, "c64": 2e-3}


def op_jobs(op: Op, ulps: Mapping[str, int] = MappingProxyType({}), subnormals: bool = True
            ) -> Iterator[Job]:
    """The op in every element type, on special values and samples, against its meaning.

    `ulps` is what a device allows itself; without `subnormals`, these count as zeros.
    """
    for label, (operands, attrs) in cases(op):
        if not subnormals:
            operands = tuple(flushed(np.asarray(a)) for a in operands)
        b = Builder(op.name)
        types = types_of(operands)
        params = [b.param(f"x{i}", t) for i, t in enumerate(types)]
        node = b.add(op.name, *params, **attrs)
        graph = b.graph(results_of(b, node))
        first = types[0] if types else graph.results[0].tensor
        arrays = [np.asarray(a) for a in operands]
        dtype = first.dtype.name
        ulp = ulps.get(f"{op.name}/{dtype}", ulps.get(op.name))
        yield Job("ops", f"{op.name} {label}", dtype, graph, arrays,
                  _near(op, label, operands, attrs, ulp, subnormals))


def _near(op: Op, label: str, operands: tuple[Array, ...], attrs: dict[str, Any], ulp: int | None,
          subnormals: bool) -> Callable[[list[Array]], None]:
    def compare(results: list[Array]) -> None:
        want = expected(op, operands, attrs)
        due = want if isinstance(want, tuple) else (want,)
        assert len(results) == len(due), f"{len(results)} results, expected {len(due)}"
        if ulp is not None:
            results = aligned(op, results, due)
        for got, w in zip(results, due):
            if not subnormals:
                got, w = flushed(got), flushed(np.asarray(w))
            assert_close(op, f"{op.name} {label}", got, w, operands, ulp)
    return compare


# ---- derivatives and batches


def rule_jobs(op: Op, dtypes: frozenset[str]) -> Iterator[Job]:
    """Graphs that the op's derivatives and batches are, at smooth points, against the reference.

    In float64 and complex128, or in half of these where these are not among `dtypes`.
    """
    for label, point in points(op):
        graph, arrays = _narrowed(point, dtypes)
        dtype = next((p.dtype.name for p in graph.params if p.dtype.is_inexact), "")
        if op.name not in NO_DERIVATIVE and differentiable(point):
            flags = [p.dtype.is_inexact for p in graph.params]
            seeds = [a for a, f in zip(arrays, flags) if f]
            yield _same("jvp", op, label, dtype, jvp(graph, flags), [*arrays, *_like(seeds, 1)])
            results = [np.asarray(r) for r, n in zip(evaluate(graph, arrays), graph.results)
                       if n.dtype.is_inexact]
            yield _same("vjp", op, label, dtype, vjp(graph, flags), [*arrays, *_like(results, 2)])
        if graph.params:
            many = [np.stack([a, a, a]) for a in arrays]
            yield _same("batch", op, label, dtype, batch(graph, [True] * len(many), 3)[0], many)


def _same(group: str, op: Op, label: str, dtype: str, graph: Graph, arrays: Sequence[Array]) -> Job:
    def compare(results: list[Array]) -> None:
        for got, want in zip(results, evaluate(graph, arrays), strict=True):
            assert_scaled(f"{group} of {op.name} {label}", got, want,
                          _RULES_RTOL.get(want.dtype.name, _RULES_RTOL.get(dtype, 1e-2)))
    return Job(group, f"{op.name} {label}", dtype, graph, arrays, compare)


def _like(arrays: Iterable[Array], seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.uniform(0.5, 1.5, a.shape)).astype(a.dtype) for a in arrays]


def _narrowed(point: Point, dtypes: frozenset[str]) -> Point:
    """The point in element types of half the width, where a device lacks those that it has."""
    graph, arrays = point
    text = graph.text()
    lacks = [name for name in _NARROW if name not in dtypes and name in text]
    for name in lacks:
        text = text.replace(name, _NARROW[name])
    try:
        narrow = parse(text) if lacks else graph
    except WeftError:               # of a fixed width, such as a bitcast
        return point
    return narrow, [a.astype(p.dtype.numpy) for a, p in zip(arrays, narrow.params)]


# ---- graphs


def control_jobs() -> Iterator[Job]:
    """Loops and branches."""
    for label, graph, arrays, rtol in control_cases():
        yield Job("control", label, graph.params[0].dtype.name, graph, arrays,
                  _scaled(label, graph, arrays, rtol))


def _scaled(label: str, graph: Graph, arrays: Sequence[Array], rtol: float
            ) -> Callable[[list[Array]], None]:
    def compare(results: list[Array]) -> None:
        for got, want in zip(results, evaluate(graph, arrays), strict=True):
            assert_scaled(label, got, want, rtol)
    return compare


_LAYER = """graph @layer(%x: f32[B, 8], %w: f32[8, 3]) -> (f32[B, 3], f32[2*B], f32[]) {
  %y = dot_general %x, %w {contract=[[1], [0]], batch=[[], []]} : f32[B, 3]
  %m = reduce_max %y {axes=[1]} : f32[B]
  %c = concatenate %m, %m {axis=0} : f32[2*B]
  %t = reduce_sum %y {axes=[0, 1]} : f32[]
  return %y, %c, %t
}"""


def _layer_arguments(t: int, b: int) -> list[Array]:
    rng = np.random.default_rng(3)
    return [rng.uniform(0.5, 1.5, s).astype(np.float32) for s in ((b, 8), (8, 3))]


_SYMBOLIC = (("loop", SYMBOLIC, symbolic_arguments), ("layer", _LAYER, _layer_arguments))


def size_outcomes(subject: Subject) -> Iterator[Outcome]:
    """Graphs with sizes left open, compiled once and run for several."""
    for name, text, arguments in _SYMBOLIC:
        graph = parse(text)
        error = lacking(subject.prepared(graph), subject.device)
        why = excuse(subject, "sizes", name, "f32") or (error.what if error else None)
        if why:
            yield Outcome("sizes", name, "f32", "skipped", why)
            continue
        try:
            compiled = subject.compile(graph)
            for sizes in SYMBOLIC_SIZES:
                arrays = arguments(*sizes)
                _scaled(f"T, B = {sizes}", graph, arrays, 1e-6)(subject.call(compiled, arrays))
        except Exception as caught:     # of the device
            yield Outcome("sizes", name, "f32", "failed", failure(caught))
        else:
            yield Outcome("sizes", name, "f32", "passed")


_PICK = """graph @pick(%x: f32[4], %n: i64[]) -> (f32[]) {
  %i = shift_right %n, 18:i64 : i64[]
  %v = gather %x, %i {axes=[0], position=0, mode="raise"} : f32[]  # model.py:7
  return %v
}"""


def error_outcomes(subject: Subject) -> Iterator[Outcome]:
    """An index out of bounds is NumPy's error, at the user's line; in a loop, the first one is."""
    for name, text in (("index", _PICK), ("index-in-a-loop", GATHER)):
        graph = parse(text)
        error = lacking(subject.prepared(graph), subject.device)
        why = excuse(subject, "errors", name, "") or (error.what if error else "")
        wrong = "" if why else _wrong_error(subject, graph)
        status: Status = "skipped" if why else "failed" if wrong else "passed"
        yield Outcome("errors", name, "", status, why or wrong)


def _wrong_error(subject: Subject, graph: Graph) -> str:
    """What is wrong with the error that the graph gives, or nothing."""
    try:
        subject.run(graph, [np.arange(4, dtype=np.float32), np.array(1 << 20)])
    except IndexError as error:
        origin = getattr(error, "origin", None)
        said = "index 4 is out of bounds for axis 0 with size 4" in str(error)
        return "" if said and str(origin) == "model.py:7" else (
            f"the error names line {origin}, expected model.py:7: {failure(error)}")
    except Exception as error:          # of the device
        return f"expected an IndexError: {failure(error)}"
    return "no error was raised"


# ---- all of them


Pick = Callable[[str, str], bool]       # (name, element type) -> whether it was asked for
GROUPS: Mapping[str, str] = {
    "contract": "what Memory and Compiled promise", "ops": "every op in every element type",
    "jvp": "their derivatives, forwards", "vjp": "backwards", "batch": "their batches",
    "control": "loops and branches", "sizes": "sizes left open", "errors": "errors at run time"}


def conformance(subject: Subject, groups: Iterable[str] = tuple(GROUPS), ops: Sequence[str] = (),
                dtypes: Sequence[str] = (), more: Iterable[Job] = ()) -> Iterator[Outcome]:
    """Make the checks of these groups, and `more`; only of some ops or element types if any are
    named.

    >>> subject = Subject.of("reference")
    >>> {o.status for o in conformance(subject, ["ops"], ["tanh"], ["f32"])}
    {'passed'}
    """
    chosen = set(groups)
    ulps = subject.device.ulps()

    def picked(jobs: Iterable[Job]) -> list[Job]:
        return [j for j in jobs if j.group in chosen and (not dtypes or j.dtype in dtypes)]

    if "contract" in chosen and not ops:
        yield from (o for o in contract(subject) if not dtypes or o.dtype in ("", *dtypes))
    if "ops" in chosen and not subject.device.subnormals:
        yield Outcome("ops", "subnormals", "", "skipped",
                      "the device takes subnormal numbers for zeros")
    for op in ALL:
        if ops and op.name not in ops:
            continue
        if "ops" in chosen:
            yield from run_jobs(subject, picked(op_jobs(
                op, ulps, subject.device.subnormals)))
        if chosen & {"jvp", "vjp", "batch"}:
            yield from run_jobs(subject, picked(rule_jobs(op, subject.device.dtypes())))
    if ops:
        return
    for job in picked(control_jobs()):
        yield from run_jobs(subject, [job])
    yield from run_jobs(subject, picked(more))
    if "sizes" in chosen and (not dtypes or "f32" in dtypes):
        yield from size_outcomes(subject)
    if "errors" in chosen and not dtypes:
        yield from error_outcomes(subject)


