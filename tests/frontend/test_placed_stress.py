"""Placed functions under failure, from many threads, and many times."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import weft
from tests.devices.toy import ToyArray, toys
from weft.compiler.ops.registry import OPS, OUTSIDE

PATIENCE = 60
X = np.linspace(-1.0, 2.0, 12).reshape(3, 4)


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    """The toy device; ops that a test makes are gone after it."""
    before = set(OPS)
    with toys():
        yield
    for name in set(OPS) - before:
        if name.startswith("stress_"):
            del OPS[name]
            OUTSIDE.discard(name)


def mixed(x: Any) -> Any:
    """Parts on three devices, and a loop that the host drives."""
    with weft.device("toy"):
        a = np.sin(x) @ x.T

    def body(c: Any, v: Any) -> Any:
        with weft.device("toy:1"):
            c = np.tanh(c + v)
        return c, c.sum()
    c, sums = weft.scan(body, x[0], x)
    with weft.device("reference"):
        b = np.cos(x)
    return a.sum() + b + c, sums


def by_hand(x: np.ndarray) -> Any:
    c, sums = x[0], []
    for v in x:
        c = np.tanh(c + v)
        sums.append(c.sum())
    return (np.sin(x) @ x.T).sum() + np.cos(x) + c, np.array(sums)


def test_a_thousand_calls_leave_nothing_behind() -> None:
    f = weft.jit(mixed)
    for _ in range(20):
        f(X)

    def alive() -> int:
        gc.collect()
        return sum(type(o) is ToyArray for o in gc.get_objects())
    before, threads = alive(), threading.active_count()
    for _ in range(1000):
        f(X)
    assert alive() <= before + 1 and threading.active_count() <= threads + 1


def test_calls_from_many_threads() -> None:
    """Of one function, on different values: nobody's carries or copies are another's."""
    f, wrong = weft.jit(mixed), []

    def work(seed: int) -> None:
        for i in range(25):
            x = X + seed + i / 50
            for got, want in zip(f(x), by_hand(x)):
                if not np.allclose(got, want):
                    wrong.append((seed, i))
    threads = [threading.Thread(target=work, args=(s,)) for s in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE)
    assert not any(t.is_alive() for t in threads) and not wrong


def test_an_endless_loop_ends_when_another_part_fails() -> None:
    """Whichever thread drives it; the call raises the other part's error."""
    entered = threading.Event()

    def enter(x: Any) -> Any:
        entered.set()
        return x * 1.0

    def fail(x: Any) -> Any:
        assert entered.wait(PATIENCE)
        raise ZeroDivisionError("what the user's function raises")
    turn = weft.custom_op(enter, name="stress_enter")
    bad = weft.custom_op(fail, name="stress_fail")

    def f(x: Any) -> Any:
        def body(y: Any) -> Any:
            with weft.device("reference"):
                y = turn(y)
            return np.cos(y)
        y = weft.while_loop(lambda y: y.sum() < 1e9, body, x)
        with weft.device("reference"):
            z = bad(x)
        return y + z
    g = weft.jit(f)
    for _ in range(3):
        entered.clear()
        with pytest.raises(ZeroDivisionError) as caught:
            g(X)
        assert "in the partition reference.0" in "".join(caught.value.__notes__)
    assert np.isfinite(weft.jit(mixed)(X)[0]).all()


def test_a_part_that_calls_the_function_it_is_in() -> None:
    """Calls within calls on the same devices do not wait for each other."""
    depth = 0

    def again(x: Any) -> Any:
        nonlocal depth
        depth += 1
        try:
            return g(np.array(x)) if depth < 3 else x + 1
        finally:
            depth -= 1
    op = weft.custom_op(again, name="stress_again")

    def f(x: Any) -> Any:
        with weft.device("reference"):
            a = op(x)
        with weft.device("toy"):
            b = np.sin(x)
        return a + np.cos(x) - b
    g = weft.jit(f)
    np.testing.assert_allclose(g(X), X + 1 + 3 * (np.cos(X) - np.sin(X)))
