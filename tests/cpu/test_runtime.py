"""The native runtime: target description, assembling, loading, the thread pool, the allocator."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from weft.compiler.target import Target
from weft.devices.cpu import host, native
from weft.devices.cpu.alloc import LARGE_BYTES, alloc_ir
from weft.devices.cpu.assembler import assemble, assembly_text
from weft.devices.cpu.engine import Library, load
from weft.devices.cpu.entry_support import support_ir
from weft.devices.cpu.host import host_target, host_threads, settings, target_named
from weft.devices.cpu.platform_ir import platform_ir
from weft.devices.cpu.pool import pool_ir

SQUARE = """
declare double @pow(double, double)
define double @square(double %x) nounwind {
  %y = call double @pow(double %x, double 2.0)
  ret double %y
}
"""

# mark: adds 1 to the byte of each index of its range; counts its calls, and ranges off the grain.
# nest: for each index i of its range, marks the indices 10i to 10i + 9 by a region of its own.
WORK = """
declare void @weft_parallel_for(ptr, ptr, i64, i64)
@calls = global i64 0
@uneven = global i64 0
define void @mark(ptr %bytes, i64 %lo, i64 %hi) nounwind {
entry:
  %c = atomicrmw add ptr @calls, i64 1 seq_cst
  %rest = urem i64 %lo, 3
  %u = atomicrmw add ptr @uneven, i64 %rest seq_cst
  br label %next
next:
  %i = phi i64 [ %lo, %entry ], [ %j, %body ]
  %end = icmp eq i64 %i, %hi
  br i1 %end, label %out, label %body
body:
  %p = getelementptr i8, ptr %bytes, i64 %i
  %v = load i8, ptr %p
  %w = add i8 %v, 1
  store i8 %w, ptr %p
  %j = add i64 %i, 1
  br label %next
out:
  ret void
}
define void @nest(ptr %bytes, i64 %lo, i64 %hi) nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ %lo, %entry ], [ %j, %body ]
  %end = icmp eq i64 %i, %hi
  br i1 %end, label %out, label %body
body:
  %ten = mul i64 %i, 10
  %p = getelementptr i8, ptr %bytes, i64 %ten
  call void @weft_parallel_for(ptr @mark, ptr %p, i64 10, i64 1)
  %j = add i64 %i, 1
  br label %next
out:
  ret void
}
"""


@pytest.fixture(scope="module")
def work() -> Library:
    return load(assemble(WORK, host_target()), exports=("mark", "nest", "calls", "uneven"))


@pytest.fixture
def threads() -> Iterator[None]:
    before = native.num_threads()
    native.set_num_threads(4)
    yield
    native.set_num_threads(before)


def run(work: Library, n: int, grain: int = 1, function: str = "mark", size: int = 0) -> np.ndarray:
    """The bytes after a parallel call over [0, n)."""
    seen = np.zeros(size or n, np.uint8)
    native.parallel_for(work.address(function), seen.ctypes.data, n, grain)
    return seen


# --------------------------------------------------------------------------- the machine

def test_host_target_is_consistent() -> None:
    target = host_target()
    assert target.triple and target.threads >= 1
    assert target.vector_bytes in (16, 32, 64)
    assert 4 << 10 <= target.l1_bytes <= target.l2_bytes <= 1 << 32
    assert host_target() is target


@pytest.mark.parametrize("level, width, registers, masked", [
    ("avx512", 64, 32, True), ("avx2", 32, 16, True), ("baseline", 16, 16, False)])
def test_features_can_be_forced(monkeypatch: pytest.MonkeyPatch, level: str, width: int,
                                registers: int, masked: bool) -> None:
    if not host_target().triple.startswith("x86_64"):
        pytest.skip("x86-64 feature levels")
    monkeypatch.setattr(host, "settings", settings.__wrapped__)     # read anew each time
    monkeypatch.setenv("WEFT_CPU_FEATURES", level)
    target = host_target.__wrapped__()
    named = target_named(level)
    for t in (target, named):
        assert (t.vector_bytes, t.registers, t.masked) == (width, registers, masked)
        assert t.has_fma == (level != "baseline")
    monkeypatch.setenv("WEFT_CPU_FEATURES", "mmx")
    with pytest.raises(ValueError, match="mmx"):
        host_target.__wrapped__()


def test_unknown_target() -> None:
    with pytest.raises(ValueError, match="z80"):
        target_named("z80")


def test_thread_count_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_NUM_THREADS", "3")
    assert host_threads() == 3
    monkeypatch.setenv("WEFT_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="many"):
        host_threads()


def test_cgroup_quotas(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "a" / "b" / "cpu.max").write_text("max 100000\n")
    own.write_text("0::/a/b\n")
    assert host._cgroup_cpus(str(tmp_path), str(own)) == 2.5
    (tmp_path / "cpu" / "c").mkdir(parents=True)
    (tmp_path / "cpu" / "c" / "cpu.cfs_quota_us").write_text("150000\n")
    (tmp_path / "cpu" / "c" / "cpu.cfs_period_us").write_text("100000\n")
    own.write_text("3:cpu,cpuacct:/c\n1:memory:/\n")
    assert host._cgroup_cpus(str(tmp_path), str(own)) == 1.5
    assert host._cgroup_cpus(str(tmp_path), str(tmp_path / "absent")) == math.inf


# --------------------------------------------------------------------------- assembling, loading

def test_assemble_and_call() -> None:
    library = load(assemble(SQUARE, host_target()))
    square = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(library.address("square"))
    assert square(3.0) == 9.0
    with pytest.raises(KeyError, match="cube"):
        library.address("cube")
    assert square(4.0) == 16.0  # a failed look-up unloads nothing


def test_bad_text_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="expected"):
        assemble("define void @f(", host_target())


def test_invalid_module_is_found_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_VERIFY_LLVM", "1")
    with pytest.raises(RuntimeError, match="not valid"):
        assemble("define i64 @f(i64 %x) {\na:\n  %y = add i64 %z, 1\n  br label %b\n"
                 "b:\n  %z = add i64 %x, 1\n  ret i64 %y\n}", host_target())


def test_assemble_on_several_threads() -> None:
    results: list[bytes] = []

    def many() -> None:
        results.extend(assemble(SQUARE, host_target()) for _ in range(10))

    workers = [threading.Thread(target=many) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert len(results) == 40 and len(set(results)) == 1


class Memory(dict[str, bytes]):
    """An object cache in memory."""

    def put(self, key: str, data: bytes) -> None:
        self[key] = data


def test_assemble_through_a_cache() -> None:
    cache = Memory()
    first = assemble(SQUARE, host_target(), cache)
    assert list(cache.values()) == [first]
    (key,) = cache
    cache[key] = b"kept"
    assert assemble(SQUARE, host_target(), cache) == b"kept"
    assemble(SQUARE, target_named("aarch64"), cache)
    assemble(SQUARE, host_target(), cache, level=0)
    assert len(cache) == 3


def test_libraries_link_to_each_other_and_unload() -> None:
    base = load(assemble("@seven = global i64 7\ndefine i64 @get() { ret i64 7 }", host_target()))
    user = assemble("declare i64 @get()\n@seven = external global i64\n"
                    "define i64 @sum() { %a = call i64 @get()\n %b = load i64, ptr @seven\n"
                    " %c = add i64 %a, %b\n ret i64 %c }", host_target())
    for _ in range(100):
        library = load(user, [base], exports=("sum",))
        assert ctypes.CFUNCTYPE(ctypes.c_int64)(library.address("sum"))() == 14
    kept = load(user, [base], exports=("sum",))
    del base, library
    gc.collect()
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(kept.address("sum"))() == 14


def test_symbols_by_name() -> None:
    value = ctypes.c_int64(41)
    library = load(assemble("@there = external global i64\ndefine i64 @get() {\n"
                            " %v = load i64, ptr @there\n ret i64 %v }", host_target()),
                   symbols={"there": ctypes.addressof(value)})
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(library.address("get"))() == 41


@pytest.mark.parametrize("triple, cpu", [
    ("x86_64-unknown-linux-gnu", "x86-64"), ("aarch64-unknown-linux-gnu", "generic"),
    ("arm64-apple-darwin23", "generic"), ("x86_64-pc-windows-msvc", "x86-64")])
def test_runtime_assembles_for_other_systems(triple: str, cpu: str,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_VERIFY_LLVM", "1")
    ir = platform_ir(triple) + pool_ir(triple) + alloc_ir() + support_ir()
    assert "weft_parallel_for" in assembly_text(ir, Target(triple=triple, cpu=cpu), level=0)


# --------------------------------------------------------------------------- the pool

@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 100, 10007])
@pytest.mark.parametrize("grain", [1, 3, 5000])
def test_every_index_once(work: Library, threads: None, n: int, grain: int) -> None:
    uneven = ctypes.c_int64.from_address(work.address("uneven"))
    uneven.value = 0
    for _ in range(20):
        assert (run(work, n, grain) == 1).all()
    if grain == 3:
        assert uneven.value == 0


def test_ranges_are_shared_out(work: Library, threads: None) -> None:
    calls = ctypes.c_int64.from_address(work.address("calls"))
    calls.value = 0
    run(work, 1000, 1)
    assert 4 < calls.value <= 32
    native.set_num_threads(1)
    calls.value = 0
    run(work, 1000, 1)
    assert calls.value == 1


def test_nested_regions(work: Library, threads: None) -> None:
    for _ in range(20):
        assert (run(work, 50, 1, "nest", 500) == 1).all()


def test_changing_the_number_of_threads(work: Library, threads: None) -> None:
    for n in (1, 4, 2, 7, 3, 1, 5):
        native.set_num_threads(n)
        assert native.num_threads() == n
        for _ in range(50):
            assert (run(work, 997) == 1).all()
    with pytest.raises(ValueError, match="at least 1"):
        native.set_num_threads(0)


def test_concurrent_callers(work: Library, threads: None) -> None:
    good: list[bool] = []

    def caller() -> None:
        good.append(all((run(work, 3001) == 1).all() for _ in range(200)))

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for c in callers:
        c.start()
    for c in callers:
        c.join(20)
    assert good == [True] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_after_a_fork(work: Library, threads: None) -> None:
    assert (run(work, 1000) == 1).all()  # workers exist
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        good = all((run(work, 1000) == 1).all() for _ in range(50))
        block = native.native_function("weft_alloc")(LARGE_BYTES)
        native.native_function("weft_free")(block)
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (run(work, 1000) == 1).all()


def test_idle_workers_sleep(work: Library, threads: None) -> None:
    run(work, 1000)
    start = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - start < 0.1


# --------------------------------------------------------------------------- the allocator

def take(n: int) -> int:
    """A block of n bytes, all written."""
    address = int(native.native_function("weft_alloc")(n))
    assert address % 64 == 0
    ctypes.memset(address, 0xA5, n)
    return address


def free(address: int | None) -> None:
    native.native_function("weft_free")(address)


def test_small_and_large_blocks() -> None:
    blocks = [take(n) for n in (1, 63, 64, 1000, LARGE_BYTES - 1, LARGE_BYTES, 5 << 20)]
    assert len(set(blocks)) == len(blocks)
    for block in blocks:
        free(block)
    free(None)
    assert native.native_function("weft_alloc")(1 << 60) is None


def test_large_blocks_are_reused() -> None:
    native.release_memory()
    assert native.memory_stats().kept_bytes == 0
    before = native.memory_stats()
    for _ in range(10):
        free(take(3 << 20))
    after = native.memory_stats()
    assert (after.mapped - before.mapped, after.reused - before.reused) == (1, 9)
    assert after.kept_blocks == 1 and after.kept_bytes >= 3 << 20
    free(take(LARGE_BYTES))  # much too small for that block
    assert native.memory_stats().kept_blocks == 2
    native.release_memory()
    assert native.memory_stats().kept_blocks == 0


def test_kept_memory_is_bounded() -> None:
    limit = native.memory_stats().limit_bytes
    try:
        native.release_memory()
        native.set_memory_limit(4 << 20)
        blocks = [take(1 << 20) for _ in range(8)]
        for block in blocks:
            free(block)
        stats = native.memory_stats()
        assert 2 << 20 <= stats.kept_bytes <= 4 << 20
        assert take(1 << 20) == blocks[-1]  # the last freed, still in the CPU's caches
        free(blocks[-1])
        free(take(8 << 20))                 # more than the limit: straight back to the system
        assert native.memory_stats().kept_blocks == stats.kept_blocks
        native.set_memory_limit(0)
        assert native.memory_stats().kept_blocks == 0
    finally:
        native.set_memory_limit(limit)
    many = [take(LARGE_BYTES) for _ in range(100)]
    for block in many:
        free(block)
    assert native.memory_stats().kept_blocks <= 64
    native.release_memory()


def test_allocating_on_several_threads() -> None:
    def use() -> None:
        for i in range(100):
            blocks = [take(LARGE_BYTES + 1000 * ((i + k) % 7)) for k in range(3)]
            for block in blocks:
                assert ctypes.string_at(block, 1) == b"\xa5"
                free(block)

    users = [threading.Thread(target=use) for _ in range(4)]
    for u in users:
        u.start()
    for u in users:
        u.join()
    native.release_memory()
    assert native.memory_stats().kept_blocks == 0
