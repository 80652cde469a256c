"""What AVX-512 offers to vector math: tables of 16 numbers in registers, exponents, scaling.

A permutation with a table as its data and indices in the lanes looks up 16 lanes in one
instruction, so that a function can take a short polynomial of its own in each of 16 intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

from weft.devices.cpu.emit import Emitter, Val, constant_text, llvm_type
from weft.devices.cpu.math.tools import absolute, at_most, bits, copysign

__all__ = ["OddPieces", "constant_vector", "exponent", "has_avx512", "in_registers", "lookup",
           "mantissa", "odd_by_pieces", "scale_by", "significand"]


Constant = tuple[str, str]


def has_avx512(e: Emitter) -> bool:
    """Whether the target has AVX-512 (alone on x86 it has vectors of 64 bytes)."""
    return e.target.vector_bytes == 64 and (e.target.triple == "" or "86" in e.target.triple)


def in_registers(e: Emitter, name: str, result: str, lanes: int, *operands: Val | Constant) -> Val:
    """An intrinsic of just `lanes` lanes, on vectors of any number of them.

    Longer vectors are split in halves, shorter ones filled up. Operands that are pairs of texts,
    type and value, are passed on as they are.
    """
    xs = [x for x in operands if isinstance(x, Val)]
    size = xs[0].lanes
    if size > lanes:
        halves = [in_registers(e, name, result, lanes, *(
            e.shuffle(x, None, range(start, start + size // 2)) if isinstance(x, Val) else x
            for x in operands)) for start in (0, size // 2)]
        return e.shuffle(halves[0], halves[1], range(size))
    if size < lanes:
        order = [*range(size), *[size] * (lanes - size)]
        wide = in_registers(e, name, result, lanes, *(
            x if isinstance(x, tuple) else e.insert(e.undef(x.dtype, lanes), 0, x) if size == 1
            else e.shuffle(x, None, order) for x in operands))
        return e.extract(wide, 0) if size == 1 else e.shuffle(wide, None, range(size))
    pairs = [x if isinstance(x, tuple) else (x.type, x.ref) for x in operands]
    types = ", ".join(kind for kind, _ in pairs)
    values = ", ".join(f"{kind} {value}" for kind, value in pairs)
    head = f"{llvm_type(result, lanes)} @llvm.x86.avx512.{name}"
    e.declares.add(f"declare {head}({types})")
    return e.assign(f"call {head}({values})", result, lanes)


def constant_vector(dtype: str, values: Sequence[float]) -> Constant:
    """A vector of these numbers."""
    one = llvm_type(dtype)
    terms = ", ".join(f"{one} {constant_text(dtype, v)}" for v in values)
    return f"<{len(values)} x {one}>", f"<{terms}>"


def lookup(e: Emitter, index: Val, table: Sequence[float]) -> Val:
    """table[index % 16] of 16 float32 (index: i32) or of 16 float64 (index: i64)."""
    if index.dtype == "i32":
        return in_registers(e, "permvar.sf.512", "f32", 16, constant_vector("f32", table), index)
    low, high = (constant_vector("f64", table[k:k + 8]) for k in (0, 8))
    return in_registers(e, "vpermi2var.pd.512", "f64", 8, low, index, high)


def _masked(e: Emitter, name: str, *operands: Val | Constant) -> Val:
    """An intrinsic with a mask and a rounding mode, here every lane and the usual one."""
    x = operands[0]
    assert isinstance(x, Val)
    kind, lanes = {"f32": ("ps", 16), "f64": ("pd", 8)}[x.dtype]
    return in_registers(e, f"mask.{name}.{kind}.512", x.dtype, lanes, *operands,
                        (llvm_type(x.dtype, lanes), "poison"), (f"i{lanes}", "-1"), ("i32", "4"))


def exponent(e: Emitter, x: Val) -> Val:
    """floor(log2 |x|), also of subnormals; -inf at 0, inf at inf."""
    return _masked(e, "getexp", x)


def mantissa(e: Emitter, x: Val) -> Val:
    """x 2^-k in [3/4, 3/2), also of subnormals; 1 at 0 and inf, NaN below 0."""
    return _masked(e, "getmant", x, ("i32", "15"))


def significand(e: Emitter, x: Val) -> Val:
    """|x| 2^-k in [1, 2), also of subnormals; 1 at 0 and inf."""
    return _masked(e, "getmant", x, ("i32", "4"))


def scale_by(e: Emitter, x: Val, n: Val) -> Val:
    """x 2^floor(n), rounded once if subnormal."""
    return _masked(e, "scalef", x, n)


FIRST = 0x3FA00000                # the bits of 1.25, where row 12 ends


class OddPieces:
    """An odd function of float32 in 16 polynomials, of |x| up to `top`, where it reaches 1.

    Row k serves the |x| of which 1 + |x| `scale` has k in the lowest two bits of its exponent and
    the highest two of its mantissa. It is a centre c, of which the function's value is nearly a
    float32, and the coefficients in |x| - c; where |x| is least (row 12) both c and the value are
    0, which keeps small results as exact as large ones; with `identity`, |x| is added there.
    """

    def __init__(self, top: float, scale: float, rows: Sequence[Sequence[float]],
                 identity: bool = False) -> None:
        self.top, self.scale = top, scale
        self.identity = identity
        self.columns = list(zip(*rows))


def odd_by_pieces(e: Emitter, x: Val, f: OddPieces) -> Val:
    """The function of x."""
    a = at_most(e, absolute(e, x), f.top)
    place = bits(e, e.fma(a, f.scale, 1.0))
    index = place >> 21
    centre, *coefficients = (lookup(e, index, column) for column in f.columns)
    h = a - centre
    if f.identity:
        coefficients[0] = e.select(place < FIRST, a, coefficients[0])
    out = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        out = e.fma(out, h, c)
    return copysign(e, out, x)
