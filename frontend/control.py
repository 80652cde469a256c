"""Control flow with functions as bodies: `cond`, `switch`, `while_loop`, `scan` and the like.

Names, arguments and meaning are JAX's. Inside of `weft.jit` they add one node to the trace that
runs; called on arrays, they are compiled and kept by their functions and the arguments' types.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.errors import DTypeError, ShapeError, caller_origin
from weft.compiler.ir import Graph, Node
from weft.compiler.types import DTYPES, Dim, Size, TensorType
from weft.frontend.bodies import (
    Carried,
    carried,
    check_callable,
    closed,
    function_name,
    trace_body,
    unified,
)
from weft.frontend.jit import Jit, jit
from weft.frontend.numpy.common import the_trace
from weft.frontend.pytree import LEAF, Tree, leaf_paths, tree_text, unflatten
from weft.frontend.recording import active
from weft.frontend.subtrace import Spec, spec_of, tracers_of, wrap
from weft.frontend.tracer import Tracer

__all__ = ["cond", "fori_loop", "map", "run_control", "scan", "switch", "while_loop"]

Function = Callable[..., Any]
_map = map


class _Several:
    """A control function with its bodies, to be compiled for arrays; the bodies are the user's."""

    def __init__(self, title: str, apply: Function, functions: tuple[Any, ...],
                 options: tuple[tuple[str, Any], ...]) -> None:
        self.__name__ = self.__qualname__ = title
        self.__signature__ = inspect.Signature(
            [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])
        self.apply = apply
        self._weft_bodies = functions
        self.options = options

    def _weft_with_bodies(self, functions: Sequence[Any]) -> _Several:
        """The same with copies of the functions."""
        return _Several(self.__name__, self.apply, tuple(functions), self.options)

    def __call__(self, *args: Any) -> Any:
        return self.apply(self._weft_bodies, *args, **dict(self.options))


@functools.lru_cache(maxsize=256)
def _compiled(title: str, apply: Function, functions: tuple[Any, ...],
              options: tuple[tuple[str, Any], ...]) -> Jit:
    return jit(_Several(title, apply, functions, options))


def run_control(title: str, apply: Function, functions: tuple[Any, ...], *args: Any,
                **options: Any) -> Any:
    """``apply(functions, *args, **options)`` in the trace that runs, else compiled and kept."""
    for fn in functions:
        check_callable(f"weft.{title}", fn)
    if active() is not None:
        return apply(functions, *args, **options)
    return _compiled(title, apply, functions, tuple(options.items()))(*args)


# ---- branches

def cond(pred: Any, true_fun: Function, false_fun: Function, *operands: Any) -> Any:
    """``true_fun(*operands)`` if `pred`, else ``false_fun(*operands)``; only that one runs.

    Args:
        pred: a bool or number of shape (); numbers other than 0 are true.
        true_fun, false_fun: functions of the operands. Both are traced, so both must work, and
            their results agree in structure, shapes and element types. They may also use whatever
            stands around them.
        operands: arrays, numbers and containers of them.

    Raises `ShapeError` or `DTypeError` where `pred` is no single number or the branches disagree.

    >>> import numpy as np, weft
    >>> print(weft.cond(True, np.sin, np.cos, 0.0))
    0.0
    """
    return run_control("cond", _cond, (true_fun, false_fun), pred, *operands)


def switch(index: Any, branches: Sequence[Function], *operands: Any) -> Any:
    """``branches[index](*operands)``, where the index is held within the range of the branches.

    Args:
        index: an integer of shape ().
        branches: functions of the operands, whose results agree in structure and types.
        operands: arrays, numbers and containers of them.

    Raises `ShapeError` or `DTypeError` where the index is no single integer, there are no branches,
    or they disagree.

    >>> import numpy as np, weft
    >>> print(weft.switch(7, [lambda x: x, lambda x: -x], 3.0))
    -3.0
    """
    return run_control("switch", _switch, tuple(branches), index, *operands)


def _cond(functions: tuple[Any, ...], pred: Any, *operands: Any) -> Any:
    trace = the_trace()
    trace.locate()
    node = _single("weft.cond", "the predicate", pred)
    b = trace.builder
    test = node if node.dtype.kind == "bool" else b.add("ne", node, b.scalar(0, node.dtype))
    index = b.convert(test, "i32")
    true, false = functions
    return _case("weft.cond", index, (false, true), operands, (1, 0))


def _switch(functions: tuple[Any, ...], index: Any, *operands: Any) -> Any:
    trace = the_trace()
    trace.locate()
    if not functions:
        raise ShapeError("weft.switch got no branches", expected="at least one function",
                         origin=caller_origin())
    node = _single("weft.switch", "the index", index)
    if not node.dtype.is_integer:
        raise DTypeError(f"weft.switch: the index is {node.type}", expected="an integer",
                         repair="convert it: index.astype(np.int32)", origin=caller_origin())
    b, last = trace.builder, len(functions) - 1
    held = b.add("minimum", node, b.scalar(last, node.dtype))
    if node.dtype.kind == "int":
        held = b.add("maximum", held, b.scalar(0, node.dtype))
    return _case("weft.switch", b.convert(held, "i32"), functions, operands,
                 tuple(range(len(functions))))


def _single(title: str, what: str, value: Any) -> Node:
    leaves, tree = tracers_of(value)
    if tree is not LEAF and tree != LEAF:
        raise ShapeError(f"{title}: {what} is {tree_text(tree)}", expected="a single number",
                         origin=caller_origin())
    node = leaves[0].node
    if node.shape != ():
        raise ShapeError(f"{title}: {what} is {node.type}", expected="a single number",
                         repair="reduce it, with .any() or .all(), or choose element by element "
                         "with np.where", origin=caller_origin())
    return node


def _case(title: str, index: Node, functions: Sequence[Function], operands: Sequence[Any],
          order: Sequence[int]) -> Any:
    """The case node; branches are traced in this order, which decides which one errors name."""
    leaves, trees = _arguments(operands)
    specs = [spec_of(t, name, known=False) for t, name in leaves]
    subs = {i: trace_body(functions[i], trees, specs) for i in order}
    names = _distinct([function_name(functions[i]) for i in order])
    types = unified(title, names, [subs[i] for i in order])
    inside = [subs[i] for i in range(len(functions))]
    captured = list(dict.fromkeys(n for s in inside for n in s.captured))
    branches = tuple(closed(s.graph.name, s, captured, types) for s in inside)
    b = the_trace().builder
    node = b.add("case", index, *[t.node for t, _ in leaves], *captured, branches=branches)
    kinds = [_joined_kind([s.kinds[k] for s in inside]) for k in range(len(types))]
    return unflatten(inside[0].tree, [wrap(n, k) for n, k in zip(_elements(b, node), kinds)])


def _distinct(names: list[str]) -> list[str]:
    return names if len(set(names)) == len(names) else [
        f"branch {i}" for i in range(len(names))]


def _joined_kind(kinds: Sequence[str]) -> str:
    return "array" if "array" in kinds else "scalar"


def _arguments(operands: Sequence[Any]) -> tuple[list[tuple[Tracer, str]], list[Tree]]:
    """The leaves of the operands, with names for them, and the operands' structures."""
    leaves: list[tuple[Tracer, str]] = []
    trees = []
    for i, operand in enumerate(operands):
        found, tree = tracers_of(operand)
        leaves += zip(found, leaf_paths(tree, f"arg{i}"))
        trees.append(tree)
    return leaves, trees


def _elements(b: Builder, node: Node) -> list[Node]:
    return [b.add("get", node, index=i)
            for i in range(len(node.type.elements))]  # type: ignore[union-attr]


# ---- loops

def while_loop(cond_fun: Function, body_fun: Function, init_val: Any) -> Any:
    """``while cond_fun(val): val = body_fun(val)``, as one native loop.

    Args:
        cond_fun: a function of the carry that gives one bool.
        body_fun: a function from carry to carry, of the same structure, shapes and element types.
        init_val: the carry to begin with: an array, a number or a container of them. A Python
            number in it takes the element type that the body gives it.

    Raises `ShapeError` or `DTypeError` where the body changes the carry's structure or types, or
    the condition is no single bool.

    >>> import numpy as np, weft
    >>> print(weft.while_loop(lambda x: x < 100, lambda x: x * 3, 2))
    162
    """
    return run_control("while_loop", _while, (cond_fun, body_fun), init_val)


def _while(functions: tuple[Any, ...], init: Any) -> Any:
    the_trace().locate()
    cond_fun, body_fun = functions
    leaves, tree = tracers_of(init)
    names = leaf_paths(tree, _parameter(body_fun, 0, "val"))
    found = carried("weft.while_loop", body_fun, tree, leaves, names,
                    lambda specs: trace_body(body_fun, [tree], specs), lambda sub: sub.tree)
    test = trace_body(cond_fun, [tree], found.specs)
    result = test.graph.results
    if len(result) != 1 or result[0].shape != () or test.tree != LEAF:
        raise ShapeError(
            f"weft.while_loop: the condition {function_name(cond_fun)} gives "
            f"{result[0].type if len(result) == 1 else tree_text(test.tree)}",
            expected="one bool", repair="reduce it, with .any() or .all()", origin=caller_origin())
    if result[0].dtype.kind != "bool":
        raise DTypeError(
            f"weft.while_loop: the condition {function_name(cond_fun)} gives {result[0].type}",
            expected="one bool", repair="compare it: x != 0", origin=caller_origin())
    captured = list(dict.fromkeys((*found.sub.captured, *test.captured)))
    b = the_trace().builder
    node = b.add("while", *_converted(b, leaves, found.types), *captured, carries=len(leaves),
                 cond=closed("cond", test, captured, [result[0].tensor]),
                 body=closed("body", found.sub, captured, found.types))
    return unflatten(tree, _wrapped(_elements(b, node), found))


def _converted(b: Builder, leaves: Sequence[Tracer], types: Sequence[TensorType]) -> list[Node]:
    return [b.convert(t.node, s.dtype) for t, s in zip(leaves, types)]


def _wrapped(nodes: Sequence[Node], found: Carried) -> list[Tracer]:
    return [wrap(n, s.kind) for n, s in zip(nodes, found.specs)]


def _parameter(fn: Function, position: int, default: str) -> str:
    """The user's name for an argument."""
    try:
        names = list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        return default
    return names[position] if position < len(names) else default


def fori_loop(lower: Any, upper: Any, body_fun: Function, init_val: Any) -> Any:
    """``for i in range(lower, upper): val = body_fun(i, val)``, as one native loop.

    Args:
        lower, upper: integers. Where both are known while compiling (Python ints, or sizes of
            arrays), derivatives by reverse mode cost least.
        body_fun: a function of the index and the carry, which gives the next carry.
        init_val: the carry to begin with; see `while_loop`.

    Raises as `while_loop` does.

    >>> import numpy as np, weft
    >>> weft.fori_loop(0, 4, lambda i, x: x + i, np.zeros(2))
    array([6., 6.])
    """
    if active() is None and type(lower) is int and type(upper) is int:
        return run_control("fori_loop", _fori_known, (body_fun,), init_val, lower=lower,
                           upper=upper)
    return run_control("fori_loop", _fori, (body_fun,), lower, upper, init_val)


def _fori_known(functions: tuple[Any, ...], init: Any, lower: int, upper: int) -> Any:
    return _fori(functions, lower, upper, init)


def _fori(functions: tuple[Any, ...], lower: Any, upper: Any, init: Any) -> Any:
    trace = the_trace()
    trace.locate()
    (fn,) = functions
    ends = [_integer("weft.fori_loop", which, v) for which, v in (("lower", lower),
                                                                 ("upper", upper))]
    leaves, tree = tracers_of(init)
    turn = Spec(TensorType((), DTYPES["i64"]), "int", _parameter(fn, 0, "i"))

    def body(i: Any, val: Any) -> Any:
        return i + 1, fn(i, val)

    def run(specs: list[Spec]) -> Any:
        return trace_body(_named(body, fn), [LEAF, tree], [turn, *specs[1:]])

    names = [turn.name, *leaf_paths(tree, _parameter(fn, 1, "val"))]
    found = carried("weft.fori_loop", fn, (tuple, None, LEAF, tree),
                    [Tracer(trace, ends[0], "int"), *leaves], names, run, lambda sub: sub.tree)
    b = trace.builder
    start = [ends[0], *_converted(b, leaves, found.types[1:])]
    captured = list(found.sub.captured)
    length = _known_length(lower, upper)
    if length is not None:
        node = b.add("scan", *captured, *start, consts=len(captured), carries=len(start),
                     length=length, reverse=False,
                     body=closed("body", found.sub, captured, found.types, behind=False))
    else:
        node = b.add("while", *start, ends[1], *captured, carries=len(start),
                     cond=_below(found.types, [ends[1], *captured]),
                     body=_ignoring(closed("body", found.sub, captured, found.types),
                                    len(start), ends[1]))
    return unflatten(tree, _wrapped(_elements(b, node), found)[1:])


def _named(body: Function, fn: Function) -> Function:
    body.__name__ = function_name(fn)
    return body


def _below(carries: Sequence[TensorType], rest: Sequence[Node]) -> Graph:
    """The condition ``i < upper``, where i is the first carry and upper what follows them."""
    b = Builder("cond")
    params = [b.param(f"c{k}", t) for k, t in enumerate(carries)]
    others = [b.param(n.name or "upper", n.type) for n in rest]
    return b.graph([b.add("lt", params[0], others[0])])


def _ignoring(body: Graph, position: int, like: Node) -> Graph:
    """The graph with one more parameter, which it does not use."""
    extra = Node(None, (), {}, like.type, None, _unused(body, "upper"))
    params = [*body.params[:position], extra, *body.params[position:]]
    return Graph(body.name, params, body.nodes, body.results)


def _unused(graph: Graph, name: str) -> str:
    taken = {n.name for n in (*graph.params, *graph.nodes)}
    while name in taken:
        name += "_"
    return name


def _integer(title: str, what: str, value: Any) -> Node:
    node = _single(title, what, value)
    if node.dtype.kind == "bool" or not node.dtype.is_integer:
        raise DTypeError(f"{title}: {what} is {node.type}", expected="an integer",
                         origin=caller_origin())
    return the_trace().builder.convert(node, "i64")


def _known_length(lower: Any, upper: Any) -> Dim | None:
    """How many turns there are, where that is known while compiling."""
    low, high = _map(_known_integer, (lower, upper))
    if low is None or high is None:
        return None
    length = high - low
    if isinstance(length, int):
        return max(length, 0)
    return length if low == 0 else None


def _known_integer(value: Any) -> Dim | None:
    if type(value) is Tracer:
        return value.value if isinstance(value.value, Size) else None
    return int(value) if isinstance(value, int | np.integer) else None


def scan(f: Function, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False
         ) -> Any:
    """``carry, y = f(carry, x)`` for each element along the first axis of the arrays `xs`.

    Args:
        f: a function of the carry and an element of each array, which gives the next carry and a
            result of this turn, both perhaps containers.
        init: the carry to begin with; see `while_loop`.
        xs: an array, or a container of arrays, whose first axes are of one size; None for none.
        length: how many turns there are; needed where `xs` holds no array.
        reverse: begin with the last element; results stay where their elements are.

    Gives the last carry and the results of all turns, stacked along a new first axis. Raises
    `ShapeError` or `DTypeError` where `f` changes the carry's structure or types, gives no pair, or
    the arrays' sizes differ.

    >>> import numpy as np, weft
    >>> total, sums = weft.scan(lambda c, x: (c + x, c + x), 0.0, np.arange(1.0, 5.0))
    >>> print(total, sums)
    10.0 [ 1.  3.  6. 10.]
    """
    return run_control("scan", _scan, (f,), init, xs, length=_static_length(length),
                reverse=bool(reverse))


def _static_length(length: Any) -> Any:
    return int(length) if length is not None and type(length) is not Tracer else length


def _scan(functions: tuple[Any, ...], init: Any, xs: Any, length: Any = None,
          reverse: bool = False) -> Any:
    the_trace().locate()
    (f,) = functions
    carry, tree = tracers_of(init)
    arrays, x_tree = tracers_of(xs)
    names = leaf_paths(x_tree, _parameter(f, 1, "x"))
    turns = _length("weft.scan", arrays, names, length)
    elements = [Spec(TensorType(a.node.shape[1:], a.node.dtype),
                     "array" if len(a.node.shape) > 1 else "scalar", name)
                for a, name in zip(arrays, names)]
    found = carried("weft.scan", f, tree, carry, leaf_paths(tree, _parameter(f, 0, "carry")),
                    lambda specs: trace_body(f, [tree, x_tree], [*specs, *elements]),
                    lambda sub: _pair("weft.scan", f, sub.tree)[0])
    sub, n = found.sub, len(carry)
    types = [*found.types, *(r.tensor for r in sub.graph.results[n:])]
    captured = list(sub.captured)
    b = the_trace().builder
    node = b.add("scan", *captured, *_converted(b, carry, found.types), *[a.node for a in arrays],
                 consts=len(captured), carries=n, length=turns, reverse=reverse,
                 body=closed("body", sub, captured, types, behind=False))
    outs = _elements(b, node)
    last = unflatten(tree, _wrapped(outs[:n], found))
    y_tree = _pair("weft.scan", f, sub.tree)[1]
    return last, unflatten(y_tree, [wrap(y, "array") for y in outs[n:]])


def _pair(title: str, f: Function, tree: Tree) -> tuple[Tree, Tree]:
    if isinstance(tree, tuple) and tree[0] in (tuple, list) and len(tree) == 4:
        return tree[2], tree[3]
    raise ShapeError(f"{title}: {function_name(f)} gives {tree_text(tree)}",
                     expected="a pair: the next carry, and the result of this turn",
                     repair="return carry, None where a turn has no result of its own",
                     origin=caller_origin())


def _length(title: str, arrays: Sequence[Tracer], names: Sequence[str], length: Any) -> Dim:
    turns: Dim | None = _known_integer(length) if length is not None else None
    first = "length"
    for a, name in zip(arrays, names):
        if not a.node.shape:
            raise ShapeError(f"{title}: {name} comes of {a.node.type}, which has no axis to run "
                             "along", expected="arrays of at least one axis",
                             repair="close over what is the same in every turn",
                             origin=caller_origin())
        size = a.node.shape[0]
        if turns is None:
            turns, first = size, name
        elif size != turns:
            raise ShapeError(f"{title}: {name} comes of {a.node.type}, but {first} says {turns} "
                             "turns", expected=f"a first axis of size {turns}",
                             origin=caller_origin())
    if turns is None:
        raise ShapeError(f"{title} got no arrays to run along, and no length",
                         expected="arrays, or length=", origin=caller_origin())
    if isinstance(turns, int) and turns < 0:
        raise ShapeError(f"{title}: length is {turns}", expected="0 or more",
                         origin=caller_origin())
    return turns


def map(f: Function, xs: Any) -> Any:
    """``f(x)`` for each element along the first axis of the arrays `xs`, one after another.

    Args:
        f: a function of an element of each array.
        xs: an array or a container of arrays whose first axes are of one size.

    Gives the results stacked along a new first axis. `vmap` does all elements at once, which is
    faster and takes more memory. Raises `ShapeError` as `scan` does.

    >>> import numpy as np, weft
    >>> weft.map(lambda x: x.sum(), np.ones((2, 3)))
    array([3., 3.])
    """
    return run_control("map", _map_over, (f,), xs)


def _map_over(functions: tuple[Any, ...], xs: Any) -> Any:
    (f,) = functions

    def body(carry: None, x: Any) -> Any:
        return None, f(x)
    return _scan((_named(body, f),), None, xs)[1]
