"""What the families share: facts of the two formats, bit tricks, Horner's rule, exact sums.

All of it is branch-free and works lane by lane on any number of lanes. Nothing needs SSE4 or FMA:
rounding to integers is done by adding 1.5·2^mantissa, whose sum keeps the integer in its low bits.
"""

from __future__ import annotations

from collections.abc import Sequence

from weft.compiler.lazy_dataclass import dataclass
from weft.devices.cpu.emit import Emitter, Number, Val

__all__ = ["FORMATS", "Format", "absolute", "at_least", "at_most", "bits", "copysign", "floor",
           "format_of", "horner", "pair_product", "pair_sum", "power_of_two", "real",
           "round_shifted", "same", "truncate"]


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: names of the element types, widths, exponent bias."""

    dtype: str
    int_dtype: str
    uint_dtype: str
    width: int
    mantissa: int       # stored bits of mantissa
    bias: int

    @property
    def shifter(self) -> float:
        """Added to a small x, the sum's low bits are x rounded to an integer (half to even)."""
        return 1.5 * 2.0 ** self.mantissa

    @property
    def least_normal(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)

    @property
    def magnitude_bits(self) -> int:
        """Mask of all but the sign bit."""
        return (1 << (self.width - 1)) - 1

    @property
    def sign_bit(self) -> int:
        """The sign bit, as a signed integer."""
        return -(1 << (self.width - 1))

    @property
    def infinity_bits(self) -> int:
        """The bits of +inf."""
        return (2 * self.bias + 1) << self.mantissa


FORMATS = {"f32": Format("f32", "i32", "u32", 32, 23, 127),
           "f64": Format("f64", "i64", "u64", 64, 52, 1023)}


def format_of(x: Val) -> Format:
    """The format of x."""
    return FORMATS[x.dtype]


def same(e: Emitter, *xs: Val) -> tuple[Val, ...]:
    """All with as many lanes as the widest."""
    lanes = max(x.lanes for x in xs)
    return tuple(e.splat(x, lanes) for x in xs)


def bits(e: Emitter, x: Val) -> Val:
    """The bits of a float as a signed integer."""
    return e.bitcast(x, format_of(x).int_dtype)


def real(e: Emitter, i: Val) -> Val:
    """The float of which these are the bits."""
    return e.bitcast(i, {"32": "f32", "64": "f64"}[i.dtype[1:]])


def absolute(e: Emitter, x: Val) -> Val:
    """|x|: clears the sign bit."""
    return e.intrinsic("fabs", x)


def copysign(e: Emitter, x: Val, sign: Val | Number) -> Val:
    """|x| with the sign of `sign`."""
    return e.intrinsic("copysign", x, e.like(x, sign))


def at_most(e: Emitter, x: Val, limit: float) -> Val:
    """min(x, limit), and NaN where x is NaN (one instruction: minps with the operands so)."""
    return e.select(e.like(x, limit) < x, limit, x)


def at_least(e: Emitter, x: Val, limit: float) -> Val:
    """max(x, limit), and NaN where x is NaN."""
    return e.select(e.like(x, limit) > x, limit, x)


def truncate(e: Emitter, x: Val) -> Val:
    """x rounded towards zero, for |x| < 2^mantissa at least; `llvm.trunc` where it is cheap."""
    if _has_rounding(e):
        return e.intrinsic("trunc", x)
    a, unit = absolute(e, x), 2.0 ** format_of(x).mantissa
    near = (a + unit) - unit
    return copysign(e, e.select(a < unit, near - e.select(near > a, e.like(a, 1.0), 0.0), a), x)


def floor(e: Emitter, x: Val) -> Val:
    """The greatest integer not above x."""
    if _has_rounding(e):
        return e.intrinsic("floor", x)
    t = truncate(e, x)
    return copysign(e, t - e.select(t > x, e.like(t, 1.0), 0.0), x)


def _has_rounding(e: Emitter) -> bool:
    """Whether the target rounds to integers in one instruction (x86: SSE4.1; every other: yes)."""
    return e.target.has_fma or not (e.target.triple == "" or "86" in e.target.triple)


def horner(e: Emitter, x: Val, coefficients: Sequence[float]) -> Val:
    """c0 + c1 x + c2 x^2 + …, lowest order first."""
    *rest, last = coefficients
    out: Val = e.like(x, last)
    for c in reversed(rest):
        out = e.fma(out, x, c)
    return out


def round_shifted(e: Emitter, x: Val, scale: float, offset: float = 0.0) -> tuple[Val, Val]:
    """z and n = rint(x * scale): n as a float, and n + offset as the low bits of the float z."""
    shifter = format_of(x).shifter + offset
    z = e.fma(x, scale, shifter) if scale != 1.0 else x + shifter
    return z, z - shifter


def power_of_two(e: Emitter, z: Val) -> Val:
    """2^n of the z of `round_shifted(…, offset=bias)`, where 2^n is normal (or 0 or inf)."""
    return real(e, bits(e, z) << format_of(z).mantissa)


def pair_sum(a: Val, b: Val) -> tuple[Val, Val]:
    """a + b exactly, as rounded sum and rest (Dekker's fast sum: |a| >= |b|, or a = 0)."""
    s = a + b
    return s, b - (s - a)


def pair_product(e: Emitter, a: Val, b: Val) -> tuple[Val, Val]:
    """a * b exactly, as rounded product and rest: by FMA, else by Veltkamp's splitting."""
    p = a * b
    if e.target.has_fma:
        return p, e.fma(a, b, -p)
    split = 2.0 ** ((format_of(a).mantissa + 2) // 2) + 1
    at, bt = a * split, b * split
    ah, bh = at - (at - a), bt - (bt - b)
    al, bl = a - ah, b - bh
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl
