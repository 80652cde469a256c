"""Bodies of loops and branches: traced to graphs whose types agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.errors import DTypeError, ShapeError, UnsupportedError, caller_origin
from weft.compiler.inline import inline
from weft.compiler.ir import Graph, Node
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.ops.control import carry_problem
from weft.compiler.types import DType, TensorType
from weft.frontend.pytree import Tree, leaf_paths, tree_text, unflatten
from weft.frontend.subtrace import Spec, Subtrace, spec_of, subtrace
from weft.frontend.tracer import WEAK_DTYPES, Tracer

__all__ = ["Carried", "carried", "check_callable", "closed", "function_name", "trace_body",
           "unified"]


def function_name(fn: Callable[..., Any]) -> str:
    """The function's name, for messages and graphs."""
    name = str(getattr(fn, "__name__", type(fn).__name__))
    return "function" if name == "<lambda>" else name


def trace_body(fn: Callable[..., Any], trees: Sequence[Tree], specs: Sequence[Spec]) -> Subtrace:
    """The graph of a function of several arguments, which have these structures."""
    def run(tracers: list[Tracer]) -> Any:
        rest = iter(tracers)
        return fn(*[unflatten(tree, rest) for tree in trees])
    return subtrace(run, specs, function_name(fn))


def closed(name: str, sub: Subtrace, captured: Sequence[Node], results: Sequence[TensorType],
           behind: bool = True) -> Graph:
    """The graph of a body that takes what several bodies capture, with results of these types.

    Its parameters are those of the function's arguments, then one for each of `captured`; the other
    way round unless `behind`.
    """
    b = Builder(name)
    own = sub.graph.params[:len(sub.graph.params) - len(sub.captured)]
    params = [b.param(p.name, p.type) for p in own] if behind else []
    outer = {n: b.param(n.name or "captured", n.type) for n in captured}
    params = params if behind else [b.param(p.name, p.type) for p in own]
    made = inline(b, sub.graph, [*params, *[outer[n] for n in sub.captured]])
    return b.graph([b.convert(r, t.dtype) for r, t in zip(made, results)])


# ---- branches

def unified(title: str, names: Sequence[str], subs: Sequence[Subtrace]) -> list[TensorType]:
    """The types that all branches give, Python numbers taking the element type of the others."""
    first = subs[0]
    for name, sub in zip(names, subs):
        if sub.tree != first.tree:
            raise ShapeError(
                f"{title}: {name} gives {tree_text(sub.tree)}, {names[0]} "
                f"{tree_text(first.tree)}", origin=caller_origin(),
                expected="results of one structure from all branches")
    paths = leaf_paths(first.tree, "the result")
    return [_one_type(title, paths[i], names, [s.graph.results[i].tensor for s in subs],
                      [s.kinds[i] for s in subs]) for i in range(len(first.kinds))]


def _one_type(title: str, path: str, names: Sequence[str], types: Sequence[TensorType],
              kinds: Sequence[str]) -> TensorType:
    strong = [t for t, k in zip(types, kinds) if k not in WEAK_DTYPES] or [
        TensorType(types[0].shape, _widest([t.dtype for t in types]))]
    target = strong[0]
    for name, t, k in zip(names, types, kinds):
        fits = t == target or (k in WEAK_DTYPES and t.shape == target.shape
                               and _adopts(t.dtype, target.dtype))
        if not fits:
            other = next(n for n, u in zip(names, types) if u == target)
            kind = ShapeError if t.shape != target.shape else DTypeError
            raise kind(
                f"{title}: {path} of {name} is {t}, of {other} {target}", origin=caller_origin(),
                expected="the same shape and element type from all branches",
                repair="reshape or broadcast one of them" if kind is ShapeError else
                f"convert it in {name}: .astype(np.{target.dtype.numpy})")
    return target


def _widest(dtypes: Sequence[DType]) -> DType:
    order = ["bool", "i64", "f64", "c128"]
    return max(dtypes, key=lambda d: order.index(d.name) if d.name in order else -1)


def _adopts(weak: DType, strong: DType) -> bool:
    """Whether a Python number of one type may become a number of the other."""
    order = ["bool", "int", "uint", "float", "complex"]
    return order.index(strong.kind) >= order.index(weak.kind)


# ---- loops

@dataclass(frozen=True, eq=False)
class Carried:
    """A loop's body and what it carries: the specs and, converted, the nodes before the first turn.
    """

    sub: Subtrace
    specs: list[Spec]
    types: list[TensorType]


def carried(title: str, fn: Callable[..., Any], tree: Tree, init: Sequence[Tracer],
            names: Sequence[str], trace: Callable[[list[Spec]], Subtrace],
            part: Callable[[Subtrace], Tree]) -> Carried:
    """The body traced with carries of types that it keeps.

    `trace` traces it with these specs for the carries, `part` gives the structure of what it
    returns as carries, which are its first results. A Python number among the initial carries takes
    the element type that the body gives it, as it would in NumPy after the first turn.
    """
    specs = [spec_of(t, name, known=False) for t, name in zip(init, names)]
    for _ in range(_ROUNDS):
        sub = trace(specs)
        got = part(sub)
        if got != tree:
            raise ShapeError(
                f"{title}: {function_name(fn)} gives {tree_text(got)} for the carry "
                f"{tree_text(tree)}", origin=caller_origin(),
                expected="a carry of the same structure as the initial one")
        changed = [_settled(title, fn, s, r.tensor, k)
                   for s, r, k in zip(specs, sub.graph.results, sub.kinds)]
        if all(a is b for a, b in zip(changed, specs)):
            return Carried(sub, specs, [s.type for s in specs])
        specs = changed
    raise DTypeError(f"{title}: the types of the carries of {function_name(fn)} do not settle",
                     origin=caller_origin(), repair="begin with arrays instead of Python numbers")


_ROUNDS = 8


def _settled(title: str, fn: Callable[..., Any], spec: Spec, after: TensorType, kind: str) -> Spec:
    """The spec of a carry for the next attempt; itself if the body keeps its type."""
    before, weak = spec.type, spec.kind in WEAK_DTYPES
    if before == after:
        return replace(spec, kind="scalar") if weak and kind != spec.kind else spec
    if before.shape == after.shape:
        if kind in WEAK_DTYPES and _adopts(after.dtype, before.dtype) and not (
                weak and _widest([before.dtype, after.dtype]) is after.dtype):
            return spec                         # the body gives a Python number
        if weak and _adopts(before.dtype, after.dtype):
            return replace(spec, type=after, kind=kind if kind in WEAK_DTYPES else "scalar")
    error = carry_problem(f"{title}: {function_name(fn)}", spec.name, before, after)
    error.origin = caller_origin()
    raise error


def check_callable(title: str, fn: Any) -> None:
    """Refuse what cannot be called."""
    if not callable(fn):
        raise UnsupportedError(f"{title} got a {type(fn).__name__}", expected="a function",
                               origin=caller_origin())


