"""Random indices, broadcasts, reductions and contractions, against NumPy itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from same_as_numpy import against_numpy, run_traced

SHAPE = (3, 4, 2, 5)


def _ints(size: int) -> Any:
    return st.integers(-size - 1, size)            # some of them out of bounds


@st.composite
def index_parts(draw: Any, size: int, shape: tuple[int, ...]) -> Any:
    kind = draw(st.sampled_from(["int", "slice", "slice", "array", "list", "mask", "full"]))
    inside = st.integers(-size, size - 1)
    if kind == "int":
        return draw(_ints(size))
    if kind == "slice":
        ends = st.none() | _ints(size)
        return slice(draw(ends), draw(ends), draw(st.sampled_from([None, 1, 2, -1, -3])))
    if kind == "array":
        count = int(np.prod(shape))
        flat = draw(st.lists(inside, min_size=count, max_size=count))
        return np.array(flat, np.int64).reshape(shape)
    if kind == "list":
        return draw(st.lists(inside, min_size=shape[-1], max_size=shape[-1]))
    if kind == "mask":
        picked = draw(st.permutations(range(size)))[:shape[-1]]
        return np.isin(np.arange(size), picked)
    return slice(None)


@st.composite
def indices(draw: Any) -> Any:
    shape = draw(st.sampled_from([(2,), (1, 2), (2, 2)]))
    count = draw(st.integers(0, 4))
    dots = draw(st.none() | st.integers(0, count))
    axes = list(range(count)) if dots is None else [
        *range(dots), *range(4 - count + dots, 4)]
    parts = [draw(index_parts(SHAPE[a], shape)) for a in axes]
    if dots is not None:
        parts.insert(dots, Ellipsis)
    for _ in range(draw(st.integers(0, 1))):
        parts.insert(draw(st.integers(0, len(parts))), None)
    return tuple(parts)


@settings(max_examples=300)
@given(indices(), st.booleans())
def test_indexing(index: Any, traced: bool) -> None:
    x = np.arange(120.0).reshape(SHAPE)
    arrays = [p for p in index if isinstance(p, np.ndarray) and p.dtype != bool]
    if not traced:
        against_numpy(run_traced, lambda x: x[index], x)
        return

    def pick(x: Any, *given: Any) -> Any:
        left = iter(given)
        return x[tuple(next(left) if isinstance(p, np.ndarray) and p.dtype != bool else p
                       for p in index)]
    against_numpy(run_traced, pick, x, *arrays)


sizes = st.sampled_from([1, 2, 3])


@settings(max_examples=100)
@given(st.lists(sizes, max_size=3), st.lists(sizes, max_size=3))
def test_broadcasting(a: list[int], b: list[int]) -> None:
    x, y = np.arange(1.0, np.prod(a) + 1).reshape(a), np.arange(np.prod(b)).reshape(b)
    against_numpy(run_traced, lambda x, y: (x * y + 1, np.where(x > y, x, y), y - x), x, y)


@settings(max_examples=100)
@given(st.sampled_from(["sum", "max", "mean", "prod", "any", "argmax", "var"]),
       st.none() | st.integers(-3, 3) | st.lists(st.integers(-3, 2), max_size=3).map(tuple),
       st.booleans(), st.sampled_from(["f8", "f4", "i4", "?", "c16"]))
def test_reductions(name: str, axis: Any, keepdims: bool, dtype: str) -> None:
    x = (np.arange(24).reshape(2, 3, 4) % 7 - 2).astype(dtype)
    against_numpy(run_traced, lambda x: getattr(np, name)(x, axis=axis, keepdims=keepdims), x,
                  signs=False)


@settings(max_examples=150)
@given(st.lists(st.text("ijkl", max_size=3), min_size=1, max_size=3), st.data())
def test_einsum(terms: list[str], data: Any) -> None:
    labels = sorted(set("".join(terms)))
    out = data.draw(st.none() | st.lists(st.sampled_from(labels or ["i"]), unique=True).map(
        "".join))
    size = dict(zip("ijkl", (2, 3, 4, 2)))
    rng = np.random.default_rng(len(terms))
    arrays = [rng.integers(-9, 9, [size[c] for c in t]) for t in terms]
    text = ",".join(terms) + ("" if out is None else f"->{out}")
    against_numpy(run_traced, lambda *a: np.einsum(text, *a), *arrays, signs=False)
