"""NumPy's functions on tracers: `ufuncs`, and families of others that are loaded when one of their
functions is first asked for (see `weft.frontend.table`)."""

from weft.frontend.numpy import ufuncs

__all__ = ["ufuncs"]
