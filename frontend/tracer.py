"""The stand-in for an array, a NumPy scalar or a Python scalar while a function is traced."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.errors import (
    DataDependentError,
    EscapedTracerError,
    ShapeError,
    TracerValueError,
    UnsupportedError,
)
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, DType, Size
from weft.frontend.problems import close_names, problem
from weft.frontend.table import (
    FUNCTIONS,
    HOOKS,
    METHODS,
    PROPERTIES,
    UNSUPPORTED,
    load_family,
)

if TYPE_CHECKING:
    from weft.frontend.recording import Trace

__all__ = ["DIFFERENTIATED", "NO_DEPS", "PYTHON_TYPES", "WEAK_DTYPES", "Tracer", "escaped"]

WEAK_DTYPES = {"float": DTYPES["f64"], "int": DTYPES["i64"], "bool": DTYPES["bool"],
               "complex": DTYPES["c128"]}
PYTHON_TYPES: dict[str, type] = {"float": float, "int": int, "bool": bool, "complex": complex}
NO_DEPS: frozenset[int] = frozenset()
DIFFERENTIATED = -3     # among `Tracer.deps`: a derivative is taken by this value


def _binary(name: str, reflected: bool = False) -> Callable[[Any, Any], Any]:
    def forward(self: Tracer, other: Any) -> Any:
        return HOOKS.binary(name, self, other)

    def backward(self: Tracer, other: Any) -> Any:
        return HOOKS.binary(name, other, self)
    return backward if reflected else forward


def _inplace(name: str) -> Callable[[Any, Any], Any]:
    def operate(self: Tracer, other: Any) -> Any:
        return HOOKS.inplace(name, self, other)
    return operate


def _unary(name: str) -> Callable[[Any], Any]:
    def operate(self: Tracer) -> Any:
        return HOOKS.unary(name, self)
    return operate


class Tracer:
    """A value of the traced function: it records what is done to it as nodes of a graph.

    `kind` says what NumPy would hold here: ``"array"``, ``"scalar"`` (a NumPy scalar), or a Python
    scalar, ``"float"``, ``"int"``, ``"bool"``, ``"complex"``, which promotes weakly. `value` is the
    Python value in this call where that is known (a `Size` for a symbolic size), and `deps` the
    flat arguments it was computed from (see `DIFFERENTIATED`). `arg` is the flat argument whose
    object this is, -1 for others; `source` the tracer this is a view of.

    It is not an ndarray, but ``isinstance(t, np.ndarray)`` holds where NumPy would have an array
    (its `__class__` is that of NumPy's object), so code of weft asks for `Tracer` first.
    """

    __slots__ = ("__weakref__", "arg", "deps", "kind", "node", "source", "tape", "value", "views")
    __array_priority__ = 1e6

    def __init__(self, trace: Trace, node: Node, kind: str = "array", *, arg: int = -1,
                 value: Any = None, deps: frozenset[int] = NO_DEPS,
                 source: Tracer | None = None) -> None:
        self.tape = trace
        self.node = node
        self.kind = kind
        self.arg = arg
        self.value = value
        self.deps = deps
        self.source = source
        self.views: list[weakref.ref[Tracer]] | None = None

    # ---- what it stands for

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        weak = PYTHON_TYPES.get(self.kind)
        if weak is not None:
            return weak
        return np.ndarray if self.kind == "array" else self.node.dtype.numpy.type

    def __repr__(self) -> str:
        return f"Tracer({self.kind if self.kind in WEAK_DTYPES else self.node.type})"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __hash__(self) -> int:
        return id(self)

    def __copy__(self) -> Tracer:
        return Tracer(self.tape, self.node, self.kind, value=self.value, deps=self.deps)

    def __deepcopy__(self, memo: Any) -> Tracer:
        return self.__copy__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise problem(TracerValueError, f"{self!r} cannot be pickled: its value is not known while "
                      "tracing", repair="pickle the result of the compiled function")

    @property
    def weak(self) -> bool:
        """Whether this stands for a Python scalar."""
        return self.kind in WEAK_DTYPES

    @property
    def element(self) -> DType:
        """The element type, as weft's `DType`."""
        return self.node.dtype

    # ---- attributes of ndarray

    def _attribute(self, name: str) -> Node:
        """The node, where the object stood for has this attribute of arrays."""
        if self.kind in WEAK_DTYPES:
            raise AttributeError(f"{self.kind!r} object has no attribute {name!r}")
        return self.node

    @property
    def shape(self) -> tuple[Any, ...]:
        """The sizes of the axes; symbolic ones are traced ints that serve in shapes."""
        shape = self._attribute("shape").shape
        return tuple(d if isinstance(d, int) else self.tape.size(d) for d in shape)

    @shape.setter
    def shape(self, shape: Any) -> None:
        raise problem(UnsupportedError, "assigning to .shape is not traced yet",
                      repair="write x = x.reshape(shape)")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type, as NumPy's dtype."""
        return self._attribute("dtype").dtype.numpy

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._attribute("ndim").shape)

    @property
    def size(self) -> Any:
        """The number of elements."""
        size = self._attribute("size").tensor.size
        return size if isinstance(size, int) else self.tape.size(size)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self._attribute("itemsize").dtype.itemsize

    @property
    def nbytes(self) -> Any:
        """Bytes of all elements."""
        return self.size * self.itemsize

    def __getattr__(self, name: str) -> Any:
        if self.kind in WEAK_DTYPES:
            return self._python_attribute(name)
        load_family(name)
        found = PROPERTIES.get(name)
        if found is not None:
            return self.tape.run(found, (self,), {})
        found = METHODS.get(name)
        if found is None:
            raise self._no_attribute(name)
        trace, implementation = self.tape, found
        return lambda *args, **kwargs: trace.run(implementation, (self, *args), kwargs)

    def _python_attribute(self, name: str) -> Any:
        if name in ("real", "imag"):
            return HOOKS.unary(name, self)
        if name == "conjugate":
            return lambda: HOOKS.unary("conjugate", self)
        if name.startswith("__") or not hasattr(PYTHON_TYPES[self.kind], name):
            raise AttributeError(f"{self.kind!r} object has no attribute {name!r}")
        return getattr(self.concrete(f".{name}"), name)

    def _no_attribute(self, name: str) -> Exception:
        owner = "numpy.ndarray" if self.kind == "array" else f"numpy.{self.node.dtype.numpy}"
        if name.startswith("_") or not hasattr(np.ndarray, name):
            return AttributeError(f"{owner!r} object has no attribute {name!r}")
        repair = VALUE_METHODS.get(name)
        if repair is not None:
            return problem(TracerValueError, f".{name}() needs the value of {self!r}, which is not "
                           "known while tracing", repair=repair)
        return problem(UnsupportedError, f"ndarray.{name} cannot be traced yet"
                       + close_names(name, METHODS),
                       repair="call it on the result of the compiled function")

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *METHODS, *PROPERTIES})

    # ---- conversions to Python: possible only where this call's value is known

    def concrete(self, wanted: str) -> Any:
        """The Python value in this call; the compilation is then specialised to it."""
        if self.value is None or isinstance(self.value, Size):
            raise self._unknown(wanted)
        if wanted in ("float()", "complex()"):
            self.check_constant(wanted)
        self.tape.specialize(self.deps)
        return self.value

    def check_constant(self, wanted: str) -> None:
        """Refuse to go on with the mere number where a derivative is taken by it."""
        if DIFFERENTIATED in self.deps:
            raise problem(
                TracerValueError, f"{wanted} of a value that is being differentiated would lose "
                "its derivative", expected="operations that can be traced",
                repair="leave the conversion out, and use NumPy's functions instead of math's; "
                "weft.stop_gradient(x) gives a value to be held constant")

    def _unknown(self, wanted: str) -> TracerValueError:
        what = f"{wanted} needs the value of {self!r}, which is not known while tracing"
        return problem(TracerValueError, what, expected="code that does not depend on the values "
                       "of arrays", repair=VALUE_REPAIRS.get(wanted, "keep it an array: use "
                                                             "NumPy's function instead"))

    def __bool__(self) -> bool:
        shape = self.node.shape
        if any(isinstance(d, int) and d != 1 for d in shape):
            raise problem(ShapeError, "The truth value of an array with more than one element is "
                          "ambiguous. Use a.any() or a.all()" if 0 not in shape else
                          "The truth value of an empty array is ambiguous. Use `array.size > 0` to "
                          "check that an array is not empty.")
        return bool(self.concrete("bool()"))

    def __int__(self) -> int:
        return int(self.concrete("int()"))

    def __float__(self) -> float:
        return float(self.concrete("float()"))

    def __complex__(self) -> complex:
        return complex(self.concrete("complex()"))

    def __index__(self) -> int:
        if self.node.dtype.kind not in ("int", "uint", "bool") or self.node.shape != ():
            name = self.kind if self.weak else "numpy.ndarray"
            raise TypeError(f"{name!r} object cannot be interpreted as an integer"
                            if self.weak else
                            "only integer scalar arrays can be converted to a scalar index")
        return int(self.concrete("an index"))

    def __round__(self, digits: int | None = None) -> Any:
        if self.kind == "array":
            raise TypeError("type numpy.ndarray doesn't define __round__ method")
        if self.weak or digits is None:
            return round(self.concrete("round()"), digits)
        return METHODS["round"](self, digits)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        number = not self.node.shape
        raise problem(
            TracerValueError, f"NumPy needs the value of {self!r}, which is not known while "
            "tracing", expected="a function of NumPy that dispatches on this argument",
            repair="pass sizes and bounds to the compiled function as Python numbers; weft.numpy "
            "has np.asarray and np.array for traced values" if number else
            "leave out np.asarray and np.array (weft.numpy has both, for traced arrays), and "
            "write methods of plain arrays as functions: np.dot(w, x) for w.dot(x), "
            "np.take(w, i, axis=0) for w[i]")

    # ---- NumPy's protocols

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return HOOKS.ufunc(self.tape, ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        found = FUNCTIONS.get(function)
        if found is None:
            raise unsupported_function(function)
        return self.tape.run(found, args, kwargs)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return HOOKS.namespace()

    # ---- as a sequence

    def __len__(self) -> int:
        if self.weak:
            raise TypeError(f"object of type {self.kind!r} has no len()")
        if not self.node.shape:
            raise TypeError("len() of unsized object")
        first = self.node.shape[0]
        if not isinstance(first, int):
            raise problem(TracerValueError, f"len() of {self!r}, whose first axis has the symbolic "
                          f"size {first}", repair="use x.shape[0], which may stay symbolic")
        return first

    def __iter__(self) -> Iterator[Any]:
        if self.weak:
            raise TypeError(f"{self.kind!r} object is not iterable")
        if not self.node.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        if self.weak:
            raise TypeError(f"{self.kind!r} object is not subscriptable")
        return self.tape.run(HOOKS.getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        raise problem(
            UnsupportedError, "writing into a traced array (x[...] = v) is not traced yet",
            repair="build the new array instead: x = np.where(mask, v, x), or np.concatenate or "
            "np.stack of its parts")

    def __delitem__(self, index: Any) -> None:
        raise ValueError("cannot delete array elements")

    # ---- operators

    __add__, __radd__, __iadd__ = _binary("add"), _binary("add", True), _inplace("add")
    __sub__, __rsub__ = _binary("subtract"), _binary("subtract", True)
    __mul__, __rmul__ = _binary("multiply"), _binary("multiply", True)
    __truediv__, __rtruediv__ = _binary("divide"), _binary("divide", True)
    __floordiv__, __rfloordiv__ = _binary("floor_divide"), _binary("floor_divide", True)
    __mod__, __rmod__ = _binary("remainder"), _binary("remainder", True)
    __divmod__, __rdivmod__ = _binary("divmod"), _binary("divmod", True)
    __matmul__, __rmatmul__ = _binary("matmul"), _binary("matmul", True)
    __and__, __rand__ = _binary("bitwise_and"), _binary("bitwise_and", True)
    __or__, __ror__ = _binary("bitwise_or"), _binary("bitwise_or", True)
    __xor__, __rxor__ = _binary("bitwise_xor"), _binary("bitwise_xor", True)
    __lshift__, __rlshift__ = _binary("left_shift"), _binary("left_shift", True)
    __rshift__, __rrshift__ = _binary("right_shift"), _binary("right_shift", True)
    __isub__, __imul__, __itruediv__ = map(_inplace, ("subtract", "multiply", "divide"))
    __ifloordiv__, __imod__, __imatmul__ = map(_inplace, ("floor_divide", "remainder", "matmul"))
    __iand__, __ior__, __ixor__ = map(_inplace, ("bitwise_and", "bitwise_or", "bitwise_xor"))
    __ilshift__, __irshift__, __ipow__ = map(_inplace, ("left_shift", "right_shift", "power"))
    __lt__, __le__, __gt__ = map(_binary, ("less", "less_equal", "greater"))
    __ge__ = _binary("greater_equal")
    __eq__, __ne__ = _binary("equal"), _binary("not_equal")
    __neg__, __pos__, __abs__ = map(_unary, ("negative", "positive", "absolute"))
    __invert__ = _unary("invert")

    def __pow__(self, exponent: Any, modulo: Any = None) -> Any:
        return HOOKS.binary("power", self, exponent)

    def __rpow__(self, base: Any, modulo: Any = None) -> Any:
        return HOOKS.binary("power", base, self)


VALUE_METHODS = {
    "item": "keep it an array; read it from the result of the compiled function",
    "tolist": "keep it an array; call tolist() on the result of the compiled function",
    "tobytes": "call tobytes() on the result of the compiled function",
    "tofile": "call tofile() on the result of the compiled function",
    "dump": "pickle the result of the compiled function",
    "dumps": "pickle the result of the compiled function",
}
VALUE_REPAIRS = {
    "bool()": "use np.where(condition, a, b) instead of a branch, & | ~ for and, or, not",
    "float()": "keep it an array: x.astype(float) converts, np.exp(x) replaces math.exp(x)",
    "int()": "keep it an array: x.astype(int) converts",
    "complex()": "keep it an array: x.astype(complex) converts",
    "an index": "pass it to the compiled function as a Python int; to index an array with it, "
                "index a traced array or use np.take",
}


def escaped(tracer: Tracer) -> Exception:
    """The error for a tracer used where its own trace does not run."""
    trace = tracer.tape
    made = tracer.node.origin
    return problem(
        EscapedTracerError, f"{tracer!r} of @{trace.builder.name} was used "
        + ("inside the tracing of another function" if trace.open else
           "after the tracing of that function had ended")
        + (f"; it was made at {made}: {made.source()}" if made else ""),
        expected="traced values to stay inside the function that is compiled",
        repair="return the value from the function instead of storing it outside")


def unsupported_function(function: Any) -> Exception:
    """The error for a NumPy function that tracers do not take."""
    name = f"{function.__module__}.{function.__name__}"
    why, repair = UNSUPPORTED.get(function, ("", ""))
    if why == "shape":
        return problem(DataDependentError, f"the shape of the result of {name} depends on values, "
                       "which are not known while tracing", repair=repair)
    if repair:
        return problem(UnsupportedError, f"{name} cannot be traced: {why}", repair=repair)
    supported = {f.__name__: f for f in FUNCTIONS if f.__name__ != function.__name__}
    return problem(UnsupportedError, f"{name} cannot be traced yet"
                   + close_names(function.__name__, supported),
                   repair="compute it outside the compiled function and pass the result in")


