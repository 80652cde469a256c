"""Accumulators of reductions: how a thread takes values in, and how threads join theirs."""

from __future__ import annotations

from collections.abc import Callable

from weft.compiler.kernel.ir import Reduce
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DType
from weft.devices.gpu.lower import apply, identity, reg
from weft.devices.gpu.writer import Writer

__all__ = ["Accumulator", "accumulator"]

LONG = 32           # turns of one thread from which a float sum is compensated
_COMBINE = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum", "and": "and",
            "or": "or"}


@dataclass(frozen=True)
class Accumulator:
    """One reduction in a thread's registers, under `name`.

    `dtype` is the type of the values; `compensated` sums keep the rounding errors of long runs.
    """

    op: str
    dtype: DType
    name: str
    compensated: bool = False

    @property
    def is_arg(self) -> bool:
        """Whether positions are tracked."""
        return self.op in ("argmax", "argmin")

    @property
    def type(self) -> str:
        """The type of what threads join."""
        return f"w_best<{reg(self.dtype)}>" if self.is_arg else reg(self.dtype)

    def start(self, w: Writer) -> None:
        """Declare it, as it is before any value."""
        n = self.name
        if self.is_arg:
            w.line(f"{self.type} {n} = w_none<{reg(self.dtype)}>();")
        elif self.compensated:
            part = self.dtype.real.name
            for x in self._parts():
                w.line(f"w_total<{part}> {x}; {x}.start();")
        else:
            w.line(f"{self.type} {n} = {identity(self.op, self.dtype)};")

    def _parts(self) -> list[str]:
        return [f"{self.name}r", f"{self.name}i"] if self.dtype.is_complex else [self.name]

    def take(self, w: Writer, value: str, position: Callable[[], str]) -> None:
        """Take a value in."""
        n = self.name
        if self.is_arg:
            most = str(self.op == "argmax").lower()
            w.line(f"{n} = w_take<{most}>({n}, ({reg(self.dtype)}){value}, (i64)({position()}));")
        elif self.compensated and self.dtype.is_complex:
            w.line(f"{n}r.add({value}.re); {n}i.add({value}.im);")
        elif self.compensated:
            w.line(f"{n}.add({value});")
        else:
            w.line(f"{n} = {self._join(n, value)};")

    def _join(self, a: str, b: str) -> str:
        return apply(_COMBINE[self.op], self.dtype, [a, b], [self.dtype, self.dtype])

    def own(self) -> str:
        """What this thread has."""
        if not self.compensated:
            return self.name
        parts = [f"{x}.result()" for x in self._parts()]
        return f"w_cx({', '.join(parts)})" if self.dtype.is_complex else parts[0]

    def function(self) -> str:
        """How two threads' values are joined, as a lambda expression."""
        most = str(self.op == "argmax").lower()
        body = f"w_better<{most}>(a, b)" if self.is_arg else self._join("a", "b")
        return f"[]({self.type} a, {self.type} b) {{ return ({self.type})({body}); }}"

    def result(self, joined: str) -> str:
        """The reduction's value."""
        return f"{joined}.at" if self.is_arg else joined


def accumulator(r: Reduce, name: str, turns: int | None) -> Accumulator:
    """The accumulator of a reduction of which one thread takes at most so many turns."""
    arg = r.op in ("argmax", "argmin")
    dtype = r.value.dtype if arg else r.dtype
    long = r.op == "sum" and dtype.is_inexact and (turns is None or turns > LONG)
    return Accumulator(r.op, dtype, name, long)
