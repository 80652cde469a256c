"""Where LLVM's library is: known without loading it."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys

__all__ = ["library_path"]

_NAMES = {"darwin": "libllvmlite.dylib", "win32": "llvmlite.dll"}


@functools.cache
def library_path() -> str:
    """Where llvmlite has the library, or nothing where it is kept another way."""
    spec = importlib.util.find_spec("llvmlite")
    name = _NAMES.get(sys.platform, "libllvmlite.so")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = os.path.join(folder, "binding", name)
        if os.path.isfile(path):
            return path
    return ""
