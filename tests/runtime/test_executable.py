"""Arguments made canonical, results as Python objects, native entries' signatures."""

from dataclasses import dataclass

import numpy as np
import pytest

from weft.compiler.text import parse
from weft.devices.cpu.compiled import Facts, Status
from weft.runtime import native
from weft.runtime.arrays import canonical, is_canonical, prepare
from weft.runtime.entry_signature import entry_spec
from weft.runtime.executable import Executable
from weft.runtime.native import EntryChain

X = np.arange(12, dtype=np.float32).reshape(3, 4)


@dataclass(frozen=True)
class Out:
    kind: str
    index: int = 0
    value: object = None


class Echo:
    """A program that returns its arguments, and notes them."""

    def run(self, given):
        self.given = list(given)
        return [np.array(a) for a in given]

    def entry(self, spec, cache=None):
        return None


def layouts():
    raw = np.zeros(4 * 12 + 1, np.uint8)
    misaligned = raw[1:].view(np.float32).reshape(3, 4)
    misaligned[:] = X
    return [X.T, X[::-1], X[:, ::2], X.astype(">f4"), misaligned, np.broadcast_to(X[0], (3, 4)),
            np.zeros((0, 3), np.float32).T, np.array(3, ">i2")]


@pytest.mark.parametrize("value", layouts(), ids=range(len(layouts())))
def test_canonical(value):
    made = canonical(value)
    assert is_canonical(made) and made.dtype == value.dtype.newbyteorder("=")
    assert made.shape == value.shape
    np.testing.assert_array_equal(made, value)


def test_canonical_arrays_are_not_copied():
    frozen = X.copy()
    frozen.flags.writeable = False
    for value in (X, frozen, X[1:], np.array(3.0), np.zeros((0, 4))):
        assert canonical(value) is value


def test_prepare():
    class Mine(np.ndarray):
        pass
    a, b, c, d = prepare([X.view(Mine), 2, np.float32(3), True],
                         list(map(np.dtype, ("f4", "i8", "f4", "?"))))
    assert type(a) is np.ndarray and np.shares_memory(a, X)
    assert [(v.dtype, v.shape, v.item()) for v in (b, c, d)] == [
        (np.int64, (), 2), (np.float32, (), 3.0), (np.bool_, (), True)]


def test_results_by_kind():
    outputs = [Out("array", 0), Out("scalar", 1), Out("int", 2), Out("argument", 0),
               Out("static", -1, "text"), Out("float", 3)]
    run = Executable(Echo(), list(map(np.dtype, ("f4", "f4", "i8", "f8"))), outputs, tuple)
    given = [X, np.float32(2), 3, 4.5]
    array, scalar, integer, argument, static, number = run(given)
    assert array is not X and array.dtype == np.float32
    assert type(scalar) is np.float32 and type(integer) is int and type(number) is float
    assert argument is X and static == "text"


def test_hidden_arguments_are_read_at_every_call():
    held = [X]
    program = Echo()
    run = Executable(program, [np.dtype("f4")] * 2, [Out("array", 1)], list,
                     [lambda: held[0]], plain=True)
    run([X])
    held[0] = X.T
    np.testing.assert_array_equal(run([X])[0], X.T)
    assert program.given[1].flags.c_contiguous


def test_plain_arrays_are_passed_as_they_are():
    program = Echo()
    run = Executable(program, [np.dtype("f4")], [Out("array")], list, plain=True, single=True)
    assert isinstance(run([X]), np.ndarray)
    assert program.given[0] is X
    run([X.T])
    assert program.given[0].flags.c_contiguous


# ---- entries

GRAPH = parse("graph @f(%x: f32[B, 3], %n: i64[]) -> (f32[B, 3]) {\n"
              "  %y = exp %x : f32[B, 3]\n  return %y\n}")
def facts(work=100, fails=True):
    statuses = {1: Status("index", 0, 3, None)} if fails else {}
    return Facts(tuple(p.tensor for p in GRAPH.params), ((0, GRAPH.results[0].tensor),), (0,),
                 ("B",), statuses, (), 1, work)


PARAMS = [("array", GRAPH.params[0].tensor), ("int", GRAPH.params[1].tensor)]


def test_the_signature_of_an_entry():
    spec = entry_spec(PARAMS, {1: 4}, [Out("array")], GRAPH, "single", facts())
    assert [(p.kind, p.value) for p in spec.params] == [("array", 0), ("equal_int", 4)]
    assert (spec.sizes, spec.status, spec.release_gil) == (("B",), True, False)
    assert entry_spec(PARAMS, {}, [Out("array")], GRAPH, "list", facts(10**9, False)).release_gil


@pytest.mark.parametrize("outputs, structure, specialized", [
    ([Out("array")], None, {}),
    ([Out("argument")], "single", {}),
    ([Out("static")], "single", {}),
    ([Out("array"), Out("array")], "tuple", {}),
    ([Out("array")], "single", {1: 2.5}),
])
def test_calls_that_only_python_can_make(outputs, structure, specialized):
    assert entry_spec(PARAMS, specialized, outputs, GRAPH, structure, facts()) is None


def test_devices_without_entries():
    spec = entry_spec(PARAMS, {}, [Out("array")], GRAPH, "single", facts())
    chain = EntryChain()
    assert chain.add(object(), Echo(), spec) is None and len(chain) == 0


def test_an_entry_for_sizes_that_cannot_be_told_is_none():
    class Refuses(Echo):
        def entry(self, spec, cache=None):
            raise ValueError("no parameter gives the size B")
    spec = entry_spec(PARAMS, {}, [Out("array")], GRAPH, "single", facts())
    assert EntryChain().add(object(), Refuses(), spec) is None


def test_chains_are_bounded(monkeypatch):
    class Entry:
        address = 0

        def set_next(self, address):
            pass

    class Makes(Echo):
        def entry(self, spec, cache=None):
            return Entry()
    monkeypatch.setattr(native, "set_entry", lambda function, address: True)
    spec = entry_spec(PARAMS, {}, [Out("array")], GRAPH, "single", facts())
    chain = EntryChain()
    added = [chain.add(object(), Makes(), spec) is not None for _ in range(20)]
    assert added == [True] * 16 + [False] * 4 and len(chain) == 16
