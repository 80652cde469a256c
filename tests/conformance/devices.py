"""The devices that conformance tests run on; the CPU once for every instruction set it has."""

from __future__ import annotations

from weft.devices.conformance import Subject
from weft.devices.cpu.host import host_target, target_named
from weft.devices.listing import devices
from weft.devices.registry import get_device

__all__ = ["DEVICES", "EVERYWHERE", "Subject"]


def _available() -> list[Subject]:
    host = host_target()
    found = [Subject.of("cpu")]
    if host.triple.startswith(("x86_64", "amd64")):
        found += [Subject(get_device("cpu"), target_named(level), f"cpu-{level}")
                  for level in ("avx2", "baseline")
                  if target_named(level).vector_bytes < host.vector_bytes]
    return found


DEVICES = _available()
"""The CPU."""

_NOT_HERE = ("cpu", "xla", "tpu")       # XLA has tests/xla/test_conformance.py, which does less
EVERYWHERE = [*DEVICES, *(Subject.of(d.name) for d in devices()
                          if d.usable and d.name not in _NOT_HERE and not d.ordinal)]
"""And every other device that can be used here."""
