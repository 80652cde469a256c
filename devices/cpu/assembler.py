"""LLVM IR text to native objects and assembly.

Each thread parses in an LLVM context of its own and emits with a target machine of its own, so
several modules compile at the same time on several threads.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from weft.compiler.digest import content_key
from weft.compiler.target import Target
from weft.devices.cpu import llvm
from weft.devices.cpu.llvm import call, message
from weft.devices.protocol import Cache

__all__ = ["assemble", "assemble_all", "assembly_text", "prepare", "target_machine"]


def assemble(ir: str, target: Target, cache: Cache | None = None, level: int = 2) -> bytes:
    """The native object (ELF, Mach-O, COFF) of a module of LLVM IR text.

    With a cache, an object assembled before from the same text for the same processor is taken
    from there. `level` is LLVM's code generation level. From 1 on every function costs 0.3 ms
    before its first instruction; 0 costs a tenth, and is meant for glue that runs once a call
    (it leaves most values in memory). The module is verified where `WEFT_VERIFY_LLVM=1`; text that
    does not parse raises `RuntimeError` with LLVM's message. Safe to call from several threads,
    which run in parallel.
    """
    if cache is None:
        return _emit(ir, target, True, level)
    key = _key(ir, target, level)
    found = cache.get(key)
    if found is None:
        found = _emit(ir, target, True, level)
        cache.put(key, found)
    return found


def assemble_all(modules: Sequence[str], target: Target, cache: Cache | None = None
                 ) -> list[bytes]:
    """The objects of several modules, each made on a thread of its own."""
    made: dict[int, bytes | BaseException] = {}

    def make(i: int) -> None:
        try:
            made[i] = assemble(modules[i], target, cache)
        except BaseException as error:
            made[i] = error

    threads = [threading.Thread(target=make, args=(i,)) for i in range(1, len(modules))]
    for thread in threads:
        thread.start()
    make(0)
    for thread in threads:
        thread.join()
    for found in made.values():
        if isinstance(found, BaseException):
            raise found
    return [found for _, found in sorted(made.items()) if isinstance(found, bytes)]


def prepare(target: Target, level: int = 2) -> None:
    """Load LLVM and have a target machine ready."""
    with _machines.borrow(target, level):
        pass


def assembly_text(ir: str, target: Target, level: int = 2) -> str:
    """The assembly that `assemble` would encode."""
    return _emit(ir, target, False, level).decode()


def target_machine(target: Target, level: int = 2) -> int:
    """A new LLVM target machine. One must not be used by two threads at the same time."""
    host = llvm.process_triple()
    _initialize(target.triple.startswith(host.split("-")[0]))
    triple = (target.triple or host).encode()
    with message() as text:
        found = call("GetTargetFromTriple", triple, text.ref)
        if not found:
            raise RuntimeError(f"LLVM has no such target: {text}")
    machine = call("CreateTargetMachine", found, triple, target.cpu.encode(),
                   target.features.encode(), level, b"pic", b"default", 0, 0, b"")
    if not machine:
        raise RuntimeError(f"LLVM cannot generate code for {target.triple} {target.cpu}")
    return int(machine)


def _key(ir: str, target: Target, level: int) -> str:
    return content_key(llvm.version(), str(level), target.triple, target.cpu, target.features, ir)


@functools.cache
def _initialize(native: bool) -> None:
    for name in (("NativeTarget", "NativeAsmPrinter") if native else
                 ("AllTargetInfos", "AllTargets", "AllTargetMCs", "AllAsmPrinters")):
        call(f"Initialize{name}")


class _Machines:
    """Target machines not in use at the moment, by what they are for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: dict[tuple[str, str, str, int], list[int]] = {}

    @contextmanager
    def borrow(self, target: Target, level: int) -> Iterator[int]:
        """A target machine that is the caller's alone."""
        key = (target.triple, target.cpu, target.features, level)
        with self._lock:
            free = self._free.setdefault(key, [])
            machine = free.pop() if free else None
        machine = machine or target_machine(target, level)
        try:
            yield machine
        finally:
            with self._lock:
                free.append(machine)


_machines = _Machines()


@contextmanager
def _module(ir: str) -> Iterator[int]:
    """The text as an LLVM module in a context of its own."""
    context = call("ContextCreate")
    try:
        with message() as text:
            module = call("ParseAssembly", context, ir.encode(), text.ref)
            if not module:
                raise RuntimeError(f"LLVM cannot parse the module: {text}")
        try:
            yield module
        finally:
            call("DisposeModule", module)
    finally:
        call("ContextDispose", context)


def _emit(ir: str, target: Target, as_object: bool, level: int) -> bytes:
    with (_machines.borrow(target, level) as machine, _module(ir) as module,
          message() as text):
        if os.environ.get("WEFT_VERIFY_LLVM", "0") not in ("", "0"):
            _verify(module)
        buffer = call("TargetMachineEmitToMemory", machine, module, int(as_object), text.ref)
        if not buffer:
            raise RuntimeError(f"LLVM cannot emit the module: {text}")
        try:
            return ctypes.string_at(call("GetBufferStart", buffer), call("GetBufferSize", buffer))
        finally:
            call("DisposeMemoryBuffer", buffer)


def _verify(module: int) -> None:
    with message() as text:
        if call("VerifyModule", module, text.ref):
            raise RuntimeError(f"the module is not valid: {text}")
