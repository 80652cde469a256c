"""Writes CUDA C++: lines with indentation, and scalar expressions of the kernel IR in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Atom, Axis, Index, Quotient, Remainder, Smaller, Value
from weft.compiler.kernel.ir import Kernel
from weft.compiler.types import DTYPES, Dim, Size, TensorType
from weft.devices.gpu.lower import apply, literal, load_value, reg

__all__ = ["Evaluator", "Writer", "fits_i32"]


class Writer:
    """Lines of code, indented by the blocks that they stand in."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1

    def line(self, text: str) -> None:
        """One more line."""
        self.lines.append("  " * self.depth + text if text[0] != "#" else text)

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """A block with this before its brace."""
        self.line(f"{header} {{" if header else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self.line("}")


def fits_i32(index: Index) -> bool:
    """Whether all values of an index are known to be 32-bit integers."""
    bounds = index.bounds
    return bounds is not None and bounds[0] > -(1 << 31) and bounds[1] < (1 << 31) - (1 << 20)


class Evaluator:
    """Writes expressions as constants of the innermost scope, each once in a scope.

    `axes` are the texts of loop variables, `given` those of values that are at hand already;
    `accs` those of finished reductions. With `clamped`, run-time indices are kept inside their
    arrays, since a failed check does not stop the other threads.
    """

    def __init__(self, kernel: Kernel, writer: Writer) -> None:
        self.kernel = kernel
        self.w = writer
        self.axes: dict[Axis, str] = {}
        self.given: dict[Expr, str] = {}
        self.accs: dict[int, str] = {}
        self.clamped = any(s.checks for s in kernel.stages)
        self.varying = False    # whether finished reductions differ from turn to turn
        self._scopes: list[dict[Expr, str]] = [{}]
        self._count = 0
        self.types: Mapping[str, TensorType] = kernel.types

    @contextmanager
    def scope(self, header: str | None = None) -> Iterator[None]:
        """A block; values written inside are not known behind it."""
        axes, given = dict(self.axes), dict(self.given)
        self._scopes.append({})
        if header is None:
            yield
        else:
            with self.w.block(header):
                yield
        self._scopes.pop()
        self.axes, self.given = axes, given

    def fresh(self, stem: str = "v") -> str:
        """A name that is not taken."""
        self._count += 1
        return f"{stem}{self._count}"

    # ---- values

    def value(self, e: Expr) -> str:
        """A name or a literal for the value of an expression."""
        for x in self._missing(e):
            self._write(x)
        found = self._known(e)
        assert found is not None
        return found

    def _known(self, e: Expr) -> str | None:
        if e.kind == "const":
            return literal(e.what, e.dtype)
        if e.kind == "acc":
            return self.accs[e.what]
        if e in self.given:
            return self.given[e]
        return next((s[e] for s in reversed(self._scopes) if e in s), None)

    def _missing(self, root: Expr) -> list[Expr]:
        """The sub-expressions that are not written yet, each after its own."""
        out: dict[Expr, None] = {}
        stack: list[tuple[Expr, bool]] = [(root, False)]
        while stack:
            e, done = stack.pop()
            if done:
                out[e] = None
            elif e not in out and self._known(e) is None:
                stack.append((e, True))
                stack.extend((c, False) for c in reversed(e.children))
        return list(out)

    def _write(self, e: Expr) -> None:
        if e.kind == "load":
            text = self.load(e)
        elif e.kind == "index":
            text = self._of_index(e)
        else:
            args = [self._known(a) or "" for a in e.args]
            text = apply(e.what, e.dtype, args, [a.dtype for a in e.args])
        name = self.fresh()
        self.w.line(f"const {reg(e.dtype)} {name} = {text};")
        self._scopes[-1][e] = name

    def _of_index(self, e: Expr) -> str:
        text = self.index(e.index[0])
        if e.dtype.name in ("f16", "bf16"):
            return apply("convert", e.dtype, [f"(i64)({text})"], [_I64])
        return f"({e.dtype.name})({text})" if not e.dtype.is_complex else \
            f"w_cx(({e.dtype.real})({text}), ({e.dtype.real})0)"

    def load(self, e: Expr) -> str:
        """The text that reads a load's element."""
        dtype = self.types[e.what].dtype
        zero = literal(0, dtype)
        if self.types[e.what].size == 0:
            return zero
        read = load_value(f"{e.what}[{self.index(e.index[0])}]", dtype)
        return f"{self.value(e.args[0])} ? {read} : {zero}" if e.args else read

    def hoist(self, roots: Iterable[Expr], changing: Iterable[Axis], fixed: Iterable[str] = ()
              ) -> None:
        """Write what does not depend on the changing axes now, outside their loops.

        Elements of the buffers `fixed` are not read ahead, since they are written in the loops.
        """
        moving, kept = frozenset(changing), frozenset(fixed)
        stays: set[Expr] = set()
        for e in walk(*roots):
            free = not (e.axes & moving) and (e.kind != "load" or e.what not in kept) \
                and all(c in stays or c.kind in ("const", "acc") for c in e.children) \
                and all(n in self.accs and not self.varying for n in e.accs)
            if free:
                stays.add(e)
                if e.kind in ("load", "apply"):
                    self.value(e)

    # ---- indices

    def index(self, index: Index) -> str:
        """The value of an index, an i32 where that can hold it, else an i64."""
        return self.index_as(index, "i32" if fits_i32(index) else "i64")

    def index_as(self, index: Index, kind: str) -> str:
        """The value of an index in this type."""
        parts = []
        for atom, c in index.terms:
            text = self._atom(atom, kind)
            if c == -1:
                parts.append(f"- {text}")
            elif c == 1:
                parts.append(f"+ {text}")
            elif isinstance(c, int) and c < 0:
                parts.append(f"- {text} * {self.dim(-c, kind)}")
            else:
                parts.append(f"+ {text} * {self.dim(c, kind)}")
        if isinstance(index.const, int):
            if index.const or not parts:
                sign, size = ("-", -index.const) if index.const < 0 else ("+", index.const)
                parts.append(f"{sign} {self.dim(size, kind)}")
        else:
            parts.append(f"+ {self.dim(index.const, kind)}")
        text = " ".join(parts)
        return text[2:] if text.startswith("+ ") else "-" + text[2:]

    def dim(self, d: Dim, kind: str = "i64") -> str:
        """A size as text."""
        if isinstance(d, Size):
            terms = [" * ".join([str(c) + "ll"] * (c != 1 or not m) + [f"n_{s}" for s in m])
                     for m, c in d.terms]
            return f"({' + '.join(terms)})"
        return f"{d}ll" if kind == "i64" and abs(d) >= 1 << 31 else str(d)

    def _atom(self, atom: Atom, kind: str) -> str:
        if isinstance(atom, Axis):
            name = self.axes[atom]
            return f"(i64){name}" if kind == "i64" else name
        if isinstance(atom, Value):
            return self._run_time(atom, kind)
        if isinstance(atom, Smaller):
            return f"w_index_min<{kind}>({self.index_as(atom.a, kind)}, " \
                   f"{self.index_as(atom.b, kind)})"
        inner = "i32" if fits_i32(atom.of) and isinstance(atom.by, int) and atom.by < 1 << 31 \
            else "i64"
        of, by = self.index_as(atom.of, inner), self.dim(atom.by, inner)
        divides = isinstance(atom, Quotient)
        assert isinstance(atom, (Quotient, Remainder))
        if atom.of.bounds is not None and atom.of.bounds[0] >= 0:
            u = f"u{inner[1:]}"
            return f"({kind})(({u})({of}) {'/' if divides else '%'} ({u}){by})"
        name = "w_index_div" if divides else "w_index_mod"
        return f"({kind}){name}<{inner}>({of}, {by})"

    def _run_time(self, atom: Value, kind: str) -> str:
        value = self.value(atom.expr)
        if self.clamped:
            value = f"w_clamp({value}, {self.dim(atom.below)})"
        return f"({kind}){value}"


_I64 = DTYPES["i64"]
