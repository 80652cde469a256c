"""All ops. Importing this package fills the table in `registry`."""

from weft.compiler.ops import (
    control,
    elementwise,
    fft,
    indexing,
    linalg,
    reductions,
    updates,
    views,
)
from weft.compiler.ops.registry import KINDS, OPS, Op, get_op, register

__all__ = ["KINDS", "OPS", "Op", "control", "elementwise", "fft", "get_op", "indexing", "linalg",
           "reductions", "register", "updates", "views"]
