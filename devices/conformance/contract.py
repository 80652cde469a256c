"""What `Memory` and `Compiled` promise, held against a device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from weft.compiler.text import parse
from weft.compiler.types import DTYPES
from weft.devices.conformance.jobs import Array, Outcome, Subject, excuse, failure
from weft.devices.conformance.samples import values
from weft.devices.host_memory import HostMemory
from weft.devices.protocol import Device
from weft.devices.registry import device_id, get_device

__all__ = ["contract"]

_MOVES = """graph @moves(%x: f32[3, 4], %n: i32[]) -> (f32[4, 3], f32[3, 4], i32[]) {
  %t = transpose %x {perm=[1, 0]} : f32[4, 3]
  return %t, %x, %n
}"""
_PLUS = """graph @plus(%x: f32[64], %y: f32[64]) -> (f32[64]) {
  %z = add %x, %y : f32[64]
  return %z
}"""


def contract(subject: Subject) -> Iterator[Outcome]:
    """Each promise, and whether it is kept."""
    for name, check in _PROMISES.items():
        yield _outcome(subject, name, "", check)
    for dtype in DTYPES.values():
        if dtype.name in subject.device.dtypes():
            yield _outcome(subject, "there-and-back", dtype.name,
                           partial(_there_and_back, flat=values(dtype)))
        else:
            yield Outcome("contract", "there-and-back", dtype.name, "skipped",
                          f"device {device_id(subject.device)!r} has no {dtype.name}")


def _outcome(subject: Subject, name: str, dtype: str, check: Callable[[Subject], None]
             ) -> Outcome:
    why = excuse(subject, "contract", name, dtype)
    if why:
        return Outcome("contract", name, dtype, "skipped", why)
    try:
        check(subject)
    except Exception as error:      # of the device
        return Outcome("contract", name, dtype, "failed", failure(error))
    return Outcome("contract", name, dtype, "passed")


def _protocol(subject: Subject) -> None:
    """It has all that a device has, and is found by its name."""
    device = subject.device
    missing = [n for n in vars(Device) if not n.startswith("_") and not hasattr(device, n)]
    assert not missing, f"the device lacks {', '.join(missing)}: see weft.devices.protocol.Device"
    assert get_device(device_id(device)) is device, (
        f"the device says that it is {device_id(device)!r}, which is another one")
    assert 0 <= device.ordinal < device.count()


def _there_and_back(subject: Subject, flat: Array) -> None:
    memory = subject.device.memory
    for a in (flat, flat[:12].reshape(3, 4), flat[:0].reshape(0, 3), flat[5]):
        given = np.array(a)
        there = memory.put(given)
        back = memory.get(there)
        assert type(back) is np.ndarray, f"get gives a {type(back).__name__}"
        assert (back.dtype, back.shape) == (given.dtype, given.shape), (
            f"{given.dtype}{given.shape} came back as {back.dtype}{back.shape}")
        assert back.tobytes() == given.tobytes(), "other bits came back than were put there"
        if given.ndim:          # what stands for numbers may stay on the host
            assert memory.owns(there), "the device does not own what put gives"


def _put_copies(subject: Subject) -> None:
    """An array may be changed after it was put; so may one that came back."""
    memory = subject.device.memory
    if isinstance(memory, HostMemory):
        return
    given = np.arange(1000.0, dtype=np.float32)
    there = memory.put(given)
    given[:] = -1
    back = memory.get(there)
    assert back[999] == 999, "put gives an array that changes with the one that it was given"
    if back.flags.writeable:
        back[:] = -2
    assert memory.get(there)[999] == 999, "get gives an array that changes the device's"


def _owns(subject: Subject) -> None:
    memory = subject.device.memory
    for other in (None, 1.0, "x", [1.0], np.float32(1), object()):
        assert not memory.owns(other), f"the device owns {other!r}"
    assert memory.owns(np.zeros(1)) is isinstance(memory, HostMemory)


def _wait(subject: Subject) -> None:
    memory = subject.device.memory
    compiled = subject.compile(parse(_PLUS))
    x = memory.put(np.ones(64, np.float32))
    results = compiled.run([x, x])
    memory.wait([])
    memory.wait([x, *results])
    assert memory.get(results[0])[63] == 2


def _results(subject: Subject) -> None:
    """Results are new arrays, in C order; arguments stay what they are."""
    memory = subject.device.memory
    compiled = subject.compile(parse(_MOVES))
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    x.flags.writeable = False
    given = [memory.put(x), memory.put(np.array(7, np.int32))]
    first, second = compiled.run(given), compiled.run(given)
    for t, same, n in (first, second):
        assert all(memory.owns(r) for r in (t, same, n)), "the device does not own its results"
        assert (tuple(t.shape), np.dtype(t.dtype)) == ((4, 3), np.float32)
        for r in (t, same, n):
            flags = getattr(r, "flags", None)
            assert flags is None or flags.c_contiguous, "a result is not in C order"
        np.testing.assert_array_equal(memory.get(t), x.T)
        np.testing.assert_array_equal(memory.get(same), x)
        assert memory.get(n) == 7 and memory.get(n).shape == ()
        assert same is not given[0], "a result is an argument itself"
    if isinstance(memory, HostMemory):
        assert not any(np.shares_memory(a, b) for a in (*first, *given) for b in second)
    np.testing.assert_array_equal(memory.get(given[0]), x)


def _threads(subject: Subject) -> None:
    """A program runs on several threads at once."""
    memory = subject.device.memory
    compiled = subject.compile(parse(_PLUS))
    wrong: list[Any] = []

    def work(k: int) -> None:
        try:
            x = memory.put(np.full(64, k, np.float32))
            for _ in range(20):
                x = compiled.run([x, memory.put(np.ones(64, np.float32))])[0]
            assert (memory.get(x) == k + 20).all(), "wrong results on several threads at once"
        except Exception as error:      # of the device, for the main thread
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(100 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def _donated(subject: Subject) -> None:
    """Where an argument may be overwritten, the result is the same."""
    memory = subject.device.memory
    compiled = subject.compile(parse(_PLUS), [0])
    x, y = (np.arange(64, dtype=np.float32) + k for k in (0, 5))
    for _ in range(2):
        made = compiled.run([memory.put(x.copy()), memory.put(y)])
        np.testing.assert_array_equal(memory.get(made[0]), x + y)


_PROMISES: dict[str, Callable[[Subject], None]] = {
    "protocol": _protocol, "put-copies": _put_copies, "owns": _owns, "wait": _wait,
    "results": _results, "threads": _threads, "donated": _donated}
