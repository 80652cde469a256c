"""weft's own vector math: element functions written over `Val`, inlined into kernels.

All are within 2 ULP of the exact value for every argument, with or without FMA, and have NumPy's
values at zeros, infinities, NaN and outside their domains (logaddexp: see there). The "error seen"
in their descriptions is the largest over one float32 in seven and 30000 float64, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math import (
    error,
    exp,
    hyperbolic,
    integer,
    inverse_hyperbolic,
    inverse_trig,
    log,
    log_sum,
    parts,
    power,
    remainder,
    trig,
)

__all__ = ["MATH", "MathFunction"]

MathFunction = Callable[..., Val]


def _by_kind(of_floats: MathFunction, of_integers: MathFunction) -> MathFunction:
    """One function for floats and another for integers under one name."""
    def either(e: Emitter, x: Val, y: Val) -> Val:
        return (of_floats if x.is_float else of_integers)(e, x, y)
    return either


# Each takes an emitter and values of one element type (f32 or f64; integers for those below), and
# writes instructions for as many lanes as these have. ldexp takes a float and an integer.
MATH: dict[str, MathFunction] = {
    "exp": exp.exp, "exp2": exp.exp2, "expm1": exp.expm1, "logistic": exp.logistic,
    "log": log.log, "log2": log.log2, "log10": log.log10, "log1p": log.log1p,
    "logaddexp": log_sum.logaddexp, "logaddexp2": log_sum.logaddexp2,
    "sin": trig.sin, "cos": trig.cos, "tan": trig.tan,
    "asin": inverse_trig.asin, "acos": inverse_trig.acos,
    "atan": inverse_trig.atan, "atan2": inverse_trig.atan2,
    "sinh": hyperbolic.sinh, "cosh": hyperbolic.cosh, "tanh": hyperbolic.tanh,
    "asinh": inverse_hyperbolic.asinh, "acosh": inverse_hyperbolic.acosh,
    "atanh": inverse_hyperbolic.atanh,
    "erf": error.erf, "erfc": error.erfc,
    "pow": _by_kind(power.pow, integer.integer_pow), "cbrt": power.cbrt, "hypot": power.hypot,
    "fmod": _by_kind(remainder.fmod, integer.fmod),
    "remainder": _by_kind(remainder.remainder, integer.remainder),
    "floor_divide": _by_kind(remainder.floor_divide, integer.floor_divide),
    "nextafter": parts.nextafter, "spacing": parts.spacing, "copysign": parts.copysign,
    "ldexp": parts.ldexp, "frexp_mantissa": parts.frexp_mantissa,
    "frexp_exponent": parts.frexp_exponent,
    "gcd": integer.gcd, "lcm": integer.lcm, "integer_pow": integer.integer_pow,
}
