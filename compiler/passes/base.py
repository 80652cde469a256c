"""What a pass is, and the history of a pipeline's run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.target import Target

__all__ = ["History", "Pass", "Step"]


@dataclass(frozen=True)
class Pass:
    """A pure, named value: graph in, graph out.

    A pass keeps the graph's signature and meaning, reads no environment, knows the machine only by
    the `Target`, and returns the same object if it changed nothing. Options are its fields.
    """

    name: ClassVar[str] = "pass"

    def run(self, graph: Graph, target: Target) -> Graph:
        """The transformed graph."""
        raise NotImplementedError


@dataclass(frozen=True)
class Step:
    """One pass's run: what went in, what came out, how long it took (seconds)."""

    index: int
    pass_: Pass
    before: Graph
    after: Graph
    seconds: float

    @property
    def name(self) -> str:
        """The pass's name."""
        return self.pass_.name

    @property
    def changed(self) -> bool:
        """Whether the pass did anything."""
        return self.after is not self.before

    def diff(self) -> str:
        """What the pass did, as a unified diff of the graphs' text."""
        import difflib  # seldom needed

        lines = difflib.unified_diff(
            self.before.text().splitlines(), self.after.text().splitlines(),
            f"before {self.name}", f"after {self.name}", lineterm="")
        return "\n".join(lines)


@dataclass(frozen=True)
class History:
    """The steps of one run of a pipeline. Graphs are kept, text is made when asked for."""

    steps: tuple[Step, ...] = ()

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def seconds(self) -> float:
        """The time all passes took."""
        return sum(s.seconds for s in self.steps)

    def diff(self) -> str:
        """The diffs of all passes that changed something."""
        return "\n\n".join(s.diff() for s in self.steps if s.changed)

    def text(self) -> str:
        """A table: pass, milliseconds, nodes before and after."""
        width = max((len(s.name) for s in self.steps), default=4)
        lines = [f"{'pass':<{width}}  {'ms':>7}  nodes"]
        for s in self.steps:
            nodes = f"{len(s.before.nodes)} → {len(s.after.nodes)}" if s.changed else "unchanged"
            lines.append(f"{s.name:<{width}}  {s.seconds * 1e3:>7.2f}  {nodes}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()
