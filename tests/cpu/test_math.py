"""Vector math against correctly rounded values (mpmath), NumPy's special values, all machines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from harness import AARCH64, EVERY, RUNS, TARGETS, Compiled, assembly
from mpmath import mpf
from scipy import special

from weft.devices.cpu.math import MATH

Array = np.ndarray[Any, Any]
FLOATS: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}

# name -> exact function, where to sample densely in f32, and in f64.
UNARY: dict[str, tuple[Callable[[mpf], mpf], tuple[float, float], tuple[float, float]]] = {
    "exp": (mp.exp, (-104, 89), (-746, 710)),
    "exp2": (lambda x: mpf(2) ** x, (-150, 128), (-1075, 1024)),
    "expm1": (mp.expm1, (-20, 89), (-40, 710)),
    "logistic": (lambda x: 1 / (1 + mp.exp(-x)), (-104, 20), (-746, 40)),
    "log": (mp.log, (0.3, 3), (0.3, 3)),
    "log2": (lambda x: mp.log(x) / mp.log(2), (0.3, 3), (0.3, 3)),
    "log10": (lambda x: mp.log(x) / mp.log(10), (0.3, 3), (0.3, 3)),
    "log1p": (mp.log1p, (-1, 3), (-1, 3)),
    "sin": (mp.sin, (-100, 100), (-100, 100)),
    "cos": (mp.cos, (-100, 100), (-100, 100)),
    "tan": (mp.tan, (-100, 100), (-100, 100)),
    "asin": (mp.asin, (-1, 1), (-1, 1)),
    "acos": (mp.acos, (-1, 1), (-1, 1)),
    "atan": (mp.atan, (-4, 4), (-4, 4)),
    "sinh": (mp.sinh, (-90, 90), (-711, 711)),
    "cosh": (mp.cosh, (-90, 90), (-711, 711)),
    "tanh": (mp.tanh, (-10, 10), (-20, 20)),
    "asinh": (mp.asinh, (-4, 4), (-4, 4)),
    "acosh": (mp.acosh, (1, 4), (1, 4)),
    "atanh": (mp.atanh, (-1, 1), (-1, 1)),
    "erf": (mp.erf, (-4, 4), (-6, 6)),
    "erfc": (mp.erfc, (-4, 10.1), (-6, 27)),
    "erf_inv": (mp.erfinv, (-1, 1), (-1, 1)),
    "cbrt": (lambda x: mp.sign(x) * mp.cbrt(abs(x)), (-8, 8), (-8, 8)),
}
BINARY: dict[str, Callable[[mpf, mpf], mpf]] = {
    "pow": mp.power, "atan2": mp.atan2, "hypot": mp.hypot,
    "logaddexp": lambda x, y: mp.log(mp.exp(x) + mp.exp(y)),
    "logaddexp2": lambda x, y: mp.log(mpf(2) ** x + mpf(2) ** y) / mp.log(2)}
REFERENCE = {"logistic": special.expit, "erf": special.erf, "erfc": special.erfc,
             "erf_inv": special.erfinv,
             **{f"a{n}": getattr(np, f"arc{n}")
                for n in ("sin", "cos", "tan", "tan2", "sinh", "cosh", "tanh")},
             "pow": np.power}
EXACT = ("fmod", "remainder", "floor_divide", "nextafter", "copysign")
INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")


def numpy_function(name: str) -> Callable[..., Array]:
    """NumPy's (or SciPy's) function of this name."""
    found: Callable[..., Array] = REFERENCE.get(name) or getattr(np, name)
    return found


@functools.cache
def compiled(name: str, target: str, dtype: str, inputs: int = 1) -> Compiled:
    """The loop of a function whose arguments and result are of one type."""
    return Compiled(MATH[name], TARGETS[target], [dtype] * inputs, dtype)


def random_bits(rng: np.random.Generator, dtype: np.dtype[Any], size: int) -> Array:
    """Floats of uniformly random bits: every exponent, NaN and infinities too."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return rng.integers(0, np.iinfo(unsigned).max, size, unsigned, endpoint=True).view(dtype)


def exact(function: Callable[..., Any], arrays: tuple[Array, ...]) -> tuple[Array, Array]:
    """The function's values as float64 pairs (value and rest); NaN where it has none."""
    high, low = np.full(len(arrays[0]), np.nan), np.zeros(len(arrays[0]))
    with mp.workprec(200):
        for i, xs in enumerate(zip(*arrays)):
            if not np.isfinite(xs).all():
                continue
            try:
                y = function(*(mpf(float(x)) for x in xs))
            except (ValueError, ZeroDivisionError, OverflowError):
                continue
            if isinstance(y, mpf) and mp.isfinite(y):
                high[i] = float(y)
                low[i] = float(y - mpf(high[i])) if np.isfinite(high[i]) else 0
    return high, low


def ulps(y: Array, high: Array, low: Array) -> Array:
    """The error of y in units of the last place of the exact value high + low."""
    with np.errstate(all="ignore"):
        rounded = high.astype(y.dtype)
        below = np.nextafter(np.finfo(y.dtype).max, y.dtype.type(0))     # beyond it, inf
        ulp = np.spacing(np.minimum(np.abs(rounded), below)).astype(np.float64)
        error = np.abs((y.astype(np.float64) - high) - low) / ulp
    # An exact value beyond the largest float is its infinity (or the largest float, if near).
    over = ~np.isfinite(rounded)
    error[over] = np.where(y[over] == rounded[over], 0.0, np.inf)
    return np.where(np.isnan(high), 0.0, np.where(np.isnan(y), np.inf, error))


def agree(y: Array, want: Array) -> Array:
    """Where two arrays are the same, signs of zero included, all NaN being one."""
    return ((y == want) & (np.signbit(y) == np.signbit(want))) | (np.isnan(y) & np.isnan(want))


def unary_samples(name: str, dtype: str, size: int, seed: int = 0) -> Array:
    """Dense samples, small ones of every magnitude, random bits, and multiples of pi/2."""
    rng = np.random.default_rng(seed)
    lo, hi = UNARY[name][1 if dtype == "f32" else 2]
    ft = FLOATS[dtype]
    small = np.exp2(rng.uniform(-30 if dtype == "f32" else -60, 1, size // 4))
    parts = [rng.uniform(lo, hi, size // 2), small * rng.choice([-1, 1], small.size)]
    if name in ("sin", "cos", "tan"):
        parts.append(rng.integers(1, 2 ** 14, size // 8) * (np.pi / 2))
        parts.append(rng.integers(1, 2 ** 29, size // 8) * (np.pi / 2))
    return np.concatenate([*(p.astype(ft) for p in parts), random_bits(rng, ft, size // 4)])


@functools.cache
def unary_case(name: str, dtype: str, size: int) -> tuple[Array, Array, Array]:
    """Samples and exact values, shared by the targets."""
    x = unary_samples(name, dtype, size)
    return x, *exact(UNARY[name][0], (x,))


@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_are_within_two_ulp(name: str, dtype: str, target: str) -> None:
    x, high, low = unary_case(name, dtype, 600)
    error = ulps(compiled(name, target, dtype)(x), high, low)
    worst = int(np.argmax(error))
    assert error[worst] <= 2, f"{name}({x[worst]!r}) is {error[worst]:.2f} ULP off"


def binary_samples(name: str, dtype: str, size: int) -> tuple[Array, Array]:
    """Pairs near each other, far apart, and for pow with results over the whole range."""
    rng = np.random.default_rng(1)
    ft = FLOATS[dtype]
    x = np.concatenate([rng.uniform(-10, 10, size), np.exp2(rng.uniform(-20, 20, size))])
    y = np.concatenate([rng.uniform(-10, 10, size), np.exp2(rng.uniform(-20, 20, size))])
    if name == "pow":
        x = np.exp2(rng.uniform(-1, 1, 2 * size) * np.exp2(rng.uniform(-20, 5, 2 * size)))
        x = x.astype(ft).astype(np.float64)
        limit = 150 if dtype == "f32" else 1076
        y = rng.uniform(-limit, limit, 2 * size) / np.where(x == 1, 1, np.log2(x))
    elif name in ("atan2", "hypot"):
        x = np.concatenate([x.astype(ft), random_bits(rng, ft, size)])
        y = np.concatenate([y.astype(ft), rng.permutation(x[-size:])])
    return x.astype(ft), y.astype(ft)


@functools.cache
def binary_case(name: str, dtype: str, size: int) -> tuple[Array, Array, Array, Array]:
    """Samples and exact values, shared by the targets."""
    x, y = binary_samples(name, dtype, size)
    return x, y, *exact(BINARY[name], (x, y))


@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_are_within_two_ulp(name: str, dtype: str, target: str) -> None:
    x, y, high, low = binary_case(name, dtype, 500)
    got = compiled(name, target, dtype, 2)(x, y)
    error = ulps(got, high, low)
    if name.startswith("logaddexp") and dtype == "f64":
        # Where the sum cancels, relative to the larger argument.
        scale = np.spacing(np.maximum(np.abs(np.maximum(x, y)), np.abs(got)))
        error = np.abs((got - high) - low) / scale
    worst = int(np.argmax(error))
    assert error[worst] <= 2, f"{name}{x[worst], y[worst]} is {error[worst]:.2f} ULP off"


def special_values(dtype: str) -> Array:
    """Values at and beside the borders of the formats and of the functions' domains."""
    ft = FLOATS[dtype]
    f = np.finfo(ft)
    values = [0, 1, np.inf, np.nan, f.max, f.tiny, f.smallest_subnormal, f.tiny * (1 - f.eps), 0.5,
              2, 3, 2.5, 1 + f.eps, 1 - f.epsneg, 1e5, 1e10, 1e22, 88, 710, 1000, 6, 2.0 ** 24 - 1,
              2.0 ** 53 - 1, 2.0 ** 52 + 1, 0.1]
    return np.array([*values, *(-v for v in values)], ft)


@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*UNARY, *BINARY, *EXACT, "spacing"])
def test_special_values_are_those_of_numpy(name: str, dtype: str, target: str) -> None:
    values = special_values(dtype)
    xs: tuple[Array, ...] = (values,)
    if name in BINARY or name in EXACT:
        a, b = np.meshgrid(values, values)
        xs = (a.ravel(), b.ravel())
    with np.errstate(all="ignore"):
        # SciPy's own float32 functions are not exact enough.
        wide = xs if name in (*EXACT, "spacing", *BINARY) else (xs[0].astype(np.float64),)
        want = numpy_function(name)(*wide).astype(FLOATS[dtype])
        got = compiled(name, target, dtype, len(xs))(*xs)
        ok = agree(got, want)
        if name not in (*EXACT, "spacing"):
            f = np.finfo(want.dtype)
            near = np.abs(got - want) <= 4 * f.eps * np.abs(want) + 2 * f.smallest_subnormal
            # Tiny logaddexps are rounding errors of NumPy's own.
            near |= name.startswith("logaddexp") & (np.abs(got - want) <= f.eps)
            ok |= near & ((np.signbit(got) == np.signbit(want)) | name.startswith("logaddexp"))
            ok |= (np.abs(want) < 1e-300) & (np.abs(got) < 1e-300)  # SciPy's erfc gives up early
    bad = np.flatnonzero(~ok)
    assert not bad.size, [(*(float(x[i]) for x in xs), float(got[i]), float(want[i]))
                          for i in bad[:5]]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["tanh", "erf", "log", "pow", "cbrt"])
def test_the_number_of_lanes_does_not_matter(name: str, dtype: str) -> None:
    xs = (unary_samples("log", dtype, 400),) * (2 if name == "pow" else 1)
    want = compiled(name, RUNS[0], dtype, len(xs))(*xs)
    for lanes in (1, 4, 64):
        got = Compiled(MATH[name], TARGETS[RUNS[0]], [dtype] * len(xs), dtype, lanes)(*xs)
        assert agree(got, want).all()


@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize("dtype", FLOATS)
def test_one_is_never_exceeded(dtype: str, target: str) -> None:
    x = np.linspace(-40, 40, 20001).astype(FLOATS[dtype])
    for name in ("sin", "cos", "tanh", "erf", "logistic"):
        assert np.abs(compiled(name, target, dtype)(x)).max() <= 1
    assert compiled("cos", target, dtype)(x[:0:-1])[10000 - 1:10000 + 1].max() == 1


@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_angles_are_reduced_by_all_of_pi(name: str, target: str) -> None:
    # The float64 nearest to a multiple of pi/2, and neighbours that need no slow path.
    x = np.array([6381956970095103.0 * 2.0 ** 797, 1.0, 1e22, 2.0, np.inf, 0.5, np.nan, 1e300])
    y = compiled(name, target, "f64")(x)
    error = ulps(y, *exact(UNARY[name][0], (x,)))
    assert error.max() <= 2
    assert np.isnan(y[[4, 6]]).all()
    alone = compiled(name, target, "f64")(np.array([2.0] * 8))
    assert y[3] == alone[0]                    # a lane's value does not hang on its neighbours


@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EXACT)
def test_exact_functions_equal_those_of_numpy(name: str, dtype: str, target: str) -> None:
    rng = np.random.default_rng(2)
    ft = FLOATS[dtype]
    x = random_bits(rng, ft, 4000)
    with np.errstate(all="ignore"):
        pairs = [(x, rng.permutation(x)), (x * rng.integers(-99, 99, x.size).astype(ft), x),
                 ((x * rng.uniform(-1e4, 1e4, x.size)).astype(ft), x),
                 (rng.uniform(-1000, 1000, x.size).astype(ft),
                  rng.uniform(-3, 3, x.size).astype(ft))]
        for a, b in pairs:
            want = getattr(np, name)(a, b)
            got = compiled(name, target, dtype, 2)(a, b)
            bad = np.flatnonzero(~agree(got, want))
            assert not bad.size, (a[bad[0]], b[bad[0]], got[bad[0]], want[bad[0]])


@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize("dtype", FLOATS)
def test_parts_equal_those_of_numpy(dtype: str, target: str) -> None:
    rng = np.random.default_rng(3)
    ft = FLOATS[dtype]
    x = np.concatenate([special_values(dtype), random_bits(rng, ft, 4000),
                        (rng.uniform(-1, 1, 500) * np.finfo(ft).tiny).astype(ft)])
    n = rng.integers(-2200, 2200, x.size).astype(np.int32)
    n[::7] = rng.integers(-2 ** 31, 2 ** 31, n[::7].size)
    n[1::7] //= 20
    machine = TARGETS[target]
    with np.errstate(all="ignore"):
        mantissa, exponent = np.frexp(x)
        assert agree(compiled("frexp_mantissa", target, dtype)(x), mantissa).all()
        got = Compiled(MATH["frexp_exponent"], machine, [dtype], "i32")(x)
        assert (got == exponent).all()
        assert agree(compiled("spacing", target, dtype)(x), np.spacing(x)).all()
        for kind, m in (("i32", n), ("i64", n.astype(np.int64)), ("i8", n.astype(np.int8))):
            got = Compiled(MATH["ldexp"], machine, [dtype, kind], dtype)(x, m)
            assert agree(got, np.ldexp(x, m.astype(np.int32))).all()
        far = Compiled(MATH["ldexp"], machine, [dtype, "i64"], dtype)(x, n.astype(np.int64) << 31)
        assert agree(far, np.ldexp(x, np.sign(n) * 10 ** 6)).all()


@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_functions_equal_those_of_numpy(dtype: str, target: str) -> None:
    rng = np.random.default_rng(4)
    it = np.dtype(dtype[0].replace("i", "int").replace("u", "uint") + dtype[1:])
    info = np.iinfo(it)
    edges = np.array([0, 1, 2, 3, 7, 10, info.max, info.max - 1, info.min], it)
    edges = np.concatenate([edges, (0 - edges).astype(it)])
    a, b = (g.ravel() for g in np.meshgrid(edges, edges))
    low = -20 if dtype[0] == "i" else 0
    a = np.concatenate([a, rng.integers(info.min, info.max, 2000, it, True)])
    b = np.concatenate([b, rng.integers(low, 20, 1000, it, True),
                        rng.integers(info.min, info.max, 1000, it, True)])
    with np.errstate(all="ignore"):
        for name in ("floor_divide", "remainder", "fmod", "gcd", "lcm"):
            got, want = compiled(name, target, dtype, 2)(a, b), getattr(np, name)(a, b)
            bad = np.flatnonzero(got != want)
            assert not bad.size, (name, a[bad[0]], b[bad[0]], got[bad[0]], want[bad[0]])
        powers = np.abs(b).clip(0).astype(it)
        assert (compiled("pow", target, dtype, 2)(a, powers) == np.power(a, powers)).all()


@pytest.mark.parametrize("name", MATH)
def test_every_function_compiles_for_another_architecture(name: str) -> None:
    integer = name in ("gcd", "lcm", "integer_pow")
    special = {"threefry": ["u64", "u64"], "ldexp": ["f32", "i32"]}
    inputs = special.get(name) or (["i64"] * 2 if integer else ["f32"] * (
        2 if name in BINARY or name in EXACT else 1))
    result = "i32" if name == "frexp_exponent" else inputs[0]
    assert "run" in assembly(MATH[name], AARCH64, inputs, result)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNARY)
def test_one_float32_in_97_is_within_two_ulp(name: str) -> None:
    step, block = 97, 97 << 20
    for start in range(0, 2 ** 32, block):
        bits = np.arange(start, min(start + block, 2 ** 32), step).astype(np.uint32)
        x = bits.view(np.float32)
        with np.errstate(all="ignore"):
            wide = x.astype(np.float64)
            if name == "logistic":          # SciPy's gives up early
                small = np.exp(-np.abs(wide))
                high = np.where(wide < 0, small, 1) / (1 + small)
            else:
                high = numpy_function(name)(wide)
            for target in RUNS:
                y = compiled(name, target, "f32")(x)
                assert (np.isnan(y) == np.isnan(high)).all()
                error = ulps(y, high, np.zeros(1))
                worst = int(np.argmax(error))
                assert error[worst] <= 2, (target, x[worst], y[worst], high[worst])


@pytest.mark.slow
@pytest.mark.parametrize("name", UNARY)
def test_many_float64_are_within_two_ulp(name: str) -> None:
    x, high, low = unary_case(name, "f64", 40000)
    for target in RUNS:
        error = ulps(compiled(name, target, "f64")(x), high, low)
        worst = int(np.argmax(error))
        assert error[worst] <= 2, (target, x[worst], error[worst])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["pow", "atan2", "hypot"])
def test_many_pairs_are_within_two_ulp(name: str, dtype: str) -> None:
    x, y, high, low = binary_case(name, dtype, 20000)
    for target in RUNS:
        error = ulps(compiled(name, target, dtype, 2)(x, y), high, low)
        worst = int(np.argmax(error))
        assert error[worst] <= 2, (target, x[worst], y[worst], error[worst])
