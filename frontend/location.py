"""On which device a call runs: the one that was named, else where its arrays lie, else the default.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from weft.compiler.errors import caller_origin
from weft.devices.protocol import Device, DeviceError
from weft.devices.registry import DEFAULT_DEVICE, device_id, get_device
from weft.frontend.leaves import array_device
from weft.frontend.pytree import flatten

__all__ = ["block_until_ready", "default_device", "device_of_any", "get_default_device", "is_usual",
           "on_change", "set_default_device", "where_arrays_lie"]

_scope: ContextVar[str | None] = ContextVar("weft.default_device", default=None)
_of_process: str | None = None          # None: what WEFT_DEVICE says
_scopes = 0                             # `with default_device(…)` blocks that run in any thread
_listeners: list[Callable[[], None]] = []


def get_default_device() -> str:
    """The device of functions for which none is named and whose arguments lie on none.

    It begins with the environment variable `WEFT_DEVICE`, else as the CPU.

    >>> import weft
    >>> weft.get_default_device()
    'cpu'
    """
    return _scope.get() or _of_process or _from_environment()


def set_default_device(device: str) -> None:
    """Let functions run there for which no device is named and whose arguments lie on none.

    Holds for the whole process, from the next call on, and for functions that were compiled before.
    Raises `DeviceError` for a device that there is not.

    >>> import weft
    >>> weft.set_default_device("reference")
    >>> weft.set_default_device("cpu")
    """
    global _of_process
    _of_process = _checked(device)
    _changed()


@contextlib.contextmanager
def default_device(device: str) -> Iterator[None]:
    """The same for a block of code, in the thread (or asyncio task) that runs it.

    >>> import numpy as np, weft
    >>> with weft.default_device("reference"):
    ...     weft.jit(lambda x: x + 1).compile(np.zeros(2)).options.device
    'reference'
    """
    global _scopes
    token = _scope.set(_checked(device))
    _scopes += 1
    _changed()
    try:
        yield
    finally:
        _scope.reset(token)
        _scopes -= 1
        _changed()


def is_usual() -> bool:
    """Whether the default is the CPU wherever one asks."""
    return _scopes == 0 and (_of_process or _from_environment()) == DEFAULT_DEVICE


def on_change(listener: Callable[[], None]) -> None:
    """Call this, from now on, after each change of the default."""
    _listeners.append(listener)


def _changed() -> None:
    for listener in _listeners:
        listener()


def _checked(device: str) -> str:
    # What cannot be used is refused here, not at some later call.
    return device_id(get_device(device))


@functools.cache
def _from_environment() -> str:
    named = os.environ.get("WEFT_DEVICE", "").strip() or DEFAULT_DEVICE
    try:
        return named if named == DEFAULT_DEVICE else _checked(named)
    except DeviceError as error:
        raise DeviceError(f"WEFT_DEVICE={named}: {error.what}", expected=error.expected,
                          repair=error.repair) from None


# ---- where arrays are


def device_of_any(arrays: Sequence[Any]) -> str:
    """The device on which one of these arrays lies; more are looked at when compiling."""
    device = array_device(arrays[0])
    assert device is not None
    return device_id(device)


def where_arrays_lie(function: str, arrays: Iterable[tuple[str, Any]]) -> str | None:
    """The device on which these arrays lie, NumPy's apart; a `DeviceError` if there are two."""
    first: tuple[str, str] | None = None
    for name, value in arrays:
        device = array_device(value)
        if device is None:
            continue
        if first is None:
            first = name, device_id(device)
        elif device_id(device) != first[1]:
            raise DeviceError(
                f"{function} got arrays of two devices: {first[0]} lies on {first[1]!r}, "
                f"{name} on {device_id(device)!r}",
                expected="arrays of one device, or NumPy's beside them", origin=caller_origin(),
                repair=f"name the device, to which the others are copied: "
                       f"{function}.to({first[1]!r})")
    return first[1] if first else None


def block_until_ready(tree: Any) -> Any:
    """Wait until every array in a result is computed, and return the result.

    Devices other than the CPU may return from a call while they still compute. Errors of the
    computation are raised here, or wherever else the values are used first.

    >>> import numpy as np, weft
    >>> weft.block_until_ready({"loss": np.float32(1.0)})
    {'loss': np.float32(1.0)}
    """
    found: dict[Device, list[Any]] = {}
    for leaf in flatten(tree)[0]:
        device = array_device(leaf)
        if device is not None:
            found.setdefault(device, []).append(leaf)
    for device, arrays in found.items():
        device.memory.wait(arrays)
    return tree
