"""The passes made of rewrite rules: fold constants, canonicalize, move shapes, decompose."""

from __future__ import annotations

import functools
from typing import ClassVar

from weft.compiler.ir import Graph, Node, nested_graphs
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.passes.base import Pass
from weft.compiler.rewrite import (
    Rewriter,
    Rule,
    RuleTable,
    arith,
    fast,
    logic,
    motion,
    reductions,
    rewrite,
    updates,
    views,
)
from weft.compiler.rewrite.fold import fold_rules
from weft.compiler.target import Target

__all__ = ["Canonicalize", "Decompose", "FoldConstants", "MoveShapes", "canonical_rules"]

_FOLD_LIMIT = 4096


def canonical_rules() -> tuple[Rule, ...]:
    """The rules of `Canonicalize`, in the order in which they are tried."""
    return (*arith.RULES, *logic.RULES, *views.RULES, *updates.RULES, *reductions.RULES,
            *fast.RULES)


@functools.cache
def _table(which: str, fast_math: bool, limit: int = _FOLD_LIMIT,
           without: frozenset[str] = frozenset()) -> RuleTable:
    fold = tuple(fold_rules(limit))
    rules = {"fold": fold, "canonical": (*fold, *canonical_rules()),
             "shapes": (*fold, *motion.RULES, *canonical_rules())}[which]
    return RuleTable((r for r in rules if r.name not in without), fast_math)


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Computes nodes whose operands are constants, by the ops' reference meaning.

    Operands and results have at most `max_elements` elements; `iota` and broadcasts stay what they
    are, being smaller than the arrays they stand for.
    """

    name: ClassVar[str] = "fold-constants"
    max_elements: int = _FOLD_LIMIT

    def run(self, graph: Graph, target: Target) -> Graph:
        """The graph with constants computed."""
        return rewrite(graph, _table("fold", False, self.max_elements))


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Applies the rules of algebra and views until none applies.

    Every bit of the results stays, small powers aside (see the rule `small_power`). With the
    target's `fast_math`, rules of real arithmetic join. `without` names rules to leave out.
    """

    name: ClassVar[str] = "canonicalize"
    without: frozenset[str] = frozenset()

    def run(self, graph: Graph, target: Target) -> Graph:
        """The graph in canonical form."""
        return rewrite(graph, _table("canonical", target.fast_math, _FOLD_LIMIT, self.without))


@dataclass(frozen=True)
class MoveShapes(Pass):
    """Moves views past elementwise ops so that they cancel: repetition sinks, selection rises.

    The canonical rules apply too, so that what meets cancels at once. Sums and contractions may
    add in another order, as accurately.
    """

    name: ClassVar[str] = "move-shapes"
    without: frozenset[str] = frozenset()

    def run(self, graph: Graph, target: Target) -> Graph:
        """The graph with its views moved."""
        return rewrite(graph, _table("shapes", target.fast_math, _FOLD_LIMIT, self.without))


@dataclass(frozen=True)
class Decompose(Pass):
    """Writes ops that are not in `supported` in other ops, as their declarations say.

    `supported` is the key set of a device's table of lowerings; None decomposes nothing. An op
    that has no decomposition stays, for the device to refuse by name.
    """

    name: ClassVar[str] = "decompose"
    supported: frozenset[str] | None = None

    def run(self, graph: Graph, target: Target) -> Graph:
        """The graph in ops that the device has."""
        if self.supported is None or not self._needed(graph):
            return graph
        return rewrite(graph, _decomposing(self.supported))

    def _needed(self, graph: Graph) -> bool:
        assert self.supported is not None
        return any(n.opname not in self.supported or (
            n.kind == "control" and any(map(self._needed, nested_graphs(n).values())))
            for n in graph.nodes)


@functools.cache
def _decomposing(supported: frozenset[str]) -> RuleTable:
    def decompose(n: Node, b: Rewriter) -> Node | None:
        if n.op is None or n.op.decompose is None or n.op.name in supported:
            return None
        return n.op.decompose(b, n)
    return RuleTable([Rule("decompose", "op(x) → its decomposition", ("*",), decompose)])
