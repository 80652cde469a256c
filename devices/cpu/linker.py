"""Native objects into memory, ready to call.

One LLJIT (LLVM's ORC JIT with JITLink) serves the process. JITLink writes stubs and a table of
addresses beside the code where a symbol lies further than 2 GB away, so objects may use the small
code model; and it gives a library's memory back when the library goes, which RuntimeDyld does not.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Mapping, Sequence

import llvmlite.binding as llvm

from weft.compiler.target import Target
from weft.devices.cpu.assembler import target_machine
from weft.devices.cpu.host import host_target

__all__ = ["Library", "link"]

_serial = itertools.count()


class Library:
    """Loaded code. It stays in memory as long as this object, or a library linked against it."""

    def __init__(self, tracker: llvm.orcjit.ResourceTracker, needs: Sequence[Library]) -> None:
        self._trackers = [tracker]  # of the library itself, and one a look-up; any unloads it
        self._needs = tuple(needs)
        self._addresses: dict[str, int] = {}

    @property
    def name(self) -> str:
        """The name the JIT knows the library by."""
        return str(self._trackers[0].name)

    def address(self, symbol: str) -> int:
        """The address of a function or variable the library defines; `KeyError` if it does not."""
        found = self._addresses.get(symbol)
        if found is None:
            try:
                tracker = _jit().lookup(self.name, symbol)
            except RuntimeError as error:
                raise KeyError(f"the library has no symbol {symbol!r}: {error}") from None
            self._trackers.append(tracker)
            found = self._addresses[symbol] = int(tracker[symbol])
        return found

    def keep(self) -> Library:
        """Never unload it (for code that threads or live objects may be in until exit)."""
        _immortalize(self)
        return self


def link(obj: bytes, needs: Sequence[Library] = (), symbols: Mapping[str, int] | None = None,
         exports: Sequence[str] = ()) -> Library:
    """Load an object for this machine.

    Symbols that it does not define are looked for in `symbols` (name to address), in the libraries
    it `needs`, then in the process (the C library, Python). `exports` are looked up at once; any
    other symbol can still be asked for later. Raises `RuntimeError` naming what is missing.
    """
    builder = llvm.JITLibraryBuilder().add_object_img(obj)
    for library in needs:
        builder.add_jit_library(library.name)
    builder.add_current_process()
    for name, address in (symbols or {}).items():
        builder.import_symbol(name, address)
    for name in exports:
        builder.export_symbol(name)
    tracker = builder.link(_jit(), f"weft.{next(_serial)}")
    library = Library(tracker, needs)
    for name in exports:
        library._addresses[name] = int(tracker[name])
    return library


@functools.cache
def _jit() -> llvm.orcjit.LLJIT:
    target = host_target()
    plain = Target(triple=target.triple, cpu=target.cpu, features=target.features)
    jit = llvm.create_lljit_compiler(target_machine(plain),
                                     use_jit_link="windows" not in target.triple)
    _immortalize(jit)  # code may still run on other threads while the interpreter shuts down
    return jit


def _immortalize(thing: object) -> None:
    """Hold a reference that nothing gives back."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
