"""Which arguments a transform is about: by position, by name, or several of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from weft.compiler.errors import DTypeError, ShapeError, UnsupportedError, caller_origin
from weft.compiler.lazy_dataclass import dataclass
from weft.frontend.pytree import Tree, leaf_paths, unflatten
from weft.frontend.statics import Static
from weft.frontend.subtrace import Spec, Subtrace, spec_of, subtrace, tracers_of
from weft.frontend.tracer import Tracer

__all__ = ["Argnums", "Inputs", "argnums_key", "function_name", "inputs_of"]

Argnums: TypeAlias = "int | str | Sequence[int | str]"


def function_name(fn: Callable[..., Any]) -> str:
    """The function's name, for messages and graphs."""
    name = str(getattr(fn, "__name__", type(fn).__name__))
    return "function" if name == "<lambda>" else name


def argnums_key(argnums: Argnums) -> Any:
    """`argnums` as a hashable value; a `TypeError` for what it cannot be."""
    several = isinstance(argnums, Sequence) and not isinstance(argnums, str)
    chosen = tuple(argnums) if several else (argnums,)     # type: ignore[arg-type]
    if not chosen or not all(isinstance(a, int | str) and not isinstance(a, bool) for a in chosen):
        raise UnsupportedError(f"argnums is {argnums!r}", origin=caller_origin(),
                               expected="the position or the name of an argument, or several")
    return chosen if several else argnums


@dataclass(frozen=True, eq=False)
class Inputs:
    """A call's arguments as tracers, with those picked out that a transform is about.

    `leaves` are the leaves of all arguments, `args` and `kwargs` the trees of each; `chosen` says
    for each leaf whether it belongs to a picked argument.
    """

    fn: Callable[..., Any]
    leaves: list[Tracer]
    args: list[Tree]
    kwargs: dict[str, Tree]
    chosen: list[bool]
    picked: list[tuple[Tree, list[int]]]       # of each picked argument: its tree, its leaves
    names: list[str]

    def trace(self, known: bool = True) -> Subtrace:
        """The function's graph, of which the leaves are the first parameters."""
        specs = [spec_of(leaf, name, known, chosen and leaf.node.dtype.is_inexact)
                 for leaf, name, chosen in zip(self.leaves, self.names, self.chosen)]
        return self.trace_as(specs)

    def trace_as(self, specs: Sequence[Spec]) -> Subtrace:
        """The same with other types for the leaves."""
        def run(tracers: list[Tracer]) -> Any:
            rest = iter(tracers)
            args = [unflatten(tree, rest) for tree in self.args]
            return self.fn(*args, **{k: unflatten(t, rest) for k, t in self.kwargs.items()})
        return subtrace(run, specs, function_name(self.fn))

    def pick(self, values: Sequence[Any], several: bool) -> Any:
        """Values for the chosen leaves, in containers like those of the picked arguments."""
        by_leaf = dict(zip((i for i, c in enumerate(self.chosen) if c), values))
        out = [unflatten(tree, [by_leaf[i] for i in leaves]) for tree, leaves in self.picked]
        return tuple(out) if several else out[0]

    def check_inexact(self, title: str) -> None:
        """Refuse to differentiate by integers and booleans, and by what is no number."""
        for tree, _ in self.picked:
            if isinstance(tree, Static):
                raise DTypeError(
                    f"weft.{title}: argnums picks an argument of {function_name(self.fn)} of "
                    f"type {type(tree.value).__name__}, which has no derivative",
                    origin=caller_origin(), expected="arrays, numbers, or containers of them",
                    repair="choose another argument with argnums; `self` counts as one")
        for leaf, name, chosen in zip(self.leaves, self.names, self.chosen):
            if chosen and not leaf.node.dtype.is_inexact:
                raise DTypeError(
                    f"weft.{title}: argument {name} of {function_name(self.fn)} has element type "
                    f"{leaf.node.dtype.numpy}, which has no derivative", origin=caller_origin(),
                    expected="float16, bfloat16, float32, float64, complex64 or complex128",
                    repair="pass it as a float, or leave it out of argnums")


def inputs_of(fn: Callable[..., Any], title: str, argnums: Any, args: Sequence[Any],
              kwargs: dict[str, Any]) -> Inputs:
    """The call taken apart. Raises a `ShapeError` for argnums that name no argument of the call."""
    wanted = argnums if isinstance(argnums, tuple) else (argnums,)
    keys = [_find(fn, title, a, args, kwargs) for a in wanted]
    leaves: list[Tracer] = []
    trees: dict[int | str, Tree] = {}
    spans: dict[int | str, list[int]] = {}
    names: list[str] = []
    given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for key, value in given:
        own, trees[key] = tracers_of(value)
        spans[key] = list(range(len(leaves), len(leaves) + len(own)))
        leaves += own
        names += leaf_paths(trees[key], _name(fn, key))
    chosen = {i for key in keys for i in spans[key]}
    return Inputs(fn, leaves, [trees[i] for i in range(len(args))], {k: trees[k] for k in kwargs},
                  [i in chosen for i in range(len(leaves))],
                  [(trees[k], spans[k]) for k in keys], names)


def _positional(fn: Callable[..., Any]) -> tuple[list[str], bool]:
    """The names of the parameters that positions are for, and whether more may follow."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return [], True
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return ([p.name for p in parameters if p.kind in kinds],
            any(p.kind is p.VAR_POSITIONAL for p in parameters))


def _name(fn: Callable[..., Any], key: int | str) -> str:
    if isinstance(key, str):
        return key
    names, _ = _positional(fn)
    return names[key] if key < len(names) else f"arg{key}"


def _find(fn: Callable[..., Any], title: str, wanted: int | str, args: Sequence[Any],
          kwargs: dict[str, Any]) -> int | str:
    """The position or keyword of an argument in this call.

    A call may give the same argument by position or by name; so negative numbers count from the
    last of the declared parameters, and only from the last argument where any number may follow.
    """
    names, more = _positional(fn)
    if isinstance(wanted, int):
        at = wanted if wanted >= 0 else wanted + (len(args) if more else len(names))
        wanted = names[at] if len(args) <= at < len(names) else wanted
    else:
        at = names.index(wanted) if wanted in names else -1
    if 0 <= at < len(args):
        return at
    if isinstance(wanted, str) and wanted in kwargs:
        return wanted
    given = [_name(fn, i) for i in range(len(args))] + list(kwargs)
    raise ShapeError(
        f"weft.{title}: argnums names {wanted!r}, but {function_name(fn)} is called with "
        f"{len(args) + len(kwargs)} argument(s): {', '.join(given) or 'none'}",
        expected=f"a position in [0, {len(args)}) or one of these names", origin=caller_origin())
