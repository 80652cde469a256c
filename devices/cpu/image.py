"""Machine code as an image: laid out, relocated, and ready to be copied into memory.

An image has two segments, code (with constants) and data, at a fixed distance from each other, so
that all that code says of itself holds wherever it lies. What depends on where things are stands in
`fixups`: words of the data segment that get an address when the image is loaded. Code calls and
reads other libraries through such words.

The bytes of an image are what the disk cache keeps. They are not trusted: whatever `from_bytes`
accepts can be loaded without writing outside the image.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from weft.compiler.lazy_dataclass import dataclass

__all__ = ["PAGE", "Image", "is_image"]

PAGE = 1 << 16          # segments begin at multiples of the largest page any machine uses
_MAGIC = b"WEFTIMG1"
_HEAD = struct.Struct("<8s6I")
_FIXUP = struct.Struct("<Iiq")
_LARGEST = 1 << 28      # bytes of a segment


def is_image(data: bytes) -> bool:
    """Whether the bytes are meant to be an image."""
    return data.startswith(_MAGIC)


@dataclass(frozen=True)
class Image:
    """Code and data with the names they need and define.

    The data segment begins `data_start` bytes after the code, with `data` and then `zeros` bytes.
    `exports` gives the places of symbols, counted from the begin of the code. A fixup ``(offset,
    external, addend)`` puts the address of ``externals[external]``, or that of the code itself for
    -1, plus the addend at an offset of the data.
    """

    code: bytes
    data: bytes
    zeros: int
    externals: tuple[str, ...]
    exports: Mapping[str, int]
    fixups: tuple[tuple[int, int, int], ...]

    @property
    def data_start(self) -> int:
        """Where the data segment begins."""
        return -(-len(self.code) // PAGE) * PAGE

    @property
    def size(self) -> int:
        """Bytes from the begin of the code to the end of the data."""
        return self.data_start + len(self.data) + self.zeros

    def to_bytes(self) -> bytes:
        """The image as one block of bytes."""
        names = "\n".join([*self.externals, *self.exports]).encode()
        head = _HEAD.pack(_MAGIC, len(self.code), len(self.data), self.zeros, len(self.externals),
                          len(self.exports), len(self.fixups))
        places = struct.pack(f"<{len(self.exports)}I", *self.exports.values())
        fixups = b"".join([_FIXUP.pack(*fixup) for fixup in self.fixups])
        return b"".join([head, self.code, self.data, places, fixups, names])

    @staticmethod
    def from_bytes(data: bytes) -> Image:
        """The image that these bytes are; a `ValueError` if they are none."""
        try:
            return _read(data)
        except (struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"not an image: {error}") from None


def _read(raw: bytes) -> Image:
    magic, code, data, zeros, externals, exports, fixups = _HEAD.unpack_from(raw)
    at = [_HEAD.size]
    for size in (code, data, 4 * exports, _FIXUP.size * fixups):
        at.append(at[-1] + size)
    if magic != _MAGIC or at[-1] > len(raw) or max(code, data, zeros) > _LARGEST:
        raise ValueError("not an image")
    names = raw[at[4]:].decode().split("\n") if externals + exports else []
    places = struct.unpack_from(f"<{exports}I", raw, at[2])
    image = Image(raw[at[0]:at[1]], raw[at[1]:at[2]], zeros, tuple(names[:externals]),
                  dict(zip(names[externals:], places)),
                  tuple(_FIXUP.iter_unpack(raw[at[3]:at[4]])))
    if (len(names) != externals + exports or len(image.exports) != exports
            or any(place >= image.size for place in places)
            or any(offset + 8 > data or not -1 <= index < externals
                   for offset, index, _ in image.fixups)):
        raise ValueError("not an image: something in it lies outside")
    return image
