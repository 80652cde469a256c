"""What the machine is, and what it can do at best: FMA peak and memory bandwidth.

A workload cannot run faster than its FLOPs at the peak or its bytes at the bandwidth, whichever
takes longer (the roofline); the table prints what share of that limit a time reaches.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import native
from bench.workloads import Workload

BANDWIDTH_BYTES = (1 << 19, 1 << 23, 1 << 28)  # a core's cache, the shared cache, memory
WRITES_COUNT = 0.2  # with more of its bytes written than this, a workload is held to copying


@dataclass(frozen=True)
class Limits:
    """FLOP/s by dtype, and byte/s, each ``{"one": with one thread, "all": with all cores}``.

    ``read`` and ``copy`` (bytes read plus bytes written) map a working set's size in bytes, as a
    string for JSON's sake, to the bandwidth there.
    """

    flops: dict[str, dict[str, float]]
    read: dict[str, dict[str, float]]
    copy: dict[str, dict[str, float]]

    def seconds(self, workload: Workload) -> float:
        """The least time that this machine needs for ``workload``, with all its cores."""
        moved = workload.bytes_read + workload.bytes_written
        table = self.copy if workload.bytes_written > WRITES_COUNT * moved else self.read
        level = next((size for size in table if int(size) >= moved), list(table)[-1])
        arithmetic = workload.flops / max(self.flops[workload.dtype].values())
        return max(arithmetic, moved / max(table[level].values()))

    def as_json(self) -> dict[str, dict[str, dict[str, float]]]:
        """Plain data for the results file."""
        return asdict(self)

    def text(self) -> str:
        """The limits in a line or two."""
        def rates(values: dict[str, float]) -> str:
            return f"{values['one'] / 1e9:.0f} / {values['all'] / 1e9:.0f}"

        flops = ", ".join(f"{dtype} {rates(v)} GFLOP/s" for dtype, v in self.flops.items())
        lines = [f"FMA peak, one / all threads: {flops}"]
        for name, table in (("read", self.read), ("copy", self.copy)):
            parts = ", ".join(f"{int(s) / 2**20:g} MiB {rates(v)}" for s, v in table.items())
            lines.append(f"{name} GB/s, one / all threads: {parts}")
        return "\n".join(lines)


def cpu_name() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """How many processes wanted to run in the last minute, where the system tells."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def measure(seconds: float = 0.2) -> Limits:
    """Measure this machine; ``seconds`` is spent on each number."""
    flops = {
        dtype: _rates(lambda n, d=dtype: native.fma_rate(d, seconds)) for dtype in native.TYPES
    }
    read, copy = {}, {}
    for size in BANDWIDTH_BYTES:
        read[str(size)] = _rates(lambda n, s=size: native.read_rate(s // n, seconds))
        copy[str(size)] = _rates(lambda n, s=size: native.copy_rate(s // n, seconds))
    return Limits(flops, read, copy)


def _rates(rate: Callable[[int], float]) -> dict[str, float]:
    """``rate(threads)`` of one thread alone, and summed over one thread a core."""
    count = cores()
    with ThreadPoolExecutor(count) as pool:
        together = sum(pool.map(rate, [count] * count))
    return {"one": rate(1), "all": together}
