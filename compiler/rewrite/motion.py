"""Rules that move views past elementwise ops, so that they cancel and less is computed.

Repetition (`broadcast_in_dim`) sinks: what does not vary along an axis is computed once. Renaming
(`transpose`, `reshape`, `reverse`) sinks towards the uses, where it cancels or is absorbed by a
reduction or contraction. Selection (`slice`) rises: what is not taken is not computed. All are
exact.
"""

from __future__ import annotations

from weft.compiler.ir import Node
from weft.compiler.ops.registry import names_of_kind
from weft.compiler.rewrite.driver import Rewriter, Rule, rule
from weft.compiler.rewrite.match import is_op, without

__all__ = ["RULES"]

RULES: list[Rule] = []

_ELEMENTWISE = names_of_kind("elementwise")


@rule(RULES, "x ∘ broadcast(s) → x ∘ s, for 0-d s: it stands for every element", *_ELEMENTWISE,
      on=("broadcast_in_dim",))
def _scalar_operand(n: Node, b: Rewriter) -> Node | None:
    if n.shape == ():
        return None
    inputs = [i.inputs[0] if is_op(i, "broadcast_in_dim") and i.inputs[0].shape == () else i
              for i in n.inputs]
    if inputs == list(n.inputs):
        return None
    return b.like(n, b.moved(n, inputs))


def _varying(x: Node) -> set[int] | None:
    """The result axes along which a broadcast varies; None if `x` is no broadcast."""
    if not is_op(x, "broadcast_in_dim"):
        return None
    source, dims = x.inputs[0], x.attrs["dims"]
    return {d for i, d in enumerate(dims) if source.shape[i] == x.shape[d] and x.shape[d] != 1}


def _narrow(b: Rewriter, x: Node, axes: list[int]) -> Node:
    """A broadcast, over those of its axes only."""
    source, dims = x.inputs[0], x.attrs["dims"]
    gone = [i for i, d in enumerate(dims) if d not in axes]
    inner = b.reshape(source, without(source.shape, gone))
    shape = tuple(x.shape[a] for a in axes)
    return b.broadcast(inner, shape, [axes.index(d) for d in without(dims, gone)])


@rule(RULES, "broadcast(x) ∘ broadcast(y) → broadcast(x ∘ y): compute before repeating",
      *_ELEMENTWISE, on=("broadcast_in_dim",))
def _compute_before_repeating(n: Node, b: Rewriter) -> Node | None:
    used: set[int] = set()
    for i in n.inputs:
        if i.shape != ():
            varying = _varying(i)
            if varying is None:
                return None
            used |= varying
    axes = sorted(used)
    if all(d == 1 for d in without(n.shape, axes)):
        return None
    inputs = [i if i.shape == () else _narrow(b, i, axes) for i in n.inputs]
    return b.broadcast(b.moved(n, inputs), n.shape, axes)


def _common(n: Node, b: Rewriter, op: str, attr: str) -> Node | None:
    """The first of the node's operands with the view, if all arrays among them have it."""
    first: Node | None = None
    once = False
    for i in n.inputs:
        if i.shape == () or is_op(i, "broadcast_in_dim"):
            continue
        if not is_op(i, op) or (first is not None and (
                i.attrs[attr] != first.attrs[attr] or i.inputs[0].shape != first.inputs[0].shape)):
            return None
        first = first or i
        once = once or b.used_once(i)
    return first if once else None


@rule(RULES, "transpose(x) ∘ transpose(y) → transpose(x ∘ y); broadcasts are transposed back",
      *_ELEMENTWISE, on=("transpose",))
def _sink_transpose(n: Node, b: Rewriter) -> Node | None:
    first = _common(n, b, "transpose", "perm")
    if first is None:
        return None
    perm = first.attrs["perm"]
    back = tuple(perm.index(a) for a in range(len(perm)))
    inputs = [i if i.shape == () else i.inputs[0] if is_op(i, "transpose")
              else b.add("transpose", i, perm=back) for i in n.inputs]
    return b.add("transpose", b.moved(n, inputs), perm=perm)


@rule(RULES, "reshape(x) ∘ reshape(y) → reshape(x ∘ y), from one shape to one shape",
      *_ELEMENTWISE, on=("reshape",))
def _sink_reshape(n: Node, b: Rewriter) -> Node | None:
    first = _common(n, b, "reshape", "shape")
    if first is None or first.inputs[0].shape == () \
            or any(is_op(i, "broadcast_in_dim") for i in n.inputs):
        return None
    inputs = [i if i.shape == () else i.inputs[0] for i in n.inputs]
    return b.reshape(b.moved(n, inputs), n.shape)


@rule(RULES, "reverse(x) ∘ reverse(y) → reverse(x ∘ y)", *_ELEMENTWISE, on=("reverse",))
def _sink_reverse(n: Node, b: Rewriter) -> Node | None:
    first = _common(n, b, "reverse", "axes")
    if first is None:
        return None
    axes = first.attrs["axes"]
    inputs = [i if i.shape == () else i.inputs[0] if is_op(i, "reverse")
              else b.add("reverse", i, axes=axes) for i in n.inputs]
    return b.add("reverse", b.moved(n, inputs), axes=axes)


@rule(RULES, "slice(x ∘ y) → slice(x) ∘ slice(y): what is not taken is not computed", "slice",
      on=_ELEMENTWISE)
def _raise_slice(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if x.kind != "elementwise" or not b.used_once(x):
        return None
    inputs = [i if i.shape == () else b.replace(n, (i,)) for i in x.inputs]
    return b.moved(x, inputs)


@rule(RULES, "slice(transpose(x)) → transpose(slice(x))", "slice", on=("transpose",))
def _slice_of_transpose(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "transpose"):
        return None
    perm = x.attrs["perm"]
    start, limit, stride = (tuple(n.attrs[k][perm.index(a)] for a in range(len(perm)))
                            for k in ("start", "limit", "stride"))
    inner = b.add("slice", x.inputs[0], start=start, limit=limit, stride=stride)
    return b.add("transpose", inner, perm=perm)
