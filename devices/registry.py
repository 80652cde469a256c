"""Devices by name, loaded on first use.

``"gpu"`` and ``"gpu:0"`` are the first device of that name, ``"gpu:1"`` is the second. Built-in
devices are listed here as `module:factory`; installed packages add theirs through the entry-point
group ``weft.devices``, which is read when a name is not known otherwise.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable

from weft.devices.host_memory import HostMemory
from weft.devices.protocol import Device, DeviceError

__all__ = ["AUTO", "DEFAULT_DEVICE", "check_device", "device_id", "device_names", "device_problem",
           "get_device", "owner_of", "register_device", "split_name"]

DEFAULT_DEVICE = "cpu"
AUTO = "auto"           # no device: the one that a cost model chooses
GROUP = "weft.devices"

Factory = Callable[[int], Device]       # takes the ordinal
_factories: dict[str, str | Factory] = {
    "cpu": "weft.devices.cpu.device:CpuDevice",
    "gpu": "weft.devices.gpu.device:GpuDevice",
    "reference": "weft.devices.reference.device:ReferenceDevice",
    "tpu": "weft.devices.xla.device:make_tpu",
    "xla": "weft.devices.xla.device:make_xla",
}
_BUILT_IN = frozenset(_factories)
_EXTRAS: dict[str, str] = {"gpu": "gpu", "tpu": "tpu", "xla": "tpu"}    # of weft's, by device
_LIBRARIES: dict[str, str] = {"cupy": "gpu", "jaxlib": "xla"}    # of arrays, with their devices
_devices: dict[str, Device] = {}
_owners: tuple[Device, ...] = ()        # those of them that have a memory of their own
_strangers: set[type] = set()           # classes of arrays that are no device's
_lock = threading.RLock()

ARRAY_CLASSES: set[type] = set()
"""Classes of devices' arrays that were met so far, NumPy's apart."""


def get_device(name: str) -> Device:
    """The device of this name, made on first use; a `DeviceError` if it is absent.

    >>> get_device("reference").name, get_device("reference:0") is get_device("reference")
    ('reference', True)
    """
    found = _devices.get(name)
    if found is not None:
        return found
    with _lock:
        if name not in _devices:
            made = _devices[name] = _numbered(name)
            _note_owner(made)
        return _devices[name]


def owner_of(value: object) -> Device | None:
    """The device on which an array lies; None for NumPy's own arrays, and for what is no array.

    Devices that were used before are asked first. Then those are made that may know the class.
    """
    for device in _owners:
        if device.memory.owns(value):
            ARRAY_CLASSES.add(type(value))
            return device
    return None if type(value) in _strangers else _search(value)


def check_device(name: str) -> str:
    """The name as `device_id` gives it, if there is such a device, which is not loaded.

    Raises a `DeviceError` where there is none. Whether it can be used here is not looked at.

    >>> check_device("cpu:0")
    'cpu'
    """
    base, ordinal = split_name(name)
    if base not in _factories and base not in _installed():
        raise _absent(name, base, device_names())
    return f"{base}:{ordinal}" if ordinal else base


def split_name(name: str) -> tuple[str, int]:
    """A device's name and ordinal; a `DeviceError` for what is no number.

    >>> split_name("gpu:1"), split_name("cpu")
    (('gpu', 1), ('cpu', 0))
    """
    base, colon, digits = name.partition(":")
    if colon and not (digits.isascii() and digits.isdigit()):
        raise DeviceError(f"{name!r} is no name of a device",
                          expected=f"a name, or a name and a number: '{base}:0'")
    return base, int(digits or 0)


def device_id(device: Device) -> str:
    """The name by which `get_device` finds this very device: ``"cpu"``, ``"gpu:1"``.

    >>> device_id(get_device("reference:0"))
    'reference'
    """
    return f"{device.name}:{device.ordinal}" if device.ordinal else device.name


def register_device(name: str, factory: str | Factory) -> None:
    """Make a device known: a function that takes the ordinal, or ``"module:function"``."""
    with _lock:
        _factories[name] = factory
        for made in [n for n in _devices if n.partition(":")[0] == name]:
            del _devices[made]
        _note_owner()


def device_names() -> tuple[str, ...]:
    """The names of all devices that are built in, registered or installed."""
    return tuple(dict.fromkeys([*_factories, *_installed()]))


def is_loaded(name: str) -> bool:
    """Whether the device was made, so that asking it costs nothing."""
    return name in _devices


def device_problem(name: str) -> str | None:
    """Why the device cannot be used here, or None if it can."""
    try:
        get_device(name)
    except DeviceError as error:
        return error.what
    return None


def _note_owner(device: Device | None = None) -> None:
    """Know who can own arrays, now that this device was made, or some are gone."""
    global _owners
    if device is None or not isinstance(device.memory, HostMemory):
        _owners = tuple(dict.fromkeys(
            d for d in _devices.values() if not isinstance(d.memory, HostMemory)))
        _strangers.clear()


def _search(value: object) -> Device | None:
    """The owner among the devices that were not made yet."""
    cls = type(value)
    if cls.__module__ != "numpy":
        for name in _candidates(cls.__module__.partition(".")[0]):
            if device_problem(name) is None:
                for ordinal in range(get_device(name).count()):
                    device = get_device(f"{name}:{ordinal}")
                    if not isinstance(device.memory, HostMemory) and device.memory.owns(value):
                        return device
    _strangers.add(cls)
    return None


def _candidates(library: str) -> list[str]:
    """Devices that may have arrays of a library: those made, its own, and all from outside."""
    names = [device.name for device in _owners]
    if library in _LIBRARIES:
        names.append(_LIBRARIES[library])
    return list(dict.fromkeys([*names, *(n for n in device_names() if n not in _BUILT_IN)]))


def _numbered(name: str) -> Device:
    """The device of this name and ordinal, which is checked against how many there are."""
    base, ordinal = split_name(name)
    check_device(name)
    if ordinal:
        count = get_device(base).count()
        if ordinal >= count:
            others = f"'{base}:0' to '{base}:{count - 1}'" if count > 1 else f"{base!r}"
            raise DeviceError(f"there is no device {name!r}: {_counted(count)} {base!r} here",
                              expected=others if count else None)
    elif name != base:
        return get_device(base)
    return _make(base, ordinal)


def _counted(count: int) -> str:
    return "there is one device" if count == 1 else f"there are {count or 'no'} devices"


def _make(name: str, ordinal: int) -> Device:
    factory = _factories.get(name) or _installed()[name]
    try:
        return _load(factory)(ordinal)
    except ImportError as error:
        raise DeviceError(f"device {name!r} cannot be used here: {error}",
                          repair=_remedy(name)) from error


def _remedy(name: str) -> str:
    extra = _EXTRAS.get(name)
    what = f"pip install 'weft[{extra}]'" if extra else "install what it needs"
    return f"{what}, or use another device: {_listed(device_names(), name)}"


def _load(factory: str | Factory) -> Factory:
    if not isinstance(factory, str):
        return factory
    module, _, attribute = factory.partition(":")
    made: Factory = getattr(importlib.import_module(module), attribute)
    return made


def _installed() -> dict[str, str]:
    from importlib.metadata import entry_points  # slow to import, and seldom needed
    return {point.name: point.value for point in entry_points(group=GROUP)}


def _absent(name: str, base: str, known: tuple[str, ...]) -> DeviceError:
    import difflib  # seldom needed

    near = difflib.get_close_matches(base, known, 1)
    ordinal = name[len(base):]
    return DeviceError(f"there is no device named {name!r}", expected=f"one of {_listed(known)}",
                       repair=f"did you mean {near[0] + ordinal!r}?" if near else None)


def _listed(names: Iterable[str], without: str = "") -> str:
    return ", ".join(repr(n) for n in names if n != without)
