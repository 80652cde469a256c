"""Fourier transforms along an axis, by the loops of `numpy.fft` (pocketfft).

A unit of work is one transform. The loops copy their numbers into a row of their own first, so
that those along other axes than the last need nothing of us.
"""

from __future__ import annotations

from weft.compiler.kernel.ir import Library
from weft.compiler.target import Target
from weft.compiler.types import Dim
from weft.devices.cpu.code import KernelCode
from weft.devices.cpu.emit import Val
from weft.devices.cpu.library_frame import Elements, Frame, known
from weft.devices.cpu.library_gufunc import Operand, call_loop

__all__ = ["emit_fft"]

_DIVIDES = {"FFT": "forward", "RFFT": "forward", "IFFT": "backward", "IRFFT": "backward"}


def emit_fft(step: Library, name: str, target: Target) -> KernelCode:
    """Code for the op fft."""
    return _Fft(step, name, target).emit()


class _Fft:
    def __init__(self, step: Library, name: str, target: Target) -> None:
        attrs = dict(step.attrs)
        self.f = Frame(step, name, target)
        self.source, self.out = self.f.arrays
        self.kind, self.norm, self.length = attrs["fft_type"], attrs["norm"], attrs["length"]
        self.outer, self.n_in, self.inner = self.f.around(attrs["axis"])
        self.n_out = self.f.types[1].shape[attrs["axis"]]

    def emit(self) -> KernelCode:
        """The code: units are rows, or columns of blocks."""
        f, e = self.f, self.f.e
        n = known(self.length)
        cost = n * 2 * max(1, n.bit_length())
        self.sizes = [f.dim(self.n_in), f.dim(self.n_out)]
        factor = self._factor()
        if self.inner == 1:
            count = f.hi - f.lo
            with e.when(count > 0, "some"):
                self._transform(factor, f.lo * self.sizes[0], f.lo * self.sizes[1], count,
                                e.const("i64", 1))
            return f.code(self.outer, cost)
        size = f.dim(self.inner)

        def run(block: Val, column: Val, width: Val) -> None:
            source, out = (block * s * size + column for s in self.sizes)
            self._transform(factor, source, out, width, size)
        f.columns(self.inner, 1 << 30, run)
        return f.code(self.outer * self.inner, cost)

    def _transform(self, factor: Elements, source: Val, out: Val, count: Val, step: Val) -> None:
        """`count` transforms, that begin at these elements, of elements `step` apart."""
        e = self.f.e
        rows = step.ref == "1"
        items = self.sizes if rows else [e.const("i64", 1)] * 2
        operands = [Operand(self.source.at(source), items[0], [step]), Operand(factor, 0),
                    Operand(self.out.at(out), items[1], [step])]
        names = ("m", "n") if self.kind in ("IFFT", "IRFFT") else ("n", "m")
        call_loop(self.f, self._ufunc(), operands, 2, count, dict(zip(names, self.sizes)))

    def _ufunc(self) -> str:
        if self.kind != "RFFT":
            return str(self.kind).lower()
        return "rfft_n_odd" if self._is_odd(self.length) else "rfft_n_even"

    def _is_odd(self, n: Dim) -> bool:
        """Symbolic lengths of real transforms are even."""
        return isinstance(n, int) and n % 2 == 1

    def _factor(self) -> Elements:
        """What results are multiplied by, as NumPy computes it, in memory."""
        e, dtype = self.f.e, self.source.dtype.real
        place = Elements(e, e.stack(8), dtype)
        value = e.const(dtype.name, 1.0)
        if self.norm == "ortho":
            value = 1.0 / e.intrinsic("sqrt", self._count(dtype.name))
        elif self.norm == _DIVIDES[self.kind]:
            value = 1.0 / self._count(dtype.name)
        place.store(0, value)
        return place

    def _count(self, dtype: str) -> Val:
        return self.f.e.convert(self.f.dim(self.length), dtype)
