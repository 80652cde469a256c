"""The derivative of gamma numbers by their shape parameter.

How a number was drawn does not matter for it, only its place in the distribution: as `a` moves,
the number z moves so that P(a, z), the probability of smaller ones, stays what it is (M. Figurnov,
S. Mohamed and A. Mnih, "Implicit reparameterization gradients", 2018):

    dz/da = - (dP/da) / (dP/dz)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.frontend.control import while_loop
from weft.frontend.numpy.common import as_array, build
from weft.frontend.transforms.custom import custom_jvp

__all__ = ["digamma", "log_gamma_slope", "moving_with"]

# ψ(y) - log(y) + 1/(2y), in powers of 1 / y**2
DIGAMMA = (-1 / 12, 1 / 120, -1 / 252, 1 / 240, -1 / 132, 691 / 32760, -1 / 12)
SMALL = 1e-17


def digamma(x: Any) -> Any:
    """The derivative of the logarithm of the gamma function, of positive float64."""
    below = 1.0 / x
    for i in range(1, 9):
        below = below + 1.0 / (x + float(i))
    y = x + 9.0
    square = 1.0 / (y * y)
    series = np.float64(DIGAMMA[-1])
    for c in DIGAMMA[-2::-1]:
        series = series * square + c
    return np.log(y) - 0.5 / y + series * square - below


def log_gamma_slope(log: Any, a: Any) -> Any:
    """d(log z)/da of gamma numbers z of shape parameter a, in float64.

    With P(a, z) = sum of t(n) = z**(a + n) * exp(-z) / Γ(a + n + 1) over n >= 0, the quotient above
    is -z/a * sum of c(n) * (log(z) - ψ(a + n + 1)), where c(0) = 1 and c(n) = c(n-1) * z / (a + n).
    The sum takes about z - a + 9*sqrt(a) terms, if that is positive.
    """
    z = np.exp(log)

    def going(state: Any) -> Any:
        n, c, _, sizes, _ = state
        return ((a + n < z) | (c > SMALL * sizes)).any()

    def turn(state: Any) -> Any:
        n, c, psi, sizes, total = state
        n = n + 1.0
        c = c * (z / (a + n))
        psi = psi + 1.0 / (a + n)
        return n, c, psi, sizes + c, total + c * (log - psi)

    psi = digamma(a + 1.0)
    one = as_array(build().broadcast(build().scalar(1.0, "f64"), log.node.shape))
    return -while_loop(going, turn, (0.0, one, psi, one, log - psi))[4] / a


@custom_jvp
def moving_with(log: Any, a: Any) -> Any:
    """Logarithms of gamma numbers of shape parameter `a`, as they were drawn."""
    return log


@moving_with.defjvp
def _(primals: Any, tangents: Any) -> Any:
    log, a = primals
    out = moving_with(log, a)
    wide = (out.astype(np.float64), a.astype(np.float64))
    return out, tangents[0] + log_gamma_slope(*wide).astype(out.dtype) * tangents[1]
