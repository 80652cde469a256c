"""Integer division, gcd, lcm and power, with NumPy's values where C's are undefined.

Division by 0 gives 0, and the least integer by -1 wraps to itself. Up to 32 bits the quotient is
taken in floating point wide enough to truncate exactly (vectors have no integer division); 64-bit
division is one machine instruction a lane, with the divisors that would trap replaced beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weft.devices.cpu.emit import BITS, Emitter, Val
from weft.devices.cpu.math.rare import any_lane
from weft.devices.cpu.math.tools import same, truncate

__all__ = ["floor_divide", "fmod", "gcd", "integer_pow", "lcm", "remainder"]


def _truncated(e: Emitter, x: Val, y: Val) -> Val:
    """x / y towards zero; 0 where y is 0, -x where y is -1."""
    zero = y.eq(0)
    trap = zero | y.eq(-1) if y.dtype[0] == "i" else zero
    safe = e.select(trap, 1, y)
    if BITS[x.dtype] == 64:
        q = x / safe
    else:
        wide, whole = ("f32", "i32") if BITS[x.dtype] < 32 else ("f64", x.dtype)
        q = truncate(e, e.convert(x, wide) / e.convert(safe, wide))
        q = e.convert(e.convert(q, whole), x.dtype)
    if y.dtype[0] == "i":
        q = e.select(y.eq(-1), -x, q)
    return e.select(zero, 0, q)


def _floored(e: Emitter, x: Val, y: Val) -> tuple[Val, Val]:
    """Quotient and remainder of floor division; both 0 where y is 0."""
    q = _truncated(e, x, y)
    r = e.select(y.eq(0), 0, x - q * y)
    if x.dtype[0] == "u":
        return q, r
    wrong = r.ne(0) & ((r ^ y) < 0)
    return e.select(wrong, q - 1, q), e.select(wrong, r + y, r)


def floor_divide(e: Emitter, x: Val, y: Val) -> Val:
    """floor(x / y)."""
    return _floored(e, *same(e, x, y))[0]


def remainder(e: Emitter, x: Val, y: Val) -> Val:
    """x - y floor(x / y), with the sign of y."""
    return _floored(e, *same(e, x, y))[1]


def fmod(e: Emitter, x: Val, y: Val) -> Val:
    """x - y trunc(x / y), with the sign of x."""
    x, y = same(e, x, y)
    return e.select(y.eq(0), 0, x - _truncated(e, x, y) * y)


def _while_any(e: Emitter, carry: Sequence[Val], active: int,
               step: Callable[[list[Val]], list[Val]]) -> list[Val]:
    """Repeat `step` on the carried values until the one numbered `active` is 0 in all lanes."""
    head, body, done, before = e.fresh("while"), e.fresh("turn"), e.fresh("end"), e.block
    e.jump(head)
    e.label(head)
    slot = len(e.lines)
    phis = [Val(e, f"%w{k}.{head}", c.dtype, c.lanes) for k, c in enumerate(carry)]
    e.branch(any_lane(e, phis[active].ne(0)), body, done)
    e.label(body)
    after = step(phis)
    e.lines[slot:slot] = [
        f"  {p.ref} = phi {p.type} [{c.ref}, %{before}], [{a.ref}, %{e.block}]"
        for p, c, a in zip(phis, carry, after)]
    e.jump(head)
    e.label(done)
    return phis


def _magnitude(e: Emitter, x: Val) -> Val:
    """|x|, as unsigned."""
    unsigned = e.bitcast(x, "u" + x.dtype[1:])
    return e.bitcast(e.select(x < 0, -x, x), "u" + x.dtype[1:]) if x.dtype[0] == "i" else unsigned


def _trailing_zeros(e: Emitter, x: Val) -> Val:
    """The number of zero bits below the lowest one; for 0 the width less one, a valid shift."""
    low = e.like(x, 1 << (BITS[x.dtype] - 1)) | x
    suffix = f"v{x.lanes}i{BITS[x.dtype]}" if x.lanes > 1 else f"i{BITS[x.dtype]}"
    e.declares.add(f"declare {x.type} @llvm.cttz.{suffix}({x.type}, i1)")
    return e.assign(f"call {x.type} @llvm.cttz.{suffix}({x.type} {low.ref}, i1 true)",
                    x.dtype, x.lanes)


def gcd(e: Emitter, x: Val, y: Val) -> Val:
    """The greatest common divisor (Stein's algorithm: shifts and subtractions, on all lanes)."""
    x, y = same(e, x, y)
    a, b = _magnitude(e, x), _magnitude(e, y)
    twos = _trailing_zeros(e, a | b)
    a0 = e.select(a.eq(0), b, a)                     # the loop keeps a odd, and ends with b = 0
    a0 = a0 >> _trailing_zeros(e, a0)

    def step(values: list[Val]) -> list[Val]:
        a, b = values
        b = b >> _trailing_zeros(e, b)               # stays 0 if it is
        less = (b < a) & b.ne(0)
        return [e.select(less, b, a), e.select(less, a - b, e.select(b.eq(0), b, b - a))]

    a, _ = _while_any(e, [a0, b], 1, step)
    return e.bitcast(a << twos, x.dtype)


def lcm(e: Emitter, x: Val, y: Val) -> Val:
    """The least common multiple, wrapped into range; 0 if either is 0."""
    x, y = same(e, x, y)
    a, b = _magnitude(e, x), _magnitude(e, y)
    divisor = _magnitude(e, gcd(e, x, y))
    return e.bitcast(_truncated(e, a, divisor) * b, x.dtype)


def integer_pow(e: Emitter, x: Val, y: Val) -> Val:
    """x to the power y >= 0, wrapped into range, by repeated squaring.

    NumPy refuses negative powers; here they end too, with a meaningless value.
    """
    x, y = same(e, x, y)

    def step(values: list[Val]) -> list[Val]:
        out, base, power = values
        odd = (power & 1).ne(0)
        return [e.select(odd, out * base, out), base * base, power >> 1]

    power = e.bitcast(y, "u" + y.dtype[1:])
    return _while_any(e, [e.like(x, 1), x, power], 2, step)[0]
