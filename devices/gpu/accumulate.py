"""Accumulators of reductions: how a thread takes values in, and how threads join theirs."""

from __future__ import annotations

from collections.abc import Callable

from weft.compiler.kernel.ir import Reduce
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DType
from weft.devices.gpu.lower import apply, identity, reg
from weft.devices.gpu.writer import Writer

__all__ = ["RUN", "Accumulator", "accumulator"]

RUN = 16            # values that are added plainly, before compensation
LONG = 32           # turns of one thread from which a float sum is compensated
_COMBINE = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum", "and": "and",
            "or": "or"}


@dataclass(frozen=True)
class Accumulator:
    """One reduction in a thread's registers, under `name`.

    `dtype` is the type of the values; `compensated` sums keep the rounding errors of long runs.
    With `columns`, a thread has so many of it, of which the text takes number ``u``.
    """

    op: str
    dtype: DType
    name: str
    compensated: bool = False
    columns: int = 0

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
        type = f"w_total<{self.dtype.real.name}>" if self.compensated else self.type
        none = f"w_none<{reg(self.dtype)}>()" if self.is_arg else \
            "" if self.compensated else identity(self.op, self.dtype)
        for n in self._parts():
            begin = f"{n}{self._at}.start();" if self.compensated else f"{n}{self._at} = {none};"
            if self.columns:
                w.line(f"{type} {n}[{self.columns}];")
                w.line("#pragma unroll")
                w.line(f"for (i32 u = 0; u < {self.columns}; ++u) {begin}")
            else:
                w.line(f"{type} {n}; {begin}" if self.compensated else f"{type} {begin}")

    @property
    def _at(self) -> str:
        return "[u]" if self.columns else ""

    def _parts(self) -> list[str]:
        split = self.compensated and self.dtype.is_complex
        return [f"{self.name}r", f"{self.name}i"] if split else [self.name]

    def take(self, w: Writer, value: str, position: Callable[[], str], run: bool = False) -> None:
        """Take a value in; in a `run`, at the end of which there is a `flush`."""
        n = f"{self.name}{self._at}"
        if self.compensated:
            values = [f"{value}.re", f"{value}.im"] if self.dtype.is_complex else [value]
            for x, v in zip(self._parts(), values):
                w.line(f"{x}{self._at}.part += {v};" if run else f"{x}{self._at}.add({v});")
        elif self.is_arg:
            most = str(self.op == "argmax").lower()
            w.line(f"{n} = w_take<{most}>({n}, ({reg(self.dtype)}){value}, (i64)({position()}));")
        else:
            w.line(f"{n} = {self._join(n, value)};")

    def flush(self, w: Writer) -> None:
        """Add a run to the sum."""
        for x in self._parts() if self.compensated else ():
            if self.columns:
                w.line("#pragma unroll")
                w.line(f"for (i32 u = 0; u < {self.columns}; ++u) {x}[u].flush();")
            else:
                w.line(f"{x}.flush();")

    def _join(self, a: str, b: str) -> str:
        return apply(_COMBINE[self.op], self.dtype, [a, b], [self.dtype, self.dtype])

    def own(self) -> str:
        """What this thread has."""
        if not self.compensated:
            return f"{self.name}{self._at}"
        parts = [f"{x}{self._at}.result()" for x in self._parts()]
        return f"w_cx({', '.join(parts)})" if self.dtype.is_complex else parts[0]

    def function(self) -> str:
        """How two threads' values are joined, as a lambda expression."""
        most = str(self.op == "argmax").lower()
        body = f"w_better<{most}>(a, b)" if self.is_arg else self._join("a", "b")
        return f"[]({self.type} a, {self.type} b) {{ return ({self.type})({body}); }}"

    def result(self, joined: str) -> str:
        """The reduction's value."""
        return f"{joined}.at" if self.is_arg else joined


def accumulator(r: Reduce, name: str, turns: int | None, columns: int = 0) -> Accumulator:
    """The accumulator of a reduction of which one thread takes at most so many turns, in each of
    `columns`, if there is more than one."""
    arg = r.op in ("argmax", "argmin")
    dtype = r.value.dtype if arg else r.dtype
    long = r.op == "sum" and dtype.is_inexact and (turns is None or turns > LONG)
    return Accumulator(r.op, dtype, name, long, columns if columns > 1 else 0)
