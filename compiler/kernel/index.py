"""Index expressions: where a loop's turn reads and writes.

An `Index` is an integer combination of atoms: loop axes, quotients and remainders of other
indices, and values computed at run time. Quotients and remainders are simplified with the ranges
of the axes, so that the index of a reshaped array is again a plain combination wherever it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from math import gcd
from typing import TYPE_CHECKING, TypeAlias

from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim, Shape, Size, row_major_strides

if TYPE_CHECKING:
    from weft.compiler.kernel.expr import Expr

__all__ = ["Atom", "Axis", "Index", "Quotient", "Remainder", "Smaller", "Value", "as_index",
           "divisible", "index_dims", "linearize", "overlaps", "smaller", "unravel"]


@dataclass(frozen=True)
class Axis:
    """A loop: its name and how many turns it takes.

    The extent may depend on the index of a loop around it (`Index`), as in ragged chunks.
    """

    name: str
    extent: Dim | Index

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Quotient:
    """floor(of / by)."""

    of: Index
    by: Dim

    def __repr__(self) -> str:
        return f"({self.of})//{self.by}"


@dataclass(frozen=True)
class Remainder:
    """of mod by, not negative."""

    of: Index
    by: Dim

    def __repr__(self) -> str:
        return f"({self.of})%{self.by}"


@dataclass(frozen=True)
class Smaller:
    """The smaller of two indices."""

    a: Index
    b: Index

    def __repr__(self) -> str:
        return f"min({self.a}, {self.b})"


@dataclass(frozen=True)
class Value:
    """An i64 value computed at run time, known to lie in [0, below)."""

    expr: Expr
    below: Dim

    def __repr__(self) -> str:
        return f"<{self.expr}>"


Atom: TypeAlias = Axis | Quotient | Remainder | Smaller | Value


def divisible(a: Dim, by: Dim) -> Dim | None:
    """a / by where that is exact, else None."""
    if isinstance(a, int) and isinstance(by, int):
        return a // by if by and a % by == 0 else None
    if isinstance(a, int):
        return 0 if a == 0 else None
    try:
        return a // by
    except ValueError:
        return None


@dataclass(frozen=True)
class Index:
    """const + sum of coefficient * atom.

    >>> i, j = Axis("i", 6), Axis("j", 4)
    >>> flat = as_index(i) * 4 + as_index(j)
    >>> flat, flat // 4, flat % 4, flat // 12
    (4*i + j, i, j, (i)//3)
    """

    terms: tuple[tuple[Atom, Dim], ...] = ()
    const: Dim = 0

    @cached_property
    def _hash(self) -> int:
        return hash((self.terms, self.const))

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Index | Dim) -> Index:
        other = as_index(other)
        if not other.terms:
            return Index(self.terms, self.const + other.const)
        if not self.terms:
            return Index(other.terms, self.const + other.const)
        coefs: dict[Atom, Dim] = dict(self.terms)
        for atom, c in other.terms:
            coefs[atom] = coefs.get(atom, 0) + c
        return Index(tuple((a, c) for a, c in coefs.items() if c != 0), self.const + other.const)

    def __mul__(self, by: Dim) -> Index:
        if by == 0:
            return Index()
        if by == 1:
            return self
        return Index(tuple((a, c * by) for a, c in self.terms), self.const * by)

    def __sub__(self, other: Index | Dim) -> Index:
        return self + as_index(other) * -1

    @property
    def is_constant(self) -> bool:
        """Whether no axis or value takes part."""
        return not self.terms

    @property
    def as_axis(self) -> Axis | None:
        """The axis that this index is, if it is just one."""
        if len(self.terms) == 1 and self.const == 0:
            atom, c = self.terms[0]
            if c == 1 and isinstance(atom, Axis):
                return atom
        return None

    @cached_property
    def bounds(self) -> tuple[int, int] | None:
        """Smallest and largest value, where all sizes are known numbers."""
        if not isinstance(self.const, int):
            return None
        lo = hi = self.const
        for atom, c in self.terms:
            span = _atom_bounds(atom)
            if span is None or not isinstance(c, int):
                return None
            a, b = c * span[0], c * span[1]
            lo, hi = lo + min(a, b), hi + max(a, b)
        return lo, hi

    def within(self, size: Dim) -> bool:
        """Whether the value is known to lie in [0, size)."""
        if isinstance(size, int) and self.bounds is not None:
            lo, hi = self.bounds
            return lo >= 0 and hi < size
        axis = self.as_axis
        return axis is not None and axis.extent == size

    def _split(self, by: Dim) -> tuple[Index, Index]:
        """Parts (whole, rest) with self == whole*by + rest."""
        whole: list[tuple[Atom, Dim]] = []
        rest: list[tuple[Atom, Dim]] = []
        for atom, c in self.terms:
            q = divisible(c, by)
            if q is None:
                rest.append((atom, c))
            else:
                whole.append((atom, q))
        if isinstance(self.const, int) and isinstance(by, int):
            q, r = divmod(self.const, by)
            return Index(tuple(whole), q), Index(tuple(rest), r)
        return Index(tuple(whole)), Index(tuple(rest), self.const)

    def __floordiv__(self, by: Dim) -> Index:
        if by == 1:
            return self
        whole, rest = self._split(by)
        if rest.within(by) or (rest.is_constant and rest.const == 0):
            return whole
        common = _common_factor(rest, by)
        if common is not None:
            g, high, _ = common
            return whole + high // (by // g)
        return whole + Index(((Quotient(rest, by), 1),))

    def __mod__(self, by: Dim) -> Index:
        if by == 1:
            return Index()
        _, rest = self._split(by)
        if rest.within(by) or (rest.is_constant and rest.const == 0):
            return rest
        common = _common_factor(rest, by)
        if common is not None:
            g, high, low = common
            return (high % (by // g)) * g + low
        return Index(((Remainder(rest, by), 1),))

    def substitute(self, f: Callable[[Atom], Index | None]) -> Index:
        """Every axis or value replaced by f of it, inside quotients and remainders too."""
        out = Index((), self.const)
        for atom, c in self.terms:
            out = out + _substitute_atom(atom, f) * c
        return out

    @cached_property
    def axes(self) -> frozenset[Axis]:
        """All axes that take part, also inside quotients and the values' expressions."""
        return frozenset().union(*(_atom_axes(a) for a, _ in self.terms))

    def coefficient(self, axis: Axis) -> Dim | None:
        """By how much a step along the axis moves the index; None if not by a fixed amount."""
        out: Dim = 0
        for atom, c in self.terms:
            if atom == axis:
                out = out + c
            elif axis in _atom_axes(atom):
                return None
        return out

    def __repr__(self) -> str:
        parts = [str(a) if c == 1 else f"{c}*{a}" if not isinstance(c, Size) else f"({c})*{a}"
                 for a, c in self.terms]
        if self.const != 0 or not parts:
            parts.append(str(self.const))
        return " + ".join(parts)


def as_index(x: Index | Axis | Dim | Atom) -> Index:
    """Anything that stands for an index as an `Index`."""
    if isinstance(x, Index):
        return x
    if isinstance(x, (int, Size)):
        return Index((), x)
    if isinstance(x, Axis) and x.extent == 1:
        return Index()
    return Index(((x, 1),))


def _common_factor(x: Index, by: Dim) -> tuple[int, Index, Index] | None:
    """(g, high, low) with x == g*high + low, g dividing `by` and low in [0, g)."""
    if not isinstance(by, int):
        return None
    for g in sorted({gcd(c, by) for _, c in x.terms if isinstance(c, int)}, reverse=True):
        if 1 < g < by:
            high, low = x._split(g)
            if low.within(g) or (low.is_constant and low.const == 0):
                return g, high, low
    return None


def overlaps(x: Index) -> bool:
    """Whether different turns of the axes may give one value, as the index of a window does.

    >>> i, k = Axis("i", 6), Axis("k", 3)
    >>> overlaps(as_index(i) + as_index(k)), overlaps(as_index(i) * 3 + as_index(k))
    (True, False)
    """
    reach = 0
    steps = sorted((abs(c), atom.extent) for atom, c in x.terms if isinstance(atom, Axis)
                   and isinstance(c, int) and isinstance(atom.extent, int))
    for step, extent in steps:
        if step <= reach:
            return True
        reach += step * (extent - 1)
    return False


def smaller(a: Index, b: Index) -> Index:
    """The smaller of two indices."""
    return Index(((Smaller(a, b), 1),))


def _atom_bounds(atom: Atom) -> tuple[int, int] | None:
    if isinstance(atom, Axis):
        if isinstance(atom.extent, Index):
            span = atom.extent.bounds
            return (0, max(span[1] - 1, 0)) if span else None
        return (0, max(atom.extent - 1, 0)) if isinstance(atom.extent, int) else None
    if isinstance(atom, Value):
        return (0, max(atom.below - 1, 0)) if isinstance(atom.below, int) else None
    if isinstance(atom, Smaller):
        a, b = atom.a.bounds, atom.b.bounds
        return (min(a[0], b[0]), min(a[1], b[1])) if a and b else None
    if not isinstance(atom.by, int):
        return None
    if isinstance(atom, Remainder):
        return 0, atom.by - 1
    span = atom.of.bounds
    return (span[0] // atom.by, span[1] // atom.by) if span else None


def _atom_axes(atom: Atom) -> frozenset[Axis]:
    if isinstance(atom, Axis):
        return frozenset((atom,))
    if isinstance(atom, Value):
        return atom.expr.axes
    if isinstance(atom, Smaller):
        return atom.a.axes | atom.b.axes
    return atom.of.axes


def _substitute_atom(atom: Atom, f: Callable[[Atom], Index | None]) -> Index:
    new = f(atom)
    if new is not None:
        return new
    if isinstance(atom, Quotient):
        return atom.of.substitute(f) // atom.by
    if isinstance(atom, Remainder):
        return atom.of.substitute(f) % atom.by
    if isinstance(atom, Smaller):
        return smaller(atom.a.substitute(f), atom.b.substitute(f))
    return as_index(atom)


def index_dims(index: Index) -> list[Dim]:
    """All sizes in an index: its constant and factors, also inside quotients and remainders."""
    out: list[Dim] = [index.const, *(c for _, c in index.terms)]
    for atom, _ in index.terms:
        if isinstance(atom, (Quotient, Remainder)):
            out += [atom.by, *index_dims(atom.of)]
        elif isinstance(atom, Smaller):
            out += [*index_dims(atom.a), *index_dims(atom.b)]
    return out


def linearize(index: tuple[Index, ...], shape: Shape) -> Index:
    """The element offset of a multi-dimensional index into a C-contiguous array.

    Quotients and remainders of one index by one size are put together again where they stand in
    the proportion in which they were taken apart.
    """
    out = Index()
    for ix, stride in zip(index, row_major_strides(shape)):
        out = out + ix * stride
    return _recombine(out)


def _recombine(index: Index) -> Index:
    coefs: Mapping[Atom, Dim] = dict(index.terms)
    for atom, c in index.terms:
        if isinstance(atom, Remainder):
            quotient = Quotient(atom.of, atom.by)
            if coefs.get(quotient) == c * atom.by:
                rest = Index(tuple(t for t in index.terms if t[0] not in (atom, quotient)),
                             index.const)
                return _recombine(rest + atom.of * c)
    return index


def unravel(flat: Index, shape: Shape) -> tuple[Index, ...]:
    """The multi-dimensional index of an element offset."""
    out: list[Index] = []
    for d, stride in zip(shape, row_major_strides(shape)):
        q = flat // stride if stride != 0 else Index()
        out.append(q if q.within(d) or not out else q % d if d != 0 else Index())
    return tuple(out)
