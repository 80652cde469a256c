"""Running the steps of a plan as their inputs arrive, on as many threads as have something to do.

A `Plan` says what there is to run: steps on lanes. A lane is a device, or the way from one device
to another; it does one thing at a time, so two lanes overlap, and copies overlap computing. The
thread that calls runs whatever is ready; what is ready besides goes to the threads of the other
lanes, of which there is one for each lane in the process. Where only one step is ready at a time,
everything runs in the calling thread.

A thread of a lane is a help, not a need: the caller takes what no other thread has begun. So calls
may be made inside of steps, and in a process that was forked, where the threads are gone.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Any, TypeAlias

from weft.compiler.lazy_dataclass import dataclass

__all__ = ["Cancelled", "Lane", "Plan", "Step", "check_cancelled", "make_plan", "run_plan"]

AHEAD = 4       # steps of a lane that may be done before what uses the first of them on another is


@dataclass(frozen=True, eq=False)
class Lane:
    """A device or a way between two, by a name that is the same in all plans.

    `blocking`: a step returns when its work is done. Otherwise it may return at once, and `mark`
    gives, for its results, a function that waits until they are there, so that no more than a
    bounded number is under way. `here` is called in the thread that calls; what it gives is entered
    in other threads around a step, so that these find what belongs to a thread, such as its stream.
    """

    name: str
    blocking: bool = True
    mark: Callable[[Sequence[Any]], Callable[[], object]] | None = None
    here: Callable[[], Callable[[], AbstractContextManager[object]]] | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One thing to run: `run` takes the values in the slots `inputs` and gives those of `outputs`.

    `failed` makes of an error in it the one to raise. What is `little` takes less time than handing
    it to another thread.
    """

    name: str
    lane: int
    run: Callable[[list[Any]], Sequence[Any]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    failed: Callable[[Exception], Exception] | None = None
    little: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """Steps in an order in which they can run, those first on which most depends.

    Values are in slots: the arguments first. `waits` counts what each step waits for, `followers`
    are the steps that wait for it, `uses` how often each slot is read (results are read once more),
    `after` what the bound on memory adds to the dependences. `alone`, where two blocking steps on
    different lanes are never ready together, is the order in which one thread runs all, each step
    with its lane, if the end of its work has to be noted, and the slots that nobody reads after it;
    empty elsewhere. `noted` says of each step whether that is so: not of what a blocking step
    reads, which is done when the call returns. What is little is taken for nothing.
    """

    lanes: tuple[Lane, ...]
    steps: tuple[Step, ...]
    results: tuple[int, ...]
    slots: int
    waits: tuple[int, ...]
    followers: tuple[tuple[int, ...], ...]
    uses: tuple[int, ...]
    after: tuple[tuple[int, ...], ...]
    noted: tuple[bool, ...]
    alone: tuple[tuple[Step, Lane | None, tuple[int, ...]], ...]


def make_plan(lanes: Sequence[Lane], steps: Sequence[Step], params: int, results: Sequence[int]
              ) -> Plan:
    """The plan of these steps, each of which stands behind those whose values it reads.

    Memory is bounded by order: a step waits until what uses the results of the `AHEAD`-th step
    before it on its lane is done, unless that waits for this step.
    """
    slots = max([params - 1, *results, *(o for s in steps for o in s.outputs)]) + 1
    maker = {o: i for i, s in enumerate(steps) for o in s.outputs}
    needs = [{maker[i] for i in s.inputs if i in maker} for s in steps]
    after = _bounded(lanes, steps, needs)
    followers: list[list[int]] = [[] for _ in steps]
    for i, needed in enumerate(needs):
        for j in sorted(needed):
            followers[j].append(i)
    uses = [0] * slots
    for slot in (*(i for s in steps for i in s.inputs), *results):
        uses[slot] += 1
    noted = [lanes[s.lane].mark is not None and not any(
        lanes[steps[j].lane].blocking and {*steps[j].inputs} & {*s.outputs} for j in followers[i])
        for i, s in enumerate(steps)]
    return Plan(tuple(lanes), tuple(steps), tuple(results), slots,
                tuple(len(n) for n in needs), tuple(map(tuple, followers)), tuple(uses),
                tuple(after), tuple(noted), _alone(lanes, steps, needs, uses, noted))


def _bounded(lanes: Sequence[Lane], steps: Sequence[Step], needs: list[set[int]]
             ) -> list[tuple[int, ...]]:
    """Adds to `needs` what keeps lanes from running ahead; gives what was added for each step."""
    users: list[set[int]] = [set() for _ in steps]
    for i, needed in enumerate(needs):
        for j in needed:
            if steps[i].lane != steps[j].lane:
                users[j].add(i)
    after: list[tuple[int, ...]] = [()] * len(steps)
    for lane in range(len(lanes)):
        mine = [i for i, s in enumerate(steps) if s.lane == lane]
        for first, then in zip(mine, mine[AHEAD:]):
            added = [u for u in sorted(users[first])
                     if u not in needs[then] and not _depends(needs, u, then)]
            needs[then].update(added)
            after[then] = tuple(added)
    return after


def _depends(needs: Sequence[set[int]], step: int, on: int) -> bool:
    """Whether a step is another one or waits for it, directly or not."""
    seen, stack = {step}, [step]
    while stack:
        i = stack.pop()
        if i == on:
            return True
        stack += needs[i] - seen
        seen |= needs[i]
    return False


def _is_sequential(lanes: Sequence[Lane], steps: Sequence[Step], needs: Sequence[set[int]]) -> bool:
    blocking = [i for i, s in enumerate(steps) if lanes[s.lane].blocking and not s.little]
    return all(steps[i].lane == steps[j].lane or _depends(needs, j, i) or _depends(needs, i, j)
               for k, j in enumerate(blocking) for i in blocking[:k])


def _alone(lanes: Sequence[Lane], steps: Sequence[Step], needs: Sequence[set[int]],
           uses: Sequence[int], noted: Sequence[bool]
           ) -> tuple[tuple[Step, Lane | None, tuple[int, ...]], ...]:
    """See `Plan`. What returns at once goes first, so that its device is busy."""
    if not _is_sequential(lanes, steps, needs):
        return ()
    left, missing, out = list(uses), [set(n) for n in needs], []
    waiting = set(range(len(steps)))
    while waiting:
        now = min((i for i in waiting if not missing[i]),
                  key=lambda i: (lanes[steps[i].lane].blocking, i))
        waiting.remove(now)
        for n in missing:
            n.discard(now)
        for slot in steps[now].inputs:
            left[slot] -= 1
        unread = [s for s in (*steps[now].inputs, *steps[now].outputs) if not left[s]]
        out.append((steps[now], lanes[steps[now].lane] if noted[now] else None,
                    tuple(dict.fromkeys(unread))))
    return tuple(out)


def run_plan(plan: Plan, arguments: Sequence[Any]) -> list[Any]:
    """The plan's results for these arguments. Raises what a step raises; the others are dropped."""
    if plan.alone or not plan.steps:
        return _run_alone(plan, arguments)
    run = _Run(plan, arguments)
    try:
        _working.run = run
        return run.work()
    finally:
        _working.run = run.outer
        run.end()                   # also after Ctrl-C, wherever that has come


def _run_alone(plan: Plan, arguments: Sequence[Any]) -> list[Any]:
    values: list[Any] = [*arguments, *[None] * (plan.slots - len(arguments))]
    for step, lane, unread in plan.alone:
        try:
            outs = step.run([values[i] for i in step.inputs])
        except Exception as error:
            told = _told(step, error)
            try:
                if told is not error:
                    raise told      # which has its cause already
            finally:
                del told            # it holds this frame
            raise
        for slot, value in zip(step.outputs, outs):
            values[slot] = value
        if lane is not None:
            _under_way(lane, outs)
        del outs
        for slot in unread:
            values[slot] = None
    return [values[slot] for slot in plan.results]


class Cancelled(BaseException):
    """Ends a step of a call that has ended, or failed: nobody waits for it."""


def check_cancelled() -> None:
    """To be called from time to time by steps that last: raises if the call has ended meanwhile."""
    run: _Run | None = getattr(_working, "run", None)
    while run is not None:
        if run.stopped:
            raise Cancelled
        run = run.outer


_working = threading.local()        # `run`: the call for which this thread works
_NOTHING = contextlib.nullcontext()


class _Run:
    """One call: the values it has, and what is ready to run. Safe to use from many threads.

    A thread takes a lane (`_take`), runs steps of it, and says what became of them (`_finish`).
    """

    def __init__(self, plan: Plan, arguments: Sequence[Any]) -> None:
        self.plan = plan
        self.values: list[Any] = [*arguments, *[None] * (plan.slots - len(arguments))]
        self.uses = list(plan.uses)
        self.waits = list(plan.waits)
        self.left = len(plan.steps)
        self.ready: list[list[int]] = [[] for _ in plan.lanes]      # heaps: the first goes first
        self.busy = [False] * len(plan.lanes)
        self.asked = [False] * len(plan.lanes)      # the lane's thread was told of it
        self.error: BaseException | None = None
        self.stopped = False
        self.lock = threading.Lock()
        self.wake: threading.Lock | None = None     # held while the caller waits
        self.outer: _Run | None = getattr(_working, "run", None)    # of which this is a step
        self.here = [lane.here() if lane.here is not None else None for lane in plan.lanes]
        for i, n in enumerate(plan.waits):
            if not n:
                self.ready[plan.steps[i].lane].append(i)

    # ---- in the thread that calls

    def work(self) -> list[Any]:
        """Run what is ready and not taken by other threads, until all is done."""
        step = self._take()
        while step is not None:
            self._finish(step, self._run(step))
            step = self._take()
        return self._results()

    def _take(self) -> int | None:
        """The next step for the caller, whose lane is its own then; None when all is done."""
        while True:
            with self.lock:
                if self.error is not None:
                    raise self.error
                if not self.left:
                    return None
                free = [heap[0] for lane, heap in enumerate(self.ready)
                        if heap and not self.busy[lane]]
                if free:
                    step = min(free)
                    lane = self.plan.steps[step].lane
                    heapq.heappop(self.ready[lane])
                    self.busy[lane] = True
                    self._tell()
                    return step
                wake = self.wake = threading.Lock()
                wake.acquire()
            wake.acquire()          # until another thread has finished something

    def _results(self) -> list[Any]:
        return [self.values[slot] for slot in self.plan.results]

    def end(self) -> None:
        """Let go of everything, whatever has happened: steps in other threads end on their own."""
        self.stopped = True         # at once, even if a second Ctrl-C comes
        with self.lock:
            self.stop()
        self.error = None           # whose frames hold this object

    # ---- in any thread

    def help(self, lane: int) -> None:
        """Run what is ready on a lane, in the thread of that lane."""
        here = self.here[lane]
        _working.run = self
        try:
            with here() if here is not None else _NOTHING:
                self._help(lane)
        except BaseException as error:      # none of a step's: those are noted
            with self.lock:
                self.error = self.error or error
                self.stop()
                self._go_on()
        finally:
            _working.run = None

    def _help(self, lane: int) -> None:
        with self.lock:
            self.asked[lane] = False
            if self.busy[lane] or not self.ready[lane] or self.stopped:
                return
            step = heapq.heappop(self.ready[lane])
            self.busy[lane] = True
        while True:
            outs = self._run(step)
            with self.lock:
                self._settle(step, outs)
                if self.stopped or not self.ready[lane]:
                    self.busy[lane] = False
                    self._go_on()
                    return
                self._go_on()
                step = heapq.heappop(self.ready[lane])

    def stop(self) -> None:
        """Begin nothing more, and let go of all values. Holds the lock."""
        self.stopped = True
        self.values = []
        for heap in self.ready:
            heap.clear()

    def _run(self, number: int) -> Sequence[Any] | None:
        """A step's results; None, with the error noted, if it fails."""
        step = self.plan.steps[number]
        values = self.values
        if self.stopped:                # values are gone, or will be
            return None
        try:
            outs = step.run([values[i] for i in step.inputs])
            if self.plan.noted[number]:
                _under_way(self.plan.lanes[step.lane], outs)
            return outs
        except BaseException as error:
            if self.error is None:      # no variable of this frame holds it: it holds the frame
                self.error = _told(step, error)
            return None

    def _finish(self, step: int, outs: Sequence[Any] | None) -> None:
        """Say that the caller has run a step."""
        with self.lock:
            self._settle(step, outs)
            self.busy[self.plan.steps[step].lane] = False

    def _settle(self, number: int, outs: Sequence[Any] | None) -> None:
        """Keep a step's results, drop what nobody reads any more, see what is ready now."""
        step = self.plan.steps[number]
        self.left -= 1
        if outs is None or self.stopped:
            self.stop()
            return
        for slot, value in zip(step.outputs, outs):
            if self.uses[slot]:
                self.values[slot] = value
        for slot in step.inputs:
            self.uses[slot] -= 1
            if not self.uses[slot]:
                self.values[slot] = None
        for i in self.plan.followers[number]:
            self.waits[i] -= 1
            if not self.waits[i]:
                heapq.heappush(self.ready[self.plan.steps[i].lane], i)

    def _go_on(self) -> None:
        """Another thread than the caller has finished a step: wake the caller, or tell others."""
        wake, self.wake = self.wake, None
        if wake is not None:
            wake.release()
        else:
            self._tell()

    def _tell(self) -> None:
        """Tell the threads of lanes on which something is ready that no thread has taken."""
        for lane, heap in enumerate(self.ready):
            if heap and not self.busy[lane] and not self.asked[lane]:
                self.asked[lane] = True
                _ask(self.plan.lanes[lane].name, self, lane)


def _told(step: Step, error: BaseException) -> BaseException:
    """What to raise for an error in a step."""
    if step.failed is None or not isinstance(error, Exception):
        return error
    try:
        return step.failed(error)
    except Exception:                   # whatever is wrong with telling it, this is what happened
        return error


# ---- the threads of lanes

_Request: TypeAlias = "tuple[_Run, int]"
_queues: dict[str, SimpleQueue[_Request]] = {}
_starting = threading.Lock()


def _ask(name: str, run: _Run, lane: int) -> None:
    queue = _queues.get(name)
    if queue is None:
        with _starting:
            queue = _queues.get(name)
            if queue is None:
                queue = SimpleQueue()
                try:
                    threading.Thread(target=_serve, args=(queue,), name=f"weft {name}",
                                     daemon=True).start()
                except RuntimeError:        # no more threads: the caller will do it
                    return
                _queues[name] = queue
    queue.put((run, lane))


def _serve(queue: SimpleQueue[_Request]) -> None:
    while True:
        run, lane = queue.get()
        run.help(lane)
        del run         # what it holds is not to live until the next request comes


def _after_fork() -> None:
    """A child has the queues and not the threads."""
    global _starting
    _queues.clear()
    _starting = threading.Lock()
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# ---- what is under way on devices that return at once

UNDER_WAY = 8       # steps of a lane whose results may be still being computed
_waiting: dict[str, list[Callable[[], object]]] = {}


def _under_way(lane: Lane, outs: Sequence[Any]) -> None:
    """Note that a step was begun; wait for one that was long ago."""
    if not outs:
        return
    assert lane.mark is not None
    held = _waiting.setdefault(lane.name, [])
    held.append(lane.mark(outs))
    while len(held) > UNDER_WAY:
        try:
            oldest = held.pop(0)
        except IndexError:          # another thread was faster
            return
        with contextlib.suppress(Exception):    # whoever uses that result is told
            oldest()
