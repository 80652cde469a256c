"""Accumulators of reductions: how values are taken in, joined and finished."""

from __future__ import annotations

import numpy as np

from weft.compiler.kernel.ir import Reduce
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DType
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.lower import REAL, Scalar, reg
from weft.devices.cpu.lower_complex import COMPLEX, Cx

__all__ = ["Accumulator", "accumulator", "compensated", "two_sum"]

State = list[Val]
_COMBINE = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum", "and": "and",
            "or": "or"}


@dataclass(frozen=True)
class Accumulator:
    """The running state of one reduction, held in registers.

    `op` is a reduction of the kernel IR and `dtype` the type of the values taken in. A state is
    the real parts of the running value; for argmax and argmin, the value and its position, which
    is an i32 where `narrow` says that this is wide enough, else an i64.
    """

    op: str
    dtype: DType
    narrow: bool = False

    @property
    def position(self) -> str:
        """The type in which positions are kept."""
        return "i32" if self.narrow else "i64"

    @property
    def is_arg(self) -> bool:
        """Whether positions are tracked."""
        return self.op in ("argmax", "argmin")

    @property
    def is_blocked(self) -> bool:
        """Whether long runs are added up in blocks with compensation between them."""
        return self.op == "sum" and self.dtype.is_inexact

    def start(self, e: Emitter, lanes: int, first: Val | None = None) -> State:
        """The state before any value; `first` is the position of each lane's first value."""
        part = reg(self.dtype.real)
        value = [e.const(part, c, lanes) for c in self._identity()]
        return [*value, e.splat(first, lanes)] if first is not None else value

    def _identity(self) -> list[float | int | bool]:
        d = self.dtype
        if self.op in ("max", "argmax", "min", "argmin"):
            low = self.op in ("max", "argmax")
            if d.is_inexact:
                edge: float | int | bool = -np.inf if low else np.inf
            elif d.kind == "bool":
                edge = not low
            else:
                edge = int(np.iinfo(d.numpy).min if low else np.iinfo(d.numpy).max)
            return [edge, edge] if d.is_complex else [edge]
        one: float | int | bool = {"sum": 0, "prod": 1, "and": True, "or": False}[self.op]
        return [one, 0] if d.is_complex else [one]

    def alone(self, e: Emitter, value: Scalar) -> Scalar:
        """The result where there is only one value."""
        parts = [value.re, value.im] if isinstance(value, Cx) else [value]
        return self.result(self.join(e, self.start(e, value.lanes), parts))

    def take(self, e: Emitter, state: State, value: Scalar, mask: Val | None,
             position: Val | None = None) -> State:
        """The state after one more value in each live lane."""
        parts = [value.re, value.im] if isinstance(value, Cx) else [value]
        lanes = state[0].lanes
        parts = [e.splat(p, lanes) for p in parts]
        if self.is_arg:
            assert position is not None
            position = e.splat(e.convert(position, self.position), lanes)
            return self._take_arg(e, state, parts, mask, position)
        if mask is not None:
            parts = [e.select(mask, p, e.const(p.dtype, c, lanes))
                     for p, c in zip(parts, self._identity())]
        return self.join(e, state, parts)

    def _take_arg(self, e: Emitter, state: State, parts: State, mask: Val | None,
                  position: Val) -> State:
        better, _ = self._beats(e, parts, state[:-1])
        if mask is not None:
            better = better & mask
        new = [*parts, position]
        return [e.select(better, a, b) for a, b in zip(new, state)]

    def _beats(self, e: Emitter, a: State, b: State) -> tuple[Val, Val]:
        """Whether value a comes before value b, and whether they rank equally; NaN beats all."""
        how = "gt" if self.op == "argmax" else "lt"
        if self.dtype.is_complex:
            za, zb = Cx(*a), Cx(*b)
            better, same = COMPLEX[how](e, za, zb), COMPLEX["eq"](e, za, zb)
            nan_a, nan_b = e.unordered(*a), e.unordered(*b)
        else:
            x, y = (e.convert(v, "u8") if v.dtype == "i1" else v for v in (a[0], b[0]))
            if not x.is_float:
                return e.compare(how, x, y), x.eq(y)
            nan_a, nan_b = e.unordered(x, x), e.unordered(y, y)
            either = e.assign(f"fcmp u{how} {x.type} {x.ref}, {y.ref}", "i1", x.lanes)
            return either & ~nan_b, x.eq(y) | (nan_a & nan_b)
        return (better & ~nan_b) | (nan_a & ~nan_b), same | (nan_a & nan_b)

    def join(self, e: Emitter, a: State, b: State) -> State:
        """Two states as one."""
        if self.is_arg:
            return self._join_arg(e, a, b)
        name = _COMBINE[self.op]
        if self.dtype.is_complex:
            out = COMPLEX[name](e, Cx(*a), Cx(*b))
            return [out.re, out.im]
        return [REAL[name](e, a[0], b[0])]

    def _join_arg(self, e: Emitter, a: State, b: State) -> State:
        better, same = self._beats(e, b[:-1], a[:-1])
        take = better | (same & (b[-1] < a[-1]))
        return [e.select(take, y, x) for x, y in zip(a, b)]

    def across(self, e: Emitter, state: State) -> State:
        """All lanes joined into one, by halves."""
        lanes = state[0].lanes
        if self.is_arg and not self.dtype.is_complex and lanes > 1:
            return self._first_best(e, *state)
        while lanes > 1:
            half = lanes // 2
            low = [e.shuffle(v, None, range(half)) for v in state]
            high = [e.shuffle(v, None, range(half, lanes)) for v in state]
            state = self.join(e, [_one(e, v) for v in low], [_one(e, v) for v in high])
            lanes = half
        return state

    def _first_best(self, e: Emitter, values: Val, positions: Val) -> State:
        """The best of the lanes' values, then the first of the positions where it is."""
        (best,) = Accumulator(self.op[3:], self.dtype).across(e, [values])
        wide = e.splat(best, values.lanes)
        same = ~(values ^ wide) if values.dtype == "i1" else values.eq(wide)
        if values.is_float:
            same = same | (e.unordered(values, values) & e.unordered(wide, wide))
        last = (1 << (31 if self.narrow else 63)) - 1
        rest = e.select(same, positions, last)
        while rest.lanes > 1:
            n = rest.lanes
            low, high = (_one(e, e.shuffle(rest, None, range(at, at + n // 2)))
                         for at in (0, n // 2))
            rest = e.intrinsic("smin", low, high)
        return [best, rest]

    def result(self, state: State) -> Scalar:
        """The value of a finished state."""
        if self.is_arg:
            return state[-1].e.convert(state[-1], "i64")
        return Cx(*state) if self.dtype.is_complex else state[0]


def _one(e: Emitter, v: Val) -> Val:
    """A vector of one lane as a scalar."""
    if v.lanes > 1 or not v.ref.startswith("%"):
        return v
    return e.assign(f"extractelement <1 x {v.type}> {v.ref}, i64 0", v.dtype)


def two_sum(e: Emitter, total: Val, rest: Val, x: Val) -> tuple[Val, Val]:
    """total + x, and the compensation with this addition's rounding error (Knuth's two-sum)."""
    s = total + x
    b = s - total
    return s, rest + ((total - (s - b)) + (x - b))


def compensated(e: Emitter, total: Val, rest: Val) -> Val:
    """The sum with its compensation; without it where infinities made that NaN."""
    return e.select(e.unordered(rest, rest), total, total + rest)


def accumulator(r: Reduce, turns: int | None = None) -> Accumulator:
    """The accumulator of a reduction, of at most so many turns if that is known."""
    arg = r.op in ("argmax", "argmin")
    return Accumulator(r.op, r.value.dtype if arg else r.dtype,
                       arg and turns is not None and turns < 1 << 31)
