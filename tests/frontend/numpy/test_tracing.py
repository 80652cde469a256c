"""The tracing core: what becomes a parameter, a constant, a specialisation, a result."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from same_as_numpy import against_numpy, run_traced, spec_of, traced

import weft
from weft.compiler.errors import ShapeError, TracerValueError, UnsupportedError
from weft.compiler.types import DTYPES, Dim, Size, TensorType
from weft.devices.reference import evaluate
from weft.frontend.trace import ArgSpec, Traced, trace_flat

X = np.arange(12.0).reshape(3, 4)
B = Size.symbol("B")


def one(fn: Callable[..., Any], *args: Any) -> Traced:
    """The trace of a function with these arguments."""
    return traced(fn, *args)[0]


# ---- what the function closes over

def test_writeable_arrays_are_captured_once() -> None:
    w = np.ones(4)
    trace = one(lambda x: x * w + w, X)
    assert len(trace.captures) == 1 and trace.captures[0] is w
    assert [p.name for p in trace.graph.params] == ["x0", "captured"]
    first = evaluate(trace.graph, [X, w])[0]
    np.testing.assert_array_equal(first, X + 1)
    w[:] = 3.0
    np.testing.assert_array_equal(evaluate(trace.graph, [X, *trace.captures])[0], X * 3 + 3)


def test_what_cannot_change_is_a_constant() -> None:
    fixed = np.ones(4)
    fixed.flags.writeable = False
    trace = one(lambda x: x * fixed + np.array([1.0, 2.0, 3.0, 4.0]) + np.float32(2) + 1, X)
    assert trace.captures == () and len(trace.graph.params) == 1


def test_a_read_only_view_of_a_writeable_array_is_captured() -> None:
    w = np.ones(4)
    shown = np.broadcast_to(w, (3, 4))
    assert len(one(lambda x: x + shown, X).captures) == 1


def test_arrays_changed_between_uses_keep_their_values() -> None:
    def f(x: Any) -> Any:
        total, mask = x * 0, np.zeros(4)
        for i in range(4):
            mask[:] = 0
            mask[i] = i
            total = total + x * mask
        return total
    against_numpy(run_traced, f, X)


def test_big_endian_and_misaligned_arrays_can_be_closed_over() -> None:
    big = np.arange(4, dtype=">f4")
    odd = np.frombuffer(b"\0" + np.arange(4.0).tobytes(), np.float64, offset=1)
    against_numpy(run_traced, lambda x: x + big + odd, X)


# ---- Python scalars

def test_numbers_stay_traced_until_their_value_is_needed() -> None:
    assert one(lambda x, n, r: x * n + r, X, 3, 0.5).specialized == {}
    trace = one(lambda x, n, m: sum(x * i for i in range(n)), X, 3, 4)
    assert trace.specialized == {1: 3}
    trace = one(lambda x, n, m: x.reshape(n * m, -1) if n + 1 > m else x, X, 3, 2)
    assert trace.specialized == {1: 3, 2: 2}
    assert one(lambda x, flag: x if flag else -x, X, True).specialized == {1: True}
    assert one(lambda x, r: x if r > 0 else -x, X, 0.5).specialized == {1: 0.5}


@pytest.mark.parametrize("expression", [
    "x.sum(axis=n)", "x[n]", "x[:, n:]", "np.roll(x, n)", "x.reshape(n + 2, -1)",
    "np.zeros(n + 1) + x[0, 0]", "[x, x + 1, x + 2][n]", "np.eye(n + 3)[:3] @ x.T[:4]",
    "x ** n", "np.stack([x] * n, axis=n)", "x if n else -x", "np.round(x, n)", "n.bit_length() * x",
    "x * float(n)", "x * 2 ** n", "x + 10 ** n", "x[(n, 2)]", "np.take(x, n, axis=0)",
    "np.linspace(0, 1, n + 3) * x[0, 0]", "np.tile(x, n + 1)", "np.repeat(x, n + 1, axis=1)"])
def test_ints_where_a_value_is_needed(expression: str) -> None:
    against_numpy(run_traced, eval(f"lambda x, n: {expression}", {"np": np}), X, 1)


def test_integers_beyond_64_bits() -> None:
    trace = one(lambda x, n: x * float(n ** 60), X, 10)
    assert trace.specialized == {1: 10}
    against_numpy(run_traced, lambda x, n: (n ** 60, x * n), X, 10)


def test_odd_values_of_python_numbers() -> None:
    assert one(lambda r: r ** 0.5 * 1j, 4.0).specialized == {}
    assert one(lambda r: r ** 0.5, -4.0).specialized == {0: -4.0}
    against_numpy(run_traced, lambda r: (r ** 0.5, r ** 2), -4.0)


# ---- results

def test_kinds_of_results() -> None:
    trace = one(lambda x, n, s: (x, n, x + 1, x.sum(), n + 1, n * 0.5, n > 2, "text", None, s,
                                 np.float32(1), x.shape), X, 3, np.float32(2))
    assert [(r.kind, r.value) for r in trace.results] == [
        ("argument", None), ("argument", None), ("array", None), ("scalar", None), ("int", None),
        ("float", None), ("bool", None), ("static", "text"), ("static", None), ("argument", None),
        ("static", np.float32(1)), ("static", 3), ("static", 4)]
    assert [r.index for r in trace.results][:4] == [0, 1, 0, 1]


def test_one_object_returned_twice_is_one_result() -> None:
    def f(x: Any) -> Any:
        y = x + 1
        return y, y
    trace = one(f, X)
    assert len(trace.graph.results) == 1 and [r.index for r in trace.results] == [0, 0]


def test_new_arrays_of_no_traced_values_are_fresh_results() -> None:
    got = one(lambda x: np.zeros(3), X)
    assert got.results[0].kind == "array" and got.captures == ()


# ---- in-place operators on arrays that the trace made

@pytest.mark.parametrize("statement", [
    "y += 1", "y -= x", "y *= 2", "y /= 3", "y //= 2", "y %= 3", "y **= 2", "y @= q",
    "y += x[0]", "z = y; z += 1", "y += y", "np.add(y, 1, out=y)", "np.multiply(x, x, out=y)",
    "y.fill(3)", "y.sort(axis=0)", "np.copyto(y, 2.0, where=x > 5)", "y = y.astype(int); y += 2",
    "y = y.astype(int); y += 2.5", "y += np.ones((2, 3, 4))", "s = y[0, 0]; s += 1",
    "v = y.T; v = v + 1; y += 1", "np.sum(x, axis=0, out=y[0] * 0)", "y = y > 5; y |= x < 2",
    "y = y.astype(int); y <<= 1; y &= 6; y ^= 1; y >>= 1"])
def test_in_place(statement: str) -> None:
    space = {"np": np, "q": np.eye(4) * 2}
    code = f"def f(x):\n    y = x * 1.5\n    {statement}\n    return y"
    exec(code, space)
    against_numpy(run_traced, space["f"], X)


# ---- the tracer as an object

def test_tracers_look_like_what_they_stand_for() -> None:
    def f(x: Any, s: Any, n: Any, r: Any) -> Any:
        assert isinstance(x, np.ndarray) and not isinstance(x, np.generic)
        assert isinstance(s, np.float64) and isinstance(s, float)
        assert isinstance(n, int) and isinstance(r, float) and not hasattr(n, "shape")
        assert np.isscalar(s) and np.isscalar(n) and not np.isscalar(x)
        assert repr((x, s, n)) == "(Tracer(f64[3, 4]), Tracer(f64[]), Tracer(int))"
        assert str(x) == "Tracer(f64[3, 4])" == f"{x:>3}" == np.array2string(x)
        assert {x: 1}[x] == 1 and len(x) == 3 and x.dtype == np.float64
        assert x.shape == (3, 4) and x.size == 12 and x.nbytes == 96 and x.itemsize == 8
        assert "mean" in dir(x) and not hasattr(x, "meen")
        assert x.__array_namespace__().mean is weft.numpy.mean
        return x
    run_traced(f, X, np.float64(2), 3, 0.5)


def test_copies_and_pickles() -> None:
    def f(x: Any) -> Any:
        y = copy.copy(x)
        y += 1                                     # a copy may be written to
        with pytest.raises(TracerValueError, match="cannot be pickled"):
            pickle.dumps(x)
        return y + copy.deepcopy(x)
    against_numpy(run_traced, lambda x: x + 1 + x, X)
    np.testing.assert_array_equal(run_traced(f, X), 2 * X + 1)


def test_foreign_operands() -> None:
    class Reflecting:
        def __radd__(self, other: Any) -> str:
            return "mine"
    assert run_traced(lambda x: x + Reflecting(), X) == "mine"
    with pytest.raises(TypeError, match="unsupported operand"):
        run_traced(lambda x: x + object(), X)
    assert run_traced(lambda x: x == None, X) is False  # noqa: E711


def test_threads_trace_apart() -> None:
    results: list[Any] = []

    def work(k: int) -> None:
        results.append(run_traced(lambda x: sum(x * i for i in range(k)), X).sum())
    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 9)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(results) == sorted(X.sum() * (k * (k - 1) / 2) for k in range(1, 9))


def test_dead_nodes_are_left_out_and_lines_are_kept() -> None:
    def f(x: Any) -> Any:
        np.exp(x)
        return np.sin(x) + 1
    graph = one(f, X).graph
    assert [n.opname for n in graph.nodes] == ["sin", "constant", "add"]
    first = f.__code__.co_firstlineno
    assert [n.origin and n.origin.line for n in graph.nodes] == [first + 2] * 3


def test_errors_leave_no_trace_behind() -> None:
    with pytest.raises(ZeroDivisionError):
        one(lambda x: 1 / 0, X)
    assert weft.numpy.zeros(2).tolist() == [0.0, 0.0]


# ---- weft.numpy

def test_weft_numpy_is_numpy_outside_and_traced_inside() -> None:
    import weft.numpy as wnp
    assert wnp.sum(np.ones(3)) == 3 and wnp.sin is np.sin and wnp.float32 is np.float32
    assert wnp.pi == np.pi and wnp.linalg is np.linalg and "reshape" in dir(wnp)
    with pytest.raises(AttributeError):
        wnp.no_such_function  # noqa: B018

    def f(x: Any) -> Any:
        a = wnp.zeros((3, 4)) + wnp.arange(4) + wnp.eye(3, 4)
        pair = wnp.asarray([x, x + 1])
        first = wnp.array([x[0, 0], 2.0, 3])
        return a + wnp.mean(pair, axis=0), first, wnp.asarray(x), wnp.full(3, x[1, 1])
    graph = one(f, X).graph
    assert not any(n.opname == "constant" and n.shape for n in graph.nodes)
    want = (np.zeros((3, 4)) + np.arange(4) + np.eye(3, 4) + X + 0.5, np.array([0.0, 2.0, 3.0]),
            X, np.full(3, 5.0))
    for got, expected in zip(run_traced(f, X), want):
        np.testing.assert_array_equal(got, expected)


# ---- symbolic sizes

def symbolic(fn: Callable[..., Any], shape: tuple[Dim, ...], *arrays: Any) -> Any:
    """`fn` traced for a symbolic first argument, then run on each of the arrays."""
    spec = ArgSpec("array", TensorType(shape, DTYPES["f64"]), "x")
    graph = trace_flat(lambda t: [fn(*t)], [spec], "f").graph
    for a in arrays:
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(evaluate(graph, [a])[0], fn(a), rtol=1e-12, atol=1e-14)
    return graph


@pytest.mark.parametrize("expression", [
    "x * 2 + x[0]", "x.sum(axis=0)", "x.mean()", "x.mean(axis=0)", "x.var(axis=0, ddof=1)",
    "x / x.shape[0]", "x.reshape(-1)", "x.reshape(x.shape[0] * 4)", "x.reshape(x.shape[0], 2, 2)",
    "x.T @ x", "x @ x.T", "x[1:] - x[:-1]", "x[::-1]", "x[:, 1:3]", "x[-1]", "x[1]",
    "np.concatenate([x, x])", "np.stack([x, x], axis=1)", "np.ones_like(x) + x", "x + np.ones(4)",
    "np.sqrt(x.shape[0]) * x", "x * len(x.shape)", "x.size * x", "np.einsum('ij,kj->ik', x, x)",
    "np.argmax(x, axis=0)", "np.cumsum(x, axis=0)", "np.diff(x, axis=0)", "np.pad(x, 1)",
    "np.sort(x, axis=0)", "x.max(axis=0) - x.min(axis=0)", "np.where(x > 2, x, 0)",
    "np.median(x, axis=0)", "np.tile(x, (2, 1))", "np.repeat(x, 2, axis=0)",
    "np.roll(x, 1, axis=0)", "np.flip(x)", "x[:, None] - x[None]", "np.trace(x @ x.T)",
    "np.broadcast_to(x[:, :1], (x.shape[0], 3))", "x.reshape(x.shape[0] // 1, 4)",
    "x * 2 if x.shape[0] == x.shape[0] else -x", "x[[0, 1]]", "x.std()",
    "np.linalg.norm(x, axis=1)",
    "np.average(x, axis=0)", "np.zeros((2, 3)) + x.shape[0]", "np.outer(x, x)", "x.nbytes + x",
    "np.expand_dims(x, 0).swapaxes(0, 2)", "np.split(x, 2, axis=1)[1]", "np.cov(x.T)",
    "np.trapezoid(x, axis=0)", "np.take(x, [0, 1], axis=0)"])
def test_symbolic_sizes(expression: str) -> None:
    fn = eval(f"lambda x: {expression}", {"np": np})
    symbolic(fn, (B, 4), X, np.random.default_rng(1).normal(size=(5, 4)))


def test_symbolic_sizes_are_kept_apart() -> None:
    with pytest.raises(ShapeError, match=r"could not be broadcast .* \(B,4\) \(3,4\)"):
        symbolic(lambda x: x + np.ones((3, 4)), (B, 4))
    with pytest.raises(TracerValueError, match="bool"):
        symbolic(lambda x: x if x.shape[0] > 3 else -x, (B, 4))
    with pytest.raises(TracerValueError, match=r"use x.shape\[0\]"):
        symbolic(lambda x: x * len(x), (B, 4))
    with pytest.raises(UnsupportedError, match="no polynomial"):
        symbolic(lambda x: x[::2], (B, 4))
    with pytest.raises(UnsupportedError, match="no polynomial"):
        symbolic(lambda x: x[:3], (B, 4))


def test_specs_of_the_helper() -> None:
    assert spec_of("x", 2.5).kind == "float" and spec_of("x", np.float32(1)).kind == "scalar"
