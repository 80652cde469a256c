"""A writer of LLVM IR text: typed values, arithmetic by operator, loops with carried values.

Nothing here knows kernels; the modules that print kernels, vector math and the runtime share it.
Element types are weft's short names (`f32`, `i64`, `u8`, …) plus `i1` for truth values in
registers and `ptr`. Signedness lives in the name and picks the instruction (`sdiv` or `udiv`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from weft.compiler.target import Target
from weft.compiler.types import DTYPES

__all__ = ["Emitter", "Number", "Val", "llvm_type"]

Number = int | float | bool

_LLVM = {"i1": "i1", "bool": "i8", "ptr": "ptr", "f16": "half", "bf16": "bfloat", "f32": "float",
         "f64": "double", "c128": "[2 x double]",  # c128: a step of address arithmetic only
         **{f"{s}{n}": f"i{n}" for s in "iu" for n in (8, 16, 32, 64)}}
BITS = {"i1": 1, "c128": 128, "bool": 8, "ptr": 64, "f16": 16, "bf16": 16, "f32": 32, "f64": 64,
        **{f"{s}{n}": n for s in "iu" for n in (8, 16, 32, 64)}}
FLOATS = frozenset({"f16", "bf16", "f32", "f64"})


def llvm_type(dtype: str, lanes: int = 1) -> str:
    """The LLVM type of a scalar or, with lanes > 1, a vector."""
    name = _LLVM[dtype]
    return name if lanes == 1 else f"<{lanes} x {name}>"


class Val:
    """An SSA value: its text (`%5` or a constant), element type and number of lanes.

    Operators write the matching instruction: arithmetic by the kind of the type, comparisons give
    `i1`, shifts right are arithmetic for signed types. A Python number on the other side becomes
    a constant of this value's type.
    """

    # Thousands are made for a kernel: a plain class with slots costs the least.
    __slots__ = ("dtype", "e", "lanes", "ref")

    def __init__(self, e: Emitter, ref: str, dtype: str, lanes: int = 1) -> None:
        self.e = e
        self.ref = ref
        self.dtype = dtype
        self.lanes = lanes

    @property
    def type(self) -> str:
        """The LLVM type."""
        return llvm_type(self.dtype, self.lanes)

    @property
    def is_float(self) -> bool:
        """Whether it is of floating-point type."""
        return self.dtype in FLOATS

    def _bin(self, op: str, other: Val | Number, swap: bool = False) -> Val:
        other = self.e.like(self, other)
        return self.e.binary(op, other, self) if swap else self.e.binary(op, self, other)

    def __add__(self, o: Val | Number) -> Val: return self._bin("add", o)
    def __radd__(self, o: Number) -> Val: return self._bin("add", o, True)
    def __sub__(self, o: Val | Number) -> Val: return self._bin("sub", o)
    def __rsub__(self, o: Number) -> Val: return self._bin("sub", o, True)
    def __mul__(self, o: Val | Number) -> Val: return self._bin("mul", o)
    def __rmul__(self, o: Number) -> Val: return self._bin("mul", o, True)
    def __truediv__(self, o: Val | Number) -> Val: return self._bin("div", o)
    def __rtruediv__(self, o: Number) -> Val: return self._bin("div", o, True)
    def __mod__(self, o: Val | Number) -> Val: return self._bin("rem", o)
    def __and__(self, o: Val | Number) -> Val: return self._bin("and", o)
    def __or__(self, o: Val | Number) -> Val: return self._bin("or", o)
    def __xor__(self, o: Val | Number) -> Val: return self._bin("xor", o)
    def __lshift__(self, o: Val | Number) -> Val: return self._bin("shl", o)
    def __rshift__(self, o: Val | Number) -> Val: return self._bin("shr", o)
    def __neg__(self) -> Val: return self.e.neg(self)
    def __invert__(self) -> Val: return self._bin("xor", True if self.dtype == "i1" else -1)
    def __lt__(self, o: Val | Number) -> Val: return self.e.compare("lt", self, o)
    def __le__(self, o: Val | Number) -> Val: return self.e.compare("le", self, o)
    def __gt__(self, o: Val | Number) -> Val: return self.e.compare("gt", self, o)
    def __ge__(self, o: Val | Number) -> Val: return self.e.compare("ge", self, o)
    def eq(self, o: Val | Number) -> Val:
        """Lane-wise equality (ordered: false where either is NaN)."""
        return self.e.compare("eq", self, o)
    def ne(self, o: Val | Number) -> Val:
        """Lane-wise inequality (true where either is NaN)."""
        return self.e.compare("ne", self, o)


_FLOAT_OP = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "rem": "frem"}
_FCMP = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


class Emitter:
    """Writes the body of one LLVM function as text, and collects what the module must declare.

    >>> e = Emitter(Target())
    >>> x = e.arg("x", "f32", 8)
    >>> y = x * 2.0 + 1.0
    >>> print(e.body())
      %v0 = fmul <8 x float> %x, splat (float 0x4000000000000000)
      %v1 = fadd <8 x float> %v0, splat (float 0x3FF0000000000000)
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.lines: list[str] = []
        self.declares: set[str] = set()      # `declare …` lines the module needs
        self.helpers: dict[str, str] = {}    # name -> `define …` of functions the module needs
        self.block = "entry"                 # label of the block being written
        self.count = 0
        self._stack: list[str] = []

    # ---- values

    def arg(self, name: str, dtype: str, lanes: int = 1) -> Val:
        """A function argument or other value that exists already under `%name`."""
        return Val(self, "%" + name, dtype, lanes)

    def const(self, dtype: str, value: Number, lanes: int = 1) -> Val:
        """A constant, splatted over the lanes."""
        text = constant_text(dtype, value)
        return Val(self, text if lanes == 1 else f"splat ({_LLVM[dtype]} {text})", dtype, lanes)

    def like(self, x: Val, value: Val | Number) -> Val:
        """`value` as it is, or as a constant of x's type; a scalar value is splatted to x."""
        if not isinstance(value, Val):
            return self.const(x.dtype, value, x.lanes)
        if value.lanes == 1 and x.lanes > 1:
            return self.splat(value, x.lanes)
        return value

    def assign(self, text: str, dtype: str, lanes: int = 1) -> Val:
        """Write `%new = text` and return the new value."""
        ref = f"%v{self.count}"
        self.count += 1
        self.lines.append(f"  {ref} = {text}")
        return Val(self, ref, dtype, lanes)

    def write(self, text: str) -> None:
        """Write an instruction without a result."""
        self.lines.append("  " + text)

    def body(self) -> str:
        """All that was written, to stand behind the label of the function's first block."""
        return "\n".join([*self._stack, *self.lines])

    def stack(self, size: int) -> Val:
        """Address of `size` bytes of the function's own, 64-byte aligned, made at its start."""
        ref = f"%stack{len(self._stack)}"
        self._stack.append(f"  {ref} = alloca i8, i64 {size}, align 64")
        return Val(self, ref, "ptr")

    # ---- arithmetic

    def binary(self, op: str, a: Val, b: Val) -> Val:
        """add sub mul div rem and or xor shl shr, by the kind of a's type."""
        if a.lanes != b.lanes:
            a, b = self.like(b, a), self.like(a, b)
        if a.is_float:
            ins = _FLOAT_OP[op]
        elif op in ("div", "rem"):
            ins = ("s" if a.dtype[0] == "i" else "u") + op
        elif op == "shr":
            ins = "ashr" if a.dtype[0] == "i" and a.dtype != "i1" else "lshr"
        else:
            ins = op
        return self.assign(f"{ins} {a.type} {a.ref}, {b.ref}", a.dtype, a.lanes)

    def neg(self, a: Val) -> Val:
        """-a (flips the sign bit of floats)."""
        if a.is_float:
            return self.assign(f"fneg {a.type} {a.ref}", a.dtype, a.lanes)
        return self.binary("sub", self.like(a, 0), a)

    def compare(self, how: str, a: Val, b: Val | Number) -> Val:
        """eq ne lt le gt ge; ordered for floats, but `ne` is true on NaN."""
        b = self.like(a, b)
        if a.lanes != b.lanes:
            a = self.like(b, a)
        if a.is_float:
            return self.assign(f"fcmp {_FCMP[how]} {a.type} {a.ref}, {b.ref}", "i1", a.lanes)
        sign = "" if how in ("eq", "ne") else "s" if a.dtype[0] == "i" and a.dtype != "i1" else "u"
        return self.assign(f"icmp {sign}{how} {a.type} {a.ref}, {b.ref}", "i1", a.lanes)

    def unordered(self, a: Val, b: Val) -> Val:
        """True where a or b is NaN."""
        return self.assign(f"fcmp uno {a.type} {a.ref}, {b.ref}", "i1", a.lanes)

    def select(self, mask: Val, a: Val | Number, b: Val | Number) -> Val:
        """a where mask, else b. At least one of a, b is a value."""
        if not isinstance(a, Val):
            assert isinstance(b, Val)
            a = self.like(b, a)
        b = self.like(a, b)
        a = self.like(b, a)
        if mask.lanes < a.lanes:
            mask = self.splat(mask, a.lanes)
        elif mask.lanes > a.lanes:
            a, b = self.splat(a, mask.lanes), self.splat(b, mask.lanes)
        return self.assign(
            f"select {mask.type} {mask.ref}, {a.type} {a.ref}, {b.type} {b.ref}", a.dtype, a.lanes)

    def intrinsic(self, name: str, *args: Val, result: str | None = None) -> Val:
        """Call `llvm.name.<type>` overloaded on the first argument's type."""
        a = args[0]
        args = tuple(self.like(a, x) for x in args)
        dtype = result or a.dtype
        suffix = _mangled(a.dtype, a.lanes)
        types = ", ".join(x.type for x in args)
        rtype = llvm_type(dtype, a.lanes)
        self.declares.add(f"declare {rtype} @llvm.{name}.{suffix}({types})")
        values = ", ".join(f"{x.type} {x.ref}" for x in args)
        return self.assign(f"call {rtype} @llvm.{name}.{suffix}({values})", dtype, a.lanes)

    def call(self, symbol: str, result: str, *args: Val) -> Val:
        """Call an external scalar function `symbol` and return its result."""
        types = ", ".join(x.type for x in args)
        rtype = llvm_type(result)
        self.declares.add(f"declare {rtype} @{symbol}({types})")
        values = ", ".join(f"{x.type} {x.ref}" for x in args)
        return self.assign(f"call {rtype} @{symbol}({values})", result)

    def call_lanes(self, symbol: str, result: str, *args: Val) -> Val:
        """Call an external scalar function once for every lane."""
        lanes = args[0].lanes
        if lanes == 1:
            return self.call(symbol, result, *args)
        out = self.undef(result, lanes)
        for i in range(lanes):
            one = self.call(symbol, result, *(self.extract(a, i) for a in args))
            out = self.insert(out, i, one)
        return out

    def fma(self, a: Val, b: Val | Number, c: Val | Number) -> Val:
        """a*b + c, rounded once where the target has the instruction, else twice."""
        b, c = self.like(a, b), self.like(a, c)
        return self.intrinsic("fma", a, b, c) if self.target.has_fma else a * b + c

    # ---- conversions and lanes

    def bitcast(self, a: Val, dtype: str) -> Val:
        """The same bits as another type of the same width."""
        if _LLVM[a.dtype] == _LLVM[dtype]:
            return Val(self, a.ref, dtype, a.lanes)
        return self.assign(f"bitcast {a.type} {a.ref} to {llvm_type(dtype, a.lanes)}",
                           dtype, a.lanes)

    def convert(self, a: Val, dtype: str) -> Val:
        """Value conversion between types, as C casts (`i1`/bool give 0 or 1; to `i1` is `!= 0`)."""
        if a.dtype == dtype:
            return a
        if dtype == "i1":
            return a.ne(0)
        src, dst = BITS[a.dtype], BITS[dtype]
        signed = a.dtype[0] == "i" and a.dtype != "i1"
        if a.is_float and dtype in FLOATS:
            if src == dst:  # f16 <-> bf16
                return self.convert(self.convert(a, "f32"), dtype)
            ins = "fpext" if dst > src else "fptrunc"
        elif a.is_float:
            ins = "fptosi" if dtype[0] == "i" else "fptoui"
        elif dtype in FLOATS:
            ins = "sitofp" if signed else "uitofp"
        elif dst > src:
            ins = "sext" if signed else "zext"
        elif dst < src:
            ins = "trunc"
        else:
            return Val(self, a.ref, dtype, a.lanes)
        return self.assign(f"{ins} {a.type} {a.ref} to {llvm_type(dtype, a.lanes)}",
                           dtype, a.lanes)

    def undef(self, dtype: str, lanes: int = 1) -> Val:
        """A value of which every lane is yet to be written."""
        return Val(self, "poison", dtype, lanes)

    def splat(self, a: Val, lanes: int) -> Val:
        """A scalar in every lane."""
        if lanes == 1 or a.lanes == lanes:
            return a
        if not a.ref.startswith("%"):
            return Val(self, f"splat ({a.type} {a.ref})", a.dtype, lanes)
        one = self.insert(self.undef(a.dtype, lanes), 0, a)
        return self.shuffle(one, None, [0] * lanes)

    def extract(self, a: Val, lane: int | Val) -> Val:
        """One lane as a scalar."""
        if a.lanes == 1:
            return a
        index = f"i64 {lane.ref if isinstance(lane, Val) else lane}"
        return self.assign(f"extractelement {a.type} {a.ref}, {index}", a.dtype)

    def insert(self, a: Val, lane: int, x: Val) -> Val:
        """`a` with one lane replaced."""
        if a.lanes == 1:
            return x
        return self.assign(f"insertelement {a.type} {a.ref}, {x.type} {x.ref}, i64 {lane}",
                           a.dtype, a.lanes)

    def shuffle(self, a: Val, b: Val | None, order: Sequence[int]) -> Val:
        """The lanes of a, then of b, picked in this order."""
        other = b.ref if b is not None else "poison"
        mask = f"<{len(order)} x i32> <" + ", ".join(f"i32 {i}" for i in order) + ">"
        if len(set(order)) == 1 and order[0] == 0:
            mask = f"<{len(order)} x i32> zeroinitializer"
        return self.assign(f"shufflevector {a.type} {a.ref}, {a.type} {other}, {mask}",
                           a.dtype, len(order))

    def iota(self, dtype: str, lanes: int) -> Val:
        """The constant vector 0, 1, 2, …"""
        if lanes == 1:
            return self.const(dtype, 0)
        t = _LLVM[dtype]
        return Val(self, "<" + ", ".join(f"{t} {i}" for i in range(lanes)) + ">", dtype, lanes)

    def any(self, mask: Val) -> Val:
        """Whether the mask is true in some lane."""
        n = mask.lanes
        self.declares.add(f"declare i1 @llvm.vector.reduce.or.v{n}i1(<{n} x i1>)")
        return self.assign(f"call i1 @llvm.vector.reduce.or.v{n}i1({mask.type} {mask.ref})", "i1")

    def first_set(self, mask: Val) -> Val:
        """The number (i64) of the first lane where the mask is true, if there is one."""
        bits = self.assign(f"bitcast {mask.type} {mask.ref} to i{mask.lanes}", "i64")
        self.declares.add(f"declare i{mask.lanes} @llvm.cttz.i{mask.lanes}(i{mask.lanes}, i1)")
        low = self.assign(f"call i{mask.lanes} @llvm.cttz.i{mask.lanes}(i{mask.lanes} {bits.ref}, "
                          "i1 false)", "i64")
        if mask.lanes == 64:
            return low
        how = "zext" if mask.lanes < 64 else "trunc"
        return self.assign(f"{how} i{mask.lanes} {low.ref} to i64", "i64")

    # ---- memory

    def gep(self, base: Val, index: Val | int, dtype: str) -> Val:
        """Address of element `index` (i64) of an array of `dtype` at `base`."""
        if isinstance(index, int) and index == 0:
            return base
        ref = index.ref if isinstance(index, Val) else index
        return self.assign(f"getelementptr {_LLVM[dtype]}, ptr {base.ref}, i64 {ref}", "ptr")

    def load(self, address: Val, dtype: str, lanes: int = 1, mask: Val | None = None,
             align: int | None = None) -> Val:
        """Load lanes elements from consecutive addresses; lanes off the mask read as 0."""
        t = llvm_type(dtype, lanes)
        align = align or max(1, BITS[dtype] // 8)
        if mask is None:
            return self.assign(f"load {t}, ptr {address.ref}, align {align}", dtype, lanes)
        suffix = _mangled(dtype, lanes)
        self.declares.add(f"declare {t} @llvm.masked.load.{suffix}.p0(ptr, <{lanes} x i1>, {t})")
        return self.assign(f"call {t} @llvm.masked.load.{suffix}.p0(ptr align {align} "
                           f"{address.ref}, {mask.type} {mask.ref}, {t} zeroinitializer)",
                           dtype, lanes)

    def store(self, x: Val, address: Val, mask: Val | None = None, align: int | None = None,
              nontemporal: bool = False) -> None:
        """Store to consecutive addresses; lanes off the mask are not written."""
        align = align or max(1, BITS[x.dtype] // 8)
        if mask is None:
            hint = ", !nontemporal !0" if nontemporal else ""
            self.write(f"store {x.type} {x.ref}, ptr {address.ref}, align {align}{hint}")
            return
        suffix = _mangled(x.dtype, x.lanes)
        self.declares.add(
            f"declare void @llvm.masked.store.{suffix}.p0({x.type}, ptr, <{x.lanes} x i1>)")
        self.write(f"call void @llvm.masked.store.{suffix}.p0({x.type} {x.ref}, ptr align {align} "
                   f"{address.ref}, {mask.type} {mask.ref})")

    # ---- control flow

    def fresh(self, stem: str) -> str:
        """A label not used before."""
        self.count += 1
        return f"{stem}{self.count}"

    def label(self, name: str) -> None:
        """Begin a basic block."""
        self.lines.append(f"{name}:")
        self.block = name

    def jump(self, name: str) -> None:
        """End the block with an unconditional branch."""
        self.write(f"br label %{name}")

    def branch(self, condition: Val, yes: str, no: str) -> None:
        """End the block with a conditional branch on an `i1`."""
        self.write(f"br i1 {condition.ref}, label %{yes}, label %{no}")

    @contextmanager
    def loop(self, lo: Val | int, hi: Val | int, step: int = 1,
             carry: Sequence[Val] = (), stem: str = "loop") -> Iterator[Loop]:
        """`for i in range(lo, hi, step)` on i64 values, with loop-carried values.

        Inside, `.i` is the index and `.carry` the values carried in; set `.next` to as many values
        to carry out. After the block, `.out` holds the final ones. The body may write further
        blocks. It is not entered if lo >= hi (signed).

        >>> e = Emitter(Target())
        >>> with e.loop(0, 10, carry=[e.const("f32", 0)]) as l:
        ...     l.next = [l.carry[0] + 1.0]
        >>> l.out[0].dtype
        'f32'
        """
        lo_v = lo if isinstance(lo, Val) else self.const("i64", lo)
        hi_v = hi if isinstance(hi, Val) else self.const("i64", hi)
        head, body, done = self.fresh(stem), self.fresh("body"), self.fresh("done")
        before = self.block
        self.jump(head)
        self.label(head)
        slot = len(self.lines)  # phis are written once the values of the next turn are known
        i = Val(self, f"%i.{head}", "i64")
        state = Loop(i, [Val(self, f"%c{k}.{head}", c.dtype, c.lanes)
                         for k, c in enumerate(carry)])
        test = i < hi_v
        self.branch(test, body, done)
        self.label(body)
        yield state
        assert len(state.next) == len(carry), "a loop carries out as many values as it carries in"
        i2 = self.assign(f"add nsw i64 {i.ref}, {step}", "i64")
        phis = [f"  {i.ref} = phi i64 [{lo_v.ref}, %{before}], [{i2.ref}, %{self.block}]"]
        for phi, first, nxt in zip(state.carry, carry, state.next):
            phis.append(f"  {phi.ref} = phi {phi.type} [{first.ref}, %{before}], "
                        f"[{nxt.ref}, %{self.block}]")
        self.lines[slot:slot] = phis
        self.jump(head)
        self.label(done)
        state.out = state.carry

    @contextmanager
    def when(self, condition: Val, stem: str = "then") -> Iterator[None]:
        """`if condition:` (without values)."""
        yes, done = self.fresh(stem), self.fresh("end")
        self.branch(condition, yes, done)
        self.label(yes)
        yield
        self.jump(done)
        self.label(done)


class Loop:
    """The state of a loop being written; see `Emitter.loop`."""

    def __init__(self, i: Val, carry: list[Val]) -> None:
        self.i = i
        self.carry = carry
        self.next: Sequence[Val] = list(carry)
        self.out: list[Val] = carry


def _mangled(dtype: str, lanes: int) -> str:
    short = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64", "ptr": "p0"}
    name = short.get(_LLVM[dtype], _LLVM[dtype])
    return name if lanes == 1 else f"v{lanes}{name}"


def constant_text(dtype: str, value: Number) -> str:
    """An LLVM literal: floats exactly, by their bits; integers wrapped into range.

    >>> constant_text("f32", 0.1), constant_text("u8", 255), constant_text("i1", True)
    ('0x3FB99999A0000000', '255', 'true')
    """
    if dtype == "i1":
        return "true" if value else "false"
    if dtype in ("f32", "f64"):
        x = float(np.float32(value)) if dtype == "f32" else float(value)
        return f"0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016X}"
    if dtype == "f16":
        return f"0xH{np.float16(value).view(np.uint16):04X}"
    if dtype == "bf16":
        bits = np.asarray(value, DTYPES[dtype].numpy).view(np.uint16)
        return f"0xR{bits:04X}"
    if dtype == "ptr":
        return "null"
    return str(int(value))
