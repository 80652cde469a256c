"""Running functions through weft, and whether the results are NumPy's own.

Two results are the same if value, shape, dtype and kind of object are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from weft.compiler.types import TensorType, dtype_of
from weft.devices.reference import evaluate
from weft.frontend.trace import ArgSpec, ResultSpec, Traced, trace_flat

Run: TypeAlias = Callable[..., Any]

PYTHON = {"float": float, "int": int, "bool": bool, "complex": complex}


def spec_of(name: str, value: Any) -> ArgSpec:
    """How an argument enters the trace."""
    if type(value) in (float, int, bool, complex):
        kind = type(value).__name__
        return ArgSpec(kind, TensorType((), dtype_of(type(value))), name, value)
    kind = "scalar" if isinstance(value, np.generic) else "array"
    return ArgSpec(kind, TensorType(np.shape(value), dtype_of(value.dtype)), name)


def traced(fn: Callable[..., Any], *args: Any) -> tuple[Traced, list[Any]]:
    """The trace of `fn`, and a one-element list with the structure of its result."""
    structure: list[Any] = []

    def flat(tracers: list[Any]) -> list[object]:
        leaves: list[object] = []
        structure.append(_flatten(fn(*tracers), leaves))
        return leaves
    names = [f"x{i}" for i in range(len(args))]
    return trace_flat(flat, list(map(spec_of, names, args)), fn.__name__), structure


def _flatten(value: Any, leaves: list[object]) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(_flatten(v, leaves) for v in value)
    leaves.append(value)
    return len(leaves) - 1


def _object(spec: ResultSpec, outs: list[Any], args: tuple[Any, ...]) -> Any:
    if spec.kind == "static":
        return spec.value
    if spec.kind == "argument":
        return args[spec.index]
    array = np.asarray(outs[spec.index])
    if spec.kind == "array":
        return array
    return array[()] if spec.kind == "scalar" else PYTHON[spec.kind](array)


def run_traced(fn: Callable[..., Any], *args: Any) -> Any:
    """`fn(*args)` through the graph, in the objects NumPy would give; lists become tuples."""
    trace, structure = traced(fn, *args)
    outs = evaluate(trace.graph, [np.asarray(a) for a in (*args, *trace.captures)])
    objects = [_object(spec, outs, args) for spec in trace.results]

    def rebuild(s: Any) -> Any:
        return tuple(map(rebuild, s)) if isinstance(s, tuple) else objects[s]
    return rebuild(structure[0])

NOT_EXACT = {"divmod", "floor_divide", "remainder", "modf"}
TOLERANCE = {"f2": 4e-3, "f4": 3e-6, "f8": 4e-14, "c8": 3e-6, "c16": 4e-14}


def assert_same(got: Any, want: Any, signs: bool = True) -> None:
    """Fail where `got` is not what NumPy gave; `signs` also compares the signs of zeros."""
    if isinstance(want, (tuple, list)):
        assert isinstance(got, (tuple, list))
        assert len(got) == len(want)
        for g, w in zip(got, want):
            assert_same(g, w, signs)
        return
    assert kind_of(got) == kind_of(want), f"got {got!r}, NumPy gives {want!r}"
    if not isinstance(want, (np.ndarray, np.generic, int, float, complex)):
        assert got == want
        return
    g, w = np.asarray(got), np.asarray(want)
    assert g.dtype == w.dtype, f"dtype {g.dtype}, NumPy gives {w.dtype}"
    assert g.shape == w.shape, f"shape {g.shape}, NumPy gives {w.shape}"
    _compare(g, w, signs)


def kind_of(value: Any) -> str:
    """array, scalar, or the Python type's name."""
    if isinstance(value, np.ndarray):
        return "array"
    return "scalar" if isinstance(value, np.generic) else type(value).__name__


def _compare(g: Any, w: Any, signs: bool) -> None:
    rtol = TOLERANCE.get(w.dtype.str[1:], 0.0)
    if rtol == 0.0:
        np.testing.assert_array_equal(g, w)
        return
    scale = np.max(np.abs(w[np.isfinite(w)]), initial=0.0)
    np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol * float(min(scale, 1.0)))
    if signs and w.dtype.kind == "f":
        zero = (w == 0) & (g == 0)
        np.testing.assert_array_equal(np.signbit(g[zero]), np.signbit(w[zero]))


def against_numpy(run: Run, fn: Any, *args: Any, signs: bool = True) -> None:
    """The same result as NumPy's, or an error of the same built-in type."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            want = fn(*args)
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            builtin = next(t for t in type(error).__mro__ if t.__module__ == "builtins")
            with pytest.raises(builtin):
                run(fn, *args)
            return
        assert_same(run(fn, *args), want, signs and fn.__name__ not in NOT_EXACT)
