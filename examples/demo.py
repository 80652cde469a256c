"""What weft does, on this machine, in a few seconds: `make demo`, or

    python examples/demo.py            # --small: sizes for a test, --plain: no colours

Three pieces of plain NumPy code are compiled. For each it says what was fused into which kernels,
how long compiling took, how far the answers are from the right ones, and the time of a call beside
NumPy's. It ends with status 1 if an answer is wrong.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

os.environ.setdefault("WEFT_CACHE", "0")        # compile for real, whatever earlier runs have kept

import black_scholes
import numpy as np
import transformer_block

import weft

COLOURS = {"bold": "1", "dim": "2", "weft": "36", "numpy": "33", "wrong": "31"}
ROUNDS, ROUND_SECONDS = 7, 0.1     # --small: two rounds


class Page:
    """Writes lines to the terminal, in colours where it shows them."""

    def __init__(self, plain: bool) -> None:
        self.plain = plain
        self.width = min(100, shutil.get_terminal_size((100, 24)).columns)

    def paint(self, text: str, how: str) -> str:
        """The text in a colour or weight."""
        return text if self.plain else f"\033[{COLOURS[how]}m{text}\033[0m"

    def title(self, text: str, more: str) -> None:
        """A heading with a line behind it."""
        rest = "─" * max(3, self.width - len(text) - len(more) - 6)
        print(f"\n── {self.paint(text, 'bold')}  {self.paint(more + ' ' + rest, 'dim')}")

    def item(self, name: str, lines: Iterable[str]) -> None:
        """A name on the left and lines beside it."""
        for line in lines:
            if "\033" not in line and len(line) > self.width - 14:
                line = line[:self.width - 15] + "…"
            print(f"   {self.paint(f'{name:<10}', 'dim')} {line}")
            name = ""

    def bars(self, times: dict[str, float]) -> list[str]:
        """Times as bars, the longest first."""
        longest = max(times.values())
        room = self.width - 46
        return [f"{name:<6} {seconds_text(s):>9}  "
                + self.paint("█" * max(1, round(room * s / longest)), name.lower())
                + (f" {longest / s:.1f} times as fast" if s < longest else "")
                for name, s in sorted(times.items(), key=lambda item: -item[1])]


def seconds_text(seconds: float) -> str:
    """A time with a fitting unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def side_by_side(functions: dict[str, Callable[..., Any]], arguments: tuple[Any, ...]
                 ) -> dict[str, float]:
    """Seconds of a call of each function: the median of rounds that take turns."""
    rounds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(2 if "--small" in sys.argv else ROUNDS):
        for name, function in functions.items():
            count, start = 0, time.perf_counter()
            while (taken := time.perf_counter() - start) < ROUND_SECONDS or not count:
                function(*arguments)
                count += 1
            rounds[name].append(taken / count)
    return {name: statistics.median(times) for name, times in rounds.items()}


def largest_error(results: Any, right: Any) -> float:
    """The largest difference from the right answers, relative to the largest of these."""
    results, right = (v if isinstance(v, tuple) else (v,) for v in (results, right))
    return max(float(np.abs(r - w).max() / np.abs(w).max()) for r, w in zip(results, right))


def kernel_lines(kernels: Any) -> list[str]:
    """Each kernel with the ops it holds and the lines of the user's code they come from."""
    out = []
    for number, kernel in enumerate(kernels, 1):
        ops = [op for op in kernel.ops if op not in ("broadcast_in_dim", "reshape", "transpose")]
        runs = [(op, len(list(same))) for op, same in itertools.groupby(ops)]
        names = [f"{count} {op}" if count > 1 else op for op, count in runs]
        shown = ", ".join(names[:8]) + (" and more" if len(names) > 8 else "")
        lines = sorted({o.line for o in kernel.origins})
        where = f"lines {lines[0]}-{lines[-1]}" if len(lines) > 1 else f"line {lines[0]}"
        out.append(f"kernel {number}: {shown}  ({where})")
    return out


def show(page: Page, title: str, function: Callable[..., Any], arguments: tuple[Any, ...], *,
         graph: bool = False) -> bool:
    """Compile one function and report on it; whether its answers are right."""
    page.title(title, f"{arguments[0].dtype} {' x '.join(map(str, arguments[0].shape))}")
    compiled = weft.jit(function)
    start = time.perf_counter()
    mine = compiled(*arguments)
    first = time.perf_counter() - start
    stage = weft.explain(compiled, *arguments).stage
    assert stage is not None
    if graph:
        page.item("graph", stage.before.before.graph.text(origins=False).splitlines())
    traced = [n for n in stage.traced.graph.nodes if n.opname != "constant"]
    kernels = stage.before.kernels
    page.item("fused", [f"{len(traced)} traced ops → {sum(len(k.ops) for k in kernels)} after the "
                        f"passes → {len(kernels)} kernel{'s' * (len(kernels) > 1)}",
                        *kernel_lines(kernels)])
    times = ", ".join(f"{name} {seconds_text(s)}" for name, s in stage.times.items())
    page.item("first call", [f"{seconds_text(first)} ({times})"])
    right = function(*(a.astype(np.float64) for a in arguments))
    errors = [largest_error(r, right) for r in (mine, function(*arguments))]
    good = errors[0] <= 4 * errors[1] + 1e-6
    page.item("error", [f"weft {errors[0]:.1e}, NumPy {errors[1]:.1e}  (against float64, relative "
                        "to the largest value)" + ("" if good else page.paint("  wrong", "wrong"))])
    page.item("a call", page.bars(side_by_side({"NumPy": function, "weft": compiled}, arguments)))
    return good


def small_call(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Hardly any work: what is left is the cost of a call."""
    return x * y + y


def main() -> int:
    """Run the demonstration; the exit status."""
    parser = argparse.ArgumentParser(description="what weft does, beside NumPy")
    parser.add_argument("--small", action="store_true", help="small arrays")
    parser.add_argument("--plain", action="store_true", help="no colours")
    options = parser.parse_args()
    page = Page(options.plain or not sys.stdout.isatty() or "NO_COLOR" in os.environ)
    start = time.perf_counter()
    weft.jit(small_call)(np.zeros(1), np.zeros(1))
    loaded = seconds_text(time.perf_counter() - start)
    print(f"weft {weft.__version__} beside NumPy {np.__version__}, with {weft.get_num_threads()} "
          f"threads. The compiler was loaded in {loaded}.")
    if options.small:
        block, options_data = transformer_block.inputs(8, 16), black_scholes.inputs(1000)
    else:
        block, options_data = transformer_block.inputs(), black_scholes.inputs()
    four = tuple(np.arange(4, dtype=np.float32) + i for i in range(2))
    good = [show(page, "A transformer's feed-forward block", transformer_block.block, block,
                 graph=True),
            show(page, "Black-Scholes option prices", black_scholes.prices, options_data),
            show(page, "The cost of a call: x * y + y", small_call, four)]
    print("\nMore: weft.explain(f, ...) in code, python -m weft --help, python -m bench --list")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
