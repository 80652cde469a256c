"""Compiled objects kept on disk from one process to the next.

Environment variables: `WEFT_CACHE=0` switches it off, `WEFT_CACHE_DIR` says where it is (else the
platform's place for caches), `WEFT_CACHE_SIZE` how large it may grow (`512M` unless set).

Nothing that can go wrong with files is an error here: an entry that cannot be read is not there,
one that cannot be written is not kept. Several processes may share a directory: entries appear
whole, by renaming, and carry a checksum, so a damaged one is found, deleted and made again.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from weft.compiler.digest import blake2b, content_key
from weft.compiler.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from pathlib import Path  # slow to import

__all__ = ["CacheStats", "DiskCache", "content_key", "default_cache",
           "disk_cache"]

_MAGIC = b"WEFTOBJ1"
_DIGEST = 32
_DEFAULT_BYTES = 512 << 20
_FRESH_SECONDS = 3600.0  # an entry used within this time is not marked as used again
_PRUNE_ONE_IN = 32       # how many writes lead to one look at the size of the whole cache
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
_KEEP = 0.75             # of the limit stays when pruned


@dataclass(frozen=True)
class CacheStats:
    """What a cache holds (`entries`, `bytes`, of at most `limit_bytes`), where, and how often this
    process found (`hits`) or did not find (`misses`) what it asked for."""

    directory: str
    enabled: bool
    entries: int
    bytes: int
    limit_bytes: int
    hits: int
    misses: int


class DiskCache:
    """Bytes by key in a directory; the least recently used go when it is full.

    What is not given is taken from the environment (see the module). A directory that was not
    asked for by name is only used while no other user could have written to it.
    """

    def __init__(self, directory: str | Path | None = None, limit_bytes: int | None = None,
                 enabled: bool | None = None) -> None:
        named = os.fspath(directory or os.environ.get("WEFT_CACHE_DIR", ""))
        self._folder = named or _platform_directory()
        self.limit_bytes = _limit_from_environment() if limit_bytes is None else limit_bytes
        off = os.environ.get("WEFT_CACHE", "").strip().lower() in ("0", "off", "no", "false")
        self.enabled = (not off if enabled is None else enabled) and self.limit_bytes > 0
        if self.enabled and not named:
            self.enabled = _is_private(self._folder)
        self.hits = self.misses = 0

    @property
    def directory(self) -> Path:
        """Where the entries are."""
        from pathlib import Path  # slow to import

        return Path(self._folder)

    def get(self, key: str) -> bytes | None:
        """The bytes kept under the key, or None."""
        data = self._read(self._path(key)) if self.enabled else None
        if data is None:
            self.misses += 1
        else:
            self.hits += 1
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep the bytes under the key, if that is possible."""
        path = self._path(key)
        if not self.enabled or len(data) > self.limit_bytes:
            return
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            _write(path, _MAGIC + _checksum(data) + data)
            if int(key[-4:], 36) % _PRUNE_ONE_IN == 0:
                self.prune()

    def prune(self) -> None:
        """Where the cache is larger than its limit, delete the least recently used entries."""
        entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime)
        total = sum(info.st_size for _, info in entries)
        if total <= self.limit_bytes:
            return
        for path, info in entries:
            if total <= _KEEP * self.limit_bytes:
                break
            _delete(path)
            total -= info.st_size

    def clear(self) -> None:
        """Delete every entry."""
        for path, _ in self._entries():
            _delete(path)

    def stats(self) -> CacheStats:
        """What the cache holds now."""
        sizes = [info.st_size for _, info in self._entries()]
        return CacheStats(self._folder, self.enabled, len(sizes), sum(sizes),
                          self.limit_bytes, self.hits, self.misses)

    def _path(self, key: str) -> str:
        if not (key.isascii() and key.isalnum() and len(key) > 2):
            raise ValueError(f"{key!r} is not a cache key (letters and digits, three at least)")
        return os.path.join(self._folder, key[:2], f"{key}.o")

    def _read(self, path: str) -> bytes | None:
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST
        data = content[start:]
        if content[:start] != _MAGIC + _checksum(data):
            _delete(path)
            return None
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime > _FRESH_SECONDS:
                os.utime(path)
        return data

    def _entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """All entries, and what writers that died have left behind."""
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self._folder)):
                folder = os.path.join(self._folder, name)
                if len(name) == 2 and os.path.isdir(folder):
                    yield from _files(folder)


def disk_cache() -> DiskCache | None:
    """Where machine code is kept between processes, unless that is switched off."""
    cache = default_cache()
    return cache if cache.enabled else None


@functools.cache
def default_cache() -> DiskCache:
    """The cache that the environment asks for, made once."""
    return DiskCache()


def _platform_directory() -> str:
    """Where this system keeps caches of programs."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "weft")


def _is_private(directory: str) -> bool:
    """Whether it is a directory of ours, made if need be, that nobody else may write to.

    What is read from it will be run.
    """
    try:
        if not os.path.isabs(directory):
            return False  # there is no home directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        info = os.stat(directory)
    except OSError:
        return False
    if not hasattr(os, "geteuid"):
        return True
    return info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _limit_from_environment() -> int:
    text = os.environ.get("WEFT_CACHE_SIZE", "").strip().upper().removesuffix("B")
    shift = {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0)
    number = text[:-1] if shift else text
    if not text:
        return _DEFAULT_BYTES
    if not number.isdigit():
        raise ValueError(f"WEFT_CACHE_SIZE={text!r} is not a number of bytes such as 512M")
    return int(number) << shift


def _checksum(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST).digest()


def _write(path: str, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    # `tempfile` would do, but takes a while to load.
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{os.getpid()}-{threading.get_ident()}-{name}")
    handle = os.open(temporary, _FLAGS, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        _delete(temporary)
        raise


def _delete(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Entries of one folder; abandoned temporary files count as entries after an hour."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            info = os.stat(path)
            if name.endswith(".o") or time.time() - info.st_mtime > _FRESH_SECONDS:
                yield path, info
