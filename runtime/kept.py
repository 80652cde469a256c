"""Whole compiled programs in the disk cache, for devices that keep them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from weft.compiler.digest import graph_digest
from weft.compiler.errors import Origin
from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import dataclass
from weft.devices.protocol import Cache, Compiled, Device, ProgramKeeper

__all__ = ["KeptProgram"]


@dataclass(frozen=True, eq=False)
class KeptProgram:
    """The place in the disk cache of what a device makes of a graph."""

    key: str
    device: ProgramKeeper
    origins: Sequence[Origin]
    cache: Cache

    @staticmethod
    def of(graph: Graph, device: Device, fast_math: bool, donated: Sequence[int], cache: Cache,
           kind: str = "") -> KeptProgram | None:
        """The place, or None where the device keeps no programs or this one has no digest.

        `kind` tells programs apart that are made in different ways of equal graphs.
        """
        keeper: Any = device
        digest = graph_digest(graph) if hasattr(device, "program_key") else None
        key = keeper.program_key(f"{kind}{digest.key} {[*donated]}", fast_math) \
            if digest is not None else ""
        return KeptProgram(key, keeper, list(digest.origins), cache) if key and digest else None

    def find(self) -> Compiled | None:
        """What an earlier process has left there, if it can be read."""
        data = self.cache.get(self.key)
        if data is not None:
            with contextlib.suppress(ValueError):
                return self.device.read_program(data, self.origins)
        self.device.prepare()
        return None

    def keep(self, program: Compiled) -> None:
        """Leave a program there, for later processes."""
        data = self.device.program_bytes(program, self.origins)
        if data is not None:
            self.cache.put(self.key, data)
