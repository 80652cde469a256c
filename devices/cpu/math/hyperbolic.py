"""sinh, cosh and tanh, on the reduction and polynomials of exp.

With |x| = n ln 2 + r, sinh and cosh are the sums of
    sinh|x| = S cosh r + C sinh r,    cosh|x| = C cosh r + S sinh r,
S and C being (2^n -+ 2^-n) / 2: no large numbers cancel, and no quotient is rounded. tanh is
(p + q) / (p + q + 2) for e^2|x| - 1 = p + q; of float32, with AVX-512, a polynomial by pieces.
"""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.exp import EXP, reduce_exp
from weft.devices.cpu.math.lookup import OddPieces, has_avx512, odd_by_pieces
from weft.devices.cpu.math.tools import (
    absolute,
    at_most,
    copysign,
    format_of,
    horner,
    pair_sum,
    power_of_two,
)

__all__ = ["cosh", "sinh", "tanh"]

# (sinh(r) / r - 1) / r^2 and (cosh(r) - 1) / r^2 in r^2, |r| <= 0.3466: 2^-33 in f32, 2^-57 in f64.
SINH = {"f32": (0.1666666716337204, 0.00833317544311285, 0.00019974166934844106),
        "f64": (0.16666666666666677, 0.008333333333321208, 0.0001984126988776709,
                2.755724202458618e-06, 2.5109965824555343e-08)}
COSH = {"f32": (0.5, 0.041666459292173386, 0.0013935426250100136),
        "f64": (0.5000000000000013, 0.04166666666650811, 0.0013888888949607598,
                2.4801486632090925e-05, 2.7632655273428114e-07)}
TOP = {"f32": 90.0, "f64": 711.0}              # beyond, sinh and cosh overflow
# tanh in float32 by pieces, to 2^-25.4.
TANH_PIECES = OddPieces(9.02, 1.6629695, (
    (0.75725, 0.6394543, 0.59109825, -0.37798026, 0.044652596, 0.097426705, -0.062972285),
    (1.0551802, 0.78381217, 0.38563845, -0.30227232, 0.108385876, 0.016411014, -0.04041339),
    (1.3583659, 0.8760135, 0.23260027, -0.20376348, 0.10097612, -0.02016871, -0.011147472),
    (1.6598449, 0.9301963, 0.13473485, -0.12533061, 0.07167438, -0.024784142, 0.0019972003),
    (2.126856, 0.9719755, 0.055263657, -0.05371318, 0.033785783, -0.015001144, 0.0044932547),
    (2.7124462, 0.99122757, 0.017467948, -0.017312668, 0.011337332, -0.005540955, 0.002070164),
    (3.3163817, 0.9973704, 0.0052522616, -0.005237678, 0.003472413, -0.0017455748, 0.0006945769),
    (3.8807843, 0.9991488, 0.0017016917, -0.0017000277, 0.0011323879, -0.00057240424,
     0.0002154295),
    (4.7806726, 0.9998592, 0.0002815344, -0.00028081643, 0.00018788119, -0.00010003503,
     3.7678008e-05),
    (6.048782, 0.99998885, 2.2298533e-05, -2.223664e-05, 1.47412065e-05, -7.926816e-06,
     3.4086033e-06),
    (7.21915, 0.9999989, 2.1460078e-06, -2.1402836e-06, 1.4259235e-06, -7.644821e-07,
     3.0753614e-07),
    (8.358538, 0.9999999, 2.197509e-07, -3.2336684e-09, 8.091539e-08, -7.248556e-07,
     4.1361773e-07),
    (0.0, 0.0, 1.0, 7.794391e-07, -0.33337966, 0.00081708614, 0.12851758),
    (0.22174278, 0.21817851, 0.9523981, -0.20779215, -0.2721212, 0.12817156, 0.08231255),
    (0.373377, 0.356942, 0.8725924, -0.31146422, -0.17967929, 0.16747391, 0.01806484),
    (0.5209812, 0.47845694, 0.77107894, -0.36892754, -0.080503225, 0.16115952, -0.03441016)))
TANH_TOP = {"f32": 20.0, "f64": 40.0}          # of 2|x|: beyond, tanh rounds to 1


def _parts(e: Emitter, a: Val) -> tuple[Val, Val, Val, Val]:
    """(2^n - 2^-n) / 8, (2^n + 2^-n) / 8, sinh r and cosh r - 1, of a = n ln 2 + r >= 0."""
    fmt = format_of(a)
    z, r = reduce_exp(e, at_most(e, a, TOP[a.dtype]), fmt.bias - 3.0)
    up = power_of_two(e, z)                      # an eighth of 2^n, which itself might overflow
    down = e.like(a, 1 / 64) / up
    z = r * r
    return (up - down, up + down, e.fma(horner(e, z, SINH[a.dtype]), z * r, r),
            z * horner(e, z, COSH[a.dtype]))


def sinh(e: Emitter, x: Val) -> Val:
    """The hyperbolic sine. Error seen: 1.9 ULP (f32), 1.5 (f64)."""
    a = absolute(e, x)
    s, c, sinh_r, cosh_r1 = _parts(e, a)
    y = (s + e.fma(s, cosh_r1, c * sinh_r)) * 4.0
    tiny = a < 2.0 ** (-format_of(x).mantissa // 2 - 2)    # subnormals would lose bits on the way
    return copysign(e, e.select(tiny, a, y), x)


def cosh(e: Emitter, x: Val) -> Val:
    """The hyperbolic cosine. Error seen: 1.9 ULP (f32), 1.1 (f64)."""
    s, c, sinh_r, cosh_r1 = _parts(e, absolute(e, x))
    return (c + e.fma(c, cosh_r1, s * sinh_r)) * 4.0


def tanh(e: Emitter, x: Val) -> Val:
    """The hyperbolic tangent. Error seen: 1.9 ULP (f32; 1.05 by pieces), 1.4 (f64)."""
    if x.dtype == "f32" and has_avx512(e):
        return odd_by_pieces(e, x, TANH_PIECES)
    a = absolute(e, x)
    z, r = reduce_exp(e, at_most(e, a + a, TANH_TOP[x.dtype]), format_of(x).bias)
    s = power_of_two(e, z)
    p, rest = pair_sum(r, horner(e, r, EXP[x.dtype]) * (r * r))
    rest = s * rest
    m = e.fma(s, p, s - 1.0)
    d = m + 2.0
    t = m / d
    # What rounding p and d left, times 1 / d = (1 - t) / 2.
    t = e.fma(e.fma(t, 0.5, -0.5), e.fma(t, (m - (d - 2.0)) + rest, -rest), t)
    return copysign(e, at_most(e, t, 1.0), x)
