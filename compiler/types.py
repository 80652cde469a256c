"""Element types, symbolic sizes in shapes, and the types of graph values.

A `DType` is one of the fifteen element types weft knows. A dimension of a shape is an `int` or a
`Size`, a polynomial over named unknowns such as ``B`` or ``2*B + 1``, so that one compilation can
serve every batch size.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, TypeAlias

import numpy as np

from weft.compiler.lazy_dataclass import dataclass

__all__ = [
    "DTYPES", "DType", "Dim", "Shape", "Size", "TensorType", "TupleType", "Type",
    "dtype_of", "evaluate_dim", "numel", "row_major_strides", "shape_text",
]


@dataclass(frozen=True, eq=False)
class DType:
    """An element type: its short name in text (`f32`), kind and size in bytes.

    `kind` is one of ``"bool"``, ``"int"``, ``"uint"``, ``"float"``, ``"complex"``. Instances are
    unique, so they compare by identity.

    >>> dtype_of("float32"), dtype_of("float32").itemsize
    (f32, 4)
    """

    name: str
    kind: str
    itemsize: int

    @functools.cached_property
    def numpy(self) -> np.dtype[Any]:
        """NumPy's dtype."""
        if self.name == "bf16":     # the one that NumPy lacks; importing it takes as long as weft
            bfloat16: Any = importlib.import_module("ml_dtypes").bfloat16
            made: np.dtype[Any] = np.dtype(bfloat16)
            return made
        name = self.name if self.name == "bool" else f"{self.name[0]}{self.itemsize}"
        return np.dtype(name)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return (dtype_of, (self.name,))

    @property
    def bits(self) -> int:
        """Width in bits (8 for bool, which is stored as one byte)."""
        return 8 * self.itemsize

    @property
    def is_float(self) -> bool:
        """Whether this is a real floating-point type."""
        return self.kind == "float"

    @property
    def is_complex(self) -> bool:
        """Whether this is a complex type."""
        return self.kind == "complex"

    @property
    def is_integer(self) -> bool:
        """Whether this is a signed or unsigned integer type (bool is not)."""
        return self.kind in ("int", "uint")

    @property
    def is_inexact(self) -> bool:
        """Whether this is a real or complex floating-point type."""
        return self.kind in ("float", "complex")

    @property
    def real(self) -> DType:
        """The type of the real part: f32 for c64, f64 for c128, itself otherwise."""
        return {"c64": DTYPES["f32"], "c128": DTYPES["f64"]}.get(self.name, self)


DTYPES: Mapping[str, DType] = {d.name: d for d in (
    DType("bool", "bool", 1),
    *(DType(f"i{8 * n}", "int", n) for n in (1, 2, 4, 8)),
    *(DType(f"u{8 * n}", "uint", n) for n in (1, 2, 4, 8)),
    DType("f16", "float", 2), DType("bf16", "float", 2),
    DType("f32", "float", 4), DType("f64", "float", 8),
    DType("c64", "complex", 8), DType("c128", "complex", 16))}
_BY_NUMPY = {d.numpy: d for d in DTYPES.values() if d.name != "bf16"}


def dtype_of(spec: Any) -> DType:
    """The `DType` for a short name (``"f32"``), a NumPy dtype or anything NumPy takes as one.

    Byte order is ignored: a big-endian float32 is f32. Raises `TypeError` for others.

    >>> dtype_of(np.int64), dtype_of("bf16"), dtype_of(float)
    (i64, bf16, f64)
    """
    if isinstance(spec, DType):
        return spec
    found = DTYPES.get(spec) if isinstance(spec, str) else None
    if found is None:
        np_dtype = np.dtype(spec)
        found = _BY_NUMPY.get(np_dtype) or _BY_NUMPY.get(np_dtype.newbyteorder("="))
        if found is None and np_dtype.name == "bfloat16" and np_dtype == DTYPES["bf16"].numpy:
            found = DTYPES["bf16"]
    if found is None:
        raise TypeError(f"weft has no element type for {np.dtype(spec)!r}; "
                        f"it knows {', '.join(str(d.numpy) for d in DTYPES.values())}")
    return found


# --------------------------------------------------------------------------- symbolic sizes

Monomial: TypeAlias = tuple[str, ...]  # sorted names; () is the constant term


class Size:
    """A symbolic size: an integer polynomial over named unknowns, each at least 0.

    Arithmetic with ints and other sizes gives a `Size`, or a plain int when no unknown is left.
    Equality is exact equality of polynomials.

    >>> B = Size.symbol("B")
    >>> 2 * B + 1, B * B - B * B + 3, (4 * B) // 4
    (2*B + 1, 3, B)
    """

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = tuple(sorted((m, c) for m, c in terms.items() if c))
        self._hash = hash(self.terms)

    @staticmethod
    def symbol(name: str) -> Size:
        """The size named `name`."""
        return Size({(name,): 1})

    @property
    def symbols(self) -> frozenset[str]:
        """The names of the unknowns in this size."""
        return frozenset(name for m, _ in self.terms for name in m)

    def evaluate(self, values: Mapping[str, int]) -> int:
        """Its value where each unknown has the value given."""
        return sum(c * prod(values[n] for n in m) for m, c in self.terms)

    def __add__(self, other: Dim) -> Dim:
        out = dict(self.terms)
        for m, c in _terms(other):
            out[m] = out.get(m, 0) + c
        return _normal(out)

    __radd__ = __add__

    def __mul__(self, other: Dim) -> Dim:
        out: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in _terms(other):
                m = tuple(sorted(m1 + m2))
                out[m] = out.get(m, 0) + c1 * c2
        return _normal(out)

    __rmul__ = __mul__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + (-other)

    def __rsub__(self, other: int) -> Dim:
        return -self + other

    def __floordiv__(self, other: Dim) -> Dim:
        """Exact division; raises `ValueError` where the quotient is not a polynomial."""
        divisor = _terms(other)
        if len(divisor) == 1:
            (m2, c2), = divisor
            out: dict[Monomial, int] = {}
            for m, c in self.terms:
                rest = list(m)
                if c % c2 == 0 and all(_take(rest, n) for n in m2):
                    out[tuple(rest)] = c // c2
                else:
                    break
            else:
                return _normal(out)
        if isinstance(other, Size) and self == other:
            return 1
        raise ValueError(f"{self} is not known to be divisible by {other}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        parts = []
        for m, c in sorted(self.terms, key=lambda t: (-len(t[0]), t[0])):
            name = "*".join(m)
            text = str(abs(c)) if not m else name if abs(c) == 1 else f"{abs(c)}*{name}"
            parts.append(("- " if c < 0 else "+ ") + text)
        text = " ".join(parts)
        return text[2:] if text.startswith("+ ") else "-" + text[2:]


Dim: TypeAlias = int | Size
Shape: TypeAlias = tuple[Dim, ...]


def _take(names: list[str], name: str) -> bool:
    if name in names:
        names.remove(name)
        return True
    return False


def _terms(d: Dim) -> tuple[Any, ...]:
    return d.terms if isinstance(d, Size) else (((), d),)


def _normal(terms: dict[Monomial, int]) -> Dim:
    live = {m: c for m, c in terms.items() if c}
    return Size(live) if any(live) else live.get((), 0)


def evaluate_dim(d: Dim, values: Mapping[str, int]) -> int:
    """The value of a dimension where each unknown has the value given."""
    return d.evaluate(values) if isinstance(d, Size) else d


def numel(shape: Iterable[Dim]) -> Dim:
    """The number of elements of an array of this shape.

    >>> numel((2, 3)), numel((Size.symbol("B"), 4))
    (6, 4*B)
    """
    out: Dim = 1
    for d in shape:
        out = out * d
    return out


def row_major_strides(shape: Shape) -> Shape:
    """Strides, in elements, of a C-contiguous array of this shape."""
    strides: list[Dim] = []
    step: Dim = 1
    for d in reversed(shape):
        strides.append(step)
        step = step * d
    return tuple(reversed(strides))


def shape_text(shape: Iterable[Dim]) -> str:
    """A shape as text: ``[B, 3]``."""
    return "[" + ", ".join(map(str, shape)) + "]"


# --------------------------------------------------------------------------- value types


@dataclass(frozen=True)
class TensorType:
    """The type of an array value: its shape and element type.

    >>> TensorType((2, 3), dtype_of("f32"))
    f32[2, 3]
    """

    shape: Shape
    dtype: DType

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @functools.cached_property
    def size(self) -> Dim:
        """The number of elements."""
        return numel(self.shape)

    @property
    def nbytes(self) -> Dim:
        """Bytes of a contiguous array of this type."""
        return self.size * self.dtype.itemsize

    @property
    def is_static(self) -> bool:
        """Whether no dimension is symbolic."""
        return all(isinstance(d, int) for d in self.shape)

    def __repr__(self) -> str:
        return f"{self.dtype}{shape_text(self.shape)}"


@dataclass(frozen=True)
class TupleType:
    """The type of a node with several results (`get` takes one of them)."""

    elements: tuple[TensorType, ...]

    def __repr__(self) -> str:
        return "(" + ", ".join(map(repr, self.elements)) + ")"


Type: TypeAlias = TensorType | TupleType
