"""Writing a kernel's scalar expressions as LLVM values.

An `Evaluator` knows the values of the axes, the axis that runs over vector lanes, the mask of
live lanes and the results of reductions, and writes expressions for that point of the loops.
What was written stays usable inside the scope in which it was written; `hoist` writes what a loop
does not change before the loop begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from weft.compiler.kernel.expr import Expr, index_values, walk
from weft.compiler.kernel.index import Axis, Index, Quotient, Remainder, Value
from weft.compiler.kernel.ir import Store
from weft.compiler.types import DTYPES, Dim, DType, Size, TensorType
from weft.devices.cpu.emit import Emitter, Val, llvm_type
from weft.devices.cpu.interleave import interleaved, picked
from weft.devices.cpu.lower import (
    Scalar,
    Typed,
    apply,
    convert,
    load_value,
    memory_type,
    reg,
    store_value,
)
from weft.devices.cpu.lower_complex import Cx

__all__ = ["Evaluator"]

_I64 = DTYPES["i64"]
FEW_APART = 8           # elements up to so many apart are picked from whole vectors,
NEAR_BYTES = 64         # up to so many bytes


class Evaluator:
    """See the module's text. `pointers` maps buffers to addresses, `dims` symbols to i64 values."""

    def __init__(self, e: Emitter, pointers: Mapping[str, Val], types: Mapping[str, TensorType],
                 dims: Mapping[str, Val]) -> None:
        self.e = e
        self.pointers = dict(pointers)
        self.types = types
        self.dims = dims
        self.axes: dict[Axis, Val] = {}
        self.accs: dict[int, Scalar] = {}
        self.vector: Axis | None = None
        self.lanes = 1
        self.mask: Val | None = None
        self.lane_scratch: frozenset[str] = frozenset()
        self._scopes: list[dict[object, object]] = [{}]

    # ---- scopes

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is written inside is forgotten behind (its block may not dominate what follows)."""
        self._scopes.append({})
        saved = (self.vector, self.lanes, self.mask, dict(self.axes), dict(self.accs))
        try:
            yield
        finally:
            self._scopes.pop()
            self.vector, self.lanes, self.mask, self.axes, self.accs = saved

    @contextmanager
    def inside(self) -> Iterator[None]:
        """A scope in which the axes may be moved on; reductions and lanes stay as they are."""
        self._scopes.append({})
        saved = dict(self.axes)
        try:
            yield
        finally:
            self._scopes.pop()
            self.axes = saved

    def _known(self, key: object) -> object | None:
        for scope in reversed(self._scopes):
            if key in scope:
                return scope[key]
        return None

    def hoist(self, roots: Iterable[Expr], axes: Iterable[Axis]) -> None:
        """Write, here, all parts of the expressions that no loop over `axes` changes."""
        changing = frozenset(axes)
        moving = changing if self.vector is None else changing | {self.vector}
        seen: set[Expr] = set()

        def visit(e: Expr) -> None:
            if e in seen or e.kind == "const":
                return
            seen.add(e)
            if not e.axes & changing and all(n in self.accs for n in e.accs):
                self.value(e)
                return
            for c in e.children:
                visit(c)
            if e.kind == "load" and e.what not in self.lane_scratch:
                self.base(e.what, e.index[0], moving)

        for r in roots:
            visit(r)

    # ---- expressions

    def value(self, expr: Expr) -> Scalar:
        """The value of an expression at this point."""
        known = self._known(expr)
        if known is None:
            for e in walk(expr) if expr.children else (expr,):
                if self._known(e) is None:
                    known = self._scopes[-1][e] = self._write(e)
            known = self._known(expr)
        return known  # type: ignore[return-value]

    def real(self, expr: Expr) -> Val:
        """The value of an expression known not to be complex."""
        v = self.value(expr)
        assert isinstance(v, Val)
        return v

    def _write(self, e: Expr) -> Scalar:
        if e.kind == "const":
            return self._const(e)
        if e.kind == "acc":
            return self.accs[e.what]
        if e.kind == "index":
            return convert(self.e, self.index(e.index[0]), _I64, e.dtype)
        if e.kind == "load":
            return self._load(e)
        args = [Typed(self._scalar(a), a.dtype) for a in e.args]
        return apply(self.e, e.what, e.dtype, *self._level(args))

    def _scalar(self, e: Expr) -> Scalar:
        v = self._known(e)
        assert v is not None
        return v  # type: ignore[return-value]

    def _level(self, args: list[Typed]) -> list[Typed]:
        """Constants and once-a-row values splatted to the lanes of the others."""
        lanes = max((a.value.lanes for a in args), default=1)
        return [Typed(self.splat(a.value, lanes), a.dtype) for a in args]

    def splat(self, v: Scalar, lanes: int) -> Scalar:
        """A scalar value in all lanes."""
        if isinstance(v, Cx):
            return Cx(self.e.splat(v.re, lanes), self.e.splat(v.im, lanes))
        return self.e.splat(v, lanes)

    def _const(self, e: Expr) -> Scalar:
        name = reg(e.dtype.real)
        if e.dtype.is_complex:
            return Cx(self.e.const(name, e.what.real), self.e.const(name, e.what.imag))
        return self.e.const(name, e.what.item() if e.dtype.kind != "float" else float(e.what))

    # ---- indices

    def dim(self, d: Dim) -> Val:
        """A size as an i64."""
        if not isinstance(d, Size):
            return self.e.const("i64", d)
        total = self.e.const("i64", 0)
        for names, c in d.terms:
            term = self.e.const("i64", c)
            for n in names:
                term = term * self.dims[n]
            total = total + term
        return total

    def extent(self, axis: Axis) -> Val:
        """How many turns the loop takes, as an i64."""
        return self.index(axis.extent) if isinstance(axis.extent, Index) else self.dim(axis.extent)

    def index(self, index: Index) -> Val:
        """An index as an i64: one value, or one for each lane if the vector axis takes part."""
        key = ("index", index, self.lanes)
        found = self._known(key)
        if found is None:
            total: Val | None = None if index.const == 0 and index.terms else self.dim(index.const)
            for atom, c in index.terms:
                term = self._atom(atom)
                term = term if c == 1 else term * self.dim(c)
                total = term if total is None else total + term
            found = self._scopes[-1][key] = total
        return found  # type: ignore[return-value]

    def narrow_index(self, index: Index) -> Val:
        """An index below 2**31 as an i32, of which the vector axis is a term or no part."""
        first = self.e.convert(self._first(index), "i32")
        if self.vector is None or self.vector not in index.axes or self.lanes == 1:
            return first
        return self.e.splat(first, self.lanes) + self.e.iota("i32", self.lanes)

    def _atom(self, atom: object) -> Val:
        if isinstance(atom, Axis):
            base = self.axes[atom]
            if atom == self.vector and self.lanes > 1:
                return self.e.splat(base, self.lanes) + self.e.iota("i64", self.lanes)
            return base
        if isinstance(atom, Value):
            return self.real(atom.expr)
        if isinstance(atom, (Quotient, Remainder)):
            return self._divided(atom)
        a, b = self.index(atom.a), self.index(atom.b)  # type: ignore[attr-defined]
        return self.e.intrinsic("smin", a, b)

    def _divided(self, atom: Quotient | Remainder) -> Val:
        """Floor division; unsigned where the dividend is known not to be negative."""
        of, by = self.index(atom.of), self.dim(atom.by)
        bounds = atom.of.bounds
        if bounds is not None and bounds[0] >= 0 and bounds[1] < 2**31 and isinstance(atom.by, int):
            a = self.e.convert(Val(self.e, of.ref, "u64", of.lanes), "u32")
            out = self.e.binary("div" if isinstance(atom, Quotient) else "rem", a,
                                self.e.like(a, atom.by))
            return Val(self.e, self.e.convert(out, "u64").ref, "i64", of.lanes)
        q = self.e.binary("div", of, self.e.like(of, by))
        r = of - q * by
        negative = r < 0
        if isinstance(atom, Quotient):
            return self.e.select(negative, q - 1, q)
        return self.e.select(negative, r + by, r)

    # ---- memory

    def base(self, buffer: str, index: Index, changing: frozenset[Axis]) -> tuple[Val, Index]:
        """The address at the part of an offset that the axes do not change, and the other part."""
        fixed = Index(tuple(t for t in index.terms if not _atom_changes(t[0], changing)),
                      index.const)
        rest = Index(tuple(t for t in index.terms if _atom_changes(t[0], changing)))
        key = ("base", buffer, fixed)
        found = self._known(key)
        if found is None:
            address = self.pointers[buffer]
            if fixed.terms or fixed.const != 0:
                address = self.e.gep(address, self.index(fixed),
                                     _element(self.types[buffer].dtype))
            found = self._scopes[-1][key] = address
        return found, rest  # type: ignore[return-value]

    def step(self, index: Index) -> Dim | None:
        """By how many elements the offset moves from lane to lane; None if that varies."""
        if self.vector is None or self.lanes == 1:
            return 0
        if any(self._varies(v.expr) for v in index_values(index)):
            return None
        return index.coefficient(self.vector)

    def _varies(self, e: Expr) -> bool:
        if self.vector is not None and self.vector in e.axes:
            return True
        known = self._known(e)
        return (isinstance(known, (Val, Cx)) and known.lanes > 1) or any(
            self._known(a) is not None and self._lanes_of(a) > 1 for a in e.children)

    def _lanes_of(self, e: Expr) -> int:
        v = self._known(e)
        return v.lanes if isinstance(v, (Val, Cx)) else 1

    def read(self, buffer: str) -> Scalar | None:
        """The value of a buffer of one element that is not in memory."""
        return None

    def _load(self, e: Expr) -> Scalar:
        held = self.read(e.what)
        if held is not None:
            return self._guarded(held, self.real(e.args[0])) if e.args else held
        index, dtype = e.index[0], self.types[e.what].dtype
        if self.types[e.what].size == 0:
            return self._zero(dtype)
        if e.what in self.lane_scratch:
            return self._read(self._lane_address(e.what, index), dtype, self.lanes, None)
        guard = self._scalar(e.args[0]) if e.args else None
        assert guard is None or isinstance(guard, Val)
        changing = frozenset((self.vector,)) if self.vector is not None else frozenset()
        step = self.step(index)
        if step == 0 and (guard is None or guard.lanes == 1):
            return self._load_one(e.what, index, dtype, guard)
        mask = self._live(guard)
        if step == 0:
            step = None
        if step in (1, -1):
            address, rest = self.base(e.what, index, changing)
            address = self.e.gep(address, self._first(rest), _element(dtype))
            return self._load_run(address, dtype, mask, step == -1)
        if mask is None and isinstance(step, int) and self._near(step, dtype):
            address, rest = self.base(e.what, index, changing)
            address = self.e.gep(address, self._first(rest), _element(dtype))
            return self._load_apart(address, dtype, step)
        return self._gather(e.what, index, dtype, mask)

    def _lane_address(self, buffer: str, index: Index) -> Val:
        """Where a scratch row that holds all lanes of each element has this element."""
        return self.e.gep(self.pointers[buffer], self.index(index) * self.lanes,
                          _element(self.types[buffer].dtype))

    def _first(self, rest: Index) -> Val:
        """The offset of lane 0."""
        lanes, self.lanes = self.lanes, 1
        self._scopes.append({})
        out = self.index(rest)
        self._scopes.pop()
        self.lanes = lanes
        return out

    def _live(self, guard: Val | None) -> Val | None:
        if guard is None:
            return self.mask
        guard = self.e.splat(guard, self.lanes)
        return guard if self.mask is None else guard & self.mask

    def _zero(self, dtype: DType) -> Scalar:
        zero = self.e.const(reg(dtype.real), 0)
        return Cx(zero, zero) if dtype.is_complex else zero

    def _load_one(self, buffer: str, index: Index, dtype: DType, guard: Val | None) -> Scalar:
        address, rest = self.base(buffer, index, frozenset(
            (self.vector,) if self.vector is not None else ()))
        offset = self.index(rest) if rest.terms else None
        if guard is not None:
            # the guard may be all that keeps the offset inside the array: read element 0 instead
            whole = self.index(index)
            address, offset = self.pointers[buffer], self.e.select(guard, whole, 0)
        if offset is not None:
            address = self.e.gep(address, offset, _element(dtype))
        out = self._read(address, dtype, 1, None)
        return out if guard is None else self._guarded(out, guard)

    def _guarded(self, out: Scalar, guard: Val) -> Scalar:
        if isinstance(out, Cx):
            return Cx(self.e.select(guard, out.re, 0.0), self.e.select(guard, out.im, 0.0))
        return self.e.select(guard, out, 0)

    def _read(self, address: Val, dtype: DType, lanes: int, mask: Val | None) -> Scalar:
        e = self.e
        if dtype.is_complex:
            part = dtype.real.name
            wide = None if mask is None else e.shuffle(mask, None, [i // 2 for i in
                                                                    range(2 * lanes)])
            raw = e.load(address, part, 2 * lanes, wide)
            if lanes == 1:
                return Cx(e.extract(raw, 0), e.extract(raw, 1))
            return Cx(e.shuffle(raw, None, range(0, 2 * lanes, 2)),
                      e.shuffle(raw, None, range(1, 2 * lanes, 2)))
        return load_value(e, e.load(address, memory_type(dtype), lanes, mask), dtype)

    def _load_run(self, address: Val, dtype: DType, mask: Val | None, backwards: bool) -> Scalar:
        """Consecutive elements; backwards from the address where the axis is turned round."""
        if not backwards:
            return self._read(address, dtype, self.lanes, mask)
        e, order = self.e, list(range(self.lanes - 1, -1, -1))
        address = e.gep(address, 1 - self.lanes, _element(dtype))
        if mask is not None:
            mask = e.shuffle(mask, None, order)
        out = self._read(address, dtype, self.lanes, mask)
        if isinstance(out, Cx):
            return Cx(e.shuffle(out.re, None, order), e.shuffle(out.im, None, order))
        return e.shuffle(out, None, order)

    def _near(self, step: int, dtype: DType) -> bool:
        return abs(step) <= min(FEW_APART, NEAR_BYTES // dtype.itemsize)

    def _load_apart(self, address: Val, dtype: DType, step: int) -> Scalar:
        """Elements a few apart, all lanes live: picked from vectors that cover them.

        The last vector ends with the last element, so that nothing beyond it is read.
        """
        e, lanes, apart = self.e, self.lanes, abs(step)
        parts = 2 if dtype.is_complex else 1
        if step < 0:
            address = e.gep(address, (lanes - 1) * step, _element(dtype))
        at = [lane * apart for lane in (range(lanes) if step > 0 else range(lanes - 1, -1, -1))]
        starts = [*range(0, lanes * (apart - 1), lanes), (lanes - 1) * (apart - 1)]
        raw = dtype.real.name if parts == 2 else memory_type(dtype)
        vectors = [e.load(e.gep(address, start, _element(dtype)), raw, parts * lanes)
                   for start in starts]
        which = [max(k for k, start in enumerate(starts) if a >= start) for a in at]
        if parts == 1:
            return load_value(e, picked(e, vectors, which, [a - starts[w] for a, w in
                                                             zip(at, which)]), dtype)
        return Cx(*(picked(e, vectors, which, [2 * (a - starts[w]) + k for a, w in
                                                zip(at, which)]) for k in (0, 1)))

    def _addresses(self, buffer: str, index: Index, element: str, scale: int = 1,
                   plus: int = 0) -> Val:
        offsets = self.e.splat(self.index(index), self.lanes)
        if scale != 1:
            offsets = offsets * scale + plus
        base = self.pointers[buffer]
        return self.e.assign(f"getelementptr {llvm_type(element)}, ptr {base.ref}, "
                             f"{offsets.type} {offsets.ref}", "ptr", self.lanes)

    def _gather(self, buffer: str, index: Index, dtype: DType, mask: Val | None) -> Scalar:
        if dtype.name == "c64":
            n = self.lanes
            pairs = self._gathered(self._addresses(buffer, index, "i64"), "i64", mask)
            raw = self.e.assign(f"bitcast {pairs.type} {pairs.ref} to {llvm_type('f32', 2 * n)}",
                                "f32", 2 * n)
            return Cx(*(self.e.shuffle(raw, None, range(k, 2 * n, 2)) for k in (0, 1)))
        if dtype.is_complex:
            part = dtype.real.name
            parts = [self._gathered(self._addresses(buffer, index, part, 2, k), part, mask)
                     for k in (0, 1)]
            return Cx(*parts)
        kind = memory_type(dtype)
        return load_value(self.e, self._gathered(self._addresses(buffer, index, kind), kind, mask),
                          dtype)

    def _gathered(self, addresses: Val, raw: str, mask: Val | None) -> Val:
        e, n = self.e, self.lanes
        m = mask if mask is not None else e.const("i1", True, n)
        t, p = llvm_type(raw, n), llvm_type("ptr", n)
        name = f"llvm.masked.gather.{_suffix(raw, n)}.v{n}p0"
        e.declares.add(f"declare {t} @{name}({p}, <{n} x i1>, {t})")
        align = max(1, _BYTES[raw])
        return e.assign(f"call {t} @{name}({p} align {align} {addresses.ref}, {m.type} {m.ref}, "
                        f"{t} zeroinitializer)", raw, n)

    # ---- stores

    def put(self, w: Store, mask: Val | None, nontemporal: bool = False) -> None:
        """A store of a kernel, for the live lanes."""
        value, index, dtype = self.value(w.value), w.index[0], self.types[w.buffer].dtype
        if self.types[w.buffer].size == 0:
            return
        if w.combine:
            there = self._load(Expr("load", dtype, w.buffer, (), (index,)))
            lanes = max(there.lanes, value.lanes)
            value = apply(self.e, w.combine, dtype, Typed(self.splat(there, lanes), dtype),
                          Typed(self.splat(value, lanes), dtype))
        self.store(w.buffer, index, value, mask, nontemporal)

    def store(self, buffer: str, index: Index, value: Scalar, mask: Val | None,
              nontemporal: bool = False) -> None:
        """Write a value for the live lanes."""
        dtype = self.types[buffer].dtype
        if buffer in self.lane_scratch:
            self._put(self._lane_address(buffer, index), self.splat(value, self.lanes), dtype,
                      self.lanes, None, False)
            return
        step = self.step(index)
        if step == 0:
            address = self.e.gep(self.pointers[buffer], self.index(index), _element(dtype))
            self._put(address, value, dtype, 1, None, False)
            return
        value = self.splat(value, self.lanes)
        if step == 1:
            changing = frozenset((self.vector,)) if self.vector is not None else frozenset()
            address, rest = self.base(buffer, index, changing)
            address = self.e.gep(address, self._first(rest), _element(dtype))
            self._put(address, value, dtype, self.lanes, mask, nontemporal)
            return
        self._scatter(buffer, index, value, dtype, mask)

    def store_interleaved(self, buffer: str, index: Index, values: list[Scalar]) -> None:
        """Write values that lie side by side in memory, from `index` on, for all lanes."""
        e, dtype = self.e, self.types[buffer].dtype
        changing = frozenset((self.vector,)) if self.vector is not None else frozenset()
        address, rest = self.base(buffer, index, changing)
        address = e.gep(address, self._first(rest), _element(dtype))
        parts: list[Val] = []
        for v in (self.splat(v, self.lanes) for v in values):
            parts += [v.re, v.im] if isinstance(v, Cx) else [store_value(e, v, dtype)]
        for k, part in enumerate(interleaved(e, parts)):
            e.store(part, e.gep(address, k * self.lanes, part.dtype))

    def _put(self, address: Val, value: Scalar, dtype: DType, lanes: int, mask: Val | None,
             nontemporal: bool) -> None:
        e = self.e
        if isinstance(value, Cx):
            if lanes == 1:
                e.store(value.re, address)
                e.store(value.im, e.gep(address, 1, dtype.real.name))
                return
            order = [i // 2 + (i % 2) * lanes for i in range(2 * lanes)]
            wide = None if mask is None else e.shuffle(mask, None, [i // 2 for i in
                                                                    range(2 * lanes)])
            e.store(e.shuffle(value.re, value.im, order), address, wide)
            return
        e.store(store_value(e, value, dtype), address, mask,
                align=64 if nontemporal else None, nontemporal=nontemporal)

    def _scatter(self, buffer: str, index: Index, value: Scalar, dtype: DType,
                 mask: Val | None) -> None:
        if isinstance(value, Cx):
            part = dtype.real.name
            for k, v in enumerate((value.re, value.im)):
                self._scattered(self._addresses(buffer, index, part, 2, k), v, mask)
            return
        raw = store_value(self.e, value, dtype)
        self._scattered(self._addresses(buffer, index, raw.dtype), raw, mask)

    def _scattered(self, addresses: Val, value: Val, mask: Val | None) -> None:
        e, n = self.e, self.lanes
        m = mask if mask is not None else e.const("i1", True, n)
        t, p = value.type, llvm_type("ptr", n)
        name = f"llvm.masked.scatter.{_suffix(value.dtype, n)}.v{n}p0"
        e.declares.add(f"declare void @{name}({t}, {p}, <{n} x i1>)")
        e.write(f"call void @{name}({t} {value.ref}, {p} align {max(1, _BYTES[value.dtype])} "
                f"{addresses.ref}, {m.type} {m.ref})")


_BYTES = {"bool": 1, "f16": 2, "bf16": 2, "f32": 4, "f64": 8,
          **{f"{s}{n}": n // 8 for s in "iu" for n in (8, 16, 32, 64)}}


def _element(dtype: DType) -> str:
    """The unit of address arithmetic for an element type; complex ones as two of their parts."""
    return {"c64": "i64", "c128": "c128"}.get(dtype.name, memory_type(dtype))


def _suffix(raw: str, lanes: int) -> str:
    short = {"f16": "f16", "bf16": "bf16", "f32": "f32", "f64": "f64"}.get(raw)
    return f"v{lanes}{short}" if short else f"v{lanes}i{8 * _BYTES[raw]}"


def _atom_changes(atom: object, changing: frozenset[Axis]) -> bool:
    if isinstance(atom, Axis):
        return atom in changing
    if isinstance(atom, Value):
        return bool(atom.expr.axes & changing or atom.expr.accs)
    return bool(Index(((atom, 1),)).axes & changing) or bool(  # type: ignore[arg-type]
        index_values(Index(((atom, 1),))))                     # type: ignore[arg-type]
