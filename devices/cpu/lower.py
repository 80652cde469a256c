"""The CPU's lowering table: how each elementwise op is written in LLVM instructions.

Values in registers: `bool` is `i1`; 16-bit floats are held as `f32` and rounded to 16 bits after
every op, which is what NumPy does; complex numbers are pairs (`Cx`) of real values. The keys of
`TABLE` are the CPU's elementwise capabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DType
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.lower_complex import COMPLEX, Cx
from weft.devices.cpu.math import MATH

__all__ = ["CUSTOM", "TABLE", "Scalar", "apply", "convert", "load_value", "reg", "store_value"]

Scalar: TypeAlias = Val | Cx
Lowering: TypeAlias = Callable[..., Any]


def reg(dtype: DType) -> str:
    """The register type that holds a (real) element type."""
    if dtype.kind == "bool":
        return "i1"
    return "f32" if dtype.is_float and dtype.itemsize == 2 else dtype.name


# ---- 16-bit floats

def round_to(e: Emitter, x: Val, dtype: DType) -> Val:
    """An f32 rounded to the nearest value of a 16-bit float type, halves to even."""
    if dtype.name == "bf16":
        return e.bitcast(_bf16_bits(e, x) << 16, "f32")
    if e.target.has_f16:
        return e.convert(e.convert(x, "f16"), "f32")
    return _half_to_float(e, _float_to_half(e, x))


def _bf16_bits(e: Emitter, x: Val) -> Val:
    """The upper half of an f32 after rounding, in the low 16 bits of a u32."""
    u = e.bitcast(x, "u32")
    rounded = (u + ((u >> 16) & 1) + 0x7FFF) >> 16
    return e.select(e.unordered(x, x), (u >> 16) | 0x40, rounded)


def _float_to_half(e: Emitter, x: Val) -> Val:
    """Bits of the nearest float16, in a u32: by scaling, for targets without the instruction."""
    u = e.bitcast(x, "u32")
    sign = (u >> 16) & 0x8000
    mag = u & 0x7FFFFFFF
    normal = (mag + ((mag >> 13) & 1) + 0xFFF - (112 << 23)) >> 13
    # below 2**-14 adding 0.5 aligns the mantissa so that the adder rounds at the last half bit
    tiny = e.bitcast(e.bitcast(mag, "f32") + 0.5, "u32") - 0x3F000000
    out = e.select(mag < 0x38800000, tiny, normal)
    out = e.select(mag >= 0x477FF000, 0x7C00, out)
    nan = (mag >> 13 & 0x3FF) | 0x7E00
    return e.select(mag > 0x7F800000, nan, out) | sign


def _half_to_float(e: Emitter, h: Val) -> Val:
    """The f32 value of float16 bits held in a u32."""
    sign = (h & 0x8000) << 16
    mag = h & 0x7FFF
    scaled = e.bitcast(mag << 13, "f32") * 2.0 ** 112
    big = e.bitcast((mag << 13) + (112 << 23) * 2, "u32")
    bits = e.select(mag >= 0x7C00, big, e.bitcast(scaled, "u32"))
    return e.bitcast(bits | sign, "f32")


def load_value(e: Emitter, raw: Val, dtype: DType) -> Val:
    """The register form of an element (or vector) as loaded from memory."""
    if dtype.kind == "bool":
        return raw.ne(0)
    if dtype.name == "bf16":
        return e.bitcast(e.convert(e.bitcast(raw, "u16"), "u32") << 16, "f32")
    if dtype.name == "f16":
        if e.target.has_f16:
            return e.convert(raw, "f32")
        return _half_to_float(e, e.convert(e.bitcast(raw, "u16"), "u32"))
    return raw


def memory_type(dtype: DType) -> str:
    """The type loaded and stored: 16-bit floats travel as integers where they have to."""
    return {"bf16": "u16"}.get(dtype.name, dtype.name)


def store_value(e: Emitter, x: Val, dtype: DType) -> Val:
    """The memory form of a register value."""
    if dtype.kind == "bool":
        return e.convert(x, "bool")
    if dtype.name == "bf16":
        return e.convert(_bf16_bits(e, x), "u16")
    if dtype.name == "f16":
        if e.target.has_f16:
            return e.convert(x, "f16")
        return e.bitcast(e.convert(_float_to_half(e, x), "u16"), "f16")
    return x


# ---- conversions

def convert(e: Emitter, x: Scalar, src: DType, dst: DType) -> Scalar:
    """A value converted as NumPy's astype does."""
    if dst.is_complex:
        part = dst.real
        if isinstance(x, Cx):
            return Cx(*(_real_convert(e, v, src.real, part) for v in (x.re, x.im)))
        re = _real_convert(e, x, src, part)
        return Cx(re, e.like(re, 0.0))
    if isinstance(x, Cx):
        if dst.kind == "bool":
            return x.re.ne(0.0) | x.im.ne(0.0)
        return _real_convert(e, x.re, src.real, dst)
    return _real_convert(e, x, src, dst)


def _real_convert(e: Emitter, x: Val, src: DType, dst: DType) -> Val:
    if dst.kind == "bool":
        return x.ne(0)
    if src.is_float and dst.is_integer:
        return _float_to_int(e, x, dst)
    to = reg(dst)
    if dst.is_float and dst.itemsize == 2:
        if (src.is_integer and src.itemsize >= 4) or src.name == "f64":
            x = _to_odd_float(e, x)
        return round_to(e, e.convert(x, "f32"), dst) if src.itemsize > 1 or src.is_float \
            or dst.name == "bf16" else e.convert(x, "f32")
    return e.convert(x, to)


def _to_odd_float(e: Emitter, x: Val) -> Val:
    """A 64-bit value as f64 with the bits an f32 would lose folded into the last one kept, so that
    rounding to f32 and then to 16 bits rounds only once."""
    wide = e.convert(x, "f64")
    bits = e.bitcast(wide, "u64")
    sticky = e.convert(((bits & 0x1FFFFFFF).ne(0)), "u64") << 29
    folded = e.bitcast((bits & ~0x1FFFFFFF & 0xFFFFFFFFFFFFFFFF) | sticky, "f64")
    return e.select(e.unordered(wide, wide), wide, folded)


def _float_to_int(e: Emitter, x: Val, dst: DType) -> Val:
    """As the x86 conversion instructions that NumPy is compiled to: out of range (and NaN) gives
    the smallest integer of the instruction's width, which is then cut to the target's width."""
    if dst.name == "u64":
        big = x >= 9223372036854775808.0
        low = e.select(big, x - 9223372036854775808.0, x)
        i = _checked_to_i64(e, low)
        return e.bitcast(e.select(big, i ^ e.like(i, -9223372036854775808), i), "u64")
    if dst.itemsize == 8 or dst.name == "u32":
        return e.convert(_checked_to_i64(e, x), dst.name)
    inside = (x > -2147483649.0 if x.dtype == "f64" else x >= -2147483648.0) & (x < 2147483648.0)
    i = e.convert(e.select(inside, x, 0.0), "i32")
    return e.convert(e.select(inside, i, -2147483648), dst.name)


def _checked_to_i64(e: Emitter, x: Val) -> Val:
    inside = (x >= -9223372036854775808.0) & (x < 9223372036854775808.0)
    i = e.convert(e.select(inside, x, 0.0), "i64")
    return e.select(inside, i, -9223372036854775808)


# ---- real arithmetic

def _maximum(e: Emitter, a: Val, b: Val) -> Val:
    keep = a >= b
    return e.select(keep | e.unordered(a, a) if a.is_float else keep, a, b)


def _minimum(e: Emitter, a: Val, b: Val) -> Val:
    keep = a <= b
    return e.select(keep | e.unordered(a, a) if a.is_float else keep, a, b)


def _fmax(e: Emitter, a: Val, b: Val) -> Val:
    keep = a >= b
    return e.select(keep | e.unordered(b, b) if a.is_float else keep, a, b)


def _fmin(e: Emitter, a: Val, b: Val) -> Val:
    keep = a <= b
    return e.select(keep | e.unordered(b, b) if a.is_float else keep, a, b)


def _abs(e: Emitter, x: Val) -> Val:
    if x.is_float:
        return e.intrinsic("fabs", x)
    return e.select(x < 0, -x, x) if x.dtype[0] == "i" and x.dtype != "i1" else x


def _sign(e: Emitter, x: Val) -> Val:
    up, down = x > 0, x < 0
    one = e.like(x, 1)
    if x.dtype[0] == "u":
        return e.select(up, one, 0)
    out = e.select(up, one, e.select(down, -1, e.like(x, 0)))
    return e.select(e.unordered(x, x), x, out) if x.is_float else out


def _shift(left: bool) -> Lowering:
    def lower(e: Emitter, a: Val, b: Val) -> Val:
        bits = {"8": 8, "16": 16, "32": 32, "64": 64}[a.dtype[1:]]
        out_of_range = e.compare("ge", Val(e, b.ref, "u" + b.dtype[1:], b.lanes), bits)
        safe = e.select(out_of_range, 0, b)
        over = e.like(a, 0) if left or a.dtype[0] == "u" else a >> (bits - 1)
        return e.select(out_of_range, over, a << safe if left else a >> safe)
    return lower


def _intrinsic(name: str) -> Lowering:
    return lambda e, *xs: e.intrinsic(name, *xs)


def _rint(e: Emitter, x: Val) -> Val:
    return e.intrinsic("roundeven" if e.target.vector_bytes > 16 else "rint", x)


def _signbit(e: Emitter, x: Val) -> Val:
    return e.bitcast(x, "i32" if x.dtype == "f32" else "i64") < 0


def _is_inf(e: Emitter, x: Val) -> Val:
    return _abs(e, x).eq(float("inf"))


def _is_finite(e: Emitter, x: Val) -> Val:
    return _abs(e, x) < float("inf")


def _popcnt(e: Emitter, x: Val) -> Val:
    return e.convert(e.intrinsic("ctpop", _abs(e, x)), "u8")


REAL: dict[str, Lowering] = {
    "add": lambda e, a, b: a | b if a.dtype == "i1" else a + b,
    "sub": lambda e, a, b: a - b,
    "mul": lambda e, a, b: a & b if a.dtype == "i1" else a * b,
    "div": lambda e, a, b: a / b,
    "neg": lambda e, a: -a,
    "conj": lambda e, a: a,
    "optimization_barrier": lambda e, a: a, "stop_gradient": lambda e, a: a,
    "not": lambda e, a: ~a,
    "and": lambda e, a, b: a & b,
    "or": lambda e, a, b: a | b,
    "xor": lambda e, a, b: a ^ b,
    "eq": lambda e, a, b: a.eq(b),
    "ne": lambda e, a, b: a.ne(b),
    "lt": lambda e, a, b: a < b,
    "le": lambda e, a, b: a <= b,
    "gt": lambda e, a, b: a > b,
    "ge": lambda e, a, b: a >= b,
    "maximum": _maximum, "minimum": _minimum, "fmax": _fmax, "fmin": _fmin,
    "abs": _abs, "sign": _sign, "shift_left": _shift(True), "shift_right": _shift(False),
    "sqrt": _intrinsic("sqrt"), "floor": _intrinsic("floor"), "ceil": _intrinsic("ceil"),
    "trunc": _intrinsic("trunc"), "rint": _rint, "signbit": _signbit,
    "is_nan": lambda e, a: e.unordered(a, a), "is_inf": _is_inf, "is_finite": _is_finite,
    "popcnt": _popcnt, "select": lambda e, m, a, b: e.select(m, a, b),
    **MATH,
}

_OWN_SHAPE = frozenset({"convert", "bitcast", "complex"})
CUSTOM: set[str] = set()     # lines of `REAL` that were added from outside
TABLE: frozenset[str] = frozenset({*REAL, *COMPLEX, *_OWN_SHAPE} - {"integer_pow"})
_EXACT = frozenset({"select", "neg", "abs", "maximum", "minimum", "fmax", "fmin", "conj", "sign",
                    "copysign", "frexp_exponent", "optimization_barrier", "stop_gradient"})


@dataclass(frozen=True)
class Typed:
    """A register value with the element type it stands for."""

    value: Scalar
    dtype: DType


def apply(e: Emitter, op: str, dtype: DType, *args: Typed) -> Scalar:
    """Write one elementwise op; `dtype` is the result's element type."""
    if op == "convert":
        return convert(e, args[0].value, args[0].dtype, dtype)
    if op == "bitcast":
        return _bitcast(e, args[0], dtype)
    values = [a.value for a in args]
    if any(isinstance(v, Cx) for v in values) or dtype.is_complex:
        out: Scalar = COMPLEX[op](e, *values)
        return out
    if op in _BITS_16 and args[0].dtype.is_float and args[0].dtype.itemsize == 2:
        return _BITS_16[op](e, args)
    if op == "pow" and dtype.is_integer:
        return MATH["integer_pow"](e, *values)
    if dtype.kind == "bool" and op in ("abs", "conj", "optimization_barrier", "stop_gradient"):
        return values[0]
    real: Val = REAL[op](e, *values)
    if dtype.is_float and dtype.itemsize == 2 and op not in _EXACT:
        return round_to(e, real, dtype)
    return real


def _bitcast(e: Emitter, arg: Typed, dtype: DType) -> Scalar:
    assert isinstance(arg.value, Val), "complex numbers are not reinterpreted"
    raw = store_value(e, arg.value, arg.dtype)
    return load_value(e, e.bitcast(raw, memory_type(dtype)), dtype)


def _step_16(e: Emitter, args: tuple[Typed, ...]) -> Val:
    """nextafter on the 16-bit grid: the bits, as sign and magnitude, moved by one."""
    (x, y), dtype = (a.value for a in args), args[0].dtype
    assert isinstance(x, Val) and isinstance(y, Val)
    bits = e.bitcast(store_value(e, x, dtype), "i16")
    away = (_abs(e, y) > _abs(e, x)) & ((x < 0.0) ^ (y > 0.0))
    moved = e.select(away, bits + 1, bits - 1)
    least = e.select(y < 0.0, e.like(bits, -32767), 1)
    out = e.select(x.eq(0.0), least, moved)
    out = e.select(x.eq(y), e.bitcast(store_value(e, y, dtype), "i16"), out)
    value = load_value(e, e.bitcast(out, memory_type(dtype)), dtype)
    return e.select(e.unordered(x, y), x + y, value)


def _spacing_16(e: Emitter, args: tuple[Typed, ...]) -> Val:
    x, dtype = args[0].value, args[0].dtype
    assert isinstance(x, Val)
    up = e.like(x, float("inf"))
    # NumPy's float16 spacing always looks up, those of other types away from 0
    away = up if dtype.name == "f16" else e.select(_signbit(e, x), float("-inf"), up)
    step = _step_16(e, (args[0], Typed(away, dtype))) - x
    return e.select(_is_inf(e, x), float("nan"), step)


def _sign_16(e: Emitter, args: tuple[Typed, ...]) -> Val:
    """The sign; of a bfloat16 zero, the zero itself, as ml_dtypes defines it."""
    x = args[0].value
    assert isinstance(x, Val)
    out = _sign(e, x)
    return e.select(x.eq(0.0), x, out) if args[0].dtype.name == "bf16" else out


_BITS_16: dict[str, Callable[[Emitter, tuple[Typed, ...]], Val]] = {
    "nextafter": _step_16, "spacing": _spacing_16, "sign": _sign_16}
