"""weft's own vector math: element functions written over `Val`, inlined into kernels."""

from __future__ import annotations

from collections.abc import Callable

from weft.devices.cpu.emit import Val
from weft.devices.cpu.math import (
    error,
    exp,
    hyperbolic,
    inverse_hyperbolic,
    inverse_trig,
    log,
    log_sum,
    power,
    trig,
)

__all__ = ["MATH"]

MATH: dict[str, Callable[..., Val]] = {
    "exp": exp.exp,
    "exp2": exp.exp2,
    "expm1": exp.expm1,
    "logistic": exp.logistic,
    "log": log.log,
    "log2": log.log2,
    "log10": log.log10,
    "log1p": log.log1p,
    "sin": trig.sin,
    "cos": trig.cos,
    "tan": trig.tan,
    "asin": inverse_trig.asin,
    "acos": inverse_trig.acos,
    "atan": inverse_trig.atan,
    "atan2": inverse_trig.atan2,
    "sinh": hyperbolic.sinh,
    "cosh": hyperbolic.cosh,
    "tanh": hyperbolic.tanh,
    "asinh": inverse_hyperbolic.asinh,
    "acosh": inverse_hyperbolic.acosh,
    "atanh": inverse_hyperbolic.atanh,
    "pow": power.pow,
    "cbrt": power.cbrt,
    "hypot": power.hypot,
    "logaddexp": log_sum.logaddexp,
    "logaddexp2": log_sum.logaddexp2,
    "erfc": error.erfc,
    "erf": error.erf,
}
