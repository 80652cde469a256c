"""Functions of matrices that NumPy does not have, under SciPy's names (`scipy.linalg`).

Like SciPy's they take stacks of matrices, and keep single precision. All have derivatives.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError
from weft.compiler.ir import Node
from weft.compiler.types import dtype_of
from weft.frontend.control import fori_loop
from weft.frontend.nn.common import function
from weft.frontend.numpy.common import Array, as_array, build, lift, result
from weft.frontend.numpy.linalg_core import check_square
from weft.frontend.numpy.promote import common_type
from weft.frontend.numpy.ufuncs import broadcast_shape
from weft.frontend.problems import dtype_error, problem
from weft.frontend.transforms.custom import stop_gradient

__all__ = ["cho_factor", "cho_solve", "expm", "lu", "solve_triangular"]

_TRANS = {0: "NO_TRANSPOSE", "N": "NO_TRANSPOSE", 1: "TRANSPOSE", "T": "TRANSPOSE",
          2: "ADJOINT", "C": "ADJOINT"}


def _inexact(*xs: Array) -> list[Node]:
    """The operands in their common real or complex element type."""
    nodes = [lift(x).node for x in xs]
    kinds = tuple(n.dtype if n.dtype.is_inexact else dtype_of("f64") for n in nodes)
    dtype = common_type(kinds)
    if dtype.itemsize < 4:
        raise dtype_error(f"array type {dtype.numpy.name} is unsupported in linalg",
                          repair="convert to float32 with astype")
    return [build().convert(n, dtype) for n in nodes]


@function
def solve_triangular(a: Array, b: Array, trans: Any = 0, lower: bool = False,
                     unit_diagonal: bool = False) -> Any:
    """The solution x of a x = b, of which only the upper or the `lower` triangle of `a` is read.

    `a` is (…, m, m), `b` (m,) or (…, m, n), and x has the shape of b, with the leading axes of
    both. With `trans` 1 or "T" the system is a^T x = b, with 2 or "C" a^H x = b. A zero on the
    diagonal makes x infinite or NaN, where SciPy raises an error. `ValueError` where shapes do not
    fit.

    >>> import numpy as np, weft
    >>> weft.linalg.solve_triangular(np.array([[2.0, 1.0], [9.0, 4.0]]), np.array([4.0, 8.0]))
    array([1., 2.])
    """
    trans = trans if isinstance(trans, str) else operator.index(trans)
    if trans not in _TRANS:
        raise problem(ShapeError, f"solve_triangular got trans={trans!r}",
                      expected="0, 1, 2, 'N', 'T' or 'C'")
    x, y = _inexact(a, b)
    check_square(x)
    flat = len(y.shape) == 1
    if flat:
        y = build().reshape(y, (*y.shape, 1))
    if len(y.shape) < 2 or y.shape[-2] != x.shape[-1]:
        raise problem(ShapeError, f"shapes of a {x.tensor} and b {lift(b).node.tensor} are "
                      "incompatible", expected=f"{x.shape[-1]} rows in b")
    lead = broadcast_shape([x.shape[:-2], y.shape[:-2]])
    x, y = (build().broadcast(n, (*lead, *n.shape[-2:])) for n in (x, y))
    out = build().triangular_solve(x, y, left_side=True, lower=bool(lower),
                                   transpose_a=_TRANS[trans], unit_diagonal=bool(unit_diagonal))
    return as_array(build().reshape(out, out.shape[:-1]) if flat else out)


@function
def cho_factor(a: Array, lower: bool = False) -> Any:
    """The Cholesky factor of `a` (…, n, n), for `cho_solve`: ``(c, lower)``.

    `c` has zeros in the other triangle, where SciPy leaves anything. `LinAlgError` where a matrix
    is not positive definite.
    """
    (x,) = _inexact(a)
    check_square(x)
    return as_array(build().cholesky(x, lower=bool(lower))), bool(lower)


@function
def cho_solve(c_and_lower: Any, b: Array) -> Any:
    """The solution x of a x = b, given ``cho_factor(a)``.

    >>> import numpy as np, weft
    >>> a = np.array([[4.0, 2.0], [2.0, 3.0]])
    >>> weft.linalg.cho_solve(weft.linalg.cho_factor(a), np.array([8.0, 8.0]))
    array([1., 2.])
    """
    c, lower = c_and_lower
    first, second = (0, 2) if lower else (2, 0)
    y = solve_triangular(c, b, trans=first, lower=bool(lower))
    return solve_triangular(c, y, trans=second, lower=bool(lower))


@function
def lu(a: Array) -> Any:
    """Factors of `a` (…, m, n): a permutation p (…, m, m), a lower triangle l with ones on its
    diagonal, an upper one u, with a = p l u.

    >>> import numpy as np, weft
    >>> p, l, u = weft.linalg.lu(np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> (p @ l @ u).round(9)
    array([[1., 2.],
           [3., 4.]])
    """
    (x,) = _inexact(a)
    b, found = build(), build().lu(x)
    packed, order = as_array(b.get(found, index=0)), as_array(b.get(found, index=2))
    *_, m, n = packed.shape
    k = min(m, n)
    rows = b.iota(shape=(m, 1), axis=0, dtype=dtype_of("i32"))
    p = np.equal(as_array(rows), order[..., None, :]).astype(packed.real.dtype)
    low = np.tril(packed[..., :k], -1) + np.eye(m, k, dtype=packed.dtype)
    return p, low, np.triu(packed[..., :k, :])


_PADE = (64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0,
         129060195264000.0, 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0,
         40840800.0, 960960.0, 16380.0, 182.0, 1.0)
_LARGEST = 5.371920351148152        # 1-norm for which that approximation is good to float64


@function
def expm(A: Array) -> Any:
    """The exponential of matrices (…, n, n): scaling, a Padé approximation, squaring (Higham, "The
    scaling and squaring method for the matrix exponential revisited", 2005).

    >>> import numpy as np, weft
    >>> weft.linalg.expm(np.array([[0.0, 1.0], [0.0, 0.0]])).round(9)
    array([[1., 1.],
           [0., 1.]])
    """
    (node,) = _inexact(A)
    check_square(node)
    x: Any = as_array(node)
    if node.tensor.size == 0:
        return x
    size = stop_gradient(np.max(np.sum(np.abs(x), axis=-2), axis=-1))
    halvings = np.where(size > _LARGEST, np.ceil(np.log2(size / _LARGEST)), 0)
    x = x * np.exp2(-halvings)[..., None, None].astype(x.real.dtype)
    out = _pade(x)
    turns = np.max(halvings)
    wanted = halvings[..., None, None]

    def square(i: Any, y: Any) -> Any:
        return np.where(i < wanted, y @ y, y)
    return fori_loop(0, result(build().convert(lift(turns).node, "i64")), square, out)


def _pade(x: Any) -> Any:
    """The diagonal Padé approximation of degree 13."""
    c = [np.array(v).astype(x.dtype) for v in _PADE]
    one = np.eye(x.shape[-1], dtype=x.dtype)
    x2 = x @ x
    x4 = x2 @ x2
    x6 = x4 @ x2
    odd = x @ (x6 @ (c[13] * x6 + c[11] * x4 + c[9] * x2)
               + c[7] * x6 + c[5] * x4 + c[3] * x2 + c[1] * one)
    even = (x6 @ (c[12] * x6 + c[10] * x4 + c[8] * x2)
            + c[6] * x6 + c[4] * x4 + c[2] * x2 + c[0] * one)
    return np.linalg.solve(even - odd, even + odd)
