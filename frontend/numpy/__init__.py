"""NumPy's functions on tracers; importing this package fills the tables of `frontend.table`.

These families serve most functions; `rest` has the others, and is loaded when one is looked for.
"""

from weft.frontend.numpy import (
    creation,
    indexing,
    linalg_core,
    matrices,
    reductions,
    shapes,
    ufuncs,
)

__all__ = ["creation", "indexing", "linalg_core", "matrices", "reductions", "shapes", "ufuncs"]
