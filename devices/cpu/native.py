"""The native runtime: the thread pool and the allocator, assembled, loaded, and driven from Python.

It is one small module, loaded once a process and never unloaded (its threads live until exit). All
generated code is linked against it, and calls it and the C library by name:

    void weft_parallel_for(ptr fn, ptr ctx, i64 n, i64 grain)    fn is void(ptr ctx, i64 lo, i64 hi)
    ptr  weft_alloc(i64 bytes)
    void weft_free(ptr)
"""

from __future__ import annotations

import ctypes
import os
import threading
from functools import partial
from typing import Any

from weft.compiler.lazy_dataclass import dataclass
from weft.devices.cpu import numpy_sorts, python_api
from weft.devices.cpu.alloc import alloc_ir
from weft.devices.cpu.assembler import ObjectCache, assemble
from weft.devices.cpu.entry_support import support_ir
from weft.devices.cpu.host import host_processor, host_threads
from weft.devices.cpu.linker import Library, link
from weft.devices.cpu.platform_ir import platform_ir
from weft.devices.cpu.pool import pool_ir

__all__ = ["MemoryStats", "ensure", "memory_stats", "native_function", "num_threads",
           "parallel_for", "release_memory", "set_memory_limit", "set_num_threads"]

_i64, _ptr = ctypes.c_int64, ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "weft_parallel_for": (None, _ptr, _ptr, _i64, _i64),
    "weft_set_threads": (None, ctypes.c_int32),
    "weft_get_threads": (ctypes.c_int32,),
    "weft_pool_reset": (None,),
    "weft_alloc": (_ptr, _i64),
    "weft_free": (None, _ptr),
    "weft_memory_limit": (None, _i64),
    "weft_release_memory": (None,),
    "weft_memory_stats": (None, _ptr),
    "weft_memory_lock": (None,),
    "weft_memory_unlock": (None,),
}
_MOST_KEPT = 512 << 20
_lock = threading.Lock()
_loaded: Library | None = None
_functions: dict[str, Any] = {}


@dataclass(frozen=True)
class MemoryStats:
    """What the allocator holds: bytes and blocks kept for reuse, the limit on those bytes, and how
    many large blocks were given out again or newly mapped since the start."""

    kept_bytes: int
    kept_blocks: int
    limit_bytes: int
    reused: int
    mapped: int


def ensure(cache: ObjectCache | None = None, threads: int | None = None) -> Library:
    """The loaded runtime; the first call assembles it, through the cache if given, and lets it use
    so many threads (as many as `host_threads` says unless given)."""
    global _loaded
    if _loaded is None:
        with _lock:
            if _loaded is None:
                _loaded = _start(cache, threads or host_threads())
    return _loaded


def native_function(name: str) -> Any:
    """A function of the runtime as a ctypes function, which releases the GIL while it runs."""
    if name not in _functions:
        address = ensure().address(name)
        _functions[name] = ctypes.CFUNCTYPE(*_SIGNATURES[name])(address)
    return _functions[name]


def parallel_for(fn: int, ctx: int | None, n: int, grain: int = 1) -> None:
    """Call native `fn(ctx, lo, hi)` (an address) on ranges that cover [0, n), on the pool."""
    native_function("weft_parallel_for")(fn, ctx, n, grain)


def num_threads() -> int:
    """Threads that a parallel region may use, the calling one included."""
    return int(native_function("weft_get_threads")())


def set_num_threads(n: int) -> None:
    """Let parallel regions use n threads, from the next region on. At least 1."""
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, got {n}")
    native_function("weft_set_threads")(n)


def release_memory() -> None:
    """Give all memory that is kept for reuse back to the system."""
    native_function("weft_release_memory")()


def set_memory_limit(n: int) -> None:
    """Keep at most n bytes of freed memory for reuse. 0 keeps none."""
    if n < 0:
        raise ValueError(f"the limit must not be negative, got {n}")
    native_function("weft_memory_limit")(n)


def memory_stats() -> MemoryStats:
    """What the allocator holds now."""
    values = (_i64 * 5)()
    native_function("weft_memory_stats")(values)
    return MemoryStats(*values)


def _start(cache: ObjectCache | None, threads: int) -> Library:
    target = host_processor()
    ir = platform_ir(target.triple) + pool_ir(target.triple) + alloc_ir() + support_ir()
    known = {**python_api.symbols(), **numpy_sorts.symbols()}
    library = link([assemble(ir, target, cache, level=0)], symbols=known).keep()

    def call(name: str, *args: int) -> None:
        ctypes.PYFUNCTYPE(*_SIGNATURES[name])(library.address(name))(*args)

    python_api.publish(library)
    call("weft_pool_reset")
    call("weft_set_threads", threads)
    call("weft_memory_limit", min(_MOST_KEPT, _ram() // 8))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=partial(call, "weft_memory_lock"),
                            after_in_parent=partial(call, "weft_memory_unlock"),
                            after_in_child=partial(call, "weft_memory_unlock"))
        os.register_at_fork(after_in_child=partial(call, "weft_pool_reset"))
    return library


def _ram() -> int:
    """Bytes of physical memory, 8 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 << 30
