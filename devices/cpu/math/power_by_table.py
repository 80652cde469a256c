"""pow of float32 with AVX-512: y log x in pairs of float32, its logarithm begun by a table.

x = 2^k (1 + r) / c for one of 16 factors c as in `log_by_table`, r being exact, and
log x = (k log 2 - log c) + (r - r^2 / 2) + r^3 q(r), of which the brackets are formed as pairs.
Zeros, infinities, NaN, negative x and results far out of range are put right in a branch, which is
taken if any lane needs it.
"""

from __future__ import annotations

import math

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.exp import EXP, LN2, LOG2_E
from weft.devices.cpu.math.log_by_table import reduce_log
from weft.devices.cpu.math.lookup import lookup, scale_by
from weft.devices.cpu.math.rare import any_lane
from weft.devices.cpu.math.tools import absolute, bits, format_of, horner, pair_sum, real

__all__ = ["pow_by_table", "with_sign"]

# -log of the factors in two parts: the first, as that of log 2, has so few bits that their sum for
# any k is exact.
LOG_HIGH = tuple(k * 2.0 ** -16 for k in (0, 6451, 8751, 13608, 16178, 18854, 21643, 24556, -17821,
                                          -14624, -11262, -11262, -7719, -3973, -3973, 0))
LOG_LOW = (0.0, 5.624571258522337e-06, 1.72953855326341e-06, -2.236784212072962e-06,
           3.388478489796398e-06, -7.136532531148987e-06, -4.284809165255865e-06,
           -1.3747772982242168e-06, -6.835600743215764e-06, 9.799357485462679e-07,
           -5.774504643341061e-06, -5.774504643341061e-06, -4.428829356584174e-07,
           -1.452871174478787e-06, -1.452871174478787e-06, 0.0)
LN2_HIGH, LN2_LOW = 0.693145751953125, 1.428606765330187e-06
# (log(1 + r) - r + r^2 / 2) / r^3 on [-0.0371, 0.0625]: 2^-32.8 relative to log(1 + r).
CUBIC = (0.333333283662796, -0.2500119209289551, 0.20018050074577332, -0.15796510875225067)
FAR = 4096.0                    # |y log x| from which the result is 0 or infinite beyond doubt


def pow_by_table(e: Emitter, x: Val, y: Val) -> Val:
    """x to the power y, both float32. Error seen: 1.03 ULP."""
    high, low = _log_pair(e, absolute(e, x))
    t = high * y
    rest = e.fma(low, y, e.fma(high, y, -t))
    shifter = format_of(x).shifter
    n = e.fma(t + rest, LOG2_E, shifter) - shifter
    ln2, ln2_rest = LN2["f32"]
    r = e.fma(n, -ln2, t) + e.fma(n, -ln2_rest, rest)
    usual = scale_by(e, horner(e, r, (1.0, 1.0, *EXP["f32"])), n)
    rare = (x < 0.0) | ~(absolute(e, t) < FAR)
    yes, done, before = e.fresh("rare"), e.fresh("usual"), e.block
    e.branch(any_lane(e, rare), yes, done)
    e.label(yes)
    special = _special(e, x, y, t, usual)
    after = e.block
    e.jump(done)
    e.label(done)
    return e.assign(f"phi {usual.type} [{usual.ref}, %{before}], [{special.ref}, %{after}]",
                    usual.dtype, usual.lanes)


def _log_pair(e: Emitter, a: Val) -> tuple[Val, Val]:
    """log a as a pair; the first is right at 0, inf and NaN too."""
    k, r, index = reduce_log(e, a)
    high = e.fma(k, LN2_HIGH, lookup(e, index, LOG_HIGH))
    low = e.fma(k, LN2_LOW, lookup(e, index, LOG_LOW))
    square = r * r
    square_rest = e.fma(r, r, -square)
    near = e.fma(square, -0.5, r)
    low = low + e.fma(square_rest, -0.5, e.fma(square, -0.5, r - near))
    total, total_rest = pair_sum(high, near)
    return total, total_rest + e.fma(square * r, horner(e, r, CUBIC), low)


def _special(e: Emitter, x: Val, y: Val, t: Val, usual: Val) -> Val:
    """The power, with the special values of C99's Annex F, given t = y log |x|."""
    r = e.select(t > FAR, math.inf, e.select(t < -FAR, 0.0, usual))
    one = x.eq(1.0) | y.eq(0.0) | (x.eq(-1.0) & absolute(e, y).eq(math.inf))
    return with_sign(e, x, y, e.select(one, 1.0, r))


def with_sign(e: Emitter, x: Val, y: Val, r: Val) -> Val:
    """x^y from r = |x|^y: NaN for finite x < 0 if y is not an integer, negative if it is odd."""
    whole, odd = _parity(e, y)
    sign = e.select(odd, bits(e, x) & format_of(x).sign_bit, 0)
    undefined = (x < 0.0) & (x > -math.inf) & ~whole
    return e.select(undefined, math.nan, real(e, bits(e, r) ^ sign))


def _parity(e: Emitter, y: Val) -> tuple[Val, Val]:
    """Is y an integer (inf counts, NaN not), is it an odd one. Adding 2^mantissa rounds."""
    a = absolute(e, y)
    unit = 2.0 ** format_of(y).mantissa
    half = a * 0.5
    whole = ((a + unit) - unit).eq(a) | (a >= unit)
    even = ((half + unit) - unit).eq(half) | (a >= 2 * unit)
    return whole, whole & ~even
