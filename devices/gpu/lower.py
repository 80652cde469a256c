"""The GPU's lowering table: how each elementwise op is written in CUDA C++.

Values in registers: `bool` is `bool`; 16-bit floats are held as `f32` and rounded to 16 bits after
every op, which is what NumPy does; complex numbers are structures. The keys of `TABLE` are the
device's elementwise capabilities. Functions are those of CUDA's mathematical library, of which
those that are off by more than 2 ULP in float32 are computed in float64 and rounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from weft.compiler.types import DTYPES, DType

__all__ = ["TABLE", "apply", "identity", "literal", "load_value", "memory_type", "reg",
           "store_value"]

Text: TypeAlias = Callable[..., str]
_F32, _F64 = DTYPES["f32"], DTYPES["f64"]


def is_16(dtype: DType) -> bool:
    """Whether it is one of the 16-bit floats."""
    return dtype.is_float and dtype.itemsize == 2


def reg(dtype: DType) -> str:
    """The type that holds an element in a register."""
    return "f32" if is_16(dtype) else dtype.name


def memory_type(dtype: DType) -> str:
    """The type of an element in memory."""
    return "u16" if is_16(dtype) else "u8" if dtype.kind == "bool" else dtype.name


def load_value(raw: str, dtype: DType) -> str:
    """The register form of an element as loaded."""
    if dtype.kind == "bool":
        return f"{raw} != 0"
    return f"w_{dtype.name}_f32({raw})" if is_16(dtype) else raw


def store_value(value: str, dtype: DType) -> str:
    """The memory form of a register value."""
    if dtype.kind == "bool":
        return f"(u8){_atom(value)}"
    return f"w_f32_{dtype.name}({value})" if is_16(dtype) else value


def round_16(value: str, dtype: DType) -> str:
    """An f32 rounded to the nearest value of a 16-bit float type."""
    return load_value(store_value(value, dtype), dtype)


_ATOM = re.compile(r"\w+(\[[\w *+]+\])*|\d+\.\d+f?")


def _atom(text: str) -> str:
    """The text as an operand: in parentheses, but for names, elements and plain numbers."""
    return text if _ATOM.fullmatch(text) else f"({text})"


# ---- literals

def literal(value: object, dtype: DType) -> str:
    """A constant of an element type, exactly.

    >>> literal(np.float32(0.1), DTYPES["f32"]), literal(-1, DTYPES["i64"])
    ('0.1f', '(i64)-1ll')
    """
    x = np.asarray(value).astype(dtype.numpy)[()]
    if dtype.kind == "bool":
        return "true" if x else "false"
    if dtype.is_complex:
        part = dtype.real
        return f"w_cx({literal(x.real, part)}, {literal(x.imag, part)})"
    if dtype.is_float:
        return _float_literal(float(x), "f32" if is_16(dtype) else dtype.name)
    return _int_literal(int(x), dtype)


def _float_literal(x: float, name: str) -> str:
    if not np.isfinite(x):
        bits = np.array(x, name.replace("f32", "f4").replace("f64", "f8"))
        return f"w_bits<f32>(0x{bits.view('u4'):08X}u)" if name == "f32" else \
            f"w_bits<f64>(0x{bits.view('u8'):016X}ull)"
    text = str(np.float32(x)) if name == "f32" else repr(x)
    return text + "f" if name == "f32" else text


def _int_literal(x: int, dtype: DType) -> str:
    if dtype.itemsize == 8:
        if x == -(1 << 63):
            return "(i64)0x8000000000000000ull"
        return f"({dtype.name}){x}{'ll' if dtype.kind == 'int' else 'ull'}"
    if x == -(1 << 31):
        return "(i32)0x80000000u"
    return f"({dtype.name}){x}{'' if dtype.kind == 'int' else 'u'}"


def identity(op: str, dtype: DType) -> str:
    """The value that leaves a reduction as it is."""
    if op in ("max", "min"):
        low = op == "max"
        if dtype.kind == "bool":
            return "false" if low else "true"
        if dtype.is_integer:
            info = np.iinfo(dtype.numpy)
            return literal(info.min if low else info.max, dtype)
        edge = -np.inf if low else np.inf
        return literal(complex(edge, edge) if dtype.is_complex else edge, dtype)
    return literal({"sum": 0, "prod": 1, "and": 1, "or": 0}[op], dtype)


# ---- real arithmetic

def _wrap(sign: str) -> Text:
    def text(d: DType, a: str, b: str) -> str:
        if not d.is_integer:
            return f"{a} {sign} {b}"
        wide = "u64" if d.itemsize == 8 else "u32"
        return f"({d.name})(({wide}){a} {sign} ({wide}){b})"
    return text


def _by_kind(floats: str, integers: str) -> Text:
    """Texts with {0}, {1} for the operands, of floats and of integers."""
    return lambda d, *args: (floats if d.is_float else integers).format(*args)


def _plain(template: str) -> Text:
    return lambda d, *args: template.format(*args)


def _logic(sign: str, of_bools: str) -> Text:
    """A bitwise op."""
    def text(d: DType, a: str, b: str) -> str:
        return f"{a} {of_bools} {b}" if d.kind == "bool" else f"({d.name})({a} {sign} {b})"
    return text


def _math(name: str, exact: bool = True) -> Text:
    """A function of CUDA's library; in float64 for float32 too where that one is not exact to
    2 ULP."""
    def text(d: DType, *args: str) -> str:
        if d.name == "f64":
            return f"{name}({', '.join(args)})"
        if exact:
            return f"{name}f({', '.join(args)})"
        return f"(f32){name}({', '.join(f'(f64){_atom(a)}' for a in args)})"
    return text


def _in_f64(name: str) -> Text:
    """A helper that is written for float64."""
    def text(d: DType, *args: str) -> str:
        if d.name == "f64":
            return f"{name}({', '.join(args)})"
        return f"(f32){name}({', '.join(f'(f64){_atom(a)}' for a in args)})"
    return text


def _compare(sign: str) -> Text:
    return lambda d, a, b: f"{a} {sign} {b}"


def _modulo(floats: str, integers: str) -> Text:
    def text(d: DType, a: str, b: str) -> str:
        mod = f"fmod{'f' if d.name == 'f32' else ''}({a}, {b})"
        return floats.format(a, b, mod) if d.is_float else f"{integers}({a}, {b})"
    return text


def _add(d: DType, a: str, b: str) -> str:
    return f"{a} || {b}" if d.kind == "bool" else _wrap("+")(d, a, b)


def _mul(d: DType, a: str, b: str) -> str:
    return f"{a} && {b}" if d.kind == "bool" else _wrap("*")(d, a, b)


def _abs(d: DType, a: str) -> str:
    if d.is_float:
        return f"fabs{'f' if d.name == 'f32' else ''}({a})"
    return f"({d.name})w_magnitude({a})" if d.kind == "int" else a


def _sign_bit(d: DType, a: str) -> str:
    return f"w_bits<{'i32' if d.name == 'f32' else 'i64'}>({a}) < 0"


def _logistic(d: DType, a: str) -> str:
    return f"w_logistic({a}, {_math('exp')(d, '-' + _abs(d, a))})"


def _extreme(name: str, of_bools: str) -> Text:
    return lambda d, a, b: f"{a} {of_bools} {b}" if d.kind == "bool" else f"w_{name}({a}, {b})"


REAL: dict[str, Text] = {
    "add": _add, "sub": _wrap("-"), "mul": _mul, "div": _plain("{0} / {1}"),
    "neg": _by_kind("-{0}", "w_neg({0})"),
    "conj": _plain("{0}"), "optimization_barrier": _plain("{0}"), "stop_gradient": _plain("{0}"),
    "not": lambda d, a: f"!{a}" if d.kind == "bool" else f"({d.name})~{a}",
    "and": _logic("&", "&&"), "or": _logic("|", "||"), "xor": _logic("^", "!="),
    "eq": _compare("=="), "ne": _compare("!="), "lt": _compare("<"), "le": _compare("<="),
    "gt": _compare(">"), "ge": _compare(">="),
    "maximum": _extreme("maximum", "||"), "minimum": _extreme("minimum", "&&"),
    "fmax": _extreme("fmax", "||"), "fmin": _extreme("fmin", "&&"),
    "abs": _abs, "sign": _plain("w_sign({0})"), "signbit": _sign_bit,
    "shift_left": _plain("w_shift_left({0}, {1})"),
    "shift_right": _plain("w_shift_right({0}, {1})"),
    "gcd": _plain("w_gcd({0}, {1})"), "lcm": _plain("w_lcm({0}, {1})"),
    "popcnt": _plain("w_popcnt({0})"),
    "is_nan": _plain("{0} != {0}"), "is_inf": _plain("w_is_inf({0})"),
    "is_finite": _plain("{0} - {0} == 0"),
    "select": _plain("{0} ? {1} : {2}"),
    "floor_divide": _modulo("w_floor_divide({0}, {1}, {2})", "w_floor_div"),
    "remainder": _modulo("w_remainder({0}, {1}, {2})", "w_floor_mod"),
    "fmod": _modulo("{2}", "w_trunc_mod"),
    "sqrt": _math("sqrt"), "floor": _math("floor"), "ceil": _math("ceil"), "trunc": _math("trunc"),
    "rint": _math("rint"), "cbrt": _math("cbrt"), "exp": _math("exp"), "exp2": _math("exp2"),
    "expm1": _math("expm1"), "log": _math("log"), "log2": _math("log2"), "log10": _math("log10"),
    "log1p": _math("log1p"), "sin": _math("sin"), "cos": _math("cos"),
    "tan": _math("tan", exact=False), "asin": _math("asin"), "acos": _math("acos"),
    "atan": _math("atan"), "atan2": _math("atan2", exact=False),
    "sinh": _math("sinh", exact=False), "cosh": _math("cosh", exact=False),
    "tanh": _math("tanh"), "asinh": _math("asinh", exact=False),
    "acosh": _math("acosh", exact=False), "atanh": _math("atanh", exact=False),
    "erf": _math("erf"), "erfc": _math("erfc", exact=False), "erf_inv": _in_f64("w_erf_inv"),
    "logistic": _logistic,
    "logaddexp": _in_f64("w_logaddexp"), "logaddexp2": _in_f64("w_logaddexp2"),
    "hypot": _plain("w_hypot({0}, {1})"),
    "pow": lambda d, a, b: f"w_ipow({a}, {b})" if d.is_integer else
    _math("pow", exact=False)(d, a, b),
    "copysign": _math("copysign"), "nextafter": _math("nextafter"),
    "spacing": _plain("w_spacing({0})"), "ldexp": _math("ldexp"),
    "frexp_mantissa": _plain("w_frexp_mantissa({0})"),
    "frexp_exponent": _plain("w_frexp_exponent({0})"),
    "threefry": _plain("w_threefry({0}, {1})"),
}

# ---- complex arithmetic

_LIBM = ("exp", "log", "sqrt", "exp2", "log2", "log10", "expm1", "log1p", "sin", "cos", "tan",
         "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh")


def _complex_math(name: str) -> Text:
    def text(d: DType, a: str) -> str:
        return f"w_c{name}({a})" if d.name == "c128" else \
            f"w_narrow_c<c64>(w_c{name}(w_wide_c({a})))"
    return text


COMPLEX: dict[str, Text] = {
    **{name: _complex_math(name) for name in _LIBM},
    "add": _plain("w_cadd({0}, {1})"), "sub": _plain("w_csub({0}, {1})"),
    "mul": _plain("w_cmul({0}, {1})"), "div": _plain("w_cdiv({0}, {1})"),
    "neg": _plain("w_cx(-{0}.re, -{0}.im)"), "conj": _plain("w_cx({0}.re, -{0}.im)"),
    "optimization_barrier": _plain("{0}"), "stop_gradient": _plain("{0}"),
    "real": _plain("{0}.re"), "imag": _plain("{0}.im"), "complex": _plain("w_cx({0}, {1})"),
    "abs": _plain("w_hypot({0}.re, {0}.im)"), "select": _plain("{0} ? {1} : {2}"),
    "eq": _plain("{0}.re == {1}.re && {0}.im == {1}.im"),
    "ne": _plain("{0}.re != {1}.re || {0}.im != {1}.im"),
    "lt": _plain("w_lt({0}, {1})"), "le": _plain("w_cle({0}, {1})"),
    "gt": _plain("w_gt({0}, {1})"), "ge": _plain("w_cge({0}, {1})"),
    "is_nan": _plain("w_is_nan({0})"),
    "is_inf": _plain("w_is_inf({0}.re) || w_is_inf({0}.im)"),
    "is_finite": _plain("{0}.re - {0}.re == 0 && {0}.im - {0}.im == 0"),
    "maximum": _plain("w_cmaximum({0}, {1})"), "minimum": _plain("w_cminimum({0}, {1})"),
    "fmax": _plain("w_cfmax({0}, {1})"), "fmin": _plain("w_cfmin({0}, {1})"),
    "sign": _plain("w_csign({0})"), "pow": _plain("w_cpow({0}, {1})"),
}

TABLE: frozenset[str] = frozenset({*REAL, *COMPLEX, "convert", "bitcast"})
_EXACT_16 = frozenset({"select", "neg", "abs", "maximum", "minimum", "fmax", "fmin", "conj",
                       "copysign", "optimization_barrier", "stop_gradient", "nextafter",
                       "spacing"})


def apply(op: str, dtype: DType, args: list[str], of: list[DType]) -> str:
    """One elementwise op on values of the types `of`, which are names or literals."""
    if op == "convert":
        return convert(args[0], of[0], dtype)
    if op == "bitcast":
        return load_value(f"w_bits<{memory_type(dtype)}>({store_value(args[0], of[0])})", dtype)
    args = list(map(_atom, args))
    operand = of[1] if op == "select" else of[0]
    if operand.is_complex or dtype.is_complex:
        return COMPLEX[op](operand, *args)
    if op in ("nextafter", "spacing") and is_16(operand):
        return f"w_{op}_{operand.name}({', '.join(args)})"
    if op == "sign" and operand.name == "bf16":         # of a zero, the zero: ml_dtypes' meaning
        return f"{args[0]} == 0 ? {args[0]} : w_sign({args[0]})"
    text = REAL[op](_F32 if is_16(operand) else operand, *args)
    if is_16(dtype) and op not in _EXACT_16:
        return round_16(text, dtype)
    return text


def convert(x: str, src: DType, dst: DType) -> str:
    """A value converted as NumPy's astype does."""
    if dst.is_complex:
        part = dst.real.name
        if src.is_complex:
            return f"w_cx(({part}){x}.re, ({part}){x}.im)"
        return f"w_cx({convert(x, src, dst.real)}, ({part})0)"
    if src.is_complex:
        if dst.kind == "bool":
            return f"{x}.re != 0 || {x}.im != 0"
        return convert(f"{x}.re", src.real, dst)
    if dst.kind == "bool":
        return f"{x} != 0"
    if src.is_float and dst.is_integer:
        return _float_to_int(x, dst)
    if is_16(dst):
        wide = (src.is_integer and src.itemsize >= 4) or src.name == "f64"
        return round_16(f"w_odd_f32((f64){x})" if wide else f"(f32){x}", dst)
    return f"({dst.name}){x}"


def _float_to_int(x: str, dst: DType) -> str:
    if dst.name == "u64":
        return f"w_to_u64({x})"
    if dst.itemsize == 8 or dst.name == "u32":
        return f"({dst.name})w_to_i64({x})"
    return f"({dst.name})w_to_i32({x})"
