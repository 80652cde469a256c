"""All ops. Importing this package fills the table in `registry`."""

from weft.compiler.ops import (
    call,
    control,
    convolution,
    elementwise,
    fft,
    indexing,
    linalg,
    random,
    reductions,
    updates,
    views,
    windows,
)
from weft.compiler.ops.registry import KINDS, OPS, Op, get_op, register

__all__ = [
    "KINDS",
    "OPS",
    "Op",
    "call",
    "control",
    "convolution",
    "elementwise",
    "fft",
    "get_op",
    "indexing",
    "linalg",
    "random",
    "reductions",
    "register",
    "updates",
    "views",
    "windows",
]
