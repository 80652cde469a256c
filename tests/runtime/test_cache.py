"""The disk cache: it survives damage, sharing, full disks and missing directories."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from weft.runtime.cache import DiskCache, content_key, default_cache

KEY = content_key("some", "source")
WRITER = """
import sys
from weft.runtime.cache import DiskCache, content_key
cache = DiskCache(sys.argv[1], limit_bytes=200_000)
for i in range(400):
    key = content_key(str(i % 40))
    found = cache.get(key)
    expected = str(i % 40).encode() * 2000
    assert found is None or found == expected, i
    cache.put(key, expected)
    if i % 100 == 50:
        cache.prune()
print("done")
"""


def test_keys_depend_on_every_part() -> None:
    keys = {content_key(*parts) for parts in [("a",), ("a", ""), ("", "a"), ("a", "b"), ("ab",),
                                               (b"a", b"c")]}
    assert len(keys) == 6
    assert content_key("é") == content_key("é".encode())
    assert KEY.isalnum() and len(KEY) == 40


def test_round_trip(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    assert cache.get(KEY) is None
    for data in (b"", b"object", bytes(range(256)) * 100):
        cache.put(KEY, data)
        assert DiskCache(tmp_path).get(KEY) == data
    stats = cache.stats()
    assert (stats.entries, stats.hits, stats.misses) == (1, 0, 1)
    assert stats.bytes >= 25600 and stats.enabled and stats.directory == str(tmp_path)
    cache.clear()
    assert cache.get(KEY) is None and cache.stats().entries == 0


@pytest.mark.parametrize("damage", [
    lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b + b"x",
    lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b"X" + b[1:]])
def test_damaged_entries_are_deleted(tmp_path: Path, damage: object) -> None:
    cache = DiskCache(tmp_path)
    cache.put(KEY, b"object code")
    (path,) = tmp_path.rglob("*.o")
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert cache.get(KEY) is None
    assert not path.exists()
    cache.put(KEY, b"again")
    assert cache.get(KEY) == b"again"


@pytest.mark.parametrize("key", ["", "ab", "../../etc/passwd", "a/b/c", "a.b.c", "äöü"])
def test_odd_keys_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="not a cache key"):
        DiskCache(tmp_path).put(key, b"")


def test_the_least_recently_used_go(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit_bytes=10_000)
    keys = [content_key(str(i)) for i in range(9)]
    for i, key in enumerate(keys):
        cache.put(key, bytes(2000))
        path = tmp_path / key[:2] / f"{key}.o"
        if path.exists():
            os.utime(path, (1e9 + i, 1e9 + i))
    assert cache.get(keys[0]) is not None  # used again now
    cache.prune()
    assert cache.stats().bytes <= 7500
    assert cache.get(keys[0]) is not None and cache.get(keys[1]) is None
    assert cache.get(keys[8]) is not None
    cache.put(content_key("huge"), bytes(20_000))
    assert cache.get(content_key("huge")) is None


def test_leftovers_of_dead_writers_go(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit_bytes=1000)
    cache.put(KEY, b"x")
    left = tmp_path / KEY[:2] / ".left"
    left.write_bytes(bytes(5000))
    cache.prune()
    assert left.exists()  # may be one being written
    os.utime(left, (time.time() - 9999,) * 2)
    cache.prune()
    assert not left.exists() and cache.get(KEY) == b"x"


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path / "here"))
    monkeypatch.setenv("WEFT_CACHE_SIZE", "3m")
    cache = DiskCache()
    assert cache.limit_bytes == 3 << 20 and cache.directory == tmp_path / "here"
    cache.put(KEY, b"x")
    assert list((tmp_path / "here").rglob("*.o"))
    monkeypatch.setenv("WEFT_CACHE", "0")
    off = DiskCache()
    off.put(KEY, b"y")
    assert not off.enabled and off.get(KEY) is None and cache.get(KEY) == b"x"
    monkeypatch.setenv("WEFT_CACHE_SIZE", "lots")
    with pytest.raises(ValueError, match="LOTS"):
        DiskCache()
    default_cache.cache_clear()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG directories")
def test_platform_directory_must_be_private(tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEFT_CACHE_DIR", raising=False)
    monkeypatch.delenv("WEFT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = DiskCache()
    assert cache.enabled and cache.directory == tmp_path / "weft"
    assert cache.directory.stat().st_mode & 0o77 == 0
    cache.directory.chmod(0o777)  # anyone could put code there
    assert not DiskCache().enabled
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert not DiskCache().enabled


def test_directories_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    for place in (file, file / "below", "/proc/none/here"):
        cache = DiskCache(place)
        cache.put(KEY, b"x")
        assert cache.get(KEY) is None
        assert cache.stats().entries == 0
        cache.prune()
        cache.clear()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_read_only_directory(tmp_path: Path) -> None:
    DiskCache(tmp_path).put(KEY, b"x")
    (tmp_path / KEY[:2]).chmod(0o500)
    cache = DiskCache(tmp_path)
    cache.put(KEY, b"y")
    assert cache.get(KEY) == b"x"
    (tmp_path / KEY[:2]).chmod(0o700)


def test_several_processes(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for _ in range(4)]
    for writer in writers:
        out, error = writer.communicate(timeout=60)
        assert out == "done\n", error
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".o"]
