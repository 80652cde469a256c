"""`weft.explain`: what became of a function, in words and numbers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from weft.compiler.errors import Origin, UnsupportedError
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim
from weft.devices.protocol import KernelInfo
from weft.frontend.html import page, section
from weft.frontend.jit import BoundJit, Jit, jit
from weft.frontend.records import FIRST, Record
from weft.frontend.stages import CompiledStage

__all__ = ["Explanation", "explain"]

_FROM_CACHE = (" (machine code from the disk cache)",
               " (the program from the disk cache; what follows was made again to be shown)")
_SHOWN = 20     # compilations listed, the latest


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `weft.explain` found; print it, or look at its parts.

    `stage` is the compilation for the arguments given (None without arguments), `records` all
    compilations of the function, `hits` the calls that found this one compiled already, those of
    the native entry (where `has_entry`) that Python never saw not counted.
    """

    name: str
    stage: CompiledStage | None
    records: tuple[Record, ...]
    hits: int
    has_entry: bool

    def text(self) -> str:
        """Everything, for a terminal."""
        parts = [*(self._stage_parts() if self.stage else ()), ("compilations", self._history())]
        return "\n\n".join(f"{title}\n{body}" for title, body in parts)

    def html(self) -> str:
        """Everything, as a piece of HTML, with the optimised graph and what each pass changed."""
        parts = [*(self._stage_parts() if self.stage else ()), ("compilations", self._history())]
        if self.stage is not None:
            optimized = self.stage.before.before
            parts += [("optimised graph", optimized.text()),
                      ("changes of the passes", optimized.history.diff())]
        return page(*[section(title, body, open=i < 4) for i, (title, body) in enumerate(parts)])

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()

    def _stage_parts(self) -> Iterator[tuple[str, str]]:
        assert self.stage is not None
        stage, kernels = self.stage, self.stage.before.kernels
        yield f"{stage.source.call.text} on {stage.options.device}", self._summary(stage)
        history = stage.before.before.history
        yield (f"passes: {len(history)} in {history.seconds * 1e3:.1f} ms",
               "\n".join(_pass_lines(stage)))
        lowered: Any = stage.before.lowered
        if stage.traced.is_placed(stage.options.device):
            yield (f"placement: {lowered.summary}, {_count(lowered.moved_bytes, 'B')} moved",
                   "\n".join(f"  {line}" for line in lowered.text("schedule").splitlines()))
        if stage.traced.choices:
            yield "auto", "\n".join(f"  {line}" for choice in stage.traced.choices
                                    for line in choice.lines())
        ops = sum(len(k.ops) for k in kernels)
        total = f"{_count(_sum(k.flops for k in kernels), 'FLOP')}, " \
            f"{_count(_sum(k.nbytes for k in kernels), 'B')} moved"
        yield (f"kernels: {len(kernels)} for {ops} ops, {total}",
               "\n".join(itertools.chain(*(_kernel_lines(i, k) for i, k in enumerate(kernels, 1)))))

    def _summary(self, stage: CompiledStage) -> str:
        times = ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in stage.times.items())
        lines = [f"  compiled in {sum(stage.times.values()) * 1e3:.1f} ms: {times}"
                 + (_FROM_CACHE["load" in stage.times] if stage.from_cache else "")]
        for i, value in stage.specialized.items():
            lines.append(f"  for {stage.source.call.paths[i]} = {value!r} only: "
                         "the code needs its value")
        hidden = len(stage.traced.traced.hidden)
        if hidden:
            lines.append(f"  {hidden} array{'s' * (hidden > 1)} from outside, "
                         "read anew at each call")
        fallbacks = sum(bool(k.fallback) for k in stage.before.kernels)
        lines.append(f"  {self.hits} later call{'s' * (self.hits != 1)} through Python, "
                     f"{'native entry' if self.has_entry else 'no native entry'}, "
                     f"{fallbacks} fallback{'s' * (fallbacks != 1)}")
        return "\n".join(lines)

    def _history(self) -> str:
        if not self.records:
            return "  none yet"
        skipped = len(self.records) - _SHOWN
        lines = [f"  … {skipped} before"] if skipped > 0 else []
        for i, r in list(enumerate(self.records, 1))[-_SHOWN:]:
            lines.append(f"  {i:>2}  {sum(r.seconds.values()) * 1e3:>7.1f} ms  {r.text}")
            lines += [f"{'':18}{'' if why == FIRST else 'because '}{why}" for why in r.reasons]
        return "\n".join(lines)


def explain(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Explanation:
    """What becomes of a function for these arguments: print the result.

    It shows the passes with their times; for each kernel its ops, the user's lines, operations
    and bytes of one run, why its ops were merged and what stopped the next merge; and every
    compilation of the function with the reason for it. Compiles if need be, runs nothing. Without
    arguments, only the list of compilations. A function that is not jitted is jitted for it.

    >>> import numpy as np, weft
    >>> f = weft.jit(lambda x: x + 1, device="reference")
    >>> print(weft.explain(f))
    compilations
      none yet
    >>> weft.explain(f, np.zeros(3)).records[0].reasons
    ('first call',)
    """
    if isinstance(fn, BoundJit):
        return explain(fn.__func__, fn.__self__, *args, **kwargs)
    if not isinstance(fn, Jit):
        if not callable(fn):
            raise UnsupportedError(f"weft.explain got a {type(fn).__name__}",
                                   expected="a function, then its arguments")
        return explain(jit(fn), *args, **kwargs)
    stage, hits, has_entry = None, 0, False
    if args or kwargs:
        executable, hits = fn.compiled_for(*args, **kwargs)
        stage, has_entry = executable.about, executable.is_native
    return Explanation(fn.__name__, stage, fn.history(), hits, has_entry)


def _pass_lines(stage: CompiledStage) -> Iterator[str]:
    for step in stage.before.before.history:
        changed = f"{len(step.before.nodes)} → {len(step.after.nodes)} nodes" if (
            step.changed) else "unchanged"
        yield f"  {step.name:<18} {step.seconds * 1e3:>7.2f} ms  {changed}"


def _kernel_lines(number: int, kernel: KernelInfo) -> Iterator[str]:
    size = f"{_count(kernel.flops, 'FLOP')}, {_count(kernel.nbytes, 'B')}"
    yield f"  {number:>2}  {kernel.name}: {size}"
    yield from _field("inside", [f"{kernel.inside}, {_times(kernel.turns)}"] if kernel.inside
                      else ())
    yield from _field("ops", _wrapped(_grouped(kernel.ops)))
    yield from _field("lines", [_line(o) for o in dict.fromkeys(kernel.origins)])
    yield from _field("merged", kernel.merged)
    yield from _field("stopped", kernel.stopped.split("; ") if kernel.stopped else ())
    yield from _field("fallback", [kernel.fallback] if kernel.fallback else ())


def _times(turns: Dim | None) -> str:
    if turns is None:
        return "as often as it takes (figures are of one turn)"
    return "once" if turns == 1 else f"{turns} times"


def _field(name: str, lines: Sequence[str]) -> Iterator[str]:
    for i, line in enumerate(lines):
        yield f"      {name if i == 0 else '':<8} {line}".rstrip()


def _grouped(ops: Sequence[str]) -> list[str]:
    runs = [(name, len(list(run))) for name, run in itertools.groupby(ops)]
    return [name if count == 1 else f"{count} {name}" for name, count in runs]


def _wrapped(words: Sequence[str], width: int = 80) -> list[str]:
    lines = [""]
    for i, word in enumerate(words):
        word += "," if i < len(words) - 1 else ""
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def _line(origin: Origin) -> str:
    source = origin.source()
    source = source if len(source) <= 72 else source[:71] + "…"
    return f"{os.path.basename(origin.file)}:{origin.line}" + (f"  {source}" if source else "")


def _sum(sizes: Iterable[Dim]) -> Dim:
    return sum(sizes, 0)


def _count(size: Dim, unit: str) -> str:
    """``15104`` → ``15.1 kFLOP``; a symbolic size as it is."""
    if not isinstance(size, int):
        return f"{size} {unit}"
    for factor, prefix in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if size >= factor:
            return f"{size / factor:.3g} {prefix}{unit}"
    return f"{size} {unit}"
