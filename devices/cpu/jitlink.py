"""Native objects into memory by LLVM: where images cannot be loaded, see `linker`.

One LLJIT (LLVM's ORC JIT with JITLink) serves the process. JITLink writes stubs and a table of
addresses beside the code where a symbol lies further than 2 GB away, so objects may use the small
code model; and it gives a library's memory back when the library goes, which RuntimeDyld does not.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence

from weft.devices.cpu.assembler import target_machine
from weft.devices.cpu.host import host_processor
from weft.devices.cpu.llvm import call, message
from weft.devices.cpu.loader import Library, Loaded

__all__ = ["JitLinked", "jit_link"]

_serial = itertools.count()


class _Element(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_uint8), ("value", ctypes.c_char_p), ("size", ctypes.c_size_t))


class _Symbol(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("address", ctypes.c_uint64))


_OBJECT, _LIBRARY = 2, 3    # kinds of elements; the library without a name is the process


class _Tracker:
    """Holds a loaded library in memory: when any of its trackers goes, so does the library."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing():    # then other threads may still run code, and all memory goes
            with message() as text:
                call("LLJIT_Dylib_Tracker_Dispose", self._pointer, text.ref)


class JitLinked:
    """A library that LLVM has loaded."""

    def __init__(self, name: str, tracker: int, needs: Sequence[Library],
                 addresses: Mapping[str, int]) -> None:
        self.name = name        # what the JIT knows it by
        self._trackers = [_Tracker(tracker)]    # of the library itself, and one a look-up
        self._needs = tuple(needs)
        self._addresses = dict(addresses)

    def address(self, symbol: str) -> int:
        """See `Library.address`."""
        found = self._addresses.get(symbol)
        if found is None:
            address = ctypes.c_uint64()
            with message() as text:
                tracker = call("LLJITLookup", _jit(), self.name.encode(), symbol.encode(),
                               ctypes.byref(address), text.ref)
                if not tracker:
                    raise KeyError(f"the library has no symbol {symbol!r}: {text}")
            self._trackers.append(_Tracker(tracker))
            found = self._addresses[symbol] = address.value
        return found

    def find(self, symbol: str) -> int | None:
        """See `Library.find`."""
        try:
            return self.address(symbol)
        except KeyError:
            return None

    def keep(self) -> JitLinked:
        """See `Library.keep`."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
        return self


def jit_link(objects: Sequence[bytes], needs: Sequence[Library], symbols: Mapping[str, int],
             exports: Sequence[str]) -> JitLinked:
    """See `linker.link`."""
    name = f"weft.{next(_serial)}"
    parts = [*[(_OBJECT, obj) for obj in objects],
             *[(_LIBRARY, library.name.encode()) for library in needs
               if isinstance(library, JitLinked)], (_LIBRARY, b"")]
    elements = (_Element * len(parts))(*[
        _Element(kind, value, len(value)) for kind, value in parts])
    images = [library.exports for library in needs if isinstance(library, Loaded)]
    given = _symbols({n: a for table in [*images, symbols] for n, a in table.items()})
    wanted = _symbols(dict.fromkeys(exports, 0))
    with message() as text:
        tracker = call("LLJIT_Link", _jit(), name.encode(), elements, len(elements),
                       given, len(given), wanted, len(wanted), text.ref)
        if not tracker:
            raise RuntimeError(str(text))
    return JitLinked(name, tracker, needs, {n: s.address for n, s in zip(exports, wanted)})


def _symbols(table: Mapping[str, int]) -> ctypes.Array[_Symbol]:
    return (_Symbol * len(table))(*[
        _Symbol(n.encode(), address) for n, address in table.items()])


@functools.cache
def _jit() -> int:
    """The LLJIT; never given back, since code may run on other threads while Python shuts down."""
    target = host_processor()
    machine = target_machine(target)
    with message() as text:
        made = call("CreateLLJITCompiler", machine, False, "windows" not in target.triple,
                    text.ref)
        if not made:
            raise RuntimeError(f"LLVM cannot load code: {text}")
    call("DisposeTargetMachine", machine)
    return int(made)
