"""Distributions against SciPy's, with fixed keys.

A test fails when its p-value is below 1e-6. Keys are fixed, so it gives one answer for ever; a
right distribution has had one chance in 1e6 of a bad key at each of the hundred tests here, and a
wrong one would have to be within about 1e-2 of the right one to pass with these numbers of draws.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from scipy import stats

import weft

r = weft.random
Array = np.ndarray[Any, Any]
LEAST = 1e-6
DRAWS = 200_000

# name and arguments behind the key -> SciPy's distribution
CONTINUOUS: list[tuple[str, dict[str, Any], Any]] = [
    ("uniform", {}, stats.uniform()),
    ("uniform", {"minval": -2.0, "maxval": 3.0}, stats.uniform(-2, 5)),
    ("normal", {}, stats.norm()),
    ("lognormal", {"sigma": 0.7}, stats.lognorm(0.7)),
    ("exponential", {}, stats.expon()),
    ("gumbel", {}, stats.gumbel_r()),
    ("laplace", {}, stats.laplace()),
    ("logistic", {}, stats.logistic()),
    ("cauchy", {}, stats.cauchy()),
    ("maxwell", {}, stats.maxwell()),
    ("double_sided_maxwell", {"loc": 1.0, "scale": 2.0}, None),
    ("pareto", {"b": 2.5}, stats.pareto(2.5)),
    ("rayleigh", {"scale": 1.5}, stats.rayleigh(scale=1.5)),
    ("weibull_min", {"scale": 2.0, "concentration": 1.7}, stats.weibull_min(1.7, scale=2)),
    ("triangular", {"left": -1.0, "mode": 0.5, "right": 2.0},
     stats.triang(0.5, loc=-1, scale=3)),
    ("wald", {"mean": 2.0}, stats.invgauss(2.0)),
    ("truncated_normal", {"lower": -1.0, "upper": 2.0}, stats.truncnorm(-1, 2)),
    ("truncated_normal", {"lower": -np.inf, "upper": -0.5}, stats.truncnorm(-np.inf, -0.5)),
    ("truncated_normal", {"lower": 3.9, "upper": np.inf}, stats.truncnorm(3.9, np.inf)),
    ("truncated_normal", {"lower": 4.1, "upper": 4.3}, stats.truncnorm(4.1, 4.3)),
    ("truncated_normal", {"lower": -np.inf, "upper": -9.0}, stats.truncnorm(-np.inf, -9)),
    ("gamma", {"a": 3.5}, stats.gamma(3.5)),
    ("gamma", {"a": 0.3}, stats.gamma(0.3)),
    ("gamma", {"a": 1e5}, stats.gamma(1e5)),
    ("loggamma", {"a": 0.3}, stats.loggamma(0.3)),
    ("chisquare", {"df": 3.0}, stats.chi2(3)),
    ("t", {"df": 3.0}, stats.t(3)),
    ("f", {"dfnum": 3.0, "dfden": 7.0}, stats.f(3, 7)),
    ("beta", {"a": 0.5, "b": 2.0}, stats.beta(0.5, 2)),
    ("generalized_normal", {"p": 3.0}, stats.gennorm(3)),
]
DISCRETE: list[tuple[str, dict[str, Any], Any]] = [
    ("integers", {"low": 3, "high": 20}, stats.randint(3, 20)),
    ("integers", {"low": -3, "high": 3, "endpoint": True}, stats.randint(-3, 4)),
    ("geometric", {"p": 0.3}, stats.geom(0.3)),
    ("bernoulli", {"p": 0.3}, stats.bernoulli(0.3)),
    ("poisson", {"lam": 0.01}, stats.poisson(0.01)),
    ("poisson", {"lam": 3.0}, stats.poisson(3)),
    ("poisson", {"lam": 9.99}, stats.poisson(9.99)),
    ("poisson", {"lam": 10.0}, stats.poisson(10)),
    ("poisson", {"lam": 1000.0}, stats.poisson(1000)),
    ("binomial", {"n": 7, "p": 0.3}, stats.binom(7, 0.3)),
    ("binomial", {"n": 7, "p": 0.9}, stats.binom(7, 0.9)),
    ("binomial", {"n": 30, "p": 0.5}, stats.binom(30, 0.5)),
    ("binomial", {"n": 1000, "p": 0.011}, stats.binom(1000, 0.011)),
    ("binomial", {"n": 100000, "p": 0.7}, stats.binom(100000, 0.7)),
    ("binomial", {"n": 10**6, "p": 3e-6}, stats.binom(10**6, 3e-6)),
]


def key_of(*parts: object) -> Any:
    """A key of its own for every test."""
    return r.key(zlib.crc32(repr(parts).encode()))


def label(case: tuple[str, dict[str, Any], Any]) -> str:
    return "-".join([case[0], *map(str, case[1].values())])


def expected(case: tuple[str, dict[str, Any], Any]) -> Any:
    """The distribution function."""
    if case[0] == "double_sided_maxwell":
        return lambda x: 0.5 + 0.5 * np.sign(x - 1) * stats.maxwell(scale=2).cdf(abs(x - 1))
    return case[2].cdf


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", CONTINUOUS, ids=label)
def test_continuous(case: Any, dtype: Any) -> None:
    """Kolmogorov and Smirnov's test of all draws."""
    name, arguments, _ = case
    x = getattr(r, name)(key_of(name, dtype), shape=DRAWS, dtype=dtype, **arguments)
    assert x.dtype == dtype and np.isfinite(x).all()
    assert stats.kstest(x.astype(np.float64), expected(case)).pvalue > LEAST


def chi_square(x: Array, distribution: Any, total: int) -> float:
    """The p-value of counts of values; rare ones are taken together."""
    values, counts = np.unique(x, return_counts=True)
    wanted = distribution.pmf(values) * total
    often = wanted > 20
    seen = np.append(counts[often], total - counts[often].sum())
    due = np.append(wanted[often], total - wanted[often].sum())
    if due[-1] < 1e-6:
        assert seen[-1] == 0
        seen, due = seen[:-1], due[:-1]
    return float(stats.chisquare(seen, due * seen.sum() / due.sum()).pvalue)


@pytest.mark.parametrize("case", DISCRETE, ids=label)
def test_discrete(case: Any) -> None:
    name, arguments, distribution = case
    x = getattr(r, name)(key_of(name, arguments), shape=DRAWS, **arguments)
    assert chi_square(x, distribution, DRAWS) > LEAST


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
@pytest.mark.parametrize("case", [c for c in CONTINUOUS if c[1].get("a", 0) < 1e5], ids=label)
def test_short_floats_are_rounded_draws(case: Any, dtype: Any) -> None:
    """float16 and bfloat16 numbers are those of float32, rounded (uniform ones: cut)."""
    import ml_dtypes
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    name, arguments, _ = case
    short = getattr(r, name)(key_of(name), shape=1000, dtype=kind, **arguments)
    wide = getattr(r, name)(key_of(name), shape=1000, dtype=np.float32, **arguments)
    assert short.dtype == kind
    if "lower" in arguments:            # bounds are rounded first
        low, high = (np.asarray(arguments[b]).astype(kind) for b in ("lower", "upper"))
        assert (short >= low).all() and (short <= high).all()
    elif name == "uniform":
        assert (short.astype(np.float64) < arguments.get("maxval", 1)).all()
        assert np.abs(short.astype(np.float64) - wide).max() < 0.07
    else:
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(short, wide.astype(kind))


def test_tails_of_normal_numbers_are_as_heavy_as_they_should_be() -> None:
    """Beyond 4 deviations, of 10 million: 633 are due, and beyond 5: 5.7."""
    for dtype in (np.float32, np.float64):
        x = abs(r.normal(key_of("tails", dtype), 10_000_000, dtype))
        for bound in (3.0, 4.0, 5.0):
            due = 2 * stats.norm.sf(bound) * x.size
            assert stats.poisson(due).cdf(np.sum(x > bound)) > LEAST
            assert stats.poisson(due).sf(np.sum(x > bound) - 1) > LEAST
        assert x.max() < 7.5
        assert len(np.unique(x[x > 4])) > 0.99 * np.sum(x > 4)     # not on a coarse grid


def correlation(x: Array, y: Array) -> float:
    """The correlation in units of its deviation."""
    return float(abs(np.corrcoef(x, y)[0, 1]) * np.sqrt(x.size))


def test_neighbours_and_streams_are_independent() -> None:
    """Correlations stay below 5 deviations, for neighbours, split, folded and counted keys."""
    key = key_of("independent")
    x = r.normal(key, DRAWS)
    for lag in (1, 2, 3, 4, 1000):
        assert correlation(x[lag:], x[:-lag]) < 5
    a, b = r.split(key)
    others = [a, b, r.fold_in(key, 0), r.fold_in(key, 1), r.key(int(key) + 1), r.fold_in(a, 0)]
    drawn = [x, *(r.normal(k, DRAWS) for k in others)]
    for i, y in enumerate(drawn):
        for z in drawn[:i]:
            assert correlation(y, z) < 5
            assert correlation(y * y, z * z) < 5


def test_keys_made_of_keys_differ() -> None:
    key = key_of("many")
    keys = np.concatenate([r.split(key, 10000), [r.fold_in(key, i) for i in range(50)],
                           r.bits(key, 10000, np.uint64), r.split(r.split(key)[0], 10000)])
    assert len(np.unique(keys)) == len(keys)
    bits = np.unpackbits(r.split(key, 10000).view(np.uint8))
    assert stats.binomtest(int(bits.sum()), bits.size).pvalue > LEAST


def test_wide_ranges_of_integers() -> None:
    top = 2 ** 63
    x = r.integers(key_of("wide"), -top, top - 1, DRAWS, endpoint=True)
    assert stats.kstest(x / top, stats.uniform(-1, 2).cdf).pvalue > LEAST
    y = r.integers(key_of("three"), 0, np.uint64(3 * 2 ** 62), DRAWS, np.uint64)
    assert chi_square((y >> np.uint64(61)).astype(int), stats.randint(0, 6), DRAWS) > LEAST
    assert r.integers(key_of("one"), 5, 6, 4).tolist() == [5] * 4
    z = r.integers(key_of("many"), np.array([0, 100]), np.array([10, 110]), (1000, 2))
    assert (z.min(axis=0) == [0, 100]).all() and (z.max(axis=0) == [9, 109]).all()


def test_bits_are_fair_and_pairs_of_bytes_too() -> None:
    x = r.bits(key_of("bytes"), 1 << 20, np.uint8)
    assert chi_square(x, stats.randint(0, 256), x.size) > LEAST
    pairs = x[::2].astype(int) * 256 + x[1::2]
    assert chi_square(pairs // 4, stats.randint(0, 1 << 14), pairs.size) > LEAST


def test_rademacher() -> None:
    x = r.rademacher(key_of("rademacher"), DRAWS, np.float32)
    assert x.dtype == np.float32 and set(np.unique(x)) == {-1.0, 1.0}
    assert stats.binomtest(int((x > 0).sum()), DRAWS).pvalue > LEAST


def counts_of(x: Any, n: int) -> Array:
    return np.bincount(np.asarray(x).ravel(), minlength=n)


def test_categories() -> None:
    p = np.array([0.1, 0.0, 0.4, 0.5])
    with np.errstate(divide="ignore"):
        logits = np.log(p)
    x = r.categorical(key_of("categorical"), logits, shape=DRAWS)
    seen = counts_of(x, 4)
    assert seen[1] == 0
    assert stats.chisquare(seen[[0, 2, 3]], p[[0, 2, 3]] * DRAWS).pvalue > LEAST
    both = r.categorical(key_of("both"), np.stack([logits, logits[::-1]], 1), axis=0,
                         shape=(20000, 2))
    assert stats.chisquare(counts_of(both[:, 1], 4)[[0, 1, 3]],
                           p[::-1][[0, 1, 3]] * 20000).pvalue > LEAST


def test_permutations_are_all_as_likely() -> None:
    keys = r.split(key_of("permutation"), 6000)
    seen: dict[bytes, int] = {}
    for key in keys:
        x = r.permutation(key, 3)
        seen[x.tobytes()] = seen.get(x.tobytes(), 0) + 1
    assert len(seen) == 6
    assert stats.chisquare(list(seen.values())).pvalue > LEAST


def test_permutation_moves_lines_or_elements() -> None:
    x = np.arange(12).reshape(3, 4)
    rows = r.permutation(key_of("rows"), x)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, x))
    columns = r.permutation(key_of("columns"), x, axis=1)
    assert sorted(map(tuple, columns.T)) == sorted(map(tuple, x.T))
    alone = r.permutation(key_of("alone"), np.arange(3000).reshape(1000, 3), 1, True)
    assert (np.sort(alone, 1) == np.arange(3000).reshape(1000, 3)).all()
    assert len(np.unique(alone % 3, axis=0)) == 6


@pytest.mark.parametrize("p", [None, [0.1, 0.2, 0.3, 0.4]])
def test_choices(p: Any) -> None:
    due = np.array(p or [0.25] * 4)
    x = r.choice(key_of("choice", p), np.array([10, 20, 30, 40]), (DRAWS // 2, 2), p=p)
    assert stats.chisquare(counts_of(x // 10 - 1, 4), due * DRAWS).pvalue > LEAST
    firsts = [r.choice(k, 4, 2, replace=False, p=p) for k in r.split(key_of("no", p), 4000)]
    assert all(a != b for a, b in firsts)
    assert stats.chisquare(counts_of([a for a, _ in firsts], 4), due * 4000).pvalue > LEAST
    # the second: sum over the first one's share of what is left
    second = sum(due[i] * np.where(np.arange(4) == i, 0, due / (1 - due[i])) for i in range(4))
    assert stats.chisquare(counts_of([b for _, b in firsts], 4), second * 4000).pvalue > LEAST


def test_large_poisson_numbers() -> None:
    """Far beyond what can be counted one by one: as good as normal."""
    lam = 1e9
    x = r.poisson(key_of("large"), lam, DRAWS)
    assert stats.kstest((x - lam + 0.5 * r.uniform(key_of("jitter"), DRAWS)) / np.sqrt(lam),
                        stats.norm.cdf).pvalue > LEAST


def test_parameters_of_counts_may_differ_from_element_to_element() -> None:
    lam = np.array([0.0, 0.5, 5.0, 50.0, 500.0, -1.0, np.nan])
    x = r.poisson(key_of("mixed"), lam, (20000, 7))
    assert (x[:, 0] == 0).all() and (x[:, 5:] == -1).all()
    z = (x[:, 1:5].mean(axis=0) - lam[1:5]) / np.sqrt(lam[1:5] / 20000)
    assert (abs(z) < 5).all()
    n, p = np.array([[10], [1000]]), np.array([0.0, 0.3, 0.7, 1.0, -0.1, 1.1])
    y = r.binomial(key_of("both"), n, p, (20000, 2, 6), np.float64)
    assert (y[:, :, 0] == 0).all() and (y[:, :, 3] == n[:, 0]).all() and np.isnan(y[:, :, 4:]).all()
    q = p[1:3]
    z = (y[:, :, 1:3].mean(axis=0) - n * q) / np.sqrt(n * q * (1 - q) / 20000)
    assert (abs(z) < 5).all()


def test_multinomial() -> None:
    p = np.array([0.1, 0.0, 0.6, 0.3])
    x = r.multinomial(key_of("multinomial"), 12, p, shape=(DRAWS // 4, 4))
    assert x.dtype == np.int64 and (x.sum(axis=-1) == 12).all() and (x[:, 1] == 0).all()
    for i in (0, 2, 3):
        assert chi_square(x[:, i], stats.binom(12, p[i]), len(x)) > LEAST
    covariance = np.cov(x[:, 0], x[:, 2])[0, 1]
    assert abs(covariance + 12 * 0.1 * 0.6) < 0.05
    both = r.multinomial(key_of("many"), [3, 5], [[0.5, 0.5], [0.2, 0.8]])
    assert both.sum(axis=-1).tolist() == [3, 5]


def test_dirichlet() -> None:
    alpha = np.array([0.5, 1.0, 3.5])
    x = r.dirichlet(key_of("dirichlet"), alpha, (DRAWS // 4,))
    np.testing.assert_allclose(x.sum(axis=-1), 1, rtol=1e-14)
    for i, a in enumerate(alpha):
        assert stats.kstest(x[:, i], stats.beta(a, 5 - a).cdf).pvalue > LEAST


def test_multivariate_normal() -> None:
    mean, cov = np.array([1.0, -2.0]), np.array([[2.0, 0.6], [0.6, 0.5]])
    x = r.multivariate_normal(key_of("vectors"), mean, cov, (DRAWS // 4,))
    white = np.linalg.solve(np.linalg.cholesky(cov), (x - mean).T)
    assert correlation(*white) < 5
    for row in white:
        assert stats.kstest(row, stats.norm.cdf).pvalue > LEAST


def test_points_in_balls() -> None:
    """The d-th power of the norm is uniform, and a coordinate has the right spread."""
    for p in (1.0, 2.0, 3.5):
        x = r.ball(key_of("ball", p), 3, p, (50000,))
        norm = (abs(x) ** p).sum(axis=-1) ** (1 / p)
        assert stats.kstest(norm ** 3, stats.uniform.cdf).pvalue > LEAST
        assert abs(x.mean()) < 0.01
    assert abs(r.ball(key_of("ball"), 3, shape=(50000,)).var() - 0.2) < 0.005


def test_rotations() -> None:
    q = r.orthogonal(key_of("rotation"), 3, (2000,))
    np.testing.assert_allclose(q @ np.swapaxes(q, 1, 2), np.broadcast_to(np.eye(3), q.shape),
                               atol=1e-14)
    # in three dimensions, every coordinate of a random direction is uniform in [-1, 1]
    for i in range(3):
        for j in range(3):
            assert stats.kstest(q[:, i, j], stats.uniform(-1, 2).cdf).pvalue > LEAST
