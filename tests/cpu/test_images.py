"""Machine code as images: objects linked, kept as bytes, loaded; bytes that are none refused."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import struct
import sys
from pathlib import Path

import pytest

from weft.devices.cpu import elf, linker, loader
from weft.devices.cpu.assembler import assemble
from weft.devices.cpu.elf import UnsupportedObject, image_of
from weft.devices.cpu.engine import load
from weft.devices.cpu.host import host_target, target_named
from weft.devices.cpu.image import PAGE, Image
from weft.devices.cpu.linker import Objects, link, linkable, read_code
from weft.devices.cpu.loader import load_image, loads_images

needs_images = pytest.mark.skipif(not loads_images(), reason="LLVM loads code on this system")
i64 = ctypes.c_int64

# Every way in which code refers to something: functions and variables of its own and of others,
# constants beside the code, addresses in data, memory that begins as zeros.
FIRST = """
@count = global i64 5
@zeros = global [100 x i64] zeroinitializer
@table = global [3 x ptr] [ptr @count, ptr @other, ptr getelementptr (i8, ptr @zeros, i64 16)]
@other = external global i64
@hidden = internal global i64 7
@floats = internal constant [4 x double] [double 1.0, double 2.0, double 4.0, double 8.0]
declare i64 @second(i64)
declare double @cos(double)
declare i64 @labs(i64)
define i64 @total(i64 %i) {
  %c = load i64, ptr @count
  %o = load i64, ptr @other
  %h = load i64, ptr @hidden
  %s = call i64 @second(i64 %i)
  %a = call i64 @labs(i64 -1000)
  %fp = getelementptr double, ptr @floats, i64 %i
  %f = load double, ptr %fp
  %z = call double @cos(double 0.0)
  %g = fadd double %f, %z
  %n = fptosi double %g to i64
  %zp = getelementptr i64, ptr @zeros, i64 %i
  store i64 %n, ptr %zp
  %t1 = add i64 %c, %o
  %t2 = add i64 %h, %s
  %t3 = add i64 %t1, %t2
  %t4 = add i64 %t3, %n
  %t5 = add i64 %t4, %a
  ret i64 %t5
}
"""
SECOND = """
@other = global i64 30
define i64 @second(i64 %x) {
  %m = mul i64 %x, 10000
  ret i64 %m
}
"""


def objects() -> list[bytes]:
    return [assemble(text, host_target()) for text in (FIRST, SECOND)]


def total(library: loader.Library, i: int) -> int:
    return int(ctypes.CFUNCTYPE(i64, i64)(library.address("total"))(i))


@needs_images
def test_objects_become_one_library() -> None:
    image = image_of(objects())
    assert set(image.externals) == {"labs", "cos"}
    for made in (image, Image.from_bytes(image.to_bytes())):
        library = load_image(made)
        assert [total(library, i) for i in range(4)] == [
            5 + 30 + 7 + 1000 + i * 10000 + 2**i + 1 for i in range(4)]
        table = (ctypes.c_size_t * 3).from_address(library.address("table"))
        assert list(table) == [library.address("count"), library.address("other"),
                               library.address("zeros") + 16]
        zeros = (i64 * 100).from_address(library.address("zeros"))
        assert list(zeros)[:5] == [2, 3, 5, 9, 0] and sum(zeros) == 19


@needs_images
def test_memory_is_never_writeable_and_executable() -> None:
    library = load_image(image_of(objects()))
    rights = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, _, end = line.split()[0].partition("-")
        for name in ("total", "count"):
            if int(start, 16) <= library.address(name) < int(end, 16):
                rights[name] = line.split()[1][:3]
    assert rights == {"total": "r-x", "count": "rw-"}


@needs_images
def test_memory_is_given_back() -> None:
    image = image_of(objects())
    library = load_image(image)
    start = library.address("total")
    del library
    gc.collect()
    assert f"{start - start % 4096:x}-" not in Path("/proc/self/maps").read_text()


@needs_images
def test_what_is_missing_is_named() -> None:
    image = image_of([assemble("declare void @nowhere()\ndeclare void @neither()\n"
                               "define void @f() {\n  call void @nowhere()\n"
                               "  call void @neither()\n  ret void\n}", host_target())])
    with pytest.raises(RuntimeError, match=r"^symbols not found: nowhere, neither$"):
        load_image(image)
    with pytest.raises(RuntimeError, match=r"^symbols not found: main$"):
        link(image_of([assemble(SECOND, host_target())]), exports=("second", "main"))


@needs_images
def test_a_name_is_defined_once() -> None:
    one = assemble(SECOND, host_target())
    with pytest.raises(RuntimeError, match=r"'other' is defined twice|'second' is defined twice"):
        image_of([one, one])


def test_what_the_linker_does_not_know() -> None:
    target = target_named("avx2")
    for text, what in (
            ("@x = thread_local global i64 1\n", "thread-local variables"),
            ("@x = common global i64 0\n", "the common symbol 'x'"),
            ("@x = external global i64\n@y = constant ptr @x\n", ""),
            ("@f = ifunc void (), ptr @g\ndefine ptr @g() {\n  ret ptr null\n}\n",
             "the type of the symbol 'f'")):
        obj = assemble(text, target)
        if what:
            with pytest.raises(UnsupportedObject, match=what):
                image_of([obj])
        else:
            assert image_of([obj]).externals == ("x",)
    for raw in (b"MZ" + bytes(100), b"\x7fELF\x01\x01\x01" + bytes(100)):
        with pytest.raises(UnsupportedObject, match="not a relocatable object"):
            image_of([raw])


# ---- AArch64: no such machine here, so instructions are read rather than run

def _field(word: int, low: int, width: int) -> int:
    value = word >> low & ((1 << width) - 1)
    return value - (1 << width) if value >> width - 1 else value


def _pages(word: int) -> int:
    """The distance in pages that an `adrp` has."""
    return _field((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 0, 21)


def test_aarch64_references_lead_where_they_should() -> None:
    image = image_of([assemble(text, target_named("aarch64")) for text in (FIRST, SECOND)])
    words = struct.unpack(f"<{len(image.code) // 4}I", image.code[:len(image.code) // 4 * 4])
    reached: set[int] = set()
    calls: set[int] = set()
    start = image.exports["total"] // 4
    for i, word in enumerate(words[start:], start):
        if word & 0x9F000000 == 0x90000000:                     # adrp, then an offset in the page
            page = (4 * i >> 12) + _pages(word)
            for later in words[i + 1:i + 30]:
                if later >> 5 & 31 == word & 31 and later & 0xFFC00000 in (
                        0xF9400000, 0x91000000):                # ldr x, [x, n]; add x, x, n
                    scale = 3 if later & 0xFFC00000 == 0xF9400000 else 0
                    reached.add((page << 12) + ((later >> 10 & 0xFFF) << scale))
                    break
        if word & 0xFC000000 == 0x94000000:                     # bl
            calls.add(4 * (i + _field(word, 0, 26)))
    words_of_data = {image.data_start + offset: (index, addend)
                     for offset, index, addend in image.fixups}
    targets = {words_of_data.get(place, (-1, place)) for place in reached}
    assert {(-1, image.exports["count"]), (-1, image.exports["other"])} <= targets
    assert {(image.externals.index(n), 0) for n in ("labs", "cos")} <= targets  # through stubs
    assert image.exports["second"] in calls and len(calls) == 3


@pytest.mark.parametrize("kind, target, place, word, want", [
    (275, 0x12345678, 0x1000, 0x90000000, 0x90000000 | (0x12344 & 3) << 29 | 0x12344 >> 2 << 5),
    (275, 0x1000, 0x12345678, 0x90000000,
     0x90000000 | (-0x12344 & 3) << 29 | (-0x12344 >> 2 & 0x7FFFF) << 5),
    (277, 0x12345678, 0, 0x91000000, 0x91000000 | 0x678 << 10),
    (286, 0x12345678, 0, 0xF9400000, 0xF9400000 | 0x678 >> 3 << 10),
    (299, 0x12345670, 0, 0x3DC00000, 0x3DC00000 | 0x670 >> 4 << 10),
    (283, 0x2000, 0x1000, 0x94000000, 0x94000400),
    (283, 0x1000, 0x2000, 0x94000000, 0x97FFFC00)])
def test_aarch64_relocations(kind: int, target: int, place: int, word: int, want: int) -> None:
    code = bytearray(struct.pack("<I", word))
    elf._write_aarch64(code, 0, kind, target, place)
    assert struct.unpack("<I", code)[0] == want


@pytest.mark.parametrize("kind, target", [(286, 4), (283, 1 << 28), (283, 2), (275, 1 << 34),
                                          (999, 0)])
def test_aarch64_relocations_that_do_not_fit(kind: int, target: int) -> None:
    with pytest.raises(UnsupportedObject, match=f"the AArch64 relocation {kind}"):
        elf._write_aarch64(bytearray(4), 0, kind, target, 0)


def test_x86_relocations_that_do_not_fit() -> None:
    for kind, target in ((2, 1 << 31), (10, 0)):
        with pytest.raises(UnsupportedObject, match=f"the x86-64 relocation {kind}"):
            elf._write_x86(bytearray(8), 0, kind, target, 0)


# ---- bytes

IMAGE = Image(b"code", bytes(32), 8, ("one", "two"), {"main": 0, "data": PAGE + 16},
              ((0, 0, 0), (8, 1, -4), (24, -1, PAGE)))


def test_images_as_bytes() -> None:
    for image in (IMAGE, Image(b"", b"", 0, (), {}, ())):
        assert Image.from_bytes(image.to_bytes()) == image
        assert read_code(image.to_bytes()) == image


@pytest.mark.parametrize("change", [
    {"fixups": ((25, 0, 0),)}, {"fixups": ((0, 2, 0),)}, {"fixups": ((0, -2, 0),)},
    {"exports": {"main": PAGE + 40}}, {"externals": ("a\nb", "c")}, {"zeros": 1 << 30},
], ids=str)
def test_images_that_reach_outside_are_refused(change: dict[str, object]) -> None:
    bad = Image(**{**vars(IMAGE), **change})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not an image"):
        Image.from_bytes(bad.to_bytes())


def test_damaged_bytes_are_refused_or_harmless() -> None:
    """Whatever is read either is refused, or stays within its own memory when it is loaded."""
    good, rng = IMAGE.to_bytes(), random.Random(0)
    for _ in range(3000):
        raw = bytearray(good[:rng.randrange(len(good) + 1)])
        for _ in range(rng.randrange(4)):
            if raw:
                raw[rng.randrange(len(raw))] = rng.randrange(256)
        try:
            image = Image.from_bytes(bytes(raw))
        except ValueError:
            continue
        assert all(offset + 8 <= len(image.data) for offset, _, _ in image.fixups)
        assert all(index < len(image.externals) for _, index, _ in image.fixups)
        assert all(0 <= place < image.size for place in image.exports.values())


def test_objects_as_bytes() -> None:
    code = Objects((b"first", b"", b"third"))
    raw = code.to_bytes()
    assert read_code(raw) == code
    for bad in (raw[:-1], raw + b"x", raw[:10], raw[:8] + b"\xff" * 4 + raw[12:],
                Objects(()).to_bytes()):
        with pytest.raises(ValueError, match="not machine code"):
            read_code(bad)


# ---- where LLVM loads code

def test_llvm_loads_what_becomes_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linker, "loads_images", lambda: False)
    code = linkable(objects())
    assert isinstance(code, Objects)
    library = load(code, exports=("total",))
    assert total(library, 2) == 5 + 30 + 7 + 1000 + 20000 + 5
    assert library.find("nothing") is None
    with pytest.raises(KeyError, match="nothing"):
        library.address("nothing")


@needs_images
def test_both_kinds_of_library_link_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    base = load(assemble("@seven = global i64 7\ndefine i64 @get() { ret i64 7 }", host_target()))
    text = ("declare i64 @get()\n@seven = external global i64\n"
            "define i64 @sum() { %a = call i64 @get()\n %b = load i64, ptr @seven\n"
            " %c = add i64 %a, %b\n ret i64 %c }")
    user = assemble(text, host_target())
    with monkeypatch.context() as patch:
        patch.setattr(linker, "loads_images", lambda: False)
        over_image = load(user, [base], exports=("sum",))
        under = load(assemble("@seven = global i64 8\ndefine i64 @get() { ret i64 8 }",
                              host_target()))
    over_llvm = load(user, [under], exports=("sum",))
    for library, want in ((over_image, 14), (over_llvm, 16)):
        assert ctypes.CFUNCTYPE(i64)(library.address("sum"))() == want


def test_unsupported_objects_are_left_to_llvm() -> None:
    code = linkable([assemble("@x = common global i64 0\n", host_target())])
    assert isinstance(code, Objects)


def test_where_images_are_loaded() -> None:
    assert loads_images() == (sys.platform == "linux" and os.uname().machine in (
        "x86_64", "aarch64") and sys.maxsize > 1 << 32)
