"""What this machine is: the `Target` that code is generated for when nothing else is asked.

Environment variables: `WEFT_CPU_FEATURES` (`avx512`, `avx2`, `baseline`) forces a feature set, and
`WEFT_NUM_THREADS` the number of threads.
"""

from __future__ import annotations

import functools
import math
import os
import platform

from weft.compiler.lazy_dataclass import replace
from weft.compiler.target import Target

__all__ = ["host_processor", "host_target", "host_threads", "settings", "target_named"]

_LEVELS = {"avx512": "x86-64-v4", "avx2": "x86-64-v3", "baseline": "x86-64"}
_CPUS = "/sys/devices/system/cpu"


@functools.cache
def settings() -> tuple[str, int]:
    """What is asked for or found once: the forced set of features, or nothing, and the number of
    threads. `settings.cache_clear()` makes the next call look again."""
    return os.environ.get("WEFT_CPU_FEATURES", "").strip().lower(), host_threads()


@functools.cache
def host_target() -> Target:
    """The machine that this process runs on, with `settings` as they were when first read."""
    sizes = cache_sizes()
    target = host_processor()
    return replace(target, threads=settings()[1],
                   l1_bytes=sizes.get("l1_bytes", target.l1_bytes),
                   l2_bytes=sizes.get("l2_bytes", target.l2_bytes),
                   l3_bytes=sizes.get("l3_bytes", target.l3_bytes))


def host_processor() -> Target:
    """The part of `host_target` that machine code depends on: triple, processor, features."""
    from weft.devices.cpu import llvm  # not for code that the cache has

    forced, _ = settings()
    triple = llvm.process_triple()
    if forced and _is_x86(triple):
        if forced not in _LEVELS:
            raise ValueError(f"WEFT_CPU_FEATURES={forced!r} is not one of {', '.join(_LEVELS)}")
        return _with_level(Target(triple=triple), forced)
    features = llvm.host_features()
    target = Target(triple=triple, cpu=llvm.host_cpu(), features=features)
    return _with_features(target, {f[1:] for f in features.split(",") if f[:1] == "+"})


def target_named(name: str) -> Target:
    """The target called `host`, `avx512`, `avx2`, `baseline` (x86-64 Linux), or `aarch64`.

    All but `host` are for cross-compilation, with the cache sizes and threads of a typical core.

    >>> target_named("avx2").vector_bytes, target_named("aarch64").cpu
    (32, 'generic')
    """
    if name == "host":
        return host_target()
    if name == "aarch64":
        return Target(triple="aarch64-unknown-linux-gnu", cpu="generic", features="+neon",
                      vector_bytes=16, registers=32, has_fma=True)
    if name in _LEVELS:
        return _with_level(Target(triple="x86_64-unknown-linux-gnu"), name)
    raise ValueError(f"no target is named {name!r}; there are host, {', '.join(_LEVELS)}, aarch64")


def host_threads() -> int:
    """The number of threads this process may use: `WEFT_NUM_THREADS`, else what the CPU affinity
    and the control group's CPU quota allow. At least 1."""
    asked = os.environ.get("WEFT_NUM_THREADS", "").strip()
    if asked:
        if not asked.isdigit() or int(asked) < 1:
            raise ValueError(f"WEFT_NUM_THREADS={asked!r} is not a positive integer")
        return int(asked)
    cpus = len(_affinity()) or os.cpu_count() or 1
    return math.ceil(min(cpus, _cgroup_cpus()))


def cache_sizes() -> dict[str, int]:
    """`l1_bytes`, `l2_bytes`, `l3_bytes` of the data caches, those of them the system tells."""
    cpu = min(_affinity(), default=0)
    found: dict[str, int] = {}
    folder = f"{_CPUS}/cpu{cpu}/cache"
    for index in sorted(os.listdir(folder) if os.path.isdir(folder) else ()):
        level, kind, size = (_read(f"{folder}/{index}/{fact}")
                             for fact in ("level", "type", "size"))
        if kind != "Instruction" and level in ("1", "2", "3") and size[:-1].isdigit():
            found[f"l{level}_bytes"] = int(size[:-1]) << {"K": 10, "M": 20}.get(size[-1], 0)
    return {name: size for name, size in found.items() if size > 0}


def _is_x86(triple: str) -> bool:
    return triple.startswith(("x86_64", "amd64"))


def _with_level(target: Target, level: str) -> Target:
    names = {"avx512": {"avx512f", "avx2", "fma", "f16c"}, "avx2": {"avx2", "fma", "f16c"},
             "baseline": set()}
    return _with_features(replace(target, cpu=_LEVELS[level]), names[level])


def _with_features(target: Target, on: set[str]) -> Target:
    """The target with the facts that follow from its instruction-set features filled in."""
    if not _is_x86(target.triple):
        neon = platform.machine().lower() in ("aarch64", "arm64")
        return replace(target, vector_bytes=16, registers=32, has_fma=neon,
                       has_f16=True, has_bf16="bf16" in on)
    avx512 = "avx512f" in on
    return replace(
        target, vector_bytes=64 if avx512 else 32 if "avx2" in on else 16,
        registers=32 if avx512 else 16, has_fma="fma" in on, masked=avx512 or "avx2" in on,
        has_f16="f16c" in on, has_bf16="avx512bf16" in on)


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _cgroup_cpus(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> float:
    """The CPU quota of the control group we run in, of either version; infinity without one."""
    limit = math.inf
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limit = min(limit, *(_quota(_read(f"{group}/cpu.max").split())
                                 for group in _with_parents(root, path)))
        elif "cpu" in controllers.split(","):
            groups = [group for base in (controllers, "cpu")
                      for group in _with_parents(f"{root}/{base}", path)]
            limit = min(limit, *(
                _quota([_read(f"{group}/cpu.cfs_quota_us"), _read(f"{group}/cpu.cfs_period_us")])
                for group in groups))
    return limit


def _with_parents(root: str, path: str) -> list[str]:
    """The folders of the group and of those around it, from the root of the hierarchy down."""
    names = [name for name in path.split("/") if name]
    return ["/".join([root, *names[:depth]]) for depth in range(len(names) + 1)]


def _quota(words: list[str]) -> float:
    """CPUs that `quota period` (microseconds) allows; `max`, -1 or nothing mean no limit."""
    if len(words) != 2 or not words[0].isdigit() or not words[1].isdigit() or words[1] == "0":
        return math.inf
    return max(int(words[0]) / int(words[1]), 1e-3)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""
