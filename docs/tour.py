"""A tour: the idea of weft, rebuilt in one file that runs.

    python docs/tour.py

Nothing here imports weft. Each part is a small version of a folder of the real thing, which is
named in its heading. The function to compile is plain NumPy:

    def softmax(x):
        e = np.exp(x - np.max(x))
        return e / np.sum(e)
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np

# ---------------------------------------------------------------- 1. the graph (compiler/ir.py)
#
# A value is an op applied to other values. Values never change, so what a program does is all in
# the arrows between them, and two people (or two passes) can look at it without a race. To keep
# the tour short there is one element type, float64, and a value is either a scalar or a vector of
# the one length n that the arguments have.


@dataclass(frozen=True, eq=False)
class Node:
    """A value: `op` of `inputs`; `payload` is a constant's value or a parameter's name."""

    op: str
    inputs: tuple[Node, ...] = ()
    payload: Any = None

    @property
    def is_vector(self) -> bool:
        """Whether there is a value for each element, or one for all."""
        if self.op in ("param", "const", *REDUCTIONS):
            return self.op == "param"
        return any(i.is_vector for i in self.inputs)


UFUNCS = {np.add: "add", np.subtract: "sub", np.multiply: "mul", np.divide: "div",
          np.exp: "exp", np.sqrt: "sqrt", np.maximum: "max", np.power: "pow"}
REDUCTIONS = ("reduce_sum", "reduce_max")


# ---------------------------------------------------------------- 2. tracing (frontend/tracer.py)
#
# The function is run once, with stand-ins for its arguments. NumPy offers two doors for them:
# a ufunc that meets an object with `__array_ufunc__` calls that instead of computing, and other
# functions do the same with `__array_function__`. The operators come from a mixin that calls the
# ufuncs. So `np.exp(x - np.max(x))` builds nodes, and user code needs no other `np`.


class Tracer(np.lib.mixins.NDArrayOperatorsMixin):
    """Stands for an array while a function is traced; everything done to it becomes a node."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs or ufunc not in UFUNCS:
            raise TypeError(f"the tour does not know {ufunc.__name__}.{method}")
        return Tracer(Node(UFUNCS[ufunc], tuple(map(lift, args))))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in (np.sum, np.max) or kwargs:
            raise TypeError(f"the tour does not know {function.__name__}")
        return Tracer(Node(f"reduce_{function.__name__}", (lift(args[0]),)))


def lift(value: Any) -> Node:
    """A node for what stands in an expression: a traced value or a number."""
    return value.node if isinstance(value, Tracer) else Node("const", (), float(value))


def trace(fn: Callable[..., Any], names: list[str]) -> Node:
    """The graph of a function, as the node of its result."""
    return lift(fn(*[Tracer(Node("param", (), name)) for name in names]))


# ---------------------------------------------------------------- 3. text (compiler/text.py)
#
# Whatever cannot be printed cannot be discussed. One op a line, in the order of computation.


def order(root: Node) -> list[Node]:
    """All nodes below `root`, each once, operands first."""
    seen: dict[Node, None] = {}

    def visit(node: Node) -> None:
        for i in node.inputs:
            visit(i)
        seen.setdefault(node)
    visit(root)
    return list(seen)


def text(root: Node) -> str:
    """The graph as text."""
    names: dict[Node, str] = {}
    lines = []
    for node in order(root):
        if node.op in ("param", "const"):
            names[node] = f"%{node.payload}" if node.op == "param" else repr(node.payload)
            continue
        names[node] = f"%{len(lines)}"
        operands = ", ".join(names[i] for i in node.inputs)
        lines.append(f"  {names[node]} = {node.op} {operands} : f64{'[n]' * node.is_vector}")
    return "\n".join([*lines, f"  return {names[root]}"])


# ---------------------------------------------------------------- 4. rewriting (compiler/rewrite)
#
# A pass takes a graph and gives a graph. This one is made of a rule that sees one node, whose
# operands are rewritten already, and answers with what should stand there instead. The rule must
# hold for every value, NaN and -0.0 too: x + 0 -> x would not, since -0.0 + 0.0 is 0.0.


def small_power(node: Node) -> Node:
    """pow(x, 2) -> mul(x, x), which is exact; pow is slow."""
    if node.op == "pow" and node.inputs[1].op == "const" and node.inputs[1].payload == 2.0:
        return Node("mul", (node.inputs[0], node.inputs[0]))
    return node


def rewrite(root: Node, rule: Callable[[Node], Node]) -> Node:
    """The graph with the rule applied everywhere; equal nodes become one on the way."""
    now: dict[Node, Node] = {}
    made: dict[Any, Node] = {}
    for node in order(root):
        out = rule(Node(node.op, tuple(now[i] for i in node.inputs), node.payload))
        now[node] = made.setdefault((out.op, out.inputs, out.payload), out)
    return now[root]


# ---------------------------------------------------------------- 5. fusion (compiler/kernel)
#
# NumPy runs a loop for every op and writes each result to memory. Between two reductions nothing
# forces that: elementwise values can be computed in registers, element by element, in one loop.
# A reduction ends a loop, because what uses its result needs all elements first. So the number of
# a node's loop is the number of reductions on the longest way to it, and what crosses from one
# loop to the next is scalars only. Elementwise values needed again are computed again.


@dataclass
class Loop:
    """One loop over the elements: reductions it carries, and whether it stores the result."""

    reductions: list[Node]
    stores: bool = False


def fuse(root: Node) -> list[Loop]:
    """The loops that compute a graph."""
    level: dict[Node, int] = {}
    for node in order(root):
        level[node] = max((level[i] + (i.op in REDUCTIONS) for i in node.inputs), default=0)
    loops = [Loop([]) for _ in range(level[root] + 1)]
    for node in order(root):
        if node.op in REDUCTIONS:
            loops[level[node]].reductions.append(node)
    loops[level[root]].stores = root.is_vector
    return [loop for loop in loops if loop.reductions or loop.stores]


# ---------------------------------------------------------------- 6. LLVM IR (devices/cpu)
#
# LLVM takes text. Vectors are explicit, eight doubles at a time, instead of left to an optimiser:
# then the code is what was written, and LLVM has little to do, which keeps compiling fast. The
# last turn of a loop is masked, so that it reads and writes only elements that exist.

LANES = 8
VEC, MASK = f"<{LANES} x double>", f"<{LANES} x i1>"
BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
CALLS = {"exp": "exp", "sqrt": "sqrt", "max": "maximum", "pow": "pow"}
NEUTRAL = {"reduce_sum": "0x8000000000000000", "reduce_max": "0xFFF0000000000000"}  # -0.0, -inf
JOIN = {"reduce_sum": "add", "reduce_max": "max"}
FOLD = {"reduce_sum": "fadd.v8f64(double 0x8000000000000000, ", "reduce_max": "fmaximum.v8f64("}


class Emitter:
    """Writes `void kernel(double* out, double** arguments, i64 n)`."""

    def __init__(self, root: Node, params: list[str]) -> None:
        self.root, self.params = root, params
        self.lines: list[str] = []
        self.declares: set[str] = set()
        self.scalars: dict[Node, str] = {}      # reductions of earlier loops, as vectors

    def let(self, name: str, code: str) -> str:
        """Write an instruction; its value."""
        self.lines.append(f"  %{name} = {code}")
        return f"%{name}"

    def splat(self, name: str, scalar: str) -> str:
        """A scalar in all lanes."""
        one = self.let(f"{name}.one", f"insertelement {VEC} poison, double {scalar}, i64 0")
        zeros = f"<{LANES} x i32> zeroinitializer"
        return self.let(name, f"shufflevector {VEC} {one}, {VEC} poison, {zeros}")

    def call(self, name: str, function: str, *args: str) -> str:
        """Call an LLVM intrinsic on vectors."""
        self.declares.add(f"declare {VEC} @llvm.{function}.v{LANES}f64("
                          + ", ".join([VEC] * len(args)) + ")")
        return self.let(name, f"call {VEC} @llvm.{function}.v{LANES}f64("
                        + ", ".join(f"{VEC} {a}" for a in args) + ")")

    def combine(self, name: str, op: str, *args: str) -> str:
        """One elementwise op."""
        if op in BINARY:
            return self.let(name, f"{BINARY[op]} {VEC} {args[0]}, {args[1]}")
        return self.call(name, CALLS[op], *args)

    def value(self, node: Node, loop: str, known: dict[Node, str]) -> str:
        """The elements of a node that this turn of the loop works on."""
        if node.op == "const":
            bits = np.float64(node.payload).view(np.uint64)
            return f"splat (double {bits:#018X})".replace("0X", "0x")
        if node in self.scalars:
            return self.scalars[node]
        if node not in known and node.op == "param":
            name = f"{loop}.v{len(known)}"
            at = self.let(f"{name}.at", f"getelementptr double, ptr %{node.payload}, "
                                        f"i64 %{loop}.i")
            known[node] = self.let(name, f"call {VEC} @llvm.masked.load.v8f64.p0(ptr {at}, i32 8, "
                                         f"{MASK} %{loop}.mask, {VEC} splat (double 0.0))")
        elif node not in known:
            args = [self.value(i, loop, known) for i in node.inputs]
            known[node] = self.combine(f"{loop}.v{len(known)}", node.op, *args)
        return known[node]

    def loop(self, number: int, plan: Loop, before: str) -> str:
        """One loop; the label of the block behind it."""
        me, carried = f"L{number}", {}
        self.lines += [f"  br label %{me}", f"{me}:"]
        self.let(f"{me}.i", f"phi i64 [0, %{before}], [%{me}.next, %{me}]")
        for k, node in enumerate(plan.reductions):
            carried[node] = self.let(f"{me}.acc{k}", f"phi {VEC} [splat (double {NEUTRAL[node.op]})"
                                                     f", %{before}], [%{me}.new{k}, %{me}]")
        left = self.let(f"{me}.left", f"sub i64 %n, %{me}.i")
        self.let(f"{me}.mask", f"call {MASK} @llvm.get.active.lane.mask.v8i1.i64("
                               f"i64 0, i64 {left})")
        known: dict[Node, str] = {}
        for k, (node, acc) in enumerate(carried.items()):
            live = self.let(f"{me}.live{k}", f"select {MASK} %{me}.mask, {VEC} "
                            f"{self.value(node.inputs[0], me, known)}, {VEC} "
                            f"splat (double {NEUTRAL[node.op]})")
            self.combine(f"{me}.new{k}", JOIN[node.op], acc, live)
        if plan.stores:
            result = self.value(self.root, me, known)
            at = self.let(f"{me}.to", f"getelementptr double, ptr %out, i64 %{me}.i")
            self.lines.append(f"  call void @llvm.masked.store.v8f64.p0({VEC} {result}, ptr {at}, "
                              f"i32 8, {MASK} %{me}.mask)")
        self.let(f"{me}.next", f"add i64 %{me}.i, {LANES}")
        more = self.let(f"{me}.more", f"icmp slt i64 %{me}.next, %n")
        self.lines += [f"  br i1 {more}, label %{me}, label %{me}.end", f"{me}.end:"]
        for k, node in enumerate(plan.reductions):
            total = self.let(f"{me}.total{k}", "call double @llvm.vector.reduce."
                                               f"{FOLD[node.op]}{VEC} %{me}.new{k})")
            self.scalars[node] = self.splat(f"{me}.all{k}", total)
        return f"{me}.end"

    def module(self) -> str:
        """The whole module."""
        for i, name in enumerate(self.params):
            at = self.let(f"{name}.p", f"getelementptr ptr, ptr %arguments, i64 {i}")
            self.let(name, f"load ptr, ptr {at}")
        block = "entry"
        for number, plan in enumerate(fuse(self.root)):
            block = self.loop(number, plan, block)
        if not self.root.is_vector:
            known: dict[Node, str] = {}
            every = self.value(self.root, "end", known)
            one = self.let("result", f"extractelement {VEC} {every}, i64 0")
            self.lines.append(f"  store double {one}, ptr %out")
        head = [*sorted(self.declares),
                f"declare {VEC} @llvm.masked.load.v8f64.p0(ptr, i32, {MASK}, {VEC})",
                f"declare void @llvm.masked.store.v8f64.p0({VEC}, ptr, i32, {MASK})",
                f"declare {MASK} @llvm.get.active.lane.mask.v8i1.i64(i64, i64)",
                f"declare double @llvm.vector.reduce.fadd.v8f64(double, {VEC})",
                f"declare double @llvm.vector.reduce.fmaximum.v8f64({VEC})",
                "define void @kernel(ptr %out, ptr %arguments, i64 %n) {", "entry:"]
        return "\n".join([*head, *self.lines, "  ret void", "}"])


# ---------------------------------------------------------------- 7. running (devices/cpu)


def compile_text(code: str) -> tuple[Any, Callable[..., None]]:
    """Machine code from LLVM's text: what owns it, and a ctypes function."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(code), machine)
    engine.finalize_object()
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    return engine, prototype(engine.get_function_address("kernel"))


# ---------------------------------------------------------------- 8. jit (frontend/jit.py)
#
# Compiled once for each signature. Here a signature is a number of arguments, since n is read when
# the code runs; weft's has types and shapes too, and may leave sizes open in the same way.


def jit(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of float64 vectors of one length."""
    cache: dict[int, Any] = {}

    def call(*arrays: Any) -> Any:
        arrays = tuple(np.ascontiguousarray(a, np.float64) for a in arrays)
        if len({a.shape for a in arrays}) != 1 or arrays[0].ndim != 1 or not arrays[0].size:
            raise ValueError("the tour takes vectors of one length, not empty")
        if len(arrays) not in cache:
            names = [f"x{i}" for i in range(len(arrays))]
            root = rewrite(trace(fn, names), small_power)
            cache[len(arrays)] = root.is_vector, *compile_text(Emitter(root, names).module())
        is_vector, _, native = cache[len(arrays)]
        out = np.empty(arrays[0].shape if is_vector else ())
        pointers = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
        native(out.ctypes.data, pointers, arrays[0].size)
        return out if is_vector else out[()]
    return call


def softmax(x: Any) -> Any:
    """The function of the tour."""
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


def deviation(x: Any, y: Any) -> Any:
    """Another: root of the summed squares of the differences."""
    return np.sqrt(np.sum((x - y) ** 2.0))


def main() -> None:
    """Walk through the stages and check the answers."""
    for fn, names in ((softmax, ["x0"]), (deviation, ["x0", "x1"])):
        traced = trace(fn, names)
        better = rewrite(traced, small_power)
        print(f"{fn.__name__}, traced:\n{text(traced)}\n\nrewritten:\n{text(better)}\n")
        loops = fuse(better)
        print("loops: "
              + ", ".join("+".join([*(r.op for r in p.reductions), *["store"] * p.stores])
                          for p in loops) + "\n")
    print(Emitter(rewrite(trace(softmax, ["x0"]), small_power), ["x0"]).module())
    rng = np.random.default_rng(0)
    for n in (1, 7, 8, 1000):
        x, y = rng.normal(size=(2, n)) * 10
        np.testing.assert_allclose(jit(softmax)(x), softmax(x), rtol=1e-13)
        np.testing.assert_allclose(jit(deviation)(x, y), deviation(x, y), rtol=1e-13)
    print("\nsoftmax and deviation agree with NumPy")


if __name__ == "__main__":
    main()
