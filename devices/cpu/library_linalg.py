"""Factorizations and systems of equations, by the loops of `numpy.linalg`.

A unit of work is one matrix of a stack. Small matrices are shared out among threads; large ones are
done one after another, since LAPACK then uses threads of its own. Single precision is computed in
double, as NumPy does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weft.compiler.kernel.ir import Library
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.target import Target
from weft.compiler.types import DTYPES, Dim, DType, numel
from weft.devices.cpu.code import KernelCode
from weft.devices.cpu.emit import Val
from weft.devices.cpu.library_frame import Elements, Frame, known
from weft.devices.cpu.library_gufunc import Operand, call_loop, failed, forget_failures

__all__ = ["LINALG", "emit_linalg"]

SMALL = 128         # rows and columns up to which LAPACK uses no threads that are worth it

_UFUNCS: dict[str, Callable[[dict[str, Any]], str]] = {
    "cholesky": lambda a: "cholesky_lo" if a["lower"] else "cholesky_up",
    "solve": lambda a: "solve",
    "det": lambda a: "det",
    "slogdet": lambda a: "slogdet",
    "svd": lambda a: "svd" if not a["compute_uv"] else "svd_f" if a["full_matrices"] else "svd_s",
    "eigh": lambda a: ("eigh_" if a["vectors"] else "eigvalsh_") + ("lo" if a["lower"] else "up"),
    "eig": lambda a: "eig" if a["vectors"] else "eigvals",
    "lstsq": lambda a: "lstsq",
    "qr": lambda a: "qr_r_raw",
}
LINALG = frozenset(_UFUNCS)
_WIDE = {"f32": "f64", "c64": "c128"}


def emit_linalg(step: Library, name: str, target: Target) -> KernelCode:
    """Code for the ops of LINALG."""
    return _Step(step, name, target).emit()


@dataclass(frozen=True)
class _Array:
    """A buffer of the step while the matrices of this call are worked on: in double precision, from
    the first of them on, and how many elements one of them has."""

    data: Elements
    each: Val
    own: Elements | None = None     # where the elements have to go, if that is elsewhere


class _Step:
    def __init__(self, step: Library, name: str, target: Target) -> None:
        self.step = step
        self.f = Frame(step, name, target)
        self.attrs = dict(step.attrs)
        self.ufunc = _UFUNCS[step.op](self.attrs)
        self.lead = step.buffers[0][1].shape[:-2]
        self.shape = step.buffers[0][1].shape[-2:]
        self.inputs = len(step.buffers) - len(step.outputs)
        self.count = self.f.hi - self.f.lo
        self.scratch: list[Elements] = []

    def emit(self) -> KernelCode:
        f = self.f
        with f.e.when(self.count > 0, "some"):
            arrays = [self._begin(i) for i in range(len(f.arrays))]
            if self.step.op == "eig":
                infinite = self._infinite(arrays[0])
                f.fail_if(infinite, 2)
                with f.e.when(~infinite, "finite"):
                    self._work(arrays)
            else:
                self._work(arrays)
            for a in arrays:
                self._finish(a)
            f.release(self.scratch)
        m, n = map(known, self.shape)
        units = numel(self.lead)
        least = 1 if max(m, n) <= SMALL else 1 << 40
        return f.code(units, max(1, m * n * min(m, n)), least)

    def _work(self, arrays: list[_Array]) -> None:
        forget_failures(self.f)
        if self.step.op == "qr":
            self._qr(arrays)
        else:
            self._call(arrays)

    # ---- arrays

    def _begin(self, index: int) -> _Array:
        """A buffer in double precision; inputs are converted, outputs will be."""
        f, t = self.f, self.f.types[index]
        each = f.dim(numel(t.shape[len(self.lead):]))
        own = f.arrays[index].at(f.lo * each)
        wide = _WIDE.get(t.dtype.name)
        if wide is None:
            return _Array(own, each)
        data = self._memory(each, DTYPES[wide])
        if index < self.inputs:
            self._convert(own, data, each)
            return _Array(data, each)
        return _Array(data, each, own)

    def _finish(self, a: _Array) -> None:
        if a.own is not None:
            self._convert(a.data, a.own, a.each)

    def _memory(self, each: Val, dtype: DType) -> Elements:
        """Memory for an array of the matrices of this call."""
        made = self.f.scratch(self.count * each, dtype)
        self.scratch.append(made)
        return made

    def _convert(self, source: Elements, target: Elements, each: Val) -> None:
        f, e = self.f, self.f.e
        n = self.count * each * (2 if source.dtype.is_complex else 1)
        x, y = (Elements(e, a.address, a.dtype.real) for a in (source, target))

        def some(i: Val, lanes: int) -> None:
            value = x.load(i, lanes)
            assert isinstance(value, Val)
            y.store(i, e.convert(value, y.dtype.name))
        f.vectors(n, e.target.lanes(8), some)

    # ---- calls

    def _sizes(self) -> dict[str, Val]:
        """The sizes in the signatures, by their names there."""
        m, n = self.shape
        sizes: dict[str, Dim] = {"m": m, "n": n}
        if isinstance(m, int) and isinstance(n, int):
            sizes["p"] = min(m, n)
        else:
            sizes["p"] = m
        if self.step.op == "solve":
            sizes["n"] = self.f.types[1].shape[-1]
        if self.step.op == "lstsq":
            sizes["nrhs"] = self.f.types[1].shape[-1]
        return {name: self.f.dim(d) for name, d in sizes.items()}

    def _call(self, arrays: list[_Array]) -> None:
        f = self.f
        operands = [Operand(a.data, a.each) for a in arrays]
        inputs = self.inputs
        if self.step.op == "lstsq":
            operands.insert(inputs, self._rcond())
            inputs += 1
        call_loop(f, self.ufunc, operands, inputs, self.count, self._sizes())
        if self.step.fails:
            f.fail_if(failed(f))
        if self.attrs.get("full_rank"):
            self._full_rank(arrays[4].data)

    def _rcond(self) -> Operand:
        """What counts as 0 of singular values; by default what NumPy takes."""
        e, given = self.f.e, self.attrs["rcond"]
        place = Elements(e, e.stack(8), DTYPES["f64"])
        if given is None:
            sizes = [e.convert(self.f.dim(d), "f64") for d in self.shape]
            place.store(0, e.select(sizes[0] < sizes[1], sizes[1], sizes[0]) * 2.0 ** -52)
        else:
            place.store(0, e.const("f64", given))
        return Operand(place, 0)

    def _full_rank(self, ranks: Elements) -> None:
        f, n = self.f, self.f.e.convert(self.f.dim(self.shape[1]), "i32")
        with f.e.loop(0, self.count, stem="rank") as loop:
            rank = ranks.load(loop.i)
            assert isinstance(rank, Val)
            f.fail_if(rank < n, 2)

    def _infinite(self, x: _Array) -> Val:
        """Whether an element is infinite or NaN: NumPy looks for eigenvalues of no such matrix."""
        e, parts = self.f.e, 2 if x.data.dtype.is_complex else 1
        values = Elements(e, x.data.address, DTYPES["f64"])
        with e.loop(0, self.count * x.each * parts, carry=[e.const("i1", False)],
                    stem="check") as loop:
            value = values.load(loop.i)
            assert isinstance(value, Val)
            difference = value - value          # 0 of what is finite, else NaN
            loop.next = [loop.carry[0] | e.unordered(difference, difference)]
        return loop.out[0]

    def _qr(self, arrays: list[_Array]) -> None:
        """NumPy's two steps: reflectors and R, in place of the matrix, then Q of the reflectors."""
        f, mode = self.f, self.attrs["mode"]
        x, sizes = arrays[0], self._sizes()
        m, n, k = sizes["m"], sizes["n"], sizes["p"]
        packed, tau = self._memory(x.each, x.data.dtype), self._memory(k, x.data.dtype)
        packed.copy_all(x.data, self.count * x.each)
        call_loop(f, self.ufunc, [Operand(packed, x.each), Operand(tau, k)], 1, self.count, sizes)
        f.fail_if(failed(f))
        if mode == "raw":
            self._transposed(packed, arrays[1].data, m, n)
            arrays[2].data.copy_all(tau, self.count * k)
            return
        rows, columns = map(known, self.shape)
        tall = mode == "complete" and rows > columns
        self._upper(packed, arrays[-1].data, m if tall else k, m, n)
        if mode != "r":
            call_loop(f, "qr_complete" if tall else "qr_reduced",
                      [Operand(packed, x.each), Operand(tau, k),
                       Operand(arrays[1].data, arrays[1].each)], 2, self.count, {**sizes, "k": k})
            f.fail_if(failed(f))

    def _upper(self, packed: Elements, out: Elements, rows: Val, m: Val, n: Val) -> None:
        """The upper triangle of so many rows of each matrix, zeros below it."""
        e = self.f.e
        with e.loop(0, self.count, stem="item") as item, e.loop(0, rows, stem="row") as row:
            source = packed.at(item.i * m * n + row.i * n)
            target = out.at(item.i * rows * n + row.i * n)
            first = e.intrinsic("smin", row.i, n)
            zero = Elements(e, target.address, target.dtype.real)
            parts = 2 if target.dtype.is_complex else 1
            with e.loop(0, first * parts, stem="zero") as column:
                zero.store(column.i, e.const(zero.dtype.name, 0.0))
            target.at(first).copy_all(source.at(first), n - first)

    def _transposed(self, source: Elements, target: Elements, m: Val, n: Val) -> None:
        e = self.f.e
        with e.loop(0, self.count, stem="item") as item, e.loop(0, m, stem="row") as row, \
                e.loop(0, n, stem="column") as column:
            at = item.i * m * n
            target.copy(at + column.i * m + row.i, source, at + row.i * n + column.i)

