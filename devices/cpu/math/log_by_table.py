"""Logarithms with AVX-512: no quotient and no special cases, by a table of 16 factors.

x = 2^k m with 3/4 <= m < 3/2. A factor c of few bits brings m c = 1 + r within 1/16 of 1; it is 1
for m next to 1. Then log x = (k log 2 - log c) + r p(r), to any base. At 0 and inf k is infinite
and r is 0; below 0 m is NaN.
"""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.lookup import exponent, lookup, mantissa, scale_by
from weft.devices.cpu.math.tools import bits, copysign, format_of, horner

__all__ = ["FACTOR", "log1p_by_table", "log_by_table", "reduce_log"]

# The factors, by the highest four bits of the mantissa of m, and -log of each to three bases.
FACTOR = tuple(k / 32 for k in (32, 29, 28, 26, 25, 24, 23, 22, 42, 40, 38, 38, 36, 34, 34, 32))
LOGS = {
    "log": (0.0, 0.09844007281325252, 0.13353139262452263, 0.2076393647782445, 0.24686007793152578,
            0.2876820724517809, 0.33024168687057687, 0.3746934494414107, -0.27193371548364176,
            -0.22314355131420976, -0.17185025692665923, -0.17185025692665923, -0.11778303565638346,
            -0.06062462181643484, -0.06062462181643484, 0.0),
    "log2": (0.0, 0.14201900487242788, 0.19264507794239588, 0.2995602818589078, 0.3561438102252753,
             0.4150374992788438, 0.4764380439429871, 0.5405683813627028, -0.3923174227787603,
             -0.32192809488736235, -0.2479275134435855, -0.2479275134435855, -0.16992500144231237,
             -0.0874628412503394, -0.0874628412503394, 0.0),
    "log10": (0.0, 0.04275198042094989, 0.057991946977686754, 0.09017663034908802,
              0.10720996964786837, 0.12493873660829995, 0.1434221423023131, 0.16272729749769974,
              -0.11809931207799448, -0.09691001300805642, -0.07463361829690418,
              -0.07463361829690418, -0.05115252244738129, -0.02632893872234915,
              -0.02632893872234915, 0.0),
}
# log(1 + r) / r on [-0.0371, 0.0625]: 2^-25.3 and 2^-55 and better.
SERIES = {
    ("log", "f32"): (1.0, -0.4999999, 0.33334514, -0.25025055, 0.19098492),
    ("log", "f64"): (1.0, -0.4999999999999983, 0.33333333333359527, -0.25000000001370326,
                     0.1999999991929404, -0.16666663331689185, 0.14285783744366176,
                     -0.12503193881730915, 0.11105662330330497, -0.08960889690812655),
    ("log2", "f32"): (1.442695, -0.7213474, 0.48094022, -0.36125353, 0.2725954),
    ("log2", "f64"): (1.4426950408889634, -0.7213475204444793, 0.48089834696336575,
                      -0.3606737602420105, 0.28853900701345175, -0.24044912536793916,
                      0.20610029363209248, -0.18038295808446417, 0.16022523875911457,
                      -0.12935018862851622),
    ("log10", "f32"): (0.4342945, -0.2171472, 0.14475062, -0.108665116, 0.087484285),
    ("log10", "f64"): (0.4342944819032518, -0.21714724095162516, 0.14476482730122353,
                       -0.10857362048193582, 0.08685889599407688, -0.07238239881390998,
                       0.06204238936108346, -0.05430093613454844, 0.04823041613332086,
                       -0.03890434324222936),
}
# Factors for log1p of float32, of 24 bits (r need not be exact there), of which -log is nearly
# k 2^-16; and the logarithm of 2 as a short number and the rest.
FACTOR_1P = (1.0, 0.9307239055633545, 0.8628961443901062, 0.8212983012199402, 0.7794308662414551,
             0.7459316253662109, 0.7108720541000366, 0.6792613863945007, 1.303410291671753,
             1.2577115297317505, 1.2099723815917969, 1.1621285676956177, 1.1219309568405151,
             1.086948275566101, 1.0359870195388794, 1.0)
LOG_1P = tuple(k * 2.0 ** -16 for k in (0, 4705, 9664, 12902, 16331, 19210, 22365, 25346, -17366,
                                        -15027, -12491, -9847, -7540, -5464, -2317, 0))
LN2_1P = (0.693145751953125, 1.428606765330187e-06)
# The logarithm of 2 in parts, of which the last comes first: in one, where its rounding is small.
TWO = {("log", "f32"): (0.6931471805599453,), ("log", "f64"): (0.6931471805599453,),
       ("log2", "f32"): (1.0,), ("log2", "f64"): (1.0,),
       ("log10", "f32"): (4.605038611771306e-06, 0.301025390625),
       ("log10", "f64"): (2.8363394551044964e-14, 0.30102999566395283)}


def reduce_log(e: Emitter, x: Val) -> tuple[Val, Val, Val]:
    """k, r (exact) and the index of the factor, of x >= 0."""
    m = mantissa(e, x)
    k = exponent(e, x) - exponent(e, m)
    index = bits(e, m) >> (format_of(x).mantissa - 4)
    return k, e.fma(m, lookup(e, index, FACTOR), -1.0), index


def log_by_table(e: Emitter, x: Val, base: str) -> Val:
    """The logarithm of x: "log", "log2" or "log10"."""
    k, r, index = reduce_log(e, x)
    whole = lookup(e, index, LOGS[base])
    for part in TWO[base, x.dtype]:
        whole = e.fma(k, part, whole) if part != 1.0 else k + whole
    return e.fma(r, horner(e, r, SERIES[base, x.dtype]), whole)


def log1p_by_table(e: Emitter, x: Val, rest: Val | None) -> Val:
    """log(1 + x + rest) of float32, k and the factor being taken from 1 + x rounded.

    With a rest, -0 gives 0.
    """
    u = x + 1.0
    m = mantissa(e, u)
    minus = exponent(e, m) - exponent(e, u)
    s = scale_by(e, e.like(x, 1.0), minus)
    f = e.fma(x, s, s - 1.0)
    index = bits(e, m) >> (format_of(x).mantissa - 4)
    factor = lookup(e, index, FACTOR_1P)
    r = e.fma(f, factor, factor - 1.0)
    whole = e.fma(minus, -LN2_1P[0], lookup(e, index, LOG_1P))       # exact
    low = minus * -LN2_1P[1]
    if rest is not None:
        low = e.fma(rest * s, factor, low)                          # 1 / (1 + x) is nearly s factor
    y = e.fma(r, horner(e, r, SERIES["log", x.dtype]), low) + whole
    y = e.select(e.unordered(f, f), whole, y)                       # infinite k makes f NaN
    return copysign(e, y, x) if rest is None else y
