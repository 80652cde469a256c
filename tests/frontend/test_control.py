"""Control flow as users write it: values, containers, element types, nesting, and error texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import weft
from weft.frontend.pytree import flatten


def both(fn: Callable[..., Any], *args: Any) -> Any:
    """The result inside of `weft.jit`, which is the same as that of the plain call."""
    plain, jitted = fn(*args), weft.jit(fn)(*args)
    one, other = (flatten(r)[0] for r in (plain, jitted))
    assert len(one) == len(other)
    for a, b in zip(one, other):
        np.testing.assert_array_equal(a, b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
    return jitted


class TestBranches:
    def test_cond_picks(self) -> None:
        for p in (True, False, np.bool_(True), 0.0, 3):
            got = both(lambda p, x: weft.cond(p, lambda x: x + 1, lambda x: x * 2, x), p, 5.0)
            assert got == (6.0 if p else 10.0)

    def test_operands_and_results_are_containers(self) -> None:
        def f(p: Any, d: Any) -> Any:
            return weft.cond(p, lambda d: (d["a"], [d["b"]]), lambda d: (d["b"], [d["a"]]), d)
        got = both(f, False, {"a": np.arange(3.0), "b": np.ones(3)})
        np.testing.assert_array_equal(got[0], np.ones(3))
        np.testing.assert_array_equal(got[1][0], np.arange(3.0))

    def test_closed_over_values(self) -> None:
        @weft.jit
        def f(p: Any, x: Any, y: Any) -> Any:
            z = x * y
            return weft.cond(p, lambda: z + x, lambda: y)
        np.testing.assert_array_equal(f(True, np.arange(3.0), np.ones(3)), 2 * np.arange(3.0))
        np.testing.assert_array_equal(f(False, np.arange(3.0), np.ones(3)), np.ones(3))

    def test_python_numbers_take_the_others_type(self) -> None:
        x = np.arange(3, dtype=np.float32)
        got = both(lambda p, x: weft.cond(p, lambda x: x[0], lambda x: 0, x), False, x)
        assert got.dtype == np.float32

    @pytest.mark.parametrize("i", [-3, 0, 1, 2, 9])
    def test_switch(self, i: int) -> None:
        got = both(lambda i, x: weft.switch(i, [lambda x: x, lambda x: -x, np.exp], x), i, 1.0)
        assert got == [1.0, -1.0, np.exp(1.0)][min(max(i, 0), 2)]

    def test_switch_by_a_large_index(self) -> None:
        assert weft.switch(1 << 40, [lambda: 1.0, lambda: 2.0]) == 2.0
        assert weft.switch(np.uint8(255), [lambda: 1.0, lambda: 2.0]) == 2.0


class TestLoops:
    def test_while(self) -> None:
        def f(n: Any) -> Any:
            return weft.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] * 2.0), (0, 1.0))
        i, x = both(f, 10)
        assert (i, x) == (10, 1024.0) and i.dtype == np.int64

    def test_no_turns(self) -> None:
        x = np.arange(4.0)
        got = both(lambda x: weft.while_loop(lambda v: False, lambda v: v * 2, x), x)
        np.testing.assert_array_equal(got, x)

    def test_python_numbers_take_the_bodys_type(self) -> None:
        xs = np.arange(4, dtype=np.float32)
        total, _ = both(lambda xs: weft.scan(lambda c, x: (c + x, None), 0, xs), xs)
        assert total == 6 and total.dtype == np.float32
        z = both(lambda xs: weft.fori_loop(0, 3, lambda i, v: v * 1j, 1.0), xs)
        assert z == -1j and z.dtype == np.complex128

    def test_python_numbers_stay_weak(self) -> None:
        def f(x: Any) -> Any:
            s = weft.while_loop(lambda s: s < 10, lambda s: s + 2.5, 0.0)
            return x * s
        assert both(f, np.float32(1)) == 10.0

    @pytest.mark.parametrize("ends", [(0, 5), (2, 2), (5, 2), (-3, 1)])
    def test_fori(self, ends: tuple[int, int]) -> None:
        lower, upper = ends
        want = 0
        for i in range(lower, upper):
            want = want * 2 + i
        assert both(lambda a, b: weft.fori_loop(a, b, lambda i, v: v * 2 + i, 0),
                    lower, upper) == want
        assert weft.fori_loop(lower, upper, lambda i, v: v * 2 + i, 0) == want
        assert weft.jit(lambda: weft.fori_loop(lower, upper, lambda i, v: v * 2 + i, 0))() == want

    @pytest.mark.parametrize("reverse", [False, True])
    def test_scan(self, reverse: bool) -> None:
        xs = {"a": np.arange(4.0), "b": np.arange(8, dtype=np.int32).reshape(4, 2)}

        def f(xs: Any) -> Any:
            def body(c: Any, x: Any) -> Any:
                return {"s": c["s"] + x["a"], "t": c["t"] * 2 + x["b"]}, (c["s"], x["b"].sum())
            return weft.scan(body, {"s": 0.0, "t": np.zeros(2, np.int32)}, xs, reverse=reverse)
        last, (before, sums) = both(f, xs)
        s, t, rows = 0.0, np.zeros(2, np.int32), []
        for i in range(4)[::-1] if reverse else range(4):
            rows.append(s)
            s, t = s + xs["a"][i], t * 2 + xs["b"][i]
        np.testing.assert_array_equal(before, rows[::-1] if reverse else rows)
        np.testing.assert_array_equal(last["s"], s)
        np.testing.assert_array_equal(last["t"], t)
        np.testing.assert_array_equal(sums, xs["b"].sum(axis=1))
        assert last["t"].dtype == np.int32 and sums.dtype == np.int64

    def test_scan_without_arrays(self) -> None:
        last, ys = both(lambda x: weft.scan(lambda c, _: (c * 2, c), x, None, length=5), 1)
        assert last == 32
        np.testing.assert_array_equal(ys, [1, 2, 4, 8, 16])

    def test_scan_over_nothing(self) -> None:
        last, ys = both(lambda x: weft.scan(lambda c, x: (c + x.sum(), x * 2), 1.0, x),
                        np.zeros((0, 3)))
        assert last == 1.0 and ys.shape == (0, 3)

    def test_symbolic_length(self) -> None:
        @weft.jit(shapes={"x": ("T", 3)})
        def f(x: Any) -> Any:
            a = weft.scan(lambda c, v: (c + v, c.sum()), np.zeros(3), x)
            return a, weft.fori_loop(0, x.shape[0], lambda i, s: s + x[i], np.zeros(3))
        for n in (1, 5, 2):
            x = np.arange(3.0 * n).reshape(n, 3)
            (last, ys), again = f(x)
            np.testing.assert_array_equal(last, x.sum(axis=0))
            np.testing.assert_array_equal(again, x.sum(axis=0))
            assert ys.shape == (n,)
        assert len(f.history()) == 1

    def test_swapped_and_unchanged_carries(self) -> None:
        def f(x: Any, y: Any, z: Any) -> Any:
            return weft.fori_loop(0, 3, lambda i, v: (v[1], v[0], v[2]), (x, y, z))
        x, y, z = both(f, np.arange(3.0), np.ones(3), np.zeros(2, bool))
        np.testing.assert_array_equal(x, np.ones(3))
        np.testing.assert_array_equal(y, np.arange(3.0))
        assert z.dtype == bool

    def test_nested(self) -> None:
        def f(p: Any, xs: Any) -> Any:
            def outer(v: Any) -> Any:
                return weft.while_loop(
                    lambda s: s[0] < 3,
                    lambda s: (s[0] + 1, weft.scan(lambda c, x: (c + x * s[1], None),
                                                   s[1], xs)[0]), (0, v))[1]
            return weft.cond(p, outer, lambda v: v, 0.5)
        xs, want = np.array([0.1, 0.2]), 0.5
        for _ in range(3):
            want = want + xs[0] * want + xs[1] * want
        assert both(f, True, xs) == pytest.approx(want)
        assert both(f, False, xs) == 0.5

    def test_map(self) -> None:
        xs = np.arange(6.0).reshape(3, 2)
        got = both(lambda xs: weft.map(lambda x: {"m": x.max(), "x": x[::-1]}, xs), xs)
        np.testing.assert_array_equal(got["m"], xs.max(axis=1))
        np.testing.assert_array_equal(got["x"], xs[:, ::-1])

    @pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 13])
    @pytest.mark.parametrize("reverse", [False, True])
    def test_associative_scan(self, n: int, reverse: bool) -> None:
        x = np.arange(2.0 * n).reshape(2, n)
        got = both(lambda x: weft.associative_scan(np.add, x, reverse=reverse, axis=-1), x)
        want = np.cumsum(x[:, ::-1], axis=1)[:, ::-1] if reverse else np.cumsum(x, axis=1)
        np.testing.assert_array_equal(got, want)

    def test_associative_scan_of_pairs(self) -> None:
        def compose(f: Any, g: Any) -> Any:
            return g[0] * f[0], g[0] * f[1] + g[1]
        a, b = np.linspace(0.5, 1.5, 6), np.linspace(-1, 1, 6)
        _, got = weft.associative_scan(compose, (a, b))
        h, want = 0.0, []
        for k in range(6):
            h = a[k] * h + b[k]
            want.append(h)
        np.testing.assert_allclose(got, want, rtol=1e-12)

    def test_outside_arrays_are_read_anew(self) -> None:
        w = np.ones(2)

        def body(c: Any, x: Any) -> Any:
            return c + w * x, None
        assert weft.scan(body, np.zeros(2), np.arange(3.0))[0].tolist() == [3.0, 3.0]
        w *= 2
        assert weft.scan(body, np.zeros(2), np.arange(3.0))[0].tolist() == [6.0, 6.0]

    def test_bad_index_in_a_loop(self) -> None:
        x = np.arange(3.0)
        with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 with size 3"):
            weft.jit(lambda x, n: weft.fori_loop(0, n, lambda i, s: s + x[i], 0.0))(x, 1 << 60)

    def test_plain_calls_compile_once(self) -> None:
        calls = []

        def body(c: Any, x: Any) -> Any:
            calls.append(1)
            return c + x, None
        for _ in range(3):
            weft.scan(body, 0.0, np.arange(3.0))
        assert len(calls) <= 2          # the carry's type is found at the first


F32, F64 = np.zeros(3, np.float32), np.zeros(3)
ERRORS: dict[str, tuple[Callable[[], Any], str]] = {
    "carry type": (
        lambda: weft.scan(lambda state, x: (state + x, None), F32, np.ones((2, 3))),
        "weft.scan: function turns the carry state from f32[3] into f64[3]\n"
        "  expected: the same shape and element type after every turn\n"
        "  repair:   begin with float64 values, or end the body with state.astype(np.float32)"),
    "carry shape": (
        lambda: weft.while_loop(lambda v: True, lambda v: {"a": np.append(v["a"], 1.0)},
                                {"a": F64}),
        "weft.while_loop: function turns the carry v['a'] from f64[3] into f64[4]\n"
        "  expected: the same shape and element type after every turn\n"
        "  repair:   begin with an array of shape [4], or keep the shape [3] in the body (values "
        "computed in each turn, but not needed in the next, are no carries)"),
    "carry structure": (
        lambda: weft.fori_loop(0, 3, lambda i, v: [v, v], F64),
        "weft.fori_loop: function gives (*, [*, *]) for the carry (*, *)\n"
        "  expected: a carry of the same structure as the initial one"),
    "no pair": (
        lambda: weft.scan(lambda c, x: c + x, 0.0, F64),
        "weft.scan: function gives *\n"
        "  expected: a pair: the next carry, and the result of this turn\n"
        "  repair:   return carry, None where a turn has no result of its own"),
    "lengths": (
        lambda: weft.scan(lambda c, x: (c, None), 0.0, (F64, np.zeros(4))),
        "weft.scan: x[1] comes of f64[4], but x[0] says 3 turns\n"
        "  expected: a first axis of size 3"),
    "no length": (
        lambda: weft.scan(lambda c, x: (c, None), 0.0),
        "weft.scan got no arrays to run along, and no length\n"
        "  expected: arrays, or length="),
    "scalar xs": (
        lambda: weft.map(lambda x: x, 1.0),
        "weft.scan: x comes of f64[], which has no axis to run along\n"
        "  expected: arrays of at least one axis\n"
        "  repair:   close over what is the same in every turn"),
    "predicate": (
        lambda: weft.cond(F64 > 0, lambda: 1.0, lambda: 2.0),
        "weft.cond: the predicate is bool[3]\n"
        "  expected: a single number\n"
        "  repair:   reduce it, with .any() or .all(), or choose element by element with np.where"),
    "branch types": (
        lambda: weft.cond(True, lambda x: x.astype(np.float32), lambda x: x, F64),
        "weft.cond: the result of branch 1 is f64[3], of branch 0 f32[3]\n"
        "  expected: the same shape and element type from all branches\n"
        "  repair:   convert it in branch 1: .astype(np.float32)"),
    "branch structure": (
        lambda: weft.switch(0, [lambda: (1.0, 2.0), lambda: 1.0]),
        "weft.switch: branch 1 gives *, branch 0 (*, *)\n"
        "  expected: results of one structure from all branches"),
    "no branches": (
        lambda: weft.switch(0, []),
        "weft.switch got no branches\n"
        "  expected: at least one function"),
    "condition": (
        lambda: weft.while_loop(lambda v: v > 0, lambda v: v, F64),
        "weft.while_loop: the condition function gives bool[3]\n"
        "  expected: one bool\n"
        "  repair:   reduce it, with .any() or .all()"),
    "condition type": (
        lambda: weft.while_loop(lambda v: v, lambda v: v, 1),
        "weft.while_loop: the condition function gives i64[]\n"
        "  expected: one bool\n"
        "  repair:   compare it: x != 0"),
    "no function": (
        lambda: weft.scan(3, 0.0, F64),
        "weft.scan got a int\n"
        "  expected: a function"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    """The exact text, without the line of the user's code, which is this file's."""
    call, text = ERRORS[name]
    with pytest.raises(weft.errors.WeftError) as caught:
        call()
    assert "test_control.py" in str(caught.value.origin)
    caught.value.origin = None
    assert str(caught.value) == text


def test_bodies_cut_into_columns_and_pieces_keep_to_their_memory() -> None:
    """Kernels of a body that are cut up after memory was planned: what the loop needs of it may
    have changed (carries that were written in place have a second buffer, and the reverse)."""
    def joined(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x[20000:] + 1, x[:20000] * 2])

    def turned(x: np.ndarray) -> np.ndarray:
        a, b = x[::2], x[1::2]
        return np.stack([a + b, a - b], axis=-1).reshape(-1)

    def own(x: np.ndarray) -> np.ndarray:
        odd = np.arange(x.size) % 2 == 1
        return np.where(odd, x * 2, x + 1)
    for body in (joined, turned, own):
        def run(x: np.ndarray, body: Any = body) -> Any:
            def turn(state: Any) -> Any:
                i, x, y = state
                return i + 1, body(x), y + body(x)
            return weft.while_loop(lambda s: s[0] < 3, turn, (0, x, np.zeros(x.size)))[1:]
        x = np.arange(40000.0)
        y, want = np.zeros(x.size), x
        for _ in range(3):
            want = body(want)
            y = y + want
        for device in ("cpu", "reference"):
            for got, due in zip(weft.jit(run, device=device)(x), (want, y)):
                np.testing.assert_array_equal(got, due)
