"""NumPy's functions on tracers; importing this package fills the tables of `frontend.table`."""

from weft.frontend.numpy import (
    creation,
    einsum,
    indexing,
    info,
    joins,
    linalg_core,
    matrices,
    moves,
    nans,
    norms,
    numeric,
    padding,
    picks,
    reductions,
    scans,
    selection,
    shapes,
    signals,
    sorting,
    ufunc_methods,
    ufuncs,
    unsupported,
    writes,
)

__all__ = ["creation", "einsum", "indexing", "info", "joins", "linalg_core", "matrices", "moves",
           "nans", "norms", "numeric", "padding", "picks", "reductions", "scans", "selection",
           "shapes", "signals", "sorting", "ufunc_methods", "ufuncs", "unsupported", "writes"]
