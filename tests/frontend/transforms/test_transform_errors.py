"""The exact text of every error of the transforms; HERE is the user's line."""

import math
import re

import numpy as np
import pytest

import weft
from weft import errors

X = np.array([1.0, 2.0, 3.0])
WHOLE = np.arange(3)


def loss(x):
    return np.sum(x * x)


def halves(x):
    return {"a": x, "b": x}


def branch(x):
    return x if x > 0 else -x


ONE_NUMBER = "weft.{} needs a function with one number as its result, but {} gives {}\nHERE\n" \
             "  expected: a 0-d array\n  repair:   {}"
ALONE = "return the loss alone; with has_aux=True, (loss, others)"
REDUCE = "reduce it, with .sum() or .mean(), or use weft.jacobian"
NO_DERIVATIVE = "weft.{}: argument {} of {} has element type {}, which has no derivative\nHERE\n" \
                "  expected: float16, bfloat16, float32, float64, complex64 or complex128\n" \
                "  repair:   pass it as a float, or leave it out of argnums"
LOST = "{} of a value that is being differentiated would lose its derivative\nHERE\n" \
       "  expected: operations that can be traced\n  repair:   leave the conversion out, and use " \
       "NumPy's functions instead of math's; weft.stop_gradient(x) gives a value to be held " \
       "constant"

ERRORS = [
    # ---- results without a gradient
    (lambda: weft.grad(np.sin)(X), errors.ShapeError,
     ONE_NUMBER.format("grad", "sin", "f64[3]", REDUCE)),
    (lambda: weft.value_and_grad(lambda x: x.reshape(1, 3))(X), errors.ShapeError,
     ONE_NUMBER.format("value_and_grad", "function", "f64[1, 3]", REDUCE)),
    (lambda: weft.hessian(np.sin)(X), errors.ShapeError,
     ONE_NUMBER.format("grad", "sin", "f64[3]", REDUCE)),
    (lambda: weft.grad(halves)(1.0), errors.ShapeError,
     ONE_NUMBER.format("grad", "halves", "{'a': *, 'b': *}", ALONE)),
    (lambda: weft.grad(lambda x: (x, x))(1.0), errors.ShapeError,
     ONE_NUMBER.format("grad", "function", "(*, *)", ALONE)),
    (lambda: weft.grad(lambda x: None)(1.0), errors.ShapeError,
     ONE_NUMBER.format("grad", "function", "None", ALONE)),
    (lambda: weft.grad(lambda x: "loss")(1.0), errors.ShapeError,
     ONE_NUMBER.format("grad", "function", "'loss'", ALONE)),
    (lambda: weft.grad(loss)(X + 1j), errors.DTypeError,
     "weft.grad needs a real result, but loss gives complex128\nHERE\n"
     "  expected: a real floating-point number\n  repair:   take .real or abs() of it"),
    (lambda: weft.grad(np.argmax)(X), errors.DTypeError,
     "weft.grad needs a real result, but argmax gives int64\nHERE\n"
     "  expected: a real floating-point number\n"
     "  repair:   compute the result in floating point"),
    (lambda: weft.grad(loss, has_aux=True)(X), errors.UnsupportedError,
     "weft.grad: with has_aux, loss must give two results\nHERE\n  expected: (value, aux)\n"
     "  repair:   return a tuple of two, or leave out has_aux"),
    # ---- arguments without a derivative
    (lambda: weft.grad(loss)(WHOLE), errors.DTypeError,
     NO_DERIVATIVE.format("grad", "x", "loss", "int64")),
    (lambda: weft.grad(loss)(3), errors.DTypeError,
     NO_DERIVATIVE.format("grad", "x", "loss", "int64")),
    (lambda: weft.grad(lambda p: p["w"][0] * 1.0)({"w": [True]}), errors.DTypeError,
     NO_DERIVATIVE.format("grad", "p['w'][0]", "function", "bool")),
    (lambda: weft.jacobian(np.sin)(WHOLE), errors.DTypeError,
     NO_DERIVATIVE.format("jacobian", "x", "sin", "int64")),
    (lambda: weft.grad(lambda f, x: f(x))(np.sum, X), errors.DTypeError,
     "weft.grad: argnums picks an argument of function of type _ArrayFunctionDispatcher, which has "
     "no derivative\nHERE\n  expected: arrays, numbers, or containers of them\n"
     "  repair:   choose another argument with argnums; `self` counts as one"),
    # ---- argnums
    (lambda: weft.grad(loss, 1)(X), errors.ShapeError,
     "weft.grad: argnums names 1, but loss is called with 1 argument(s): x\nHERE\n"
     "  expected: a position in [0, 1) or one of these names"),
    (lambda: weft.grad(loss, (0, "y"))(X), errors.ShapeError,
     "weft.grad: argnums names 'y', but loss is called with 1 argument(s): x\nHERE\n"
     "  expected: a position in [0, 1) or one of these names"),
    (lambda: weft.grad(loss, -2)(X), errors.ShapeError,
     "weft.grad: argnums names -2, but loss is called with 1 argument(s): x\nHERE\n"
     "  expected: a position in [0, 1) or one of these names"),
    (lambda: weft.grad(loss, 1.0), errors.UnsupportedError,
     "argnums is 1.0\nHERE\n  expected: the position or the name of an argument, or several"),
    (lambda: weft.grad(loss, ()), errors.UnsupportedError,
     "argnums is ()\nHERE\n  expected: the position or the name of an argument, or several"),
    (lambda: weft.grad(loss, True), errors.UnsupportedError,
     "argnums is True\nHERE\n  expected: the position or the name of an argument, or several"),
    (lambda: weft.grad(X), errors.UnsupportedError,
     "weft.grad got a ndarray\nHERE\n  expected: a function\n"
     "  repair:   give the function itself: weft.grad(f), then call that"),
    (lambda: weft.jacobian(loss, mode="rev"), errors.UnsupportedError,
     "weft.jacobian: mode is 'rev'\nHERE\n  expected: 'auto' or 'forward' or 'reverse'"),
    # ---- tangents and cotangents
    (lambda: weft.jvp(np.sin, (X,), (X[:2],)), errors.ShapeError,
     "weft.jvp: the tangent of x has shape (2,), x itself (3,)\nHERE\n  expected: equal shapes"),
    (lambda: weft.jvp(np.sin, (X,), (X.astype("f4"),)), errors.DTypeError,
     "weft.jvp: the tangent of x has element type float32, x itself float64\nHERE\n"
     "  expected: equal element types\n  repair:   convert the tangent with astype"),
    (lambda: weft.jvp(lambda p: p[0], ((X, X),), ([X, X],)), errors.ShapeError,
     "weft.jvp: a tangent of function has the structure [*, *], its primal (*, *)\nHERE\n"
     "  expected: tangents built like the primals"),
    (lambda: weft.jvp(np.sin, X, X), errors.UnsupportedError,
     "weft.jvp: primals is a ndarray\nHERE\n  expected: a tuple, with one entry for each argument "
     "of the function\n  repair:   write (x,) for one argument"),
    (lambda: weft.jvp(np.sin, (X,), (X, X)), errors.ShapeError,
     "weft.jvp: sin gets 1 primals and 2 tangents\nHERE\n  expected: as many tangents as primals"),
    (lambda: weft.hvp(loss, (X,), (X[:2],)), errors.ShapeError,
     "weft.jvp: the tangent of x has shape (2,), x itself (3,)\nHERE\n  expected: equal shapes"),
    (lambda: weft.linearize(np.sin, X)[1](X[:2]), errors.ShapeError,
     "weft.linearize: the tangent of x has shape (2,), x itself (3,)\nHERE\n"
     "  expected: equal shapes"),
    (lambda: weft.vjp(np.sin, X)[1](X[:2]), errors.ShapeError,
     "weft.vjp: a cotangent of sin has shape (2,), the value (3,)\nHERE\n"
     "  expected: equal shapes"),
    (lambda: weft.vjp(halves, X)[1](X), errors.ShapeError,
     "weft.vjp: the cotangent of halves has the structure *, its value {'a': *, 'b': *}\nHERE\n"
     "  expected: a cotangent built like the value"),
    # ---- vmap
    (lambda: weft.vmap(np.add)(X, X[:2]), errors.ShapeError,
     "weft.vmap: the mapped axes differ in size: x1 has 3, x2 has 2\nHERE\n  expected: one size"),
    (lambda: weft.vmap(np.add, (0,))(X, X), errors.ShapeError,
     "weft.vmap: in_axes has 1 entries, but add is called with 2 positional argument(s)\nHERE\n"
     "  expected: an entry for each"),
    (lambda: weft.vmap(lambda p: p[0], ((0, 0, 0),))((X, X)), errors.ShapeError,
     "weft.vmap: in_axes of function has the structure (*, *, *), where there is (*, *)\nHERE\n"
     "  expected: one axis for all, or a container of axes built like the values"),
    (lambda: weft.vmap(halves, 0, {"a": 0})(X), errors.ShapeError,
     "weft.vmap: out_axes of halves has the structure {'a': *}, where there is {'a': *, 'b': *}\n"
     "HERE\n  expected: one axis for all, or a container of axes built like the values"),
    (lambda: weft.vmap(np.sin, 1)(X), errors.ShapeError,
     "weft.vmap: axis 1 of x is to be mapped over, but it has 1 dimension(s)\nHERE\n"
     "  expected: an axis in [-1, 1)\n"
     "  repair:   give in_axes None for x, so that every element gets all of it"),
    (lambda: weft.vmap(np.sin)(1.0), errors.ShapeError,
     "weft.vmap: axis 0 of x is to be mapped over, but it has 0 dimension(s)\nHERE\n"
     "  expected: an array with an axis\n"
     "  repair:   give in_axes None for x, so that every element gets all of it"),
    (lambda: weft.vmap(np.sin, None)(X), errors.ShapeError,
     "weft.vmap: nothing of sin's arguments is mapped over\nHERE\n"
     "  expected: at least one argument with an axis to map over"),
    (lambda: weft.vmap(np.sin, 0, 1)(X), errors.ShapeError,
     "weft.vmap: out_axes has 1 for a result with 1 dimension(s)\nHERE\n"
     "  expected: an axis in [-1, 1)"),
    (lambda: weft.vmap(np.sin, 0, None)(X), errors.ShapeError,
     "weft.vmap: out_axes is None for a result of sin that differs between elements\nHERE\n"
     "  expected: an int"),
    (lambda: weft.vmap(np.sin, "x"), errors.UnsupportedError,
     "weft.vmap: an axis is 'x'\nHERE\n  expected: ints, None, or containers of them"),
    # ---- values that are not known, or may not be used
    (lambda: weft.vmap(branch)(X), errors.TracerValueError,
     "bool() needs the value of Tracer(bool[]), which is not known while tracing\nHERE\n"
     "  expected: code that does not depend on the values of arrays\n"
     "  repair:   use np.where(condition, a, b) instead of a branch, & | ~ for and, or, not"),
    (lambda: weft.grad(lambda x: float(x) * 2)(1.0), errors.TracerValueError,
     LOST.format("float()")),
    (lambda: weft.grad(lambda x: math.sin(x * 2))(1.0), errors.TracerValueError,
     LOST.format("float()")),
    (lambda: weft.grad(lambda x: abs(complex(x)))(1.0), errors.TracerValueError,
     LOST.format("complex()")),
    (lambda: weft.jvp(lambda x: float(x), (1.0,), (1.0,)), errors.TracerValueError,
     LOST.format("float()")),
    (lambda: weft.grad(lambda x: weft.grad(lambda y: float(x) * y)(1.0))(1.0),
     errors.TracerValueError, LOST.format("float()")),
    (lambda: weft.grad(lambda x: abs(x ** 0.5))(-8.0), errors.TracerValueError,
     LOST.format("power with a result of type complex")),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS, ids=range(len(ERRORS)))
def test_text(call, kind, text):
    with pytest.raises(kind) as caught:
        call()
    got = str(caught.value)
    where = re.search(r"\n  at (\S+):(\d+): .*", got)
    assert where is not None and where[1] == "test_transform_errors.py"
    first = call.__code__.co_firstlineno
    assert first <= int(where[2]) <= first + 2 or "x > 0" in where[0]
    assert got.replace(where[0], "\nHERE") == text


def test_ops_without_a_derivative():
    """The error names the op and the user's line."""
    from weft.compiler.transforms.jvp import no_derivative

    def bits(x):
        return x * 2

    node = weft.jit(bits).trace(1.5).graph.results[0]
    text = str(no_derivative(node))
    assert text.startswith("the op mul has no derivative\n  at test_transform_errors.py:")
    assert "return x * 2\n" in text and "weft.stop_gradient" in text
