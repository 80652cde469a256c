"""The scheduler under failure: whatever ends a call, the next ones work, nothing stays behind."""

from __future__ import annotations

import gc
import random
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from weft.runtime import scheduler
from weft.runtime.scheduler import Lane, Plan, Step, make_plan, run_plan

PATIENCE = 60
LANES = [Lane(f"stress {i}") for i in range(4)]


class Value:
    """A value that can be counted."""

    alive: weakref.WeakSet[Value] = weakref.WeakSet()  # noqa: RUF012

    def __init__(self, number: int) -> None:
        self.number = number
        self.alive.add(self)


def _step(name: str, lane: int, inputs: Sequence[int], output: int, run: Callable[..., Any]
          ) -> Step:
    return Step(name, lane, lambda values: [run(*values)], tuple(inputs), (output,))


def _add(*values: Any) -> Value:
    return Value(sum(v.number for v in values) + 1)


def _diamonds(run: Callable[[int], Callable[..., Any]], width: int = 3, depth: int = 3) -> Plan:
    """Layers of steps on all lanes but the first, each layer joined on the first."""
    steps, last, slot = [], 0, 1
    for _ in range(depth):
        made = []
        for w in range(width):
            steps.append(_step(f"s{len(steps)}", 1 + w, [last], slot, run(len(steps))))
            made.append(slot)
            slot += 1
        steps.append(_step(f"s{len(steps)}", 0, made, slot, run(len(steps))))
        last, slot = slot, slot + 1
    return make_plan(LANES[:1 + width], steps, 1, [last])


def _want(x: int, width: int = 3, depth: int = 3) -> int:
    for _ in range(depth):
        x = width * (x + 1) + 1
    return x


def _lanes_serve() -> None:
    """Every lane's thread works: all are in a step at once, with the caller in one of them."""
    barrier = threading.Barrier(len(LANES))

    def meet(*values: Any) -> int:
        barrier.wait(PATIENCE)
        return 1
    steps = [_step(f"m{i}", i, [0], 1 + i, meet) for i in range(len(LANES))]
    assert run_plan(make_plan(LANES, steps, 1, range(1, 1 + len(LANES))), [0]) == [1] * len(LANES)


def test_steps_that_fail_at_random_in_many_calls_at_once() -> None:
    """Each call gets its own result or its own error."""
    class Wrong(Exception):
        pass

    def run(number: int) -> Callable[..., Any]:
        def step(*values: Any) -> Any:
            (first, *_) = values
            if first.fails == number:
                raise Wrong(first.call, number)
            made = _add(*values)
            made.call, made.fails = first.call, first.fails
            return made
        return step
    plan, problems = _diamonds(run), []
    count = len(plan.steps)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for i in range(60):
            x = Value(i)
            x.call, x.fails = (seed, i), rng.randrange(2 * count)
            try:
                (out,) = run_plan(plan, [x])
                if x.fails < count or out.number != _want(i):
                    problems.append((seed, i, out.number))
            except Wrong as error:
                if error.args != (x.call, x.fails):
                    problems.append((seed, i, error))
    threads = [threading.Thread(target=work, args=(s,)) for s in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE)
    assert not any(t.is_alive() for t in threads) and not problems
    _lanes_serve()


def test_an_error_while_others_compute_waits_for_nobody() -> None:
    """The call raises at once; what another thread computes then is dropped, and its lane goes on.
    """
    entered, release, left = threading.Event(), threading.Event(), threading.Event()
    kept: list[weakref.ref[Value]] = []

    def slow(*values: Any) -> Any:
        entered.set()
        assert release.wait(PATIENCE)
        made = Value(1)
        kept.append(weakref.ref(made, lambda _: left.set()))
        return made

    def fail(*values: Any) -> Any:
        assert entered.wait(PATIENCE)
        raise ValueError("wrong")
    # The caller takes the first step, so the second is the lane's thread's.
    steps = [_step("fails", 0, [0], 1, fail), _step("slow", 1, [0], 2, slow),
             _step("both", 0, [1, 2], 3, lambda *v: pytest.fail("it was cancelled"))]
    with pytest.raises(ValueError, match="wrong"):
        run_plan(make_plan(LANES[:2], steps, 1, [3]), [0])
    assert not release.is_set()
    release.set()
    assert left.wait(PATIENCE)          # dropped, without the garbage collector
    _lanes_serve()


def test_an_error_in_telling_an_error() -> None:
    def failed(error: Exception) -> Exception:
        raise RuntimeError("and this is wrong too")

    def fail(values: Any) -> Any:
        raise ValueError("wrong")
    for lanes in (LANES[:1], LANES[:2]):
        steps = [Step("fails", len(lanes) - 1, fail, (0,), (1,), failed),
                 _step("other", 0, [0], 2, lambda v: v)]
        with pytest.raises(ValueError, match="wrong"):
            run_plan(make_plan(lanes, steps, 1, [1, 2]), [0])
    _lanes_serve()


def test_an_error_in_joining_the_callers_place() -> None:
    """A stream, say, that cannot be made current in another thread."""
    def here() -> Any:
        raise OSError("no such stream")
    lanes = [LANES[0], Lane("stress joined", here=lambda: here)]
    entered = threading.Barrier(2)
    meet = entered.wait
    steps = [_step("meets", 0, [0], 1, lambda v: meet(5)), _step("never", 1, [0], 2, lambda v: v)]
    with pytest.raises((OSError, threading.BrokenBarrierError)):
        entered.abort()
        run_plan(make_plan(lanes, steps, 1, [1, 2]), [0])
    _lanes_serve()


def test_a_thousand_calls_leave_nothing_behind() -> None:
    """No values, no runs, no threads, with the garbage collector off; failed calls neither."""
    def run(number: int) -> Callable[..., Any]:
        return _add

    def failing(number: int) -> Callable[..., Any]:
        def step(*values: Any) -> Any:
            if number == 6:
                raise KeyError(number)
            return _add(*values)
        return step
    good, bad = _diamonds(run), _diamonds(failing)
    runs: weakref.WeakSet[Any] = weakref.WeakSet()
    init = scheduler._Run.__init__

    def noting(self: Any, *args: Any) -> None:
        runs.add(self)
        init(self, *args)
    _lanes_serve()
    threads = threading.active_count()
    gc.collect()
    gc.disable()
    try:
        scheduler._Run.__init__ = noting        # type: ignore[method-assign]
        for i in range(500):
            assert run_plan(good, [Value(i)])[0].number == _want(i)
            with pytest.raises(KeyError):
                run_plan(bad, [Value(i)])
        _lanes_serve()                          # the lanes have let go of what came before
        assert threading.active_count() == threads
        left = len(runs), len(Value.alive)
    finally:
        scheduler._Run.__init__ = init          # type: ignore[method-assign]
        gc.enable()
    assert left[0] <= 2 * len(LANES) and left[1] <= 2 * len(LANES), left


def test_ctrl_c_on_any_line() -> None:
    """It is raised on each line of the scheduler in turn, as the caller comes to it.

    Lines with `with` are left out: Python runs no signal's handler between taking a lock and being
    about to release it, where a tracing function would.
    """
    plan = _diamonds(lambda number: _add, width=2, depth=2)
    want = _want(3, 2, 2)
    at, interrupted = 0, 0
    while True:
        reached = _interrupted_at(at, plan)
        if reached is None:
            break
        interrupted += reached
        at += 1
        if at % 20 == 0:
            _lanes_serve()
        assert run_plan(plan, [Value(3)])[0].number == want
    assert at > 60 and interrupted > 0.9 * at
    _lanes_serve()


_WITH = {i for i, line in enumerate(Path(scheduler.__file__).read_text().splitlines(), 1)
         if line.strip().startswith("with ")}


def _interrupted_at(line: int, plan: Plan) -> bool | None:
    """Whether a Ctrl-C on the `line`-th line ended the call; None if it has fewer."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != scheduler.__file__:
            return None
        if event == "line" and frame.f_lineno not in _WITH:
            count += 1
            if count == line + 1:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run_plan(plan, [Value(3)])
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False if count > line else None
