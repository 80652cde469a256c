"""Dropout: elements left out by chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.frontend.nn.common import Array, floating, rounded
from weft.frontend.random.discrete import bernoulli

__all__ = ["dropout"]


@rounded
def dropout(x: Array, key: Any, rate: Any = 0.5, training: bool = True) -> Any:
    """Each element is 0 with probability `rate`, else divided by 1 - rate
    (Srivastava et al., 2014).

    `key` is one of `weft.random`'s, which is used up: equal keys leave out the same elements.
    Without `training` the result is `x`.

    >>> import numpy as np, weft
    >>> kept = weft.nn.dropout(np.ones(1000), weft.random.key(0), 0.25)
    >>> np.unique(kept).round(4), abs((kept == 0).mean() - 0.25) < 0.05
    (array([0.    , 1.3333]), np.True_)
    """
    t: Any = floating(x)
    if not training:
        return t
    keep: Any = bernoulli(key, 1 - rate, t.shape)
    return np.where(keep, t / (1 - rate), 0)
