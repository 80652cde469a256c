"""The user's lines in XLA's texts.

JAX notes the Python frames that made an operation, which are weft's, and the name scope around it,
which weft sets to the line of the user's code. Only that is shown.
"""

from __future__ import annotations

import re

__all__ = ["located"]

_DEFINED = re.compile(r"^(#loc\d*) = loc\((.*)\)$", re.MULTILINE)
_USED = re.compile(r" loc\((#loc\d*|unknown|\"[^\"]*\")\)")
_LINE = re.compile(r"([^/\"]+\.\w+|<[^>/]*>):(\d+)(?=[/\"])")


def located(text: str) -> str:
    """MLIR text with the user's lines behind operations, and no table of locations.

    >>> print(located('''%0 = stablehlo.sine %arg0 : tensor<3xf64> loc(#loc3)
    ... #loc1 = loc("weft.py":1:2 to :3)
    ... #loc3 = loc("jit(f)/model.py:3/sin"(#loc1))'''), end="")
    %0 = stablehlo.sine %arg0 : tensor<3xf64> loc("model.py":3:0)
    """
    lines = {name: _line(value) for name, value in _DEFINED.findall(text)}
    body = "\n".join(row for row in text.splitlines() if not row.startswith("#loc"))
    return _USED.sub(lambda m: lines.get(m[1], ""), body).strip() + "\n"


def _line(value: str) -> str:
    """The innermost line of user code that a location's name holds, as a location."""
    found = _LINE.findall(value.partition("(#")[0]) if value.startswith('"') else []
    return f' loc("{found[-1][0]}":{found[-1][1]}:0)' if found else ""
