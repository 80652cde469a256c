"""Machine code, ready to call: `load` what `assembler` makes of LLVM IR text.

    obj = assemble(ir, host_target())            # bytes
    library = load(obj)                          # linked against the native runtime
    fn = ctypes.CFUNCTYPE(None, c_void_p)(library.address("main"))

The code may call the C library, CPython, and the runtime's functions (`weft_parallel_for`,
`weft_alloc`, `weft_free`, …; see `native` and `python_api`) by name.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence

from weft.compiler.lazy_dataclass import dataclass
from weft.devices.cpu.entry_spec import EntrySpec
from weft.devices.cpu.linker import Code, Library, link, linkable
from weft.devices.cpu.native import ensure, glue
from weft.devices.protocol import Cache

__all__ = ["Entry", "Library", "load", "load_entry"]


def load(code: bytes | list[bytes] | Code, needs: Sequence[Library] = (),
         symbols: Mapping[str, int] | None = None, exports: Sequence[str] = ()) -> Library:
    """Load an object, or several as one, linked against the native runtime and what it needs.

    `symbols` gives addresses for further names; `exports` are looked up at once, which saves time
    over asking `library.address` later. The code stays loaded as long as the library is referenced.
    """
    if isinstance(code, bytes | list):
        code = linkable([code] if isinstance(code, bytes) else code)
    return link(code, (ensure(), *needs), symbols, exports)


@dataclass(frozen=True)
class Entry:
    """A loaded native entry: the address for `set_entry`, and where its misses go.

    It keeps its code and main's loaded; hold it as long as the callable that it is set on lives.
    """

    library: Library
    address: int
    next_cell: int

    def set_next(self, address: int) -> None:
        """Let misses go to the entry (any vectorcall function) at this address."""
        ctypes.c_size_t.from_address(self.next_cell).value = address


def load_entry(spec: EntrySpec, main: Library, cache: Cache | None = None) -> Entry:
    """Assemble and load the entry for a library that defines `spec.main`."""
    def ir() -> str:
        from weft.devices.cpu.entry import entry_ir  # not for entries that the cache has

        return entry_ir(spec)

    cell = f"{spec.name}.next"
    library = load(glue(f"entry {spec}", ir, cache), [main], exports=(spec.name, cell))
    return Entry(library, library.address(spec.name), library.address(cell))
