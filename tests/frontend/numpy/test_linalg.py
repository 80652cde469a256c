"""numpy.linalg on tracers is NumPy's own: the same values to the bit where LAPACK's routine is all
there is, the same element types, named results and errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from same_as_numpy import Run, against_numpy, assert_same

import weft
from weft.errors import LinAlgError

_RNG = np.random.default_rng(11)


def _complex(*shape: int) -> Any:
    return _RNG.normal(size=shape) + 1j * _RNG.normal(size=shape)


_H = _complex(4, 4)
ARRAYS: dict[str, Any] = {
    "a": _RNG.normal(size=(4, 4)),
    "af": _RNG.normal(size=(4, 4)).astype("f4"),
    "ac": _complex(4, 4),
    "ac8": _complex(4, 4).astype("c8"),
    "ai": np.array([[2, 1, 0], [1, 3, -1], [0, -1, 4]]),
    "ab": np.array([[True, False], [True, True]]),
    "at": _RNG.normal(size=(2, 3, 4, 4)),
    "ar": _RNG.normal(size=(8, 8))[::-2, ::2].T,
    "s": _RNG.normal(size=(4, 4)) @ np.diag([1, 2, 3, 4]) @ np.eye(4) + 9 * np.eye(4),
    "p": np.cov(_RNG.normal(size=(4, 9))),
    "pf": np.cov(_RNG.normal(size=(4, 9))).astype("f4"),
    "pc": _H @ _H.conj().T + np.eye(4),
    "pt": np.stack([np.cov(_RNG.normal(size=(3, 9))) for _ in range(5)]),
    "tall": _RNG.normal(size=(6, 3)),
    "wide": _RNG.normal(size=(3, 6)),
    "tallc": _complex(6, 3),
    "tallf": _RNG.normal(size=(6, 3)).astype("f4"),
    "stack": _RNG.normal(size=(2, 5, 3)),
    "low": np.outer(np.arange(1.0, 6.0), [1.0, 2.0, 3.0]),
    "e": np.zeros((0, 0)),
    "e3": np.zeros((0, 3, 3)),
    "e0": np.zeros((3, 0)),
    "v": _RNG.normal(size=4),
    "vf": _RNG.normal(size=4).astype("f4"),
    "v3": _RNG.normal(size=3),
    "v6": _RNG.normal(size=6),
    "b": _RNG.normal(size=(4, 2)),
    "bc": _complex(4, 2),
    "b6": _RNG.normal(size=(6, 2)),
    "bt": _RNG.normal(size=(3, 4, 2)),
    "z": np.float64(2.0),
    "sing": np.array([[1.0, 2.0], [2.0, 4.0]]),
    "nan": np.array([[1.0, np.nan], [0.0, 2.0]]),
    "h": np.ones((2, 2), "f2"),
    "i24": _RNG.normal(size=(24, 24)),
    "t4": _RNG.normal(size=(2, 3, 3, 2)),
    "t22": _RNG.normal(size=(2, 2)),
    "t23": _RNG.normal(size=(2, 3)),
}
EXACT = """
np.linalg.solve(X, v) | a af ac ac8 ar
np.linalg.solve(X, vf) | a af ac
np.linalg.solve(X, b) | a af ac at
np.linalg.solve(X, bc) | a ac
np.linalg.solve(X, bt) | a at
np.linalg.solve(X, v3) | ai a sing
np.linalg.solve(X, z) | a
np.linalg.solve(X, b) | tall v sing
np.linalg.inv(X) | a af ac ac8 ai ab at ar e e3
np.linalg.inv(X) | tall v h
np.linalg.matrix_power(X, -1) | a ai ac
np.linalg.matrix_power(X, -3) | s
np.linalg.det(X) | a af ac ac8 ai ab at ar e e3 sing nan
np.linalg.det(X) | tall v h
np.linalg.slogdet(X) | a af ac ac8 ai at e e3 sing nan
np.linalg.slogdet(X).logabsdet | a ac
np.linalg.cholesky(X) | p pf pc pt ai e e3
np.linalg.cholesky(X, upper=True) | p pf pc pt
np.linalg.cholesky(X) | a tall v nan
np.linalg.qr(X) | a af ac ac8 ai tall wide tallc tallf stack e e0 at
np.linalg.qr(X, mode='complete') | a tall wide tallc stack
np.linalg.qr(X, mode='r') | a tall wide tallf
np.linalg.qr(X, mode='raw') | a tall wide tallc
np.linalg.qr(X, mode='odd') | a
np.linalg.qr(X) | v
np.linalg.qr(X).R | tall
np.linalg.svd(X) | a af ac ac8 ai tall wide tallc stack
np.linalg.svd(X, full_matrices=False) | tall wide tallc tallf stack e0
np.linalg.svd(X, compute_uv=False) | a af tall tallc e
np.linalg.svd(X, hermitian=True) | p pc pt
np.linalg.svd(X, compute_uv=False, hermitian=True) | p pc a
np.linalg.svdvals(X) | a tallc stack
np.linalg.svd(X) | v
np.linalg.eigh(X) | a p pf pc pt ai e e3 nan
np.linalg.eigh(X, UPLO='u') | a pc
np.linalg.eigh(X, 'X') | a
np.linalg.eigh(X).eigenvalues | a
np.linalg.eigvalsh(X) | a p pf pc pt ai
np.linalg.eigvalsh(X, UPLO='U') | a pc
np.linalg.eigh(X) | tall v
np.linalg.matrix_rank(X) | a tall low stack v z ai e0
np.linalg.matrix_rank(X, tol=2.0) | a stack
np.linalg.matrix_rank(X, rtol=0.2) | a stack
np.linalg.matrix_rank(X, hermitian=True) | p pc
np.linalg.matrix_rank(X, tol=1.0, rtol=1.0) | a
np.linalg.cond(X) | a af ac tall stack sing ai nan
np.linalg.cond(X, -2) | a tall
np.linalg.cond(X, 1) | a af at sing nan
np.linalg.cond(X, np.inf) | a
np.linalg.cond(X, 'fro') | a af ac
np.linalg.cond(X) | e
np.linalg.cond(X, 1) | tall
np.linalg.tensorinv(X.reshape(4, 6, 8, 3)) | i24
np.linalg.tensorinv(X, ind=0) | t4
np.linalg.tensorsolve(X.reshape(6, 4, 2, 3, 4), np.ones((6, 4))) | i24
np.linalg.tensorsolve(X.reshape(6, 4, 2, 3, 4), np.ones((4, 3)), axes=(0, 3)) | i24
np.linalg.tensorsolve(X, t22) | t4
np.linalg.lstsq(X, v6) | tall
np.linalg.lstsq(X, b6) | tall tallc tallf
np.linalg.lstsq(X, v3) | wide
np.linalg.lstsq(X, b, rcond=0.1) | a
np.linalg.lstsq(X, v)[0] | a
np.linalg.lstsq(X, np.ones(5))[0] | low
np.linalg.lstsq(X, np.ones((6, 0))) | tall
np.linalg.lstsq(X, v) | tall v stack
np.linalg.norm(X, 2) | a af ac tall
np.linalg.norm(X, -2) | a wide
np.linalg.norm(X, 'nuc') | a af tall
np.linalg.norm(X, 'nuc', axis=(0, 2), keepdims=True) | stack
np.linalg.norm(X, 'f') | a
np.linalg.norm(X, 3) | a
np.linalg.norm(X, 'nuc') | v
np.linalg.norm(X, 2, axis=(-1, -2)) | at
np.linalg.matrix_norm(X, ord=2) | at a
np.linalg.matrix_norm(X, ord='nuc', keepdims=True) | stack
np.linalg.matrix_norm(X, ord=-2) | stack
"""
NEAR = """
np.linalg.pinv(X) | a af ac tall wide tallc tallf stack low ai e0
np.linalg.pinv(X, 0.5) | a stack
np.linalg.pinv(X, rtol=0.5) | a
np.linalg.pinv(X, rtol=None) | a tall
np.linalg.pinv(X, hermitian=True) | p pc
np.linalg.pinv(X, np.array([0.1, 0.5])) | stack
np.linalg.pinv(X, 0.1, rtol=0.1) | a
np.linalg.pinv(X) | v
"""


def expand(table: str) -> list[str]:
    out = []
    for line in filter(None, table.splitlines()):
        expression, _, names = line.rpartition(" | ")
        out += [expression.replace("X", name)
                for name in (names.split(" ") if "(" not in names else [names])]
    return out


def arguments(expression: str) -> tuple[Any, list[Any]]:
    """The function of an expression, and the arrays it takes."""
    words = re.findall(r"(?<![\w.'])([a-z]\w*)(?!\w*=)(?![\w'])", expression)
    names = list(dict.fromkeys(w for w in words if w in ARRAYS))
    fn = eval(f"lambda {', '.join(names)}: ({expression})", {"np": np})
    return fn, [ARRAYS[n] for n in names]


@pytest.mark.parametrize("expression", expand(EXACT))
def test_like_numpy(run: Run, expression: str) -> None:
    fn, arrays = arguments(expression)
    against_numpy(run, fn, *arrays)


@pytest.mark.parametrize("expression", expand(NEAR))
def test_near_numpy(run: Run, expression: str) -> None:
    fn, arrays = arguments(expression)
    against_numpy(run, fn, *arrays, signs=False)


# ---- what cannot be as in NumPy

def test_eigenvalues_are_complex(run: Run) -> None:
    """NumPy gives real arrays where all eigenvalues happen to be real."""
    for name in ("a", "af", "p", "ac", "ai", "at", "e"):
        x = ARRAYS[name]
        w, v = np.linalg.eig(x)
        kind = np.complex64 if x.dtype == np.float32 else np.complex128
        assert_same(run(np.linalg.eig, x), (w.astype(kind), v.astype(kind)))
        assert_same(run(np.linalg.eigvals, x), np.linalg.eigvals(x).astype(kind))


def inverse(x: Any) -> Any:
    return np.linalg.inv(x)                                         # singular


def triangle(x: Any) -> Any:
    return np.linalg.cholesky(x)                                    # indefinite


def eigenvalues(x: Any) -> Any:
    return np.linalg.eigvals(x)                                     # infinite


def residuals(x: Any) -> Any:
    return np.linalg.lstsq(x, np.ones(5))[1]                        # deficient


FAILURES = [
    (inverse, "sing", "Singular matrix\n  at test_linalg.py:{}: return np.linalg.inv(x)"),
    (triangle, "a", "Matrix is not positive definite\n  at test_linalg.py:{}: "
     "return np.linalg.cholesky(x)"),
    (eigenvalues, "nan", "Array must not contain infs or NaNs\n  at test_linalg.py:{}: "
     "return np.linalg.eigvals(x)"),
    (residuals, "low", "the matrix does not have full column rank, so that NumPy's residuals are "
     "empty, and a traced result cannot change its shape\n  at test_linalg.py:{}: "
     "return np.linalg.lstsq(x, np.ones(5))[1]"),
]


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("fn, name, text", FAILURES, ids=[f.__name__ for f, _, _ in FAILURES])
def test_failures(device: str, fn: Any, name: str, text: str) -> None:
    """NumPy's error and words, at the user's line, however the call reaches the code."""
    line = fn.__code__.co_firstlineno + 1
    compiled = weft.jit(fn, device=device)
    for _ in range(3):
        with pytest.raises(np.linalg.LinAlgError) as found:
            compiled(ARRAYS[name])
        assert isinstance(found.value, LinAlgError)
        assert re.sub(r" {2,}#.*", "", str(found.value)) == text.format(line)


def test_good_calls_follow_bad_ones() -> None:
    compiled = weft.jit(inverse)
    for _ in range(3):
        with pytest.raises(np.linalg.LinAlgError):
            compiled(ARRAYS["sing"])
        np.testing.assert_array_equal(compiled(np.eye(2)), np.eye(2))


def test_overflows_before_do_no_harm() -> None:
    """The flag by which LAPACK's failures show may be set by anything that ran before."""
    compiled = weft.jit(lambda x, y: (np.sqrt(x), np.linalg.inv(y)))
    for _ in range(3):
        with np.errstate(all="ignore"):
            _ = np.float64(np.inf) - np.float64(np.inf)
        root, inverted = compiled(np.array([-1.0]), np.eye(3))
        assert np.isnan(root[0]) and (inverted == np.eye(3)).all()


def test_named_results() -> None:
    found = weft.jit(np.linalg.eigh)(ARRAYS["p"])
    assert type(found) is type(np.linalg.eigh(ARRAYS["p"]))
    found = weft.jit(lambda x: np.linalg.svd(x, full_matrices=False).S)(ARRAYS["tall"])
    np.testing.assert_array_equal(found, np.linalg.svd(ARRAYS["tall"], full_matrices=False).S)
