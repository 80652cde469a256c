"""Which module declares which ops, so that a module is loaded when one of its ops is first used.

By module and kind. A new op needs its name here; `tests/structure/test_ops.py` says so.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FAMILIES"]

FAMILIES: Mapping[str, Mapping[str, str]] = {
    "elementwise": {
        "elementwise": """
            neg floor ceil trunc rint sqrt cbrt exp exp2 expm1 log log2 log10 log1p sin cos tan
            asin acos atan sinh cosh tanh asinh acosh atanh erf erfc erf_inv logistic spacing not
            abs sign conj real imag is_nan is_inf is_finite signbit popcnt frexp_mantissa
            frexp_exponent add sub mul div floor_divide remainder fmod pow atan2 maximum minimum
            fmax fmin hypot logaddexp logaddexp2 copysign nextafter and or xor shift_left
            shift_right gcd lcm eq ne lt le gt ge complex ldexp select convert bitcast
            stop_gradient optimization_barrier""",
    },
    "views": {
        "view": "broadcast_in_dim reshape transpose reverse slice pad concatenate",
        "creation": "constant iota size",
    },
    "reductions": {
        "reduction": """
            reduce_sum reduce_prod reduce_max reduce_min reduce_and reduce_or argmax argmin""",
        "scan": "cumsum cumprod cummax cummin linear_recurrence",
        "contraction": "dot_general",
    },
    "indexing": {
        "sort": "sort argsort",
        "indexing": "searchsorted",
        "structure": "get",
    },
    "updates": {
        "indexing": "gather scatter dynamic_slice dynamic_update_slice",
    },
    "linalg": {
        "factorization": """
            cholesky triangular_solve lu solve det slogdet qr svd eigh eig lstsq pinv""",
    },
    "fft": {
        "transform": "fft",
    },
    "control": {
        "control": "case while scan",
    },
    "windows": {
        "view": "window unwindow copy",
        "windows": "fold reduce_window",
    },
    "convolution": {
        "windows": "conv",
    },
    "random": {
        "elementwise": "threefry",
    },
    "call": {
        "control": "call",
        "structure": "transfer",
    },
}
