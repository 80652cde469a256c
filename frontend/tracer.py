"""The stand-in for an array while a function is traced (filled in the next commits)."""

from __future__ import annotations

__all__ = ["Tracer"]


class Tracer:
    """A value of the traced function: it records what is done to it.

    Not an ndarray, but `isinstance(t, np.ndarray)` may be true for it (its `__class__` is that of
    the object NumPy would hold), so ask `isinstance(v, Tracer)` before anything else.
    """
