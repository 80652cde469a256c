"""The table on the terminal, and the results file."""

from __future__ import annotations

import datetime
import json
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import machine, peers
from bench.results import Row

FOLDER = Path(__file__).resolve().parent / "results"
SHORT = {
    "torch-compile": "t-compile", "tensorflow": "tf", "tensorflow-xla": "tf-xla",
    "onnxruntime": "onnxrt",
}  # fmt: skip


def shown(number: float | None, unit: str) -> str:
    """A time in ms or a memory in MB, three digits."""
    if number is None:
        return "-"
    value = number * (1e3 if unit == "s" else 1e-6)
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def table(rows: Sequence[Row], names: Sequence[str]) -> str:
    """All rows: each peer's milliseconds, then weft's speed against the best peer and its goal.

    Of memory, it is megabytes, and how many times less weft takes than the leanest peer.
    """
    columns = [n for n in names if any(n in row.cells for row in rows)]
    memory = ", or MB" if any(row.unit == "B" for row in rows) else ""
    head = [f"workload, ms{memory}", *(SHORT.get(n, n) for n in columns),
            "best peer", "limit %", "speed", "goal", "met"]
    lines, groups = [head], [""]
    for row in rows:
        share = row.share(peers.SUBJECT) or (row.share(row.best) if row.best else None)
        speed = row.speed(row.best) if row.best else None
        met = {True: "yes", False: "NO", None: "-"}[row.met()]
        lines.append([
            row.name, *(shown(row.seconds(n), row.unit) for n in columns),
            row.best or "-", f"{100 * share:.0f}" if share else "-",
            f"{speed:.2f}x" if speed else "-", row.goal.text(), met,
        ])  # fmt: skip
        groups.append(row.group)
    return _align(lines, groups)


def _align(lines: Sequence[Sequence[str]], groups: Sequence[str]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text, before = [], ""
    for line, group in zip(lines, groups):
        if group != before:
            text.append(f"-- {group}")
            before = group
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def notes(rows: Sequence[Row]) -> list[str]:
    """Who is left out of which row and why, except where a library lacks the kernel."""
    return [
        f"{row.name}: {name} left out: {cell.left_out}"
        for row in rows for name, cell in row.cells.items()
        if cell.left_out and not cell.left_out.startswith("no ")
    ]


def summary(rows: Sequence[Row]) -> str:
    """How many goals are met."""
    verdicts = [row.met() for row in rows]
    unknown = f", {verdicts.count(None)} not measured" if None in verdicts else ""
    return f"goals met: {verdicts.count(True)} of {len(rows) - verdicts.count(None)}{unknown}"


def document(
    rows: Sequence[Row],
    limits: machine.Limits | None,
    about: Mapping[str, Mapping[str, Any]],
    left_out: Mapping[str, str],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything measured, as plain data that names no host and no path."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {
            "cpu": machine.cpu_name(), "architecture": platform.machine(),
            "cores": machine.cores(), "system": platform.system(),
        },
        "options": dict(options),
        "limits": limits.as_json() if limits else None,
        "peers": {name: {"versions": a["versions"], "threads": a["threads"]}
                  for name, a in about.items()},
        "left_out": dict(left_out),
        "rows": [row.as_json() for row in rows],
    }  # fmt: skip


def write(data: Mapping[str, Any], partial: bool) -> Path:
    """Write ``results/<date>-<cpu>.json``; a partial run gets a name of its own."""
    cpu = re.sub(r"[^a-z0-9]+", "-", data["machine"]["cpu"].lower()).strip("-")
    path = FOLDER / f"{data['date']}-{cpu}{'-partial' if partial else ''}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")
    return path
