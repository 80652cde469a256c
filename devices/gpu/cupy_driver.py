"""The driver over CuPy: its pool, its current streams, its driver API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import cupy
import cupyx
import numpy as np
from cupy.cuda import driver as api
from cupy.cuda import runtime

from weft.devices.gpu.cublaslt import CublasLt, find_cublaslt
from weft.devices.gpu.driver import DriverError, Fork, HostArray
from weft.devices.gpu.lanes import Place
from weft.devices.gpu.nvrtc import image_for, nvrtc_version

__all__ = ["CupyDriver"]

_MEMORY = 2                             # cudaErrorMemoryAllocation
_SHARED = 48 << 10                     # bytes of shared memory that a block may have unasked
_OLD = 35                               # cudaErrorInsufficientDriver
_CLOCKS = (13, 36, 37)                  # cudaDevAttr: ClockRate, MemoryClockRate (kHz), bus (bits)
_ABSENT = (34, 100)                     # a stub of the driver's library; no device


class CupyDriver:
    """What CuPy offers, as `Driver` has it."""

    xp: Any = cupy

    def __init__(self) -> None:
        """Raises `DriverError` where there is no driver, an old one, or no device."""
        have, need = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if have == 0:
            raise DriverError("absent", "there is no NVIDIA driver")
        if have // 1000 < need // 1000:
            raise DriverError("old", f"the NVIDIA driver is for CUDA {_version(have)}, "
                                     f"CuPy for CUDA {_version(need)}")
        with _translated():
            if runtime.getDeviceCount() == 0:
                raise DriverError("absent", "the NVIDIA driver knows no device")

    def count(self) -> int:
        """How many devices there are."""
        with _translated():
            return int(runtime.getDeviceCount())

    def name(self, ordinal: int) -> str:
        """What a device is called."""
        with _translated():
            return str(runtime.getDeviceProperties(ordinal)["name"].decode())

    def architecture(self, ordinal: int) -> str:
        """The device's own."""
        return _architecture(ordinal)

    def processors(self, ordinal: int) -> int:
        """How many multiprocessors a device has."""
        with _translated():
            return int(runtime.getDeviceProperties(ordinal)["multiProcessorCount"])

    def clocks(self, ordinal: int) -> tuple[float, float]:
        """By the rates of both clocks and the width of the bus, on both edges of the clock."""
        core, memory, width = (_attribute(which, ordinal) for which in _CLOCKS)
        return core * 1e3, 2 * memory * 1e3 * width / 8

    def memory(self, ordinal: int) -> tuple[int, int]:
        """Bytes in use by CuPy's pool, and of the device in all."""
        with cupy.cuda.Device(ordinal):
            _, total = runtime.memGetInfo()
            return int(cupy.get_default_memory_pool().used_bytes()), int(total)

    def use(self, ordinal: int) -> Any:
        """Make a device the current one for a while."""
        return cupy.cuda.Device(ordinal)

    # ---- arrays

    def owns(self, value: object, ordinal: int) -> bool:
        """Whether it is a `cupy.ndarray` on this device."""
        return isinstance(value, cupy.ndarray) and value.device.id == ordinal

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """A new array from CuPy's pool."""
        with _translated():
            return cupy.empty(tuple(shape), dtype)

    def pointer(self, array: Any) -> int:
        """Where an array begins."""
        return int(array.data.ptr)

    def view(self, pointer: int, shape: Sequence[int], dtype: np.dtype[Any], owner: Any) -> Any:
        """An array over memory that `owner` keeps."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        here = runtime.getDevice()        # which a pointer to nothing does not say
        memory = cupy.cuda.UnownedMemory(pointer, max(1, nbytes), owner, here)
        return cupy.ndarray(tuple(shape), dtype, cupy.cuda.MemoryPointer(memory, 0))

    def put(self, array: HostArray) -> Any:
        """A copy on the current device."""
        with _translated():
            return cupy.array(array, order="C")

    def get(self, array: Any) -> HostArray:
        """A copy on the host."""
        with _translated():
            found: HostArray = array.get()
            return found

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy memory, on the current stream."""
        with _translated():
            runtime.memcpyAsync(target, source, nbytes, runtime.memcpyDefault,
                                cupy.cuda.get_current_stream().ptr)

    def zero(self, target: int, nbytes: int) -> None:
        """Fill memory with zeros, on the current stream."""
        with _translated():
            runtime.memsetAsync(target, 0, nbytes, cupy.cuda.get_current_stream().ptr)

    def pinned(self, words: int) -> HostArray:
        """From CuPy's pool of page-locked memory."""
        with _translated():
            return np.frombuffer(cupy.cuda.alloc_pinned_memory(8 * words), np.int64, words)

    def read(self, pointer: int, nbytes: int) -> bytes:
        """The contents of memory, behind what is in the current stream."""
        host = np.empty(nbytes, np.uint8)
        with _translated():
            stream = cupy.cuda.get_current_stream()
            runtime.memcpyAsync(host.ctypes.data, pointer, nbytes, runtime.memcpyDeviceToHost,
                                stream.ptr)
            stream.synchronize()
        return host.tobytes()

    # ---- code

    def compiler(self) -> str:
        """NVRTC with its version."""
        return f"NVRTC {nvrtc_version()}"

    def build(self, source: str, arch: str, fast_math: bool) -> bytes:
        """Machine code, by NVRTC."""
        return image_for(source, arch, fast_math)

    def load(self, image: bytes) -> Any:
        """Machine code, loaded on the current device."""
        module = cupy.cuda.function.Module()
        with _translated():
            module.load(image)
        return module

    def function(self, module: Any, name: str, shared: int = 0) -> int:
        """A kernel of loaded code, launched with so many bytes of dynamic shared memory."""
        with _translated():
            found = int(module.get_function(name).ptr)
            if shared > _SHARED:
                api.funcSetAttribute(found, api.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                     shared)
                api.funcSetAttribute(
                    found, api.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100)
            return found

    def launch(self, function: int, grid: int, block: int, shared: int, params: int) -> None:
        """Run a kernel on the current stream."""
        with _translated():
            api.launchKernel(function, grid, 1, 1, block, 1, 1, shared,
                             cupy.cuda.get_current_stream().ptr, params, 0)

    # ---- graphs

    def capturing(self) -> bool:
        """Whether the current stream is being captured."""
        stream = cupy.cuda.get_current_stream()
        return stream.ptr != 0 and bool(stream.is_capturing())

    def capture(self, work: Callable[[Fork], None]) -> Any:
        """A CUDA graph, captured on streams of its own: the default one cannot be.

        Relaxed, so that the pool may get memory meanwhile, here and on other threads.
        """
        stream = cupy.cuda.Stream(non_blocking=True)
        with _translated(), stream:
            stream.begin_capture(runtime.streamCaptureModeRelaxed)
            try:
                work(_Fork(stream))
            except BaseException:
                with suppress(Exception):       # it says that the capture is not valid
                    stream.end_capture()
                raise
            return stream.end_capture()

    def replay(self, graph: Any) -> None:
        """Launch a graph on the current stream."""
        with _translated():
            graph.launch()

    # ---- libraries

    def strict(self) -> Any:
        """CuPy looks at what cuSOLVER says only if it is asked to."""
        return cupyx.errstate(linalg="raise")

    def cublaslt(self) -> CublasLt | None:
        """That of the CUDA that CuPy uses."""
        return _cublaslt()

    def stream(self) -> int:
        """CuPy's current stream."""
        return int(cupy.cuda.get_current_stream().ptr)

    def current(self) -> Any:
        """The same, as what makes it current in another thread."""
        return cupy.cuda.get_current_stream()

    # ---- time

    def record(self) -> Any:
        """An event behind what is in the current stream."""
        event = cupy.cuda.Event(disable_timing=True)
        with _translated():
            event.record()
        return event

    def finish(self, mark: Any) -> None:
        """Wait for the event."""
        with _translated():
            mark.synchronize()


class _Fork:
    """Streams that are captured with the first of them; events say what waits for what."""

    def __init__(self, main: Any) -> None:
        self._streams = [main]
        self._begin = cupy.cuda.Event(disable_timing=True)
        self._begin.record(main)
        self._events: dict[int, Any] = {}

    @contextmanager
    def step(self, number: int, place: Place) -> Iterator[None]:
        """On one of the streams, behind the steps that it waits for."""
        while len(self._streams) <= place.lane:
            self._streams.append(cupy.cuda.Stream(non_blocking=True))
            self._streams[-1].wait_event(self._begin)
        stream = self._streams[place.lane]
        for other in place.after:
            stream.wait_event(self._events[other])
        with stream:
            yield
        if place.told:
            self._events[number] = cupy.cuda.Event(disable_timing=True)
            self._events[number].record(stream)

    def join(self) -> None:
        """Back to one stream, as a capture has to end."""
        main, *others = self._streams
        for stream in others:
            end = cupy.cuda.Event(disable_timing=True)
            end.record(stream)
            main.wait_event(end)


@cache
def _cublaslt() -> CublasLt | None:
    return find_cublaslt(runtime.runtimeGetVersion() // 1000)


def _attribute(which: int, ordinal: int) -> int:
    """One of `cudaDeviceAttr`; 0 where this driver has it no more."""
    with suppress(runtime.CUDARuntimeError):
        return int(runtime.deviceGetAttribute(which, ordinal))
    return 0


@cache
def _architecture(ordinal: int) -> str:
    with _translated():
        found = runtime.getDeviceProperties(ordinal)
    return f"sm_{10 * found['major'] + found['minor']}"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


@contextmanager
def _translated() -> Iterator[None]:
    """CuPy's errors as `DriverError`."""
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        words = [w.replace(",", "") for w in str(error).split()]
        asked = next((int(w) for w in words if w.isdigit()), 0)
        raise DriverError("memory", str(error), asked) from None
    except (runtime.CUDARuntimeError, api.CUDADriverError) as error:
        status = int(getattr(error, "status", 0))
        kind = "memory" if status == _MEMORY else "old" if status == _OLD else \
            "absent" if status in _ABSENT else "lost"
        raise DriverError(kind, str(error)) from None
