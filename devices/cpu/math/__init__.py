"""weft's own vector math: element functions written over `Val`, inlined into kernels.

All are within 2 ULP of the exact value for every argument, with or without FMA, and have NumPy's
values at zeros, infinities, NaN and outside their domains (logaddexp: see there). The "error seen"
in their descriptions is the largest over one float32 in seven and 30000 float64, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from weft.devices.cpu.emit import Emitter, Val

__all__ = ["MATH", "MathFunction"]

MathFunction = Callable[..., Val]


def _in(module: str, *names: str) -> dict[str, MathFunction]:
    """Functions of a module of this folder, which is loaded when one of them is called first."""
    return {name: _later(module, name) for name in names}


def _later(module: str, name: str) -> MathFunction:
    def function(e: Emitter, *values: Val) -> Val:
        found: MathFunction = getattr(import_module(f"{__name__}.{module}"), name)
        return found(e, *values)
    return function


def _by_kind(module: str, name: str, of_integers: str) -> dict[str, MathFunction]:
    """One function for floats and another for integers under one name."""
    floats, integers = _later(module, name), _later("integer", of_integers)

    def either(e: Emitter, x: Val, y: Val) -> Val:
        return (floats if x.is_float else integers)(e, x, y)
    return {name: either}


# Each takes an emitter and values of one element type (f32 or f64; integers for those below), and
# writes instructions for as many lanes as these have. ldexp takes a float and an integer.
MATH: dict[str, MathFunction] = {
    **_in("exp", "exp", "exp2", "expm1", "logistic"),
    **_in("log", "log", "log2", "log10", "log1p"),
    **_in("log_sum", "logaddexp", "logaddexp2"),
    **_in("trig", "sin", "cos", "tan"),
    **_in("inverse_trig", "asin", "acos", "atan", "atan2"),
    **_in("hyperbolic", "sinh", "cosh", "tanh"),
    **_in("inverse_hyperbolic", "asinh", "acosh", "atanh"),
    **_in("error", "erf", "erfc"), **_in("inverse_error", "erf_inv"),
    **_in("power", "cbrt", "hypot"), **_by_kind("power", "pow", "integer_pow"),
    **_by_kind("remainder", "fmod", "fmod"),
    **_by_kind("remainder", "remainder", "remainder"),
    **_by_kind("remainder", "floor_divide", "floor_divide"),
    **_in("parts", "nextafter", "spacing", "copysign", "ldexp", "frexp_mantissa",
          "frexp_exponent"),
    **_in("integer", "gcd", "lcm", "integer_pow"),
    **_in("random", "threefry"),
}
