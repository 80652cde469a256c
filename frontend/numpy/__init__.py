"""NumPy's functions on tracers; importing this package fills the tables of `frontend.table`."""

from weft.frontend.numpy import (
    creation,
    indexing,
    linalg_core,
    reductions,
    shapes,
    ufuncs,
)

__all__ = ["creation", "indexing", "linalg_core", "reductions", "shapes", "ufuncs"]
