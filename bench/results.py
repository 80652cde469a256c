"""Measured times as plain data, and what follows from them: the best peer, ratios, goals met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import peers
from bench.workloads import Goal


@dataclass
class Cell:
    """One peer on one row: a number for each round, or the reason why it is left out."""

    rounds: list[float] = field(default_factory=list)  # seconds; of memory, bytes
    left_out: str | None = None
    first: float | None = None  # seconds of the first call in a process already at work
    max_error: float | None = None
    tolerance_used: float | None = None

    @property
    def seconds(self) -> float | None:
        """The median round."""
        return statistics.median(self.rounds) if self.rounds and not self.left_out else None


@dataclass
class Row:
    """One line of the table. What is measured is time, or memory, which is treated alike."""

    name: str
    group: str
    goal: Goal
    cells: dict[str, Cell]
    limit: float | None = None  # seconds that the machine's roofline allows
    flops: float | None = None
    bytes: int | None = None
    unit: str = "s"  # or "B"

    def seconds(self, peer: str) -> float | None:
        """Median time of a peer; None if it is left out."""
        return self.cells[peer].seconds if peer in self.cells else None

    def fastest(self, among: Sequence[str]) -> str | None:
        """The fastest of ``among``."""
        times = {name: s for name in among if (s := self.seconds(name)) is not None}
        return min(times, key=lambda name: times[name]) if times else None

    @property
    def best(self) -> str | None:
        """The fastest peer: anyone but weft itself."""
        return self.fastest([name for name in self.cells if name != peers.SUBJECT])

    def speed(self, against: str) -> float | None:
        """How many times faster weft is than ``against``: the median over pairs of a round."""
        mine, other = self.cells.get(peers.SUBJECT), self.cells.get(against)
        if mine is None or other is None or not mine.seconds or not other.seconds:
            return None
        if len(mine.rounds) != len(other.rounds):  # a slow one is measured less often
            return other.seconds / mine.seconds
        return statistics.median(o / m for m, o in zip(mine.rounds, other.rounds))

    def share(self, peer: str) -> float | None:
        """What part of the machine's limit a peer's time reaches."""
        seconds = self.seconds(peer)
        return self.limit / seconds if self.limit and seconds else None

    def met(self) -> bool | None:
        """Whether weft reaches the goal (not with a wrong answer); None if not measured."""
        if peers.SUBJECT not in self.cells:
            return None
        mine = self.seconds(peers.SUBJECT)
        if mine is None:
            return False
        verdicts = [self.goal.under is None or mine < self.goal.under]
        for name, fraction in self.goal.at_most.items():
            speed = self.speed(self._meant(name) or "")
            if speed is None:
                return None
            verdicts.append(speed * fraction >= 1)
        return all(verdicts)

    def _meant(self, name: str) -> str | None:
        if name == "best":
            return self.best
        if name == "compiling":
            others = [s.name for s in peers.PEERS if s.compiles and s.name != peers.SUBJECT]
            return self.fastest(others)
        return name

    def as_json(self) -> dict[str, Any]:
        """Plain data for the results file."""
        cells = {
            name: {"median": cell.seconds, "share_of_limit": self.share(name), **asdict(cell)}
            for name, cell in self.cells.items()
        }
        speed = self.speed(self.best) if self.best else None
        return {
            "name": self.name, "group": self.group, "unit": self.unit, "goal": self.goal.text(),
            "goal_speed_vs_best": 1 / least if (least := self.goal.at_most.get("best")) else None,
            "limit": self.limit, "flops": self.flops, "bytes": self.bytes,
            "best_peer": self.best, "weft_speed_vs_best": speed, "goal_met": self.met(),
            "peers": cells,
        }  # fmt: skip
