"""How the threads of a block share a tile of attention, and what of it lies in shared memory."""

from __future__ import annotations

from math import prod

from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.target import Target
from weft.devices.gpu.attention import Attention
from weft.devices.gpu.attention_tiles import LANES, Panel, pitch, shared_limit
from weft.devices.gpu.tiles import extent

__all__ = ["CHUNK", "SHAPES", "TENSOR_SHAPES", "Panels", "Shape", "floats", "shape_for",
           "sums"]

RESIDENT = 128          # elements of a query, up to which they stay in shared memory
CHUNK = 64              # elements of queries and keys that are there at a time otherwise


@dataclass(frozen=True)
class Shape:
    """How threads share a tile: `down` times some of them, each with so many rows and columns.

    Of these, `lanes` are neighbours in a warp, which share their rows. With `tensor`, a warp
    multiplies pieces of 16 rows on tensor cores, whose results its threads have in pairs.
    """

    down: int
    rows: int
    columns: int
    tensor: bool = False

    @property
    def lanes(self) -> int:
        """Threads that share a row."""
        return 4 if self.tensor else LANES

    @property
    def apart(self) -> int:
        """From one of a thread's rows to the next."""
        return 32 // self.lanes

    def key(self, t: str) -> str:
        """Which of a tile's keys a thread's column is."""
        return f"tx * 2 + {t} / 2 * 8 + {t} % 2" if self.tensor else f"tx + {LANES} * {t}"

    def value(self, c: str) -> str:
        """Which of the values a thread's sum is."""
        return f"{c} / {self.run} * {self.run * self.lanes} + tx * {self.run} + {c} % {self.run}"

    @property
    def run(self) -> int:
        """Sums of a thread that are neighbours."""
        return 2 if self.tensor else 4

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.lanes * self.down

    @property
    def queries(self) -> int:
        """Of a tile."""
        return self.down * self.rows

    @property
    def keys(self) -> int:
        """Of a tile."""
        return self.lanes * self.columns


# The first that fits, of which there are so many for each multiprocessor, is taken. Measured on an
# H200: where registers read from shared memory are the limit, 8 x 8 for a thread has the fewest of
# them, but 4 x 8 leaves less to do beside a mask, and more warps. `wide` are more than 64 values.
_CHOICES = (
    (Shape(16, 8, 8), 4, "unmasked"),
    (Shape(32, 4, 8), 2, "wide"),
    (Shape(16, 4, 8), 1, "narrow"),
    (Shape(16, 4, 4), 1, "wide"),
    (Shape(16, 2, 8), 0, "any"),
    (Shape(8, 4, 4), 0, "any"),
    (Shape(4, 4, 4), 0, "any"),
)
# the same, on tensor cores
_TENSOR_CHOICES = (
    (Shape(32, 4, 16, True), 2, "narrow"),
    (Shape(32, 2, 16, True), 1, "any"),
    (Shape(16, 2, 16, True), 0, "any"),
    (Shape(16, 2, 8, True), 0, "any"),
    (Shape(8, 2, 8, True), 0, "any"),
)
SHAPES = tuple(s for s, _, _ in _CHOICES)
TENSOR_SHAPES = tuple(s for s, _, _ in _TENSOR_CHOICES)


def shape_for(form: Attention, target: Target, masked: bool) -> Shape:
    """Large tiles where there are enough of them, if shared memory holds them.

    `masked` says that there are tiles that are passed over.
    """
    batch = prod(map(extent, form.batch))
    kinds = {"any", "wide" if extent(form.value) > 64 else "narrow"}
    if not masked and "narrow" in kinds:
        kinds.add("unmasked")
    choices = _CHOICES if target.precision == "highest" else _TENSOR_CHOICES
    return next(s for s, blocks, kind in choices if kind in kinds
                and floats(form, s) * 4 <= shared_limit(target)
                and batch * -(-extent(form.query) // s.queries) >= blocks * target.threads)


def sums(form: Attention, s: Shape) -> int:
    """Results that a thread has of a row."""
    return -(-extent(form.value) // (s.run * s.lanes)) * s.run


def floats(form: Attention, s: Shape) -> int:
    """Numbers in shared memory."""
    p = Panels(form, s)
    return p.q.size + p.k.size + p.v.size + s.queries * p.weights


class Panels:
    """The tiles in shared memory, one after another; weights are behind them."""

    def __init__(self, form: Attention, s: Shape) -> None:
        depth = extent(form.depth)
        fours = 16 if s.tensor else 4       # elements that are multiplied at a time
        self.resident = depth <= RESIDENT
        chunk = -(-depth // fours) * fours if self.resident else CHUNK
        wide = sums(form, s) * s.lanes
        step = chunk + (16 if chunk % 32 == 0 else 0) if s.tensor else pitch(chunk)
        self.q = Panel("queries", form.q, form.query, form.depth, s.queries, chunk, step)
        self.k = Panel("keys", form.k, form.key, form.depth, s.keys, chunk, step)
        # on tensor cores, neighbours read pairs of rows: 8 modulo 32 between them
        step = wide + (4 - wide) % 16 if s.tensor else wide
        self.v = Panel("values", form.v, form.key, form.value, s.keys, wide, step)
        # the pitch of weights, four rows of which are in different banks
        self.weights = 0 if s.tensor else s.keys + LANES
