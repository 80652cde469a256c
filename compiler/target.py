"""The plain-data description of a machine that passes, fusion and code generation decide on."""

from __future__ import annotations

from weft.compiler.lazy_dataclass import dataclass

__all__ = ["PRECISIONS", "Target"]

PRECISIONS = ("highest", "tf32", "bf16", "fp16")
"""What operands of float32 products may be rounded to: nothing; 10, 7 and 10 bits of mantissa."""


@dataclass(frozen=True)
class Target:
    """What code is generated for. Plain data: equal targets give equal code.

    `vector_bytes` is the width of one vector register; `masked` says that masked loads and stores
    of 32- and 64-bit elements are cheap; `registers` counts vector registers. Cache sizes are in
    bytes, for one core (L1, L2) and for the whole machine (L3). Rows longer than `held_bytes`, if
    that is not 0, are worth keeping only where nothing as long is read anew for each. `precision`
    is one of `PRECISIONS`: a device that has no such unit computes in full.
    """

    device: str = "cpu"
    triple: str = ""
    cpu: str = ""
    features: str = ""
    vector_bytes: int = 16
    registers: int = 16
    has_fma: bool = False
    masked: bool = False
    has_f16: bool = False
    has_bf16: bool = False
    threads: int = 1
    l1_bytes: int = 32 << 10
    l2_bytes: int = 512 << 10
    l3_bytes: int = 8 << 20
    held_bytes: int = 0
    fast_math: bool = False
    precision: str = "highest"

    def lanes(self, itemsize: int) -> int:
        """Elements of this size in one vector register."""
        return max(1, self.vector_bytes // itemsize)
