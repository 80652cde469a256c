"""Closures, globals, methods, nested functions: what a function reads beside its arguments."""

import dataclasses

import numpy as np
import pytest
from jitting import X, Y, counted, device, jit, same  # noqa: F401, the fixture

import weft

# ---- closures and methods

def test_closed_over_arrays_are_read_at_every_call():
    w = np.ones((3, 4), np.float32)
    traced, runs = counted(lambda x: x * w)
    g = jit(traced)
    same(g(X), X)
    w[0] = 5
    same(g(X), X * w)
    assert len(runs) == 1


def test_rebinding_what_is_closed_over():
    w = np.ones((3, 4), np.float32)
    scale = 2.0
    traced, runs = counted(lambda x: x * w * scale)
    g = jit(traced)
    same(g(X), X * w * scale)
    w = w + 3
    same(g(X), X * w * scale)
    assert len(runs) == 1                 # another array of the same type
    scale = 7.0
    same(g(X), X * w * scale)
    w = w[0]
    same(g(X), X * w * scale)
    assert len(runs) == 3
    scale = 2.0
    w = np.ones((3, 4), np.float32)
    same(g(X), X * w * scale)
    assert len(runs) == 3                 # the first one serves again


FACTOR = 2.0
TABLE = {"bias": np.ones(4, np.float32), "power": 2}


def helper(x):
    return x * FACTOR


def test_globals_are_followed(monkeypatch):
    g = jit(lambda x: helper(x) ** TABLE["power"] + TABLE["bias"])
    want = lambda: helper(X) ** TABLE["power"] + TABLE["bias"]  # noqa: E731
    same(g(X), want())
    monkeypatch.setitem(TABLE, "bias", np.full(4, 9, np.float32))
    same(g(X), want())
    assert len(g.records) == 1
    monkeypatch.setitem(TABLE, "power", 3)
    same(g(X), want())
    monkeypatch.setitem(globals(), "FACTOR", 5.0)
    same(g(X), want())
    assert [r.reasons for r in g.records] == [
        ("first call",), ("TABLE['power']: 2 → 3",), ("FACTOR: 2.0 → 5.0",)]


def test_what_is_computed_from_outside_arrays_alone_is_traced_too():
    w = np.ones((4, 2), np.float32)
    traced, runs = counted(lambda x: x @ (w.T * 2).T + TABLE["bias"][:2].sum())
    g = jit(traced)

    def check():
        same(g(X), X @ (w * 2) + TABLE["bias"][:2].sum())
    check()
    w[0] = 5
    check()
    w = w + 1
    TABLE["bias"][0] += 1
    check()
    assert len(runs) == 1
    assert "hidden" not in g.trace(X).text()


def test_outside_arrays_whose_values_are_needed_count_by_value():
    axes = np.array([0])
    w = np.ones(4, np.float32)
    g = jit(lambda x: (x * w).sum(axis=tuple(axes.tolist())))
    same(g(X), X.sum(axis=0))
    axes[0] = 1
    w[:] = 2
    same(g(X), (X * 2).sum(axis=1))
    assert len(g.records) == 2
    same(g(X), (X * 2).sum(axis=1))
    assert len(g.records) == 2


def test_an_outside_array_returned_is_the_very_object():
    w = np.ones(4)
    g = jit(lambda x: (w, x + 1))
    assert g(X)[0] is w
    w = np.zeros(4)
    assert g(X)[0] is w


COUNTS = {}


def test_what_the_function_changes_itself_is_not_watched():
    seen, total = [], 0
    COUNTS["calls"] = 0

    @jit
    def f(x):
        nonlocal total
        total += 1
        seen.append(1)
        COUNTS["calls"] += 1
        return x + 1
    for _ in range(3):
        same(f(X), X + 1)
    assert (len(f.records), len(seen), total, COUNTS["calls"]) == (1, 1, 1, 1)
    f(X[:2]), f(X[:2])
    assert (len(f.records), len(seen), total, COUNTS["calls"]) == (2, 2, 2, 2)


def test_methods_that_count_their_calls():
    class Counter:
        def __init__(self):
            self.w, self.calls, self.log = np.ones(4, np.float32), 0, []

        @jit
        def run(self, x):
            self.calls += 1
            self.log.append("x")
            return x * self.w
    counter = Counter()
    for _ in range(3):
        same(counter.run(X), X)
    assert len(Counter.run.records) == 1 and counter.calls == 1


class Model:
    def __init__(self, w, layers=()):
        self.w, self.scale, self.layers, self.calls = w, 2.0, list(layers), 0

    @property
    def doubled(self):
        return self.w * 2

    @jit
    def forward(self, x, power=1):
        return self.finish(x @ self.doubled) ** power

    def finish(self, y):
        for layer in self.layers:
            y = y + layer.scale
        return y * self.scale

    @staticmethod
    @jit
    def static(x):
        return x + 1

    @classmethod
    @jit
    def made(cls, x):
        return x if cls is Model else -x


def test_methods():
    w = np.ones((4, 2), np.float32)
    model, other = Model(w), Model(w * 3)
    same(model.forward(X), (X @ w * 2) * 2.0)
    same(other.forward(X), (X @ w * 6) * 2.0)
    same(Model.forward(model, X), (X @ w * 2) * 2.0)
    same(Model.static(X), X + 1)
    same(model.made(X), X)
    assert model.forward == model.forward and model.forward != other.forward
    assert model.forward.__name__ == "forward"
    assert "matmul" in model.forward.trace(X).text() or "dot_general" in (
        model.forward.trace(X).text())


def test_attributes_are_followed():
    model = Model(np.ones((4, 2), np.float32), [Model(None)])

    def check():
        same(model.forward(X), (X @ model.w * 2 + sum(m.scale for m in model.layers)) * model.scale)
    before = len(Model.forward.records)
    check()
    model.w[0] = 4
    check()
    model.w = model.w + 1
    model.calls += 1                      # not read by the code
    check()
    assert len(Model.forward.records) == before + 1
    model.scale = 3.0
    check()
    model.layers[0].scale = 5.0
    check()
    model.layers.append(Model(None))
    check()
    model.w = np.ones((4, 3), np.float32)
    check()
    assert len(Model.forward.records) == before + 5
    assert Model.forward.records[before + 1].reasons == ("Model.scale: 2.0 → 3.0",)


def test_method_of_a_dataclass():
    @dataclasses.dataclass
    class Linear:
        w: object

        @jit
        def __call__(self, x):
            return x @ self.w

    layer = Linear(np.ones((4, 2), np.float32))
    same(layer(X), X @ layer.w)
    layer.w = layer.w * 3
    same(layer(X), X @ layer.w)
    assert len(Linear.__call__.records) == 1


def test_nested():
    traced, runs = counted(lambda x: np.tanh(x) * 2)
    inner = jit(traced)
    outer = jit(lambda x: inner(x) + inner(x * 2))
    same(outer(X), np.tanh(X) * 2 + np.tanh(X * 2) * 2)
    assert len(inner.records) == 0 and len(runs) == 2
    same(jit(inner)(X), np.tanh(X) * 2)
    same(jit(lambda p: inner(x=p["x"]))({"x": X}), np.tanh(X) * 2)


def test_nested_with_concrete_arguments_and_outer_tracers():
    def f(x):
        @jit
        def inner(y):
            return y + x
        return inner(Y)
    same(jit(f)(X), X + Y)


def test_recursion():
    @jit
    def f(x, depth):
        return x if depth == "" else f(x * 2, depth[1:])
    same(f(X, "abc"), X * 8)


def test_outside_containers_cannot_be_changed():
    @jit
    def f(p):
        p["a"] = p["a"] + 1
        return p["a"]
    with pytest.raises(weft.errors.UnsupportedError) as caught:
        f({"a": X})
    lines = str(caught.value).splitlines()
    assert lines[0].endswith(".f changes its argument p['a']") or lines[0] == (
        "f changes its argument p['a']")
    assert lines[2:] == [
        "  expected: containers that stay as they are while the function runs",
        "  repair:   make a new container and return it"]


def test_traced_arrays_cannot_be_stored_outside():
    class Keeper:
        last = None

        @jit
        def run(self, x):
            self.last = x * 2
            return x
    with pytest.raises(weft.errors.UnsupportedError) as caught:
        Keeper().run(X)
    assert str(caught.value).splitlines()[0] == (
        "Keeper.run stores a traced array in Keeper.last, outside itself")


def test_large_containers_are_data():
    table = list(range(100_000))
    g = jit(lambda x: x * len(table))
    same(g(X), X * 100_000)
    table[5] = -1
    same(g(X), X * 100_000)
    assert len(g.records) == 1
    table.append(1)
    same(g(X), X * 100_001)


def test_arrays_reshaped_in_place():
    w = np.ones((4, 1))
    g = jit(lambda x: x + w)
    for _ in range(3):
        same(g(X[:, 0]), X[:, 0] + w)
    w.shape = (4, 1, 1)
    for _ in range(3):
        same(g(X[:, 0]), X[:, 0] + w)


def test_read_only_arrays_bound_anew():
    w = np.arange(4.0)
    w.flags.writeable = False
    g = jit(lambda x: x + w)
    same(g(X), X + w)
    w = np.arange(4.0) * 3
    w.flags.writeable = False
    for _ in range(3):
        same(g(X), X + w)


def test_functions_of_other_modules_and_objects_in_containers():
    class Layer:
        def __init__(self, w):
            self.w = w

        def __call__(self, x):
            return np.tanh(x @ (self.w * 2))

    layers = [Layer(np.eye(4, dtype=np.float32)), Layer(np.ones((4, 4), np.float32))]

    def forward(x):
        for layer in layers:
            x = layer(x)
        return x
    g = jit(forward)
    same(g(X), forward(X))
    layers[0].w[0] = 3
    layers[1].w = layers[1].w * 0.1
    same(g(X), forward(X))
    assert len(g.records) == 1
    layers.append(Layer(np.ones((4, 2), np.float32)))
    same(g(X), forward(X))


def test_user_wrappers_and_cached_helpers():
    import functools
    w = np.ones(4, np.float32)

    @functools.lru_cache
    def scale():
        return w * 2

    def twice(fn):
        @functools.wraps(fn)
        def both(x):
            return fn(fn(x))
        return both

    @jit
    @twice
    def f(x):
        return x * w + 1
    same(f(X), (X * w + 1) * w + 1)
    w = w + 1
    same(f(X), (X * w + 1) * w + 1)
    assert len(f.records) == 1 and scale() is not None


def test_partial():
    import functools
    g = jit(functools.partial(lambda a, x, b: a * x + b, 2.0, b=Y))
    same(g(X), 2.0 * X + Y)
    same(g(X, b=1.0), 2.0 * X + 1.0)
