"""Vectors and matrices: multivariate normal numbers, random rotations."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError
from weft.frontend.numpy.common import static
from weft.frontend.numpy.ufuncs import broadcast_shape
from weft.frontend.problems import problem
from weft.frontend.random.continuous import gaussian
from weft.frontend.random.generator import float_type, sized, work
from weft.frontend.random.keys import key_node
from weft.frontend.random.parameters import parameter, result
from weft.frontend.random.sampler import sampler

__all__ = ["multivariate_normal", "orthogonal"]


@sampler("shape", "dtype")
def multivariate_normal(key: Any, mean: Any, cov: Any, shape: Any = None,
                        dtype: Any = float) -> Any:
    """Normal vectors of this mean and covariance.

    Args:
        key: a key, which is used up.
        mean: means, along the last axis, of size n.
        cov: covariances, along the last two axes, of sizes n and n: symmetric and positive
            definite, of which the lower triangle is read.
        shape: the shape of the result without its last axis, to which the other axes of `mean` and
            `cov` broadcast; what these broadcast to if None.
        dtype: a float type; float64 unless given.

    It is the mean plus Cholesky's factor of `cov` times normal numbers. Raises `ShapeError` for
    other shapes and, like `np.linalg.cholesky`, an error where `cov` is not positive definite.

    >>> import numpy as np, weft
    >>> weft.random.multivariate_normal(weft.random.key(0), np.zeros(2), np.eye(2), (5,)).shape
    (5, 2)
    """
    node, kind = key_node(key, "multivariate_normal"), float_type(dtype, "multivariate_normal")
    m, c = parameter(mean, work(kind)), parameter(cov, work(kind))
    if not m.node.shape or len(c.node.shape) < 2 or c.node.shape[-2:] != (m.node.shape[-1],) * 2:
        raise problem(ShapeError, f"multivariate_normal got a mean of shape {m.node.shape} and "
                      f"covariances of shape {c.node.shape}",
                      expected="shapes that end in (n,) and (n, n)")
    n = m.node.shape[-1]
    own = broadcast_shape([m.node.shape[:-1], c.node.shape[:-2]])
    front = own if shape is None else sized(shape)
    if broadcast_shape([own, front]) != front:
        raise problem(ShapeError, f"multivariate_normal got the shape {front} for parameters of "
                      f"shape {own}", expected="a shape to which these broadcast")
    z = gaussian(node, (*front, n), kind)
    x = m + (np.linalg.cholesky(c) @ z[..., None])[..., 0]
    return result(x, (*front, n), kind)


@sampler("n", "shape", "dtype")
def orthogonal(key: Any, n: Any, shape: Any = (), dtype: Any = float) -> Any:
    """Orthogonal matrices of size n, in every direction alike (Haar's measure).

    The Q of the QR factorization of normal numbers, with the signs of R's diagonal moved into it
    (F. Mezzadri, "How to generate random matrices from the classical compact groups", 2007).

    >>> import numpy as np, weft
    >>> q = weft.random.orthogonal(weft.random.key(0), 3)
    >>> bool(np.allclose(q @ q.T, np.eye(3)))
    True
    """
    node, kind = key_node(key, "orthogonal"), float_type(dtype, "orthogonal")
    size = static(n, "orthogonal")
    front = sized(shape)
    q, r = np.linalg.qr(gaussian(node, (*front, size, size), kind))
    d = np.diagonal(r, axis1=-2, axis2=-1)
    return result(q * np.where(d < 0.0, -1.0, 1.0)[..., None, :], (*front, size, size), kind)
