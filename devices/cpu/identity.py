"""What machine code depends on besides what it is made of: processor, LLVM, NumPy, weft itself.

Found without loading LLVM, since code from the disk cache runs without it.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Iterator

import numpy as np

from weft.compiler.digest import content_key
from weft.devices.cpu.host import cache_sizes, settings
from weft.devices.cpu.llvm_file import library_path

__all__ = ["identity", "processor", "sources"]

_CPUINFO = "/proc/cpuinfo"
# Lines of it that tell cores of one processor apart, or change while it runs.
_VARYING = frozenset(("processor", "cpu MHz", "bogomips", "BogoMIPS", "apicid", "initial apicid",
                      "core id", "physical id", "siblings", "cpu cores"))


@functools.cache
def identity() -> str:
    """A digest of all that, and of the settings that `host_target` reads; empty if unknown."""
    weft = sources()
    if not weft:
        return ""
    return content_key(weft, processor() or _as_llvm_says(), _library(), sys.platform,
                       platform.machine(), platform.release(), np.__version__,
                       sys.implementation.cache_tag or "", repr(settings()), repr(cache_sizes()))


def processor(path: str = _CPUINFO) -> str:
    """What Linux says about the first core, with its features; empty elsewhere."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(1 << 14)       # all cores of a large machine would take milliseconds
    except OSError:
        return ""
    first, end, _ = text.partition("\n\n")
    return "\n".join(line for line in first.splitlines() if end and (
        line.partition("\t")[0].partition(":")[0].strip() not in _VARYING))


def _as_llvm_says() -> str:
    from weft.devices.cpu import llvm  # slow to load

    return f"{llvm.host_cpu()} {llvm.host_features()} {llvm.version()}"


def _library() -> str:
    path = library_path()
    return f"{path} {_stamp(path)}" if path else _as_llvm_says()


def sources() -> str:
    """The version of weft, and of its files: all of them in a checkout, where they are edited in
    place; otherwise the folders, which are new when another version has been installed."""
    package = sys.modules["weft"]
    roots = [os.path.dirname(sys.modules[f"weft.{name}"].__file__ or "")
             for name in ("compiler", "devices")]
    edited = os.path.isfile(os.path.join(os.path.dirname(roots[0]), "pyproject.toml"))
    try:
        stamps = [stamp for root in roots for stamp in _stamps(root, edited)]
    except OSError:
        return ""
    return "\n".join([package.__version__, *sorted(stamps)])


def _stamps(folder: str, files: bool) -> Iterator[str]:
    yield f"{folder} {'' if files else _stamp(folder)}"
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                if files:
                    info = entry.stat()
                    yield f"{entry.path} {info.st_size} {info.st_mtime_ns}"
            elif entry.name != "__pycache__" and entry.is_dir():
                yield from _stamps(entry.path, files)


def _stamp(path: str) -> str:
    try:
        info = os.stat(path)
    except OSError:
        return ""
    return f"{info.st_size} {info.st_mtime_ns}"
