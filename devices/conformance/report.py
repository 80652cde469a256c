"""What came of the checks, as text."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from weft.devices.conformance.jobs import Outcome, Status

__all__ = ["report"]

_SHOWN = 40         # failures shown whole
_STATUSES: tuple[Status, ...] = ("passed", "failed", "skipped")


def report(title: str, outcomes: Sequence[Outcome], verbose: bool = False) -> str:
    """A table by group, the reasons for skipping, and every failure.

    `verbose` lists, besides, what became of each op (or other check) in each element type.

    >>> print(report("mine", [Outcome("ops", "add f32-0", "f32", "passed"),
    ...                       Outcome("ops", "add f64-0", "f64", "skipped", "mine has no f64")]))
    conformance of mine
                passed  failed  skipped
      ops            1       0        1
      all            1       0        1
    skipped
      1  ops: mine has no f64
    """
    lines = [f"conformance of {title}", *_table(outcomes)]
    if verbose:
        lines += _each(outcomes)
    return "\n".join([*lines, *_skipped(outcomes), *_failed(outcomes)])


def _table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "            passed  failed  skipped"
    for group in (*dict.fromkeys(o.group for o in outcomes), "all"):
        count = Counter(o.status for o in outcomes if group in ("all", o.group))
        yield f"  {group:8}" + "".join(f"{count[s]:{w}}" for s, w in zip(_STATUSES, (8, 8, 9)))


def _each(outcomes: Sequence[Outcome]) -> Iterator[str]:
    rows: dict[tuple[str, str], dict[str, Counter[str]]] = {}
    for o in outcomes:
        row = rows.setdefault((o.group, o.name.partition(" ")[0]), {})
        row.setdefault(o.dtype or "-", Counter())[o.status] += 1
    yield "each (x failed, - skipped)"
    for (group, name), dtypes in rows.items():
        yield f"  {group} {name}: " + " ".join(f"{d}{_mark(c)}" for d, c in dtypes.items())


def _mark(count: Counter[str]) -> str:
    return ":x" if count["failed"] else "" if count["passed"] else ":-"


def _skipped(outcomes: Iterable[Outcome]) -> Iterator[str]:
    reasons: dict[tuple[str, str], Counter[str]] = {}
    for o in outcomes:
        if o.status == "skipped":
            lack = re.fullmatch(r"(device .* has no (?:op )?)(\w+)", o.text)
            text, what = lack.groups() if lack else (o.text, "")
            reasons.setdefault((o.group, text), Counter())[what] += 1
    if reasons:
        yield "skipped"
        width = max(len(str(c.total())) for c in reasons.values())
        for (group, text), names in reasons.items():
            yield from textwrap.wrap(f"{names.total():{width}}  {group}: {text}{', '.join(names)}",
                                     96, initial_indent="  ", subsequent_indent=" " * (width + 6))


def _failed(outcomes: Iterable[Outcome]) -> Iterator[str]:
    failures = [o for o in outcomes if o.status == "failed"]
    if failures:
        yield "failed"
        for o in failures[:_SHOWN]:
            yield f"  {o.group} {o.name} {o.dtype}".rstrip()
            yield from (f"      {line}" for line in o.text.splitlines())
    if len(failures) > _SHOWN:
        yield f"  … and {len(failures) - _SHOWN} more: choose with --op, --dtype or --group"
