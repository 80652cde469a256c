"""erf and erfc."""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.exp import expm1_parts
from weft.devices.cpu.math.tools import absolute, at_most, copysign, horner

__all__ = ["erf"]

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
ERF_TOP = {"f32": 4.0, "f64": 6.0}             # beyond, erf rounds to 1


def erf(e: Emitter, x: Val) -> Val:
    """The error function, as 1 - e^(log erfc|x|): one polynomial for the logarithm, then expm1."""
    t = at_most(e, absolute(e, x), ERF_TOP[x.dtype])
    q = e.fma(horner(e, t, LOG_ERFC[x.dtype]), -t, -t)
    s, p = expm1_parts(e, q)
    return copysign(e, e.fma(s, p, s - 1.0), x)
