"""Signatures, specialisation, symbolic sizes, threads."""

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
