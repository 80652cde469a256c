"""Integer division, shifts, gcd and powers, with NumPy's values where XLA's are its own.

Division by 0 gives 0, the least integer divided by -1 wraps to itself, and shifts by the width or
more give 0 or copies of the sign.
"""

from __future__ import annotations

from typing import Any

from jax import lax

from weft.compiler.types import dtype_of
from weft.devices.xla.floats import float_floor_divide, float_remainder
from weft.devices.xla.tools import (
    Lowering,
    absolute,
    both,
    is_float,
    is_signed,
    like,
    negative,
    pick,
    to,
    wide,
)

__all__ = ["INTEGERS", "integer_pow"]


def _truncated(x: Any, y: Any) -> Any:
    """x / y towards zero; 0 where y is 0, -x where y is -1."""
    zero = lax.eq(y, like(y, 0))
    if not is_signed(x):
        return pick(zero, 0, lax.div(x, pick(zero, 1, y)))
    turned = lax.eq(y, like(y, -1))
    q = lax.div(x, pick(lax.bitwise_or(zero, turned), 1, y))
    return pick(zero, 0, pick(turned, lax.neg(x), q))


def _floored(x: Any, y: Any) -> tuple[Any, Any]:
    q = _truncated(x, y)
    r = pick(lax.eq(y, like(y, 0)), 0, lax.sub(x, lax.mul(q, y)))
    if not is_signed(x):
        return q, r
    wrong = both(lax.ne(r, like(r, 0)), negative(lax.bitwise_xor(r, y)))
    return pick(wrong, lax.sub(q, like(q, 1)), q), pick(wrong, lax.add(r, y), r)


def _floor_divide(x: Any, y: Any) -> Any:
    return wide(float_floor_divide)(x, y) if is_float(x) else _floored(x, y)[0]


def _remainder(x: Any, y: Any) -> Any:
    return wide(float_remainder)(x, y) if is_float(x) else _floored(x, y)[1]


def _fmod(x: Any, y: Any) -> Any:
    if is_float(x):
        return wide(lax.rem)(x, y)
    return pick(lax.eq(y, like(y, 0)), 0, lax.sub(x, lax.mul(_truncated(x, y), y)))


def _shift(left: bool) -> Lowering:
    def lower(x: Any, n: Any) -> Any:
        bits = dtype_of(x.dtype).bits
        over = lax.bitwise_or(negative(n), lax.ge(n, like(n, bits)))
        inside = pick(over, 0, n)
        if left:
            return pick(over, 0, lax.shift_left(x, inside))
        if not is_signed(x):
            return pick(over, 0, lax.shift_right_logical(x, inside))
        return lax.shift_right_arithmetic(x, pick(over, bits - 1, n))
    return lower


def _common_divisor(x: Any, y: Any) -> Any:
    """Euclid's algorithm on magnitudes, until all elements are done."""
    def going(pair: Any) -> Any:
        return lax.reduce_or(lax.ne(pair[1], like(pair[1], 0)), tuple(range(pair[1].ndim)))

    def turn(pair: Any) -> Any:
        a, b = pair
        done = lax.eq(b, like(b, 0))
        return pick(done, a, b), pick(done, b, lax.rem(a, pick(done, 1, b)))

    return lax.while_loop(going, turn, (absolute(x), absolute(y)))[0]


def _gcd(x: Any, y: Any) -> Any:
    return to(_common_divisor(x, y), dtype_of(x.dtype))


def _lcm(x: Any, y: Any) -> Any:
    divisor = _common_divisor(x, y)
    none = lax.eq(divisor, like(divisor, 0))
    a = lax.div(absolute(x), pick(none, 1, divisor))
    return to(lax.mul(a, absolute(y)), dtype_of(x.dtype))


def integer_pow(x: Any, y: Any) -> Any:
    """x ** y for y >= 0, wrapped, by repeated squaring; meaningless for negative y."""
    def going(state: Any) -> Any:
        return lax.reduce_or(lax.ne(state[2], like(state[2], 0)), tuple(range(state[2].ndim)))

    def turn(state: Any) -> Any:
        out, base, power = state
        odd = lax.ne(lax.bitwise_and(power, like(power, 1)), like(power, 0))
        return (pick(odd, lax.mul(out, base), out), lax.mul(base, base),
                lax.shift_right_logical(power, like(power, 1)))

    return lax.while_loop(going, turn, (like(x, 1), x, y))[0]


INTEGERS: dict[str, Lowering] = {
    "floor_divide": _floor_divide, "remainder": _remainder, "fmod": _fmod,
    "shift_left": _shift(True), "shift_right": _shift(False), "gcd": _gcd, "lcm": _lcm,
}
