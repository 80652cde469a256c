"""GPUs as plain data: what fusion and schedules decide on, and what code is generated for."""

from __future__ import annotations

from weft.compiler.target import Target
from weft.devices.protocol import DeviceError

__all__ = ["shared_bytes", "target_named"]

ROW_BYTES = 128 << 10       # of 4-byte elements: as long a row as a block's registers can hold
# kilobytes of shared memory that a block may ask for
_SHARED = {"sm_75": 64, "sm_80": 163, "sm_86": 99, "sm_87": 163, "sm_89": 99, "sm_90": 227,
           "sm_100": 227, "sm_103": 227, "sm_120": 99, "sm_121": 99}
RESERVE = 3 << 10           # of it, for joining threads
_PROCESSORS = {"sm_80": 108, "sm_86": 84, "sm_89": 128, "sm_90": 132, "sm_100": 148, "sm_120": 170}


def target_named(arch: str, processors: int = 0, features: str = "") -> Target:
    """The target of an architecture, as ``"sm_90"``, so that code can be made without a device.

    `processors` are the multiprocessors, those of the largest common model if not given;
    `features` names libraries that are there, as ``"cublaslt"``. Raises `DeviceError` for what is
    no such name.

    >>> target_named("sm_90").threads
    132
    """
    if not (arch.startswith("sm_") and arch[3:].isdigit() and int(arch[3:]) >= 75):
        raise DeviceError(f"there is no GPU architecture {arch!r}",
                          expected="'sm_75' or a later one, such as 'sm_80' or 'sm_90'")
    rows = ROW_BYTES + shared_bytes(arch)
    return Target(device="gpu", triple="nvptx64-nvidia-cuda", cpu=arch, features=features,
                  vector_bytes=16,
                  registers=255, has_fma=True, masked=True, has_f16=True, has_bf16=True,
                  threads=processors or _PROCESSORS.get(arch, 108), l1_bytes=128 << 10,
                  l2_bytes=2 * rows, held_bytes=ROW_BYTES, l3_bytes=40 << 20)


def shared_bytes(arch: str) -> int:
    """Bytes of shared memory in which a block may keep a part of its row."""
    return (_SHARED.get(arch, 48) << 10) - RESERVE
