"""`weft.jit`: functions that are traced, compiled and kept by the signature of their calls."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.target import PRECISIONS
from weft.devices.registry import ARRAY_CLASSES, AUTO, DEFAULT_DEVICE, check_device
from weft.frontend.leaves import INT_LIMIT
from weft.frontend.location import device_of_any, get_default_device, is_usual
from weft.frontend.recording import active
from weft.frontend.records import Record, reasons
from weft.frontend.shortcut import Shortcut
from weft.frontend.signature import Arguments, Call, Pattern, leaf_parts
from weft.frontend.stages import CompiledStage, LoweredStage, Options, TracedStage, trace_stage
from weft.frontend.statics import value_key
from weft.frontend.tracer import Tracer
from weft.frontend.watch import Watch
from weft.runtime.arrays import straightened
from weft.runtime.cache import disk_cache
from weft.runtime.dispatch import DispatchCache
from weft.runtime.executable import MISSED, Executable

if TYPE_CHECKING:
    from weft.devices.mesh import Mesh

__all__ = ["BoundJit", "Jit", "jit"]

_ndarray = np.ndarray
_WEAK = frozenset((float, bool, complex))
_RECORDS = 1000     # compilations remembered for `weft.explain`


class Jit:
    """A compiled function: made by `weft.jit`, called like the function it was made from.

    Compiles at the first call of each signature (types and shapes of arrays, containers, values
    of static arguments); later calls run the machine code. Safe to call from many threads.
    """

    __wrapped__: Callable[..., Any]
    __name__: str
    _has_entries = False

    def __init__(self, fn: Callable[..., Any], options: Options, static_argnames: Iterable[str],
                 shapes: Mapping[str, Pattern], cache_size: int) -> None:
        functools.update_wrapper(self, fn)
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)
        name = getattr(fn, "__qualname__", self.__name__).rpartition("<locals>.")[2]
        self.options = options
        self.records: deque[Record] = deque(maxlen=_RECORDS)
        self._fn = fn
        self._arguments = Arguments(fn, name if name != "<lambda>" else "function",
                                    static_argnames, shapes, options.donate)
        self._watch = Watch(fn)
        self._cache: DispatchCache[Executable] = DispatchCache(cache_size, value_key)
        self._lock = threading.Lock()
        self._shortcut = Shortcut()
        # Whether a key may be made from positional arrays and numbers alone.
        self._simple = not self._arguments.static and not self._arguments.shapes
        self._elsewhere: dict[str, Jit] = {}

    # ---- calling

    def _dispatch(self, /, *args: Any, **kwargs: Any) -> Any:
        """The way of a call through Python. Native entries come here with what they miss."""
        # Kept small: a frame with few variables is made in half the time.
        shorter = self._shortcut.call
        if shorter is not None and not kwargs:
            result = shorter(args)
            if result is not MISSED:
                return result
            self._shortcut.missed()
        return self._found(args, kwargs)

    __call__ = _dispatch

    def _found(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call by what was compiled for its signature."""
        if kwargs:
            args, kwargs = self._arguments.normal(args, kwargs)
            if not kwargs and (self._has_entries or self._shortcut.call is not None):
                return self(*args)              # natively, most likely
        if self._simple and not kwargs and (self.options.device or is_usual()):
            parts: list[Any] = []
            for arg in args:
                kind = type(arg)
                if kind is _ndarray:
                    parts.append(arg.dtype)
                    parts.append(arg.shape)
                elif kind in _WEAK or (kind is int and -INT_LIMIT <= arg < INT_LIMIT):
                    parts.append(kind)
                elif kind in ARRAY_CLASSES and self.options.device:
                    parts.append(arg.dtype)
                    parts.append(arg.shape)
                else:
                    break
            else:
                if not self._watch.is_empty:
                    parts.append(self._watch.state())
                found = self._cache.find(tuple(parts), args)
                if found is not None:
                    found.countdown -= 1
                    if not found.countdown:
                        self._see_to_entry(found)
                    elif found.entry is not None:
                        straight = straightened(args)
                        if straight is not None:
                            return self(*straight)
                    if found.on_device and self.options.device:
                        self._shorten(found, args)
                    return found(args)
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = self._apart(args, kwargs)
        if call is None:
            return self._inside(args, kwargs)
        key = self._key(call)
        found = self._cache.find(key, call.leaves)
        if found is None:
            if active() is not None:
                return self._inside(args, kwargs)
            found = self._make(call, args, kwargs)
        else:
            found.countdown -= 1
            if not found.countdown:
                self._see_to_entry(found)
            if found.on_device and (call.away or self.options.device):
                self._shorten(found, call.leaves)
        return found(call.leaves)

    def _inside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call as a part of the trace that runs, on the function's device if one was named."""
        if not self.options.device:
            return self._fn(*args, **kwargs)
        from weft.frontend.placement import device  # for functions with a device in others only

        with device(self.options.device):
            return self._fn(*args, **kwargs)

    def _apart(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """The call taken apart, or None if it is part of a trace that runs."""
        if active() is None:
            return self._arguments.apart(args, kwargs)
        try:
            call = self._arguments.apart(args, kwargs)
        except UnsupportedError:
            return None                   # the plain function may take what a jitted one does not
        return None if any(type(leaf) is Tracer for leaf in call.leaves) else call

    def _key(self, call: Call, outside: Hashable = None) -> Hashable:
        if outside is None:
            outside = self._outside(call)
        parts = leaf_parts(call.leaves) if self._simple and call.is_flat else (
            self._arguments.key(call),)
        if not self.options.device:
            device = device_of_any(call.away) if call.away else (
                DEFAULT_DEVICE if is_usual() else get_default_device())
            if device != DEFAULT_DEVICE:
                parts = (*parts, "device", device)
        return (*parts, outside) if outside else parts

    def _outside(self, call: Call) -> Hashable:
        """What the function reads beside its arguments; empty if that is nothing."""
        nothing = self._watch.is_empty and not call.objects
        return () if nothing else self._watch.state(call.objects)

    # ---- compiling

    def _make(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Executable:
        self._arguments.check(args, kwargs)
        self._watch.look(call.objects)
        key = self._key(call)             # again: what is watched may have become more

        def make() -> tuple[Executable, Mapping[int, object]]:
            stage = self._compiled(call)
            self._remember(key, call, stage)
            return stage.executable, stage.specialized

        made = self._cache.get_or_make(key, call.leaves, make)
        made.state = self._outside(call)            # tracing may have changed what is watched
        self._cache.move(key, self._key(call, made.state))
        return made

    def _compiled(self, call: Call) -> CompiledStage:
        traced = trace_stage(self._fn, self._arguments, call, self.options, self._watch)
        if os.environ.get("WEFT_DUMP", "").strip():
            from weft.frontend.dump import compile_dumping  # seldom asked for

            return compile_dumping(traced, disk_cache())
        return traced.compile(cache=disk_cache())

    def _shorten(self, executable: Executable, leaves: Sequence[Any]) -> None:
        """Note a call of a device's program: calls like it may take a shorter way."""
        self._shortcut.served(executable, leaves, self._watch)

    def _see_to_entry(self, executable: Executable) -> None:
        """Called when an executable's countdown ends, to find it a faster way."""

    def _remember(self, key: Hashable, call: Call, stage: CompiledStage) -> None:
        values, outside = call.values, self._watch.describe(call.objects)
        needed = {call.paths[i]: repr(v) for i, v in stage.specialized.items()}
        with self._lock:
            why = reasons(hash(key), call.description, values, outside, stage.options.device,
                          list(self.records))
            self.records.append(Record(hash(key), call.description, needed, outside, why,
                                       stage.times, stage.kernel_count, stage.options.device))

    # ---- looking in

    def trace(self, /, *args: Any, **kwargs: Any) -> TracedStage:
        """The traced graph for these arguments, with the stages that follow from it."""
        args, kwargs = self._arguments.normal(args, kwargs)
        self._arguments.check(args, kwargs)
        call = self._arguments.apart(args, kwargs)
        watch = Watch(self._fn)
        watch.look(call.objects)
        return trace_stage(self._fn, self._arguments, call, self.options, watch)

    def lower(self, /, *args: Any, **kwargs: Any) -> LoweredStage:
        """The device's program for these arguments."""
        return self.trace(*args, **kwargs).lower()

    def compile(self, /, *args: Any, **kwargs: Any) -> CompiledStage:
        """The compiled function for these arguments, as an object of its own."""
        return self.trace(*args, **kwargs).compile(cache=disk_cache())

    def history(self) -> tuple[Record, ...]:
        """Every compilation, the first one first."""
        with self._lock:
            return tuple(self.records)

    def compiled_for(self, /, *args: Any, **kwargs: Any) -> tuple[Executable, int]:
        """What serves calls with these arguments, and how many it has served; compiles if need be.
        """
        args, kwargs = self._arguments.normal(args, kwargs)
        call = self._arguments.apart(args, kwargs)
        found = self._cache.find(self._key(call), call.leaves)
        if found is None:
            return self._make(call, args, kwargs), 0
        return found, self._cache.hits(self._key(call)) - 1

    def argument_name(self, position: int) -> str:
        """The name of the argument at a position."""
        return self._arguments.positional_name(position)

    def to(self, device: str) -> Jit:
        """The same function for another device: ``f.to("gpu")``, the same object each time.

        Raises `DeviceError` for a device that there is not.
        """
        device = check_device(device) if device != AUTO else device
        if device == (AUTO if self.options.auto else self.options.device):
            return self
        made = self._elsewhere.get(device)
        if made is None:
            options = self.options.on(device)
            made = self._elsewhere[device] = _jit_class(options.device)(
                self._fn, options, self._arguments.static,
                self._arguments.shapes, self._cache.bound)
        return made

    def with_shapes(self, shapes: Mapping[str, Pattern]) -> Jit:
        """The same function with these sizes left open, see `jit`."""
        return type(self)(self._fn, self.options, self._arguments.static, shapes,
                          self._cache.bound)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else BoundJit(self, instance)

    def __reduce__(self) -> str:
        return self.__wrapped__.__qualname__    # like a function: by name

    def __repr__(self) -> str:
        return f"<weft.jit of {self._arguments.name}>"


class BoundJit:
    """A compiled method of one object."""

    def __init__(self, function: Jit, instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)

    def to(self, device: str) -> BoundJit:
        """See `Jit.to`."""
        return BoundJit(self.__func__.to(device), self.__self__)

    def trace(self, /, *args: Any, **kwargs: Any) -> TracedStage:
        """See `Jit.trace`."""
        return self.__func__.trace(self.__self__, *args, **kwargs)

    def lower(self, /, *args: Any, **kwargs: Any) -> LoweredStage:
        """See `Jit.lower`."""
        return self.__func__.lower(self.__self__, *args, **kwargs)

    def compile(self, /, *args: Any, **kwargs: Any) -> CompiledStage:
        """See `Jit.compile`."""
        return self.__func__.compile(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, BoundJit) and self.__func__ is other.__func__
                and self.__self__ is other.__self__)

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"


@overload
def jit(fn: Callable[..., Any], *, device: str | None = ..., static_argnames: Iterable[str] = ...,
        fast_math: bool = ..., shapes: Mapping[str, Pattern] | None = ...,
        donate: str | Iterable[str] = ..., cache_size: int = ..., mesh: Mesh | None = ...,
        in_specs: Any = ..., out_specs: Any = ..., precision: str = ...) -> Jit: ...


@overload
def jit(fn: None = ..., *, device: str | None = ..., static_argnames: Iterable[str] = ...,
        fast_math: bool = ..., shapes: Mapping[str, Pattern] | None = ...,
        donate: str | Iterable[str] = ..., cache_size: int = ..., mesh: Mesh | None = ...,
        in_specs: Any = ..., out_specs: Any = ..., precision: str = ...
        ) -> Callable[[Callable[..., Any]], Jit]: ...


def jit(fn: Callable[..., Any] | None = None, *, device: str | None = None,
        static_argnames: Iterable[str] = (), fast_math: bool = False,
        shapes: Mapping[str, Pattern] | None = None, donate: str | Iterable[str] = (),
        cache_size: int = 256, mesh: Mesh | None = None, in_specs: Any = None,
        out_specs: Any = None, precision: str = "highest"
        ) -> Jit | Callable[[Callable[..., Any]], Jit]:
    """Compile a function written in NumPy. A decorator, with or without arguments.

    The result is called like the function and gives what the function would: same values,
    element types and shapes. It compiles once for each signature; `weft.explain` shows what was
    compiled and why.

    Globals, closed-over variables and attributes that the function reads count as they are at each
    call: arrays are passed along, numbers and strings belong to the signature. Functions, classes
    and imported libraries are taken to stay what they are. Objects such as the `self` of a method
    belong to the signature by identity, and live as long as what was compiled for them.

    Args:
        fn: a Python function on arrays, numbers, and containers of them.
        device: where it runs: a name from `weft.devices()`, with a number where there are several
            (``"gpu:1"``). Arguments that lie elsewhere are copied there, results stay there, as
            arrays of the device's library. Unless given, it is the device on which arguments lie,
            or else `weft.default_device`, the CPU at first. With ``"auto"``, what is not placed
            by `weft.device` runs where a cost model says, if that is elsewhere; arguments and
            results are as if no device was given. `weft.explain` says why.
        static_argnames: arguments whose values are part of the signature, to be given as hashable
            objects. Strings, functions and the like always are.
        fast_math: allow sums and products to be reordered and fused; answers may differ from
            NumPy's in the last digits, and NaN and infinities are not kept apart.
        shapes: sizes to leave open, by argument: ``{"x": ("B", 784)}`` serves every number of
            rows with one compilation. A name stands for one size everywhere; None for any.
        donate: arguments that are not needed after the call, such as the weights that a training
            step gives back changed. Results are written over their arrays where that is possible,
            and are then the very arrays that were passed; the others' contents are lost or not.
            What cannot be overwritten (read-only arrays, views in another order) is copied.
        cache_size: how many signatures to keep; the least recently used is dropped.
        mesh: several devices that compute it together, see `weft.mesh`; the device must have
            meshes (``"xla"``, ``"tpu"``).
        in_specs: how the arguments lie on the mesh (`weft.spec`): one for each, or a dict by
            argument. A spec for a container is that of all it holds; None keeps arrays whole.
        out_specs: the same for the result; unless given, the device chooses.
        precision: what a device with units for it may round the operands of float32 products to:
            ``"tf32"``, ``"bf16"`` or ``"fp16"``, much faster on GPUs; sums stay float32. Devices
            without such units, as the CPU, compute in full, which ``"highest"`` is everywhere.

    Raises `UnsupportedError` for what is not a function and for an unknown precision, `DeviceError`
    for an unknown device.

    >>> import numpy as np, weft
    >>> @weft.jit
    ... def scaled(x, factor):
    ...     return np.tanh(x) * factor
    >>> scaled(np.zeros(3), 2.0)
    array([0., 0., 0.])
    """
    over = _over_mesh(mesh, in_specs, out_specs)

    def decorate(fn: Callable[..., Any]) -> Jit:
        _check_function(fn)
        names = (donate,) if isinstance(donate, str) else tuple(donate)
        named = check_device(device) if device and device != AUTO else ""
        options = Options(named, fast_math, names, over, device == AUTO,
                          _check_precision(precision))
        return _jit_class(options.device)(fn, options, static_argnames, shapes or {}, cache_size)

    return decorate if fn is None else decorate(fn)


def _over_mesh(mesh: Any, in_specs: Any, out_specs: Any) -> Any:
    """The options of a function on a mesh, None for others."""
    if mesh is None and in_specs is None and out_specs is None:
        return None
    from weft.frontend.sharding import mesh_options  # for functions on a mesh only

    return mesh_options(mesh, in_specs, out_specs)


def _jit_class(device: str) -> type[Jit]:
    """Other devices' programs have no native entries, and need not wait for LLVM to be loaded."""
    if device not in ("", DEFAULT_DEVICE):
        return Jit
    made: type[Jit] = importlib.import_module("weft.frontend.native_jit").native_jit_class()
    return made


def _check_precision(precision: str) -> str:
    if precision not in PRECISIONS:
        raise UnsupportedError(f"weft.jit got precision={precision!r}",
                               expected=f"one of {', '.join(map(repr, PRECISIONS))}")
    return precision


def _check_function(fn: Any) -> None:
    if isinstance(fn, classmethod):
        raise UnsupportedError("weft.jit got a classmethod", expected="a function",
                               repair="put @classmethod above @weft.jit")
    if not callable(fn):
        raise UnsupportedError(f"weft.jit got a {type(fn).__name__}", expected="a function",
                               repair="options go by keyword: @weft.jit(device=...)")
    if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or (
            inspect.isasyncgenfunction(fn)):
        raise UnsupportedError(
            f"{fn.__name__} is a generator or coroutine, which cannot be compiled",
            expected="a function that returns its results")
