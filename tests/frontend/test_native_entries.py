"""Calls that go straight into native code: when they do, and what stays true then."""

import threading

import numpy as np
import pytest
from jitting import X, Y, counted, same

import weft


def native(fn, **options):
    return weft.jit(fn, device="cpu", **options)


def test_the_second_call_makes_an_entry():
    f = native(lambda x, y: x * y + x)
    for count, value in ((0, X), (1, X), (1, X), (1, X[:2]), (2, X[:2]), (2, X), (2, X.T), (2, X)):
        same(f(value, value), value * value + value)
        assert len(f._entries) == min(count, 2)
    same(f(X, y=Y), X * Y + X)
    same(f(x=X, y=Y), X * Y + X)


def test_entries_take_scalars_and_give_tuples():
    def f(x, n, s, t, b):
        return x * n + s, (x + t).sum(), [b, n] and n * 2, x.max() > 0
    g = native(f)
    for args in ((X, 3, 2.5, np.float32(4), True), (X, 5, 0.5, np.float32(1), False)) * 3:
        for got, want in zip(g(*args), f(*args)):
            same(got, want)
    assert len(g._entries) >= 1


def test_entries_are_for_the_values_they_were_made_for():
    g = native(lambda x, axis: x.sum(axis=axis))
    for axis in (0, 1, 0, 1, -1, -1, 0, 1):
        same(g(X, axis), X.sum(axis=axis))
    assert len(g._entries) == 3 and len(g.records) == 3


FACTOR = 2.0
BIAS = np.ones(4, np.float32)


def with_globals(x):
    return x * FACTOR + BIAS


def test_entries_look_at_globals(monkeypatch):
    traced, runs = counted(with_globals)
    f = native(traced)

    def check(entries):
        for _ in range(2):
            same(f(X), X * FACTOR + BIAS)
        assert len(f._entries) == entries
    check(1)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    check(2)
    monkeypatch.setitem(globals(), "BIAS", np.full(4, 7, np.float32))
    check(2)
    BIAS[1] = 9
    check(2)
    monkeypatch.setitem(globals(), "BIAS", np.float32(1))
    check(3)
    monkeypatch.setitem(globals(), "BIAS", np.ones((3, 1)))
    check(4)
    monkeypatch.delitem(globals(), "BIAS")
    with pytest.raises(NameError, match="BIAS"):
        f(X)
    monkeypatch.setitem(globals(), "BIAS", np.zeros(4, np.float32))
    check(4)
    monkeypatch.setitem(globals(), "FACTOR", 3)
    check(5)
    assert len(runs) == 6                      # with the one that found no BIAS


def test_entries_look_at_closed_over_variables():
    factor, bias = 2.0, np.ones(4, np.float32)

    @native
    def f(x):
        return x * factor, bias.sum() + x[0]

    def check(entries):
        for _ in range(2):
            for got, want in zip(f(X), (X * factor, bias.sum() + X[0])):
                same(got, want)
        assert len(f._entries) == entries
    check(1)
    factor = 5.0
    check(2)
    bias = bias * 3
    check(2)
    bias = bias.T[::-1]
    check(2)                                   # not contiguous: Python makes the call
    bias = np.ones(3, np.float32)
    check(3)
    same(f(x=X)[0], X * factor)


def test_a_guard_finds_a_table_that_has_moved():
    scope = {"np": np, "SCALE": 2.0}
    exec("def f(x):\n    return x * SCALE", scope)
    f = native(scope["f"])
    f(X), f(X)
    guard = next(iter(f._cache.signatures().values())).only.entry
    calls = []
    dispatch = f._dispatch
    f._dispatch = lambda *args: calls.append(1) or dispatch(*args)
    f(X)
    assert not calls
    scope.update({f"more{i}": i for i in range(2000)})
    for _ in range(70):
        same(f(X), X * 2)
    assert 60 <= len(calls) <= 64 and guard.renew()
    scope["SCALE"] = 3.0
    same(f(X), X * 3)


def test_variables_bound_anew_while_native_code_runs():
    """The array in use is held, though nobody else holds it any more."""
    box = np.ones((400, 400))

    @native
    def f(x):
        return x @ box @ box

    x, stop, wrong = np.ones((400, 400)), threading.Event(), []
    f(x), f(x)

    def work():
        while not stop.is_set():
            y = f(x)[0, 0]
            if y % 160000:
                wrong.append(y)
    thread = threading.Thread(target=work)
    thread.start()
    for n in range(1, 200):
        box = np.full((400, 400), float(n % 5))
    stop.set()
    thread.join()
    assert not wrong and len(f.records) == 1


def test_no_entry_where_containers_outside_may_change():
    table = {"factor": 2.0}
    f = native(lambda x: x * table["factor"])
    f(X), f(X)
    table["factor"] = 3.0
    same(f(X), X * 3)
    assert len(f._entries) == 0


def test_containers_and_methods_run_natively_once_taken_apart():
    class Model:
        def __init__(self):
            self.w = np.ones((4, 2), np.float32)

        @weft.jit
        def run(self, p, n):
            return {"y": p["x"] @ self.w * n, "s": p["x"].sum(), "x": p["x"]}

    model = Model()
    for n, x in ((2.0, X), (3.0, X), (4.0, X.T.copy().T), (5.0, X.astype(">f4")), (6.0, X)):
        got = model.run({"x": x}, n)
        same(got["y"], (X @ model.w * n))
        same(got["s"], X.sum())
        assert got["x"] is x
        model.w = model.w + 1
    made = [s.only for s in Model.run._cache.signatures().values()]
    assert len(made) == 2 and made[0].is_native and not made[0].entry


def test_arguments_in_other_layouts_go_through_the_entry_too():
    f = native(lambda x, y: x * y)
    for x in (X, X, X[::-1], X.astype(">f4"), X[::-1]):
        same(f(x, Y), np.asarray(x * Y, np.float32))
        same(f(x, y=Y), np.asarray(x * Y, np.float32))
    assert len(f._entries) == 1


def test_an_entry_that_fails_tells_why():
    f = native(lambda x, i: x[i])
    i = np.array([0, 2])
    for _ in range(3):
        same(f(X, i), X[i])
    i[1] = 7
    for _ in range(2):
        with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 3"):
            f(X, i)
    i[1] = 1
    same(f(X, i), X[i])


def test_symbolic_sizes_in_entries():
    f = native(lambda x, w: np.tanh(x @ w), shapes={"x": ("B", 4)})
    w = np.ones((4, 2), np.float32)
    for n in (3, 1, 7, 0, 3):
        x = np.linspace(0, 1, 4 * n, dtype=np.float32).reshape(n, 4)
        same(f(x, w), np.tanh(x @ w))
    assert len(f.records) == 1


def test_threads_call_native_code():
    f = native(lambda x, y: np.tanh(x) @ y)
    big, wrong = np.linspace(-1, 1, 90000).reshape(300, 300), []
    want = np.tanh(big) @ big

    def work():
        for _ in range(10):
            if not np.allclose(f(big, big), want):
                wrong.append(1)
    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong and len(f.records) == 1
