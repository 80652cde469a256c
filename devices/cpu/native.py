"""The native runtime: the thread pool and the allocator, assembled, loaded, and driven from Python.

It is one small module, loaded once a process and never unloaded (its threads live until exit). All
generated code is linked against it, and calls it and the C library by name:

    void weft_parallel_for(ptr fn, ptr ctx, i64 n, i64 grain)    fn is void(ptr ctx, i64 lo, i64 hi)
    ptr  weft_alloc(i64 bytes)
    void weft_free(ptr)
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from weft.compiler.digest import content_key
from weft.compiler.lazy_dataclass import dataclass
from weft.devices.cpu import python_api
from weft.devices.cpu.host import host_processor, settings
from weft.devices.cpu.identity import identity
from weft.devices.cpu.linker import Code, Library, link, linkable, read_code
from weft.devices.protocol import Cache

__all__ = ["MemoryStats", "ensure", "glue", "is_kept", "memory_stats", "native_function",
           "num_threads", "parallel_for", "release_memory", "set_memory_limit", "set_num_threads"]

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
_kept: Code | None = None       # the runtime as it was found in the cache
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


def ensure(cache: Cache | None = None) -> Library:
    """The loaded runtime; the first call assembles it, through the cache if given."""
    global _loaded
    if _loaded is None:
        with _lock:
            if _loaded is None:
                _loaded = _start(cache)
    return _loaded


def is_kept(cache: Cache) -> bool:
    """Whether the cache has the runtime, or it is loaded already."""
    global _kept
    if _loaded is None and _kept is None:
        _kept = _from_cache("runtime", cache)
    return _loaded is not None or _kept is not None


def glue(name: str, ir: Callable[[], str], cache: Cache | None) -> Code:
    """Code of a small module that `name` says everything about, from the cache if that has it.

    Generated at level 0 for this processor from the text that `ir` gives when it is needed.
    """
    found = _from_cache(name, cache) if cache is not None else None
    if found is None:
        from weft.devices.cpu.assembler import assemble  # and LLVM, for what the cache lacks

        found = linkable([assemble(ir(), host_processor(), level=0)])
        if cache is not None and identity():
            cache.put(_key(name), found.to_bytes())
    return found


def _from_cache(name: str, cache: Cache) -> Code | None:
    data = cache.get(_key(name)) if identity() else None
    if data is not None:
        with contextlib.suppress(ValueError):
            return read_code(data)
    return None


def _key(name: str) -> str:
    return content_key("glue", identity(), name)


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


def _start(cache: Cache | None) -> Library:
    library = link(_kept or glue("runtime", _ir, cache), symbols=python_api.Symbols()).keep()

    def call(name: str, *args: int) -> None:
        ctypes.PYFUNCTYPE(*_SIGNATURES[name])(library.address(name))(*args)

    python_api.publish(library)
    call("weft_pool_reset")
    call("weft_set_threads", settings()[1])
    call("weft_memory_limit", min(_MOST_KEPT, _ram() // 8))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=partial(call, "weft_memory_lock"),
                            after_in_parent=partial(call, "weft_memory_unlock"),
                            after_in_child=partial(call, "weft_memory_unlock"))
        os.register_at_fork(after_in_child=partial(call, "weft_pool_reset"))
    return library


def _ir() -> str:
    from weft.devices.cpu.runtime_ir import runtime_ir  # not for what the cache has

    return runtime_ir(host_processor().triple)


def _ram() -> int:
    """Bytes of physical memory, 8 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 << 30
