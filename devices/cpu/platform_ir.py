"""What the native runtime needs from the operating system, as LLVM IR.

Internal functions for the thread pool and the allocator: `@relax()`, `@now() -> i64`,
`@wait(ptr, i32)`, `@wake(ptr, i32)`, `@wait_reset()`, `@map(i64) -> ptr`, `@unmap(ptr, i64)`.
Everything outside is called by name from the C library.
"""

from __future__ import annotations

__all__ = ["platform_ir"]

_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "loongarch64": 98}  # system call numbers


def platform_ir(triple: str) -> str:
    """The platform's part of the runtime module."""
    if "windows" in triple:
        return _relax(triple) + _WINDOWS
    wait = _futex(triple) if "linux" in triple else None
    return _relax(triple) + _clock(triple) + (wait or _CONDITION) + _pages(triple)


def _relax(triple: str) -> str:
    """`@relax()`: some 40 cycles of letting the other hardware thread run."""
    if triple.startswith("x86_64"):
        body, declare = "call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"
    elif triple.startswith(("aarch64", "arm64")):
        body = "call void @llvm.aarch64.isb(i32 15)"
        declare = "declare void @llvm.aarch64.isb(i32)"
    else:
        body, declare = "fence acquire", ""
    return f"{declare}\ndefine internal void @relax() nounwind {{\n  {body}\n  ret void\n}}\n"


def _clock(triple: str) -> str:
    """`@now()`: a steady clock in nanoseconds. Serves the pool's detached-thread constant too."""
    apple = "darwin" in triple or "macos" in triple
    return f"""
@pool.detached = internal constant i32 {2 if apple else 1}
declare i32 @clock_gettime(i32, ptr) nounwind
define internal i64 @now() nounwind {{
  %t = alloca {{ i64, i64 }}
  %r = call i32 @clock_gettime(i32 {6 if apple else 1}, ptr %t)
  %s = load i64, ptr %t
  %p = getelementptr i64, ptr %t, i64 1
  %ns = load i64, ptr %p
  %m = mul i64 %s, 1000000000
  %v = add i64 %m, %ns
  ret i64 %v
}}
"""


def _futex(triple: str) -> str | None:
    """`@wait(word, seen)` sleeps while the word holds `seen`; `@wake(word, count)`: by futex."""
    number = _FUTEX.get(triple.split("-")[0])
    if number is None:
        return None
    return f"""
declare i64 @syscall(i64, ...) nounwind
define internal void @wait(ptr %word, i32 %seen) nounwind {{
  %r = call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 128, i32 %seen, ptr null)
  ret void
}}
define internal void @wake(ptr %word, i32 %count) nounwind {{
  %r = call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 129, i32 %count)
  ret void
}}
define internal void @wait_reset() nounwind {{
  ret void
}}
"""


# The same on a mutex and a condition variable, for systems without futexes.
_CONDITION = """
@pool.mutex = internal global [128 x i8] zeroinitializer, align 64
@pool.condition = internal global [128 x i8] zeroinitializer, align 64
declare i32 @pthread_mutex_init(ptr, ptr) nounwind
declare i32 @pthread_mutex_lock(ptr) nounwind
declare i32 @pthread_mutex_unlock(ptr) nounwind
declare i32 @pthread_cond_init(ptr, ptr) nounwind
declare i32 @pthread_cond_wait(ptr, ptr) nounwind
declare i32 @pthread_cond_broadcast(ptr) nounwind
define internal void @wait(ptr %word, i32 %seen) nounwind {
  %l = call i32 @pthread_mutex_lock(ptr @pool.mutex)
  br label %test
test:
  %v = load atomic i32, ptr %word seq_cst, align 4
  %same = icmp eq i32 %v, %seen
  br i1 %same, label %sleep, label %out
sleep:
  %w = call i32 @pthread_cond_wait(ptr @pool.condition, ptr @pool.mutex)
  br label %test
out:
  %u = call i32 @pthread_mutex_unlock(ptr @pool.mutex)
  ret void
}
define internal void @wake(ptr %word, i32 %count) nounwind {
  %l = call i32 @pthread_mutex_lock(ptr @pool.mutex)
  %b = call i32 @pthread_cond_broadcast(ptr @pool.condition)
  %u = call i32 @pthread_mutex_unlock(ptr @pool.mutex)
  ret void
}
define internal void @wait_reset() nounwind {
  %m = call i32 @pthread_mutex_init(ptr @pool.mutex, ptr null)
  %c = call i32 @pthread_cond_init(ptr @pool.condition, ptr null)
  ret void
}
"""


def _pages(triple: str) -> str:
    """`@map(bytes)`: zeroed pages or null; at least 4 MiB are aligned to, and asked for as, huge
    pages of 2 MiB. `@unmap(base, bytes)` gives them back. `bytes` must be whole pages."""
    linux = "linux" in triple
    huge = "%h = call i32 @madvise(ptr %even, i64 %bytes, i32 14)" if linux else ""
    return f"""
declare ptr @mmap(ptr, i64, i32, i32, i32, i64) nounwind
declare i32 @munmap(ptr, i64) nounwind
declare i32 @madvise(ptr, i64, i32) nounwind
define internal ptr @map_pages(i64 %bytes) nounwind {{
  %p = call ptr @mmap(ptr null, i64 %bytes, i32 3, i32 {0x22 if linux else 0x1002}, i32 -1, i64 0)
  %bad = icmp eq ptr %p, inttoptr (i64 -1 to ptr)
  %r = select i1 %bad, ptr null, ptr %p
  ret ptr %r
}}
define internal ptr @map(i64 %bytes) nounwind {{
entry:
  %large = icmp uge i64 %bytes, 4194304
  br i1 %large, label %more, label %plain
plain:
  %q = call ptr @map_pages(i64 %bytes)
  ret ptr %q
more:
  %all = add i64 %bytes, 2097152
  %p = call ptr @map_pages(i64 %all)
  %none = icmp eq ptr %p, null
  br i1 %none, label %fail, label %trim
fail:
  ret ptr null
trim:
  %a = ptrtoint ptr %p to i64
  %a1 = add i64 %a, 2097151
  %a2 = and i64 %a1, -2097152
  %even = inttoptr i64 %a2 to ptr
  %before = sub i64 %a2, %a
  %some = icmp ne i64 %before, 0
  br i1 %some, label %head, label %tail
head:
  %u = call i32 @munmap(ptr %p, i64 %before)
  br label %tail
tail:
  %end = getelementptr i8, ptr %even, i64 %bytes
  %after = sub i64 2097152, %before
  %v = call i32 @munmap(ptr %end, i64 %after)
  {huge}
  ret ptr %even
}}
define internal void @unmap(ptr %base, i64 %bytes) nounwind {{
  %r = call i32 @munmap(ptr %base, i64 %bytes)
  ret void
}}
"""


_WINDOWS = """
declare ptr @calloc(i64, i64) nounwind
define internal ptr @map(i64 %bytes) nounwind {
  %p = call ptr @calloc(i64 1, i64 %bytes)
  ret ptr %p
}
define internal void @unmap(ptr %base, i64 %bytes) nounwind {
  call void @free(ptr %base)
  ret void
}
"""
