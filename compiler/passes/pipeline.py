"""The list of passes, running it, and finding the pass that is to blame."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from weft.compiler.errors import WeftError
from weft.compiler.ir import Graph, Node
from weft.compiler.lazy_dataclass import replace
from weft.compiler.passes.base import History, Pass, Step
from weft.compiler.passes.calls import InlineCalls
from weft.compiler.passes.clean import EliminateCommon, EliminateDead
from weft.compiler.passes.control import SimplifyControl
from weft.compiler.passes.simplify import Canonicalize, Decompose, FoldConstants, MoveShapes
from weft.compiler.target import Target
from weft.compiler.verify import verify

__all__ = ["DEFAULT", "bisect", "pipeline_for", "run_pipeline"]

DEFAULT: tuple[Pass, ...] = (
    InlineCalls(),      # first: no other pass need know of them
    EliminateDead(),    # before the rest: tracing leaves dead nodes that no pass should look at
    FoldConstants(),
    EliminateCommon(),  # before the rules: many ask whether two operands are one node
    SimplifyControl(),  # what it writes out is then simplified like the rest
    Canonicalize(),
    Decompose(),        # after the rules have seen the user's ops, before shapes settle
    MoveShapes(),
    EliminateCommon(),  # moving shapes makes equal nodes
)


def pipeline_for(supported: frozenset[str], passes: Sequence[Pass] = DEFAULT) -> tuple[Pass, ...]:
    """The passes for a device whose table of lowerings has these keys."""
    return tuple(replace(p, supported=supported) if isinstance(p, Decompose) else p
                 for p in passes)


def run_pipeline(graph: Graph, target: Target, passes: Sequence[Pass] = DEFAULT, *,
                 callback: Callable[[Step], None] | None = None, stop_after: str | None = None,
                 check: bool = True) -> tuple[Graph, History]:
    """Run the passes in order; the graph that comes out, and the history.

    `callback` is called after each pass; `stop_after` names the last pass to run (where it runs
    for the first time); `check` verifies the graph before the first pass and after each, and
    raises a `VerifyError` that names the pass which broke it.

    >>> from weft.compiler.text import parse
    >>> g = parse("graph @f(%x: f32[]) -> (f32[]) { %y = mul %x, 1.0:f32 : f32[] return %y }")
    >>> out, history = run_pipeline(g, Target())
    >>> print(out)
    graph @f(%x: f32[]) -> (f32[]) {
      return %x
    }
    >>> [step.name for step in history if step.changed]
    ['canonicalize']
    """
    _check_stop(passes, stop_after)
    known: set[Node] = set()
    if check:
        verify(graph, known=known)
    steps: list[Step] = []
    for index, p in enumerate(passes):
        step = _run_one(index, p, graph, target)
        if check and step.changed:
            verify(step.after, after=p.name, known=known)
        steps.append(step)
        graph = step.after
        if callback is not None:
            callback(step)
        if p.name == stop_after:
            break
    return graph, History(tuple(steps))


def _check_stop(passes: Sequence[Pass], stop_after: str | None) -> None:
    names = dict.fromkeys(p.name for p in passes)
    if stop_after is not None and stop_after not in names:
        raise WeftError(f"there is no pass named {stop_after!r}",
                        expected=f"one of {', '.join(names)}")


def _run_one(index: int, p: Pass, graph: Graph, target: Target) -> Step:
    start = time.perf_counter()
    try:
        out = p.run(graph, target)
    except Exception as error:
        error.add_note(f"in the pass {p.name}, on the graph @{graph.name}")
        raise
    return Step(index, p, graph, out, time.perf_counter() - start)


def bisect(graph: Graph, target: Target, check: Callable[[Graph], bool],
           passes: Sequence[Pass] = DEFAULT) -> Step | None:
    """A step of the pipeline before which `check(graph)` holds and after which it does not.

    None if it still holds at the end. Raises `WeftError` if it does not even hold at the start.
    `check` is called about log2(number of passes) times.
    """
    if not check(graph):
        raise WeftError("the check fails before any pass has run",
                        repair="look for the mistake before the pipeline, or in the check")
    _, history = run_pipeline(graph, target, passes, check=False)
    steps = [s for s in history if s.changed]
    if not steps or check(steps[-1].after):
        return None
    good, bad = 0, len(steps) - 1  # it holds before steps[good], and not after steps[bad]
    while good < bad:
        middle = (good + bad) // 2
        if check(steps[middle].after):
            good = middle + 1
        else:
            bad = middle
    return steps[bad]
