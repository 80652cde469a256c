"""How programs run: the protocol, the registry of devices, and a folder for each.

``weft.devices()``, the package called like a function, lists the devices that there are.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.devices.listing import DeviceInfo

__all__: list[str] = []


class _Devices(ModuleType):
    def __call__(self) -> "list[DeviceInfo]":
        """See `weft.devices.listing.devices`."""
        from weft.devices.listing import devices  # seldom asked for

        return devices()


sys.modules[__name__].__class__ = _Devices
