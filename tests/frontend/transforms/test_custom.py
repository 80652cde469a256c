"""Derivatives of the user's own, constants to derivatives, and checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import weft

X = np.array([0.25, -1.5, 3.0])


def log1pexp() -> Any:
    """A custom_jvp function whose own derivative would overflow, and whose rule calls itself."""
    @weft.custom_jvp
    def f(x: Any) -> Any:
        return np.log(1 + np.exp(x))

    @f.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (x,), (t,) = primals, tangents
        return f(x), t * (1 - 1 / (1 + np.exp(x)))
    return f


def clipped() -> Any:
    """A custom_vjp function: the identity, whose cotangent is clipped."""
    @weft.custom_vjp
    def f(x: Any) -> Any:
        return x * 1.0
    f.defvjp(lambda x: (x * 1.0, None), lambda _, ct: (np.clip(ct, -1, 1),))
    return f


def test_custom_jvp_in_all_modes() -> None:
    """The rule serves values, both modes, second order and batches."""
    f = log1pexp()
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(f(X), np.log1p(np.exp(X)), rtol=1e-15)
    slope = 1 / (1 + np.exp(-X))
    assert weft.grad(f)(np.float64(1000.0)) == 1.0
    np.testing.assert_allclose(weft.jvp(f, (X,), (np.ones(3),))[1], slope, rtol=1e-14)
    np.testing.assert_allclose(weft.vmap(weft.grad(f))(X), slope, rtol=1e-14)
    np.testing.assert_allclose(weft.vmap(weft.grad(weft.grad(f)))(X), slope * (1 - slope),
                               rtol=1e-12)
    np.testing.assert_allclose(weft.jit(weft.grad(lambda x: f(x).sum()))(X), slope, rtol=1e-14)


def test_custom_vjp_in_reverse_mode() -> None:
    """The backward rule is used instead of the function's derivative, in batches too."""
    f = clipped()
    loss = lambda x: np.sum(f(x) ** 2)                                  # noqa: E731
    np.testing.assert_allclose(weft.grad(loss)(X), np.clip(2 * X, -1, 1))
    np.testing.assert_allclose(weft.vmap(weft.grad(lambda x: f(x) ** 2))(X), np.clip(2 * X, -1, 1))
    np.testing.assert_allclose(f(X), X)
    second = weft.grad(lambda x: weft.grad(loss)(x).sum())(X)
    np.testing.assert_allclose(second, np.where(abs(2 * X) < 1, 2.0, 0.0))


def test_custom_vjp_with_containers_residuals_and_fixed_arguments() -> None:
    """Arguments in containers; residuals of any structure; strings and functions stay as given."""
    @weft.custom_vjp
    def f(params: Any, how: Any) -> Any:
        return how(params["w"]) * params["n"]

    g = weft.custom_vjp(f.__wrapped__, nondiff_argnums=(1,))
    g.defvjp(lambda params, how: (how(params["w"]) * params["n"], {"w": (params["w"],)}),
             lambda how, residuals, ct: ({"w": ct * residuals["w"][0], "n": None},))
    with pytest.raises(weft.errors.WeftError, match="structure"):
        weft.grad(lambda p: g(p, np.sin).sum())({"w": X, "n": 2.0})
    g.defvjp(lambda params, how: (how(params["w"]) * params["n"], {"w": (params["w"],)}),
             lambda how, residuals, ct: ({"w": ct * residuals["w"][0], "n": 7.0},))
    got = weft.grad(lambda p: g(p, np.sin).sum())({"w": X, "n": 2.0})
    np.testing.assert_allclose(got["w"], X)
    assert got["n"] == 7.0


def test_rules_may_close_over_values() -> None:
    """Arrays and traced values from around a rule are operands of it."""
    scale = np.array([1.0, 10.0, 100.0])

    @weft.custom_jvp
    def f(x: Any) -> Any:
        return x * 1.0

    @f.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        return f(primals[0]), tangents[0] * scale
    slope = weft.jit(weft.grad(lambda x: f(x).sum()))
    np.testing.assert_allclose(slope(X), scale)

    @weft.jit
    def outer(x: Any, k: Any) -> Any:
        @weft.custom_vjp
        def g(x: Any) -> Any:
            return x * 1.0
        g.defvjp(lambda x: (x * 1.0, None), lambda _, ct: (ct * k,))
        return weft.grad(lambda x: g(x).sum())(x)
    np.testing.assert_allclose(outer(X, np.float64(3.0)), [3.0, 3.0, 3.0])


def test_stop_gradient() -> None:
    """Values pass, derivatives do not."""
    np.testing.assert_allclose(weft.grad(lambda x: (x * weft.stop_gradient(x)).sum())(X), X)
    tree = weft.stop_gradient({"a": X, "n": 3})
    assert tree["a"] is X and tree["n"] == 3
    out = weft.jit(lambda x: weft.stop_gradient((x, 2)))(X)
    np.testing.assert_array_equal(out[0], X)


@pytest.mark.parametrize("wrap", [weft.checkpoint, lambda f: f], ids=["checkpoint", "plain"])
def test_checkpoint_keeps_values_and_derivatives(wrap: Any) -> None:
    """All modes and orders through a checkpoint."""
    w = np.array([0.5, 2.0, -1.0])
    block = wrap(lambda x: np.sin(np.sin(x) * w))
    f = lambda x: block(x).sum()                                        # noqa: E731
    u = np.sin(X) * w
    slope = np.cos(u) * w * np.cos(X)
    np.testing.assert_allclose(block(X), np.sin(u), rtol=1e-15)
    np.testing.assert_allclose(weft.grad(f)(X), slope, rtol=1e-14)
    np.testing.assert_allclose(weft.jvp(f, (X,), (np.ones(3),))[1], slope.sum(), rtol=1e-14)
    np.testing.assert_allclose(weft.linearize(block, X)[1](np.ones(3)), slope, rtol=1e-14)
    np.testing.assert_allclose(weft.vmap(weft.grad(lambda x: np.sum(block(x))))(np.stack([X, X])),
                               [slope, slope], rtol=1e-14)
    curve = -np.sin(u) * (w * np.cos(X)) ** 2 - np.cos(u) * w * np.sin(X)
    np.testing.assert_allclose(weft.hessian(f)(X), np.diag(curve), rtol=1e-13, atol=1e-15)


def test_checkpoint_of_a_loop() -> None:
    """What a loop keeps for its derivative is computed again with it."""
    def turns(x: Any) -> Any:
        return weft.fori_loop(0, 5, lambda _, u: np.sin(u) * 1.1, x)

    plain = weft.grad(lambda x: turns(x).sum())(X)
    kept = weft.grad(lambda x: weft.checkpoint(turns)(x).sum())(X)
    np.testing.assert_allclose(kept, plain, rtol=1e-14)
    block = weft.checkpoint(turns)
    blocks = lambda x: weft.scan(lambda u, _: (block(u), None), x, None, length=3)[0]  # noqa: E731
    whole = lambda x: turns(turns(turns(x)))                            # noqa: E731
    np.testing.assert_allclose(weft.grad(lambda x: blocks(x).sum())(X),
                               weft.grad(lambda x: whole(x).sum())(X), rtol=1e-14)


def test_checkpoint_computes_again() -> None:
    """The backward pass begins at the arguments, kept apart from the forward pass."""
    block = weft.checkpoint(lambda x: np.sin(np.sin(x)))
    graph = weft.jit(weft.value_and_grad(lambda x: block(x).sum())).trace(X).optimize().graph
    assert [n.opname for n in graph.nodes].count("sin") == 3       # two, and one of them again
    assert "optimization_barrier" in [n.opname for n in graph.nodes]


ERRORS = {
    "no rule": (lambda: weft.grad(weft.custom_jvp(np.sin))(0.5), """\
sin has no derivative yet
  at test_custom.py:{line}: "no rule": (lambda: weft.grad(weft.custom_jvp(np.sin))(0.5), \"\"\"\\
  expected: a rule
  repair:   give it with @sin.defjvp"""),
    "forward mode": (lambda: weft.jvp(clipped(), (X,), (X,)), """\
f has a derivative by weft.custom_vjp, which is for reverse mode only
  at test_custom.py:{line}: "forward mode": (lambda: weft.jvp(clipped(), (X,), (X,)), \"\"\"\\
  expected: grad, vjp or jacrev
  repair:   give its derivative with weft.custom_jvp, which serves both modes"""),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    """The exact texts."""
    make, text = ERRORS[name]
    with pytest.raises(weft.errors.WeftError) as caught:
        make()
    line = make.__code__.co_firstlineno
    assert str(caught.value) == text.format(line=line)


@pytest.mark.parametrize("around", ["loop", "part", "batch"])
def test_rules_close_over_what_the_function_does(around):
    """Wherever the call is by the time that its derivative is taken."""
    def f(x, s):
        @weft.custom_jvp
        def g(x):
            return np.exp(x) * s

        @g.defjvp
        def _(primals, tangents):
            return g(*primals), tangents[0] * s * 2

        @weft.custom_vjp
        def h(x):
            return np.sin(x) * s
        h.defvjp(lambda x: (h(x), x * s), lambda r, ct: (ct * r * s,))
        if around == "loop":
            return weft.fori_loop(0, 2, lambda i, x: g(x), x).sum()
        if around == "part":
            with weft.device("reference"):
                return g(h(g(h(x)))).sum()
        return weft.vmap(lambda x: g(h(g(h(x)))))(x).sum()

    def slope(x, s):
        if around == "loop":
            return np.full(2, (s * 2) ** 2)
        y = np.exp(np.sin(x) * s) * s
        return (s * 2) ** 2 * (x * s * s) * (y * s * s)
    x = np.array([0.25, -0.5])
    np.testing.assert_allclose(weft.jit(weft.grad(f))(x, 1.5), slope(x, 1.5))


def test_rules_that_close_over_more_are_refused():
    def f(x, s):
        @weft.custom_jvp
        def g(x):
            return np.exp(x)

        @g.defjvp
        def _(primals, tangents):
            return g(*primals), tangents[0] * s
        return weft.fori_loop(0, 2, lambda i, x: g(x), x).sum()
    with pytest.raises(weft.errors.UnsupportedError) as caught:
        weft.jit(weft.grad(f))(np.ones(2), 1.5)
    assert str(caught.value).splitlines()[0] == (
        "the rule of g closes over a value, f64[], that g itself does not use")
    assert str(caught.value).splitlines()[-1] == "  repair:   pass the value as an argument"
