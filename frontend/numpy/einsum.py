"""np.einsum in all its forms, as dot_general of pairs, transposes and sums."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.types import Dim
from weft.frontend.numpy.common import (
    Array,
    build,
    element,
    into,
    lift,
    result,
    same_dtype,
)
from weft.frontend.numpy.linalg_core import contract
from weft.frontend.numpy.matrices import diagonal_node
from weft.frontend.numpy.ufuncs import shape_str
from weft.frontend.problems import shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__: list[str] = []

Term = tuple[Node, str]            # an operand and the label of each of its axes
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


# ---- reading the subscripts

def _sublists(operands: list[Any]) -> tuple[str, list[Any]]:
    """`einsum(x, [0, 1], y, [1, 2], [0, 2])` as subscripts and operands."""
    arrays, lists = operands[0::2], operands[1::2]
    out = None
    if len(operands) % 2:
        arrays, out = operands[0:-1:2], operands[-1]

    def text(labels: Any) -> str:
        return "".join("..." if v is Ellipsis else _LETTERS[v] for v in labels)
    return ",".join(map(text, lists)) + (f"->{text(out)}" if out is not None else ""), arrays


def _expand_dots(term: str, rank: int, dots: str) -> str:
    """The term with its `...` written as letters from the end of `dots`."""
    if "..." in term:
        extra = rank - (len(term) - 3)
        if extra < 0:
            raise _too_many(term, rank)
        return term.replace("...", dots[len(dots) - extra:])
    if len(term) != rank:
        raise _too_many(term, rank)
    return term


def _too_many(term: str, rank: int) -> Exception:
    few = len(term.replace("...", "")) < rank
    return shape_error(
        "operand has more dimensions than subscripts given in einstein sum, but no '...' ellipsis "
        "provided to broadcast the extra dimensions." if few else
        "einstein sum subscripts string contains too many subscripts for operand",
        f"{rank} label(s), got {term!r}")


def _parse(subscripts: str, nodes: list[Node]) -> tuple[list[str], str]:
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(nodes):
        raise shape_error("more operands provided to einstein sum function than specified in the "
                          "subscripts string" if len(terms) < len(nodes) else
                          "fewer operands provided to einstein sum function than specified in the "
                          "subscripts string", f"{len(terms)} operand(s), got {len(nodes)}")
    used = set(left + right)
    widest = max((len(n.shape) - len(t) + 3 for n, t in zip(nodes, terms) if "..." in t),
                 default=0)
    free = [c for c in _LETTERS if c not in used]
    dots = "".join(free[:max(widest, 0)])
    terms = [_expand_dots(t, len(n.shape), dots) for t, n in zip(terms, nodes)]
    if arrow:
        out = right.replace("...", dots)
    else:
        counts = Counter("".join(terms))
        out = dots + "".join(sorted(c for c in counts if counts[c] == 1 and c not in dots))
    _check_output(out, terms)
    return terms, out


def _check_output(out: str, terms: list[str]) -> None:
    for c in out:
        if out.count(c) > 1:
            raise shape_error("einstein sum subscripts string includes output subscript "
                              f"'{c}' multiple times")
        if not any(c in t for t in terms):
            raise shape_error("einstein sum subscripts string included output subscript "
                              f"'{c}' which never appeared in an input")


# ---- one operand

def _merge_repeats(term: Term) -> Term:
    """Repeated labels of one operand stand for its diagonal."""
    node, labels = term
    while len(set(labels)) < len(labels):
        c = next(c for c in labels if labels.count(c) > 1)
        i = labels.index(c)
        j = labels.index(c, i + 1)
        if node.shape[i] != node.shape[j]:
            raise shape_error(f"dimensions in operand for collapsing index '{c}' don't match "
                              f"({node.shape[i]} != {node.shape[j]})")
        node = diagonal_node(node, 0, i, j)
        labels = labels[:i] + labels[i + 1:j] + labels[j + 1:] + c
    return node, labels


def _sum_out(term: Term, labels: set[str]) -> Term:
    node, have = term
    axes = tuple(i for i, c in enumerate(have) if c in labels)
    if not axes:
        return term
    op = "reduce_or" if node.dtype.kind == "bool" else "reduce_sum"
    return build().add(op, node, axes=axes), "".join(c for c in have if c not in labels)


def _sizes(terms: list[Term]) -> dict[str, Dim]:
    sizes: dict[str, Dim] = {}
    for node, labels in terms:
        for d, c in zip(node.shape, labels):
            if sizes.setdefault(c, d) == 1:
                sizes[c] = d
            elif d not in (1, sizes[c]):
                raise shape_error(
                    "operands could not be broadcast together with remapped shapes "
                    "[original->remapped]: " + " ".join(shape_str(n.shape) for n, _ in terms),
                    f"one size for label '{c}', got {sizes[c]} and {d}")
    return sizes


def _drop_ones(term: Term, sizes: dict[str, Dim]) -> Term:
    """Axes of size 1 that another operand has longer are broadcast: leave them out."""
    node, labels = term
    keep = [i for i, (d, c) in enumerate(zip(node.shape, labels)) if d == sizes[c] or d != 1]
    if len(keep) == len(labels):
        return term
    shape = tuple(node.shape[i] for i in keep)
    return build().reshape(node, shape), "".join(labels[i] for i in keep)


# ---- two operands

def _pair(x: Term, y: Term, keep: set[str]) -> Term:
    """Multiply two operands and sum what nothing later needs."""
    x = _sum_out(x, set(x[1]) - keep - set(y[1]))
    y = _sum_out(y, set(y[1]) - keep - set(x[1]))
    both = [c for c in x[1] if c in y[1]]
    batch = [c for c in both if c in keep]
    summed = [c for c in both if c not in keep]
    free = [c for c in x[1] if c not in both] + [c for c in y[1] if c not in both]
    labels = "".join(batch + free)
    if not summed:
        b = build()
        return b.mul(*_aligned(x, y, labels)), labels
    def places(labels: list[str]) -> tuple[list[int], list[int]]:
        return [x[1].index(c) for c in labels], [y[1].index(c) for c in labels]
    return contract(x[0], y[0], places(summed), places(batch)), labels


def _aligned(x: Term, y: Term, labels: str) -> tuple[Node, Node]:
    sizes = {c: d for node, have in (x, y) for c, d in zip(have, node.shape)}
    shape = tuple(sizes[c] for c in labels)

    def spread(term: Term) -> Node:
        node, have = term
        order = sorted(range(len(have)), key=lambda i: labels.index(have[i]))
        b = build()
        if order != list(range(len(have))):
            node = b.transpose(node, perm=tuple(order))
        return b.broadcast(node, shape, [labels.index(have[i]) for i in order])
    return spread(x), spread(y)


def _path(subscripts: str, terms: list[Term]) -> list[tuple[int, ...]]:
    """The order of contraction: NumPy's greedy search where sizes are known."""
    if len(terms) < 3:
        return [tuple(range(len(terms)))]
    if any(not isinstance(d, int) for n, _ in terms for d in n.shape):
        return [(0, 1)] * (len(terms) - 1)
    shadows = [np.broadcast_to(np.zeros(()), cast(Any, n.shape)) for n, _ in terms]
    return np.einsum_path(subscripts, *shadows, optimize="greedy")[0][1:]


@implements(np.einsum)
def _einsum(*operands: Array, out: Any = None, dtype: Any = None, order: Any = "K",
            casting: Any = "safe", optimize: Any = False) -> Any:
    args = list(operands)
    if isinstance(args[0], str):
        subscripts, arrays = args[0], args[1:]
    else:
        subscripts, arrays = _sublists(args)
    xs = [lift(a) for a in arrays]
    nodes = same_dtype(xs, None if dtype is None else element(dtype))
    labels, result_labels = _parse(subscripts, nodes)
    terms = [_merge_repeats(t) for t in zip(nodes, labels)]
    sizes = _sizes(terms)
    terms = [_drop_ones(t, sizes) for t in terms]
    node = _contract_all(terms, result_labels)
    return into(out, result(node))


def _contract_all(terms: list[Term], out: str) -> Node:
    text = ",".join(t[1] for t in terms) + "->" + out
    for places in _path(text, terms):
        picked = [terms[i] for i in places]
        terms = [t for i, t in enumerate(terms) if i not in places]
        while len(picked) > 1:
            later = set(out).union(*(t[1] for t in (*terms, *picked[2:])))
            picked = [_pair(picked[0], picked[1], later), *picked[2:]]
        terms.append(picked[0])
    (term,) = terms
    node, labels = _sum_out(term, set(term[1]) - set(out))
    return _ordered(node, labels, out)


def _ordered(node: Node, labels: str, out: str) -> Node:
    perm = tuple(labels.index(c) for c in out)
    return node if perm == tuple(range(len(perm))) else build().transpose(node, perm=perm)


@implements(np.einsum_path)
def _einsum_path(*operands: Any, optimize: Any = "greedy", einsum_call: Any = False) -> Any:
    shadows: Any = [np.broadcast_to(np.zeros(()), a.shape) if type(a) is Tracer else a
                    for a in operands]
    return np.einsum_path(*shadows, optimize=optimize)
