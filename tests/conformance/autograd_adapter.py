"""`autograd` as a name for weft, so that HIPS/autograd's own tests run on weft's derivatives.

`install(folder)` puts modules named ``autograd``, ``autograd.numpy``, … into `sys.modules`; in
`folder` lies autograd's source, of which only `wrap_util`, `util`, `test_util` and `misc.flatten`
are used: the checks themselves. What is differentiated, and how, is weft's.
"""

from __future__ import annotations

import builtins
import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.random

import weft
import weft.numpy as wnp
from weft.frontend.pytree import flatten, unflatten
from weft.frontend.table import FUNCTIONS
from weft.frontend.tracer import Tracer

__all__ = ["install"]

Function = Callable[..., Any]


# ---- vector spaces, which the checks draw random vectors from

class VSpace:
    """The space of values like one: containers of real and complex arrays."""

    def __init__(self, value: Any) -> None:
        leaves, self.tree = flatten(value)
        for leaf in leaves:
            if not isinstance(leaf, (int, float, complex, np.ndarray, np.generic)):
                raise TypeError(f"no vector space for {type(leaf).__name__}")
        self.shapes = tuple(tuple(np.shape(leaf)) for leaf in leaves)
        self.complex = tuple(np.iscomplexobj(leaf) for leaf in leaves)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VSpace) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"VSpace({self.tree}, {self.shapes}, {self.complex})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a space of arrays."""
        return self.shapes[0]

    @property
    def iscomplex(self) -> bool:
        """Whether any number is complex."""
        return any(self.complex)

    @property
    def size(self) -> int:
        """How many real numbers there are."""
        return sum(int(np.prod(s)) * (1 + c) for s, c in zip(self.shapes, self.complex))

    def _filled(self, make: Callable[[tuple[int, ...]], Any]) -> Any:
        parts = [make(s) + 1j * make(s) if c else make(s)
                 for s, c in zip(self.shapes, self.complex)]
        return unflatten(self.tree, parts)

    def zeros(self) -> Any:
        """The zero vector."""
        return self._filled(np.zeros)

    def ones(self) -> Any:
        """Ones everywhere."""
        return self._filled(np.ones)

    def randn(self) -> Any:
        """A random vector."""
        return self._filled(lambda shape: np.asarray(np.random.randn(*shape)))

    def standard_basis(self) -> Iterator[Any]:
        """The unit vectors."""
        for at, (shape, is_complex) in enumerate(zip(self.shapes, self.complex)):
            for index in np.ndindex(shape):
                for unit in (1.0, 1j)[:1 + is_complex]:
                    leaves = flatten(self.zeros())[0]
                    leaves[at][index] = unit
                    yield unflatten(self.tree, leaves)

    def _map(self, fn: Function, *values: Any) -> Any:
        return unflatten(self.tree, [fn(*xs) for xs in zip(*(flatten(v)[0] for v in values))])

    def add(self, x: Any, y: Any) -> Any:
        """x + y"""
        return self._map(lambda a, b: a + b, x, y)

    def scalar_mul(self, x: Any, a: Any) -> Any:
        """a x"""
        return self._map(lambda v: v * a, x)

    def covector(self, x: Any) -> Any:
        """The complex conjugate."""
        return self._map(lambda v: np.conj(v) if np.iscomplexobj(v) else v, x)

    def inner_prod(self, x: Any, y: Any) -> Any:
        """The real inner product."""
        return sum(np.sum(np.real(np.conj(a) * b)) if np.iscomplexobj(a) or np.iscomplexobj(b)
                   else np.sum(a * b) for a, b in zip(flatten(x)[0], flatten(y)[0]))


# ---- autograd's operators, by weft's

def _inexact(x: Any) -> Any:
    """autograd differentiates by integers as if they were floats."""
    return unflatten(flatten(x)[1], [float(v) if type(v) in (int, bool) else v
                                     for v in flatten(x)[0]])


def make_vjp(fun: Function, x: Any) -> tuple[Function, Any]:
    """autograd's core operator for reverse mode."""
    value, pull = weft.vjp(fun, _inexact(x))
    return lambda g: pull(_like(g, value))[0], value


def _like(g: Any, value: Any) -> Any:
    """A cotangent in the value's own containers; autograd lets a number stand for an array."""
    leaves, tree = flatten(value)
    given = flatten(g)[0]
    if len(given) == 1 and len(leaves) == 1 and np.shape(given[0]) != np.shape(leaves[0]):
        given = [np.broadcast_to(given[0], np.shape(leaves[0]))]
    return unflatten(tree, given)


def make_jvp(fun: Function, x: Any) -> Function:
    """autograd's core operator for forward mode."""
    x = _inexact(x)
    return lambda v: weft.jvp(fun, (x,), (_inexact(v),))


def _number(fun: Function) -> Function:
    """The function, where its result has one element: as a number."""
    @functools.wraps(fun)
    def number(x: Any) -> Any:
        y = fun(x)
        return np.reshape(y, ()) if np.size(y) == 1 and np.ndim(y) else y
    return number


def _grad(fun: Function, x: Any) -> Any:
    return weft.grad(_number(fun))(_inexact(x))


def _value_and_grad(fun: Function, x: Any) -> Any:
    return weft.value_and_grad(_number(fun))(_inexact(x))


def _grad_and_aux(fun: Function, x: Any) -> Any:
    return weft.grad(fun, has_aux=True)(_inexact(x))


def _elementwise_grad(fun: Function, x: Any) -> Any:
    return weft.grad(lambda x: np.sum(fun(x)))(_inexact(x))


def _holomorphic_grad(fun: Function, x: Any) -> Any:
    return weft.grad(lambda x: np.real(np.reshape(fun(x), ())))(_inexact(x))


def _deriv(fun: Function, x: Any) -> Any:
    return make_jvp(fun, x)(VSpace(x).ones())[1]


def _make_ggnvp(f: Function, g: Function = lambda x: 0.5 * np.sum(x ** 2, axis=-1),
                f_argnum: int = 0) -> Function:
    def at(x: Any) -> Function:
        value, push = weft.linearize(f, x)
        _, pull = weft.vjp(f, x)
        return lambda v: pull(weft.hvp(g, (value,), (push(v),)))[0]
    return at


def _second(fun: Function, argnum: int = 0) -> Function:
    """H v, called with v behind the function's arguments."""
    def product(*args: Any) -> Any:
        *args_, v = args
        at = [lambda x, k=k: x if k == argnum else args_[k] for k in range(len(args_))]
        return weft.hvp(lambda x: fun(*(a(x) for a in at)), (args_[argnum],), (v,))
    return product


def _first(fun: Function, argnum: int = 0) -> Function:
    """v J, called with v behind the function's arguments."""
    def product(*args: Any) -> Any:
        *args_, v = args
        def contracted(*args: Any) -> Any:
            return np.tensordot(v, fun(*args), axes=np.ndim(v))
        return weft.jacobian(contracted, argnum)(*args_)
    return product


def _make_diagonal(d: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """autograd's own: matrices with the last axis of `d` on the diagonal."""
    assert (offset, axis1, axis2) == (0, -1, -2)
    return d[..., None] * np.eye(d.shape[-1])


class Internal(Exception):
    """A test asks for autograd's own machinery."""


def _internal(name: str) -> Function:
    def raiser(*args: Any, **kwargs: Any) -> Any:
        raise Internal(f"{name} is part of autograd's machinery")
    return raiser


# ---- modules

def _traceable(part: ModuleType, name: str) -> Any:
    """A function of np.linalg or np.fft that takes lists of traced numbers, too."""
    value = getattr(part, name)
    traced = FUNCTIONS.get(value) if callable(value) else None
    return value if traced is None else wnp._wrapped(value, traced)


def _module(name: str, **values: Any) -> ModuleType:
    made = ModuleType(name)
    made.__path__ = []                       # type: ignore[attr-defined]
    vars(made).update(values)
    sys.modules[name] = made
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, made)
    return made


def _load(name: str, path: Path) -> ModuleType:
    """One of autograd's own files, under its name."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    parent, _, last = name.rpartition(".")
    setattr(sys.modules[parent], last, made)
    return made


def install(folder: Path) -> None:
    """Make `import autograd` mean weft; `folder` holds autograd's sources."""
    root = _module("autograd", isinstance=builtins.isinstance, list=builtins.list,
                   tuple=builtins.tuple, dict=builtins.dict, type=builtins.type)
    _load("autograd.util", folder / "util.py")
    nary = _load("autograd.wrap_util", folder / "wrap_util.py").unary_to_nary
    _module("autograd.builtins", isinstance=builtins.isinstance, list=builtins.list,
            tuple=builtins.tuple, dict=builtins.dict, type=builtins.type)
    names = {k: _internal(k) for k in ("primitive", "defvjp", "defjvp", "defvjp_argnum")}
    _module("autograd.tracer", isbox=lambda x: type(x) is Tracer, getval=lambda x: x, **names)
    _module("autograd.extend", **names)
    _module("autograd.core", make_vjp=make_vjp, make_jvp=make_jvp, vspace=VSpace, VSpace=VSpace,
            primitive_vjps={}, **names)
    numpy_ = _module("autograd.numpy", make_diagonal=_make_diagonal, __version__=np.__version__)
    numpy_.__getattr__ = lambda name: getattr(wnp, name)     # type: ignore[method-assign]
    sys.modules["autograd.numpy.random"] = numpy_.random = np.random   # type: ignore[attr-defined]
    for part in ("linalg", "fft"):
        _module(f"autograd.numpy.{part}").__getattr__ = functools.partial(  # type: ignore[method-assign]
            _traceable, getattr(np, part))
    for name, operator in {"grad": _grad, "value_and_grad": _value_and_grad,
                           "grad_and_aux": _grad_and_aux, "elementwise_grad": _elementwise_grad,
                           "holomorphic_grad": _holomorphic_grad, "deriv": _deriv,
                           "make_vjp": make_vjp, "make_jvp": make_jvp}.items():
        operator.__name__ = name
        setattr(root, name, nary(operator))
    for name, made in {
            "jacobian": weft.jacobian, "hessian": lambda f: weft.jacobian(weft.jacobian(f)),
            "make_ggnvp": _make_ggnvp, "hessian_tensor_product": _second,
            "hessian_vector_product": _second, "tensor_jacobian_product": _first,
            "vector_jacobian_product": _first, "checkpoint": lambda f: f,
            "make_hvp": nary(lambda f, x: make_vjp(weft.grad(f), x))}.items():
        setattr(root, name, made)
    _load("autograd.test_util", folder / "test_util.py")
    _module("autograd.misc", const_graph=_internal("const_graph"))
    root.misc.flatten = _load("autograd.misc.flatten", folder / "misc/flatten.py").flatten
    _scipy()


def _scipy() -> None:
    """`autograd.scipy` as SciPy itself, where that is installed."""
    try:
        import scipy.integrate
        import scipy.linalg
        import scipy.signal
        import scipy.special
        import scipy.stats
    except ImportError:
        return
    _module("autograd.scipy")
    for part in ("integrate", "linalg", "signal", "special", "stats"):
        module = getattr(scipy, part)
        sys.modules[f"autograd.scipy.{part}"] = module
        setattr(sys.modules["autograd.scipy"], part, module)
    for name in ("multivariate_normal", "norm", "t", "dirichlet"):
        sys.modules[f"autograd.scipy.stats.{name}"] = getattr(scipy.stats, name)
