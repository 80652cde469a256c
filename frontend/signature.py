"""Calls taken apart: names of arguments, leaves, the key a compilation is found by."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError, UnsupportedError, WeftError, caller_origin
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.types import Dim, Size, TensorType, shape_text
from weft.frontend.leaves import (
    WEAK,
    Refused,
    leaf_dtype,
    leaf_kind,
    may_lie_on_device,
    static_part,
)
from weft.frontend.pytree import LEAF, Tree, flatten_into, places, tree_text, unflatten
from weft.frontend.statics import Static
from weft.frontend.trace import ArgSpec

__all__ = ["Arguments", "Call", "CallError", "Description", "Pattern", "differences", "leaf_parts"]

Pattern = Sequence[int | str | None]
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass
class Call:
    """One call taken apart; not to be changed.

    `trees` holds a tree for each argument, `leaves` the leaves of all of them; the last arguments
    were given by the names in `keywords`. `objects` are the arguments, and parts of them, that are
    known by identity, into which code may look; `away` are the leaves that lie on devices.
    """

    arguments: Arguments
    leaves: Sequence[Any]
    trees: tuple[Tree, ...]
    keywords: tuple[str, ...]
    objects: Sequence[Any]
    away: Sequence[Any] = ()

    @property
    def function(self) -> str:
        """The function's name."""
        return self.arguments.name

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The arguments' names."""
        positional = range(len(self.trees) - len(self.keywords))
        return (*map(self.arguments.positional_name, positional), *self.keywords)

    @property
    def is_flat(self) -> bool:
        """Whether all arguments are leaves given by position."""
        return not self.keywords and all(tree is LEAF for tree in self.trees)

    @property
    def values(self) -> dict[str, str]:
        """The values of Python scalars, by name."""
        return {path: repr(leaf) for path, leaf in zip(self.paths, self.leaves)
                if type(leaf) in WEAK}

    def settled(self) -> Call:
        """The call with all that is known of its leaves, but without holding on to them."""
        made = replace(self, leaves=(), objects=(), away=())
        made.__dict__.update(_specs=self.specs, description=self.description)
        return made

    def rebuild(self, leaves: Iterable[Any], replaced: Callable[[Any], Any] | None = None
                ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of the call with other leaves in their places, static values replaced."""
        rest = iter(leaves)
        values = [unflatten(tree, rest, replaced) for tree in self.trees]
        positional = len(values) - len(self.keywords)
        return values[:positional], dict(zip(self.keywords, values[positional:]))

    @cached_property
    def paths(self) -> list[str]:
        """The user's name of each leaf, such as ``params['w']``."""
        return [path for path, static in self.places if static is None]

    @cached_property
    def places(self) -> list[tuple[str, Static | None]]:
        """Every leaf (None) and static value with its name."""
        return [p for name, tree in zip(self.names, self.trees) for p in places(tree, name)]

    @property
    def specs(self) -> tuple[ArgSpec, ...]:
        """How the leaves enter the trace. Raises a `WeftError` for element types weft lacks."""
        # No cached_property: its frame, outside weft, would be taken for the user's line.
        if "_specs" not in self.__dict__:
            specs = [self._spec(path, leaf) for path, leaf in zip(self.paths, self.leaves)]
            self.__dict__["_specs"] = tuple(specs)
        found: tuple[ArgSpec, ...] = self.__dict__["_specs"]
        return found

    def _spec(self, path: str, leaf: Any) -> ArgSpec:
        try:
            dtype = leaf_dtype(leaf)
        except Refused as refused:
            raise refused.error(f"{path!r} of {self.function}") from None
        kind = leaf_kind(leaf)
        value = leaf if kind not in ("array", "scalar") else None
        shape: tuple[Dim, ...] = tuple(leaf.shape) if kind == "array" else ()
        if path in self.arguments.shapes:
            shape = symbolic_shape(path, self.arguments.shapes[path])
        return ArgSpec(kind, TensorType(shape, dtype), _identifier(path), value)

    @cached_property
    def text(self) -> str:
        """The signature: ``f(x: f32[3], n: int, mode='fast')``."""
        specs = iter(self.specs)
        shown = [f"{path}: {_spec_text(next(specs))}" if static is None else f"{path}={static!r}"
                 for path, static in self.places]
        return f"{self.function}({', '.join(shown)})"

    @cached_property
    def description(self) -> Description:
        """What to compare with other calls' signatures, and to show."""
        return Description(self.text, self.names, tuple(map(tree_text, self.trees)),
                           tuple(_described(self)))


class CallError(WeftError, TypeError):
    """A call with too many, too few or unknown arguments."""


class Arguments:
    """What is known of a function's arguments before any call."""

    def __init__(self, fn: Callable[..., Any], name: str, static: Iterable[str],
                 shapes: Mapping[str, Pattern], donate: Iterable[str] = ()) -> None:
        self.name = name
        self.static = frozenset([static] if isinstance(static, str) else static)
        self.shapes = dict(shapes)
        try:
            self.signature: inspect.Signature | None = inspect.signature(fn)
        except (TypeError, ValueError):         # some functions of compiled modules have none
            self.signature = None
        parameters = self.signature.parameters.values() if self.signature else ()
        self.names = tuple(p.name for p in parameters if p.kind in _POSITIONAL)
        self.keywords = frozenset(p.name for p in parameters
                                  if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "arg")
        self._check_names(parameters, donate)

    def _check_names(self, parameters: Iterable[inspect.Parameter],
                     donate: Iterable[str]) -> None:
        known = [p.name for p in parameters]
        catches_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        for option, names in (("static_argnames", self.static), ("shapes", self.shapes),
                              ("donate", donate)):
            for name in names:
                if known and not catches_all and re.split(r"[.\[]", name)[0] not in known:
                    raise ValueError(f"{option} names {name!r}, but {self.name} has no such "
                                     f"argument; it has {', '.join(known)}")

    def normal(self, args: tuple[Any, ...], kwargs: dict[str, Any]
               ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same call with keywords moved to their positions, as far as there is no gap."""
        for name in self.names[len(args):]:
            if name not in kwargs or name not in self.keywords:
                break
            kwargs = dict(kwargs)
            args += (kwargs.pop(name),)
        if len(kwargs) > 1 and self.signature is not None:
            order = list(self.signature.parameters)
            kwargs = dict(sorted(kwargs.items(), key=lambda item: (
                order.index(item[0]) if item[0] in order else len(order))))
        return args, kwargs

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise `TypeError`, as the function itself would, if it cannot be called like this."""
        if self.signature is None:
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise CallError(f"{self.name}() {error}{self._did_you_mean(kwargs)}") from None

    def _did_you_mean(self, kwargs: Mapping[str, Any]) -> str:
        assert self.signature is not None
        known = list(self.signature.parameters)
        import difflib  # seldom needed

        near = [n for k in kwargs if k not in known for n in difflib.get_close_matches(k, known, 1)]
        return f"; did you mean {near[0]!r}?" if near else ""

    def positional_name(self, index: int) -> str:
        """The name of the argument at this position."""
        if index < len(self.names):
            return self.names[index]
        return f"{self.rest}[{index - len(self.names)}]"

    def apart(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """The call taken apart. Raises a `WeftError` for arguments that cannot be any."""
        leaves: list[Any] = []
        objects: list[Any] = []
        away: list[Any] = []

        def static(value: Any) -> Static | None:
            held = static_part(value)
            if held is None:
                if may_lie_on_device(type(value)):
                    away.append(value)
            elif held.by_identity:
                objects.append(held.value)
            return held

        try:
            if self.static:
                trees = [self._tree(name, value, leaves, static) for name, value in (
                    *((self.positional_name(i), v) for i, v in enumerate(args)), *kwargs.items())]
            else:
                trees = [flatten_into(value, leaves, static) for value in args]
                if kwargs:
                    trees += [flatten_into(value, leaves, static) for value in kwargs.values()]
        except Refused:
            self._refuse(args, kwargs)
            raise
        return Call(self, leaves, tuple(trees), tuple(kwargs), objects, away)

    def _tree(self, name: str, value: Any, leaves: list[Any],
              static: Callable[[Any], Static | None]) -> Tree:
        if name in self.static or name.partition("[")[0] in self.static:
            return self._given_static(name, value)
        return flatten_into(value, leaves, static)

    def _refuse(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise the error for the first argument that cannot be one."""
        for name, value in (*((self.positional_name(i), v) for i, v in enumerate(args)),
                            *kwargs.items()):
            try:
                if name not in self.static:
                    flatten_into(value, [], static_part)
            except Refused as refused:
                raise refused.error(f"{name!r} of {self.name}") from None

    def _given_static(self, name: str, value: Any) -> Static:
        try:
            return Static(value)
        except TypeError:
            raise UnsupportedError(
                f"static argument {name!r} of {self.name} is a {type(value).__name__}, which is "
                "not hashable", expected="a hashable value", repair=(
                    "pass a tuple" if isinstance(value, list) else "make it hashable"),
                origin=caller_origin()) from None

    def key(self, call: Call) -> Hashable:
        """What a compilation is found by."""
        parts = self._symbolic_parts(call) if self.shapes else leaf_parts(call.leaves)
        return (call.keywords, *call.trees, *parts)

    def _symbolic_parts(self, call: Call) -> Iterable[Any]:
        sizes: dict[str, tuple[int, str]] = {}
        for path, leaf in zip(call.paths, call.leaves):
            pattern = self.shapes.get(path)
            if pattern is None:
                yield leaf_parts((leaf,))
            else:
                self._match(path, leaf, pattern, sizes)
                yield leaf.dtype, symbolic_shape(path, pattern)

    def _match(self, path: str, leaf: Any, pattern: Pattern,
               sizes: dict[str, tuple[int, str]]) -> None:
        """Check an argument against the shape promised for it."""
        shape = getattr(leaf, "shape", None)
        fits = leaf_kind(leaf) == "array" and len(leaf.shape) == len(pattern) and all(
            not isinstance(want, int) or want == have for want, have in zip(pattern, leaf.shape))
        if not fits:
            raise ShapeError(f"argument {path!r} of {self.name} has shape {shape}",
                             expected=f"{_pattern_text(pattern)}, as `shapes` says",
                             origin=caller_origin())
        for want, have in zip(pattern, leaf.shape):
            first, where = sizes.setdefault(want, (have, path)) if isinstance(want, str) else (
                have, path)
            if first != have:
                raise ShapeError(f"{want} is {first} in argument {where!r} of {self.name} and "
                                 f"{have} in {path!r}", expected="one size for each name",
                                 origin=caller_origin())


def leaf_parts(leaves: Iterable[Any]) -> tuple[Any, ...]:
    """What the signature says of leaves whose shapes are all fixed."""
    parts: list[Any] = []
    for leaf in leaves:
        if isinstance(leaf, np.ndarray):
            parts.append(leaf.dtype)
            parts.append(leaf.shape)
        else:
            kind = type(leaf)
            if kind in WEAK or isinstance(leaf, np.generic):
                parts.append(kind)
            else:                                   # an array on a device serves as NumPy's would
                parts += leaf.dtype, tuple(leaf.shape)
    return tuple(parts)


def symbolic_shape(path: str, pattern: Pattern) -> tuple[Dim, ...]:
    """The shape in which names are symbolic sizes, and None is one that has no name yet."""
    stem = _identifier(path).replace(".", "_")
    return tuple(d if isinstance(d, int) else Size.symbol(d or f"{stem}_{axis}")
                 for axis, d in enumerate(pattern))


def _pattern_text(pattern: Pattern) -> str:
    return shape_text([Size.symbol(d or "?") if not isinstance(d, int) else d for d in pattern])


def _identifier(path: str) -> str:
    """``params['w'][0]`` → ``params.w.0``, which graph text can name a value by."""
    dotted = re.sub(r"[^A-Za-z0-9_]+", ".", path).strip(".")
    return re.sub(r"\.+", ".", dotted) or "arg"


def _spec_text(spec: ArgSpec) -> str:
    if spec.kind == "array":
        return repr(spec.type)
    return f"{spec.type.dtype} scalar" if spec.kind == "scalar" else spec.kind


# ---- why two calls do not share a compilation


@dataclass(frozen=True)
class Description:
    """What a signature says, as text, without holding on to the arguments."""

    text: str
    names: tuple[str, ...]
    structures: tuple[str, ...]
    places: tuple[tuple[str, dict[str, str]], ...]


def differences(old: Description, new: Description) -> list[str]:
    """What differs between two signatures: ``argument x: shape (3,) → (4,)``.

    Empty where only values differ.
    """
    if old.names != new.names:
        return [f"arguments: ({', '.join(old.names)}) → ({', '.join(new.names)})"]
    changed = [f"argument {name}: structure {a} → {b}"
               for name, a, b in zip(new.names, old.structures, new.structures) if a != b]
    return changed or list(_leaf_differences(old, new))


def _leaf_differences(old: Description, new: Description) -> Iterable[str]:
    for (path, before), (_, after) in zip(old.places, new.places):
        for aspect, was in before.items():
            now = after.get(aspect)
            if now != was and now is not None:
                yield f"argument {path}: {aspect} {was} → {now}".replace(" kind ", " ")
                if aspect == "kind":
                    break


def _described(call: Call) -> Iterable[tuple[str, dict[str, str]]]:
    leaves = iter(zip(call.specs, call.leaves))
    for path, static in call.places:
        if static is not None:
            yield path, {"kind": "static value", "value": repr(static)}
        else:
            yield path, _aspects(*next(leaves))


def _aspects(spec: ArgSpec, leaf: Any) -> dict[str, str]:
    described = {"kind": "NumPy scalar" if spec.kind == "scalar" else spec.kind}
    if spec.kind in ("array", "scalar"):
        order = "" if leaf.dtype.isnative else " (other byte order)"
        described["dtype"] = f"{spec.type.dtype.numpy}{order}"
    if spec.kind == "array":
        described["shape"] = str(spec.type.shape)
    return described
