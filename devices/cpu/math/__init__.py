"""weft's own vector math: element functions written over `Val`, inlined into kernels."""

from __future__ import annotations

from collections.abc import Callable

from weft.devices.cpu.emit import Val
from weft.devices.cpu.math import error, exp, hyperbolic, log, trig

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
    "sinh": hyperbolic.sinh,
    "cosh": hyperbolic.cosh,
    "tanh": hyperbolic.tanh,
    "erf": error.erf,
}
