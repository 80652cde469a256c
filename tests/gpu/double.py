"""A driver that runs generated CUDA C++ on the host, in place of CuPy's.

Arrays are NumPy's, of a class of their own, with bytes around each allocation that no kernel may
change. Machine code is what the C++ compiler makes of the text behind `emulator.h`.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from weft.devices.gpu.cublaslt import CublasLt
from weft.devices.gpu.driver import DriverError

HEADER = Path(__file__).with_name("emulator.h")
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
MARGIN = 64
FLAGS = ["-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing",
         "-fwrapv"]


class EmulatedArray:
    """An array of the emulated device, whose values NumPy cannot take by itself, as CuPy's."""

    __cuda_array_interface__: Any = None

    def __init__(self, values: np.ndarray, ordinal: int = 0) -> None:
        self.values = values
        self.shape, self.dtype, self.nbytes = values.shape, values.dtype, values.nbytes
        self.ordinal = ordinal

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("no implicit conversion of the device's arrays")

    def __float__(self) -> float:
        return float(self.values)

    def get(self) -> np.ndarray:
        """Its values, as CuPy's arrays give them."""
        return self.values.copy()


class EmulatedDriver:
    """Fulfils `Driver` on the host. `limit` bounds the memory, in bytes; `broken` and `fails` make
    it answer as a driver does that has gone wrong."""

    xp: Any = np

    def __init__(self, devices: int = 1, arch: str = "sm_90", limit: int | None = None,
                 cublaslt: bool = False, pooled: bool = False) -> None:
        self.pool: dict[int, list[np.ndarray]] | None = {} if pooled else None
        self.library = fake_cublaslt() if cublaslt else None
        self.devices = devices
        self.arch = arch
        self.limit = limit
        self.held = 0
        self.rates = (0.0, 0.0)     # see `clocks`: not said
        self._here = threading.local()      # the current device and stream
        self.used: set[tuple[str, int]] = set()     # what was done, and on which stream
        self.lost = False
        self.order = random.Random(0)       # of what graphs leave open
        self._pinned: list[np.ndarray] = []
        self._late: list[Callable[[], Any]] = []
        self.eager = True
        self.user_captures = False
        self.recorded: list[Callable[[], Any]] | None = None
        self.captured = self.replayed = 0
        self.launches: list[tuple[int, int]] = []
        self.built = 0
        self.reads = 0
        self._libraries: list[Any] = []
        self._blocks: list[tuple[Any, int, int]] = []
        self._names: dict[int, Any] = {}
        self._shared: dict[int, int] = {}   # bytes that a function may be launched with

    def count(self) -> int:
        return self.devices

    def name(self, ordinal: int) -> str:
        return "emulated"

    def architecture(self, ordinal: int) -> str:
        return self.arch

    def processors(self, ordinal: int) -> int:
        return 4

    def clocks(self, ordinal: int) -> tuple[float, float]:
        return self.rates

    def memory(self, ordinal: int) -> tuple[int, int]:
        return self.held, self.limit or 1 << 40

    @contextmanager
    def use(self, ordinal: int) -> Iterator[None]:
        before, self._here.ordinal = self.ordinal, ordinal
        try:
            yield
        finally:
            self._here.ordinal = before

    @property
    def ordinal(self) -> int:
        return getattr(self._here, "ordinal", 0)

    @property
    def eager(self) -> bool:
        """Whether the host is told at once of what happens on the device, or when it waits."""
        return self._eager

    @eager.setter
    def eager(self, eager: bool) -> None:
        self._eager = eager
        if eager:
            self._tell()

    def _tell(self) -> None:
        late, self._late = self._late, []
        for work in late:
            work()

    # ---- arrays

    def owns(self, value: object, ordinal: int) -> bool:
        return isinstance(value, EmulatedArray) and value.ordinal == ordinal

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if self.limit is not None and self.held + nbytes > self.limit:
            raise DriverError("memory", f"Out of memory allocating {nbytes:,} bytes", nbytes)
        self.held += nbytes
        raw = self._memory(nbytes + 3 * MARGIN)
        start = -raw.ctypes.data % MARGIN + MARGIN
        inner = raw[start:start + nbytes]
        inner[:] = 0xFF
        self._blocks = [b for b in self._blocks if b[0]() is not None]
        self._blocks.append((weakref.ref(raw), start, start + nbytes))
        return EmulatedArray(inner.view(dtype).reshape(tuple(shape)), self.ordinal)

    def _memory(self, nbytes: int) -> np.ndarray:
        """New memory; of a pool, what an array of that size had that nobody has any more."""
        if self.pool is None:
            return np.full(nbytes, 0xA5, np.uint8)
        blocks = self.pool.setdefault(nbytes, [])
        for block in blocks:
            if sys.getrefcount(block) <= 3:     # the list, the loop's variable, the argument
                return block
        blocks.append(np.full(nbytes, 0xA5, np.uint8))
        return blocks[-1]

    def pointer(self, array: Any) -> int:
        values = array.values if isinstance(array, EmulatedArray) else array
        return int(values.ctypes.data)

    def view(self, pointer: int, shape: Sequence[int], dtype: np.dtype[Any], owner: Any) -> Any:
        nbytes = max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        memory = (ctypes.c_uint8 * nbytes).from_address(pointer)
        size = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(memory, np.uint8)[:size * dtype.itemsize].view(dtype).reshape(
            tuple(shape))

    def put(self, array: np.ndarray) -> Any:
        self.used.add(("put", self.stream()))
        out = self.empty(array.shape, array.dtype)
        out.values[...] = array
        return out

    def get(self, array: Any) -> np.ndarray:
        self._alive()
        self.used.add(("get", self.stream()))
        return np.array(array.values if isinstance(array, EmulatedArray) else array)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        def work() -> None:
            if self.eager or all(p.ctypes.data != target for p in self._pinned):
                ctypes.memmove(target, source, nbytes)
            else:
                self._late.append(lambda: ctypes.memmove(target, source, nbytes))
        self._do(work)

    def zero(self, target: int, nbytes: int) -> None:
        self._do(lambda: ctypes.memset(target, 0, nbytes))

    def _do(self, work: Callable[[], Any]) -> None:
        """Do it now, or when the graph runs that is being recorded."""
        if self.recorded is None:
            work()
        else:
            self.recorded.append(work)

    def pinned(self, words: int) -> np.ndarray:
        self._pinned.append(np.zeros(words, np.int64))
        return self._pinned[-1]

    def read(self, pointer: int, nbytes: int) -> bytes:
        self.reads += 1
        return ctypes.string_at(pointer, nbytes)

    # ---- code

    def compiler(self) -> str:
        versions = [p.stat().st_mtime_ns for p in (HEADER, Path(__file__))]
        return f"{COMPILER} {' '.join(FLAGS)} {versions}"

    def build(self, source: str, arch: str, fast_math: bool) -> bytes:
        self.built += 1
        assert COMPILER, "no C++ compiler"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            (path / "code.cpp").write_text(f'#include "{HEADER}"\n{source}\n{_launchers(source)}')
            made = subprocess.run([COMPILER, *FLAGS, "-o", "code.so", "code.cpp"], cwd=path,
                                  capture_output=True, text=True)
            assert made.returncode == 0, made.stderr[:4000]
            return (path / "code.so").read_bytes()

    def load(self, image: bytes) -> Any:
        with tempfile.NamedTemporaryFile(suffix=".so", delete=False) as file:
            file.write(image)
        library = ctypes.CDLL(file.name)
        os.unlink(file.name)
        self._libraries.append(library)
        return library

    def function(self, module: Any, name: str, shared: int = 0) -> int:
        function = module[f"launch_{name}"]
        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address is not None
        function.arity = module[f"arity_{name}"]()
        self._names[address] = function
        self._shared[address] = max(shared, 48 << 10)
        return address

    def launch(self, function: int, grid: int, block: int, shared: int, params: int) -> None:
        self._alive()
        assert shared <= self._shared[function], "more shared memory than was asked for"
        name = self._names[function]
        number = name.arity
        values = (ctypes.c_int64 * number)(*(
            ctypes.c_int64.from_address(a).value
            for a in (ctypes.c_void_p * number).from_address(params)))
        own = (ctypes.c_void_p * number)(*(ctypes.addressof(values) + 8 * i for i in range(number)))

        def work() -> None:
            assert values                       # what `own` points to
            self.used.add(("launch", self.stream()))
            self.launches.append((grid, block))
            name(ctypes.c_uint(grid), ctypes.c_uint(block), ctypes.c_uint(shared), own)
            self._check_margins()
        self._do(work)

    def _check_margins(self) -> None:
        for block_of, start, end in self._blocks:
            raw = block_of()
            assert raw is None or ((raw[:start] == 0xA5).all() and (raw[end:] == 0xA5).all()), \
                "a kernel wrote beside an array"

    # ---- graphs

    def capturing(self) -> bool:
        return self.user_captures

    def capture(self, work: Callable[[Any], None]) -> Any:
        fork = Fork(self)
        self.captured += 1
        try:
            work(fork)
        finally:
            self.recorded = None
        return fork.nodes

    def replay(self, graph: Any) -> None:
        """In any order in which all that a node waits for comes before it."""
        self.replayed += 1
        done: set[int] = set()
        while len(done) < len(graph):
            ready = [i for i, (_, after) in enumerate(graph) if i not in done and after <= done]
            one = self.order.choice(ready)
            for work in graph[one][0]:
                work()
            done.add(one)

    # ---- libraries

    def strict(self) -> Any:
        return nullcontext()

    def cublaslt(self) -> CublasLt | None:
        return self if self.library is not None else None   # type: ignore[return-value]

    def matmul(self, attrs: Any, pointers: Any, ordinal: int, stream: int, workspace: Any) -> None:
        """A call of the library, which reports what it does not take at once."""
        library = self.library
        assert library is not None
        if self.recorded is None:
            library.matmul(attrs, pointers, ordinal, stream, workspace)
        else:
            place = workspace(512)              # which the caller keeps
            self._do(lambda: library.matmul(attrs, pointers, ordinal, stream, lambda _: place))

    def stream(self) -> int:
        return getattr(self._here, "stream", 0)

    @contextmanager
    def on_stream(self, stream: int) -> Iterator[None]:
        """A user's stream, made the current one."""
        before, self._here.stream = self.stream(), stream
        try:
            yield
        finally:
            self._here.stream = before

    def current(self) -> Any:
        return self.on_stream(self.stream())

    # ---- time

    def record(self) -> Any:
        return None

    def finish(self, mark: Any) -> None:
        self._alive()
        self._tell()

    def _alive(self) -> None:
        if self.lost:
            raise DriverError("lost", "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was "
                                      "encountered")


class Fork:
    """A graph that is being recorded: nodes of work, each with those that it waits for."""

    def __init__(self, driver: EmulatedDriver) -> None:
        self._driver = driver
        self._ends: dict[int, int] = {}         # the last node of each lane
        self._numbers: dict[int, int] = {}      # the nodes of steps that others wait for
        self.nodes: list[tuple[list[Callable[[], Any]], set[int]]] = []
        self._main = self._node(set())

    def _node(self, after: set[int]) -> int:
        self.nodes.append(([], after))
        self._driver.recorded = self.nodes[-1][0]
        return len(self.nodes) - 1

    @contextmanager
    def step(self, number: int, place: Any) -> Iterator[None]:
        before = self._ends.get(place.lane, self._main)
        node = self._node({before, *(self._numbers[n] for n in place.after)})
        self._ends[place.lane] = node
        yield
        if place.told:
            self._numbers[number] = node

    def join(self) -> None:
        self._main = self._node({self._main, *self._ends.values()})


@cache
def fake_cublaslt() -> CublasLt:
    """cuBLASLt, played by `cublaslt.cpp`."""
    assert COMPILER, "no C++ compiler"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "double.so"
        subprocess.run([COMPILER, "-O2", "-std=c++17", "-shared", "-fPIC", "-o", str(path),
                        str(HEADER.with_name("cublaslt.cpp"))], check=True)
        return CublasLt(ctypes.CDLL(str(path)))


def _launchers(source: str) -> str:
    """A function for each kernel that launches it."""
    parts = re.split(r'(?=^extern "C" __global__)', source, flags=re.M)[1:]
    out = []
    for part in parts:
        head = r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\('
        found = re.match(head, part)
        assert found
        meet = "true" if re.search(r"w_join|w_shuffle|__sync|__shfl", part) else "false"
        call = f"emulated_launch<{meet}>({found[1]}, grid, block, shared, params)"
        out.append(f'extern "C" void launch_{found[1]}(unsigned grid, unsigned block, '
                   f"unsigned shared, void** params) {{ {call}; }}")
        out.append(f'extern "C" int arity_{found[1]}() {{ return arity({found[1]}); }}')
    count = "template<class... A> int arity(void (*)(A...)) { return sizeof...(A); }"
    return "\n".join([count, *out])
