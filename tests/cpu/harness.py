"""Compiles a function over `Val`s into a native loop over arrays, for several machines."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
import numpy as np
import pytest

from weft.compiler.target import Target
from weft.devices.cpu.emit import BITS, Emitter, Val

__all__ = ["AARCH64", "EVERY", "RUNS", "TARGETS", "Compiled", "assembly", "compile_loop",
           "module_text"]

TARGETS = {
    "avx512": Target(cpu="x86-64-v4", vector_bytes=64, has_fma=True, masked=True),
    "avx2": Target(cpu="x86-64-v3", vector_bytes=32, has_fma=True),
    "sse2": Target(cpu="x86-64", vector_bytes=16, has_fma=False),
    "scalar": Target(cpu="x86-64-v3", vector_bytes=1, has_fma=True),
}
_NEEDS = {"avx512": ("avx512f", "avx512vl", "avx512dq", "avx512bw", "avx512cd"),
          "avx2": ("avx2", "fma"), "sse2": ("sse2",), "scalar": ("avx2", "fma")}


def _missing(name: str) -> list[str]:
    features = llvm.get_host_cpu_features()
    return [f for f in _NEEDS[name] if not features.get(f)]


RUNS = [name for name in TARGETS if not _missing(name)]
"""The targets whose code this processor can run."""
EVERY = [pytest.param(name, marks=[] if name in RUNS else pytest.mark.skip(
    reason=f"this processor lacks {', '.join(_missing(name))}")) for name in TARGETS]
"""All of them, as parameters of tests; those that cannot run are skipped."""
AARCH64 = Target(triple="aarch64-unknown-linux-gnu", cpu="generic", vector_bytes=16, has_fma=True)
_NUMPY = {"bool": "bool", "f16": "float16", "f32": "float32", "f64": "float64",
          **{f"{k}{n}": f"{'u' * (k == 'u')}int{n}" for k in "iu" for n in (8, 16, 32, 64)}}

Function = Callable[..., Val]


def module_text(function: Function, target: Target, inputs: Sequence[str], result: str,
                lanes: int | None = None) -> str:
    """An LLVM module with `run(n, in…, out)`, which applies the function to n elements."""
    e = Emitter(target)
    lanes = lanes or target.lanes(max(BITS[d] for d in [*inputs, result]) // 8)
    n = e.arg("n", "i64")
    pointers = [e.arg(f"p{k}", "ptr") for k in range(len(inputs) + 1)]
    with e.loop(0, n, lanes) as loop:
        xs = [e.load(e.gep(p, loop.i, d), d, lanes) for p, d in zip(pointers, inputs)]
        e.store(e.convert(function(e, *xs), result), e.gep(pointers[-1], loop.i, result))
    e.write("ret void")
    args = ", ".join(f"ptr noalias %p{k}" for k in range(len(pointers)))
    return "\n".join([*sorted(e.declares), *getattr(e, "helpers", {}).values(),
                      f"define void @run(i64 %n, {args}) {{", "entry:", e.body(), "}"])


def machine(target: Target) -> llvm.TargetMachine:
    """The code generator of a target."""
    if target.triple:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    else:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    made = llvm.Target.from_triple(target.triple or llvm.get_process_triple())
    return made.create_target_machine(cpu=target.cpu, features=target.features, opt=2)


def assembly(function: Function, target: Target, inputs: Sequence[str], result: str) -> str:
    """The assembly text of the loop."""
    module = llvm.parse_assembly(module_text(function, target, inputs, result))
    module.verify()
    return str(machine(target).emit_assembly(module))


class Compiled:
    """A loop over arrays as native code; calling it returns the new array."""

    def __init__(self, function: Function, target: Target, inputs: Sequence[str], result: str,
                 lanes: int | None = None) -> None:
        self.text = module_text(function, target, inputs, result, lanes)
        module = llvm.parse_assembly(self.text)
        module.verify()
        self.engine = llvm.create_mcjit_compiler(module, machine(target))
        self.engine.finalize_object()
        self.inputs = [np.dtype(_NUMPY[d]) for d in inputs]
        self.result = np.dtype(_NUMPY[result])
        kinds = [ctypes.c_int64] + [ctypes.c_void_p] * (len(inputs) + 1)
        self.native = ctypes.CFUNCTYPE(None, *kinds)(self.engine.get_function_address("run"))

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        size = len(arrays[0])
        padded = -(-size // 64) * 64
        xs = [np.concatenate([a, np.ones(padded - size, a.dtype)]).astype(d)
              for a, d in zip(arrays, self.inputs)]
        out = np.empty(padded, self.result)
        self.native(padded, *(x.ctypes.data for x in xs), out.ctypes.data)
        return out[:size]


def compile_loop(function: Function, target: Target, inputs: Sequence[str], result: str,
                 lanes: int | None = None) -> Compiled:
    """See `module_text`."""
    return Compiled(function, target, inputs, result, lanes)
