"""LLVM and the native runtime made ready on another thread, while this one imports and traces.

Most of it runs outside the GIL (loading a library of 170 MB, code generation), so it costs the
caller nothing where there is a second core. Nobody needs to know: whoever uses LLVM finds it ready,
waits for the rest, or does it himself; what fails here fails again there, and is reported there.

Coming back from each call that runs outside the GIL takes up to 5 ms while the caller computes, so
there are few of these. The threads import nothing, so they cannot wait for a module that another
thread is importing. They are not daemons: a process that ends meanwhile lets them end first, as
LLVM must not be running when it is torn down. A fork waits for them too, for the child would find
their locks taken for ever.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from collections.abc import Callable

from weft.devices.cpu import native
from weft.devices.cpu.host import host_processor, settings
from weft.devices.protocol import Cache

__all__ = ["begin", "begin_unless_kept", "continue_unless_kept"]

# What LLVM sets up when it first generates code takes as long as a small kernel.
_SMALL = "define i32 @f(i32 %a) {\n  ret i32 %a\n}\n"

_lock = threading.Lock()
_threads: list[threading.Thread] = []


def begin() -> None:
    """Load and set up LLVM. Does nothing when called again."""
    if not _threads:
        from weft.devices.cpu.assembler import prepare  # not for what the cache has

        settings()                  # reads files, for which the other thread would wait here
        _start(lambda: prepare(host_processor()), 0)


def begin_unless_kept(cache: Cache | None) -> None:
    """`begin`, unless the cache has the native runtime: then it may have the rest, too, and LLVM
    may not be needed at all."""
    if cache is None or not native.is_kept(cache):
        begin()


def continue_unless_kept(cache: Cache | None) -> None:
    """Then assemble and load the native runtime. Does nothing when called again."""
    if len(_threads) == 1 and (cache is None or not native.is_kept(cache)):
        for name in ("runtime_ir", "elf"):      # what the thread must not import
            importlib.import_module(f"weft.devices.cpu.{name}")
        from weft.devices.cpu.assembler import assemble  # as above

        def work() -> None:
            native.ensure(cache)
            if cache is None:       # else there may be nothing to generate
                assemble(_SMALL, host_processor())

        _start(work, 1)


def _start(work: Callable[[], object], place: int) -> None:
    if len(_affinity()) == 1:
        return
    with _lock:
        if len(_threads) != place:
            return
        before = _threads[-1:]

        def run() -> None:
            for thread in before:
                thread.join()
            with contextlib.suppress(Exception):
                work()

        thread = threading.Thread(target=run, name="weft-warm-up")
        _threads.append(thread)
        if place == 0 and hasattr(os, "register_at_fork"):
            os.register_at_fork(before=_wait)
        with contextlib.suppress(RuntimeError):     # no new threads: the process is ending
            thread.start()


def _wait() -> None:
    for thread in _threads:
        if thread.is_alive() and thread is not threading.current_thread():
            thread.join()


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
