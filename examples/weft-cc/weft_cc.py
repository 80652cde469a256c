"""A weft device that prints kernels as C and compiles them with the system's compiler."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weft.compiler.digest import content_key
from weft.compiler.ir import Graph
from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Axis, Index, Quotient, Smaller, Value, linearize
from weft.compiler.kernel.ir import Buffer, Kernel, Program, Reduce, Stage
from weft.compiler.kernel.program import build_program
from weft.compiler.kernel.pullback import POINTWISE, UPDATES
from weft.compiler.ops.registry import names_of_kind
from weft.compiler.target import Target
from weft.devices.host_memory import HOST
from weft.devices.protocol import Cache, Device, DeviceError, KernelInfo

# ---- what there is in C

TYPES = {"bool": "bool", "f32": "float", "f64": "double"} | {
    f"{short}{n}": f"{long}{n}_t" for short, long in (("i", "int"), ("u", "uint"))
    for n in (8, 16, 32, 64)}

# Ops as expressions of their operands {0}, {1}, {2}; {bits} is the width of the result.
OPS = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "neg": "-{0}",
    "abs": "{0} < 0 ? -{0} : {0}", "sign": "{0} != {0} ? {0} : ({0} > 0) - ({0} < 0)",
    "maximum": "{0} >= {1} || {0} != {0} ? {0} : {1}",
    "minimum": "{0} <= {1} || {0} != {0} ? {0} : {1}",
    "fmax": "{0} >= {1} || {1} != {1} ? {0} : {1}", "fmin": "{0} <= {1} || {1} != {1} ? {0} : {1}",
    "eq": "{0} == {1}", "ne": "{0} != {1}", "lt": "{0} < {1}", "le": "{0} <= {1}",
    "gt": "{0} > {1}", "ge": "{0} >= {1}", "select": "{0} ? {1} : {2}", "convert": "{0}",
    "and": "{0} & {1}", "or": "{0} | {1}", "xor": "{0} ^ {1}", "not": "~{0}",
    "shift_left": "(uint64_t){1} < {bits} ? {0} << {1} : 0",
    "shift_right": "(uint64_t){1} < {bits} ? {0} >> {1} : {0} < 0 ? -1 : 0",
    "is_nan": "{0} != {0}", "is_inf": "isinf((double){0})", "is_finite": "isfinite((double){0})",
    "signbit": "signbit((double){0}) != 0", "stop_gradient": "{0}", "optimization_barrier": "{0}",
}
for name in ("floor", "ceil", "trunc", "rint", "sqrt", "cbrt", "exp", "exp2", "expm1", "log",
             "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
             "tanh", "asinh", "acosh", "atanh", "erf"):
    OPS[name] = f"{name}({{0}})"                # of doubles, which is good enough for floats too
for name in ("atan2", "hypot", "copysign"):
    OPS[name] = f"{name}({{0}}, {{1}})"
MOD = "({0} % {1} != 0 && ({0} % {1} < 0) != ({1} < 0) ? {0} % {1} + {1} : {0} % {1})"
OPS["remainder"] = f"{{1}} == 0 || ({{1}} < 0 && {{1}} == -1) ? 0 : {MOD}"
FMOD = "(fmod({0}, {1}) < 0) != ({1} < 0) ? fmod({0}, {1}) + {1} : fmod({0}, {1})"
SPECIAL = {("abs", "float"): "fabs({0})", ("not", "bool"): "!{0}",      # for one kind of type
           ("remainder", "float"): f"fmod({{0}}, {{1}}) == 0 ? copysign(0, {{1}}) : {FMOD}"}
COMBINE = {"sum": "add", "prod": "mul", "and": "and", "or": "or", "max": "maximum",
           "min": "minimum"}
HEAD = """#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
static int64_t quot(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static int64_t rest(int64_t a, int64_t b) { return a % b + (a % b < 0 ? b : 0); }
static int64_t less(int64_t a, int64_t b) { return a < b ? a : b; }
"""


def literal(value: Any) -> str:
    """A number of NumPy's in C, to the bit."""
    if value.dtype.kind != "f":
        return f"{int(value) & 2**64 - 1}ULL"
    if np.isfinite(value):
        return f"({float(value).hex()})"
    return "NAN" if np.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"


def neutral(op: str, dtype: Any) -> str:
    """What leaves a reduction as it is."""
    if op not in ("max", "min"):
        return "1" if op in ("prod", "and") else "0"
    if dtype.is_inexact:
        return "-INFINITY" if op == "max" else "INFINITY"
    if dtype.kind == "bool":
        return "0" if op == "max" else "1"
    info = np.iinfo(dtype.numpy)
    return literal(dtype.numpy.type(info.min if op == "max" else info.max))


# ---- a kernel


class Printer:
    """Writes a kernel as a C function of its buffers that gives the number of a failed check."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.types, self.checks = kernel.types, 0
        self.lines = [f"int {name}(void **buffers, int64_t *bad) {{ int status = 0;"]
        for i, (buffer, t) in enumerate(kernel.buffers):
            self.lines.append(f"{TYPES[t.dtype.name]} *{buffer} = buffers[{i}];")
        for buffer, t in kernel.scratch:
            self.lines.append(f"{TYPES[t.dtype.name]} *{buffer} = malloc({t.nbytes} + 1);")
        self.loops(kernel.axes)
        for stage in kernel.stages:
            self.stage(stage)
        self.lines += ["}" * len(kernel.axes), "end:"]
        self.lines += [f"free({buffer});" for buffer, _ in kernel.scratch]
        self.text = "\n".join([*self.lines, "return status; }", ""])

    def loops(self, axes: Sequence[Axis]) -> None:
        for a in axes:
            end = self.index(a.extent) if isinstance(a.extent, Index) else str(a.extent)
            self.lines.append(f"for (int64_t {a.name} = 0; {a.name} < {end}; {a.name}++) {{")

    def stage(self, stage: Stage) -> None:
        for r in stage.reduces:
            first, number = neutral(r.op, r.dtype), r.number
            self.lines.append(f"{TYPES[r.dtype.name]} acc{number} = {first};")
            if r.op in ("argmax", "argmin"):
                self.lines.append(f"{TYPES[r.value.dtype.name]} best{number} = 0;")
        self.lines.append("{ int64_t turn = -1;")
        self.names: dict[Expr, str] = {}
        self.loops(stage.axes)
        self.lines.append("turn++;")
        self.evaluate(*(c.value for c in stage.checks))
        for c in stage.checks:
            self.checks += 1
            v = self.names[c.value]
            wrong = f"{v} < 0" if c.kind == "exponent" else f"{v} < -{c.size} || {v} >= {c.size}"
            self.lines.append(f"if ({wrong}) {{ *bad = {v}; status = {self.checks}; goto end; }}")
        self.evaluate(*stage.roots)
        self.lines += [self.reduce(r, self.names[r.value]) for r in stage.reduces]
        for s in stage.stores:
            place, value = self.element(s.buffer, s.index), self.names[s.value]
            if s.combine:
                value = operation(s.combine, s.value, [place, value])
            guard = f"if ({self.names[s.guard]}) " if s.guard is not None else ""
            self.lines.append(f"{guard}{place} = {value};")
        self.lines.append("}" * (1 + len(stage.axes)))

    def evaluate(self, *roots: Expr) -> None:
        """A variable for each value that these need."""
        for e in walk(*roots):
            if e not in self.names:
                text, self.names[e] = self.value(e), f"t{len(self.names)}"
                self.lines.append(f"{TYPES[e.dtype.name]} {self.names[e]} = {text};")

    def value(self, e: Expr) -> str:
        if e.kind == "load":
            place = self.element(e.what, e.index)
            return f"{self.names[e.args[0]]} ? {place} : 0" if e.args else place
        if e.kind == "apply":
            return operation(e.what, e, [self.names[a] for a in e.args])
        return literal(e.what) if e.kind == "const" else f"acc{e.what}" if e.kind == "acc" else (
            self.index(e.index[0]))

    def reduce(self, r: Reduce, value: str) -> str:
        acc, best = f"acc{r.number}", f"best{r.number}"
        if r.op in COMBINE:
            return f"{acc} = {operation(COMBINE[r.op], r.value, [acc, value])};"
        sign = ">" if r.op == "argmax" else "<"
        better = f"{value} {sign} {best} || ({value} != {value} && {best} == {best})"
        return f"if (!turn || {better}) {{ {best} = {value}; {acc} = turn; }}"

    def element(self, buffer: str, index: tuple[Index, ...]) -> str:
        return f"{buffer}[{self.index(linearize(index, self.types[buffer].shape))}]"

    def index(self, index: Index) -> str:
        terms = [f"{c} * {self.atom(a)}" for a, c in index.terms]
        return f"({' + '.join([*terms, str(index.const)])})"

    def atom(self, atom: Any) -> str:
        if isinstance(atom, Axis):
            return atom.name
        if isinstance(atom, Value):
            return self.names[atom.expr]
        if isinstance(atom, Smaller):
            return f"less({self.index(atom.a)}, {self.index(atom.b)})"
        name = "quot" if isinstance(atom, Quotient) else "rest"
        return f"{name}({self.index(atom.of)}, {atom.by})"


def operation(op: str, like: Expr, operands: Sequence[str]) -> str:
    """An op on values of C; `like` has the type that decides between two ways to write it."""
    of = like.args[0].dtype if like.args else like.dtype
    kind = "float" if of.is_inexact else of.kind
    return SPECIAL.get((op, kind), OPS[op]).format(*operands, bits=8 * of.itemsize)


# ---- the device


def make(ordinal: int = 0) -> CcDevice:
    """The device; a `DeviceError` where there is no C compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise DeviceError("device 'cc' cannot be used here: there is no C compiler",
                          repair="install one, or say where it is: CC=/usr/bin/gcc")
    return CcDevice(compiler)


class CcDevice(Device):
    """Kernels as C, run one after another on NumPy's arrays."""

    name, memory, symbolic_sizes = "cc", HOST, False

    def __init__(self, compiler: str) -> None:
        self.compiler = compiler

    def describe(self) -> str:
        return self.compiler

    def target(self) -> Target:
        return Target(device="cc")

    def supported(self) -> frozenset[str]:
        kinds = names_of_kind("reduction", "contraction", "structure")
        return frozenset({*OPS, *POINTWISE, *UPDATES, *kinds})

    def dtypes(self) -> frozenset[str]:
        return frozenset(TYPES)

    def lower(self, graph: Graph, target: Target, donated: Sequence[int] = ()) -> CcLowered:
        return CcLowered(build_program(graph, target), self.compiler)


class CcLowered:
    """A program of kernels, and its C."""

    kinds = ("kernels", "c")

    def __init__(self, program: Program, compiler: str) -> None:
        self.program, self.compiler = program, compiler
        self.functions = {s.kernel.key: f"k{i}" for i, s in enumerate(program.steps)}
        printed = {s.kernel.key: s.kernel for s in program.steps}
        self.source = HEAD + "".join(Printer(k, self.functions[key]).text
                                     for key, k in printed.items())

    @property
    def kernels(self) -> tuple[KernelInfo, ...]:
        return tuple(KernelInfo(s.name, s.ops, s.origins, int(s.flops), int(s.nbytes))
                     for s in self.program.steps)

    def text(self, kind: str) -> str:
        return self.source if kind == "c" else self.program.text()

    def compile(self, cache: Cache | None = None) -> CcCompiled:
        key = content_key("cc", self.compiler, self.source)
        code = cache.get(key) if cache is not None else None
        if code is None:
            code = self.built()
            if cache is not None:
                cache.put(key, code)
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            file.write(code)
            file.flush()
            library = ctypes.CDLL(file.name)
        return CcCompiled(self.program, library, self.functions)

    def built(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "code.so")
            command = [self.compiler, "-O2", "-fwrapv", "-ffp-contract=off", "-w", "-shared",
                       "-fPIC", "-xc", "-", "-o", out, "-lm"]
            subprocess.run(command, input=self.source.encode(), check=True)
            with open(out, "rb") as file:
                return file.read()


class CcCompiled:
    """Loaded code, and the program that says how to run it."""

    def __init__(self, program: Program, library: ctypes.CDLL, functions: Mapping[str, str]
                 ) -> None:
        self.program = program
        self.steps = [(library[functions[s.kernel.key]], s) for s in program.steps]

    def run(self, arrays: Sequence[Any], /) -> list[Any]:
        arena = np.empty(int(self.program.arena) + 1, np.uint8)
        memory = {b.name: self.place(b, arrays, arena) for b in self.program.buffers}
        bad = ctypes.c_int64()
        for function, step in self.steps:
            pointers = (ctypes.c_void_p * len(step.buffers))(*(
                memory[b].ctypes.data for b in step.buffers))
            failed = function(pointers, ctypes.byref(bad))
            if failed:
                check = [c for s in step.kernel.stages for c in s.checks][failed - 1]
                raise check.error(bad.value, check.size)
        own = {b.name for b in self.program.buffers if b.kind == "result"}
        return [memory[r] if r in own else memory[r].copy() for r in self.program.results]

    def place(self, b: Buffer, arrays: Sequence[Any], arena: Any) -> Any:
        if b.kind == "param":
            return arrays[b.index]
        if b.kind == "constant":
            return np.ascontiguousarray(b.value)
        if b.kind == "temp":
            return arena[b.offset:]
        return np.empty(b.type.shape, b.type.dtype.numpy)

    def entry(self, spec: Any, /, cache: Cache | None = None) -> None:
        """Nothing: calls go through Python."""
