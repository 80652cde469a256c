"""The table of lowerings: for each op, how it is written in JAX's `lax`.

`POINTWISE` are functions of the operands alone; `SITED` are given the `Site` first, which has the
attributes. Their keys are the device's capabilities.
"""

from __future__ import annotations

from weft.devices.xla.control import CONTROL
from weft.devices.xla.custom import custom
from weft.devices.xla.elementwise import POINTWISE as ELEMENTWISE
from weft.devices.xla.indexing import INDEXING
from weft.devices.xla.linalg import LINALG
from weft.devices.xla.program import Tables
from weft.devices.xla.random import RANDOM
from weft.devices.xla.reductions import REDUCTIONS
from weft.devices.xla.tools import Lowering
from weft.devices.xla.transforms import TRANSFORMS
from weft.devices.xla.views import VIEWS
from weft.devices.xla.windows import WINDOWS

__all__ = ["POINTWISE", "SITED", "TABLES"]

POINTWISE: dict[str, Lowering] = {**ELEMENTWISE, **RANDOM}
SITED: dict[str, Lowering] = {
    **VIEWS, **REDUCTIONS, **INDEXING, **WINDOWS, **LINALG, **TRANSFORMS, **CONTROL,
    "custom": custom,
}
TABLES = Tables(POINTWISE, SITED)
