"""Devices by name, loaded on first use.

Built-in devices are listed here as `module:factory`; installed packages add theirs through the
entry-point group ``weft.devices``, which is read when a name is not known otherwise.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable

from weft.devices.protocol import Device, DeviceError

__all__ = ["DEFAULT_DEVICE", "check_device", "device_names", "device_problem", "get_device",
           "register_device"]

DEFAULT_DEVICE = "cpu"
GROUP = "weft.devices"

Factory = Callable[[], Device]
_factories: dict[str, str | Factory] = {
    "cpu": "weft.devices.cpu.device:CpuDevice",
    "reference": "weft.devices.reference.device:ReferenceDevice",
}
_devices: dict[str, Device] = {}
_lock = threading.RLock()


def get_device(name: str) -> Device:
    """The device of this name, made on first use; a `DeviceError` if it is absent.

    >>> get_device("reference").name
    'reference'
    """
    found = _devices.get(name)
    if found is not None:
        return found
    with _lock:
        if name not in _devices:
            _devices[name] = _make(name)
        return _devices[name]


def check_device(name: str) -> None:
    """Raise a `DeviceError` if there is no device of this name, without loading it."""
    if name not in _factories and name not in _installed():
        raise _absent(name, device_names())


def register_device(name: str, factory: str | Factory) -> None:
    """Make a device known: a function without arguments, or ``"module:function"``."""
    with _lock:
        _factories[name] = factory
        _devices.pop(name, None)


def device_names() -> tuple[str, ...]:
    """The names of all devices that are built in, registered or installed."""
    return tuple(dict.fromkeys([*_factories, *_installed()]))


def device_problem(name: str) -> str | None:
    """Why the device cannot be used here, or None if it can."""
    try:
        get_device(name)
    except DeviceError as error:
        return error.what
    return None


def _make(name: str) -> Device:
    check_device(name)
    factory = _factories.get(name) or _installed()[name]
    try:
        return _load(factory)()
    except ImportError as error:
        raise DeviceError(
            f"device {name!r} cannot be used here: {error}",
            repair=f"install what it needs, or use another device: {_listed(device_names(), name)}"
        ) from error


def _load(factory: str | Factory) -> Factory:
    if not isinstance(factory, str):
        return factory
    module, _, attribute = factory.partition(":")
    made: Factory = getattr(importlib.import_module(module), attribute)
    return made


def _installed() -> dict[str, str]:
    from importlib.metadata import entry_points  # slow to import, and seldom needed
    return {point.name: point.value for point in entry_points(group=GROUP)}


def _absent(name: str, known: tuple[str, ...]) -> DeviceError:
    import difflib  # seldom needed

    near = difflib.get_close_matches(name, known, 1)
    return DeviceError(f"there is no device named {name!r}", expected=f"one of {_listed(known)}",
                       repair=f"did you mean {near[0]!r}?" if near else None)


def _listed(names: Iterable[str], without: str = "") -> str:
    return ", ".join(repr(n) for n in names if n != without)
