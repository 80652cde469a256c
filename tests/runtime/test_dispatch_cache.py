"""The dispatch cache: one value a signature, values behind guards, threads, dropping."""

import threading

import pytest

from weft.runtime.dispatch import DispatchCache


def key(value):
    return type(value), value


@pytest.fixture
def cache():
    return DispatchCache(3, key)


def maker(value, guards=None, runs=None):
    def make():
        if runs is not None:
            runs.append(value)
        return value, guards or {}
    return make


def test_made_once(cache):
    runs = []
    for _ in range(3):
        assert cache.get_or_make("k", (), maker("v", runs=runs)) == "v"
    assert runs == ["v"] and cache.find("k", ()) == "v" and cache.find("other", ()) is None


def test_guards_tell_values_apart(cache):
    assert cache.get_or_make("k", (1, 5), maker("one", {0: 1})) == "one"
    assert cache.get_or_make("k", (2, 5), maker("two-five", {0: 2, 1: 5})) == "two-five"
    assert cache.find("k", (1, 7)) == "one"
    assert cache.find("k", (2, 5)) == "two-five"
    assert cache.find("k", (2, 7)) is None
    assert cache.find("k", (True, 7)) is None           # True is not 1
    assert cache.get_or_make("k", (2, 7), maker("two-seven", {0: 2, 1: 7})) == "two-seven"
    assert len(cache) == 1


def test_the_values_of_one_signature_are_bounded(cache):
    for n in range(5):
        cache.get_or_make("k", (n,), maker(n, {0: n}))
    assert [cache.find("k", (n,)) for n in range(5)] == [None, None, 2, 3, 4]


def test_the_least_recently_used_goes(cache):
    for name in "abc":
        cache.get_or_make(name, (), maker(name))
    cache.find("a", ())
    cache.get_or_make("d", (), maker("d"))
    assert [cache.find(name, ()) for name in "abcd"] == ["a", None, "c", "d"]
    assert len(cache) == 3


def test_failure_leaves_nothing(cache):
    def fail():
        raise KeyboardInterrupt
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            cache.get_or_make("k", (), fail)
    assert len(cache) == 0
    assert cache.get_or_make("k", (), maker("v")) == "v"


def test_failure_keeps_what_was_there(cache):
    cache.get_or_make("k", (1,), maker("one", {0: 1}))

    def fail():
        raise ValueError
    with pytest.raises(ValueError):
        cache.get_or_make("k", (2,), fail)
    assert cache.find("k", (1,)) == "one"


def test_move_and_hits_and_clear(cache):
    cache.get_or_make("old", (), maker("v"))
    cache.move("old", "new")
    cache.move("absent", "other")
    assert cache.find("old", ()) is None and cache.find("new", ()) == "v"
    assert cache.hits("new") == 1 and cache.hits("old") == 0
    assert list(cache.signatures()) == ["new"]
    cache.clear()
    assert len(cache) == 0


def test_a_function_that_calls_itself_while_it_is_made(cache):
    def make():
        return cache.get_or_make("k", (1,), maker("inner", {0: 1})) + "!", {0: 2}
    assert cache.get_or_make("k", (2,), make) == "inner!"


def test_threads_wait_for_the_one_that_makes(cache):
    inside, go, runs, results = threading.Event(), threading.Event(), [], []

    def make():
        runs.append(1)
        inside.set()
        go.wait(10)
        return "v", {}
    threads = [threading.Thread(target=lambda: results.append(cache.get_or_make("k", (), make)))
               for _ in range(6)]
    [t.start() for t in threads]
    inside.wait(10)
    assert cache.get_or_make("other", (), maker("w")) == "w"     # nobody waits for another key
    go.set()
    [t.join(10) for t in threads]
    assert len(runs) == 1 and results == ["v"] * 6


def test_waiting_threads_try_themselves_after_a_failure(cache):
    inside, go, results = threading.Event(), threading.Event(), []

    def fail():
        inside.set()
        go.wait(10)
        raise ValueError
    def fails():
        with pytest.raises(ValueError):
            cache.get_or_make("k", (), fail)
    first = threading.Thread(target=fails)
    first.start()
    inside.wait(10)
    second = threading.Thread(target=lambda: results.append(
        cache.get_or_make("k", (), maker("v"))))
    second.start()
    go.set()
    first.join(10), second.join(10)
    assert results == ["v"] and cache.find("k", ()) == "v"
