"""Containers of arrays, taken apart and put together again.

A tree is plain hashable data: `LEAF`, a `Static` value, or ``(type, aux, *subtrees)``. Dicts,
lists, tuples, namedtuples, dataclasses and None are known; `register_pytree` adds classes.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.lazy_dataclass import dataclass
from weft.frontend.statics import Static

__all__ = ["LEAF", "Tree", "builder", "children", "flatten", "flatten_into", "leaf_paths", "places",
           "register_pytree", "taker", "tree_text", "unflatten"]

LEAF = "*"
Tree: TypeAlias = Any
T = TypeVar("T")


@dataclass(frozen=True)
class _Node:
    """How a container class comes apart; `names` gives each child's place as text."""

    flatten: Callable[[Any], tuple[Iterable[Any], Any]]
    unflatten: Callable[[type, Any, list[Any]], Any]
    names: Callable[[Any, int], Iterable[str]]


def _numbered(aux: Any, count: int) -> Iterable[str]:
    return (f"[{i}]" for i in range(count))


def _keyed(aux: Any, count: int) -> Iterable[str]:
    return (f"[{key!r}]" for key in aux)


def _dotted(aux: Any, count: int) -> Iterable[str]:
    return (f".{name}" for name in aux)


def _mapping(value: Any) -> tuple[Iterable[Any], Any]:
    return value.values(), tuple(value)


def _default_dict(cls: type, aux: Any, children: list[Any]) -> Any:
    return defaultdict(aux[0], zip(aux[1:], children))


_NODES: dict[type, _Node] = {
    type(None): _Node(lambda v: ((), None), lambda cls, aux, c: None, _numbered),
    tuple: _Node(lambda v: (v, None), lambda cls, aux, c: tuple(c), _numbered),
    list: _Node(lambda v: (v, None), lambda cls, aux, c: c, _numbered),
    dict: _Node(_mapping, lambda cls, aux, c: dict(zip(aux, c)), _keyed),
    OrderedDict: _Node(_mapping, lambda cls, aux, c: OrderedDict(zip(aux, c)), _keyed),
    defaultdict: _Node(lambda v: (v.values(), (v.default_factory, *v)), _default_dict,
                       lambda aux, count: _keyed(aux[1:], count)),
}


def register_pytree(cls: type[T], flatten: Callable[[T], tuple[Iterable[Any], Any]],
                    unflatten: Callable[[Any, list[Any]], T]) -> type[T]:
    """Let instances of `cls` be arguments and results of compiled functions.

    `flatten(obj)` gives its children (arrays, numbers or further containers) and hashable data
    that must be equal for a compilation to be used again; `unflatten(data, children)` builds an
    object from them. While tracing, the children are tracers, so `unflatten` must not look at
    their values. Raises `ValueError` if the class is known already. Returns the class.

    >>> import numpy as np, weft
    >>> class Pair:
    ...     def __init__(self, a, b): self.a, self.b = a, b
    >>> _ = weft.register_pytree(Pair, lambda p: ((p.a, p.b), None), lambda _, ab: Pair(*ab))
    >>> swap = weft.jit(lambda p: Pair(p.b, p.a * 2), device="reference")
    >>> swap(Pair(np.float32(1), np.float32(2))).b
    np.float32(2.0)
    """
    if cls in _NODES:
        raise ValueError(f"{cls.__qualname__} is registered already")
    _NODES[cls] = _Node(flatten, lambda _, aux, children: unflatten(aux, children), _numbered)
    return cls


def flatten(value: Any, static: Callable[[Any], Static | None] | None = None
            ) -> tuple[list[Any], Tree]:
    """The leaves of `value`, left to right, and the tree that holds them.

    What is no container is a leaf, unless `static` makes it a part of the tree itself.

    >>> flatten({"w": 1.0, "b": [2.0, None]})[0]
    [1.0, 2.0]
    """
    leaves: list[Any] = []
    return leaves, flatten_into(value, leaves, static)


def flatten_into(value: Any, leaves: list[Any],
                 static: Callable[[Any], Static | None] | None) -> Tree:
    """The same, the leaves being appended to a list."""
    if type(value) is np.ndarray:       # first, because most are
        leaves.append(value)
        return LEAF
    try:
        return _flatten(value, leaves, static)
    except RecursionError:
        raise UnsupportedError("a container is nested too deeply, or contains itself",
                               expected="a tree of containers") from None


def _flatten(value: Any, leaves: list[Any],
             static: Callable[[Any], Static | None] | None) -> Tree:
    cls = type(value)
    if cls is np.ndarray:
        leaves.append(value)
        return LEAF
    node = _node(cls)
    if node is None:
        held = static(value) if static is not None else None
        if held is None:
            leaves.append(value)
        return held or LEAF
    children, aux = node.flatten(value)
    return (cls, aux, *[_flatten(child, leaves, static) for child in children])


def unflatten(tree: Tree, leaves: Iterable[Any],
              replaced: Callable[[Any], Any] | None = None) -> Any:
    """The value that `flatten` took apart, with other leaves; static values go through `replaced`.

    >>> leaves, tree = flatten({"w": 1.0, "b": (2.0,)})
    >>> unflatten(tree, "xy")
    {'w': 'x', 'b': ('y',)}
    """
    return _unflatten(tree, iter(leaves), replaced)


def _unflatten(tree: Tree, leaves: Iterator[Any],
               replaced: Callable[[Any], Any] | None) -> Any:
    if tree is LEAF:
        return next(leaves)
    if isinstance(tree, Static):
        return tree.value if replaced is None else replaced(tree.value)
    cls, aux, *subtrees = tree
    return _known(cls).unflatten(cls, aux, [_unflatten(t, leaves, replaced) for t in subtrees])


def builder(tree: Tree) -> Callable[[list[Any]], Any]:
    """`unflatten` for one tree, made once: a function of the list of leaves.

    The list may become a part of the result.

    >>> builder(flatten({"w": 1.0, "b": (2.0,)})[1])(["x", "y"])
    {'w': 'x', 'b': ('y',)}
    """
    if tree is LEAF:
        return operator.itemgetter(0)
    if isinstance(tree, Static):
        return lambda leaves: tree.value
    cls, aux, *subtrees = tree
    build = _known(cls).unflatten
    if all(t is LEAF for t in subtrees):
        return lambda leaves: build(cls, aux, leaves)
    ends = list(itertools.accumulate(map(_count, subtrees)))
    parts = [(builder(t), slice(end - _count(t), end)) for t, end in zip(subtrees, ends)]
    return lambda leaves: build(cls, aux, [make(leaves[part]) for make, part in parts])


def taker(tree: Tree) -> Callable[[Any], list[Any] | None] | None:
    """`flatten` for values that are expected to have this tree, made once: a function that gives
    the leaves, or None for a value of another tree. What stands in a leaf's place is taken for one.

    None for trees that hold static values.

    >>> take = taker(flatten({"w": 1.0, "b": (2.0,)})[1])
    >>> take({"w": 3.0, "b": (4.0,)}), take({"w": 3.0, "b": (4.0, 5.0)}), take([3.0, (4.0,)])
    ([3.0, 4.0], None, None)
    """
    into = _taker(tree)

    def take(value: Any) -> list[Any] | None:
        leaves: list[Any] = []
        return leaves if into(value, leaves) else None
    return take if into is not None else None


def _taker(tree: Tree) -> Any:
    """A function of a value and a list, to which the leaves are added; false for other trees."""
    if tree is LEAF:
        return lambda value, leaves: leaves.append(value) is None
    if isinstance(tree, Static):
        return None
    cls, aux, *subtrees = tree
    apart, count, known = _known(cls).flatten, len(subtrees), [_taker(t) for t in subtrees]

    def flat(value: Any, leaves: list[Any]) -> bool:
        if type(value) is not cls:
            return False
        found, other = apart(value)
        before = len(leaves)
        leaves.extend(found)
        return bool(other == aux and len(leaves) - before == count)

    def deep(value: Any, leaves: list[Any]) -> bool:
        found: list[Any] = []
        return flat(value, found) and all(
            take(child, leaves) for take, child in zip(known, found))

    if None in known:
        return None
    return flat if all(t is LEAF for t in subtrees) else deep


def _count(tree: Tree) -> int:
    return 1 if tree is LEAF else 0 if isinstance(tree, Static) else sum(map(_count, tree[2:]))


def places(tree: Tree, root: str = "") -> list[tuple[str, Static | None]]:
    """Where each leaf (None) and each static value stands, behind the name of the whole."""
    if tree is LEAF:
        return [(root, None)]
    if isinstance(tree, Static):
        return [(root, tree)]
    cls, aux, *subtrees = tree
    names = _known(cls).names(aux, len(subtrees))
    return [place for name, sub in zip(names, subtrees) for place in places(sub, root + name)]


def leaf_paths(tree: Tree, root: str = "") -> list[str]:
    """Where each leaf stands, as Python text behind the name of the whole.

    >>> leaf_paths(flatten({"w": 1.0, "b": [2.0]})[1], "params")
    ["params['w']", "params['b'][0]"]
    """
    return [path for path, static in places(tree, root) if static is None]


def children(value: Any) -> tuple[list[Any], Any] | None:
    """What a container holds, and what else tells it apart; None for what is no container.

    >>> children({"w": 1.0})
    ([1.0], ('w',))
    """
    node = _node(type(value))
    if node is None:
        return None
    held, aux = node.flatten(value)
    return list(held), aux


def tree_text(tree: Tree) -> str:
    """A tree as short text, for messages; leaves and static values are stars.

    >>> tree_text(flatten({"w": 1.0, "b": (2.0, None)})[1])
    "{'w': *, 'b': (*, None)}"
    """
    if tree is LEAF or isinstance(tree, Static):
        return LEAF
    cls, aux, *subtrees = tree
    texts = [tree_text(t) for t in subtrees]
    if cls is type(None):
        return "None"
    if cls is tuple:
        return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
    if cls is list:
        return f"[{', '.join(texts)}]"
    names = [name.strip(".[]") for name in _known(cls).names(aux, len(subtrees))]
    if cls is dict:
        return "{" + ", ".join(f"{n}: {t}" for n, t in zip(names, texts)) + "}"
    return f"{cls.__name__}({', '.join(f'{n}={t}' for n, t in zip(names, texts))})"


def _node(cls: Any) -> _Node | None:
    return _NODES.get(cls) or _derived(cls)


def _known(cls: type) -> _Node:
    node = _node(cls)
    assert node is not None, f"{cls} stands in a tree but is no container"
    return node


@functools.lru_cache(maxsize=1024)
def _derived(cls: Hashable) -> _Node | None:
    """What follows from the class itself: namedtuples and dataclasses."""
    assert isinstance(cls, type)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _Node(lambda v: (v, cls._fields), lambda c, aux, kids: tuple.__new__(c, kids),
                     _dotted)
    if hasattr(cls, "__dataclass_fields__"):
        return _Node(_dataclass_children, _dataclass_build, _dotted)
    return None


def _dataclass_children(value: Any) -> tuple[Sequence[Any], tuple[str, ...]]:
    # Attributes set beside the fields (by __post_init__, say) belong to the object as well.
    names = [n for n in type(value).__dataclass_fields__ if hasattr(value, n)]
    names += [n for n in getattr(value, "__dict__", ()) if n not in names]
    return [getattr(value, n) for n in names], tuple(names)


def _dataclass_build(cls: type, names: tuple[str, ...], children: list[Any]) -> Any:
    # Not through __init__: it would run the class's own checks on tracers, and again on results.
    made: Any = object.__new__(cls)
    for name, child in zip(names, children):
        object.__setattr__(made, name, child)
    return made
