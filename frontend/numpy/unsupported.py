"""NumPy functions that cannot be traced, each with what to write instead.

The ones whose result's shape depends on values are marked ``"shape"``.
"""

from __future__ import annotations

import numpy as np

from weft.frontend.table import FUNCTIONS, UNSUPPORTED

__all__: list[str] = []

_WHERE = "use np.where(mask, x, 0), or give sums and means where=mask"
_SHAPES = {
    np.nonzero: _WHERE, np.argwhere: _WHERE, np.flatnonzero: _WHERE,
    np.unique: "call it on the result of the compiled function",
    np.unique_all: "call it on the result of the compiled function",
    np.unique_counts: "call it on the result of the compiled function",
    np.unique_inverse: "call it on the result of the compiled function",
    np.unique_values: "call it on the result of the compiled function",
    np.union1d: "call it on the result of the compiled function",
    np.intersect1d: "use np.isin(x, y), which keeps the shape of x",
    np.setdiff1d: "use ~np.isin(x, y), which keeps the shape of x",
    np.setxor1d: "call it on the result of the compiled function",
    np.trim_zeros: "slice by bounds known while tracing",
}
_OTHERS = {
    np.resize: ("it repeats or cuts by size", "use np.tile, np.reshape and slices"),
    np.apply_along_axis: ("it calls a Python function for every slice",
                          "write the function on whole arrays, with axis="),
    np.save: ("it writes files", "save the result of the compiled function"),
    np.savez: ("it writes files", "save the result of the compiled function"),
    np.savez_compressed: ("it writes files", "save the result of the compiled function"),
    np.savetxt: ("it writes files", "save the result of the compiled function"),
    np.real_if_close: ("its type depends on values", "use np.real"),
}
UNSUPPORTED.update({f: ("shape", repair) for f, repair in _SHAPES.items() if f not in FUNCTIONS})
UNSUPPORTED.update({f: why for f, why in _OTHERS.items() if f not in FUNCTIONS})
