"""pow with AVX-512: y log x in pairs of floats, its logarithm begun by a table.

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
from weft.devices.cpu.math.lookup import exponent, lookup, mantissa, scale_by
from weft.devices.cpu.math.rare import any_lane
from weft.devices.cpu.math.tools import (
    absolute,
    at_most,
    bits,
    format_of,
    horner,
    pair_sum,
    real,
)

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
# The same in float64, for rows about the factors' inverses (see `_log_pair64`).
FACTOR64 = tuple(k / 64 for k in (64, 60, 57, 54, 51, 49, 46, 44, 84, 82, 78, 76, 74, 70, 68, 66))
HIGH64 = tuple(k * 2.0 ** -40 for k in (0, 70960854430, 127358428036, 186805966504, 249652307147,
                                        293638637728, 363104574691, 411979804512, -298994282159,
                                        -272498743996, -217511705065, -188951355727, -159629307968,
                                        -98529610469, -66657476617, -33833796510))
LOW64 = (0.0, 2.0614806739842207e-13, 2.509424976252708e-13, 4.383710744723666e-13,
         -2.3816104294194896e-13, -3.910278781883075e-13, -4.001352063965439e-13,
         2.9997833694248845e-13, 3.687042831583768e-13, -4.4171755371315547e-13,
         2.934191242140559e-13, -1.4088127937111135e-13, 7.718001336828099e-14,
         -3.811896486921138e-13, 2.795098818345971e-13, -4.529814257790929e-14)
LN2_64 = (0.6931471805592082, 7.371002565167799e-13)
# As CUBIC, |r| <= 0.0341: 2^-66.
CUBIC64 = (0.33333333333333337, -0.24999999999999253, 0.1999999999994568, -0.16666666673313885,
           0.14285714501056931, -0.12499981140159595, 0.11110796783892131, -0.10021293673862496,
           0.09248910329621289)
# (e^r - 1) / r, |r| <= log(2) / 32: 2^-56.9 relative to e^r; powers of 2^(1/16); log(2) / 16.
EXP64 = (1.0000000000000022, 0.49999999999999656, 0.16666666662859053, 0.04166666668646311,
         0.008333496055649805, 0.0013888727232937242)
POWERS64 = (1.0, 1.0442737824274138, 1.0905077326652577, 1.1387886347566916, 1.189207115002721,
            1.241857812073484, 1.2968395546510096, 1.3542555469368927, 1.4142135623730951,
            1.4768261459394993, 1.5422108254079407, 1.6104903319492543, 1.681792830507429,
            1.7562521603732995, 1.8340080864093424, 1.9152065613971474)
STEP64 = (0.043321698787622154, -2.625571920425678e-12)
LAST64 = 1.46875 - 2.0 ** -52    # the greatest number rounded to the row before that of 3/4
FAR = 4096.0                    # |y log x| from which the result is 0 or infinite beyond doubt


def pow_by_table(e: Emitter, x: Val, y: Val) -> Val:
    """x to the power y. Error seen: 1.03 ULP (f32), 1.4 (f64)."""
    high, low = (_log_pair if x.dtype == "f32" else _log_pair64)(e, absolute(e, x))
    t = high * y
    rest = e.fma(low, y, e.fma(high, y, -t))
    usual = (_exp_of_pair if x.dtype == "f32" else _exp_of_pair64)(e, t, rest)
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


def _exp_of_pair(e: Emitter, t: Val, rest: Val) -> Val:
    """e^(t + rest), unless t is too large."""
    shifter = format_of(t).shifter
    n = e.fma(t + rest, LOG2_E, shifter) - shifter
    ln2, ln2_rest = LN2["f32"]
    r = e.fma(n, -ln2, t) + e.fma(n, -ln2_rest, rest)
    return scale_by(e, horner(e, r, (1.0, 1.0, *EXP["f32"])), n)


def _exp_of_pair64(e: Emitter, t: Val, rest: Val) -> Val:
    """The same in float64, with 16 powers of 2^(1/16) from a table."""
    shifter = format_of(t).shifter
    z = e.fma(t + rest, 16 * LOG2_E, shifter)
    n = z - shifter
    step, step_rest = STEP64
    r = e.fma(n, -step, t) + e.fma(n, -step_rest, rest)
    power = lookup(e, bits(e, z), POWERS64)
    return scale_by(e, e.fma(power * r, horner(e, r, EXP64), power), n * (1 / 16))


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


def _log_pair64(e: Emitter, a: Val) -> tuple[Val, Val]:
    """The same in float64. A row of the tables ends half way between two factors' inverses.

    That keeps |r| to half as much about 1, where the error of the cubic term counts most.
    """
    m = mantissa(e, a)
    k = exponent(e, a) - exponent(e, m)
    index = (bits(e, at_most(e, m, LAST64)) + (1 << 47)) >> 48
    r = e.fma(m, lookup(e, index, FACTOR64), -1.0)
    high = e.fma(k, LN2_64[0], lookup(e, index, HIGH64))
    low = e.fma(k, LN2_64[1], lookup(e, index, LOW64))
    square = r * r
    square_rest = e.fma(r, r, -square)
    near = e.fma(square, -0.5, r)
    low = low + e.fma(square_rest, -0.5, e.fma(square, -0.5, r - near))
    total, total_rest = pair_sum(high, near)
    return total, total_rest + e.fma(square * r, horner(e, r, CUBIC64), low)


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
