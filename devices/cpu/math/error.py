"""erf, through a polynomial for log erfc; erfc, through one for its scaled form e^(x^2) erfc(x)."""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.exp import EXP, expm1_parts, reduce_exp, scaled_down
from weft.devices.cpu.math.lookup import OddPieces, has_avx512, odd_by_pieces
from weft.devices.cpu.math.tools import (
    absolute,
    at_most,
    copysign,
    horner,
    pair_product,
    pair_sum,
    power_of_two,
    round_shifted,
)

__all__ = ["erf", "erfc"]

# -log(erfc(t)) / t - 1 in t, 0 <= t <= 4 (f32) and 6 (f64): 2^-27.4 and 2^-54.7 relative to erf.
LOG_ERFC = {
    "f32": (0.12837916612625122, 0.6366198062896729, 0.10277127474546432, -0.019117694348096848,
            -0.0002530611236579716, 0.001799353864043951, -0.0007399431196972728,
            0.00016624428099021316, -2.068974390567746e-05, 1.0780262300613686e-06),
    "f64": (0.12837916709551256, 0.6366197723675909, 0.1027726033013189, -0.019128446993157,
            -0.00020919485335579296, 0.0016962076669266382, -0.0005901324211638517,
            2.5904485389598633e-05, 6.442047067146343e-05, -2.957560009977816e-05,
            3.169485934519697e-06, 3.133265949266295e-06, -2.0375377873184517e-06,
            5.709317152129687e-07, -1.1904215134367448e-08, -6.563417692611067e-08,
            3.454570657167273e-08, -1.0761406657173796e-08, 2.3577214069135537e-09,
            -3.755802106246279e-10, 4.295517098842055e-11, -3.3588642305114763e-12,
            1.6119312534743568e-13, -3.584924825345352e-15)}
# erf in float32 by pieces, to 2^-25.1.
ERF_PIECES = OddPieces(3.93, 3.81679, (
    (0.32812437, 0.35737944, 1.013203, -0.33245638, -0.26500615, 0.15405256, 0.058943707),
    (0.45806313, 0.4828851, 0.91480935, -0.41904017, -0.17696637, 0.17994589, 0.019336307),
    (0.587481, 0.5939267, 0.79903406, -0.46941704, -0.082497865, 0.1804517, -0.01750877),
    (0.7219831, 0.6927637, 0.67000014, -0.48372874, 0.00951468, 0.15769368, -0.05109862),
    (0.90571564, 0.79976255, 0.4968145, -0.44997194, 0.10609257, 0.101803094, -0.06851276),
    (1.1807603, 0.9050504, 0.2798749, -0.33046752, 0.16684394, 0.012100059, -0.055582386),
    (1.4319372, 0.9571393, 0.14519732, -0.20791587, 0.15006363, -0.037665308, -0.022157896),
    (1.7110374, 0.9844698, 0.0603939, -0.10333755, 0.09775376, -0.048930403, 0.0036031352),
    (2.0793674, 0.99672496, 0.014950677, -0.031086417, 0.038131014, -0.029357212, 0.012484328),
    (2.6133003, 0.9997808, 0.0012203936, -0.003184731, 0.005152149, -0.005883726, 0.004373637),
    (3.1488185, 0.99999154, 5.5790137e-05, -0.00017475779, 0.000347992, -0.0005324328,
     0.00056080305),
    (3.6911747, 0.9999998, 1.3697066e-06, -4.9888463e-06, 1.1547282e-05, -2.2864968e-05,
     3.4009598e-05),
    (0.0, 0.0, 0.12837917, 4.671442e-07, -0.3761623, 0.0008897598, 0.10584654),
    (0.09539431, 0.10731533, 1.1181574, -0.106666066, -0.36584517, 0.053373456, 0.041791793),
    (0.16087636, 0.17997555, 1.09955, -0.17689168, -0.34746942, 0.08704372, 0.046908513),
    (0.23004217, 0.25506774, 1.0702184, -0.24619552, -0.3187859, 0.11898271, -0.047503818)),
    identity=True)
ERF_TOP = {"f32": 4.0, "f64": 6.0}             # beyond, erf rounds to 1
# e^(a^2) erfc(a) (1 + 2a) - 1 in q = (a - K) / (a + K): for float32 (evaluated in float64) with
# K = 3, 0 <= a <= 10.6, to 2^-28.7; for float64 with K = 4, 1/2 <= a <= 28, to 2^-55.6.
ERFC = {
    "f32": (0.2530080596213549, -0.13562114316241927, -0.0475624528851465, 0.12964649724584262,
            -0.11927006130546605, 0.06829580400572544, -0.023802485448065538,
            0.002563036459046183, 0.0020090511005657692, -0.000765517719435655,
            -0.00026343202466333075),
    "f64": (0.2329951186255525, -0.1396211168405625, 0.01537965210261891, 0.06809705425468973,
            -0.10103906603624609, 0.09373283499847414, -0.06633036581380017, 0.03716751553502819,
            -0.016197734034138676, 0.005031970005552281, -0.0007577734941458704,
            -0.00019925688720171238, 0.00015062275830138308, -2.4398340079950816e-05,
            -1.1225584852329044e-05, 5.707112460996325e-06, 3.011198165567299e-07,
            -8.203000562707952e-07, 6.55104815129003e-08, 1.0379547398303018e-07,
            -1.1619902799377298e-08, -9.798767892142212e-09)}
# erf(x) / x - 1 in x^2, |x| <= 1/2: 2^-57.9.
ERF_NEAR = (0.12837916709551253, -0.3761263890318278, 0.11283791670890587, -0.02686617062518177,
            0.005223977282805316, -0.000854829171653928, 0.000120531016558648,
            -1.484097217990915e-05, 1.4683132542078382e-06)
LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453


def erf(e: Emitter, x: Val) -> Val:
    """The error function, as 1 - e^(log erfc|x|): one polynomial for the logarithm, then expm1.

    With AVX-512, of float32: a polynomial by pieces.
    Error seen: 1.95 ULP (f32; 1.0 by pieces), 1.7 (f64).
    """
    if x.dtype == "f32" and has_avx512(e):
        return odd_by_pieces(e, x, ERF_PIECES)
    t = at_most(e, absolute(e, x), ERF_TOP[x.dtype])
    q = e.fma(horner(e, t, LOG_ERFC[x.dtype]), -t, -t)
    s, p = expm1_parts(e, q)
    return copysign(e, e.fma(s, p, s - 1.0), x)


def erfc(e: Emitter, x: Val) -> Val:
    """1 - erf(x), with small relative error where it is tiny.

    Error seen: 0.61 ULP (f32), 1.4 (f64).
    """
    return _erfc32(e, x) if x.dtype == "f32" else _erfc64(e, x)


def _erfc32(e: Emitter, x: Val) -> Val:
    """erfc of float32, by float64, in which no rounding matters and nothing underflows."""
    wide = e.convert(x, "f64")
    a = at_most(e, absolute(e, wide), 10.6)
    g = (horner(e, (a - 3.0) / (a + 3.0), ERFC["f32"]) + 1.0) / e.fma(a, 2.0, 1.0)
    square = a * -a
    z, n = round_shifted(e, square, LOG2_E, 1023.0)
    y = horner(e, e.fma(n, -LN2, square), (1.0, 1.0, *EXP["f32"])) * power_of_two(e, z) * g
    return e.convert(e.select(wide < 0.0, 2.0 - y, y), "f32")


def _erfc64(e: Emitter, x: Val) -> Val:
    """erfc of float64: x^2 and the quotient that e^(-x^2) multiplies are kept as pairs."""
    size = absolute(e, x)
    a = at_most(e, size, 28.0)
    p = horner(e, (a - 4.0) / (a + 4.0), ERFC["f64"])
    above, above_rest = pair_sum(e.like(a, 1.0), p)
    below, below_rest = pair_sum(a + a, e.like(a, 1.0))
    g = above / below
    back, back_rest = pair_product(e, g, below)
    g_rest = (((above - back) - back_rest) + above_rest - g * below_rest) / below
    square, square_rest = pair_product(e, a, a)
    z, r = reduce_exp(e, -square, 2.0 * 1023)
    r = r - square_rest
    m = e.fma(horner(e, r, EXP["f64"]), r * r, r)          # e^r - 1
    y = scaled_down(e, g + e.fma(g, m, e.fma(g_rest, m, g_rest)), z)
    y = e.select(x < 0.0, 2.0 - y, y)
    near = 1.0 - e.fma(horner(e, x * x, ERF_NEAR), x, x)
    return e.select(size < 0.5, near, y)
