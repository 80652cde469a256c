"""`weft.devices`: which devices there are, what they are, and what ails those that cannot be used.
"""

from __future__ import annotations

from weft.compiler.lazy_dataclass import dataclass
from weft.devices.protocol import DeviceError
from weft.devices.registry import device_names, get_device

__all__ = ["DeviceInfo", "devices"]


@dataclass(frozen=True)
class DeviceInfo:
    """One device: `name` is what `weft.jit` takes as its `device`.

    `ordinal` tells several alike apart. `description` says what hardware it is, where it can be
    used; where it cannot, `problem` says why and `repair` what to do about it.
    """

    name: str
    ordinal: int = 0
    description: str = ""
    problem: str | None = None
    repair: str | None = None

    @property
    def usable(self) -> bool:
        """Whether programs can run on it, here and now."""
        return self.problem is None

    def __str__(self) -> str:
        return f"{self.name}: {self.problem or self.description}"


def devices() -> list[DeviceInfo]:
    """Every device that weft knows, those that cannot be used here included, the CPU first.

    >>> import weft
    >>> [d.name for d in weft.devices() if d.name in ("cpu", "reference")]
    ['cpu', 'reference']
    """
    return [found for name in device_names() for found in _alike(name)]


def _alike(name: str) -> list[DeviceInfo]:
    try:
        count = max(get_device(name).count(), 1)        # of none, the first tells why
        return [DeviceInfo(f"{name}:{i}" if i else name, i, get_device(f"{name}:{i}").describe())
                for i in range(count)]
    except DeviceError as error:
        return [DeviceInfo(name, problem=error.what, repair=error.repair)]
