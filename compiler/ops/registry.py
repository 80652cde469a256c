"""What an op is, and the table of all of them.

Everything about an op that no device decides stands in one `Op` declaration: its type rule, its
meaning (`reference`, written over an array namespace), what it costs, how it is composed of other
ops, and samples for the tests. The kinds (`elementwise`, `reduction`, …) supply what follows from
the kind; see the modules beside this one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from weft.compiler.errors import WeftError
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.ops.families import FAMILIES
from weft.compiler.types import Type

if TYPE_CHECKING:
    from weft.compiler.build import Builder
    from weft.compiler.ir import Node

__all__ = ["HOMES", "KINDS", "OPS", "OUTSIDE", "Attrs", "Op", "get_op", "names_of_kind", "register"]

Attrs = Mapping[str, Any]

KINDS = {
    "elementwise": "one result element from the operands' elements at the same index",
    "view": "elements of the operands moved, repeated or left out, none computed",
    "creation": "an array from attributes alone",
    "reduction": "axes removed by combining their elements",
    "scan": "running combinations along an axis",
    "contraction": "sums of products over paired axes",
    "windows": "elements of sliding windows combined: convolution, pooling, folding",
    "indexing": "elements picked by computed indices",
    "sort": "elements ordered along an axis",
    "structure": "packs and unpacks several results",
    "custom": "declared outside of weft, computed by a function of its own",
    "control": "graphs applied to operands: branches and loops",
    "factorization": "matrices taken apart, and systems solved, by LAPACK",
    "transform": "discrete Fourier transforms along axes",
}


@dataclass(frozen=True, eq=False)
class Op:
    """One primitive operation.

    `infer(types, attrs)` gives the result type or raises a `WeftError`; `reference(xp, *arrays,
    **attrs)` computes the result with the array namespace `xp` (NumPy, CuPy); `decompose(builder,
    node)` writes it in other ops, for targets without a lowering; `cost` is in floating-point
    operations for each result element (each input element for reductions); `samples()` yields
    ``(arrays, attrs)`` cases and `errors` pairs ``(types, attrs)`` with the message that is due;
    `fails` is what a `LinAlgError` may say that it raises, where values do not allow it (unless its
    attribute `check` is false).

    How it is differentiated and batched; each kind supplies what follows from it
    (`weft.compiler.transforms` has the defaults and says how the rules are called):

    - `partials`: for elementwise ops, the derivative by each operand, as formulas over the operands
      ``x``, ``y``, ``z`` and the result ``out``: ``("cos(x)",)`` for sine.
    - `linear`: ``"jointly"`` if the result is linear in all float operands together (add,
      concatenate), ``"each"`` if in each of them alone (mul, dot_general). Tangents of linear ops
      are the op applied to the tangents.
    - `jvp(b, node, tangents)`: the tangent of `node`, whose inputs have these tangents; None stands
      for zero, in and out. For a node of several results, a list of tangents.
    - `transpose(b, node, cotangent, wanted)`: for linear ops, the cotangents of the operands in
      `wanted` (a set of positions), as a list with None for the others and for zeros. For a node of
      several results the cotangent is a list.
    - `jointly(b, node, inputs, tangents)`: for ops that hold graphs, lists of the results on these
      inputs and of their tangents, computed together.
    - `linearize(b, node, inputs, tangents)`: the same, computed apart: the tangents by nodes that
      are linear in the tangents given. The results may be a node, too.
    - `batch(b, node, inputs, batched)`: the op on `inputs`, of which those where `batched` is true
      have a new first axis, all of one size; the result has it too (every element of a tuple). An
      op that holds graphs gives a list of its results, each with whether it has the axis.
    """

    name: str
    kind: str
    arity: int | None                        # None: any number of operands
    doc: str
    infer: Callable[[tuple[Any, ...], Attrs], Type]
    reference: Callable[..., Any]
    attrs: tuple[str, ...] = ()
    cost: float = 1.0
    decompose: Callable[[Builder, Node], Node] | None = None
    samples: Callable[[], list[tuple[tuple[Any, ...], dict[str, Any]]]] | None = None
    errors: tuple[tuple[tuple[Any, ...], dict[str, Any], str], ...] = ()
    fails: tuple[str, ...] = ()
    partials: tuple[str, ...] | None = None
    linear: str = ""
    jvp: Callable[[Builder, Node, Sequence[Any]], Any] | None = None
    jointly: Callable[[Builder, Node, Sequence[Node], Any], tuple[Any, Any]] | None = None
    linearize: Callable[[Builder, Node, Sequence[Node], Any], tuple[Any, Any]] | None = None
    transpose: Callable[[Builder, Node, Any, Set[int]], list[Any]] | None = None
    batch: Callable[[Builder, Node, Sequence[Node], Sequence[bool]], Any] | None = None

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (get_op, (self.name,))


class _Table(dict[str, Op]):
    """Ops by name. A look for one loads the module that declares it, a look at all of them all."""

    def __missing__(self, name: str) -> Op:
        if name not in HOMES:
            raise KeyError(name)
        importlib.import_module(HOMES[name])
        found = dict.get(self, name)        # which asks no further
        if found is None:
            raise KeyError(f"{HOMES[name]} does not declare {name}")
        return found

    def get(self, name: Any, default: Any = None) -> Any:
        """The op, or the default."""
        try:
            return self[name]
        except KeyError:
            return default

    def complete(self) -> _Table:
        """Load all modules."""
        for home in dict.fromkeys(HOMES.values()):
            importlib.import_module(home)
        return self

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or name in HOMES

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self.complete())

    def __len__(self) -> int:
        return dict.__len__(self.complete())

    def keys(self) -> Any:
        """All names."""
        return dict.keys(self.complete())

    def values(self) -> Any:
        """All ops."""
        return dict.values(self.complete())

    def items(self) -> Any:
        """All ops with their names."""
        return dict.items(self.complete())


OPS = _Table()
HOMES: Mapping[str, str] = {name: f"weft.compiler.ops.{module}" for module, kinds in
                            FAMILIES.items() for names in kinds.values() for name in names.split()}
"""The module that declares an op."""


def names_of_kind(*kinds: str) -> tuple[str, ...]:
    """The names of the ops of these kinds; loads none of them.

    >>> names_of_kind("sort")
    ('sort', 'argsort')
    """
    return tuple(name for family in FAMILIES.values() for kind in kinds
                 for name in family.get(kind, "").split())


OUTSIDE: set[str] = set()
"""The names of ops that were declared outside of weft."""


def register(op: Op, outside: bool = False) -> Op:
    """Add an op to the table; its name must be new and its kind known."""
    if outside:
        OUTSIDE.add(op.name)
    assert not dict.__contains__(OPS, op.name), f"op {op.name} is declared twice"
    assert op.kind in KINDS, f"op {op.name} has unknown kind {op.kind}"
    OPS[op.name] = op
    return op


def get_op(name: str) -> Op:
    """The op of this name; a `WeftError` with close names if there is none."""
    try:
        return OPS[name]
    except KeyError:
        import difflib
        near = difflib.get_close_matches(name, OPS, 3)
        raise WeftError(f"there is no op named {name!r}", repair=(
            f"did you mean {', '.join(near)}?" if near else "`python -m weft ops` lists them")
        ) from None
