"""Keys: what they are, how they are made and mapped over, and that no key is used twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special, stats

import weft
from weft.frontend.random.reuse import KeyReuseError

r = weft.random


def test_keys_are_plain_numbers() -> None:
    key = r.key(7)
    assert type(key) is np.uint64 and key == 7
    assert r.key(-1) == np.uint64(2 ** 64 - 1)
    assert r.key(np.int32(3)) == 3
    keys = r.split(key, (2, 3))
    assert keys.shape == (2, 3) and keys.dtype == np.uint64
    np.testing.assert_array_equal(keys.ravel(), r.split(key, 6))
    assert type(r.fold_in(key, 1)) is np.uint64


def test_keys_in_compiled_functions_are_those_outside() -> None:
    def make(seed: Any, n: Any) -> Any:
        return r.key(seed), r.split(r.key(seed), 3), r.fold_in(r.key(seed), n)
    made = weft.jit(make)
    key = r.key(5)
    for got, want in zip(made(5, 9), (key, r.split(key, 3), r.fold_in(key, 9))):
        np.testing.assert_array_equal(got, want)
    assert made(-5, 9)[0] == r.key(-5)


def test_closed_over_keys_and_numbers_of_steps() -> None:
    key = r.key(5)
    step = weft.jit(lambda n: r.normal(r.fold_in(key, n), 3))
    for n in (0, 1, -1, 2 ** 40):
        np.testing.assert_array_equal(step(n), r.normal(r.fold_in(key, n), 3))
    assert len(step.history()) == 1


def test_a_scan_over_keys() -> None:
    keys = r.split(r.key(3), 5)

    def walk(keys: Any) -> Any:
        return weft.scan(lambda x, key: (x + r.normal(key), x), 0.0, keys)
    end, path = weft.jit(walk)(keys)
    steps = [r.normal(k) for k in keys]
    np.testing.assert_allclose(path, np.cumsum([0, *steps[:-1]]), rtol=1e-14)
    np.testing.assert_allclose(end, np.sum(steps), rtol=1e-13)


DRAWS: dict[str, Any] = {
    "bits": lambda k: r.bits(k, 5), "uniform": lambda k: r.uniform(k, (2, 3)),
    "uniform32": lambda k: r.uniform(k, 5, np.float32), "normal": lambda k: r.normal(k, 5),
    "split": lambda k: r.split(k), "fold_in": lambda k: r.fold_in(k, 3),
    "integers": lambda k: r.integers(k, 0, 1000, 7), "gumbel": r.gumbel,
    "wide": lambda k: r.integers(k, 0, np.int64(2 ** 62), 7),
    "permutation": lambda k: r.permutation(k, 6), "categorical": lambda k: r.categorical(
        k, np.log(np.array([0.2, 0.3, 0.5])), shape=(4,)),
    "choice": lambda k: r.choice(k, 5, 3, p=np.full(5, 0.2)),
    "gamma": lambda k: r.gamma(k, np.array([0.5, 3.0])), "poisson": lambda k: r.poisson(
        k, np.array([2.0, 30.0])), "binomial": lambda k: r.binomial(k, 50, np.array([0.1, 0.6])),
}


@pytest.mark.parametrize("name", DRAWS)
def test_mapping_over_keys_is_a_loop_over_them(name: str) -> None:
    keys = r.split(r.key(11), 4)
    got = weft.vmap(DRAWS[name])(keys)
    np.testing.assert_allclose(got, np.stack([DRAWS[name](k) for k in keys]), rtol=1e-14)


# ---- derivatives

def test_derivatives_by_places_and_scales() -> None:
    key = r.key(1)
    z = r.normal(key, 4)
    slopes = weft.grad(lambda p: np.sum(p[0] + p[1] * r.normal(key, 4)))(np.array([2.0, 3.0]))
    np.testing.assert_allclose(slopes, [4, z.sum()])
    low = weft.grad(lambda a: r.uniform(key, (), float, a, 2.0 * a))(1.5)
    assert low == pytest.approx(1 + r.uniform(key))
    spread = weft.grad(lambda s: r.lognormal(key, s, 4).sum())(0.5)
    assert spread == pytest.approx(np.sum(z * np.exp(0.5 * z)))
    assert weft.grad(lambda s: s * r.gamma(key, 2.0))(3.0) == pytest.approx(r.gamma(key, 2.0))
    assert weft.grad(lambda b: r.pareto(key, b))(2.0) == pytest.approx(
        (r.pareto(key, 2.000001) - r.pareto(key, 1.999999)) / 2e-6, rel=1e-6)


# ---- keys used twice

def test_a_key_used_twice_is_found() -> None:
    key = r.key(99)
    with r.check_keys():
        r.uniform(key)
        with pytest.raises(KeyReuseError) as error:
            r.normal(key, 3)
    text = str(error.value).splitlines()
    assert text[0].startswith("normal got a key that was used before, by uniform at test_keys.py:")
    assert text[0].endswith(": r.uniform(key)")
    assert text[1].startswith("  at test_keys.py:") and text[1].endswith(": r.normal(key, 3)")
    assert text[2:] == [
        "  expected: every key to be used once: the same key gives the same numbers",
        "  repair:   make new keys of it first: key, other = weft.random.split(key)"]
    r.normal(key, 3)                        # no longer checked
    r.normal(key, 3)


def test_what_uses_a_key() -> None:
    with r.check_keys():
        key = r.key(1)
        for i in range(3):
            r.normal(r.fold_in(key, i))
        a, b = r.split(key)
        r.choice(a, 3)
        r.integers(b, 0, 3)
        for use in (r.split, r.uniform):
            with pytest.raises(KeyReuseError, match="by split at"):
                use(key)
        with pytest.raises(KeyReuseError, match=r"uniform got .* by integers at"):
            r.uniform(b)
    with r.check_keys():
        r.normal(a)                         # a new list of keys


def test_keys_used_twice_in_a_traced_function() -> None:
    key = r.key(2)

    def twice(keys: Any) -> Any:
        return r.uniform(keys[0]) + r.uniform(keys[1]) + r.normal(keys[0])

    def once(keys: Any) -> Any:
        return r.uniform(keys[0]) + r.normal(keys[1]) + r.normal(r.fold_in(keys[0], 1))

    def closed(x: Any) -> Any:
        return x + r.uniform(key) + r.uniform(key)
    keys = r.split(r.key(3))
    with r.check_keys():
        weft.jit(once)(keys)
        weft.vmap(r.normal)(keys)
        with pytest.raises(KeyReuseError, match=r"normal got .* used before, by uniform"):
            weft.jit(twice)(keys)
        with pytest.raises(KeyReuseError, match="uniform got a key that was used before"):
            weft.jit(closed)(1.0)
    weft.jit(twice)(keys)


def test_checking_is_switched_on_and_off() -> None:
    key = r.key(4)
    r.check_keys()
    try:
        r.uniform(key)
        with pytest.raises(ValueError):
            r.uniform(key)
        with r.check_keys(False):
            r.uniform(key)
        with pytest.raises(ValueError):
            r.uniform(key)
    finally:
        r.check_keys(False)
    r.uniform(key)


# ---- bad input

def traced(x: Any) -> Any:
    return weft.jit(lambda k: r.uniform(k))(x)


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (lambda k: r.uniform(3), TypeError, """uniform got a Python int for a key
  expected: a key, one uint64
  repair:   make one of the number: weft.random.key(seed)"""),
    (lambda k: traced(3), TypeError, """uniform got a Python int for a key
  expected: a key, one uint64
  repair:   make one of the number: weft.random.key(seed)"""),
    (lambda k: r.normal(np.zeros(2)), TypeError, """normal got an array of float64 for a key
  expected: a key, one uint64, from weft.random.key, split or fold_in"""),
    (lambda k: r.split(r.split(k)), ValueError, """split got keys of shape (2,)
  expected: one key, of shape ()
  repair:   take one of them, keys[0], or map over them with weft.vmap"""),
    (lambda k: r.key(2 ** 64), ValueError, """the seed 18446744073709551616 has more than 64 bits
  expected: an integer in [-2**63, 2**64)"""),
    (lambda k: r.fold_in(k, 0.5), TypeError, """fold_in got data of type f64[]
  expected: one integer"""),
    (lambda k: r.uniform(k, (2, -1)), ValueError,
     "negative dimensions are not allowed, got the shape (2, -1)"),
    (lambda k: r.uniform(k, 3, int), TypeError, """uniform got the dtype int64
  expected: float16, bfloat16, float32 or float64"""),
    (lambda k: r.bits(k, 3, float), TypeError, """bits got the dtype float64
  expected: an integer type"""),
    (lambda k: r.gamma(k, np.ones(3), (2,)), ValueError,
     "operands could not be broadcast together with shapes (3,) (2,)"),
    (lambda k: r.gamma(k, np.ones(3), (1,)), ValueError,
     """gamma got the shape (1,) for parameters of shape (3,)
  expected: a shape to which the parameters broadcast
  repair:   leave the shape out, or give its last axes the parameters' sizes"""),
    (lambda k: r.integers(k, 3, 3), ValueError, """the range 3 to 3 holds no number
  expected: low < high"""),
    (lambda k: r.integers(k, 0.5, 3), TypeError, """integers got a bound of type float64
  expected: integers
  repair:   convert it with astype"""),
    (lambda k: r.poisson(k, 3.0, 2, bool), TypeError, """poisson got the dtype bool
  expected: an integer or a float type"""),
    (lambda k: r.permutation(k, 2.5), TypeError, """permutation got a number of type float64
  expected: an array, or an integer: how many numbers to put in order"""),
    (lambda k: r.permutation(k, -1), ValueError, """permutation got the negative number -1
  expected: how many there are"""),
    (lambda k: r.permutation(k, np.ones(3), 1), ValueError,
     """axis 1 is out of bounds for array of dimension 1
  expected: an axis in [-1, 1)"""),
    (lambda k: r.choice(k, 3, 4, replace=False), ValueError,
     """choice of 4 elements from 3 without replacement
  expected: no more than there are
  repair:   choose with replace=True, or fewer"""),
    (lambda k: r.choice(k, 0, 1), ValueError, """choice got no elements to choose from
  expected: at least one element"""),
    (lambda k: r.choice(k, 3, p=np.ones(2)), ValueError,
     """choice got probabilities of shape (2,) for 3 elements
  expected: the shape (3,)"""),
    (lambda k: r.categorical(k, np.zeros((2, 3)), shape=(3,)), ValueError,
     """categorical got the shape (3,) for logits that leave the shape (2,)
  expected: a shape that ends with the latter"""),
    (lambda k: r.dirichlet(k, 1.0), ValueError, """dirichlet got a 0-d alpha
  expected: concentrations along the last axis"""),
    (lambda k: r.multinomial(k, 3, 0.5), ValueError, """multinomial got probabilities of shape ()
  expected: categories along the last axis"""),
    (lambda k: r.multivariate_normal(k, np.zeros(2), np.eye(3)), ValueError,
     """multivariate_normal got a mean of shape (2,) and covariances of shape (3, 3)
  expected: shapes that end in (n,) and (n, n)"""),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS, ids=[t.split("\n")[0][:40]
                                                               for _, _, t in ERRORS])
def test_errors(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as error:
        call(r.key(0))
    lines = [line for line in str(error.value).splitlines() if not line.startswith("  at ")]
    assert "\n".join(lines).startswith(text)


def test_errors_name_the_users_line() -> None:
    with pytest.raises(TypeError) as error:
        r.normal(r.key(0), 3, np.int32)
    assert "at test_keys.py:" in str(error.value) and "r.normal(r.key(0)" in str(error.value)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), 4, [2, 3], np.array([2, 3])])
def test_shapes(shape: Any) -> None:
    key = r.key(8)
    want = tuple(np.zeros(shape).shape)
    for x in (r.uniform(key, shape), r.normal(key, shape, np.float32), r.gamma(key, 2.0, shape),
              r.poisson(key, 3.0, shape), r.integers(key, 0, 9, shape), r.choice(key, 4, shape),
              r.bernoulli(key, 0.5, shape), r.categorical(key, np.zeros(3), shape=shape)):
        assert np.shape(x) == want


def test_gamma_numbers_move_with_their_parameter_along_the_quantile() -> None:
    """Derivatives, first and second, by differences of SciPy's quantiles of the probability."""
    key = r.key(3)
    for a in (0.3, 2.0, 30.0):
        z, h = r.gamma(key, a), a * 2e-3
        below = special.gammainc(a, z)
        q = [float(special.gammaincinv(a + i * h, below)) for i in (-2, -1, 0, 1, 2)]
        slope = weft.grad(lambda a: r.gamma(key, a))
        # the error of differences is about h**4 and 1e-16 / h, 1e-16 / h**2 here
        assert slope(a) == pytest.approx((q[0] - 8 * q[1] + 8 * q[3] - q[4]) / (12 * h), rel=1e-7)
        assert weft.grad(slope)(a) == pytest.approx(
            (-q[0] + 16 * q[1] - 30 * q[2] + 16 * q[3] - q[4]) / (12 * h * h), rel=1e-5)
    both = weft.grad(lambda a: r.beta(key, a, 3.0) + r.chisquare(key, a) + r.dirichlet(
        key, np.stack([a, a * a])).sum())(2.0)
    assert np.isfinite(both)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 0.5), (0.3, 2.0), (-3.0, -1.0), (4.2, 4.9),
                                           (-np.inf, -5.0), (1.0, np.inf), (50.0, np.inf)])
def test_truncated_normal_numbers_move_with_their_bounds(low: float, high: float) -> None:
    key, sign = r.key(6), -1.0 if high <= 0 else 1.0
    x = r.truncated_normal(key, low, high)
    by_low, by_high = weft.grad(lambda b: r.truncated_normal(key, b[0], b[1]))((low, high))
    if abs(low) == 50:
        assert by_low == pytest.approx(50 / x, rel=1e-3) and by_high == 0
        return
    a, b = sorted((sign * low, sign * high))        # both in the upper tail, where sf is exact
    share = (stats.norm.sf(sign * x) - stats.norm.sf(b)) / (stats.norm.sf(a) - stats.norm.sf(b))

    def moved(a: float, b: float) -> float:
        """The number above which the same share of numbers between the bounds lies."""
        beyond = stats.norm.sf(b)
        return sign * stats.norm.isf(beyond + share * (stats.norm.sf(a) - beyond))
    h = 1e-5
    want = {sign * a: sign * (moved(a + h, b) - moved(a - h, b)) / (2 * h) if np.isfinite(a) else 0,
            sign * b: sign * (moved(a, b + h) - moved(a, b - h)) / (2 * h) if np.isfinite(b) else 0}
    assert by_low == pytest.approx(want[low], rel=1e-5, abs=1e-8)
    assert by_high == pytest.approx(want[high], rel=1e-5, abs=1e-8)


def test_counts_are_constant_to_whoever_differentiates() -> None:
    key = r.key(4)
    for draw in (lambda x: r.poisson(key, 20.0 * x, 3, float), lambda x: r.binomial(
            key, 50, 0.5 * x, 3, float), lambda x: r.geometric(key, 0.5 * x, 3, float)):
        assert weft.grad(lambda x, draw=draw: x * draw(x).sum())(1.0) == draw(1.0).sum()
