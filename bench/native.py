"""Small native kernels for `bench.machine`, generated as LLVM IR and compiled for this very CPU.

Chains of independent FMAs measure the arithmetic peak; a sum over an array and a copy of one, each
repeated inside the native code, measure the bandwidth of the memory level that the array fits.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Callable
from functools import cache

import numpy as np
from llvmlite import binding

ACCUMULATORS = 12  # enough to hide an FMA's latency, few enough for 16 registers
STREAMS = 8  # vectors in flight in the memory kernels
WHOLE_BYTES = 4096  # sizes are multiples of it, so no kernel has a tail
BITS = {"float": 32, "double": 64}
_lock = threading.Lock()  # one engine: a second one's code would go when it is dropped
TYPES = {"float32": "float", "float64": "double"}

FMA = """
declare {vector} @llvm.fma.v{lanes}f{bits}({vector}, {vector}, {vector})
define void @fma_{kind}(i64 %n, ptr %out) {{
entry:
  %x = load {vector}, ptr %out, align {align}
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{steps}
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
{total}
  store {vector} %s{count}, ptr %out, align {align}
  ret void
}}
"""

# A pass over `n` floats, done `passes` times; {phis}, {steps} and {end} say what a pass does.
PASS = """
define void @{name}(ptr %x, ptr %y, i64 %n, i64 %passes) {{
entry:
  br label %again
again:
  %pass = phi i64 [ 0, %entry ], [ %passed, %after ]
  br label %loop
loop:
  %i = phi i64 [ 0, %again ], [ %next, %loop ]
{phis}
{steps}
  %next = add i64 %i, {stride}
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %after
after:
{end}
  %passed = add i64 %pass, 1
  %repeat = icmp slt i64 %passed, %passes
  br i1 %repeat, label %again, label %done
done:
  ret void
}}
"""


def vector_bytes() -> int:
    """Width of the widest vector registers."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") else 16


def fma_rate(dtype: str, seconds: float) -> float:
    """FLOP/s of one thread doing nothing but FMAs."""
    kind, steps = TYPES[dtype], 500_000
    lanes = vector_bytes() * 8 // BITS[kind]
    function = _function(f"fma_{kind}", ctypes.c_int64, ctypes.c_void_p)
    out = np.full(lanes, 0.5, dtype)
    return _best(lambda: function(steps, out.ctypes.data), 2.0 * lanes * ACCUMULATORS * steps,
                 seconds)


def read_rate(size: int, seconds: float) -> float:
    """Byte/s of one thread that reads about ``size`` bytes over and over."""
    size -= size % WHOLE_BYTES
    data = np.ones(size // 4, np.float32)
    return _memory_rate("read", data, data[: vector_bytes() // 4].copy(), 1.0, seconds)


def copy_rate(size: int, seconds: float) -> float:
    """Byte/s, read and written, of one thread that copies: plain stores or C's memmove."""
    size -= size % (2 * WHOLE_BYTES)
    source, target = np.ones(size // 8, np.float32), np.zeros(size // 8, np.float32)
    plain = _memory_rate("copy", source, target, 2.0, seconds / 2)

    def move() -> None:
        ctypes.memmove(target.ctypes.data, source.ctypes.data, source.nbytes)

    return max(plain, _best(move, 2.0 * source.nbytes, seconds / 2))


def _memory_rate(
    name: str, x: np.ndarray, y: np.ndarray, times_moved: float, seconds: float
) -> float:
    function = _function(name, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    passes = max(1, (1 << 25) // x.nbytes)
    work = times_moved * x.nbytes * passes
    return _best(lambda: function(x.ctypes.data, y.ctypes.data, x.size, passes), work, seconds)


def _best(call: Callable[[], object], work: float, seconds: float) -> float:
    """Work per second of the fastest call within ``seconds``."""
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end or best == math.inf:
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return work / best


def _fma_ir(kind: str) -> str:
    bits = BITS[kind]
    lanes = vector_bytes() * 8 // bits
    vector, each = f"<{lanes} x {kind}>", range(ACCUMULATORS)
    fma = f"call {vector} @llvm.fma.v{lanes}f{bits}"
    return FMA.format(
        kind=kind, bits=bits, lanes=lanes, vector=vector, align=bits // 8, count=ACCUMULATORS - 1,
        phis="\n".join(f"  %a{i} = phi {vector} [ %x, %entry ], [ %b{i}, %loop ]" for i in each),
        steps="\n".join(
            f"  %b{i} = {fma}({vector} %a{i}, {vector} %x, {vector} %x)" for i in each
        ),
        total=_total_ir(vector, ACCUMULATORS),
    )  # fmt: skip


def _total_ir(vector: str, count: int) -> str:
    """The sum of %b0 to %b(count-1), as %s(count-1)."""
    lines = [f"  %s1 = fadd {vector} %b0, %b1"]
    lines += [f"  %s{i} = fadd {vector} %s{i - 1}, %b{i}" for i in range(2, count)]
    return "\n".join(lines)


def _read_ir() -> str:
    lanes = vector_bytes() // 4
    vector, each = f"<{lanes} x float>", range(STREAMS)
    loads = (
        f"{_address_ir('x', i, lanes)}\n  %v{i} = load {vector}, ptr %x{i}, align 4\n"
        f"  %b{i} = fadd {vector} %a{i}, %v{i}" for i in each
    )
    zero = "[ zeroinitializer, %again ]"
    return PASS.format(
        name="read", stride=STREAMS * lanes, steps="\n".join(loads),
        phis="\n".join(f"  %a{i} = phi {vector} {zero}, [ %b{i}, %loop ]" for i in each),
        end=f"{_total_ir(vector, STREAMS)}\n"
        f"  store volatile {vector} %s{STREAMS - 1}, ptr %y, align 4",
    )  # fmt: skip


def _copy_ir() -> str:
    lanes = vector_bytes() // 4
    vector = f"<{lanes} x float>"
    moves = (
        f"{_address_ir('x', i, lanes)}\n{_address_ir('y', i, lanes)}\n"
        f"  %v{i} = load volatile {vector}, ptr %x{i}, align 4\n"
        f"  store volatile {vector} %v{i}, ptr %y{i}, align 4" for i in range(STREAMS)
    )
    steps = "\n".join(moves)
    return PASS.format(name="copy", stride=STREAMS * lanes, steps=steps, phis="", end="")


def _address_ir(base: str, i: int, lanes: int) -> str:
    return (f"  %{base}j{i} = add i64 %i, {i * lanes}\n"
            f"  %{base}{i} = getelementptr float, ptr %{base}, i64 %{base}j{i}")


@cache
def _engine() -> binding.ExecutionEngine:
    """All kernels, compiled."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    ir = _fma_ir("float") + _fma_ir("double") + _read_ir() + _copy_ir()
    module = binding.parse_assembly(ir)
    module.verify()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=2
    )
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


def _function(name: str, *types: type) -> Callable[..., object]:
    """A compiled function; ctypes lets go of the interpreter's lock during its calls."""
    with _lock:
        address = _engine().get_function_address(name)
    return ctypes.CFUNCTYPE(None, *types)(address)
