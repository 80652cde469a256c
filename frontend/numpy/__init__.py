"""NumPy's functions on tracers; importing this package fills the tables of `frontend.table`."""

from weft.frontend.numpy import ufuncs

__all__ = ["ufuncs"]
