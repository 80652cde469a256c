"""weft: a graph compiler for NumPy code.

Decorate a function with `weft.jit`; it is traced to a graph, optimised, and compiled to native
code. `weft.explain` and ``f.trace(...)`` show what became of it.

Everything here is loaded on first use, so that ``import weft`` costs little more than NumPy.
"""

from __future__ import annotations

import importlib
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft import errors, numpy
    from weft.frontend.explain import explain
    from weft.frontend.jit import jit
    from weft.frontend.pytree import register_pytree
    from weft.frontend.settings import devices, get_num_threads, set_num_threads

__all__ = ["__version__", "devices", "errors", "explain", "get_num_threads", "jit", "numpy",
           "register_pytree", "set_num_threads"]

__version__ = "0.1.0"

_root = _Path(__file__).parent.parent       # in a checkout, the other folders stand one level up
if (_root / "pyproject.toml").is_file() and (_root / "compiler").is_dir():
    __path__.append(str(_root))

_HOMES = {
    "devices": "weft.frontend.settings",
    "explain": "weft.frontend.explain",
    "get_num_threads": "weft.frontend.settings",
    "jit": "weft.frontend.jit",
    "register_pytree": "weft.frontend.pytree",
    "set_num_threads": "weft.frontend.settings",
}
_MODULES = ("errors", "numpy")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"weft.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'weft' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
