"""`with weft.device(...)` inside of the bodies of loops and branches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import weft
from tests.devices.toy import ToyArray, toys
from weft.compiler.text import parse
from weft.devices.registry import get_device

X = np.linspace(-1.0, 2.0, 12).reshape(3, 4)
W = np.linspace(0.5, 1.5, 16).reshape(4, 4) / 4


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    with toys():
        yield


def unplaced(name: str) -> Any:
    """In the place of `weft.device`, for what is expected."""
    return nullcontext()


Placer = Callable[[str], Any]


def scanned(x: Any, w: Any, device: Placer) -> Any:
    """A carry on another device, rows that are read, and what is collected."""
    def body(c: Any, v: Any) -> Any:
        with device("toy"):
            a = np.tanh(c @ w)
        return a, np.cos(v) + a.sum()
    return weft.scan(body, x, x)


def backwards(x: Any, w: Any, device: Placer) -> Any:
    def body(c: Any, v: Any) -> Any:
        with device("toy"):
            y = v @ w + c
        with device("toy:1"):
            z = np.sin(y)
        return c + 1, (y + z, z)
    return weft.scan(body, np.ones(4), x, reverse=True)


def counted(x: Any, w: Any, device: Placer) -> Any:
    def body(i: Any, c: Any) -> Any:
        a, b = c
        with device("toy"):
            a = np.tanh(a @ w) + i
        b = b + a.sum(axis=0)
        return a, b
    return weft.fori_loop(0, 4, body, (x, w[0]))


def awhile(x: Any, w: Any, device: Placer) -> Any:
    """The condition reads what the other device makes."""
    def body(c: Any) -> Any:
        y, n = c
        with device("toy"):
            y = np.exp(y * 0.1) + y
        return y, n + w.sum(axis=1)
    return weft.while_loop(lambda c: c[0].sum() < 100, body, (x, w[0]))


def branches(x: Any, w: Any, device: Placer) -> Any:
    def left(y: Any) -> Any:
        with device("toy"):
            y = np.exp(y)
        return y @ w, y

    def right(y: Any) -> Any:
        return y, np.cos(y)
    a, b = weft.cond(x.sum() > 0, left, right, x)
    c, d = weft.cond(x.sum() < 0, left, right, x)
    return a + c, b + d


def mapped(x: Any, w: Any, device: Placer) -> Any:
    def row(v: Any) -> Any:
        with device("toy"):
            y = np.exp(v) @ w
        return y - y.sum()
    return weft.map(row, x)


def nested(x: Any, w: Any, device: Placer) -> Any:
    """A loop in a branch in a loop."""
    def body(c: Any, v: Any) -> Any:
        def turn(i: Any, y: Any) -> Any:
            with device("toy"):
                y = np.sin(y)
            return y * np.cos(v)

        def often(y: Any) -> Any:
            return weft.fori_loop(0, 3, turn, y) + w[0]
        c = weft.cond(v.sum() > 0, often, lambda y: y + 1, c)
        return c, c * 2
    return weft.scan(body, np.ones(4), x)


def in_a_part(x: Any, w: Any, device: Placer) -> Any:
    """A loop in a block, with blocks in its body."""
    with device("toy"):
        p = x + 1

        def body(c: Any, v: Any) -> Any:
            with device("toy:1"):
                a = np.tanh(c @ w)
            with device("cpu"):
                b = a * 2
            return a + b.sum(), v * b[0]
        c, ys = weft.scan(body, p, x)
        q = c * 2
    return q + p, ys


def swapped(x: Any, w: Any, device: Placer) -> Any:
    """Carries that change places, stay as they are, or are the same."""
    def body(i: Any, c: Any) -> Any:
        a, b, d, _ = c
        with device("toy"):
            f = np.sin(a) + b
        return b, f + np.cos(f).sum(), d, f
    return weft.fori_loop(0, 5, body, (x, x + 1, x, x))


def same(x: Any, w: Any, device: Placer) -> Any:
    def body(i: Any, c: Any) -> Any:
        a, b = c
        y = np.sin(a) + b
        with device("reference"):
            z = np.cos(y) @ w
        y = y + z
        return y, y
    return weft.fori_loop(0, 5, body, (x, x))


def never(x: Any, w: Any, device: Placer) -> Any:
    def body(c: Any, v: Any) -> Any:
        with device("toy"):
            c = c @ w
        return c + x, c.sum() + v
    return weft.scan(body, x, np.ones((0, 3)))


FUNCTIONS = [scanned, backwards, counted, awhile, branches, mapped, nested, in_a_part, swapped,
             same, never]


def flat(value: Any) -> list[Any]:
    if not isinstance(value, tuple | list):
        return [value]
    return [leaf for v in value for leaf in flat(v)]


def there(value: Any) -> Any:
    return get_device("toy").memory.get(value) if isinstance(value, ToyArray) else value


@pytest.mark.parametrize("home", ["cpu", "toy", "reference"])
@pytest.mark.parametrize("fn", FUNCTIONS)
def test_values(fn: Any, home: str) -> None:
    f = weft.jit(lambda x, w: fn(x, w, weft.device), device=home)
    x, w = X.copy(), W.copy()
    want = flat(weft.jit(lambda x, w: fn(x, w, unplaced))(X, W))
    for _ in range(2):
        for got, due in zip(flat(f(x, w)), want, strict=True):
            assert isinstance(got, ToyArray) or home != "toy"
            np.testing.assert_allclose(there(got), due, rtol=1e-12)
            assert not (isinstance(got, np.ndarray) and np.shares_memory(got, x))
        np.testing.assert_array_equal(x, X)         # nothing of the caller's is overwritten
        np.testing.assert_array_equal(w, W)


TRANSFORMS: dict[str, Any] = {
    "grad": lambda f: lambda x, w: weft.grad(lambda x, w: total(f(x, w)), argnums=(0, 1))(x, w),
    "jvp": lambda f: lambda x, w: weft.jvp(lambda w: f(x, w), (w,), (w + 1,)),
    "vmap": lambda f: lambda x, w: weft.vmap(f, in_axes=(0, None))(np.stack([x, x + 1]), w),
    "vmap of grad": lambda f: lambda x, w: weft.vmap(
        weft.grad(lambda x, w: total(f(x, w))), in_axes=(0, None))(np.stack([x, x * 0.5]), w),
    "checkpoint": lambda f: lambda x, w: weft.grad(
        lambda x, w: total(weft.checkpoint(f)(x, w)))(x, w),
    "grad of grad": lambda f: lambda x, w: weft.grad(lambda x: (weft.grad(
        lambda x: total(f(x, w)))(x) ** 2).sum())(x),
    "scan": lambda f: lambda x, w: weft.scan(
        lambda c, _: (c * 0.5, total(f(c, w))), x, None, length=2),
}


def total(value: Any) -> Any:
    return sum((leaf * 1.5).sum() for leaf in flat(value))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("fn", [f for f in FUNCTIONS if f is not never])
def test_transforms(fn: Any, transform: str) -> None:
    """The values are those without places, and derivatives of a part are on the part's device."""
    if fn is awhile and transform not in ("jvp", "vmap", "scan"):
        pytest.skip("loops of unknown length have no derivative by reverse mode")
    made = TRANSFORMS[transform]
    f = weft.jit(made(lambda x, w: fn(x, w, weft.device)))
    want = weft.jit(made(lambda x, w: fn(x, w, unplaced)))(X, W)
    for a, b in zip(flat(f(X, W)), flat(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    used = {p.name.rpartition(".")[0] for p in f.lower(X, W).lowered.all_parts}
    assert used >= {"reference" if fn is same else "toy"}


# ---- where they are

def scheduled(f: Any, *args: Any) -> list[str]:
    """The schedule without the lines' origins, and names of values as ``%``."""
    text = f.lower(*args).text("schedule")
    return [re.sub(r"%[\w.]+", "%", line.partition("  #")[0]) for line in text.splitlines()]


def test_a_loop_whose_work_is_on_one_device_moves_there() -> None:
    """Whole: it runs as one program, and counting does not keep it."""
    def f(x: Any, device: Placer = weft.device) -> Any:
        def body(i: Any, y: Any) -> Any:
            with device("toy"):
                return np.sin(y) + i
        y = weft.fori_loop(0, 3, body, x * 2)

        def step(c: Any, v: Any) -> Any:
            with device("toy"):
                return c + v, c * v
        return weft.scan(step, y[0], y)
    g = weft.jit(f)
    for got, want in zip(flat(g(X)), flat(weft.jit(lambda x: f(x, unplaced))(X))):
        np.testing.assert_allclose(got, want)
    assert [line.split(":")[0] for line in scheduled(g, X) if "run" in line] == [
        "run cpu.0", "run toy.0", "run cpu.1", "run toy.1"]
    assert "scan" in g.trace(X).optimize().text()


def test_a_branch_whose_work_is_on_one_device_moves_there() -> None:
    def f(x: Any) -> Any:
        def left(y: Any) -> Any:
            with weft.device("toy"):
                return y + 1
        return weft.cond(x[0, 0] > 0, left, left, x)
    assert [line.split(":")[0] for line in scheduled(weft.jit(f), X) if "run" in line] == [
        "run cpu.0", "run toy.0"]
    np.testing.assert_allclose(weft.jit(f)(X), X + 1)


def test_carries_stay_where_they_are_made_and_read() -> None:
    """Only what another device reads is moved at each turn; weights are moved once."""
    assert scheduled(weft.jit(lambda x, w: scanned(x, w, weft.device)), X, W) == [
        "run cpu.0: → %, %", "move %: cpu → toy, 128 bytes", "move %: cpu → toy, 96 bytes",
        "run scan.0 turn by turn: %, %, %, %, % → %, %", "  body:", "    run toy.0: %, % → %",
        "    move %: toy → cpu, 96 bytes", "    run cpu.0: %, %, %, % → %, %",
        "move %: toy → cpu, 96 bytes"]
    toy = get_device("toy").memory
    f = weft.jit(lambda x, w: scanned(x, w, weft.device))
    f(X, W)
    toy.puts = 0
    f(X, W)
    assert toy.puts == 2


def test_text_of_loops_that_the_host_drives() -> None:
    for fn in FUNCTIONS[:-1]:
        graph = weft.jit(lambda x, w, fn=fn: fn(x, w, weft.device)).trace(X, W).optimize().graph
        assert parse(graph.text()) == graph
        again = weft.jit(lambda x, w, fn=fn: fn(x, w, weft.device))
        assert again.lower(X, W).text("schedule")
        assert "turn by turn" in str(weft.explain(again, X, W)) or "a branch of" in str(
            weft.explain(again, X, W))


def test_open_sizes() -> None:
    def f(x: Any, device: Placer = weft.device) -> Any:
        def body(c: Any, v: Any) -> Any:
            with device("toy"):
                a = np.tanh(c) + v
            return a + weft.numpy.ones(x.shape[0]).sum(), a.sum() + x.shape[0]
        return weft.scan(body, np.ones(4), x, reverse=True)
    g = weft.jit(f, shapes={"x": ("B", 4)})
    for n in (1, 3, 5):
        x = np.arange(4.0 * n).reshape(n, 4) / 9
        for got, want in zip(g(x), weft.jit(lambda x: f(x, unplaced))(x)):
            np.testing.assert_allclose(got, want)
    assert len(g.history()) == 1


def test_python_loops_over_traced_values() -> None:
    """Plain `for` and `if` are loops and branches too."""
    def f(x: Any, device: Placer = weft.device) -> Any:
        y = x[0]
        for v in x:
            with device("toy"):
                y = np.tanh(y) + v
            y = y + np.cos(v)
        return y
    np.testing.assert_allclose(weft.jit(f)(X), f(X, unplaced))


def test_an_error_in_a_turn_names_the_line() -> None:
    def f(x: Any, at: Any) -> Any:
        def body(c: Any, i: Any) -> Any:
            with weft.device("toy"):
                c = np.sin(c)
            return c + x[i].sum(), c
        return weft.scan(body, x, at)
    g = weft.jit(f)
    with pytest.raises(IndexError) as caught:
        g(X, np.array([0, 1, 7]))
    assert re.sub(r"(test_placed_loops\.py:)\d+", r"\1LINE", str(caught.value)).startswith(
        "index 7 is out of bounds for axis 0 with size 3\n"
        "  at test_placed_loops.py:LINE: return c + x[i].sum(), c")
    g(X, np.array([0, 1, 2]))


def test_donated_carries() -> None:
    f = weft.jit(lambda x, w: counted(x, w, weft.device), donate="x")
    want = flat(weft.jit(lambda x, w: counted(x, w, unplaced))(X, W))
    for _ in range(2):
        for got, due in zip(flat(f(X.copy(), W)), want, strict=True):
            np.testing.assert_allclose(got, due)
