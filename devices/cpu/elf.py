"""ELF objects, as LLVM writes them, to images: sections laid out and relocated.

This is the part of a linker that generated code needs: x86-64 and AArch64, position-independent
code of the small code model, no thread-local variables and no common symbols. Calls of functions
that are not defined here go through stubs, and their addresses, like those of variables, are words
of the data segment. Relocations are those of the System V psABI for x86-64 and of ELF for AArch64.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from weft.compiler.lazy_dataclass import dataclass
from weft.devices.cpu.image import PAGE, Image

__all__ = ["UnsupportedObject", "image_of"]

_HEADER = struct.Struct("<4s5B7xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_PROGBITS, _SYMTAB, _RELA_TYPE, _NOBITS = 1, 2, 4, 8
_WRITE, _ALLOC, _TLS = 1, 2, 0x400
_LOCAL, _FUNCTION_OR_LESS = 0, 3        # a binding; of symbol types those up to sections
_UNDEFINED, _ABSOLUTE, _RESERVED = 0, 0xFFF1, 0xFF00
_MACHINES = {62: "x86_64", 183: "aarch64"}


class UnsupportedObject(RuntimeError):
    """An object that has something this linker does not know."""


@dataclass(eq=False)
class _Section:
    """A section that is loaded: where it goes in its segment, and its contents."""

    writeable: bool
    align: int
    size: int
    contents: bytes | None              # None: zeros
    start: int = 0                      # from the begin of the code


@dataclass(frozen=True, eq=False)
class _Symbol:
    """A symbol: defined at an offset of a section, or to be found elsewhere."""

    name: str
    section: _Section | None
    value: int
    local: bool


@dataclass(frozen=True, eq=False)
class _Relocation:
    section: _Section
    offset: int
    kind: int
    symbol: _Symbol
    addend: int


class _Object:
    """One object file, read."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head = _HEADER.unpack_from(raw)
        if head[0] != b"\x7fELF" or head[1:3] != (2, 1) or head[6] != 1:
            raise UnsupportedObject("not a relocatable object of 64-bit little-endian ELF")
        self.machine = _MACHINES.get(head[7], "")
        table, count = head[11], head[17]
        self.headers = [_SECTION.unpack_from(raw, table + i * _SECTION.size) for i in range(count)]
        self.sections = [self._section(h) for h in self.headers]
        self.symbols = list(self._symbols())
        self.relocations = list(self._relocations())

    def _section(self, header: tuple[int, ...]) -> _Section | None:
        _, kind, flags, _, offset, size, _, _, align, _ = header
        if flags & _TLS:
            raise UnsupportedObject("thread-local variables")
        if not flags & _ALLOC or kind not in (_PROGBITS, _NOBITS):
            return None                 # unwinding tables (of another type) too: nothing throws
        contents = None if kind == _NOBITS else self.raw[offset:offset + size]
        return _Section(bool(flags & _WRITE), max(align, 1), size, contents)

    def _symbols(self) -> Iterator[_Symbol]:
        for header in (h for h in self.headers if h[1] == _SYMTAB):
            offset, size, names = header[4], header[5], self.headers[header[6]][4]
            for name, info, _, place, value, _ in _SYMBOL.iter_unpack(
                    self.raw[offset:offset + size]):
                end = self.raw.index(b"\0", names + name)
                text = self.raw[names + name:end].decode()
                if info & 15 > _FUNCTION_OR_LESS and info & 15 != 4:    # 4: names of files
                    raise UnsupportedObject(f"the type of the symbol {text!r}")
                if place >= _RESERVED and place != _ABSOLUTE:
                    raise UnsupportedObject(f"the common symbol {text!r}")
                section = self.sections[place] if place < _RESERVED and place else None
                yield _Symbol(text, section, value, info >> 4 == _LOCAL)

    def _relocations(self) -> Iterator[_Relocation]:
        for header in self.headers:
            _, kind, _, _, offset, size, _, target, _, _ = header
            section = self.sections[target] if kind == _RELA_TYPE else None
            if section is not None:
                for where, info, addend in _RELA.iter_unpack(self.raw[offset:offset + size]):
                    yield _Relocation(section, where, info & 0xFFFFFFFF,
                                      self.symbols[info >> 32], addend)


def image_of(objects: Sequence[bytes]) -> Image:
    """The image of objects that may refer to each other.

    Raises `UnsupportedObject` where they have something unknown, `RuntimeError` where two define
    the same name.
    """
    read = [_Object(raw) for raw in objects]
    machine = read[0].machine
    if not machine or any(o.machine != machine for o in read):
        raise UnsupportedObject("a machine other than x86-64 and AArch64")
    return _Linker(machine, read).image()


class _Linker:
    """Lays sections out, and resolves relocations."""

    def __init__(self, machine: str, objects: Sequence[_Object]) -> None:
        self.write, self.stub = _WRITERS[machine], _STUBS[machine]
        self.objects = objects
        self.defined: dict[str, _Symbol] = {}
        for symbol in (s for o in objects for s in o.symbols):
            if not symbol.local and symbol.section is not None:
                if symbol.name in self.defined:
                    raise RuntimeError(f"the symbol {symbol.name!r} is defined twice")
                self.defined[symbol.name] = symbol
        self.words: dict[object, int] = {}          # what a word holds the address of -> its number
        self.stubs: dict[str, int] = {}             # function -> number of its stub
        self.fixups: list[tuple[int, int, int]] = []
        self.externals: dict[str, int] = {}

    def image(self) -> Image:
        """The image."""
        relocations = [r for o in self.objects for r in o.relocations]
        self._plan(relocations)
        sections = [s for o in self.objects for s in o.sections if s is not None]
        code_end = _place((s for s in sections if not s.writeable), 0)
        self.stub_start = -(-code_end // 16) * 16
        code = bytearray(self.stub_start + 16 * len(self.stubs))
        self.data_start = -(-len(code) // PAGE) * PAGE
        place = self.data_start + 8 * len(self.words)
        place = data_end = _place((s for s in sections if s.writeable and s.contents is not None),
                                  place)
        end = _place((s for s in sections if s.contents is None), place)
        data = bytearray(data_end - self.data_start)
        for s in sections:
            if s.contents is not None:
                segment, start = self._segment(s, code, data)
                segment[start:start + s.size] = s.contents
        for name, number in self.stubs.items():
            at = self.stub_start + 16 * number
            self.stub(code, at, self._word(("external", name)) - at)
        for key, number in self.words.items():
            self._fill(8 * number, key)
        for r in relocations:
            segment, start = self._segment(r.section, code, data)
            self._relocate(r, segment, start + r.offset)
        return Image(bytes(code), bytes(data), end - data_end, tuple(self.externals),
                     {n: self._address(s) for n, s in self.defined.items()}, tuple(self.fixups))

    def _segment(self, s: _Section, code: bytearray, data: bytearray) -> tuple[bytearray, int]:
        return (data, s.start - self.data_start) if s.writeable else (code, s.start)

    def _plan(self, relocations: Iterable[_Relocation]) -> None:
        """Number the words and stubs that are needed."""
        for r in relocations:
            symbol = self._resolved(r.symbol)
            if r.kind in _THROUGH_A_WORD:
                self.words.setdefault(self._key(symbol), len(self.words))
            elif r.kind in _CALLS and symbol.section is None:
                self.words.setdefault(self._key(symbol), len(self.words))
                self.stubs.setdefault(symbol.name, len(self.stubs))

    def _resolved(self, symbol: _Symbol) -> _Symbol:
        return symbol if symbol.section is not None else self.defined.get(symbol.name, symbol)

    def _key(self, symbol: _Symbol) -> object:
        return ("external", symbol.name) if symbol.section is None else symbol

    def _word(self, key: object) -> int:
        return self.data_start + 8 * self.words[key]

    def _address(self, symbol: _Symbol) -> int:
        if symbol.section is None:
            raise UnsupportedObject(f"a reference to {symbol.name!r} that is not through a word")
        return symbol.section.start + symbol.value

    def _fill(self, offset: int, key: object, addend: int = 0) -> None:
        """Let a word of the data hold an address."""
        if isinstance(key, _Symbol):
            self.fixups.append((offset, -1, self._address(key) + addend))
        else:
            name = key[1]  # type: ignore[index]
            index = self.externals.setdefault(name, len(self.externals))
            self.fixups.append((offset, index, addend))

    def _relocate(self, r: _Relocation, segment: bytearray, at: int) -> None:
        symbol = self._resolved(r.symbol)
        place = r.section.start + r.offset
        if r.kind in _ABSOLUTE_WORDS:
            if not r.section.writeable:
                raise UnsupportedObject("an address in read-only memory")
            self._fill(at, self._key(symbol), r.addend)
            return
        if r.kind in _THROUGH_A_WORD:
            target = self._word(self._key(symbol))
        elif r.kind in _CALLS and symbol.section is None:
            target = self.stub_start + 16 * self.stubs[symbol.name]
        else:
            target = self._address(symbol)
        self.write(segment, at, r.kind, target + r.addend, place)


def _place(sections: Iterable[_Section], start: int) -> int:
    """Give sections their places, one after another; returns the end."""
    for s in sections:
        s.start = -(-start // s.align) * s.align
        start = s.start + s.size
    return start


# --------------------------------------------------------------------------- x86-64

# Kinds of relocations have distinct numbers on the two machines.
_ABSOLUTE_WORDS = frozenset({1, 257})                       # R_X86_64_64, R_AARCH64_ABS64
_THROUGH_A_WORD = frozenset({9, 41, 42, 311, 312})          # GOTPCREL*; ADR_GOT_PAGE, LD64_GOT_LO12
_CALLS = frozenset({4, 282, 283})                           # PLT32; JUMP26, CALL26


def _write_x86(segment: bytearray, at: int, kind: int, target: int, place: int) -> None:
    distance = target - place
    if kind in (2, 4, 9, 41, 42) and -1 << 31 <= distance < 1 << 31:
        struct.pack_into("<i", segment, at, distance)
    elif kind == 24:                                        # R_X86_64_PC64
        struct.pack_into("<q", segment, at, distance)
    else:
        raise UnsupportedObject(f"the x86-64 relocation {kind}")


def _stub_x86(code: bytearray, at: int, distance: int) -> None:
    code[at:at + 16] = b"\xff\x25" + struct.pack("<i", distance - 6) + b"\xcc" * 10  # jmp [rip + …]


# --------------------------------------------------------------------------- AArch64

_LOW12 = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4, 312: 3}   # ADD, LDST8 … LDST128, LD64_GOT


def _write_aarch64(segment: bytearray, at: int, kind: int, target: int, place: int) -> None:
    distance = target - place
    if kind == 261 and -1 << 31 <= distance < 1 << 31:      # R_AARCH64_PREL32
        struct.pack_into("<i", segment, at, distance)
        return
    if kind == 260:                                         # R_AARCH64_PREL64
        struct.pack_into("<q", segment, at, distance)
        return
    word, = struct.unpack_from("<I", segment, at)
    if kind in (275, 311):                                  # ADR_PREL_PG_HI21, ADR_GOT_PAGE
        pages = (target >> 12) - (place >> 12)
        word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
        good = -1 << 20 <= pages < 1 << 20
    elif kind in _LOW12:
        low, shift = target & 0xFFF, _LOW12[kind]
        word |= low >> shift << 10
        good = low % (1 << shift) == 0
    elif kind in _CALLS:
        word |= distance >> 2 & 0x3FFFFFF
        good = distance % 4 == 0 and -1 << 27 <= distance < 1 << 27
    else:
        raise UnsupportedObject(f"the AArch64 relocation {kind}")
    if not good:
        raise UnsupportedObject(f"the AArch64 relocation {kind}, over too large a distance")
    struct.pack_into("<I", segment, at, word)


def _stub_aarch64(code: bytearray, at: int, distance: int) -> None:
    pages = (at + distance >> 12) - (at >> 12)
    low = (at + distance & 0xFFF) >> 3
    struct.pack_into("<4I", code, at,
                     0x90000010 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5,  # adrp x16
                     0xF9400210 | low << 10,                                        # ldr x16, [x16]
                     0xD61F0200, 0)                                                 # br x16


_Writer = Callable[[bytearray, int, int, int, int], None]
_WRITERS: Mapping[str, _Writer] = {"x86_64": _write_x86, "aarch64": _write_aarch64}
_STUBS: Mapping[str, Callable[[bytearray, int, int], None]] = {
    "x86_64": _stub_x86, "aarch64": _stub_aarch64}
