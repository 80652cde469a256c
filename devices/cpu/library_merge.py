"""A merge sort for element types that NumPy has no sorting functions for."""

from __future__ import annotations

from weft.compiler.target import Target
from weft.compiler.types import DTYPES, DType
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.library_frame import Elements
from weft.devices.cpu.library_search import halvings, less

__all__ = ["merge_sort"]


def merge_sort(dtype: DType, by_index: bool, target: Target) -> tuple[str, str, set[str]]:
    """A stable sort's name, definition and what it declares.

    It takes what NumPy's sorts take: the values (and for an argsort the indices to be sorted),
    their number, and a pointer that is not used.
    """
    name = f"weft_merge_{'argsort' if by_index else 'sort'}_{dtype}"
    m = _Merge(dtype, by_index, target)
    m.body()
    indices = "ptr %order, " if by_index else ""
    text = (f"define internal i32 @{name}(ptr %v, {indices}i64 %n, ptr %unused) "
            f"{{\nentry:\n{m.e.body()}\n}}\n")
    return name, text, m.e.declares


class _Merge:
    def __init__(self, dtype: DType, by_index: bool, target: Target) -> None:
        self.e = e = Emitter(target)
        self.n = e.arg("n", "i64")
        self.keys = Elements(e, e.arg("v", "ptr"), dtype)
        self.by_index = by_index
        self.items = Elements(e, e.arg("order", "ptr"), DTYPES["i64"]) if by_index else self.keys

    def body(self) -> None:
        """Runs of 1, 2, 4, … are merged, from one array to another and back."""
        e, items = self.e, self.items
        e.declares |= {"declare ptr @weft_alloc(i64)", "declare void @weft_free(ptr)"}
        with e.when(self.n > 1):
            size = self.n * items.dtype.itemsize
            spare = e.assign(f"call ptr @weft_alloc(i64 {size.ref})", "ptr")
            begin = [items.address, spare, e.const("i64", 1)]
            with e.loop(0, halvings(e, self.n), carry=begin, stem="round") as rounds:
                source, target, width = rounds.carry
                with e.loop(0, self._pairs(width), stem="pair") as pair:
                    self._merge(Elements(e, source, items.dtype), Elements(e, target, items.dtype),
                                pair.i * width * 2, width)
                rounds.next = [target, source, width << 1]
            self._back(rounds.out[0])
            e.write(f"call void @weft_free(ptr {spare.ref})")
        e.write("ret i32 0")

    def _back(self, sorted_at: Val) -> None:
        e = self.e
        elsewhere = e.assign(f"icmp ne ptr {sorted_at.ref}, {self.items.address.ref}", "i1")
        with e.when(elsewhere):
            self.items.copy_all(Elements(e, sorted_at, self.items.dtype), self.n)

    def _pairs(self, width: Val) -> Val:
        return (self.n + width * 2 - 1) / (width * 2)

    def _end(self, at: Val) -> Val:
        return self.e.intrinsic("smin", at, self.n)

    def _merge(self, source: Elements, target: Elements, start: Val, width: Val) -> None:
        """Merge source[start:middle] and source[middle:end]; of equals the left one comes first."""
        e = self.e
        middle, end = self._end(start + width), self._end(start + width * 2)
        with e.loop(start, end, carry=[start, middle], stem="merge") as loop:
            i, j = loop.carry
            right = (j < end) & ((i >= middle) | self._less(
                source, e.intrinsic("smin", j, end - 1), e.intrinsic("smin", i, middle - 1)))
            target.copy(loop.i, source, e.select(right, j, i))
            step = e.convert(right, "i64")
            loop.next = [i + 1 - step, j + step]

    def _less(self, source: Elements, i: Val, j: Val) -> Val:
        """Whether item i of the source is less than item j."""
        if self.by_index:
            first, second = source.load(i), source.load(j)
            assert isinstance(first, Val) and isinstance(second, Val)
            i, j, source = first, second, self.keys
        return less(self.e, source.load(i), source.load(j), self.keys.dtype)
