"""Where CUDA's libraries lie: in wheels, in a toolkit, or where the loader finds them."""

from __future__ import annotations

import glob
import importlib.util
import os
from collections.abc import Iterator, Sequence
from ctypes.util import find_library
from pathlib import Path

__all__ = ["library_places"]


def library_places(name: str, wheel: str, major: int = 0) -> Iterator[str]:
    """The files that may be the library ``lib<name>.so``, the newest of each place first.

    `wheel` is the folder that wheels for CUDA 12 have it in; those for 13 share one. With `major`,
    only that version of it is meant, and one that the process has loaded already comes first.
    """
    so, dll = (f"lib{name}.so.{major}", f"{name}64_{major}.dll") if major else \
        (f"lib{name}.so*", f"{name}64_*.dll")
    if major:
        yield from (so, dll)
    for folder in (*_wheel_folders(wheel), *_toolkit_folders()):
        names = glob.glob(str(folder / so)) + glob.glob(str(folder / dll))
        yield from sorted((n for n in names if "alt" not in Path(n).name), reverse=True)
    found = None if major else find_library(name)
    if found:
        yield found


def _wheel_folders(wheel: str) -> list[Path]:
    spec = importlib.util.find_spec("nvidia")
    roots: Sequence[str] = spec.submodule_search_locations or () if spec else ()
    return [Path(root) / part for root in roots for part in (
        "cu13/lib", f"{wheel}/lib", "cu13/bin/x86_64", f"{wheel}/bin")]


def _toolkit_folders() -> list[Path]:
    roots = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    return [Path(r) / part for r in roots if r for part in ("lib64", "lib", "bin")]
