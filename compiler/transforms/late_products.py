"""Sums of products over the turns of a loop, taken after it as one product.

The cotangent of a loop's constant, such as the weights of a recurrent network, is a sum over the
turns. Where each turn adds the product of two smaller arrays, adding reads and writes the whole sum
again and again; the arrays of all turns, stacked, give it in one product, whose sum is over turns
as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from weft.compiler.build import Builder
from weft.compiler.inline import copy_node
from weft.compiler.ir import Node
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim

__all__ = ["LateProduct", "late_products"]

_VIEWS = ("reshape", "transpose")


@dataclass(frozen=True)
class LateProduct:
    """A product that a turn adds to a sum: `product` under `views`, the outermost first."""

    product: Node
    views: tuple[Node, ...]

    def over_turns(self, b: Builder, stacked: Callable[[Node], Node]) -> Node:
        """The sum over all turns; `stacked` gives a value of each turn, turns along axis 0."""
        (cx, cy), (bx, by) = self.product.attrs["contract"], self.product.attrs["batch"]
        x, y = map(stacked, self.product.inputs)
        found = b.dot_general(x, y, contract=((0, *_later(cx)), (0, *_later(cy))),
                              batch=(_later(bx), _later(by)))
        for view in reversed(self.views):
            found = copy_node(b, view, [found])
        return found


def late_products(total: Node, varying: Set[Node]) -> tuple[list[LateProduct], list[Node]]:
    """What a turn adds to a sum, apart: products to be taken after the loop, and the other terms.

    `varying` are the nodes that may differ from turn to turn. A product is taken later where its
    operands together are no larger than itself.
    """
    late, others, stack = [], [], [total]
    while stack:
        term = stack.pop()
        if term.opname == "add" and term in varying:
            stack += term.inputs[::-1]
            continue
        found = _late(term, varying)
        if found is None:
            others.append(term)
        else:
            late.append(found)
    return late, others


def _late(term: Node, varying: Set[Node]) -> LateProduct | None:
    views = []
    while term.opname in _VIEWS and len(term.inputs) == 1:
        views.append(term)
        term = term.inputs[0]
    if term.opname != "dot_general" or not varying >= set(term.inputs):
        return None
    most, sizes = _known(term.tensor.size), [_known(x.tensor.size) for x in term.inputs]
    if most is None or None in sizes or sum(s for s in sizes if s is not None) > most:
        return None
    return LateProduct(term, tuple(views))


def _later(axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + 1 for a in axes)


def _known(size: Dim) -> int | None:
    return size if isinstance(size, int) else None
