"""Native objects into memory, ready to call.

Where that is possible, objects become an image (`elf`), which is loaded without LLVM (`loader`);
elsewhere LLVM loads them (`jitlink`). Either is `Code`, which the disk cache keeps as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from weft.compiler.lazy_dataclass import dataclass
from weft.devices.cpu.image import Image
from weft.devices.cpu.loader import Library, load_image, loads_images

__all__ = ["Code", "Library", "Objects", "link", "linkable", "read_code"]

_MAGIC = b"WEFTOBJS"


@dataclass(frozen=True)
class Objects:
    """Objects of one library, for LLVM to load."""

    parts: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """The objects as one block of bytes."""
        sizes = [len(part) for part in self.parts]
        return b"".join([_MAGIC, struct.pack(f"<I{len(sizes)}I", len(sizes), *sizes), *self.parts])


Code: TypeAlias = Image | Objects


def linkable(objects: Sequence[bytes]) -> Code:
    """The objects of one library, for this machine, in the form in which they are loaded here."""
    if loads_images():
        from weft.devices.cpu import elf  # nothing that the cache has needs it

        try:
            return elf.image_of(objects)
        except elf.UnsupportedObject:
            pass
    return Objects(tuple(objects))


def read_code(data: bytes) -> Code:
    """What `to_bytes` gave for some code. Raises `ValueError` for anything else."""
    if not data.startswith(_MAGIC):
        return Image.from_bytes(data)
    try:
        count, = struct.unpack_from("<I", data, 8)
        sizes = struct.unpack_from(f"<{count}I", data, 12)
    except struct.error as error:
        raise ValueError(f"not machine code: {error}") from None
    parts, at = [], 12 + 4 * count
    for size in sizes:
        parts.append(data[at:at + size])
        at += size
    if at != len(data) or not parts:
        raise ValueError("not machine code: its sizes do not add up")
    return Objects(tuple(parts))


def link(code: Code, needs: Sequence[Library] = (), symbols: Mapping[str, int] | None = None,
         exports: Sequence[str] = ()) -> Library:
    """Load code, as one library.

    Symbols that it does not define are looked for in `symbols` (name to address), in the libraries
    it `needs`, then in the process (the C library, Python). `exports` are looked up at once; any
    other symbol can still be asked for later. Raises `RuntimeError` naming what is missing.
    """
    if isinstance(code, Objects):
        from weft.devices.cpu.jitlink import jit_link  # seldom needed, and slow to set up

        return jit_link(code.parts, needs, symbols or {}, exports)
    library = load_image(code, needs, symbols)
    missing = [name for name in exports if library.find(name) is None]
    if missing:
        raise RuntimeError(f"symbols not found: {', '.join(missing)}")
    return library
