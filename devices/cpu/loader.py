"""Images into memory, by the operating system's own calls: Linux on x86-64 and AArch64.

Memory is never writeable and executable at the same time: an image is written, then its code
becomes read-only and executable. A library's memory is given back when the library goes.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weft.devices.cpu.image import Image

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object   # making a protocol takes as long as importing a small module

__all__ = ["Library", "Loaded", "load_image", "loads_images"]

_READ, _WRITE, _EXECUTE = 1, 2, 4       # Linux's numbers; the module `mmap` takes a while to load
_PRIVATE_ANONYMOUS = 0x22
_FAILED = ctypes.c_void_p(-1).value


class Library(Protocol):
    """Loaded code. It stays in memory as long as this object, or a library linked against it."""

    def address(self, symbol: str) -> int:
        """The address of a function or variable the library defines; `KeyError` if it does not."""

    def find(self, symbol: str) -> int | None:
        """The address, or None if the library does not define the symbol."""

    def keep(self) -> Library:
        """Never unload it (for code that threads or live objects may be in until exit)."""


class Loaded:
    """A library that was an image."""

    def __init__(self, base: int, image: Image, needs: Sequence[Library],
                 given: Mapping[str, int]) -> None:
        self._base = base
        self._size = image.size
        self._places = image.exports
        self._needs = tuple(needs)
        self._given = given     # known to those that need this library, too

    @property
    def exports(self) -> dict[str, int]:
        """The addresses of all that the library defines, and of what it was given."""
        return {**self._given, **{n: self._base + place for n, place in self._places.items()}}

    def address(self, symbol: str) -> int:
        """See `Library.address`."""
        found = self.find(symbol)
        if found is None:
            raise KeyError(f"the library has no symbol {symbol!r}")
        return found

    def find(self, symbol: str) -> int | None:
        """See `Library.find`."""
        place = self._places.get(symbol)
        return self._given.get(symbol) if place is None else self._base + place

    def keep(self) -> Loaded:
        """See `Library.keep`."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
        return self

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing():    # then other threads may still run code, and all memory goes
            _system("munmap")(self._base, self._size)


@functools.cache
def loads_images() -> bool:
    """Whether images can be loaded on this machine."""
    return sys.platform == "linux" and sys.maxsize > 1 << 32 and sys.byteorder == "little" and (
        platform.machine() in ("x86_64", "AMD64", "aarch64"))


def load_image(image: Image, needs: Sequence[Library] = (),
               symbols: Mapping[str, int] | None = None) -> Loaded:
    """Load an image made for this machine.

    Its external symbols are looked for in `symbols`, in the libraries it `needs`, then in the
    process. Raises `RuntimeError` naming those that are missing, `OSError` where the system
    refuses memory or the right to run code in it.
    """
    data = bytearray(image.data)
    given = {} if symbols is None else symbols
    addresses = _addresses(image.externals, needs, given)
    base = _map(image.size)
    made = Loaded(base, image, needs, given)
    for offset, index, addend in image.fixups:
        value = (addresses[index] if index >= 0 else base) + addend
        struct.pack_into("<Q", data, offset, value & 0xFFFFFFFFFFFFFFFF)
    ctypes.memmove(base, image.code, len(image.code))
    ctypes.memmove(base + image.data_start, bytes(data), len(data))
    if image.code and _system("mprotect")(base, len(image.code), _READ | _EXECUTE):
        raise _error("mprotect")
    return made


def _addresses(names: Sequence[str], needs: Sequence[Library], symbols: Mapping[str, int]
               ) -> list[int]:
    found = [_address(name, needs, symbols) for name in names]
    missing = [name for name, address in zip(names, found) if not address]
    if missing:
        raise RuntimeError(f"symbols not found: {', '.join(missing)}")
    return found


def _address(name: str, needs: Sequence[Library], symbols: Mapping[str, int]) -> int:
    found = symbols.get(name)
    for library in needs:
        found = found or library.find(name)
    return found or _in_process(name)


def _in_process(name: str) -> int:
    """The address of a function of the process, such as the C library's; 0 if there is none."""
    try:
        function = ctypes.pythonapi[name]      # a handle on the process: everything is in there
    except AttributeError:
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@functools.cache
def _system(name: str) -> Any:
    function = ctypes.CDLL(None, use_errno=True)[name]
    size, pointer, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    function.restype, function.argtypes = {
        "mmap": (pointer, (pointer, size, number, number, number, ctypes.c_int64)),
        "mprotect": (number, (pointer, size, number)),
        "munmap": (number, (pointer, size)),
    }[name]
    return function


def _map(size: int) -> int:
    """New memory, filled with zeros."""
    address = _system("mmap")(None, size, _READ | _WRITE, _PRIVATE_ANONYMOUS, -1, 0)
    if address is None or address == _FAILED:
        raise _error("mmap")
    return int(address)


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: no memory for machine code")
