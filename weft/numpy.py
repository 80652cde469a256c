"""NumPy's functions under NumPy's names, for arrays and for traced values.

Outside a compiled function ``weft.numpy.f(...)`` is ``numpy.f(...)``. Inside one, it always gives
traced values, also where no argument is one: ``wnp.zeros(n)`` or ``wnp.asarray([x, 1.0])``, which
NumPy itself would compute, or refuse, at once. Ufuncs, types and constants are NumPy's own
objects. This is also what ``x.__array_namespace__()`` of a traced array gives.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as _np

import weft.frontend.numpy as _families
from weft.frontend.numpy.concatenators import CONCATENATORS as _CONCATENATORS
from weft.frontend.recording import active as _active
from weft.frontend.table import FUNCTIONS as _FUNCTIONS

assert _families


def _wrapped(function: Callable[..., Any], traced: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        trace = _active()
        if trace is None:
            return function(*args, **kwargs)
        return trace.run(traced, args, kwargs)
    return call


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    value = _CONCATENATORS.get(name, getattr(_np, name))
    traced = _FUNCTIONS.get(value) if callable(value) else None
    if traced is not None:
        value = _wrapped(value, traced)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [name for name in dir(_np) if not name.startswith("_")]
