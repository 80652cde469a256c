"""Elementwise ops: one declaration a line.

Operands have the same shape, or are 0-d and stand for every element; they have the same element
type unless the rule says otherwise. The meaning of each is NumPy's ufunc of the name given. The
letters in the third column say which element types are taken: `b` bool, `i` integers, `f` floats,
`c` complex.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError
from weft.compiler.ops.derivatives import TRANSPOSES, abs_jvp, asinh_jvp, sign_jvp
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.types import DTYPES, DType, Shape, TensorType, dtype_of, shape_text

__all__ = ["KIND_LETTER"]

KIND_LETTER = {"bool": "b", "int": "i", "uint": "i", "float": "f", "complex": "c"}
_LETTER_NAME = {"b": "bool", "i": "integers", "f": "floats", "c": "complex"}
Result = Callable[[DType], DType]


def _same(d: DType) -> DType:
    return d


def _bool(_: DType) -> DType:
    return DTYPES["bool"]


def _real(d: DType) -> DType:
    return d.real


def _int32(_: DType) -> DType:
    return DTYPES["i32"]


def _complex(d: DType) -> DType:
    return DTYPES["c64" if d.itemsize <= 4 else "c128"]


def common_shape(name: str, types: tuple[TensorType, ...]) -> Shape:
    """The shape of an elementwise result: that of all operands that are not 0-d."""
    shapes = {t.shape for t in types if t.shape != ()}
    if len(shapes) > 1:
        raise ShapeError(
            f"{name} got operands of shapes {' and '.join(shape_text(t.shape) for t in types)}",
            expected="equal shapes, or 0-d operands",
            repair="broadcast them with broadcast_in_dim first")
    return shapes.pop() if shapes else ()


def check_kind(name: str, dtype: DType, letters: str) -> None:
    """Refuse element types outside `letters`."""
    if KIND_LETTER[dtype.kind] not in letters:
        raise DTypeError(f"{name} is not defined for {dtype}",
                         expected=" or ".join(_LETTER_NAME[c] for c in letters))


def _rule(name: str, arity: int, letters: str, result: Result) -> Callable[..., TensorType]:
    def infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
        if len(types) != arity:
            raise ShapeError(f"{name} takes {arity} operand(s), got {len(types)}")
        first = types[0].dtype
        if any(t.dtype is not first for t in types):
            raise DTypeError(
                f"{name} got operands of types {' and '.join(str(t.dtype) for t in types)}",
                expected="one element type", repair="convert them first")
        check_kind(name, first, letters)
        return TensorType(common_shape(name, types), result(first))
    return infer


def _ufunc(path: str) -> Callable[..., Any]:
    def reference(xp: Any, *arrays: Any) -> Any:
        return getattr(xp, path)(*arrays)
    return reference


def _elementwise(name: str, arity: int, letters: str, doc: str, result: Result = _same,
                 ref: str | Callable[..., Any] | None = None, cost: float = 1.0,
                 **rules: Any) -> Op:
    reference = ref if callable(ref) else _ufunc(ref or name)
    return register(Op(name, "elementwise", arity, doc, _rule(name, arity, letters, result),
                       reference, cost=cost, transpose=TRANSPOSES.get(name), **rules))


def _special(name: str) -> Callable[..., Any]:
    """A function NumPy lacks: the standard library's, element by element, in double precision."""
    def reference(xp: Any, x: Any) -> Any:
        import math
        fn = np.frompyfunc(getattr(math, name), 1, 1)
        with np.errstate(all="ignore"):
            x = np.asarray(x)
            return np.asarray(fn(x.astype(np.float64)), np.float64).astype(x.dtype)
    return reference


def _erf_inv_one(x: float) -> float:
    """By Winitzki's approximation and Halley's method, in double precision."""
    import math
    size = abs(x)
    if not size < 1:
        return math.copysign(math.inf, x) if size == 1 else math.nan
    y = size * 0.886226925452758
    if size > 1e-4:
        half = math.log1p(-size * size) / 2
        base = 4.33074675019 + half                     # 2 / (pi * 0.147)
        y = math.sqrt(math.sqrt(base * base - half / 0.0735) - base)
    for _ in range(3):
        rest = math.erf(y) - size if size < 0.5 else (1 - size) - math.erfc(y)
        step = rest * 0.886226925452758 * math.exp(y * y)
        y -= step / (1 + y * step)
    return math.copysign(y, x)


def _erf_inv(xp: Any, x: Any) -> Any:
    x = np.asarray(x)
    with np.errstate(all="ignore"):
        return np.asarray(np.frompyfunc(_erf_inv_one, 1, 1)(x.astype(np.float64)),
                          np.float64).astype(x.dtype)


def _logistic(xp: Any, x: Any) -> Any:
    # exp(-|x|) cannot overflow; for negative x the quotient is scaled by it
    wide = x.astype(np.float64)
    e = xp.exp(-xp.abs(wide))
    return (xp.where(wide >= 0, 1.0, e) / (1.0 + e)).astype(x.dtype)


def _typed(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A reference that must give the type of its operand, computed through a helper."""
    return lambda xp, *a: xp.asarray(fn(xp, *a)).astype(a[0].dtype, copy=False)


# the derivative of what picks one of two operands; halves where they are equal
_EXTREME = ("select(out == x, select(x == y, 0.5, 1), 0)",
            "select(out == y, select(x == y, 0.5, 1), 0)")


# ---- unary
_partials: tuple[str, ...] | None
for _name, _letters, _ref, _cost, _doc, _partials in (
    ("neg", "ifc", "negative", 1, "-x; integers wrap", ("-1",)),
    ("floor", "f", None, 1, "largest integer not above x", ("0",)),
    ("ceil", "f", None, 1, "smallest integer not below x", ("0",)),
    ("trunc", "f", None, 1, "x without its fraction", ("0",)),
    ("rint", "f", None, 1, "nearest integer, halves to even", ("0",)),
    ("sqrt", "fc", None, 4, "square root, correctly rounded", ("0.5 / out",)),
    ("cbrt", "f", None, 20, "real cube root", ("1 / (3 * out * out)",)),
    ("exp", "fc", None, 12, "e**x", ("out",)),
    ("exp2", "fc", None, 12, "2**x", ("0.6931471805599453 * out",)),
    ("expm1", "fc", None, 18, "e**x - 1, exact near 0", ("out + 1",)),
    ("log", "fc", None, 15, "natural logarithm", ("1 / x",)),
    ("log2", "fc", None, 15, "logarithm to base 2", ("1.4426950408889634 / x",)),
    ("log10", "fc", None, 15, "logarithm to base 10", ("0.4342944819032518 / x",)),
    ("log1p", "fc", None, 20, "log(1 + x), exact near 0", ("1 / (1 + x)",)),
    ("sin", "fc", None, 20, "sine of radians", ("cos(x)",)),
    ("cos", "fc", None, 20, "cosine of radians", ("-sin(x)",)),
    ("tan", "fc", None, 25, "tangent of radians", ("1 + out * out",)),
    ("asin", "fc", "arcsin", 25, "inverse sine", ("1 / sqrt((1 - x) * (1 + x))",)),
    ("acos", "fc", "arccos", 25, "inverse cosine", ("-1 / sqrt((1 - x) * (1 + x))",)),
    ("atan", "fc", "arctan", 20, "inverse tangent", ("1 / (1 + x * x)",)),
    ("sinh", "fc", None, 25, "hyperbolic sine", ("cosh(x)",)),
    ("cosh", "fc", None, 20, "hyperbolic cosine", ("sinh(x)",)),
    ("tanh", "fc", None, 18, "hyperbolic tangent", ("1 - out * out",)),
    ("acosh", "fc", "arccosh", 30, "inverse hyperbolic cosine",
     ("1 / (sqrt(x - 1) * sqrt(x + 1))",)),
    ("atanh", "fc", "arctanh", 30, "inverse hyperbolic tangent", ("1 / ((1 - x) * (1 + x))",)),
    ("erf", "f", _special("erf"), 25, "error function, 2/sqrt(pi) * integral of exp(-t*t)",
     ("1.1283791670955126 * exp(-(x * x))",)),
    ("erfc", "f", _special("erfc"), 35, "1 - erf(x), exact for large x",
     ("-(1.1283791670955126 * exp(-(x * x)))",)),
    ("erf_inv", "f", _erf_inv, 60, "the y with erf(y) = x; infinite at -1 and 1",
     ("0.8862269254527580 * exp(out * out)",)),
    ("logistic", "f", _logistic, 15, "1 / (1 + exp(-x))", ("out * (1 - out)",)),
    ("spacing", "f", None, 4, "distance to the next larger magnitude", ("0",)),
    ("not", "bi", "invert", 1, "bitwise complement; logical for bool", None),
):
    _elementwise(_name, 1, _letters, _doc, ref=_ref, cost=_cost, partials=_partials)

_elementwise("asinh", 1, "fc", "inverse hyperbolic sine", ref="arcsinh", cost=30, jvp=asinh_jvp)
_elementwise("abs", 1, "bifc", "magnitude; real for complex", _real, "absolute", jvp=abs_jvp)
_elementwise("sign", 1, "ifc", "-1, 0 or 1; NaN stays NaN; x/|x| for complex", cost=2,
             jvp=sign_jvp)
_elementwise("conj", 1, "fc", "complex conjugate", ref="conjugate", linear="jointly")
_elementwise("real", 1, "c", "real part", _real, lambda xp, x: xp.real(x).copy(),
             linear="jointly")
_elementwise("imag", 1, "c", "imaginary part", _real, lambda xp, x: xp.imag(x).copy(),
             linear="jointly")
_elementwise("is_nan", 1, "fc", "true where NaN", _bool, "isnan")
_elementwise("is_inf", 1, "fc", "true where infinite", _bool, "isinf")
_elementwise("is_finite", 1, "fc", "true where neither NaN nor infinite", _bool, "isfinite")
_elementwise("signbit", 1, "f", "true where the sign bit is set", _bool)
_elementwise("popcnt", 1, "i", "number of set bits of |x|, as u8", lambda d: DTYPES["u8"],
             "bitwise_count")
_elementwise("frexp_mantissa", 1, "f", "m of x = m * 2**e, 0.5 <= |m| < 1",
             ref=lambda xp, x: xp.frexp(x)[0], cost=4, partials=("out / x",))
_elementwise("frexp_exponent", 1, "f", "e of x = m * 2**e, as i32", _int32,
             lambda xp, x: xp.frexp(x)[1], cost=4)

_elementwise("stop_gradient", 1, "bifc", "x, but a constant to whoever differentiates",
             ref=lambda xp, x: x.copy(), cost=0, partials=("0",))
_elementwise("optimization_barrier", 1, "bifc", "x, and to passes something else than x",
             ref=lambda xp, x: x.copy(), cost=0, partials=("1",))

# ---- binary
for _name, _letters, _ref, _cost, _doc, _partials in (
    ("add", "bifc", "add", 1, "x + y; or, for bool; integers wrap", ("1", "1")),
    ("sub", "ifc", "subtract", 1, "x - y; integers wrap", ("1", "-1")),
    ("mul", "bifc", "multiply", 1, "x * y; and, for bool; integers wrap", ("y", "x")),
    ("div", "fc", "divide", 4, "x / y", ("1 / y", "-out / y")),
    ("floor_divide", "if", None, 8, "floor(x / y); integers by 0 give 0", ("0", "0")),
    ("remainder", "if", None, 8, "x - floor(x/y)*y, the sign of y; integers by 0 give 0",
     ("1", "-floor(x / y)")),
    ("fmod", "if", None, 8, "x - trunc(x/y)*y, the sign of x; integers by 0 give 0",
     ("1", "-trunc(x / y)")),
    ("pow", "ifc", "power", 40, "x ** y; integers wrap",
     # at 0 ** 0, by x: 0, in every order; by y, where x is 0: 0
     ("y * pow(x, select(x == 0, select(y == 0, 1, y - 1), y - 1))",
      "log(select(x == 0, 1, x)) * out")),
    ("atan2", "f", "arctan2", 30, "angle of the point (y, x): atan2(y, x)",
     ("y / hypot(x, y) / hypot(x, y)", "-x / hypot(x, y) / hypot(x, y)")),    # no overflow
    ("maximum", "bifc", None, 1, "larger of the two; NaN if either is", _EXTREME),
    ("minimum", "bifc", None, 1, "smaller of the two; NaN if either is", _EXTREME),
    ("fmax", "bifc", None, 1, "larger of the two, the other if one is NaN", _EXTREME),
    ("fmin", "bifc", None, 1, "smaller of the two, the other if one is NaN", _EXTREME),
    ("hypot", "f", None, 12, "sqrt(x*x + y*y) without overflow",
     # at the origin: 0
     ("x / select(out == 0, 1, out)", "y / select(out == 0, 1, out)")),
    ("logaddexp", "f", None, 35, "log(exp(x) + exp(y))",
     # of equal infinities, half each
     ("logistic(select(is_inf(out), select(x == y, 0, x - y), x - y))",
      "logistic(select(is_inf(out), select(x == y, 0, y - x), y - x))")),
    ("logaddexp2", "f", None, 35, "log2(2**x + 2**y)",
     ("logistic(0.6931471805599453 * select(is_inf(out), select(x == y, 0, x - y), x - y))",
      "logistic(0.6931471805599453 * select(is_inf(out), select(x == y, 0, y - x), y - x))")),
    ("copysign", "f", None, 1, "|x| with the sign of y", ("sign(x) * sign(out)", "0")),
    ("nextafter", "f", None, 5, "the next number after x towards y", ("1", "0")),
    ("and", "bi", "bitwise_and", 1, "bitwise and; logical for bool", None),
    ("or", "bi", "bitwise_or", 1, "bitwise or; logical for bool", None),
    ("xor", "bi", "bitwise_xor", 1, "bitwise exclusive or; logical for bool", None),
    ("shift_left", "i", "left_shift", 1, "x * 2**y; 0 for y >= the width", None),
    ("shift_right", "i", "right_shift", 1, "floor(x / 2**y); 0 or -1 for y >= the width", None),
    ("gcd", "i", None, 60, "greatest common divisor, not negative", None),
    ("lcm", "i", None, 70, "least common multiple, not negative", None),
):
    _elementwise(_name, 2, _letters, _doc, ref=_ref, cost=_cost, partials=_partials)

for _name, _ref, _doc in (
    ("eq", "equal", "x == y"), ("ne", "not_equal", "x != y"), ("lt", "less", "x < y"),
    ("le", "less_equal", "x <= y"), ("gt", "greater", "x > y"), ("ge", "greater_equal", "x >= y"),
):
    _elementwise(_name, 2, "bifc", _doc, _bool, _ref)


def _complex_of(xp: Any, re: Any, im: Any) -> Any:
    out = xp.empty(xp.broadcast_shapes(xp.shape(re), xp.shape(im)),
                   np.complex64 if re.dtype.itemsize <= 4 else np.complex128)
    out.real, out.imag = re, im
    return out


_elementwise("complex", 2, "f", "x + iy", _complex, _complex_of, linear="jointly")


def _ldexp(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    check_kind("ldexp", types[0].dtype, "f")
    if types[1].dtype is not DTYPES["i32"]:
        raise DTypeError(f"ldexp got an exponent of type {types[1].dtype}", expected="i32")
    return TensorType(common_shape("ldexp", types), types[0].dtype)


register(Op("ldexp", "elementwise", 2, "x * 2**n, n of type i32", _ldexp, _ufunc("ldexp"), cost=4,
            linear="jointly", transpose=TRANSPOSES["ldexp"],
            samples=lambda: [((np.array([1.5, -0.0, np.inf, np.nan, 3e-310]),
                               np.array([3, 1, -2, 0, 5], np.int32)), {}),
                             ((np.array([1.5, 7.0], np.float32),
                               np.array([-149, 127], np.int32)), {})]))


def _select(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    mask, a, b = types
    if mask.dtype is not DTYPES["bool"]:
        raise DTypeError(f"select got a mask of type {mask.dtype}", expected="bool")
    if a.dtype is not b.dtype:
        raise DTypeError(f"select got branches of types {a.dtype} and {b.dtype}",
                         expected="one element type", repair="convert them first")
    return TensorType(common_shape("select", types), a.dtype)


register(Op("select", "elementwise", 3, "a where the mask is true, else b", _select,
            lambda xp, m, a, b: xp.where(m, a, b), linear="jointly",
            transpose=TRANSPOSES["select"],
            samples=lambda: [((np.array([True, False, True]), np.array([1., np.nan, -0.0]),
                               np.array([3., 4., 5.])), {}),
                             ((np.array(True), np.arange(4), np.array(9)), {})]))


def _convert(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    return TensorType(types[0].shape, dtype_of(attrs["dtype"]))


def _astype(xp: Any, x: Any, dtype: DType) -> Any:
    with np.errstate(all="ignore"):
        if x.dtype.kind == "c" and not dtype.is_complex and dtype.kind != "bool":
            x = x.real
        return x.astype(dtype.numpy)


register(Op("convert", "elementwise", 1, "the value in another element type, as astype does",
            _convert, _astype, attrs=("dtype",), linear="jointly",
            transpose=TRANSPOSES["convert"],
            samples=lambda: [((np.array([1.5, -2.5, 0.0, 100.0]),), {"dtype": DTYPES[d]})
                             for d in ("f32", "f16", "bf16", "i32", "i8", "bool", "c64")]
            + [((np.array([1, 0, 255], np.uint8),), {"dtype": DTYPES[d]})
               for d in ("f32", "i8", "i64", "bool", "c128", "bf16")]
            + [((np.array([1 + 2j, 0j]),), {"dtype": DTYPES[d]}) for d in ("f64", "bool", "c64")]))


def _bitcast(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    src, dst = types[0].dtype, dtype_of(attrs["dtype"])
    if src.itemsize != dst.itemsize or "bool" in (src.kind, dst.kind):
        raise DTypeError(f"bitcast from {src} to {dst}", expected="types of one width, not bool")
    return TensorType(types[0].shape, dst)


register(Op("bitcast", "elementwise", 1, "the same bits as another element type", _bitcast,
            lambda xp, x, dtype: xp.ascontiguousarray(x).view(dtype.numpy).reshape(x.shape),
            attrs=("dtype",),
            samples=lambda: [((np.array([1.5, -0.0, np.nan], np.float32),),
                              {"dtype": DTYPES["i32"]}),
                             ((np.array([1, -1], np.int64),), {"dtype": DTYPES["f64"]})]))
