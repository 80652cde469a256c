"""The scheduler: what runs at once does, by events and never by time; nothing runs that should not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.runtime.scheduler import AHEAD, Lane, Plan, Step, make_plan, run_plan

PATIENCE = 60       # seconds after which a test that waits for another thread has failed
A, B, COPY = Lane("test a"), Lane("test b"), Lane("test a → test b")


def _step(name: str, lane: int, inputs: Sequence[int], output: int,
          run: Callable[..., Any] | None = None) -> Step:
    function = run or (lambda *values: sum(values) + 1)
    return Step(name, lane, lambda values: [function(*values)], tuple(inputs), (output,))


def _meeting(parties: int = 2) -> Callable[..., int]:
    """A function that returns once that many threads are in it."""
    barrier = threading.Barrier(parties)

    def meet(*values: int) -> int:
        barrier.wait(PATIENCE)
        return sum(values) + 1
    return meet


def _fork_join(left: Callable[..., Any] | None = None, right: Callable[..., Any] | None = None
               ) -> Plan:
    """0 → (1 on a, 2 on b) → 3 on a."""
    return make_plan([A, B], [_step("left", 0, [0], 1, left), _step("right", 1, [0], 2, right),
                              _step("join", 0, [1, 2], 3)], 1, [3])


def test_two_devices_compute_at_once() -> None:
    meet = _meeting()
    assert run_plan(_fork_join(meet, meet), [10]) == [23]


def test_copies_overlap_computing() -> None:
    """A device computes the next value while the last one is on its way."""
    meet = _meeting()
    plan = make_plan([A, B, COPY], [
        _step("first", 0, [0], 1), _step("copy first", 2, [1], 2, meet),
        _step("second", 0, [1], 3, meet), _step("copy second", 2, [3], 4),
        _step("use", 1, [2, 4], 5)], 1, [5])
    assert run_plan(plan, [0]) == [2 + 3 + 1]


def test_a_device_does_one_thing_at_a_time() -> None:
    inside = threading.Lock()

    def alone(*values: int) -> int:
        assert inside.acquire(blocking=False)
        inside.release()
        return 1
    steps = [_step("b", 1, [0], 1, _meeting()), _step("meets b", 0, [0], 2, None)]
    steps[1] = Step("meets b", 0, steps[0].run, (0,), (2,))
    steps += [_step(f"a{i}", 0, [0], 3 + i, alone) for i in range(8)]
    assert run_plan(make_plan([A, B], steps, 1, range(3, 11)), [0]) == [1] * 8


def test_a_chain_needs_no_other_thread() -> None:
    here = threading.current_thread()
    seen = []

    def note(*values: int) -> int:
        seen.append(threading.current_thread())
        return values[0] + 1
    plan = make_plan([A, B, COPY], [_step("1", 0, [0], 1, note), _step("2", 2, [1], 2, note),
                                    _step("3", 1, [2], 3, note)], 1, [3])
    assert plan.alone and run_plan(plan, [0]) == [3] and seen == [here] * 3
    assert not _fork_join().alone


def test_little_work_needs_no_other_thread() -> None:
    """Handing it over takes longer; two steps that are more than that still meet."""
    steps = _fork_join().steps
    little = [Step(s.name, s.lane, s.run, s.inputs, s.outputs, None, s.lane == 1) for s in steps]
    plan = make_plan([A, B], little, 1, [3])
    assert plan.alone and run_plan(plan, [10]) == [23]
    more = [*little, _step("more", 1, [0], 4)]
    assert not make_plan([A, B], more, 1, [3, 4]).alone


def test_what_returns_at_once_needs_no_other_thread() -> None:
    """A device that computes asynchronously is given its work before the caller computes."""
    order: list[str] = []

    def note(name: str) -> Callable[..., int]:
        return lambda *values: order.append(name) or 1  # type: ignore[func-returns-value]
    eager = Lane("test eager", blocking=False)
    plan = make_plan([A, eager], [_step("here", 0, [0], 1, note("here")),
                                  _step("there", 1, [0], 2, note("there"))], 1, [1, 2])
    assert plan.alone
    run_plan(plan, [0])
    assert order == ["there", "here"]


def test_no_more_than_a_few_runs_are_under_way() -> None:
    """Beginning many waits for old ones; what went wrong in these is not this call's error."""
    waited: list[int] = []

    def mark(arrays: Sequence[Any]) -> Callable[[], None]:
        def wait() -> None:
            waited.append(arrays[0].number)
            raise RuntimeError("this belongs to whoever uses the array")
        return wait

    class Result:
        nbytes = 8

        def __init__(self, number: int) -> None:
            self.number = number
    lane = Lane("test under way", blocking=False, mark=mark)
    plan = make_plan([lane], [_step("run", 0, [0], 1, Result)], 1, [1])
    results = [run_plan(plan, [i])[0] for i in range(20)]
    assert [r.number for r in results] == [*range(20)]
    assert waited == [*range(12)]


class Tracked:
    """A value that can be watched dying."""


def test_values_are_dropped_after_their_last_use() -> None:
    refs: list[weakref.ref[Tracked]] = []

    def make(*values: Any) -> Tracked:
        made = Tracked()
        refs.append(weakref.ref(made))
        return made

    def check(*values: Any) -> bool:
        del values
        return refs[0]() is None and refs[1]() is not None
    steps = [_step("x", 0, [0], 1, make), _step("y", 0, [1], 2, make), _step("z", 0, [0], 3, check)]
    other = _step("b", 1, [0], 4)
    for more in ((), (other,)):             # in the caller's thread alone, and in several
        refs.clear()
        plan = make_plan([A, B], [*steps, *more], 1, [2, 3])
        assert run_plan(plan, [0])[1] is True
    assert refs[1]() is None


def test_memory_is_bounded() -> None:
    """A device that others read from runs ahead of these by a few steps at most."""
    count, done = 40, set[int]()

    def produce(i: int) -> Callable[..., int]:
        def run(*values: int) -> int:
            assert i < AHEAD or i - AHEAD in done
            return i
        return run

    def consume(i: int) -> Callable[..., int]:
        return lambda *values: done.add(i) or i  # type: ignore[func-returns-value]
    steps = []
    for i in range(count):
        steps += [_step(f"p{i}", 0, [0], 1 + i, produce(i)),
                  _step(f"c{i}", 1, [1 + i], 1 + count + i, consume(i))]
    plan = make_plan([A, B], steps, 1, [1 + count + i for i in range(count)])
    assert run_plan(plan, [0]) == [*range(count)]
    assert [n for n in plan.after if n] == [(2 * i + 1,) for i in range(count - AHEAD)]


def test_the_bound_makes_no_circle() -> None:
    """What needs all of a device's results at once gets them, however many there are."""
    count = 10
    steps = [_step(f"p{i}", 0, [0], 1 + i) for i in range(count)]
    steps.append(_step("all", 1, range(1, 1 + count), 1 + count))
    plan = make_plan([A, B], steps, 1, [1 + count])
    assert not any(plan.after) and run_plan(plan, [0]) == [count + 1]


def test_a_failure_stops_the_rest() -> None:
    """The step's own error is raised; what waits for other steps never runs."""
    started: list[str] = []
    failed = threading.Event()
    error = ValueError("no such thing")

    def fail(*values: Any) -> int:
        failed.set()
        raise error

    def slow(*values: Any) -> int:
        assert failed.wait(PATIENCE)
        return 1

    def note(*values: Any) -> int:
        started.append("after")
        return 1
    for failing in (0, 1):
        failed.clear()
        steps = [_step("fails", failing, [0], 1, fail), _step("slow", 1 - failing, [0], 2, slow),
                 _step("after fails", 1 - failing, [1], 3, note),
                 _step("after both", failing, [1, 2], 4, note)]
        with pytest.raises(ValueError, match="no such thing") as caught:
            run_plan(make_plan([A, B], steps, 1, [4]), [0])
        assert caught.value is error and not started
    assert run_plan(_fork_join(), [0]) == [3]       # and the next call is none the worse


def test_calls_within_calls() -> None:
    """A step may call another plan on the same lanes, in whichever thread it runs."""
    # The thread of lane b is busy with the outer plan, so that nobody could be met there.
    inner = [Lane("test c"), Lane("test d")]

    def call_on(lanes: Sequence[Lane], meet: Callable[..., int] | None) -> Callable[..., int]:
        plan = make_plan(lanes, _fork_join(meet, meet).steps, 1, [3])
        return lambda *values: int(run_plan(plan, [values[0]])[0])
    outer = _fork_join(call_on(inner, _meeting()), call_on([A, B], None))
    assert run_plan(outer, [1]) == [5 + 5 + 1]
    assert run_plan(_fork_join(call_on([A, B], None), call_on([A, B], None)), [1]) == [5 + 5 + 1]


def test_many_calls_at_once() -> None:
    plan = _fork_join()
    wrong: list[int] = []

    def work(first: int) -> None:
        for i in range(first, first + 200):
            if run_plan(plan, [i]) != [2 * i + 3]:
                wrong.append(i)
    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _python(code: str) -> str:
    path = os.pathsep.join([str(Path(weft.__file__ or "").parents[1]),
                            *filter(None, [os.environ.get("PYTHONPATH")])])
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": path}, timeout=PATIENCE, check=False)
    assert out.returncode == 0, out.stderr
    return out.stdout


_COMMON = """
import os, signal, threading
from weft.runtime.scheduler import Lane, Step, make_plan, run_plan
def step(name, lane, inputs, output, run):
    return Step(name, lane, lambda values: [run(*values)], inputs, (output,))
def fork_join(left, right):
    return make_plan([Lane("a"), Lane("b")], [
        step("left", 0, (0,), 1, left), step("right", 1, (0,), 2, right),
        step("join", 0, (1, 2), 3, lambda x, y: x + y)], 1, [3])
def meeting():
    barrier = threading.Barrier(2)
    return lambda x: barrier.wait(30) and x or x
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_threads_of_its_own() -> None:
    assert _python(_COMMON + """
meet = meeting()
assert run_plan(fork_join(meet, meet), [4]) == [8]
child = os.fork()
if not child:
    meet = meeting()
    os._exit(0 if run_plan(fork_join(meet, meet), [5]) == [10] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
meet = meeting()
print(run_plan(fork_join(meet, meet), [6]))
""").strip() == "[12]"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals are another thing here")
def test_ctrl_c_ends_the_call_and_nothing_else() -> None:
    """It comes while the caller waits for another thread, or while it computes itself."""
    assert _python(_COMMON + """
main, release = threading.main_thread(), threading.Event()
def interrupt(x):
    if threading.current_thread() is main:
        while True:                     # until the other thread's signal comes
            pass
    signal.pthread_kill(main.ident, signal.SIGINT)
    release.wait(30)
    return x
def quick(x):
    return x
started = threading.Barrier(2)
def waits(x):
    started.wait(30)
    return interrupt(x)
def meets(x):
    started.wait(30)
    return x if threading.current_thread() is main else interrupt(x)
for left, right in ((meets, meets), (waits, waits)):
    started.reset()
    release.clear()
    try:
        run_plan(fork_join(left, right), [1])
    except KeyboardInterrupt:
        print("interrupted")
    release.set()
    print(run_plan(fork_join(quick, quick), [3]))
""").split() == ["interrupted", "[6]", "interrupted", "[6]"]
