"""The gamma distribution and those made of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError
from weft.compiler.ir import Node
from weft.compiler.types import DType, Shape
from weft.frontend.numpy.common import as_array, build
from weft.frontend.problems import problem
from weft.frontend.random.continuous import gaussian, positive, signed
from weft.frontend.random.generator import float_type, sized, work
from weft.frontend.random.implicit import moving_with
from weft.frontend.random.keys import key_node, own_keys
from weft.frontend.random.parameters import parameter, result, result_shape
from weft.frontend.random.rejection import until_accepted
from weft.frontend.random.sampler import sampler
from weft.frontend.transforms.custom import stop_gradient

__all__ = ["ball", "beta", "chisquare", "dirichlet", "f", "gamma", "generalized_normal",
           "loggamma", "t"]


def log_gamma_numbers(key: Node, size: Shape, a: Any, kind: DType) -> Any:
    """Logarithms of gamma numbers, as float64 or float32; `a` has the shape `size`.

    They can be differentiated by `a`, see `weft.frontend.random.implicit`.

    Marsaglia and Tsang, "A simple method for generating gamma variables", 2000: for a >= 1; for
    smaller ones, a number for a + 1 is multiplied by u**(1/a), whose logarithm does not underflow.
    """
    moving, a = a, stop_gradient(a)
    first, second = own_keys(key, 2)
    small = a < 1.0
    shape = np.where(small, a + 1.0, a)
    d = shape - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    valid = a > 0.0

    def draw(turn: Node) -> tuple[Any, Any]:
        normal, other = own_keys(turn, 2)
        x = gaussian(normal, size, kind)
        u = positive(other, size, kind)
        root = 1.0 + c * x
        log = 3.0 * np.log(np.where(root > 0.0, root, 1.0))
        v = root * root * root
        accepted = (root > 0.0) & (np.log(u) < 0.5 * x * x + d * (1.0 - v + log))
        return log, accepted

    log = until_accepted(first, size, work(kind), draw, valid)
    boost = np.log(positive(second, size, kind)) / a
    out = np.log(d) + log + np.where(small, boost, 0.0)
    return moving_with(np.where(valid, out, np.nan), moving)


def spread(x: Any, size: Shape) -> Any:
    """A parameter in the shape of the result."""
    return as_array(build().broadcast(x.node, size))


def _one_parameter(key: Any, value: Any, shape: Any, dtype: Any, what: str
                   ) -> tuple[Node, DType, Shape, Any]:
    node, kind = key_node(key, what), float_type(dtype, what)
    x = parameter(value, work(kind))
    size = result_shape(shape, what, x)
    return node, kind, size, spread(x, size)


def _two_parameters(key: Any, values: tuple[Any, Any], shape: Any, dtype: Any, what: str
                    ) -> tuple[Node, DType, Shape, Any, Any]:
    node, kind = key_node(key, what), float_type(dtype, what)
    x, y = (parameter(v, work(kind)) for v in values)
    size = result_shape(shape, what, x, y)
    return node, kind, size, spread(x, size), spread(y, size)


@sampler("shape", "dtype")
def gamma(key: Any, a: Any, shape: Any = None, dtype: Any = float) -> Any:
    """Gamma numbers of shape parameter `a` and scale 1.

    Args:
        key: a key, which is used up.
        a: the parameter, above 0; the result is NaN where it is not.
        shape: the shape of the result, to which `a` broadcasts; that of `a` if None.
        dtype: a float type; float64 unless given.

    For another scale, multiply by it. See `loggamma` for small parameters.

    >>> import weft
    >>> bool(weft.random.gamma(weft.random.key(0), 2.0) > 0)
    True
    """
    node, kind, size, x = _one_parameter(key, a, shape, dtype, "gamma")
    return result(np.exp(log_gamma_numbers(node, size, x, kind)), size, kind)


@sampler("shape", "dtype")
def loggamma(key: Any, a: Any, shape: Any = None, dtype: Any = float) -> Any:
    """Logarithms of gamma numbers, which are finite where those are too small for the type.

    >>> import numpy as np, weft
    >>> bool(np.isfinite(weft.random.loggamma(weft.random.key(0), 1e-4)))
    True
    """
    node, kind, size, x = _one_parameter(key, a, shape, dtype, "loggamma")
    return result(log_gamma_numbers(node, size, x, kind), size, kind)


@sampler("shape", "dtype")
def chisquare(key: Any, df: Any, shape: Any = None, dtype: Any = float) -> Any:
    """Sums of the squares of `df` normal numbers; `df` need not be whole.

    >>> import weft
    >>> bool(weft.random.chisquare(weft.random.key(0), 3.0) > 0)
    True
    """
    node, kind, size, x = _one_parameter(key, df, shape, dtype, "chisquare")
    return result(2.0 * np.exp(log_gamma_numbers(node, size, 0.5 * x, kind)), size, kind)


@sampler("shape", "dtype")
def t(key: Any, df: Any, shape: Any = None, dtype: Any = float) -> Any:
    """Student's distribution of `df` degrees of freedom.

    >>> import weft
    >>> weft.random.t(weft.random.key(0), 3.0, (2, 3)).shape
    (2, 3)
    """
    node, kind, size, x = _one_parameter(key, df, shape, dtype, "t")
    first, second = own_keys(node, 2)
    half = 0.5 * x
    log = log_gamma_numbers(second, size, half, kind)
    scale = np.exp(0.5 * (np.log(half) - log))
    return result(gaussian(first, size, kind) * scale, size, kind)


@sampler("shape", "dtype")
def f(key: Any, dfnum: Any, dfden: Any, shape: Any = None, dtype: Any = float) -> Any:
    """Fisher's distribution: the quotient of two chi-square numbers, each by its freedom.

    >>> import weft
    >>> bool(weft.random.f(weft.random.key(0), 3.0, 4.0) > 0)
    True
    """
    node, kind, size, x, y = _two_parameters(key, (dfnum, dfden), shape, dtype, "f")
    top, below = (log_gamma_numbers(k, size, 0.5 * v, kind) - np.log(v)
                  for k, v in zip(own_keys(node, 2), (x, y)))
    return result(np.exp(top - below), size, kind)


@sampler("shape", "dtype")
def beta(key: Any, a: Any, b: Any, shape: Any = None, dtype: Any = float) -> Any:
    """Beta numbers, between 0 and 1: x / (x + y) of gamma numbers x and y of `a` and `b`.

    >>> import weft
    >>> bool(0 < weft.random.beta(weft.random.key(0), 2.0, 3.0) < 1)
    True
    """
    node, kind, size, x, y = _two_parameters(key, (a, b), shape, dtype, "beta")
    one, other = (log_gamma_numbers(k, size, v, kind) for k, v in zip(own_keys(node, 2), (x, y)))
    return result(1.0 / (1.0 + np.exp(other - one)), size, kind)


@sampler("shape", "dtype")
def dirichlet(key: Any, alpha: Any, shape: Any = None, dtype: Any = float) -> Any:
    """Shares that add up to 1, along the last axis: gamma numbers of `alpha`, by their sum.

    Args:
        key: a key, which is used up.
        alpha: the concentrations, along the last axis, above 0.
        shape: the shape of the result without its last axis; that of `alpha` if None.
        dtype: a float type; float64 unless given.

    Raises `ShapeError` where `alpha` is 0-d or `shape` does not fit.

    >>> import numpy as np, weft
    >>> x = weft.random.dirichlet(weft.random.key(0), np.ones(3), (5,))
    >>> x.shape, bool(np.allclose(x.sum(axis=-1), 1))
    ((5, 3), True)
    """
    node, kind = key_node(key, "dirichlet"), float_type(dtype, "dirichlet")
    x = parameter(alpha, work(kind))
    if not x.node.shape:
        raise problem(ShapeError, "dirichlet got a 0-d alpha",
                      expected="concentrations along the last axis")
    wanted = None if shape is None else (*sized(shape), x.node.shape[-1])
    size = result_shape(wanted, "dirichlet", x)
    log = log_gamma_numbers(node, size, spread(x, size), kind)
    e = np.exp(log - np.max(log, axis=-1, keepdims=True))
    return result(e / np.sum(e, axis=-1, keepdims=True), size, kind)


def _generalized(key: Node, size: Shape, p: Any, kind: DType) -> Any:
    """Numbers of density proportional to exp(-|x|**p)."""
    first, second = own_keys(key, 2)
    _, negative = signed(first, size, kind)
    x = np.exp(log_gamma_numbers(second, size, 1.0 / p, kind) / p)
    return np.where(negative, -x, x)


@sampler("shape", "dtype")
def generalized_normal(key: Any, p: Any, shape: Any = (), dtype: Any = float) -> Any:
    """Numbers whose density is proportional to ``exp(-abs(x)**p)``.

    >>> import weft
    >>> weft.random.generalized_normal(weft.random.key(0), 3.0, (2, 3)).shape
    (2, 3)
    """
    node, kind, size, x = _one_parameter(key, p, shape, dtype, "generalized_normal")
    return result(_generalized(node, size, x, kind), size, kind)


@sampler("d", "shape", "dtype")
def ball(key: Any, d: Any, p: Any = 2.0, shape: Any = (), dtype: Any = float) -> Any:
    """Points in the unit ball of `d` dimensions, by the norm of exponent `p`; all as likely.

    The coordinates lie along a last axis. By the method of Barthe, Guédon, Mendelson and Naor
    (2005): generalized normal numbers by the norm of these and an exponential number.

    >>> import numpy as np, weft
    >>> x = weft.random.ball(weft.random.key(0), 3, shape=(100,))
    >>> x.shape, bool((np.linalg.norm(x, axis=-1) <= 1).all())
    ((100, 3), True)
    """
    node, kind = key_node(key, "ball"), float_type(dtype, "ball")
    front = sized(shape)
    size = (*front, *sized(d))
    power = parameter(p, work(kind))
    first, second = own_keys(node, 2)
    x = _generalized(first, size, spread(power, size), kind)
    e = -np.log(positive(second, front, kind))
    norm = np.sum(abs(x) ** power, axis=-1) + e
    return result(x / (norm ** (1.0 / power))[..., None], size, kind)
