"""Attention with its derivatives, as plain data: a step of derivatives, and the steps of a program
that belong to one attention."""

from __future__ import annotations

from weft.compiler.kernel.expr import Expr
from weft.compiler.kernel.index import Axis, Index, as_index, linearize
from weft.compiler.kernel.ir import Kernel, Step
from weft.compiler.kernel.rename import Substitution
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DTYPES, TensorType
from weft.devices.gpu.softmax_gradient import SoftmaxGradient

__all__ = ["GRADIENT", "UPSTREAM", "Gradient", "Group", "Part", "Place", "bound_name", "plain_load",
           "size"]

GRADIENT = "attention_gradient"     # the steps' name
UPSTREAM = "<upstream>"         # in their expressions: the derivative by the softmax's argument

Place = tuple[str, Index]


@dataclass(frozen=True)
class Gradient:
    """Derivatives of one attention; buffers are ``b0``, ``b1``, …, with linear indices.

    With ``P = exp(score - base) * scale`` and ``dP = sum(grad * v over value)``, the derivative by
    the product of a query and a key is ``dS = slope(P * (dP - dot))``; dK is ``sum(dS * q)`` and dV
    ``sum(P * grad)`` over queries, dQ ``sum(dS * k)`` over keys. `through_max` says that scores had
    their maximum taken off by differentiable code, whose derivative is 0 if all is finite. `sound`
    is 0, or NaN where something on the side that is gone along is not finite, `own_sound` of the
    other side.

    One step makes all of them where dQ is wanted beside dK or dV: blocks, which have keys, add to
    dQ one after another. `turns`, zeros at first, says how many have done so, at the first query of
    a tile; its second word counts blocks as they start. It makes two products less than two steps
    do.
    """

    batch: tuple[Axis, ...]
    query: Axis
    key: Axis
    depth: Axis
    value: Axis
    q: Expr
    k: Expr
    v: Expr
    grad: Expr
    score: Expr
    slope: Expr
    base: Expr
    scale: Expr
    dot: Expr
    through_max: bool = False
    sound: Expr | None = None
    dq: Place | None = None
    dk: Place | None = None
    dv: Place | None = None
    own_sound: Expr | None = None
    turns: Place | None = None

    @property
    def of_keys(self) -> bool:
        """Whether blocks have tiles of keys."""
        return self.dk is not None or self.dv is not None

    @property
    def in_turns(self) -> bool:
        """Whether blocks of keys add to dQ."""
        return self.of_keys and self.dq is not None

    def __repr__(self) -> str:
        axes = ", ".join(f"{a} in {a.extent}" for a in (
            *self.batch, self.query, self.key, self.depth, self.value))
        made = ", ".join(f"{n} = {p[0]}[{p[1]}]" for n, p in (
            ("dq", self.dq), ("dk", self.dk), ("dv", self.dv)) if p is not None)
        more = (", through the maximum" if self.through_max else "") + (
            f", sound {self.sound}" if self.sound is not None else "")
        return (f"({axes}): score = {self.score} of {self.q} * {self.k}; weights by {self.base}, "
                f"{self.scale}; upstream = weight * ({self.grad} * {self.v} - {self.dot}); "
                f"slope = {self.slope}; {made}{more}")


@dataclass(frozen=True)
class Part:
    """A product with the weights or dS: its step, the other factor, and what its axes are."""

    step: Step
    other: Expr
    axes: dict[Axis, Index]

    def place(self, step: Step, types: dict[str, TensorType]) -> Place:
        """Where the product's step, or one for its sums alone, writes."""
        kernel = step.kernel
        assert isinstance(kernel, Kernel)
        store = kernel.stages[1].stores[0]
        name = bound_name(step, store.buffer)
        index = linearize(store.index, types[name].shape)
        return name, Substitution(self.axes.get).index(index)


@dataclass(frozen=True)
class Group:
    """One attention and its derivatives; the form's buffers are the program's."""

    gradient: Gradient
    softmax: SoftmaxGradient
    counts: Expr | None
    scores: Step
    given: Step
    slopes: Step
    results: Part | None
    dq: Part | None
    dk: Part | None
    dv: Part | None
    used: tuple[Step, ...]

    @property
    def derivatives(self) -> list[Part]:
        """The products that make them."""
        return [p for p in (self.dv, self.dq, self.dk) if p is not None]

    @property
    def products(self) -> list[Part]:
        """Those whose results stay."""
        return [*([self.results] if self.results is not None else []), *self.derivatives]


def bound_name(step: Step, name: str) -> str:
    """The program's name of a kernel's buffer."""
    return next((b for (n, _), b in zip(step.kernel.buffers, step.buffers) if n == name), "")


def plain_load(name: str) -> Expr:
    """A load of a buffer's first element, which stands for a value that is at hand."""
    return Expr("load", DTYPES["f32"], name, (), (as_index(0),))


def size(axis: Axis) -> int:
    """How many turns an axis takes, 0 if that is not known."""
    return axis.extent if isinstance(axis.extent, int) else 0
