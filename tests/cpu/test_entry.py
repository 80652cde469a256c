"""Native entries: what they accept, what they leave to Python, and that they leak nothing."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weft.compiler.types import DTYPES, Size
from weft.devices.cpu import native
from weft.devices.cpu.alloc import LARGE_BYTES
from weft.devices.cpu.assembler import assemble
from weft.devices.cpu.callable_type import native_callable, set_entry
from weft.devices.cpu.engine import Entry, load, load_entry
from weft.devices.cpu.entry import EntrySpec, Param, Result, entry_ir
from weft.devices.cpu.host import host_target
from weft.devices.cpu.python_api import supported

pytestmark = pytest.mark.skipif(not supported(), reason="native entries are switched off here")

F32, F64, I64 = DTYPES["f32"], DTYPES["f64"], DTYPES["i64"]
B, C = Size.symbol("B"), Size.symbol("C")
MISS = "miss"


class Python:
    """The Python side of a compiled function."""

    def __init__(self, function: object = None) -> None:
        self.function = function
        self.entries: list[Entry] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._dispatch(*args, **kwargs)

    def _dispatch(self, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], str) and args[0] == "raise":
            raise KeyError("asked for")
        return MISS, args, kwargs

    def _native_error(self, status: int, *args: Any) -> Any:
        if status == 2:
            return "recovered", args
        raise IndexError(f"status {status}")

    def __get__(self, instance: object, owner: object = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


def copy_main(*moves: tuple[int, int, int], status: int | None = None, spin: int = 0) -> str:
    """A main that copies `bytes` from buffer `a` to buffer `b` for each (a, b, bytes)."""
    lines = []
    for k, (a, b, n) in enumerate(moves):
        for name, i in (("a", a), ("b", b)):
            lines += [f"%{name}p{k} = getelementptr ptr, ptr %buffers, i64 {i}",
                      f"%{name}{k} = load ptr, ptr %{name}p{k}"]
        lines.append(f"call void @llvm.memcpy.p0.p0.i64(ptr %b{k}, ptr %a{k}, i64 {n}, i1 false)")
    kind, value = ("void", "void") if status is None else ("i32", f"i32 {status}")
    return (f"define {kind} @main(ptr %buffers, ptr %sizes) nounwind {{\n  "
            + "\n  ".join(lines) + f"\n  ret {value}\n}}\n"
            "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)\n")


# out[i] = x[i] + y[i] for i < sizes[0], float32
ADD = """
define void @main(ptr %buffers, ptr %sizes) nounwind {
entry:
  %n = load i64, ptr %sizes
  %x = load ptr, ptr %buffers
  %yp = getelementptr ptr, ptr %buffers, i64 1
  %y = load ptr, ptr %yp
  %zp = getelementptr ptr, ptr %buffers, i64 2
  %z = load ptr, ptr %zp
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %j, %body ]
  %end = icmp eq i64 %i, %n
  br i1 %end, label %out, label %body
body:
  %xi = getelementptr float, ptr %x, i64 %i
  %yi = getelementptr float, ptr %y, i64 %i
  %zi = getelementptr float, ptr %z, i64 %i
  %a = load float, ptr %xi
  %b = load float, ptr %yi
  %s = fadd float %a, %b
  store float %s, ptr %zi
  %j = add i64 %i, 1
  br label %next
out:
  ret void
}
"""


def compiled(main: str, spec: EntrySpec) -> Any:
    """A callable with one native entry."""
    callable_ = native_callable(Python)()
    callable_.entries.append(load_entry(spec, load(assemble(main, host_target(), level=0))))
    assert set_entry(callable_, callable_.entries[0].address)
    return callable_


@functools.cache
def adder(release_gil: bool = False) -> Any:
    """x + y for float32 arrays of any length."""
    array = Param("array", F32, (B,))
    return compiled(ADD, EntrySpec((array, array), (Result("array", F32, (B,)),), sizes=("B",),
                                   release_gil=release_gil))


def missed(value: Any) -> bool:
    """Whether a call went to Python."""
    return isinstance(value, tuple) and len(value) == 3 and value[0] == MISS


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


# --------------------------------------------------------------------------- arrays

@pytest.mark.parametrize("release_gil", [False, True])
@pytest.mark.parametrize("n", [0, 1, 5, 1000, 200_000])
def test_arrays(n: int, release_gil: bool) -> None:
    x, y = np.arange(n, dtype=np.float32), ones(n)
    z = adder(release_gil)(x, y)
    assert type(z) is np.ndarray and z.dtype == np.float32 and z.shape == (n,)
    assert np.array_equal(z, x + y)
    assert z.flags.owndata and z.flags.writeable and z.flags.c_contiguous and z.flags.aligned
    assert z.base is None


class Sub(np.ndarray):
    """A subclass of ndarray."""


@pytest.mark.parametrize("odd", [
    None, 1, 1.5, "x", [1.0] * 4, np.float32(1), ones(4).view(Sub), np.ma.masked_array(ones(4)),
    ones(4, dtype=np.float64), ones(4).astype(">f4"), ones(4, dtype=object), ones(5), ones(4, 1),
    ones(), ones(8)[::2], ones(4)[::-1], np.zeros(17, np.uint8)[1:].view(np.float32),
    np.zeros(4, np.dtype([("a", "f4")])), np.zeros(4, "S4"), np.zeros(4, "M8[s]"), np.float32,
    ones(4, dtype=np.complex64), np.zeros((2, 2), np.float32, order="F"), np.broadcast_to(
        np.float32(1), (4,))], ids=lambda x: f"{type(x).__name__}-{getattr(x, 'dtype', '')}")
def test_anything_else_is_a_miss(odd: Any) -> None:
    f, x = adder(), ones(4)
    for args in ((odd, x), (x, odd)):
        result = f(*args)
        assert missed(result) and result[1][0] is args[0] and result[1][1] is args[1]


def test_wrong_calls_are_misses() -> None:
    f, x = adder(), ones(4)
    assert f(x, y=x) == (MISS, (x,), {"y": x})
    for args in ((), (x,), (x, x, x)):
        result = f(*args)
        assert missed(result) and len(result[1]) == len(args)
    assert f(*[x, x])[0] == 2.0 and f(*(x, x))[0] == 2.0
    with pytest.raises(KeyError, match="asked for"):
        f("raise")


def test_dtypes_that_mean_the_same() -> None:
    x = pickle.loads(pickle.dumps(ones(4)))
    x = np.ndarray((4,), copy.copy(np.dtype(np.float32)).newbyteorder("="), x.tobytes())
    z = adder()(x, ones(4))
    assert np.array_equal(z, [2, 2, 2, 2])


def test_memory_order() -> None:
    spec = EntrySpec((Param("array", F32, (2, 3)),), (Result("array", F32, (2, 3)),))
    f = compiled(copy_main((0, 1, 24)), spec)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(f(x), x)
    assert missed(f(np.asfortranarray(x))) and missed(f(x.T)) and missed(f(x.reshape(3, 2)))


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype(name: str) -> None:
    dtype = DTYPES[name]
    x = np.arange(6).reshape(3, 2).astype(dtype.numpy)
    spec = EntrySpec((Param("array", dtype, (3, 2)),), (Result("array", dtype, (3, 2)),))
    z = compiled(copy_main((0, 1, x.nbytes)), spec)(x)
    assert z.dtype == x.dtype and z.tobytes() == x.tobytes()


def test_zero_dimensions() -> None:
    spec = EntrySpec((Param("array", F64),), (Result("array", F64),))
    z = compiled(copy_main((0, 1, 8)), spec)(np.array(2.5))
    assert type(z) is np.ndarray and z.shape == () and z == 2.5


# --------------------------------------------------------------------------- sizes

def test_sizes_bind_and_compare() -> None:
    store = """
    define void @main(ptr %buffers, ptr %sizes) nounwind {
      %outp = getelementptr ptr, ptr %buffers, i64 3
      %out = load ptr, ptr %outp
      %s = load <2 x i64>, ptr %sizes, align 8
      store <2 x i64> %s, ptr %out, align 8
      ret void
    }"""
    spec = EntrySpec(
        (Param("array", F32, (2 * B + 1, 4)), Param("array", F32, (B, C)),
         Param("array", F32, (C,))),
        (Result("array", I64, (B * C + 2,)),), sizes=("C", "B"), at_least=(2, 0))
    f = compiled(store, spec)
    assert f(ones(7, 4), ones(3, 5), ones(5))[:2].tolist() == [5, 3]
    assert f(ones(7, 4), ones(3, 5), ones(5)).shape == (17,)
    assert f(ones(1, 4), ones(0, 5), ones(5))[:2].tolist() == [5, 0]
    for shapes in [((6, 4), (3, 5), (5,)), ((7, 4), (3, 5), (4,)), ((7, 3), (3, 5), (5,)),
                   ((7, 4), (3, 1), (1,))]:
        assert missed(f(*(ones(*s) for s in shapes)))


def test_sizes_that_overflow_are_misses() -> None:
    spec = EntrySpec((Param("array", F32, (B, 0)),), (Result("array", F32, (B * B * B,)),),
                     sizes=("B",))
    f = compiled(copy_main(), spec)
    assert missed(f(np.zeros((1 << 40, 0), np.float32)))
    with pytest.raises(MemoryError, match="Unable to allocate"):
        f(np.zeros((1 << 20, 0), np.float32))
    spec = EntrySpec((Param("array", F32, (B, 0)),), (Result("array", F32, (B - 5,)),),
                     sizes=("B",))
    with pytest.raises(ValueError, match="negative dimensions"):
        compiled(copy_main(), spec)(np.zeros((2, 0), np.float32))


def test_sizes_must_be_given_by_a_parameter() -> None:
    with pytest.raises(ValueError, match="no parameter gives the size C"):
        entry_ir(EntrySpec((Param("array", F32, (B,)),), (), "none", sizes=("B", "C")))
    with pytest.raises(ValueError, match="no parameter gives the size B"):
        entry_ir(EntrySpec((Param("array", F32, (2 * B,)),), (), "none", sizes=("B",)))


# --------------------------------------------------------------------------- scalars

@pytest.mark.parametrize("name", DTYPES)
def test_numpy_scalars(name: str) -> None:
    dtype = DTYPES[name]
    spec = EntrySpec((Param("npscalar", dtype),), (Result("scalar", dtype),))
    f = compiled(copy_main((0, 1, dtype.itemsize)), spec)
    for value in (0, 1, 100):
        x = dtype.numpy.type(value)
        y = f(x)
        assert type(y) is type(x) and y == x
    assert missed(f(np.asarray(x))) and missed(f(3)) and missed(f(None))


@pytest.mark.parametrize("kind, size, good, bad", [
    ("pyfloat", 8, [0.0, -1.5, float("inf"), 1e300], [1, True, None, np.float64(1), "1"]),
    ("pyint", 8, [0, -1, 2**63 - 1, -2**63], [2**63, -2**63 - 1, 2**200, True, 1.0, np.int64(1)]),
    ("pybool", 1, [True, False], [0, 1, None, np.bool_(True)]),
    ("pycomplex", 16, [1 + 2j, -0.5j], [1.0, 1, np.complex128(1)])])
def test_python_scalars(kind: Any, size: int, good: list[Any], bad: list[Any]) -> None:
    spec = EntrySpec((Param(kind),), (Result(kind),))
    f = compiled(copy_main((0, 1, size)), spec)
    for value in good:
        assert f(value) == value and type(f(value)) is type(value)
    for value in bad:
        assert missed(f(value))


def test_specialised_values() -> None:
    spec = EntrySpec((Param("equal_int", value=-3), Param("equal_bool", value=1), Param("none"),
                      Param("pyint")), (Result("pyint"),))
    f = compiled(copy_main((3, 4, 8)), spec)
    assert f(-3, True, None, 7) == 7
    for args in ((3, True, None, 7), (-3, False, None, 7), (-3, True, 0, 7), (-3, 1, None, 7),
                 (-3.0, True, None, 7), (2**70, True, None, 7)):
        assert missed(f(*args))


# --------------------------------------------------------------------------- results

@pytest.mark.parametrize("structure", ["tuple", "list", "none"])
def test_several_results(structure: Any) -> None:
    spec = EntrySpec((Param("array", F32, (2,)), Param("pyfloat")),
                     (Result("array", F32, (2,)), Result("pyfloat"), Result("alias", param=0),
                      Result("scalar", F64)), structure)
    f = compiled(copy_main((0, 2, 8), (1, 3, 8), (1, 5, 8)), spec)
    x = ones(2)
    y = f(x, 2.5)
    if structure == "none":
        assert y is None
    else:
        assert type(y).__name__ == structure and len(y) == 4
        assert np.array_equal(y[0], x) and y[1] == 2.5 and y[2] is x and type(y[3]) is np.float64


def test_written_parameters() -> None:
    spec = EntrySpec((Param("array", F32, (4,), writeable=True), Param("array", F32, (4,))),
                     (Result("alias", param=0),))
    f = compiled(copy_main((1, 0, 16)), spec)
    both = np.zeros(8, np.float32)
    both[4:] = 7
    x, y = both[:4], both[4:]
    assert f(x, y) is x and (both == 7).all()
    assert missed(f(x, x)) and missed(f(both[1:5], both[2:6])) and missed(f(both[2:6], both[1:5]))
    fixed = ones(4)
    fixed.flags.writeable = False
    assert missed(f(fixed, y)) and f(x, fixed) is x


def test_large_results_recycle_memory() -> None:
    n = LARGE_BYTES
    x, f = ones(n), adder()
    native.release_memory()
    z = f(x, x)
    first, before = z.ctypes.data, native.memory_stats()
    assert z.flags.owndata and z.ctypes.data % 64 == 0
    del z
    assert native.memory_stats().kept_blocks == before.kept_blocks + 1
    z = f(x, x)
    assert z.ctypes.data == first and (z == 2).all()
    z.resize(2 * n)  # NumPy asks our handler to grow the block
    assert (z[:n] == 2).all() and not z[n:].any()
    view = z[5:10]
    del z
    assert (view == 2).all()
    del view
    native.release_memory()


def test_status() -> None:
    for status, expected in ((0, None), (2, "recovered"), (3, "status 3")):
        spec = EntrySpec((Param("array", F32, (2,)),), (Result("array", F32, (2,)),), status=True)
        f = compiled(copy_main((0, 1, 8), status=status), spec)
        x = ones(2)
        if status == 3:
            with pytest.raises(IndexError, match="status 3"):
                f(x)
        elif status == 2:
            word, args = f(x)
            assert word == expected and args[0] is x
        else:
            assert np.array_equal(f(x), x)


# --------------------------------------------------------------------------- the callable

def test_entries_form_a_chain() -> None:
    f = native_callable(Python)()
    for dtype in (F32, F64):
        spec = EntrySpec((Param("array", dtype, (2,)),), (Result("scalar", dtype),))
        main = load(assemble(copy_main((0, 1, dtype.itemsize)), host_target(), level=0))
        f.entries.append(load_entry(spec, main))
    f.entries[0].set_next(f.entries[1].address)
    assert missed(f(ones(2)))
    set_entry(f, f.entries[0].address)
    assert type(f(ones(2))) is np.float32 and type(f(ones(2, dtype=np.float64))) is np.float64
    assert missed(f(ones(2, dtype=np.int32)))
    set_entry(f, 0)
    assert missed(f(ones(2)))


def test_instances_are_ordinary_objects() -> None:
    cls = native_callable(Python)
    assert cls is native_callable(Python) and issubclass(cls, Python)
    assert (cls.__name__, cls.__module__, cls.__doc__) == ("Python", __name__, Python.__doc__)

    def user(x: object) -> None:
        """What the user wrote."""

    f = functools.update_wrapper(cls(user), user)
    assert f.__doc__ == "What the user wrote." and f.__wrapped__ is user and f.function is user
    assert callable(f) and f.__call__(1) == f(1) == (MISS, (1,), {})

    class Model:
        method = f

    model = Model()
    assert model.method(2) == (MISS, (model, 2), {}) and Model.method is f
    set_entry(f, adder().entries[0].address)
    assert model.method(3) == (MISS, (model, 3), {})
    assert next(map(f, [ones(2)], [ones(2)]))[0] == 2
    assert not set_entry(object(), 0) and not set_entry(Python(), 0)


def test_instances_are_collected() -> None:
    cls = native_callable(Python)
    f = cls()
    f.itself = f
    seen = weakref.ref(f)
    del f
    gc.collect()
    assert seen() is None
    count = sys.getrefcount(cls)
    for _ in range(1000):
        cls()
    gc.collect()
    assert abs(sys.getrefcount(cls) - count) < 5


def test_python_subclass_of_the_callable() -> None:
    class More(native_callable(Python)):  # type: ignore[misc]
        extra = 5

    f = More()
    f.note = 1
    assert f.extra == 5 and missed(f(1))


# --------------------------------------------------------------------------- threads and leaks

def test_calls_from_several_threads() -> None:
    f, good = adder(True), []

    def call() -> None:
        x = np.arange(1000, dtype=np.float32)
        good.append(all(np.array_equal(f(x, x), 2 * x) for _ in range(500)))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for c in callers:
        c.start()
    for c in callers:
        c.join(20)
    assert good == [True] * 4


def resident() -> int:
    """Bytes of memory in use, 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def repeat(call: Callable[[], object], n: int) -> int:
    """The growth of memory over n calls, after some to warm up."""
    for _ in range(2000):
        call()
    gc.collect()
    before = resident()
    for _ in range(n):
        call()
    gc.collect()
    return resident() - before


def test_nothing_leaks() -> None:
    spec = EntrySpec(
        (Param("array", F32, (B,)), Param("npscalar", F64), Param("pyfloat"), Param("pyint")),
        (Result("array", F32, (B,)), Result("scalar", F64), Result("alias", param=0),
         Result("pyfloat"), Result("pyint")), "tuple", sizes=("B",), status=True)
    main = copy_main((0, 4, 64), (1, 5, 8), (2, 7, 8), (3, 8, 8), status=0)
    bad = copy_main(status=2)
    f, g = compiled(main, spec), compiled(bad, spec)
    args = (ones(100), np.float64(2.5), 1e100, 10**12)
    watched = [*args, np.dtype(np.float32), np.dtype(np.float64), np.ndarray, f, g]
    counts = [sys.getrefcount(w) for w in watched]
    grown = repeat(lambda: f(*args), 30_000)
    grown += repeat(lambda: f(*args[:3], None), 10_000)
    grown += repeat(lambda: g(*args), 10_000)
    x = ones(LARGE_BYTES // 4)
    grown += repeat(lambda: adder()(x, x), 100)
    assert [sys.getrefcount(w) for w in watched] == pytest.approx(counts, abs=3)
    assert grown < 4 << 20
