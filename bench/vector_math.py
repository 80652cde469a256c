"""ns per element of weft's vector math beside NumPy, one thread, arrays that stay in the L2 cache.

    python bench/vector_math.py [f32|f64] [names…]

Also the time LLVM takes to compile each loop, and the number of instructions written.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "cpu"))

from harness import TARGETS, Compiled

from weft.devices.cpu.math import MATH

SIZE = 16384
RANGES = {"log": (0.1, 10.0), "log2": (0.1, 10.0), "log10": (0.1, 10.0), "asin": (-1.0, 1.0),
          "acos": (-1.0, 1.0), "acosh": (1.0, 10.0), "atanh": (-1.0, 1.0), "pow": (0.1, 10.0)}
NUMPY = {"pow": "power", **{f"a{name}": f"arc{name}" for name in (
    "sin", "cos", "tan", "tan2", "sinh", "cosh", "tanh")}}
BINARY = ("atan2", "pow", "hypot", "logaddexp", "logaddexp2", "fmod", "remainder", "floor_divide",
          "nextafter", "copysign")


def best(call: Callable[[], object], seconds: float = 0.05) -> float:
    """The least time of one call, over `seconds` of calls."""
    least, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - start)
    return least


def host() -> str:
    """The best of the test targets that this machine runs."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512" if "avx512f" in flags else "avx2" if "avx2" in flags else "sse2"


def line(name: str, dtype: str) -> str:
    """One row of the table."""
    ft = {"f32": np.float32, "f64": np.float64}[dtype]
    rng = np.random.default_rng(0)
    count = 2 if name in BINARY else 1
    xs = [rng.uniform(*RANGES.get(name, (-10.0, 10.0)), SIZE).astype(ft) for _ in range(count)]
    out = np.empty(SIZE, ft)
    start = time.perf_counter()
    loop = Compiled(MATH[name], TARGETS[host()], [dtype] * count, dtype)
    compile_ms = 1e3 * (time.perf_counter() - start)
    pointers = [*(x.ctypes.data for x in xs), out.ctypes.data]
    ours = best(lambda: loop.native(SIZE, *pointers)) / SIZE * 1e9
    function = getattr(np, NUMPY.get(name, name), None)
    with np.errstate(all="ignore"):
        theirs = best(lambda: function(*xs, out=out)) / SIZE * 1e9 if function else float("nan")
    size = loop.text.count("\n  %v")
    return f"{name:12} {dtype}  weft {ours:6.2f}  numpy {theirs:6.2f}  " \
           f"instructions {size:4}  compile {compile_ms:6.1f} ms"


def main() -> None:
    """Print the table."""
    args = sys.argv[1:]
    dtypes = [a for a in args if a in ("f32", "f64")] or ["f32", "f64"]
    skip = ("gcd", "lcm", "integer", "frexp", "ldexp")
    names = [a for a in args if a in MATH] or [n for n in MATH if not n.startswith(skip)]
    for dtype in dtypes:
        for name in names:
            print(line(name, dtype), flush=True)


if __name__ == "__main__":
    main()
