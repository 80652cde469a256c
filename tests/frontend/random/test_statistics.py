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
]
DISCRETE: list[tuple[str, dict[str, Any], Any]] = [
    ("integers", {"low": 3, "high": 20}, stats.randint(3, 20)),
    ("integers", {"low": -3, "high": 3, "endpoint": True}, stats.randint(-3, 4)),
    ("geometric", {"p": 0.3}, stats.geom(0.3)),
    ("bernoulli", {"p": 0.3}, stats.bernoulli(0.3)),
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
@pytest.mark.parametrize("case", CONTINUOUS, ids=label)
def test_short_floats_are_rounded_draws(case: Any, dtype: Any) -> None:
    """float16 and bfloat16 numbers are those of float32, rounded (uniform ones: cut)."""
    import ml_dtypes
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    name, arguments, _ = case
    short = getattr(r, name)(key_of(name), shape=1000, dtype=kind, **arguments)
    wide = getattr(r, name)(key_of(name), shape=1000, dtype=np.float32, **arguments)
    assert short.dtype == kind
    if name != "uniform":
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(short, wide.astype(kind))
        return
    assert (short.astype(np.float64) < arguments.get("maxval", 1)).all()
    assert np.abs(short.astype(np.float64) - wide).max() < 0.07


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


