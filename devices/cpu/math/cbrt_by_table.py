"""cbrt with AVX-512, by a table of 12 roots.

x = 2^3n m with 1/2 <= m < 4; g, one of 12 roots of 24 bits, brings m / g^3 = 1 + r near 1. Then
cbrt(x) = 2^n (g + g r p(r)).
"""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.lookup import exponent, lookup, scale_by, significand
from weft.devices.cpu.math.tools import absolute, bits, copysign, format_of, horner

__all__ = ["cbrt_by_table"]

# The roots by the lowest two bits of the exponent of m and the highest two of its mantissa; g^-3.
ROOTS = (1.3084138631820679, 1.4031357765197754, 1.4819222688674927, 1.5552148818969727, 1.0, 1.0,
         1.0, 1.0, 0.8262845277786255, 0.8830137252807617, 0.9324525594711304, 0.9774638414382935,
         1.040583610534668, 1.1127890348434448, 1.1743590831756592, 1.2341434955596924)
INVERSES = (0.44644153117943924, 0.36199361086066756, 0.30727252363673424, 0.2658451795542129, 1.0,
            1.0, 1.0, 1.0, 1.772601604443327, 1.4524381160961337, 1.2334449291216538,
            1.0707741975904537, 0.8875014186048015, 0.725707292561394, 0.6174435615523005,
            0.5319894552204611)
# (cbrt(1 + r) - 1) / r on [-0.1137, 0.1162]: 2^-28 and 2^-55 relative to cbrt(1 + r).
TERMS = {
    "f32": (0.33333334, -0.111109234, 0.061723575, -0.041599017, 0.030745417),
    "f64": (0.3333333333333333, -0.11111111111120396, 0.061728395061777845, -0.04115226327487291,
            0.03017832643484663, -0.0234720663919606, 0.019001184808783555, -0.015829040258974258,
            0.013485360398155184, -0.012051938236027213, 0.010540400618148487),
}


def cbrt_by_table(e: Emitter, x: Val) -> Val:
    """The cube root of x. Error seen: 0.9 ULP (f32), 0.9 (f64)."""
    a = absolute(e, x)
    k = exponent(e, a)
    n = e.intrinsic("rint", k * (1 / 3))
    turn = e.fma(n, -3.0, k)                                    # -1, 0 or 1; NaN at 0, inf and NaN
    m = scale_by(e, significand(e, a), turn)
    index = bits(e, m) >> (format_of(x).mantissa - 2)
    root = lookup(e, index, ROOTS)
    r = e.fma(m, lookup(e, index, INVERSES), -1.0)
    y = scale_by(e, e.fma(root * r, horner(e, r, TERMS[x.dtype]), root), n)
    return copysign(e, e.select(e.unordered(turn, turn), a, y), x)
