"""LLVM IR text to native objects and assembly.

llvmlite runs every LLVM call under one lock. Parsing and code generation need none when each
thread has its own LLVM context and target machine, so they are called past that lock here:
several modules compile at the same time on several threads.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import llvmlite.binding as llvm
from llvmlite.binding import ffi

from weft.compiler.target import Target

__all__ = ["ObjectCache", "assemble", "assembly_text", "llvm_version", "target_machine"]


class ObjectCache(Protocol):
    """Where assembled objects may be kept from one process to the next."""

    def get(self, key: str) -> bytes | None:
        """The bytes kept under the key, or None."""

    def put(self, key: str, data: bytes) -> None:
        """Keep the bytes; failing to is not an error."""


def assemble(ir: str, target: Target, cache: ObjectCache | None = None, level: int = 2) -> bytes:
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


def assembly_text(ir: str, target: Target, level: int = 2) -> str:
    """The assembly that `assemble` would encode."""
    return _emit(ir, target, False, level).decode()


def llvm_version() -> str:
    """The version of LLVM: what compiled code depends on besides its source."""
    return ".".join(map(str, llvm.llvm_version_info))


def target_machine(target: Target, level: int = 2) -> llvm.TargetMachine:
    """A new LLVM target machine. One must not be used by two threads at the same time."""
    _initialize(target.triple.startswith(llvm.get_process_triple().split("-")[0]))
    triple = target.triple or llvm.get_process_triple()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=level, reloc="pic", codemodel="default")


def _key(ir: str, target: Target, level: int) -> str:
    parts = (llvm_version(), str(level), target.triple, target.cpu, target.features, ir)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=20).hexdigest()


@functools.cache
def _initialize(native: bool) -> None:
    if native:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()


class _Machines:
    """Target machines not in use at the moment, by what they are for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: dict[tuple[str, str, str, int], list[llvm.TargetMachine]] = {}

    @contextmanager
    def borrow(self, target: Target, level: int) -> Iterator[llvm.TargetMachine]:
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


def _raw(name: str) -> Any:
    """A function of llvmlite's library without the lock around it."""
    function = getattr(ffi.lib, name)
    return getattr(function, "_cfn", function)


@contextmanager
def _message() -> Iterator[ctypes.c_char_p]:
    """Room for a message from LLVM, freed afterwards."""
    text = ctypes.c_char_p(None)
    try:
        yield text
    finally:
        if text:
            _raw("LLVMPY_DisposeString")(text)


@contextmanager
def _module(ir: str) -> Iterator[Any]:
    """The text as an LLVM module in a context of its own."""
    context = _raw("LLVMPY_ContextCreate")()
    try:
        with _message() as text:
            module = _raw("LLVMPY_ParseAssembly")(context, ir.encode(), ctypes.byref(text))
            if not module:
                raise RuntimeError(f"LLVM cannot parse the module: {_decoded(text)}")
        try:
            yield module
        finally:
            _raw("LLVMPY_DisposeModule")(module)
    finally:
        _raw("LLVMPY_ContextDispose")(context)


def _decoded(text: ctypes.c_char_p) -> str:
    return (text.value or b"").decode(errors="replace").strip()


def _emit(ir: str, target: Target, as_object: bool, level: int) -> bytes:
    with (_machines.borrow(target, level) as machine, _module(ir) as module,
          _message() as text):
        if os.environ.get("WEFT_VERIFY_LLVM", "0") not in ("", "0"):
            _verify(module)
        buffer = _raw("LLVMPY_TargetMachineEmitToMemory")(
            machine, module, int(as_object), ctypes.byref(text))
        if not buffer:
            raise RuntimeError(f"LLVM cannot emit the module: {_decoded(text)}")
        try:
            return ctypes.string_at(_raw("LLVMPY_GetBufferStart")(buffer),
                                    _raw("LLVMPY_GetBufferSize")(buffer))
        finally:
            _raw("LLVMPY_DisposeMemoryBuffer")(buffer)


def _verify(module: Any) -> None:
    with _message() as text:
        if _raw("LLVMPY_VerifyModule")(module, ctypes.byref(text)):
            raise RuntimeError(f"the module is not valid: {_decoded(text)}")
