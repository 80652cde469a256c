"""Complex elementwise ops for the CPU: pairs of real values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weft.compiler.lazy_dataclass import dataclass
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math import MATH

__all__ = ["COMPLEX", "Cx"]


@dataclass(frozen=True)
class Cx:
    """A complex value in registers: its real and imaginary parts."""

    re: Val
    im: Val

    @property
    def lanes(self) -> int:
        """Lanes of the parts."""
        return max(self.re.lanes, self.im.lanes)


def _mul(e: Emitter, a: Cx, b: Cx) -> Cx:
    return Cx(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)


def _size(e: Emitter, x: Val) -> Val:
    return e.intrinsic("fabs", x)


def _div(e: Emitter, a: Cx, b: Cx) -> Cx:
    """Smith's algorithm, as NumPy divides: scale by the larger part of the divisor."""
    re_larger = _size(e, b.re) >= _size(e, b.im)
    big, small = e.select(re_larger, b.re, b.im), e.select(re_larger, b.im, b.re)
    zero = big.eq(0.0) & small.eq(0.0)
    rat = small / big
    scale = e.like(big, 1.0) / (big + small * rat)
    x, y = e.select(re_larger, a.re, a.im), e.select(re_larger, a.im, a.re)
    re = (x + y * rat) * scale
    im = e.select(re_larger, y - x * rat, x * rat - y) * scale
    d = _size(e, b.re)
    return Cx(e.select(zero, a.re / d, re), e.select(zero, a.im / d, im))


def _libm(name: str) -> Callable[..., Cx]:
    """The C library's function, lane by lane: the one that NumPy calls."""
    def lower(e: Emitter, *args: Cx) -> Cx:
        dtype, lanes = args[0].re.dtype, max(x.lanes for x in args)
        packed = dtype == "f32" and e.target.triple.startswith("x86_64-unknown-linux")
        wide = [Cx(*(e.splat(v if packed else e.convert(v, "f64"), lanes) for v in (x.re, x.im)))
                for x in args]
        kind = "f32" if packed else "f64"
        re, im = e.undef(kind, lanes), e.undef(kind, lanes)
        for i in range(lanes):
            values = [Cx(e.extract(x.re, i), e.extract(x.im, i)) for x in wide]
            one = _call_packed(e, name + "f", values) if packed else _call_pair(e, name, values)
            re, im = e.insert(re, i, one.re), e.insert(im, i, one.im)
        return Cx(e.convert(re, dtype), e.convert(im, dtype))
    return lower


def _call_pair(e: Emitter, name: str, values: list[Cx]) -> Cx:
    """A call of a `double complex` function: its parts travel as separate doubles."""
    types = ", ".join(["double"] * (2 * len(values)))
    e.declares.add(f"declare {{double, double}} @{name}({types})")
    args = ", ".join(f"double {v.ref}" for x in values for v in (x.re, x.im))
    pair = e.assign(f"call {{double, double}} @{name}({args})", "f64")
    return Cx(*(e.assign(f"extractvalue {{double, double}} {pair.ref}, {k}", "f64")
                for k in (0, 1)))


def _call_packed(e: Emitter, name: str, values: list[Cx]) -> Cx:
    """A call of a `float complex` function in the x86-64 System V ABI: both parts in one register.

    Other systems take the double function, which rounds differently from NumPy's in the last bit.
    """
    types = ", ".join(["<2 x float>"] * len(values))
    e.declares.add(f"declare <2 x float> @{name}({types})")
    pairs = [e.insert(e.insert(e.undef("f32", 2), 0, x.re), 1, x.im) for x in values]
    args = ", ".join(f"{p.type} {p.ref}" for p in pairs)
    out = e.assign(f"call <2 x float> @{name}({args})", "f32", 2)
    return Cx(e.extract(out, 0), e.extract(out, 1))


def _scaled_log(name: str, factor: float) -> Callable[[Emitter, Cx], Cx]:
    def lower(e: Emitter, x: Cx) -> Cx:
        out = _libm("clog")(e, x)
        return Cx(out.re * factor, out.im * factor)
    return lower


def _exp2(e: Emitter, x: Cx) -> Cx:
    ln2, dtype = 0.6931471805599453, x.re.dtype
    out = _libm("cexp")(e, Cx(e.convert(x.re, "f64") * ln2, e.convert(x.im, "f64") * ln2))
    return Cx(e.convert(out.re, dtype), e.convert(out.im, dtype))


def _expm1(e: Emitter, x: Cx) -> Cx:
    """exp(re)cos(im) - 1 as expm1(re)cos(im) - 2 sin(im/2)**2, as NumPy computes it."""
    half = MATH["sin"](e, x.im * 0.5)
    re = MATH["expm1"](e, x.re) * MATH["cos"](e, x.im) - 2.0 * half * half
    return Cx(re, MATH["exp"](e, x.re) * MATH["sin"](e, x.im))


def _log1p(e: Emitter, x: Cx) -> Cx:
    re = MATH["log"](e, MATH["hypot"](e, x.re + 1.0, x.im))
    return Cx(re, MATH["atan2"](e, x.im, x.re + 1.0))


def _pow(e: Emitter, a: Cx, b: Cx) -> Cx:
    """npy_cpow: small whole exponents by multiplication, 0**z by cases, else cpow."""
    return _pow_cases(e, a, b, _libm("cpow")(e, a, b))


def _pow_cases(e: Emitter, a: Cx, b: Cx, general: Cx) -> Cx:
    b_zero = b.re.eq(0.0) & b.im.eq(0.0)
    a_zero = a.re.eq(0.0) & a.im.eq(0.0)
    vanishes = a_zero & (b.re > 0.0)
    re = e.select(vanishes, 0.0, e.select(a_zero, float("nan"), general.re))
    im = e.select(vanishes, 0.0, e.select(a_zero, float("nan"), general.im))
    out = Cx(re, im)
    power, k = a, 1
    for n in (1, 2, 3):
        hit = b.re.eq(float(n)) & b.im.eq(0.0)
        while k < n:
            power, k = _mul(e, power, a), k + 1
        out = Cx(e.select(hit, power.re, out.re), e.select(hit, power.im, out.im))
    return Cx(e.select(b_zero, 1.0, out.re), e.select(b_zero, 0.0, out.im))


def _order(how: str, strict: str) -> Callable[[Emitter, Cx, Cx], Val]:
    """Lexicographic comparison, as NumPy orders complex numbers."""
    def lower(e: Emitter, a: Cx, b: Cx) -> Val:
        ordered = ~(e.unordered(a.im, b.im))
        first = e.compare(strict, a.re, b.re) & ordered
        return first | (a.re.eq(b.re) & e.compare(how, a.im, b.im))
    return lower


def _nan(e: Emitter, a: Cx) -> Val:
    return e.unordered(a.re, a.im)


def _pick(e: Emitter, mask: Val, a: Cx, b: Cx) -> Cx:
    return Cx(e.select(mask, a.re, b.re), e.select(mask, a.im, b.im))


def _extreme(how: str, strict: str, keep_nan: bool) -> Callable[[Emitter, Cx, Cx], Cx]:
    def lower(e: Emitter, a: Cx, b: Cx) -> Cx:
        keep = _order(how, strict)(e, a, b) | _nan(e, a if keep_nan else b)
        return _pick(e, keep, a, b)
    return lower


def _sign(e: Emitter, x: Cx) -> Cx:
    """x / |x|, 0 for 0, as NumPy 2 defines it; infinite parts by their signs."""
    size = MATH["hypot"](e, x.re, x.im)
    zero = x.re.eq(0.0) & x.im.eq(0.0)
    inf_re, inf_im = _size(e, x.re).eq(float("inf")), _size(e, x.im).eq(float("inf"))
    any_inf, both = inf_re | inf_im, inf_re & inf_im
    re = e.select(any_inf, e.select(inf_re, _unit(e, x.re), e.like(x.re, 0.0)), x.re / size)
    im = e.select(any_inf, e.select(inf_im, _unit(e, x.im), e.like(x.im, 0.0)), x.im / size)
    nan = both | (_nan(e, x) & ~any_inf)
    re, im = e.select(nan, float("nan"), re), e.select(nan, float("nan"), im)
    return Cx(e.select(zero, 0.0, re), e.select(zero, 0.0, im))


def _unit(e: Emitter, x: Val) -> Val:
    return e.intrinsic("copysign", e.like(x, 1.0), x)


_PLAIN: dict[str, Callable[..., Any]] = {
    "add": lambda e, a, b: Cx(a.re + b.re, a.im + b.im),
    "sub": lambda e, a, b: Cx(a.re - b.re, a.im - b.im),
    "neg": lambda e, a: Cx(-a.re, -a.im),
    "optimization_barrier": lambda e, a: a, "stop_gradient": lambda e, a: a,
    "conj": lambda e, a: Cx(a.re, -a.im),
    "real": lambda e, a: a.re,
    "imag": lambda e, a: a.im,
    "complex": lambda e, re, im: Cx(re, im),
    "abs": lambda e, a: MATH["hypot"](e, a.re, a.im),
    "select": _pick,
    "eq": lambda e, a, b: a.re.eq(b.re) & a.im.eq(b.im),
    "ne": lambda e, a, b: a.re.ne(b.re) | a.im.ne(b.im),
    "is_nan": _nan,
    "is_inf": lambda e, a: _size(e, a.re).eq(float("inf")) | _size(e, a.im).eq(float("inf")),
    "is_finite": lambda e, a: (_size(e, a.re) < float("inf")) & (_size(e, a.im) < float("inf")),
}

COMPLEX: dict[str, Callable[..., Any]] = {
    **_PLAIN, "mul": _mul, "div": _div, "pow": _pow, "sign": _sign,
    "lt": _order("lt", "lt"), "le": _order("le", "lt"),
    "gt": _order("gt", "gt"), "ge": _order("ge", "gt"),
    "maximum": _extreme("ge", "gt", True), "minimum": _extreme("le", "lt", True),
    "fmax": _extreme("ge", "gt", False), "fmin": _extreme("le", "lt", False),
    "exp": _libm("cexp"), "log": _libm("clog"), "sqrt": _libm("csqrt"), "exp2": _exp2,
    "log2": _scaled_log("log2", 1.4426950408889634),
    "log10": _scaled_log("log10", 0.4342944819032518),
    "expm1": _expm1, "log1p": _log1p,
    "sin": _libm("csin"), "cos": _libm("ccos"), "tan": _libm("ctan"),
    "asin": _libm("casin"), "acos": _libm("cacos"), "atan": _libm("catan"),
    "sinh": _libm("csinh"), "cosh": _libm("ccosh"), "tanh": _libm("ctanh"),
    "asinh": _libm("casinh"), "acosh": _libm("cacosh"), "atanh": _libm("catanh"),
}
