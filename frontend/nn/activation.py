"""Activation functions.

Each has exact derivatives everywhere, also at large arguments and infinities: where a formula
overflows, or a branch not taken would give NaN, the argument of that branch is kept away from
there. At a kink the derivative is that of the flat side: ``relu'(0) == 0``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError
from weft.frontend.nn.common import Array, applied, floating, rounded
from weft.frontend.numpy.common import axis_of, lift
from weft.frontend.problems import problem

__all__ = ["celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
           "leaky_relu", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
           "soft_sign", "softplus", "squareplus", "swish"]

SELU_ALPHA = 1.6732632423543772848170429916717      # Klambauer et al., "Self-Normalizing Neural
SELU_SCALE = 1.0507009873554804934193349852946      # Networks", 2017


@rounded
def relu(x: Array) -> Any:
    """max(x, 0); the derivative at 0 is 0.

    >>> import numpy as np, weft
    >>> weft.nn.relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    x = lift(x)
    return np.where(x <= 0, 0, x)


@rounded
def relu6(x: Array) -> Any:
    """min(max(x, 0), 6); the derivative at 0 and 6 is 0."""
    x = lift(x)
    return np.where(x <= 0, 0, np.where(x >= 6, 6, x))


@rounded
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Any:
    """x where x > 0, else negative_slope * x, which is the derivative at 0 as well."""
    x = floating(x)
    return np.where(x > 0, x, negative_slope * x)


def _expm1_below_0(x: Any) -> Any:
    """expm1(x) where x <= 0, and 0 (not an overflow) above."""
    return np.expm1(np.where(x > 0, 0, x))


@rounded
def elu(x: Array, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al., 2015)."""
    x = floating(x)
    return np.where(x > 0, x, alpha * _expm1_below_0(x))


@rounded
def selu(x: Array) -> Any:
    """The ELU scaled to keep mean 0 and variance 1 (Klambauer et al., 2017)."""
    x = floating(x)
    return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * _expm1_below_0(x))


@rounded
def celu(x: Array, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha * (exp(x / alpha) - 1) (Barron, 2017)."""
    x = floating(x)
    return np.where(x > 0, x, alpha * _expm1_below_0(x / alpha))


@rounded
def gelu(x: Array, approximate: Any = False) -> Any:
    """x times the normal distribution function of x (Hendrycks and Gimpel, 2016).

    Exact by default, as in PyTorch; with `approximate` (True or ``"tanh"``) by
    ``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``, as `jax.nn.gelu` does.

    >>> import numpy as np, weft
    >>> weft.nn.gelu(np.array([-40.0, -1.0, 1.0])).round(6)
    array([-0.      , -0.158655,  0.841345])
    """
    x = floating(x)
    if isinstance(approximate, str):
        if approximate not in ("tanh", "none"):
            raise problem(ShapeError, f"gelu got approximate={approximate!r}",
                          expected='True, False, "tanh" or "none"')
        approximate = approximate == "tanh"
    if approximate:
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))
        return x * (0.5 * (1 + np.tanh(inner)))
    return x * (0.5 * applied("erfc", x * -math.sqrt(0.5)))


@rounded
def sigmoid(x: Array) -> Any:
    """1 / (1 + exp(-x)), without overflow."""
    return applied("logistic", x)


@rounded
def log_sigmoid(x: Array) -> Any:
    """log(sigmoid(x)) = -log(1 + exp(-x)), also where the sigmoid is 0."""
    return -softplus(-floating(x))


@rounded
def softplus(x: Array) -> Any:
    """log(1 + exp(x)), which is x for large x.

    >>> import numpy as np, weft
    >>> weft.nn.softplus(np.array([-np.inf, 0.0, 1000.0]))
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """
    x = floating(x)
    above = x > 0
    return np.where(above, x, 0) + np.log1p(np.exp(np.where(above, -x, x)))


@rounded
def silu(x: Array) -> Any:
    """x * sigmoid(x), also known as swish."""
    x = floating(x)
    return x * applied("logistic", x)


swish = silu


@rounded
def mish(x: Array) -> Any:
    """x * tanh(softplus(x)) (Misra, 2019)."""
    x = floating(x)
    return x * np.tanh(softplus(x))


@rounded
def soft_sign(x: Array) -> Any:
    """x / (1 + |x|)."""
    x = floating(x)
    return x / (1 + np.abs(x))


@rounded
def hard_sigmoid(x: Array) -> Any:
    """relu6(x + 3) / 6."""
    return relu6(floating(x) + 3) / 6


@rounded
def hard_silu(x: Array) -> Any:
    """x * hard_sigmoid(x), also known as hard swish (Howard et al., 2019)."""
    x = floating(x)
    return x * (relu6(x + 3) / 6)


hard_swish = hard_silu


@rounded
def hard_tanh(x: Array) -> Any:
    """x, kept within [-1, 1]; the derivative at -1 and 1 is 0."""
    x = lift(x)
    return np.where(x <= -1, -1, np.where(x >= 1, 1, x))


@rounded
def squareplus(x: Array, b: float = 4.0) -> Any:
    """(x + sqrt(x**2 + b)) / 2 (Barron, 2021)."""
    x = floating(x)
    return (x + np.sqrt(x * x + b)) * 0.5


@rounded
def glu(x: Array, axis: int = -1) -> Any:
    """The first half along an axis times the sigmoid of the second (Dauphin et al., 2016).

    Raises a `ShapeError` where the axis has an odd size.
    """
    x = floating(x)
    a = axis_of(axis, len(x.node.shape))
    size = x.node.shape[a]
    if isinstance(size, int) and size % 2:
        raise problem(ShapeError, f"glu got {size} elements along axis {a}",
                      expected="an even number")
    first, second = np.split(x, 2, axis=a)
    return first * applied("logistic", second)
