"""The allocator, as LLVM IR: `ptr weft_alloc(i64 bytes)` and `void weft_free(ptr)`.

Blocks are aligned to 64 bytes. Up to 256 KiB they come from `malloc`. Larger ones are pages of
their own, and a freed one is kept for the next that fits: fresh pages cost a page fault each, which
for an elementwise kernel is more than the arithmetic. At most `_SLOTS` blocks and a bounded number
of bytes are kept; the oldest go back to the system first.

The same blocks serve as data of NumPy arrays: `@weft_mem_handler` is a `PyDataMem_Handler`
(NEP 49), through which NumPy frees or resizes an array that owns such a block.

A block has 32 bytes before it: the bytes it can hold, the bytes mapped (0 if from `malloc`), and
where the mapping or the `malloc` block starts.
"""

from __future__ import annotations

__all__ = ["LARGE_BYTES", "alloc_ir"]

LARGE_BYTES = 256 << 10
"""From this size on blocks are recycled."""

_SLOTS = 64


def alloc_ir() -> str:
    """The allocator's part of the runtime module; needs `platform_ir`'s functions.

    Besides the two functions it defines `weft_memory_limit(i64)`, `weft_release_memory()`,
    `weft_memory_stats(ptr)` (five i64: bytes kept, blocks kept, limit, blocks reused, blocks
    mapped), and `weft_memory_lock()` / `weft_memory_unlock()`, to be held around a fork.
    """
    text = _LOCK + _KEEP + _BLOCKS + _HANDLER
    return text.replace("SLOTS", str(_SLOTS)).replace("LARGE", str(LARGE_BYTES))


_LOCK = """
@mem.lock = internal global i32 0, align 128
@mem.kept = internal global i64 0               ; bytes in the slots
@mem.count = internal global i64 0              ; slots in use, the oldest first
@mem.limit = internal global i64 536870912
@mem.reused = internal global i64 0
@mem.mapped = internal global i64 0
@mem.slots = internal global [SLOTS x { ptr, i64 }] zeroinitializer  ; block, bytes mapped
declare ptr @malloc(i64) nounwind
declare void @free(ptr) nounwind
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)

define void @weft_memory_lock() nounwind {
entry:
  br label %try
try:
  %old = atomicrmw xchg ptr @mem.lock, i32 1 acquire
  %mine = icmp eq i32 %old, 0
  br i1 %mine, label %out, label %busy
busy:
  call void @relax()
  br label %try
out:
  ret void
}

define void @weft_memory_unlock() nounwind {
  store atomic i32 0, ptr @mem.lock release, align 4
  ret void
}
"""

_KEEP = """
; Take slot i out, under the lock.
define internal void @mem_remove(i64 %i) nounwind {
  %slot = getelementptr { ptr, i64 }, ptr @mem.slots, i64 %i
  %after = getelementptr { ptr, i64 }, ptr %slot, i64 1
  %size_p = getelementptr { ptr, i64 }, ptr %slot, i64 0, i32 1
  %size = load i64, ptr %size_p
  %kept = load i64, ptr @mem.kept
  %kept1 = sub i64 %kept, %size
  store i64 %kept1, ptr @mem.kept
  %count = load i64, ptr @mem.count
  %count1 = sub i64 %count, 1
  store i64 %count1, ptr @mem.count
  %above = sub i64 %count1, %i
  %bytes = mul i64 %above, 16
  call void @llvm.memmove.p0.p0.i64(ptr %slot, ptr %after, i64 %bytes, i1 false)
  ret void
}

; A kept block of `mapped` bytes or up to a quarter more, the last freed first; null if none.
define internal ptr @mem_take(i64 %mapped) nounwind {
entry:
  %quarter = lshr i64 %mapped, 2
  %most = add i64 %mapped, %quarter
  call void @weft_memory_lock()
  %count = load i64, ptr @mem.count
  br label %next
next:
  %i1 = phi i64 [ %count, %entry ], [ %i, %look ]
  %end = icmp eq i64 %i1, 0
  br i1 %end, label %none, label %look
look:
  %i = sub i64 %i1, 1
  %slot = getelementptr { ptr, i64 }, ptr @mem.slots, i64 %i
  %size_p = getelementptr { ptr, i64 }, ptr %slot, i64 0, i32 1
  %size = load i64, ptr %size_p
  %enough = icmp uge i64 %size, %mapped
  %tight = icmp ule i64 %size, %most
  %fits = and i1 %enough, %tight
  br i1 %fits, label %found, label %next
found:
  %block = load ptr, ptr %slot
  call void @mem_remove(i64 %i)
  %r = load i64, ptr @mem.reused
  %r1 = add i64 %r, 1
  store i64 %r1, ptr @mem.reused
  call void @weft_memory_unlock()
  ret ptr %block
none:
  %m = load i64, ptr @mem.mapped
  %m1 = add i64 %m, 1
  store i64 %m1, ptr @mem.mapped
  call void @weft_memory_unlock()
  ret ptr null
}

; Give a block back to the system.
define internal void @mem_unmap(ptr %block) nounwind {
  %size_p = getelementptr i64, ptr %block, i64 -2
  %size = load i64, ptr %size_p
  %base_p = getelementptr i64, ptr %block, i64 -1
  %base = load ptr, ptr %base_p
  call void @unmap(ptr %base, i64 %size)
  ret void
}

; Give kept blocks back, the oldest first, until `room` bytes and a slot are free; take the lock.
define internal void @mem_make_room(i64 %room) nounwind {
entry:
  br label %again
again:
  call void @weft_memory_lock()
  %count = load i64, ptr @mem.count
  %none = icmp eq i64 %count, 0
  br i1 %none, label %out, label %check
check:
  %kept = load i64, ptr @mem.kept
  %limit = load i64, ptr @mem.limit
  %sum = add i64 %kept, %room
  %over = icmp ugt i64 %sum, %limit
  %full = icmp uge i64 %count, SLOTS
  %must = or i1 %over, %full
  br i1 %must, label %drop, label %out
drop:
  %block = load ptr, ptr @mem.slots
  call void @mem_remove(i64 0)
  call void @weft_memory_unlock()
  call void @mem_unmap(ptr %block)
  br label %again
out:
  ret void
}

define void @weft_release_memory() nounwind {
  call void @mem_make_room(i64 4611686018427387904)
  call void @weft_memory_unlock()
  ret void
}

define void @weft_memory_limit(i64 %bytes) nounwind {
  store atomic i64 %bytes, ptr @mem.limit monotonic, align 8
  call void @mem_make_room(i64 0)
  call void @weft_memory_unlock()
  ret void
}

define void @weft_memory_stats(ptr %out) nounwind {
""" + "\n".join(f"""  %v{i} = load atomic i64, ptr @mem.{name} monotonic, align 8
  %p{i} = getelementptr i64, ptr %out, i64 {i}
  store i64 %v{i}, ptr %p{i}""" for i, name in enumerate(
    ("kept", "count", "limit", "reused", "mapped"))) + """
  ret void
}
"""

_BLOCKS = """
; Write the 32 bytes before a block: what it holds, what is mapped, where that starts.
define internal void @mem_head(ptr %block, i64 %holds, i64 %mapped, ptr %base) nounwind {
  %h = getelementptr i64, ptr %block, i64 -3
  store i64 %holds, ptr %h
  %m = getelementptr i64, ptr %block, i64 -2
  store i64 %mapped, ptr %m
  %b = getelementptr i64, ptr %block, i64 -1
  store ptr %base, ptr %b
  ret void
}

define ptr @weft_alloc(i64 %bytes) nounwind {
entry:
  %large = icmp uge i64 %bytes, LARGE
  br i1 %large, label %pages, label %small
small:
  %room = add i64 %bytes, 95
  %base = call ptr @malloc(i64 %room)
  %none = icmp eq ptr %base, null
  br i1 %none, label %fail, label %align
align:
  %a = ptrtoint ptr %base to i64
  %a1 = add i64 %a, 95
  %a2 = and i64 %a1, -64
  %block = inttoptr i64 %a2 to ptr
  call void @mem_head(ptr %block, i64 %bytes, i64 0, ptr %base)
  ret ptr %block
fail:
  ret ptr null
pages:
  %absurd = icmp ugt i64 %bytes, 281474976710656
  br i1 %absurd, label %fail, label %size
size:
  ; whole units of 64 KiB, or of 2 MiB from 4 MiB on, the 64 bytes before the block included
  %big = icmp uge i64 %bytes, 4194240
  %unit = select i1 %big, i64 2097152, i64 65536
  %less = sub i64 %unit, 1
  %plus = add i64 %less, 64
  %s = add i64 %bytes, %plus
  %mask = sub i64 0, %unit
  %mapped = and i64 %s, %mask
  %kept = call ptr @mem_take(i64 %mapped)
  %had = icmp ne ptr %kept, null
  br i1 %had, label %reuse, label %fresh
reuse:
  ret ptr %kept
fresh:
  %p = call ptr @map(i64 %mapped)
  %failed = icmp eq ptr %p, null
  br i1 %failed, label %retry, label %done
retry:
  call void @weft_release_memory()
  %p2 = call ptr @map(i64 %mapped)
  %failed2 = icmp eq ptr %p2, null
  br i1 %failed2, label %fail, label %done
done:
  %q = phi ptr [ %p, %fresh ], [ %p2, %retry ]
  %new = getelementptr i8, ptr %q, i64 64
  %holds = sub i64 %mapped, 64
  call void @mem_head(ptr %new, i64 %holds, i64 %mapped, ptr %q)
  ret ptr %new
}

define void @weft_free(ptr %block) nounwind {
entry:
  %null = icmp eq ptr %block, null
  br i1 %null, label %out, label %some
some:
  %mapped_p = getelementptr i64, ptr %block, i64 -2
  %mapped = load i64, ptr %mapped_p
  %small = icmp eq i64 %mapped, 0
  br i1 %small, label %plain, label %large
plain:
  %base_p = getelementptr i64, ptr %block, i64 -1
  %base = load ptr, ptr %base_p
  call void @free(ptr %base)
  br label %out
large:
  %limit = load atomic i64, ptr @mem.limit monotonic, align 8
  %huge = icmp ugt i64 %mapped, %limit
  br i1 %huge, label %drop, label %keep
drop:
  call void @mem_unmap(ptr %block)
  br label %out
keep:
  call void @mem_make_room(i64 %mapped)
  %count = load i64, ptr @mem.count
  %slot = getelementptr { ptr, i64 }, ptr @mem.slots, i64 %count
  store ptr %block, ptr %slot
  %size_p = getelementptr { ptr, i64 }, ptr %slot, i64 0, i32 1
  store i64 %mapped, ptr %size_p
  %count1 = add i64 %count, 1
  store i64 %count1, ptr @mem.count
  %kept = load i64, ptr @mem.kept
  %kept1 = add i64 %kept, %mapped
  store i64 %kept1, ptr @mem.kept
  call void @weft_memory_unlock()
  br label %out
out:
  ret void
}
"""

_HANDLER = """
@weft_mem_handler = global { [127 x i8], i8, ptr, ptr, ptr, ptr, ptr } {
  [127 x i8] c"weftNAMEPAD", i8 1, ptr null,
  ptr @mem_malloc, ptr @mem_calloc, ptr @mem_realloc, ptr @mem_free }, align 64

define internal ptr @mem_malloc(ptr %ctx, i64 %bytes) nounwind {
  %p = call ptr @weft_alloc(i64 %bytes)
  ret ptr %p
}

define internal ptr @mem_calloc(ptr %ctx, i64 %count, i64 %each) nounwind {
entry:
  %x = call { i64, i1 } @llvm.umul.with.overflow.i64(i64 %count, i64 %each)
  %bytes = extractvalue { i64, i1 } %x, 0
  %over = extractvalue { i64, i1 } %x, 1
  br i1 %over, label %fail, label %get
get:
  %p = call ptr @weft_alloc(i64 %bytes)
  %none = icmp eq ptr %p, null
  br i1 %none, label %fail, label %clear
clear:
  call void @llvm.memset.p0.i64(ptr %p, i8 0, i64 %bytes, i1 false)
  ret ptr %p
fail:
  ret ptr null
}
declare { i64, i1 } @llvm.umul.with.overflow.i64(i64, i64)

define internal ptr @mem_realloc(ptr %ctx, ptr %old, i64 %bytes) nounwind {
entry:
  %new = call ptr @weft_alloc(i64 %bytes)
  %none = icmp eq ptr %new, null
  %first = icmp eq ptr %old, null
  %done = or i1 %none, %first
  br i1 %done, label %out, label %copy
copy:
  %h = getelementptr i64, ptr %old, i64 -3
  %holds = load i64, ptr %h
  %less = icmp ult i64 %holds, %bytes
  %n = select i1 %less, i64 %holds, i64 %bytes
  call void @llvm.memcpy.p0.p0.i64(ptr %new, ptr %old, i64 %n, i1 false)
  call void @weft_free(ptr %old)
  br label %out
out:
  ret ptr %new
}

define internal void @mem_free(ptr %ctx, ptr %block, i64 %bytes) nounwind {
  call void @weft_free(ptr %block)
  ret void
}
""".replace("NAMEPAD", "\\00" * 123)
