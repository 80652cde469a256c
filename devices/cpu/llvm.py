"""LLVM's functions, as `ctypes` calls into the library that llvmlite installs.

llvmlite's own Python layer is not imported: it takes three times as long to load as the library,
and runs every call under one lock. LLVM needs none as long as each thread has its own context and
target machine. The functions used here have kept their signatures since llvmlite 0.41 (LLJIT);
where the library is not found beside the package, llvmlite is asked for it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from weft.devices.cpu.llvm_file import library_path

__all__ = ["call", "host_cpu", "host_features", "library", "message",
           "process_triple", "version"]

_ptr, _str, _int, _bool, _size = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_bool,
                                  ctypes.c_size_t)
_LONG: dict[str, tuple[Any, ...]] = {       # name, result, arguments; called outside the GIL
    "TargetMachineEmitToMemory": (_ptr, _ptr, _ptr, _int, _ptr),
    "LLJIT_Link": (_ptr, _ptr, _str, _ptr, _size, _ptr, _size, _ptr, _size, _ptr),
    "LLJITLookup": (_ptr, _ptr, _str, _str, _ptr, _ptr),
    "LLJIT_Dylib_Tracker_Dispose": (_bool, _ptr, _ptr),
}
_SHORT: dict[str, tuple[Any, ...]] = {      # those for which giving it up costs more than it gives
    "GetVersionInfo": (ctypes.c_uint,),
    "GetProcessTriple": (None, _ptr),
    "GetHostCPUName": (None, _ptr),
    "GetHostCPUFeatures": (_int, _ptr),
    "InitializeNativeTarget": (_int,),
    "InitializeNativeAsmPrinter": (_int,),
    "InitializeAllTargetInfos": (None,),
    "InitializeAllTargets": (None,),
    "InitializeAllTargetMCs": (None,),
    "InitializeAllAsmPrinters": (None,),
    "GetTargetFromTriple": (_ptr, _str, _ptr),
    "CreateTargetMachine": (_ptr, _ptr, _str, _str, _str, _int, _str, _str, _int, _int, _str),
    "DisposeTargetMachine": (None, _ptr),
    "CreateLLJITCompiler": (_ptr, _ptr, _bool, _bool, _ptr),
    "ContextCreate": (_ptr,),
    "ContextDispose": (None, _ptr),
    "ParseAssembly": (_ptr, _ptr, _str, _ptr),
    "VerifyModule": (_int, _ptr, _ptr),
    "DisposeModule": (None, _ptr),
    "GetBufferStart": (_ptr, _ptr),
    "GetBufferSize": (_size, _ptr),
    "DisposeMemoryBuffer": (None, _ptr),
    "DisposeString": (None, _ptr),
}


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library. Loading it runs outside the GIL."""
    path = library_path()
    if path:
        return ctypes.CDLL(path, handle=_opened(path))
    lib = importlib.import_module("llvmlite.binding.ffi").lib  # packed or installed another way
    return ctypes.CDLL(lib._name, handle=lib._handle)


def _opened(path: str) -> int | None:
    """The handle of the library, opened outside the GIL (which `ctypes.CDLL` would hold), or None
    where that cannot be; then `ctypes.CDLL` opens it, or says what is wrong."""
    if os.name != "posix":
        return None
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype, dlopen.argtypes = _ptr, (_str, _int)
    handle: int | None = dlopen(os.fsencode(path), os.RTLD_NOW | os.RTLD_LOCAL)
    return handle


@functools.cache
def _function(name: str) -> Any:
    lib = library()
    if name in _SHORT:
        lib = ctypes.PyDLL(lib._name, handle=lib._handle)
    function = getattr(lib, f"LLVMPY_{name}")
    function.restype, *function.argtypes = {**_LONG, **_SHORT}[name]
    return function


def call(name: str, *args: Any) -> Any:
    """Call one of LLVM's functions: `call("ContextCreate")`."""
    return _function(name)(*args)


class Message:
    """Room for a text from LLVM."""

    def __init__(self) -> None:
        self._text = ctypes.c_char_p(None)
        self.ref = ctypes.byref(self._text)

    def __str__(self) -> str:
        return (self._text.value or b"").decode(errors="replace").strip()

    def free(self) -> None:
        """Give the text back."""
        if self._text:
            call("DisposeString", self._text)


@contextmanager
def message() -> Iterator[Message]:
    """Room for a text from LLVM, freed afterwards; its `ref` is what LLVM takes."""
    text = Message()
    try:
        yield text
    finally:
        text.free()


def version() -> str:
    """The version of LLVM: what compiled code depends on besides its source."""
    packed = int(call("GetVersionInfo"))
    return ".".join(str(packed >> shift & 0xFF) for shift in (16, 8, 0))


def process_triple() -> str:
    """The target triple of this process."""
    return _text("GetProcessTriple")


def host_cpu() -> str:
    """The name of this machine's processor."""
    return _text("GetHostCPUName")


def host_features() -> str:
    """The features of this machine's processor, as code generation takes them: `+avx,-sse4a`."""
    return ",".join(sorted(filter(None, _text("GetHostCPUFeatures").split(",")),
                           key=lambda feature: feature[1:]))


def _text(name: str) -> str:
    with message() as text:
        call(name, text.ref)
        return str(text)
