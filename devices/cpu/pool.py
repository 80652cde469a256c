"""The thread pool, as LLVM IR: `void weft_parallel_for(ptr fn, ptr ctx, i64 n, i64 grain)`.

It calls `fn(ctx, lo, hi)` on ranges that cover [0, n). Every `lo` is a multiple of `grain`, and so
is every `hi` but the last. The caller takes part; ranges are handed out by an atomic counter, so a
thread that is late or slow only takes fewer of them. Workers are plain threads that never touch
Python. After a region they spin for some 30 µs, then sleep until woken.

One region runs at a time. A call from inside a region, or from a second Python thread meanwhile,
runs on the calling thread alone, as one range: it never waits, so it cannot deadlock.

How a region works. The caller writes the job, opens `state`, and bumps `epoch`, which idle workers
watch. A worker enters by adding one to `state` while it is open, so once the caller has closed it
and the count is back to zero, nobody reads the job any more, and a worker that wakes up too late
finds the door closed. No region waits for a worker that has not begun to work for it.
"""

from __future__ import annotations

__all__ = ["pool_ir"]

_SPIN_NS = 30_000     # how long an idle worker spins; consecutive kernels start within it
_FINISH_NS = 50_000   # how long the caller spins for the last workers before it sleeps
_RANGES = 4           # ranges a thread, to even out threads of different speed
_STACK = 4 << 20      # bytes of a worker's stack

def pool_ir(triple: str) -> str:
    """The pool's part of the runtime module, for this platform.

    Defines `weft_parallel_for`, `weft_set_threads(i32)`, `weft_get_threads() -> i32` and
    `weft_pool_reset()`, to be called once before use and in a forked child. Where there are no
    POSIX threads everything runs on the calling thread. Needs `platform_ir`'s functions.
    """
    if "windows" in triple:
        return _SERIAL
    return _GLOBALS + _WORKER + _REGION


_GLOBALS = f"""
@pool.threads = internal global i32 1, align 128   ; threads a region may use, the caller included
@pool.started = internal global i32 0              ; workers that exist
@pool.busy = internal global i32 0                 ; 1 while a region runs
@pool.job = internal global {{ ptr, ptr, i64, i64 }} zeroinitializer  ; fn, ctx, n, range length
@pool.next = internal global i64 0, align 128      ; first index not handed out yet
@pool.state = internal global i32 0, align 128     ; bit 30: open, bit 29: caller sleeps, workers in
@pool.epoch = internal global i32 0, align 128     ; counts regions
@pool.sleepers = internal global i32 0
@pool.pad = internal global i8 0, align 128
@pool.spin_ns = internal constant i64 {_SPIN_NS}
@pool.finish_ns = internal constant i64 {_FINISH_NS}
declare i32 @pthread_create(ptr, ptr, ptr, ptr) nounwind
declare i32 @pthread_attr_init(ptr) nounwind
declare i32 @pthread_attr_destroy(ptr) nounwind
declare i32 @pthread_attr_setdetachstate(ptr, i32) nounwind
declare i32 @pthread_attr_setstacksize(ptr, i64) nounwind
"""

_WORKER = """
define internal void @run_ranges() nounwind {
entry:
  %fn = load ptr, ptr @pool.job
  %ctx = load ptr, ptr getelementptr ({ ptr, ptr, i64, i64 }, ptr @pool.job, i32 0, i32 1)
  %n = load i64, ptr getelementptr ({ ptr, ptr, i64, i64 }, ptr @pool.job, i32 0, i32 2)
  %step = load i64, ptr getelementptr ({ ptr, ptr, i64, i64 }, ptr @pool.job, i32 0, i32 3)
  br label %take
take:
  %lo = atomicrmw add ptr @pool.next, i64 %step monotonic
  %left = icmp slt i64 %lo, %n
  br i1 %left, label %run, label %out
run:
  %end = add i64 %lo, %step
  %over = icmp slt i64 %end, %n
  %hi = select i1 %over, i64 %end, i64 %n
  call void %fn(ptr %ctx, i64 %lo, i64 %hi)
  br label %take
out:
  ret void
}

; Wait until the epoch is not `seen`, spinning first.
define internal void @wait_epoch(i32 %seen) nounwind {
entry:
  %start = call i64 @now()
  %limit = load i64, ptr @pool.spin_ns
  br label %round
round:
  br label %spin
spin:
  %k = phi i32 [ 0, %round ], [ %k1, %again ]
  %e = load atomic i32, ptr @pool.epoch acquire, align 4
  %new = icmp ne i32 %e, %seen
  br i1 %new, label %out, label %again
again:
  call void @relax()
  %k1 = add i32 %k, 1
  %more = icmp ult i32 %k1, 32
  br i1 %more, label %spin, label %clock
clock:
  %t = call i64 @now()
  %spent = sub i64 %t, %start
  %early = icmp ult i64 %spent, %limit
  br i1 %early, label %round, label %sleep
sleep:
  %a = atomicrmw add ptr @pool.sleepers, i32 1 seq_cst
  call void @wait(ptr @pool.epoch, i32 %seen)
  %b = atomicrmw sub ptr @pool.sleepers, i32 1 seq_cst
  br label %out
out:
  ret void
}

define internal ptr @worker(ptr %arg) nounwind {
entry:
  %wide = ptrtoint ptr %arg to i64
  %index = trunc i64 %wide to i32
  br label %look
look:
  %seen = load atomic i32, ptr @pool.epoch acquire, align 4
  %threads = load atomic i32, ptr @pool.threads monotonic, align 4
  %workers = sub i32 %threads, 1
  %mine = icmp slt i32 %index, %workers
  br i1 %mine, label %door, label %park
park:
  call void @wait(ptr @pool.threads, i32 %threads)  ; not wanted until the number changes
  br label %look
door:
  %s = load atomic i32, ptr @pool.state acquire, align 4
  %o = and i32 %s, 1073741824
  %open = icmp ne i32 %o, 0
  br i1 %open, label %enter, label %idle
enter:
  %s1 = add i32 %s, 1
  %x = cmpxchg ptr @pool.state, i32 %s, i32 %s1 acquire monotonic
  %in = extractvalue { i32, i1 } %x, 1
  br i1 %in, label %work, label %door
work:
  call void @rouse()
  call void @run_ranges()
  %old = atomicrmw sub ptr @pool.state, i32 1 seq_cst
  %last = icmp eq i32 %old, 536870913
  br i1 %last, label %notify, label %idle
notify:
  call void @wake(ptr @pool.state, i32 1)
  br label %idle
idle:
  call void @wait_epoch(i32 %seen)
  br label %look
}

; Wake up to two sleeping workers if there are ranges for more than are awake. The caller does so,
; and each worker that comes in: all are awake after some few steps, none of them a long one.
; Only for those inside the region.
define internal void @rouse() nounwind {
entry:
  %asleep = load atomic i32, ptr @pool.sleepers seq_cst, align 4
  %any = icmp sgt i32 %asleep, 0
  br i1 %any, label %count, label %out
count:
  %n = load i64, ptr getelementptr ({ ptr, ptr, i64, i64 }, ptr @pool.job, i32 0, i32 2)
  %step = load i64, ptr getelementptr ({ ptr, ptr, i64, i64 }, ptr @pool.job, i32 0, i32 3)
  %next = load atomic i64, ptr @pool.next monotonic, align 8
  %rest = sub i64 %n, %next
  %ranges = sdiv i64 %rest, %step
  %threads = load atomic i32, ptr @pool.threads monotonic, align 4
  %awake = sub i32 %threads, %asleep
  %wide = sext i32 %awake to i64
  %useful = icmp sge i64 %ranges, %wide
  br i1 %useful, label %wake, label %out
wake:
  call void @wake(ptr @pool.epoch, i32 2)
  br label %out
out:
  ret void
}

; Start the workers that are missing; settle for those that the system lets us have.
define internal void @start_workers(i32 %want) noinline nounwind {
entry:
  %attr = alloca [128 x i8], align 16
  %thread = alloca i64
  %i = call i32 @pthread_attr_init(ptr %attr)
  %detached = load i32, ptr @pool.detached
  %d = call i32 @pthread_attr_setdetachstate(ptr %attr, i32 %detached)
  %z = call i32 @pthread_attr_setstacksize(ptr %attr, i64 STACK)
  br label %next
next:
  %have = load i32, ptr @pool.started
  %missing = icmp slt i32 %have, %want
  br i1 %missing, label %start, label %out
start:
  %wide = zext i32 %have to i64
  %arg = inttoptr i64 %wide to ptr
  %r = call i32 @pthread_create(ptr %thread, ptr %attr, ptr @worker, ptr %arg)
  %ok = icmp eq i32 %r, 0
  br i1 %ok, label %count, label %fail
count:
  %have1 = add i32 %have, 1
  store i32 %have1, ptr @pool.started
  br label %next
fail:
  %few = add i32 %have, 1
  store atomic i32 %few, ptr @pool.threads monotonic, align 4
  br label %out
out:
  %e = call i32 @pthread_attr_destroy(ptr %attr)
  ret void
}
""".replace("STACK", str(_STACK))

_REGION = """
define void @weft_parallel_for(ptr %fn, ptr %ctx, i64 %n, i64 %grain) nounwind {
entry:
  %g0 = icmp sgt i64 %grain, 1
  %g = select i1 %g0, i64 %grain, i64 1
  %threads = load atomic i32, ptr @pool.threads monotonic, align 4
  %several = icmp sgt i32 %threads, 1
  %long = icmp sgt i64 %n, %g
  %worth = and i1 %several, %long
  br i1 %worth, label %claim, label %alone
claim:
  %x = cmpxchg ptr @pool.busy, i32 0, i32 1 acquire monotonic
  %free = extractvalue { i32, i1 } %x, 1
  br i1 %free, label %region, label %alone
alone:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %serial, label %out
serial:
  call void %fn(ptr %ctx, i64 0, i64 %n)
  br label %out
out:
  ret void
region:
  call void @region(ptr %fn, ptr %ctx, i64 %n, i64 %g, i32 %threads)
  store atomic i32 0, ptr @pool.busy release, align 4
  ret void
}

define internal void @region(ptr %fn, ptr %ctx, i64 %n, i64 %g, i32 %threads) noinline nounwind {
entry:
  %want = sub i32 %threads, 1
  %have = load i32, ptr @pool.started
  %missing = icmp slt i32 %have, %want
  br i1 %missing, label %start, label %open
start:
  call void @start_workers(i32 %want)
  br label %open
open:
  ; the length of a range: whole grains, about RANGES ranges a thread
  %n0 = sub i64 %n, 1
  %b0 = udiv i64 %n0, %g
  %t0 = zext i32 %threads to i64
  %t = mul i64 %t0, RANGES
  %per = udiv i64 %b0, %t
  %per1 = add i64 %per, 1
  %step = mul i64 %per1, %g
  store ptr %fn, ptr @pool.job
  store ptr %ctx, ptr getelementptr ({ ptr, ptr, i64, i64 }, ptr @pool.job, i32 0, i32 1)
  store i64 %n, ptr getelementptr ({ ptr, ptr, i64, i64 }, ptr @pool.job, i32 0, i32 2)
  store i64 %step, ptr getelementptr ({ ptr, ptr, i64, i64 }, ptr @pool.job, i32 0, i32 3)
  store atomic i64 0, ptr @pool.next monotonic, align 8
  store atomic i32 1073741824, ptr @pool.state release, align 4
  %e = atomicrmw add ptr @pool.epoch, i32 1 seq_cst
  call void @rouse()
  call void @run_ranges()
  %old = atomicrmw and ptr @pool.state, i32 -1073741825 seq_cst
  %empty = icmp eq i32 %old, 1073741824
  br i1 %empty, label %out, label %finish
finish:
  call void @wait_finish()
  br label %out
out:
  ret void
}

; Wait until no worker is inside: spin, then sleep until the last one rings.
define internal void @wait_finish() noinline nounwind {
entry:
  %start = call i64 @now()
  %limit = load i64, ptr @pool.finish_ns
  br label %round
round:
  br label %spin
spin:
  %k = phi i32 [ 0, %round ], [ %k1, %again ]
  %s = load atomic i32, ptr @pool.state acquire, align 4
  %in = and i32 %s, 536870911
  %empty = icmp eq i32 %in, 0
  br i1 %empty, label %out, label %again
again:
  call void @relax()
  %k1 = add i32 %k, 1
  %more = icmp ult i32 %k1, 32
  br i1 %more, label %spin, label %clock
clock:
  %t = call i64 @now()
  %spent = sub i64 %t, %start
  %early = icmp ult i64 %spent, %limit
  br i1 %early, label %round, label %sleep
sleep:
  %ring = or i32 %in, 536870912
  %x = cmpxchg ptr @pool.state, i32 %s, i32 %ring seq_cst acquire
  %set = extractvalue { i32, i1 } %x, 1
  br i1 %set, label %block, label %round
block:
  call void @wait(ptr @pool.state, i32 %ring)
  br label %round
out:
  ret void
}

define void @weft_set_threads(i32 %n) nounwind {
  store atomic i32 %n, ptr @pool.threads seq_cst, align 4
  call void @wake(ptr @pool.threads, i32 2147483647)
  ret void
}

define i32 @weft_get_threads() nounwind {
  %n = load atomic i32, ptr @pool.threads monotonic, align 4
  ret i32 %n
}

define void @weft_pool_reset() nounwind {
  store i32 0, ptr @pool.started
  store i32 0, ptr @pool.sleepers
  store atomic i32 0, ptr @pool.state release, align 4
  store atomic i32 0, ptr @pool.busy release, align 4
  call void @wait_reset()
  ret void
}
""".replace("RANGES", str(_RANGES))

_SERIAL = """
@pool.threads = internal global i32 1
define void @weft_parallel_for(ptr %fn, ptr %ctx, i64 %n, i64 %grain) nounwind {
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %serial, label %out
serial:
  call void %fn(ptr %ctx, i64 0, i64 %n)
  br label %out
out:
  ret void
}
define void @weft_set_threads(i32 %n) nounwind {
  store i32 %n, ptr @pool.threads
  ret void
}
define i32 @weft_get_threads() nounwind {
  %n = load i32, ptr @pool.threads
  ret i32 %n
}
define void @weft_pool_reset() nounwind {
  ret void
}
"""
