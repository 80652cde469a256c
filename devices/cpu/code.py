"""What code generation hands over for one kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim

__all__ = ["KernelCode", "Phase"]


@dataclass(frozen=True)
class Phase:
    """One parallel loop: `symbol(ctx, lo, hi)` does units lo to hi of `units`.

    `grain` is the fewest units worth handing to a thread; `parallel` says whether the whole is
    worth several threads.
    """

    symbol: str
    units: Dim
    grain: int
    parallel: bool


@dataclass(frozen=True)
class KernelCode:
    """LLVM functions that compute one kernel, run as phases one after another.

    `text` holds complete definitions `define internal void @symbol(ptr %ctx, i64 %lo, i64 %hi)`.
    `ctx` is an array of pointers: the kernel's buffers in order, the values of its symbolic sizes
    (i64, in the order of `kernel.symbols`), the status (i32), the workspace. `helpers` are further
    definitions, by name, that several kernels may share; `workspace` is in bytes.
    """

    text: str
    declares: frozenset[str]
    helpers: Mapping[str, str] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    workspace: Dim = 0
