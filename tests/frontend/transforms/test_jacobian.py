"""`weft.jacobian`, `jacfwd`, `jacrev`, `hessian`, `hvp`."""

import numpy as np
import pytest

import weft

X = np.array([0.3, -0.7, 1.2])
MODES = ["auto", "forward", "reverse"]


def close(got, want):
    want = np.asarray(want)
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_shapes(mode):
    """For a result of shape s and an argument of shape t: (*s, *t)."""
    a = np.arange(6.0).reshape(2, 3)
    close(weft.jacobian(lambda x: a @ x, mode=mode)(X), a)
    close(weft.jacobian(lambda x: np.sum(x * x), mode=mode)(X), 2 * X)
    close(weft.jacobian(lambda x: np.outer(x, x), mode=mode)(X),
          np.einsum("ik,j->ijk", np.eye(3), X) + np.einsum("jk,i->ijk", np.eye(3), X))
    close(weft.jacobian(lambda x: x * X, mode=mode)(2.0), X)
    close(weft.jacobian(lambda x: x.T, mode=mode)(a),
          np.eye(6).reshape(2, 3, 2, 3).transpose(1, 0, 2, 3))
    close(weft.jacobian(np.sin, mode=mode)(np.zeros(0)), np.zeros((0, 0)))
    close(weft.jacobian(lambda x: np.ones(2), mode=mode)(X), np.zeros((2, 3)))


@pytest.mark.parametrize("mode", MODES)
def test_containers(mode):
    def f(p, s):
        return {"u": p["x"] * p["y"] * s, "v": (np.sum(p["x"]),)}

    got = weft.jacobian(f, mode=mode)({"x": X, "y": 2.0}, 3.0)
    close(got["u"]["x"], 6 * np.eye(3))
    close(got["u"]["y"], 3 * X)
    close(got["v"][0]["x"], np.ones(3))
    close(got["v"][0]["y"], 0.0)
    p, s = weft.jacobian(f, (0, "s"), mode=mode)({"x": X, "y": 2.0}, 3.0)["u"]
    close(p["y"], 3 * X)
    close(s, 2 * X)


@pytest.mark.parametrize("mode", MODES)
def test_auxiliary_results(mode):
    jacobian, aux = weft.jacobian(lambda x: (x * x, {"n": 3, "x": x}), mode=mode, has_aux=True)(X)
    close(jacobian, np.diag(2 * X))
    assert aux["n"] == 3
    close(aux["x"], X)


def test_modes_agree_and_nest():
    def f(x):
        return np.sin(x) * np.sum(x * x)

    want = weft.jacobian(f)(X)
    for outer in (weft.jacfwd, weft.jacrev, weft.jacobian):
        close(outer(f)(X), want)
        for inner in (weft.jacfwd, weft.jacrev):
            close(outer(inner(f))(X), weft.jacfwd(weft.jacfwd(f))(X))


def test_auto_takes_what_has_fewer():
    """Few results: rows by reverse mode; few inputs: columns by forward mode."""
    wide = weft.jacobian(lambda x: np.stack([np.sum(np.sin(x)), np.sum(x)]))
    tall = weft.jacobian(lambda x: np.concatenate([np.sin(x)] * 5))
    close(wide(X), np.stack([np.cos(X), np.ones(3)]))
    close(tall(X), np.concatenate([np.diag(np.cos(X))] * 5))
    sizes = [max(n.tensor.size for n in f.trace(X).graph.nodes) for f in (wide, tall)]
    assert sizes[0] <= 2 * 3 and sizes[1] <= 3 * 15


def test_complex():
    z = X + 1j
    close(weft.jacfwd(lambda z: z * z)(z), np.diag(2 * z))
    close(weft.jacrev(lambda z: z * z)(z), np.diag(2 * z))
    close(weft.jacrev(np.abs)(z), np.diag(np.conj(z) / np.abs(z)))


def test_hessian():
    a = np.arange(9.0).reshape(3, 3)
    close(weft.hessian(lambda x: x @ a @ x)(X), a + a.T)
    got = weft.hessian(lambda p: np.sum(p["x"] ** 2) * p["y"])({"x": X, "y": 2.0})
    close(got["x"]["x"], 4 * np.eye(3))
    close(got["x"]["y"], 2 * X)
    close(got["y"]["x"], 2 * X)
    close(got["y"]["y"], 0.0)
    both = weft.hessian(lambda x, y: np.sum(x * y * y), (0, 1))(X, 2.0)
    close(both[0][1], np.full(3, 4.0))
    close(both[1][0], np.full(3, 4.0))
    assert weft.hessian(np.sin)(0.5) == pytest.approx(-np.sin(0.5))


def test_hessian_vector_products():
    def f(x):
        return np.sum(np.sin(x) * x[::-1])

    close(weft.hvp(f, (X,), (X,)), weft.hessian(f)(X) @ X)
    got = weft.hvp(lambda p: np.sum(p["x"] ** 3), ({"x": X},), ({"x": X},))
    close(got["x"], 6 * X * X)


def test_float32_and_static_arguments():
    x = X.astype("f4")
    assert weft.jacobian(np.sin)(x).dtype == np.float32
    got = weft.jacobian(lambda x, how: getattr(np, how)(x))(X, "cos")
    close(got, np.diag(-np.sin(X)))
