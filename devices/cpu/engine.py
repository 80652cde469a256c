"""From LLVM IR text to callable code: `assemble`, then `load`.

    obj = assemble(ir, host_target())            # bytes, may be kept on disk
    library = load(obj)                          # linked against the native runtime
    fn = ctypes.CFUNCTYPE(None, c_void_p)(library.address("main"))

The code may call the C library, CPython, and the runtime's functions (`weft_parallel_for`,
`weft_alloc`, `weft_free`, …; see `native` and `python_api`) by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from weft.devices.cpu.assembler import ObjectCache, assemble, assembly_text, llvm_version
from weft.devices.cpu.linker import Library, link
from weft.devices.cpu.native import ensure

__all__ = ["Library", "ObjectCache", "assemble", "assembly_text", "llvm_version", "load"]


def load(obj: bytes, needs: Sequence[Library] = (), symbols: Mapping[str, int] | None = None,
         exports: Sequence[str] = ()) -> Library:
    """Load an object, linked against the native runtime and the libraries it needs.

    `symbols` gives addresses for further names; `exports` are looked up at once, which saves time
    over asking `library.address` later. The code stays loaded as long as the library is referenced.
    """
    return link(obj, (ensure(), *needs), symbols, exports)
