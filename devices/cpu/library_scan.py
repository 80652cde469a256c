"""Running sums, products, maxima and minima: the additions of NumPy's `accumulate`, in its order.

Along the last axis rows are taken a few at a time, which hides the latency of each other's chain
of operations. Along other axes a run of neighbouring columns moves down together, so that memory
is read in order: each row of a run is combined with the row of results above it, still in cache.
"""

from __future__ import annotations

from weft.compiler.kernel.ir import Library
from weft.compiler.lazy_dataclass import replace
from weft.compiler.target import Target
from weft.compiler.types import DType, TensorType
from weft.devices.cpu.code import KernelCode
from weft.devices.cpu.emit import Val
from weft.devices.cpu.library_frame import Frame
from weft.devices.cpu.lower import Scalar, Typed, apply
from weft.devices.cpu.lower_complex import Cx

__all__ = ["SCANS", "emit_scan"]

SCANS = {"cumsum": "add", "cumprod": "mul", "cummax": "maximum", "cummin": "minimum",
         "linear_recurrence": "add"}
ROWS = 4            # rows taken together: more streams would fight for the same cache lines
RUN_BYTES = 8192    # of a run of columns: two of them stay in the first cache
LEAST = 32          # columns worth a thread of their own


def emit_scan(step: Library, name: str, target: Target) -> KernelCode:
    """Code for a running reduction."""
    axis = dict(step.attrs)["axis"]
    if step.op == "cumsum" and step.buffers[0][1].dtype.is_complex:
        step = _as_pairs(step)          # the parts are added up apart
    return _Scan(step, axis, name, target).emit()


def _as_pairs(step: Library) -> Library:
    """The step on real arrays with the parts as a last axis."""
    return replace(step, buffers=tuple(
        (n, TensorType((*t.shape, 2), t.dtype.real)) for n, t in step.buffers))


class _Scan:
    def __init__(self, step: Library, axis: int, name: str, target: Target) -> None:
        self.f = Frame(step, name, target)
        self.op = SCANS[step.op]
        *self.factors, self.source, self.out = self.f.arrays    # factors: of a recurrence
        self.dtype: DType = self.source.dtype
        self.outer, self.n, self.inner = self.f.around(axis)
        self.lanes = 1 if self.dtype.is_complex else target.lanes(self.dtype.itemsize)
        self.length = self.f.dim(self.n)

    def emit(self) -> KernelCode:
        """The code: units are rows, or columns of blocks."""
        if self.inner == 1:
            self._rows()
            return self.f.code(self.outer, self.n)
        self.f.columns(self.inner, RUN_BYTES // self.dtype.itemsize, self._run)
        return self.f.code(self.outer * self.inner, self.n, least=LEAST)

    def _combine(self, before: Scalar, at: Val, i: Val | int, lanes: int = 1) -> Scalar:
        """The next result, of the one before and the element that stands `i` behind `at`."""
        for factor in self.factors:
            before = self._apply("mul", factor.at(at).load(i, lanes), before)
        return self._apply(self.op, before, self.source.at(at).load(i, lanes))

    def _apply(self, op: str, a: Scalar, b: Scalar) -> Scalar:
        return apply(self.f.e, op, self.dtype, Typed(a, self.dtype), Typed(b, self.dtype))

    # ---- along rows

    def _rows(self) -> None:
        e, lo, hi = self.f.e, self.f.lo, self.f.hi
        with e.when(self.length > 0):
            full = hi - (hi - lo) % ROWS
            with e.loop(lo, full, ROWS, stem="rows") as rows:
                self._row_group([rows.i + k for k in range(ROWS)])
            with e.loop(full, hi, stem="row") as row:
                self._row_group([row.i])

    def _row_group(self, rows: list[Val]) -> None:
        e = self.f.e
        begins = [r * self.length for r in rows]
        start: list[Scalar] = []
        for at in begins:
            start.append(self.source.at(at).load(0))
            self.out.at(at).store(0, start[-1])
        with e.loop(1, self.length, carry=_flat(start), stem="along") as loop:
            now = _unflat(loop.carry, start)
            out = [self._combine(a, at, loop.i) for at, a in zip(begins, now)]
            for at, total in zip(begins, out):
                self.out.at(at).store(loop.i, total)
            loop.next = _flat(out)

    # ---- down columns

    def _run(self, block: Val, column: Val, width: Val) -> None:
        f, e = self.f, self.f.e
        size = f.dim(self.inner)
        begin = block * self.length * size + column
        with e.when(self.length > 0):
            self.out.at(begin).copy_all(self.source.at(begin), width)
            with e.loop(1, self.length, stem="down") as loop:
                here = begin + loop.i * size
                y, above = self.out.at(here), self.out.at(here - size)
                f.vectors(width, self.lanes, lambda j, lanes: y.store(
                    j, self._combine(above.load(j, lanes), here, j, lanes)))


def _flat(values: list[Scalar]) -> list[Val]:
    return [p for v in values for p in ((v.re, v.im) if isinstance(v, Cx) else (v,))]


def _unflat(parts: list[Val], like: list[Scalar]) -> list[Scalar]:
    it = iter(parts)
    return [Cx(next(it), next(it)) if isinstance(v, Cx) else next(it) for v in like]
