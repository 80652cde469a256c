"""Rules of arithmetic that hold for every value: NaN, infinities and -0.0 included.

Sums are not reassociated and products not distributed: in floating point that changes results. The
letters in the tables name element kinds: `b` bool, `i` integers, `f` floats, `c` complex.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.ops.elementwise import KIND_LETTER
from weft.compiler.rewrite.driver import Rewriter, Rule, rule
from weft.compiler.rewrite.match import (
    CONSTANT,
    has_value,
    is_constant,
    is_op,
    same_bits,
    scalar_value,
)

__all__ = ["COMMUTATIVE", "RULES", "letter", "negated"]

RULES: list[Rule] = []


def letter(node: Node) -> str:
    """The letter of a node's element kind."""
    return KIND_LETTER[node.dtype.kind]


# --------------------------------------------------------------------------- constants go right

COMMUTATIVE = ("add", "mul", "eq", "ne", "and", "or", "xor", "gcd", "lcm")
"""Ops whose operands may change places, to the bit (of a maximum of two zeros that is not so)."""
_FLIPPED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}


@rule(RULES, "c ∘ x → x ∘ c, for commutative ∘ and constant c", *COMMUTATIVE, on=CONSTANT)
def _constant_right(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    return b.replace(n, (y, x)) if is_constant(x) and not is_constant(y) else None


@rule(RULES, "c < x → x > c", *_FLIPPED, on=CONSTANT)
def _compare_constant_right(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    if is_constant(x) and not is_constant(y):
        return b.add(_FLIPPED[n.opname], y, x)
    return None


# --------------------------------------------------------------------------- neutral, absorbing

_INF = np.inf
_NEUTRAL: tuple[tuple[str, str, Any, str], ...] = (  # x ∘ c → x
    ("add", "i", 0, "x + 0 → x"),
    ("add", "b", False, "x or false → x"),
    ("add", "f", -0.0, "x + -0.0 → x (adding 0.0 would turn -0.0 into 0.0)"),
    ("add", "c", complex(-0.0, -0.0), "x + (-0.0 - 0.0j) → x"),
    ("sub", "i", 0, "x - 0 → x"),
    ("sub", "f", 0.0, "x - 0.0 → x"),
    ("sub", "c", 0j, "x - 0.0 → x"),
    ("mul", "if", 1, "x * 1 → x"),
    ("mul", "b", True, "x and true → x"),
    ("div", "f", 1, "x / 1 → x"),
    ("floor_divide", "i", 1, "x // 1 → x"),
    ("pow", "if", 1, "x ** 1 → x"),
    ("and", "bi", -1, "x & ~0 → x"),
    ("or", "bi", 0, "x | 0 → x"),
    ("xor", "bi", 0, "x ^ 0 → x"),
    ("shift_left", "i", 0, "x << 0 → x"),
    ("shift_right", "i", 0, "x >> 0 → x"),
    ("ldexp", "f", 0, "ldexp(x, 0) → x"),
    ("maximum", "f", -_INF, "max(x, -inf) → x"),
    ("minimum", "f", _INF, "min(x, inf) → x"),
    ("maximum", "b", False, "max(x, false) → x"),
    ("minimum", "b", True, "min(x, true) → x"),
)
_ABSORBING: tuple[tuple[str, str, Any, Any, str], ...] = (  # x ∘ c → value
    ("mul", "i", 0, 0, "x * 0 → 0"),
    ("mul", "b", False, False, "x and false → false"),
    ("add", "b", True, True, "x or true → true"),
    ("and", "bi", 0, 0, "x & 0 → 0"),
    ("or", "bi", -1, -1, "x | ~0 → ~0"),
    ("pow", "if", 0, 1, "x ** 0 → 1"),
    ("remainder", "i", 1, 0, "x % 1 → 0"),
    ("fmod", "i", 1, 0, "fmod(x, 1) → 0"),
    ("remainder", "i", 0, 0, "x % 0 → 0"),
    ("fmod", "i", 0, 0, "fmod(x, 0) → 0"),
    ("floor_divide", "i", 0, 0, "x // 0 → 0"),
    ("maximum", "b", True, True, "max(x, true) → true"),
    ("minimum", "b", False, False, "min(x, false) → false"),
    ("gcd", "i", 1, 1, "gcd(x, 1) → 1"),
    ("lcm", "i", 0, 0, "lcm(x, 0) → 0"),
)


def _neutral(op: str, letters: str, c: Any, law: str) -> Rule:
    def apply(n: Node, b: Rewriter) -> Node | None:
        x, y = n.inputs
        return b.like(n, x) if letter(n) in letters and has_value(y, c) else None
    return Rule(f"{op}_neutral_{letters}", law, (op,), apply, on=CONSTANT)


def _absorbing(op: str, letters: str, c: Any, value: Any, law: str) -> Rule:
    def apply(n: Node, b: Rewriter) -> Node | None:
        if letter(n) in letters and has_value(n.inputs[1], c):
            return b.fill(n, value)
        return None
    name = f"{op}_{c}_{letters}".lower().replace("-", "minus_")
    return Rule(name, law, (op,), apply, on=CONSTANT)


RULES += [_neutral(*row) for row in _NEUTRAL]
RULES += [_absorbing(*row) for row in _ABSORBING]


# --------------------------------------------------------------------------- equal operands

_SAME_GIVES_IT = (
    ("and", "bi"), ("or", "bi"), ("maximum", "bifc"), ("minimum", "bifc"), ("fmax", "bifc"),
    ("fmin", "bifc"), ("copysign", "f"), ("nextafter", "f"), ("add", "b"), ("mul", "b"),
)
_SAME_GIVES: tuple[tuple[str, str, Any], ...] = (
    ("sub", "i", 0), ("xor", "bi", 0), ("remainder", "i", 0), ("fmod", "i", 0),
    ("eq", "bi", True), ("le", "bi", True), ("ge", "bi", True), ("ne", "bi", False),
    ("lt", "bifc", False), ("gt", "bifc", False),
)


def _same(op: str, letters: str, value: Any = None) -> Rule:
    def apply(n: Node, b: Rewriter) -> Node | None:
        x, y = n.inputs
        if x is not y or letter(x) not in letters:
            return None
        return x if value is None else b.fill(n, value)
    result = "x" if value is None else str(value).lower()
    return Rule(f"{op}_same_{letters}", f"{op}(x, x) → {result}", (op,), apply, on=("=",))


RULES += [_same(*row) for row in _SAME_GIVES_IT]
RULES += [_same(*row) for row in _SAME_GIVES]


@rule(RULES, "x != x → is_nan(x), for floats", "ne", on=("=",))
def _ne_same(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    return b.add("is_nan", x) if x is y and x.dtype.is_inexact else None


@rule(RULES, "x == x → not(is_nan(x)), for floats", "eq", on=("=",))
def _eq_same(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    return b.add("not", b.add("is_nan", x)) if x is y and x.dtype.is_inexact else None


# --------------------------------------------------------------------------- unary chains

_ROUNDINGS = ("floor", "ceil", "trunc", "rint")
_UNDO = ("neg", "not", "conj")
_OUTER: tuple[tuple[str, tuple[str, ...], str], ...] = (  # f(g(x, …)) → f(x)
    ("abs", ("neg",), "ifc"), ("abs", ("abs", "copysign"), "f"), ("abs", ("conj",), "c"),
    ("is_nan", ("neg", "abs", "copysign", *_ROUNDINGS), "f"), ("is_nan", ("neg", "conj"), "c"),
    ("is_inf", ("neg", "abs", "copysign", *_ROUNDINGS), "f"), ("is_inf", ("neg", "conj"), "c"),
    ("is_finite", ("neg", "abs", "copysign", *_ROUNDINGS), "f"),
    ("is_finite", ("neg", "conj"), "c"),
    ("cos", ("neg", "abs", "copysign"), "f"), ("cosh", ("neg", "abs", "copysign"), "f"),
    ("copysign", ("neg", "abs", "copysign"), "f"), ("real", ("conj",), "c"),
)


def _undo(op: str) -> Rule:
    def apply(n: Node, b: Rewriter) -> Node | None:
        (x,) = n.inputs
        return x.inputs[0] if is_op(x, op) else None
    return Rule(f"{op}_{op}", f"{op}({op}(x)) → x", (op,), apply, on=(op,))


def _outer(op: str, inner: tuple[str, ...], letters: str) -> Rule:
    def apply(n: Node, b: Rewriter) -> Node | None:
        x, *rest = n.inputs
        if not is_op(x, *inner) or letter(x) not in letters or letter(x.inputs[0]) not in letters \
                or x.inputs[0].shape != x.shape:
            return None
        if x.dtype.kind == "uint":
            return None  # negation wraps, and changes the magnitude
        return b.add(op, x.inputs[0], *rest)
    return Rule(f"{op}_of_{'_'.join(inner)}_{letters}", f"{op}(g(x)) → {op}(x) for g "
                f"{', '.join(inner)}", (op,), apply, on=inner)


RULES += [_undo(op) for op in _UNDO]
RULES += [_outer(*row) for row in _OUTER]


@rule(RULES, "floor(ceil(x)) → ceil(x), for any two roundings", *_ROUNDINGS,
      on=(*_ROUNDINGS, "convert"))
def _round_rounded(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    whole = is_op(x, *_ROUNDINGS) or (is_op(x, "convert") and letter(x.inputs[0]) in "bi")
    return x if whole else None


@rule(RULES, "sign(sign(x)) → sign(x)", "sign", on=("sign",))
def _sign_sign(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    return x if is_op(x, "sign") and letter(x) != "c" else None


@rule(RULES, "abs(x) → x where x cannot be negative: unsigned, bool, abs, a square", "abs")
def _abs_not_negative(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if x.dtype.kind in ("uint", "bool") or (is_op(x, "abs") and letter(x) in "if"):
        return x
    square = is_op(x, "mul") and x.inputs[0] is x.inputs[1] and letter(x) == "f"
    return x if square or (is_op(x, "exp", "exp2", "cosh") and letter(x) == "f") else None


@rule(RULES, "real(complex(a, b)) → a, imag(complex(a, b)) → b", "real", "imag", on=("complex",))
def _part_of_complex(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    part = x.inputs[n.opname == "imag"] if is_op(x, "complex") else n
    return b.like(n, b.convert(part, n.dtype)) if part is not n else None


@rule(RULES, "imag(conj(z)) → -imag(z)", "imag", on=("conj",))
def _imag_conj(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    return b.add("neg", b.add("imag", x.inputs[0])) if is_op(x, "conj") else None


@rule(RULES, "complex(real(z), imag(z)) → z", "complex", on=("real",))
def _complex_of_parts(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    same = is_op(x, "real") and is_op(y, "imag") and x.inputs[0] is y.inputs[0]
    return x.inputs[0] if same else None


@rule(RULES, "stop_gradient(x) → x", "stop_gradient")
def _stop_gradient(n: Node, b: Rewriter) -> Node | None:
    return n.inputs[0]


@rule(RULES, "conj(x) → x, for real x", "conj")
def _conj_real(n: Node, b: Rewriter) -> Node | None:
    return n.inputs[0] if letter(n) == "f" else None


@rule(RULES, "real(convert(x)) → convert(x), for real x", "real", on=("convert",))
def _real_of_converted(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if is_op(x, "convert") and not x.inputs[0].dtype.is_complex:
        return b.convert(x.inputs[0], n.dtype)
    return None


# --------------------------------------------------------------------------- signs

@rule(RULES, "x + -y → x - y", "add", on=("neg",))
def _add_neg(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    if is_op(y, "neg"):
        return b.add("sub", x, y.inputs[0])
    return b.add("sub", y, x.inputs[0]) if is_op(x, "neg") else None


@rule(RULES, "x - -y → x + y", "sub", on=("neg",))
def _sub_neg(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    return b.add("add", x, y.inputs[0]) if is_op(y, "neg") else None


@rule(RULES, "0 - x → -x, for integers; -0.0 - x → -x, for floats", "sub", on=CONSTANT)
def _zero_minus(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    zero = {"i": 0, "f": -0.0, "c": complex(-0.0, -0.0)}[letter(n)]
    return b.like(n, b.add("neg", y)) if has_value(x, zero) else None


@rule(RULES, "(-x) * (-y) → x * y, and so for /", "mul", "div", on=("neg",))
def _neg_times_neg(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    if is_op(x, "neg") and is_op(y, "neg") and (letter(n) in "if" or n.opname == "mul"):
        return b.add(n.opname, x.inputs[0], y.inputs[0])
    return None


@rule(RULES, "x * -1 → -x and x / -1 → -x", "mul", "div", "floor_divide",
      on=CONSTANT)
def _times_minus_one(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    fits = n.dtype.kind == "int" or (letter(n) == "f" and n.opname != "floor_divide")
    return b.like(n, b.add("neg", x)) if fits and has_value(y, -1) else None


def negated(b: Rewriter, c: Node) -> Node:
    """The constant -c."""
    value = scalar_value(c)
    with np.errstate(all="ignore"):
        return b.like(c, b.constant(np.asarray(np.negative(value))))


@rule(RULES, "(-x) * c → x * -c, and so for /", "mul", "div", on=("neg",))
def _neg_times_constant(n: Node, b: Rewriter) -> Node | None:
    x, c = n.inputs
    if is_op(x, "neg") and letter(n) in "if" and scalar_value(c) is not None:
        return b.add(n.opname, x.inputs[0], negated(b, c))
    return None


@rule(RULES, "-(x * c) → x * -c, -(x / c) → x / -c, -(c / x) → -c / x", "neg", on=("mul", "div"))
def _neg_of_product(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "mul", "div") or letter(n) not in "if" or not b.used_once(x):
        return None
    p, q = x.inputs
    if scalar_value(q) is not None:
        return b.add(x.opname, p, negated(b, q))
    return b.add(x.opname, negated(b, p), q) if scalar_value(p) is not None else None


@rule(RULES, "-(x - y) → y - x, for integers (for floats the sign of zero would change)", "neg",
      on=("sub",))
def _neg_of_difference(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if is_op(x, "sub") and letter(n) == "i" and b.used_once(x):
        return b.add("sub", x.inputs[1], x.inputs[0])
    return None


@rule(RULES, "|x| * |x| → x * x", "mul", on=("abs",))
def _square_of_abs(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    real = is_op(x, "abs") and letter(x.inputs[0]) in "if"
    return b.add("mul", x.inputs[0], x.inputs[0]) if x is y and real else None


@rule(RULES, "copysign(x, c) → |x| for positive c, -|x| for negative c", "copysign",
      on=CONSTANT)
def _copysign_constant(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    c = scalar_value(y)
    if c is None or c != c:
        return None
    magnitude = b.add("abs", x)
    return b.like(n, b.add("neg", magnitude) if np.signbit(c) else magnitude)


# --------------------------------------------------------------------------- cheaper forms

@rule(RULES, "x / 2**k → x * 2**-k", "div", on=CONSTANT)
def _divide_by_power_of_two(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    c = scalar_value(y)
    if c is None or letter(n) != "f" or c == 0 or not np.isfinite(c):
        return None
    mantissa, _ = np.frexp(np.float64(c))
    inverse = np.asarray(1.0 / np.float64(c)).astype(c.dtype)[()]
    normal = float(np.abs(inverse)) >= float(_tiny(n)) and np.isfinite(inverse)
    if abs(mantissa) != 0.5 or not normal:
        return None
    return b.add("mul", x, b.like(y, b.constant(np.asarray(inverse))))


def _tiny(n: Node) -> float:
    """The smallest normal number of the node's type."""
    return {"f16": 2.0 ** -14, "f64": 2.0 ** -1022}.get(n.dtype.name, 2.0 ** -126)


@rule(RULES, "x ** 2 → x * x, up to x ** 4, and x ** -1 → 1 / x (within 2 ULP of pow; NumPy's own "
      "** squares and inverts so)", "pow", on=CONSTANT, exact=False)
def _small_power(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    c = scalar_value(y)
    if c is None or letter(n) not in "if" or x.shape != n.shape:
        return None
    if c == -1 and letter(n) == "f":
        return b.add("div", b.scalar(1, n.dtype), x)
    if c not in (2, 3, 4):
        return None
    square = b.add("mul", x, x)
    return square if c == 2 else b.add("mul", square, x if c == 3 else square)


# --------------------------------------------------------------------------- limits

@rule(RULES, "max(max(x, c), d) → max(x, max(c, d)), and so for min, fmax, fmin",
      "maximum", "minimum", "fmax", "fmin", on=CONSTANT)
def _merge_limits(n: Node, b: Rewriter) -> Node | None:
    x, d = n.inputs
    if not is_op(x, n.opname) or letter(n) not in "if" or n.op is None:
        return None
    x, c = x.inputs
    v, w = scalar_value(c), scalar_value(d)
    # of two zeros, which one comes out is not defined; NaN absorbs, let it
    if v is None or w is None or v != v or w != w or (v == w and not same_bits(v, w)):
        return None
    merged = b.constant(np.asarray(n.op.reference(np, v, w)).astype(v.dtype))
    return b.like(n, b.add(n.opname, x, merged))


@rule(RULES, "max(x, smallest) → x, max(x, largest) → largest, for integers; and so for min",
      "maximum", "minimum", "fmax", "fmin", on=CONSTANT)
def _integer_limit(n: Node, b: Rewriter) -> Node | None:
    x, c = n.inputs
    v = scalar_value(c)
    if v is None or letter(n) != "i":
        return None
    info = np.iinfo(n.dtype.numpy)
    is_max = n.opname in ("maximum", "fmax")
    if v == (info.min if is_max else info.max):
        return b.like(n, x)
    return b.like(n, c) if v == (info.max if is_max else info.min) else None
