"""Derivatives and batches beside JAX: ``python -m tests.conformance.against_jax [name …]``.

For each function of `jax_cases`, in float32 and float64: its value, gradient, tangent, Hessian, the
function and its gradient under vmap. They have to be equal to 1e-6 and 1e-12, relative to the
largest entry. Where float32 numbers differ by more, both are held against JAX's own float64: a row
counts as passed if weft is the nearer one, and is listed as such. JAX has to be installed.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import weft
from tests.conformance.jax_cases import CASES, Case

__all__ = ["MODES", "check"]

TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
Array = Any


def arguments(case: Case, batch: tuple[int, ...] = (), seed: int = 0) -> list[Array]:
    """The case's arguments in float64."""
    rng = np.random.default_rng(seed)
    out = []
    for shape in case.shapes:
        x = rng.uniform(-1, 1, (*batch, *shape))
        out.append({"any": 2 * x, "positive": 1.25 + 0.75 * x, "unit": 0.9 * x}[case.values])
    return out


def loss(case: Case, xp: Any) -> Callable[..., Any]:
    """A number: the function's results, weighted."""
    def weighted(*args: Any) -> Any:
        value = case.fn(xp, *args)
        weights = np.cos(np.arange(float(np.prod(value.shape)))).reshape(value.shape)
        return (value * xp.asarray(weights.astype(value.dtype))).sum()
    return weighted


def _every(case: Case) -> tuple[int, ...]:
    return tuple(range(len(case.shapes)))


MODES: dict[str, Callable[[Any, Any, Case, list[Array], list[Array], list[Array]], Any]] = {
    "value": lambda m, xp, c, args, dots, many: m.jit(lambda *a: c.fn(xp, *a))(*args),
    "grad": lambda m, xp, c, args, dots, many: m.grad(loss(c, xp), argnums=_every(c))(*args),
    "jvp": lambda m, xp, c, args, dots, many: m.jvp(
        lambda *a: c.fn(xp, *a), tuple(args), tuple(dots)),
    "hessian": lambda m, xp, c, args, dots, many: m.hessian(loss(c, xp))(*args),
    "vmap": lambda m, xp, c, args, dots, many: m.vmap(lambda *a: c.fn(xp, *a))(*many),
    "vmap of grad": lambda m, xp, c, args, dots, many: m.vmap(
        m.grad(loss(c, xp), argnums=_every(c)))(*many),
}


def inputs(case: Case, dtype: str) -> tuple[list[Array], list[Array], list[Array]]:
    """Arguments, tangents, and batches of arguments: the same numbers in both element types."""
    args, dots, many = (
        [a.astype(np.float32).astype(dtype) for a in values]
        for values in (arguments(case), arguments(case, seed=1), arguments(case, (3,), 2)))
    return args, dots, many


@functools.lru_cache(maxsize=4)
def of_jax(case: Case, dtype: str) -> dict[str, list[Array]]:
    """JAX's answers in all modes, from one compilation."""
    import jax

    def every_mode(args: Any, dots: Any, many: Any) -> dict[str, Any]:
        return {name: mode(jax, jax.numpy, case, args, dots, many) for name, mode in MODES.items()}

    return {name: _flat(value) for name, value in jax.jit(every_mode)(*inputs(case, dtype)).items()}


def _flat(value: Any) -> list[Array]:
    if isinstance(value, tuple | list):
        return [x for v in value for x in _flat(v)]
    return [np.asarray(value)]


def distance(got: list[Array], want: list[Array]) -> float:
    """The largest difference, relative to the largest entry of its array."""
    worst = 0.0
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape, f"shapes {g.shape} and {w.shape}"
        if g.size == 0:
            continue
        nans = np.isnan(g), np.isnan(w)
        assert np.array_equal(*nans), "NaN at different places"
        with np.errstate(invalid="ignore"):
            off = np.max(np.where(nans[0] | (g == w), 0, np.abs(g - w)))
        scale = float(np.max(np.where(nans[0], 0, np.abs(w))))
        worst = max(worst, float(off) / (scale or 1.0))
    return worst


def check(case: Case, mode: str, dtype: str) -> str:
    """How a row came out: ``equal``, ``nearer``, or what is wrong."""
    want = of_jax(case, dtype)[mode]
    try:
        got = _flat(MODES[mode](weft, np, case, *inputs(case, dtype)))
        for g, w in zip(got, want):
            assert g.dtype == w.dtype, f"element types {g.dtype} and {w.dtype}"
        off = distance(got, want)
    except Exception as error:      # a row of the report, whatever happened
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if off <= TOLERANCE[dtype]:
        return "equal"
    if dtype == "float32":
        exact = of_jax(case, "float64")[mode]
        ours, theirs = distance(got, exact), distance(want, exact)
        return "nearer" if ours <= theirs else f"off by {off:.1e} (weft {ours:.1e} from the " \
                                               f"float64 answer, JAX {theirs:.1e})"
    return f"off by {off:.1e}"


def rows(names: list[str]) -> Iterator[tuple[Case, str, str]]:
    """Every case, mode and element type; those of the cases named, if any are."""
    for case in CASES:
        if not names or case.name in names:
            for dtype in TOLERANCE:
                for mode in MODES:
                    yield case, mode, dtype


def main(names: list[str]) -> int:
    """Check all rows, or those of the functions named; print what differs, and the counts."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    if importlib.util.find_spec("jax") is None:
        print("skipped: JAX is not installed")
        return 0
    counts: Counter[tuple[str, str]] = Counter()
    for case, mode, dtype in rows(names):
        outcome = check(case, mode, dtype)
        kind = outcome if outcome in ("equal", "nearer") else "differs"
        counts[mode, kind] += 1
        if outcome != "equal":
            print(f"{case.name}: {mode}, {dtype}: {outcome}", flush=True)
    print(f"\n{len({c.name for c, _, _ in rows(names)})} functions")
    for mode in MODES:
        print(f"{mode:14}" + "".join(f"{counts[mode, k]:6} {k}"
                                     for k in ("equal", "nearer", "differs")))
    return int(any(kind == "differs" for _, kind in counts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
