"""Drawing until every element is accepted.

All elements of an array are drawn in each turn, from words of the turn's own; those that were not
accepted so far take what was drawn. The loop ends when none is left, so the distribution is exact,
and an element's value depends on the key and its place alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, DType, Shape
from weft.frontend.control import while_loop
from weft.frontend.numpy.common import as_array, build
from weft.frontend.numpy.creation import filled
from weft.frontend.random.keys import OWN

__all__ = ["log_factorial", "until_accepted"]

_U64 = DTYPES["u64"]
TURNS = 1 << 32         # number of the first turn's key, behind the other keys of a distribution

Draw = Callable[[Node], tuple[Any, Any]]


def until_accepted(key: Node, shape: Shape, dtype: DType, draw: Draw, todo: Any = None) -> Any:
    """Numbers drawn by ``draw(key) -> (numbers, accepted)``, anew where they are not accepted.

    Elements outside of `todo` are not waited for, and are 0.
    """
    waiting = as_array(filled(shape, True, "bool")) if todo is None else todo
    start = (np.uint64(OWN + TURNS), waiting, as_array(filled(shape, 0, dtype)))

    def turn(state: Any) -> Any:
        number, waiting, kept = state
        numbers, accepted = draw(build().threefry(key, number.node))
        return (number + np.uint64(1), waiting & ~accepted,
                np.where(waiting & accepted, numbers, kept))

    return while_loop(lambda state: state[1].any(), turn, start)[2]


# log(k!) - Stirling's formula at k + 9, in powers of 1 / (k + 9)
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)


def log_factorial(k: Any) -> Any:
    """log(k!) of whole numbers in float64, to about 1e-14 of its size (or of 1).

    Stirling's series for the logarithm of the gamma function at x = k + 9, where five terms are
    enough, less the logarithm of (k + 1) … (k + 8).
    """
    x = k + 9.0
    inverse = 1.0 / x
    square = inverse * inverse
    series = np.float64(STIRLING[-1])
    for c in STIRLING[-2::-1]:
        series = series * square + c
    product = k + 1.0
    for i in range(2, 9):
        product = product * (k + float(i))
    return (x - 0.5) * np.log(x) - x + 0.9189385332046727 + series * inverse - np.log(product)
