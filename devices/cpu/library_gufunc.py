"""Calls of NumPy's gufunc loops from the code of a library step; see `numpy_loops`."""

from __future__ import annotations

from collections.abc import Sequence

from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DType
from weft.devices.cpu.emit import Val
from weft.devices.cpu.library_frame import Elements, Frame
from weft.devices.cpu.numpy_loops import find_loop

__all__ = ["LETTERS", "Operand", "call_loop", "failed", "forget_failures"]

LETTERS = {"f32": "f", "f64": "d", "c64": "F", "c128": "D", "i32": "i"}
"""The letters by which NumPy names element types."""


@dataclass(frozen=True)
class Operand:
    """An operand of a loop: the first of its items, the distance between items and the distances
    between elements along the axes of one, in elements; of rows behind each other if not given."""

    first: Elements
    item: Val | int
    steps: Sequence[Val | int] | None = None


def call_loop(f: Frame, ufunc: str, operands: Sequence[Operand], inputs: int, count: Val,
              sizes: dict[str, Val]) -> None:
    """Let a loop do `count` items; `sizes` are those of the names in the ufunc's signature."""
    e = f.e
    letters = "".join(LETTERS[o.first.dtype.name] for o in operands)
    loop = find_loop(ufunc, f"{letters[:inputs]}->{letters[inputs:]}")
    steps: list[Val] = [_bytes(f, o.item, o.first.dtype) for o in operands]
    for operand, axes in zip(operands, loop.operands):
        of_rows = [sizes[loop.sizes[a]] for a in axes]
        steps += [_bytes(f, s, operand.first.dtype)
                  for s in (_rows(f, of_rows) if operand.steps is None else operand.steps)]
    args = _table(f, [o.first.address for o in operands])
    dims = _table(f, [count, *(sizes[s] for s in loop.sizes)])
    strides = _table(f, steps)
    data = "null"
    if loop.data is not None:
        data = f"@{loop.data}"
        e.declares.add(f"{data} = external global i8")
    e.declares.add(f"declare void @{loop.symbol}(ptr, ptr, ptr, ptr)")
    e.write(f"call void @{loop.symbol}(ptr {args.ref}, ptr {dims.ref}, ptr {strides.ref}, "
            f"ptr {data})")


def _rows(f: Frame, sizes: Sequence[Val]) -> list[Val]:
    """Distances along the axes of an array of these sizes without gaps."""
    out: list[Val] = []
    step = f.e.const("i64", 1)
    for n in reversed(sizes):
        out.insert(0, step)
        step = step * n
    return out


def _bytes(f: Frame, distance: Val | int, dtype: DType) -> Val:
    if isinstance(distance, int):
        return f.e.const("i64", distance * dtype.itemsize)
    return distance * dtype.itemsize


def _table(f: Frame, values: Sequence[Val]) -> Val:
    """The values one behind another, on the stack."""
    e = f.e
    place = e.stack(8 * len(values))
    for i, v in enumerate(values):
        e.store(v, e.gep(place, i, "i64"))
    return place


# ---- the processor's flag for invalid operations, by which loops tell that LAPACK has failed

def _invalid(f: Frame) -> int:
    """FE_INVALID of the C library."""
    return 0x10 if "windows" in f.e.target.triple else 1


def forget_failures(f: Frame) -> None:
    """Clear the flag, which a loop would take for a failure of its own."""
    f.e.declares.add("declare i32 @feclearexcept(i32)")
    f.e.assign(f"call i32 @feclearexcept(i32 {_invalid(f)})", "i32")


def failed(f: Frame) -> Val:
    """Whether a loop that ended just now has failed."""
    f.e.declares.add("declare i32 @fetestexcept(i32)")
    return f.e.assign(f"call i32 @fetestexcept(i32 {_invalid(f)})", "i32").ne(0)
