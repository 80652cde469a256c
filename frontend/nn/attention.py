"""Attention, and looking up embeddings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES
from weft.frontend.nn.common import Array, floating, function, rounded
from weft.frontend.nn.normalization import softmax
from weft.frontend.numpy.common import as_array, build, lift, static
from weft.frontend.problems import problem

__all__ = ["embedding", "multi_head_attention", "one_hot", "scaled_dot_product_attention"]


@rounded
def scaled_dot_product_attention(query: Array, key: Array, value: Array,
                                 attn_mask: Array | None = None, is_causal: bool = False,
                                 scale: float | None = None, bias: Array | None = None) -> Any:
    """softmax(query @ key.T * scale + bias) @ value (Vaswani et al., 2017).

    Args:
        query: (…, heads, queries, size).
        key, value: (…, heads, keys, size), of `value` perhaps another size. They may have fewer
            heads, of which each then serves as many neighbouring heads of the query (grouped-query
            attention).
        attn_mask: broadcast to (…, heads, queries, keys). Booleans say which keys count; numbers
            are added to the scores, as `bias` is. A query for which no key counts gets zeros.
        is_causal: query i sees keys up to i only.
        scale: 1 / sqrt(size) unless given.

    Gives (…, heads, queries, size of the values), of the arguments' common type.

    >>> import numpy as np, weft
    >>> q = k = np.eye(2)[None]
    >>> weft.nn.scaled_dot_product_attention(q, k, np.array([[[1.0], [2.0]]]), is_causal=True)[0, 0]
    array([1.])
    """
    q: Any
    k: Any
    v: Any
    q, k, v = floating(query), floating(key), floating(value)
    if min(len(t.node.shape) for t in (q, k, v)) < 2:
        raise problem(ShapeError, "scaled_dot_product_attention got an array of fewer than 2 "
                      "dimensions", expected="(…, heads, positions, size)")
    groups = _groups(q, k, v)
    if groups > 1:
        q = _grouped(q, groups)
        k, v = (np.expand_dims(t, -3) for t in (k, v))
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1])
    scores = (q @ np.swapaxes(k, -1, -2)) * scale     # (scaled as they are stored)
    keep = None
    for extra in (attn_mask, bias):
        if extra is None:
            continue
        extra = lift(extra)
        if groups > 1:
            extra = _grouped(extra, groups)
        if extra.element.kind == "bool":
            keep = extra
        else:
            scores = scores + extra
    if is_causal:
        past = _numbers(scores.node, -1) <= _numbers(scores.node, -2)
        keep = past if keep is None else np.logical_and(keep, past)
    if keep is not None:
        keep = np.broadcast_to(keep, scores.shape)
    out = softmax(scores, -1, keep) @ v
    if groups > 1:
        shape = out.shape
        out = out.reshape((*shape[:-4], shape[-4] * shape[-3], *shape[-2:]))
    return out


def _numbers(scores: Node, axis: int) -> Any:
    """Each query's, or each key's, number, at every score."""
    return as_array(build().iota(shape=scores.shape[-2:], axis=axis + 2, dtype=DTYPES["i64"]))


def _groups(q: Any, k: Any, v: Any) -> int:
    """How many heads of the query share one of the keys'."""
    if len(q.node.shape) < 3 or len(k.node.shape) < 3:
        return 1
    heads, fewer = q.node.shape[-3], k.node.shape[-3]
    if v.node.shape[-3] != fewer:
        raise problem(ShapeError, f"scaled_dot_product_attention got {fewer} heads of keys and "
                      f"{v.node.shape[-3]} of values", expected="as many")
    if heads == fewer or not isinstance(heads, int) or not isinstance(fewer, int):
        return 1
    if fewer == 0 or heads % fewer:
        raise problem(ShapeError, f"scaled_dot_product_attention got {heads} heads of queries and "
                      f"{fewer} of keys", expected="a multiple of the keys' heads")
    return heads // fewer


def _grouped(x: Any, groups: int) -> Any:
    """Heads (…, heads, a, b) as (…, heads / groups, groups, a, b)."""
    shape = x.shape
    if len(shape) < 3:
        return x
    if shape[-3] == 1:
        return np.expand_dims(x, -3)
    return x.reshape((*shape[:-3], shape[-3] // groups, groups, *shape[-2:]))


@function
def multi_head_attention(query: Array, key: Array, value: Array, num_heads: int,
                         attn_mask: Array | None = None, is_causal: bool = False) -> Any:
    """Attention of features cut into heads: (batch, positions, features) in and out.

    The projections before and behind are matrix products of the caller's.
    """
    heads = static(num_heads, "num_heads")
    parts = []
    for t in map(floating, (query, key, value)):
        batch, length, features = t.shape
        if features % heads:
            raise problem(ShapeError, f"multi_head_attention got {features} features for {heads} "
                          "heads", expected="a multiple of the number of heads")
        parts.append(t.reshape((batch, length, heads, features // heads)).swapaxes(1, 2))
    q, k, v = parts
    out = scaled_dot_product_attention(q, k, v, attn_mask, is_causal).swapaxes(1, 2)
    batch, length, _, size = out.shape
    return out.reshape((batch, length, heads * size))


@function
def embedding(indices: Array, weight: Array) -> Any:
    """Rows of `weight` by number: the shape of `indices`, then that of a row.

    >>> import numpy as np, weft
    >>> weft.nn.embedding(np.array([2, 0]), np.arange(6.0).reshape(3, 2))
    array([[4., 5.],
           [0., 1.]])
    """
    return np.take(lift(weight), lift(indices), axis=0)


@function
def one_hot(x: Array, num_classes: int, dtype: Any = np.float64, axis: int = -1) -> Any:
    """A new axis with 1 at each index and 0 elsewhere; all zeros for an index outside.

    >>> import numpy as np, weft
    >>> weft.nn.one_hot(np.array([1, 3]), 3)
    array([[0., 1., 0.],
           [0., 0., 0.]])
    """
    x = lift(x)
    if not x.element.is_integer:
        raise problem(DTypeError, f"one_hot got indices of type {x.element}",
                      expected="integers")
    rank, at = len(x.node.shape) + 1, static(axis, "axis")
    at = at + rank if at < 0 else at
    line = [1] * rank
    line[at] = static(num_classes, "num_classes")
    numbers = np.arange(line[at]).reshape(line)
    return (np.expand_dims(x, at) == numbers).astype(dtype)
