"""Graphs drawn as SVG: layers from parameters down to results, plain standard library.

Nodes stand in layers by their distance from the parameters; long edges run through invisible
nodes, one a layer; a few sweeps order each layer by where its neighbours stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from html import escape
from itertools import pairwise

from weft.compiler.ir import Graph, Node, is_scalar_constant
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.literals import scalar_text
from weft.compiler.text import node_text

__all__ = ["KIND_COLOURS", "graph_svg"]

KIND_COLOURS = {
    "parameter": "#dbe4ee", "elementwise": "#d3ecd9", "view": "#e9e5f5", "creation": "#eceae4",
    "reduction": "#fbe3c0", "scan": "#fbe3c0", "contraction": "#f8cfc9", "indexing": "#d0eaf0",
    "sort": "#f3d5e6", "structure": "#e5e5e5", "result": "#dbe4ee",
}
"""The fill of a node's box by the kind of its op."""

_CHAR, _HEIGHT, _GAP_X, _GAP_Y, _PAD = 6.7, 36.0, 18.0, 34.0, 10.0
_SWEEPS = 4


@dataclass(eq=False)
class _Box:
    """A box or a bend of a long edge."""

    label: str
    note: str
    tip: str
    kind: str
    layer: int = 0
    width: float = 8.0
    x: float = 0.0
    above: list[_Box] = field(default_factory=list)
    below: list[_Box] = field(default_factory=list)

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return _PAD + self.layer * (_HEIGHT + _GAP_Y)


def graph_svg(graph: Graph) -> str:
    """The graph as an ``<svg>`` element. Hovering over a node shows its text and user line.

    >>> from weft.compiler.text import parse
    >>> svg = graph_svg(parse("graph @f(%x: f32[]) -> (f32[]) { %y = sin %x : f32[] return %y }"))
    >>> svg[:4], svg.count("<rect"), svg.count("<path")
    ('<svg', 3, 2)
    """
    boxes, edges = _boxes(graph)
    layers, bends = _layers(boxes, edges)
    _order(layers)
    _place(layers)
    width = max((b.x + b.width for layer in layers for b in layer), default=0.0) + _PAD
    height = len(layers) * (_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _PAD
    paths = "".join(_path(chain) for chain in bends)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" font-family="ui-monospace,monospace" '
            f'font-size="11">{paths}{"".join(map(_rect, boxes))}</svg>')


# --------------------------------------------------------------------------- boxes and edges

def _boxes(graph: Graph) -> tuple[list[_Box], list[tuple[_Box, _Box]]]:
    at: dict[Node, _Box] = {}
    edges: list[tuple[_Box, _Box]] = []
    for p in graph.params:
        at[p] = _box(f"%{p.name}", str(p.type), f"%{p.name}: {p.type}", "parameter")
    for n in graph.nodes:
        if not is_scalar_constant(n):
            at[n] = box = _box(_label(n), str(n.type), _tip(n), n.kind)
            arrays = dict.fromkeys(i for i in n.inputs if i in at)
            edges += [(at[i], box) for i in arrays]
            box.layer = max((at[i].layer + 1 for i in arrays), default=0)
    ends = []
    for k, r in enumerate(graph.results):
        inline = scalar_text(r.attrs["value"]) if is_scalar_constant(r) else ""
        end = _box(f"return {inline or k}", str(r.type), f"result {k}", "result")
        if r in at:
            edges.append((at[r], end))
        ends.append(end)
    bottom = max((b.layer for b in at.values()), default=-1) + 1
    for end in ends:
        end.layer = bottom
    return [*at.values(), *ends], edges


def _box(label: str, note: str, tip: str, kind: str) -> _Box:
    width = max(len(label), len(note)) * _CHAR + 16
    return _Box(label, note, tip, kind, width=width)


def _label(n: Node) -> str:
    scalars = [scalar_text(i.attrs["value"]).split(":")[0] if is_scalar_constant(i) else "·"
               for i in n.inputs]
    return " ".join([n.opname, *scalars]) if any(s != "·" for s in scalars) else n.opname


def _tip(n: Node) -> str:
    if n.origin is None:
        return node_text(n)
    return f"{node_text(n)}\n{n.origin}  {n.origin.source()}".rstrip()


# --------------------------------------------------------------------------- layout

def _layers(boxes: list[_Box], edges: list[tuple[_Box, _Box]]
            ) -> tuple[list[list[_Box]], list[list[_Box]]]:
    """Boxes by layer, with bends where edges cross layers; and each edge as a chain of them."""
    layers: list[list[_Box]] = [[] for _ in range(max((b.layer for b in boxes), default=-1) + 1)]
    for b in boxes:
        layers[b.layer].append(b)
    chains = []
    for source, target in edges:
        chain = [source]
        for layer in range(source.layer + 1, target.layer):
            bend = _Box("", "", "", "", layer)
            layers[layer].append(bend)
            chain.append(bend)
        chain.append(target)
        for upper, lower in pairwise(chain):
            upper.below.append(lower)
            lower.above.append(upper)
        chains.append(chain)
    return layers, chains


def _order(layers: list[list[_Box]]) -> None:
    """Sort each layer by the mean position of its neighbours, down and up in turn."""
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            rank = {b: float(k) for k, b in enumerate(layer)}
            for b in layer:
                near = b.above if down else b.below
                if near:
                    rank[b] = sum(n.x for n in near) / len(near)
            layer.sort(key=rank.__getitem__)
            for k, b in enumerate(layer):
                b.x = float(k)


def _place(layers: list[list[_Box]]) -> None:
    """Coordinates: packed from the left, then drawn towards the neighbours as space allows."""
    for layer in layers:
        _pack(layer, [0.0] * len(layer))
    for sweep in range(_SWEEPS * 2):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            wanted = []
            for b in layer:
                near = b.above if down else b.below
                middle = sum(n.middle for n in near) / len(near) if near else b.middle
                wanted.append(middle - b.width / 2)
            _pack(layer, wanted)
    left = min((b.x for layer in layers for b in layer), default=0.0)
    for b in (b for layer in layers for b in layer):
        b.x += _PAD - left


def _pack(layer: list[_Box], wanted: Iterable[float]) -> None:
    """Each box where it wants to be; boxes that would overlap form a block at their mean wish."""
    blocks: list[tuple[list[_Box], float, float]] = []  # boxes, x, width
    for b, x in zip(layer, wanted):
        block, at, width = [b], x, b.width
        while blocks and blocks[-1][1] + blocks[-1][2] + _GAP_X > at:
            before, x0, w0 = blocks.pop()
            share = len(before) / (len(before) + len(block))
            at = share * x0 + (1 - share) * (at - w0 - _GAP_X)
            block, width = before + block, w0 + _GAP_X + width
        blocks.append((block, at, width))
    for block, at, _ in blocks:
        for b in block:
            b.x, at = at, at + b.width + _GAP_X


# --------------------------------------------------------------------------- drawing

def _rect(b: _Box) -> str:
    fill = KIND_COLOURS.get(b.kind, "#eeeeee")
    return (f'<g><title>{escape(b.tip)}</title>'
            f'<rect x="{b.x:.1f}" y="{b.top:.1f}" width="{b.width:.1f}" height="{_HEIGHT:.0f}" '
            f'rx="5" fill="{fill}" stroke="#8a8f98"/>'
            f'<text x="{b.middle:.1f}" y="{b.top + 15:.1f}" text-anchor="middle" '
            f'font-weight="600" fill="#1c2126">{escape(b.label)}</text>'
            f'<text x="{b.middle:.1f}" y="{b.top + 29:.1f}" text-anchor="middle" '
            f'fill="#5b6470">{escape(b.note)}</text></g>')


def _path(chain: list[_Box]) -> str:
    parts = [f"M{chain[0].middle:.1f},{chain[0].top + _HEIGHT:.1f}"]
    for upper, lower in pairwise(chain):
        x0, y0, x1, y1 = upper.middle, upper.top + _HEIGHT, lower.middle, lower.top
        half = (y0 + y1) / 2
        parts.append(f"C{x0:.1f},{half:.1f} {x1:.1f},{half:.1f} {x1:.1f},{y1:.1f}")
        if lower is not chain[-1]:
            parts.append(f"L{x1:.1f},{y1 + _HEIGHT:.1f}")
    return f'<path d="{" ".join(parts)}" fill="none" stroke="#8a8f98"/>'
