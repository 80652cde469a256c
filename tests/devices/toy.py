"""A device for tests: arrays of its own that nothing converts, two ordinals, work on a thread.

It computes by the reference. Results are handed out before they are computed; `Gate` holds them up.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from weft.compiler.types import evaluate_dim
from weft.devices import registry
from weft.devices.protocol import Device, Memory, out_of_memory
from weft.devices.reference import bind_sizes, evaluate
from weft.devices.reference.device import ReferenceDevice, ReferenceLowered

POOL = ThreadPoolExecutor(1)
OPEN = threading.Event()
OPEN.set()
LIMIT = 1 << 22         # bytes of one array


class ToyArray:
    """An array of the toy device. Nothing but the device itself gives its values away."""

    __cuda_array_interface__: Any = None        # what tells that it is some library's array

    def __init__(self, ordinal: int, shape: tuple[int, ...], dtype: np.dtype[Any],
                 values: Future[np.ndarray]) -> None:
        self.ordinal, self.shape, self.dtype = ordinal, shape, dtype
        self.values = values

    def __float__(self) -> float:
        return float(self.values.result(timeout=20))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("no implicit conversion of toy arrays")


class ToyMemory(Memory):
    def __init__(self, ordinal: int) -> None:
        self.ordinal = ordinal
        self.puts = 0

    def owns(self, value: object, /) -> bool:
        return isinstance(value, ToyArray) and value.ordinal == self.ordinal

    def put(self, array: np.ndarray, /) -> ToyArray:
        self.puts += 1
        if array.nbytes > LIMIT:
            raise out_of_memory(f"toy:{self.ordinal}", array.nbytes, 100, LIMIT)
        done: Future[np.ndarray] = Future()
        done.set_result(array.copy())
        return ToyArray(self.ordinal, array.shape, array.dtype, done)

    def get(self, array: ToyArray, /) -> np.ndarray:
        return array.values.result(timeout=20).copy()

    def wait(self, arrays: Sequence[ToyArray], /) -> None:
        for array in arrays:
            array.values.result(timeout=20)


class ToyDevice(ReferenceDevice):
    name = "toy"

    def __init__(self, ordinal: int = 0) -> None:
        self._ordinal = ordinal
        self.memory = ToyMemory(ordinal)

    @property
    def ordinal(self) -> int:
        return self._ordinal

    def count(self) -> int:
        return 2

    def describe(self) -> str:
        return "a thread"

    def lower(self, graph: Any, target: Any, donated: Sequence[int] = ()) -> Any:
        return ToyLowered(self, graph)


class ToyLowered(ReferenceLowered):
    def __init__(self, device: ToyDevice, graph: Any) -> None:
        object.__setattr__(self, "graph", graph)
        object.__setattr__(self, "device", device)

    def compile(self, cache: Any = None) -> Any:
        return ToyCompiled(self.device, self.graph)


class ToyCompiled:
    def __init__(self, device: ToyDevice, graph: Any) -> None:
        self.device, self.graph = device, graph

    def run(self, arrays: Sequence[ToyArray], /) -> list[ToyArray]:
        assert all(self.device.memory.owns(a) for a in arrays)
        sizes = bind_sizes(self.graph, [np.empty(a.shape, a.dtype) for a in arrays], None)

        def work() -> list[np.ndarray]:
            assert OPEN.wait(20)
            return evaluate(self.graph, [a.values.result() for a in arrays])

        whole = POOL.submit(work)
        return [ToyArray(self.device.ordinal, tuple(evaluate_dim(d, sizes) for d in r.shape),
                         r.dtype.numpy, _part(whole, i))
                for i, r in enumerate(self.graph.results)]

    def entry(self, spec: Any, /, cache: Any = None) -> None:
        return None


def _part(whole: Future[list[np.ndarray]], index: int) -> Future[np.ndarray]:
    part: Future[np.ndarray] = Future()

    def done(f: Future[list[np.ndarray]]) -> None:
        error = f.exception()
        if error is not None:
            part.set_exception(error)
        else:
            part.set_result(np.ascontiguousarray(f.result()[index]).reshape(
                np.shape(f.result()[index])))
    whole.add_done_callback(done)
    return part


@contextmanager
def toys(**more: Any) -> Iterator[None]:
    """There is a toy device, and what else is given by name, until the block ends."""
    kept = registry._factories, registry._devices
    registry._factories = dict(kept[0])
    registry._devices = {k: v for k, v in kept[1].items() if k in ("cpu", "reference")}
    try:
        for name, factory in {"toy": ToyDevice, **more}.items():
            registry.register_device(name, factory)
        yield
    finally:
        registry._factories, registry._devices = kept
        registry._note_owner()


def on_toy(value: Any, ordinal: int = 0) -> ToyArray:
    """A NumPy array on the toy device."""
    device: Device = registry.get_device(f"toy:{ordinal}")
    made: ToyArray = device.memory.put(np.asarray(value))
    return made
