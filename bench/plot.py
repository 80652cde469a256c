"""The picture: weft's speed against the best peer, its goal, and everyone else, per workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import peers

COLOURS = {
    "numpy": "#4d77cf", "jax": "#9c27b0", "torch": "#ee4c2c", "torch-compile": "#8c2d19",
    "tensorflow": "#ff9800", "tensorflow-xla": "#b26a00", "numba": "#00a3b0",
    "onnxruntime": "#7f7f7f", "cupy": "#76b900",
}  # fmt: skip
GOOD, SHORT_OF, NEUTRAL = "#5aa469", "#e0a458", "#cccccc"


def draw(data: Mapping[str, Any], path: Path) -> list[Path]:
    """Write ``path`` as SVG and PNG; nothing is written when matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "weft"
    from matplotlib import pyplot

    rows = [row for row in data["rows"] if row["best_peer"]]
    if not rows:
        return []
    figure, axes = pyplot.subplots(figsize=(10, 1.6 + 0.27 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        _bar(axes, place, row)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("speed, best peer = 1 (to the right is faster)")
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(_title(data), fontsize=10)
    _legend(figure, axes, rows)
    written = [path.with_suffix(".svg"), path.with_suffix(".png")]
    figure.savefig(written[0], metadata={"Date": None})
    figure.savefig(written[1], dpi=110)
    pyplot.close(figure)
    return written


def _title(data: Mapping[str, Any]) -> str:
    machine = data["machine"]
    cores = f", {machine['cores']} cores" if "cores" in machine else ""
    return f"{machine['cpu']}{cores}, {data['date']}"


def _bar(axes: Any, place: int, row: Mapping[str, Any]) -> None:
    """One workload: a bar for weft, a dot for each peer."""
    cells = row["peers"]
    best = cells[row["best_peer"]]["median"]
    speed = row["weft_speed_vs_best"]
    if speed:
        colour = {True: GOOD, False: SHORT_OF, None: NEUTRAL}[row["goal_met"]]
        axes.barh(place, speed - 1, left=1, height=0.7, color=colour, zorder=2)
    if row["goal_speed_vs_best"]:
        axes.plot(row["goal_speed_vs_best"], place, "k|", markersize=11, zorder=4)
    for name, cell in cells.items():
        if name != peers.SUBJECT and cell["median"]:
            axes.plot(best / cell["median"], place, "o", markersize=4, zorder=3,
                      color=COLOURS.get(name, NEUTRAL))


def _legend(figure: Any, axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    seen = [n for n in COLOURS if any(row["peers"].get(n, {}).get("median") for row in rows)]
    handles: list[Any] = [
        Line2D([], [], marker="o", linestyle="", color=COLOURS[name], label=name) for name in seen
    ]
    handles += [Line2D([], [], marker="|", linestyle="", color="black", label="goal")]
    if any(row["weft_speed_vs_best"] for row in rows):
        handles += [Patch(color=GOOD, label="weft, goal met"),
                    Patch(color=SHORT_OF, label="weft, goal missed")]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8)
