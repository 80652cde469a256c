"""The signature of a native entry, as plain data (see `entry`)."""

from __future__ import annotations

from typing import Literal

from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DType, Shape

__all__ = ["EntrySpec", "Param", "Result"]


@dataclass(frozen=True)
class Param:
    """What one argument must be.

    * `array`: an ndarray, not of a subclass, of this dtype and shape, C-contiguous and aligned.
      `writeable`: main writes to it, so it must allow that and share no memory with another array.
    * `npscalar`: a NumPy scalar of this dtype, such as `np.float32(3)`.
    * `pyfloat`, `pyint` (one that fits an int64), `pybool`, `pycomplex`: a Python scalar.
    * `equal_int`, `equal_bool`: a Python scalar of just this `value`, for which main was compiled.
    * `none`: None.
    """

    kind: Literal["array", "npscalar", "pyfloat", "pyint", "pybool", "pycomplex", "equal_int",
                  "equal_bool", "none"]
    dtype: DType | None = None
    shape: Shape = ()
    value: int = 0
    writeable: bool = False


@dataclass(frozen=True)
class Result:
    """What one result is: a new `array`, a NumPy `scalar` of this dtype, a Python scalar (as the
    parameter kinds), or, for `alias`, the very object that was passed as parameter `param`."""

    kind: Literal["array", "scalar", "pyfloat", "pyint", "pybool", "pycomplex", "alias"]
    dtype: DType | None = None
    shape: Shape = ()
    param: int = 0


@dataclass(frozen=True)
class EntrySpec:
    """The signature that an entry checks and calls.

    `name` and `main` are the symbols of the entry and of the compiled function. `sizes` names the
    unknowns in shapes, in the order main expects them, and `at_least` (as long, or empty) bounds
    them from below. Each has to stand alone as a dimension of some array parameter. With
    `release_gil`, other Python threads run while main does. With `status`, main returns an i32;
    if it is not 0, the results are dropped and the call returns what the callable's method
    `_native_error(status, *args)` returns or raises.
    """

    params: tuple[Param, ...]
    results: tuple[Result, ...]
    structure: Literal["single", "tuple", "list", "none"] = "single"
    sizes: tuple[str, ...] = ()
    at_least: tuple[int, ...] = ()
    release_gil: bool = False
    status: bool = False
    main: str = "main"
    name: str = "entry"
