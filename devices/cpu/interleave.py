"""Vectors whose elements lie in turn in memory: how they are taken apart and put together."""

from __future__ import annotations

from collections.abc import Sequence

from weft.compiler.kernel.index import Axis
from weft.compiler.kernel.ir import Store
from weft.devices.cpu.emit import Emitter, Val

__all__ = ["interleaved", "picked", "side_by_side"]


def side_by_side(stores: Sequence[Store], vector: Axis) -> list[list[Store]]:
    """The stores in groups; those of a group together write every element that lanes along the
    vector axis pass, in order."""
    groups: list[list[Store]] = []
    rest = list(stores)
    while rest:
        step = rest[0].index[0].coefficient(vector)
        size = step if isinstance(step, int) and 1 < step <= len(rest) else 1
        group = rest[:size]
        first = group[0]
        if not all(w.buffer == first.buffer and w.index[0] == first.index[0] + k
                   for k, w in enumerate(group)):
            group = [first]
        groups.append(group)
        rest = rest[len(group):]
    return groups


def interleaved(e: Emitter, vectors: Sequence[Val]) -> list[Val]:
    """As many vectors, holding lane 0 of each of these in order, then lane 1 of each, …"""
    m, n = len(vectors), vectors[0].lanes
    if m == 1:
        return list(vectors)
    if m % 2 == 0:
        pairs = zip(interleaved(e, vectors[::2]), interleaved(e, vectors[1::2]))
        return [e.shuffle(a, b, [at + i // 2 + i % 2 * n for i in range(n)])
                for a, b in pairs for at in (0, n // 2)]
    out = []
    for k in range(m):
        places = [divmod(k * n + i, m) for i in range(n)]
        out.append(picked(e, list(vectors), [v for _, v in places], [at for at, _ in places]))
    return out


def picked(e: Emitter, vectors: list[Val], which: list[int], at: list[int]) -> Val:
    """Element `at[lane]` of vector `which[lane]` in each lane."""
    used = sorted(set(which))
    if len(used) == 1:
        return e.shuffle(vectors[used[0]], None, at)
    wide, lanes = vectors[0].lanes, len(at)
    out = e.shuffle(vectors[used[0]], vectors[used[1]],
                    [a + wide * (w == used[1]) if w in used[:2] else 0
                     for a, w in zip(at, which)])
    for v in used[2:]:
        part = vectors[v] if wide == lanes else e.shuffle(
            vectors[v], None, [a if w == v else 0 for a, w in zip(at, which)])
        out = e.shuffle(out, part, [lanes + (a if wide == lanes else lane) if w == v else lane
                                    for lane, (a, w) in enumerate(zip(at, which))])
    return out
