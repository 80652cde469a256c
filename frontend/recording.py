"""One tracing run: the graph being built, the arrays it captured, the values it depends on."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.errors import Origin, UnsupportedError, caller_origin
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Size, TensorType, dtype_of
from weft.frontend.leaves import array_device
from weft.frontend.problems import UnboundedIntegerError, problem
from weft.frontend.structured import structured
from weft.frontend.table import HOOKS
from weft.frontend.tracer import DIFFERENTIATED, PYTHON_TYPES, Tracer, escaped
from weft.runtime.arrays import freeze, is_frozen

__all__ = ["Capture", "Trace", "active", "lift"]

SMALL = 1 << 16    # bytes up to which captured arrays are compared whole and may become constants


class _Local(threading.local):
    trace: Trace | None = None


LOCAL = _Local()


def active() -> Trace | None:
    """The trace that runs in this thread, if any."""
    return LOCAL.trace


class Capture:
    """A writeable array that the traced function closed over, and what it held when first used."""

    __slots__ = ("array", "node", "origin", "print")

    def __init__(self, array: Any, node: Node, origin: Origin | None) -> None:
        self.array = array
        self.origin = origin
        self.node = node
        self.print = fingerprint(array)

    def is_private(self, captures: int) -> bool:
        """Whether only this many captures refer to the array: the function made it while traced."""
        if sys.getrefcount(self.array) > 1 + captures:
            return False
        owner = self.array.base
        return owner is None or (isinstance(owner, np.ndarray) and owner.base is None
                                 and sys.getrefcount(owner) <= 3)

    def become_constant(self, builder: Builder) -> bool:
        """Turn the hidden parameter into a constant of what the array held when first used, or into
        the ops that compute it; false where neither is possible."""
        dtype, array = element_type(self.array).numpy, self.array
        if isinstance(self.print, bytes):
            array = np.frombuffer(self.print, array.dtype).reshape(array.shape)
        elif self.print is None or self.print != fingerprint(array):
            return False
        rule = structured(array.astype(dtype, copy=False))
        if rule is None and array.nbytes > SMALL:
            return False
        builder.params.remove(self.node)
        later, builder.nodes = builder.nodes, []
        builder.origin = self.origin
        if rule is None:
            made = builder.add("constant", value=array.astype(dtype))
        else:
            made = rule(builder)
        self.node.op, self.node.inputs, self.node.attrs = made.op, made.inputs, made.attrs
        self.node.origin = self.origin
        builder.nodes[-1] = self.node           # which others have as their input already
        builder.nodes += later
        return True


def fingerprint(array: Any) -> Any:
    """What tells, at little cost, whether an array was changed: its bytes, or their parity."""
    if not isinstance(array, np.ndarray):       # on a device, where looking at it is not cheap
        return None
    if array.nbytes <= SMALL or not array.flags.c_contiguous or array.nbytes % 8:
        return array.tobytes() if array.nbytes <= SMALL else None
    return int(np.bitwise_xor.reduce(array.reshape(-1).view(np.uint64)))


class Trace:
    """The state of one tracing run; tracers belong to exactly one."""

    def __init__(self, name: str) -> None:
        self.builder = self.root = Builder(name)    # `subtrace` puts other builders in its place
        self.open = True
        self.busy = False              # inside an implementation: the origin is set already
        self.captures: list[Capture] = []
        self.arguments: list[Tracer] = []
        self.specialized: dict[int, Any] = {}
        self.placed: dict[Node, Any] = {}       # nodes in `with weft.device` blocks: their `Place`
        self._by_id: dict[int, Capture] = {}
        self._sizes: dict[Size, Tracer] = {}

    def run(self, implementation: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call the implementation of a NumPy function, its nodes placed at the user's line."""
        if self.busy:
            return implementation(*args, **kwargs)
        if not self.open or LOCAL.trace is not self:
            raise self._escape(args, kwargs)
        self.builder.origin = caller_origin()
        self.busy = True
        try:
            return implementation(*args, **kwargs)
        finally:
            self.busy = False

    def _escape(self, args: Any, kwargs: Any) -> Exception:
        mine = [a for a in (*args, *kwargs.values()) if type(a) is Tracer and a.tape is self]
        return escaped(mine[0] if mine else Tracer(self, self.builder.scalar(0, "i64"), "int"))

    def locate(self) -> None:
        """Take the user's line as the origin of the nodes that follow."""
        if not self.busy:
            self.builder.origin = caller_origin()

    def specialize(self, deps: frozenset[int]) -> None:
        """Record that the trace depends on the values of these arguments."""
        for i in deps:
            if i != DIFFERENTIATED:
                self.specialized[i] = self.arguments[i].value

    def size(self, size: Size) -> Tracer:
        """A symbolic size as a traced Python int."""
        found = self._sizes.get(size)
        if found is None:
            node = self.builder.add("size", size=size)
            found = self._sizes[size] = Tracer(self, node, "int", value=size)
        return found

    # ---- values from outside

    def lift(self, value: Any) -> Tracer:
        """Any value NumPy takes as an array, as a tracer of the kind that `value` has."""
        kind = type(value)
        if kind is Tracer:
            if value.tape is not self or not self.open:
                raise escaped(value)
            return value  # type: ignore[no-any-return]
        if kind in _PYTHON_KINDS:
            return self._python(value, _PYTHON_KINDS[kind])
        if isinstance(value, np.ndarray):
            return Tracer(self, self.node_of_array(value), "array", arg=CLOSURE)
        if isinstance(value, np.generic):
            return Tracer(self, self.constant(np.asarray(value)), "scalar")
        if isinstance(value, (list, tuple)):
            return self._sequence(value)
        if isinstance(value, (bool, int, float, complex)):     # subclasses, such as IntEnum
            base: Any = next(t for t in (bool, int, float, complex) if isinstance(value, t))
            return self._python(base(value), base.__name__)
        return self._foreign(value)

    def _python(self, value: Any, kind: str) -> Tracer:
        if kind == "int" and not -(1 << 63) <= value < 1 << 63:
            if 0 < value < 1 << 64:
                return Tracer(self, self.builder.scalar(value, "u64"), "scalar")
            raise problem(UnboundedIntegerError, f"Python integer {value} out of bounds for int64",
                          expected="integers of at most 64 bits")
        node = self.builder.scalar(value, dtype_of(PYTHON_TYPES[kind]))
        return Tracer(self, node, kind, value=value)

    def _sequence(self, value: Any) -> Tracer:
        if not _holds_tracer(value):
            return Tracer(self, self.constant(np.asarray(value)), "array")
        return HOOKS.sequence(value)  # type: ignore[no-any-return]

    def _foreign(self, value: Any) -> Tracer:
        if array_device(value) is not None:
            return Tracer(self, self._captured(value), "array", arg=CLOSURE)
        if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
            return Tracer(self, self.node_of_array(np.asarray(value)), "array", arg=CLOSURE)
        raise problem(
            UnsupportedError, f"an object of type {type(value).__name__} cannot be traced",
            expected="arrays, NumPy scalars, Python numbers, or lists of them")

    def constant(self, array: np.ndarray[Any, Any]) -> Node:
        """A constant node with a private copy of the array, or the ops that compute it."""
        value = np.array(array, element_type(array).numpy, order="C")
        rule = structured(value)
        return self.builder.constant(value) if rule is None else rule(self.builder)

    def node_of_array(self, array: np.ndarray[Any, Any]) -> Node:
        """A concrete array: a constant if nothing can write to it, else a hidden parameter."""
        element_type(array)
        if array.ndim == 0 and array.base is None and not array.flags.writeable:
            return self.constant(array)
        if is_frozen(array):
            return self.constant(array)
        return self._captured(array)

    def _captured(self, array: Any) -> Node:
        """The hidden parameter that stands for an array, which is read again at every call."""
        found = self._by_id.get(id(array))
        if found is None or found.print != fingerprint(array):
            type = TensorType(tuple(array.shape), element_type(array))
            found = Capture(array, self.root.param("captured", type), self.builder.origin)
            self.captures.append(found)
            self._by_id[id(array)] = found
        return found.node

    def settle_captures(self) -> tuple[Any, ...]:
        """The captured arrays, now that the function has run; its own become constants."""
        kept: list[Any] = []
        self._by_id.clear()
        times = Counter(id(c.array) for c in self.captures)
        for capture in self.captures:
            private = isinstance(capture.array, np.ndarray) and capture.is_private(
                times[id(capture.array)])
            if private and capture.become_constant(self.builder):
                continue
            if capture.print != fingerprint(capture.array):
                raise UnsupportedError(
                    f"the function writes into an array from outside itself, {capture.node.type}, "
                    "which is not traced yet", origin=capture.origin,
                    repair="return the new values and assign them at the caller")
            if private:
                freeze(capture.array)           # so that devices may keep a copy
            kept.append(capture.array)
        return tuple(kept)


CLOSURE = -2    # `Tracer.arg` of arrays from outside that are not arguments
_PYTHON_KINDS: dict[Any, str] = {t: name for name, t in PYTHON_TYPES.items()}


def element_type(array: Any) -> Any:
    """The array's element type; an `UnsupportedError` where weft has none."""
    try:
        return dtype_of(array.dtype)
    except TypeError:
        raise problem(
            UnsupportedError, f"arrays of dtype {array.dtype} cannot be traced",
            expected=", ".join(str(d.numpy) for d in DTYPES.values()),
            repair="object arrays, strings, dates and records stay outside compiled functions"
            if array.dtype.kind in "OSUMmVT" else "convert it with astype") from None


def _holds_tracer(value: Any) -> bool:
    return any(type(v) is Tracer or (isinstance(v, (list, tuple)) and _holds_tracer(v))
               for v in value)


HOOKS.holds_tracer = _holds_tracer


def lift(value: Any) -> Tracer:
    """`value` as a tracer of the running trace."""
    if type(value) is Tracer and value.tape.busy:
        return value
    trace = LOCAL.trace
    assert trace is not None, "no trace runs"
    return trace.lift(value)
