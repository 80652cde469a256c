"""Differences of graphs, line by line, with what changed within a line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import dataclass

__all__ = ["DiffLine", "diff_graphs", "diff_lines", "diff_text"]

_WORDS = re.compile(r"%[\w.]+|[\w.]+|\s+|.")
_CLOSE = 0.5  # lines that agree in more than this are one line that changed


@dataclass(frozen=True)
class DiffLine:
    """A line of a difference: `mark` is ``" "``, ``"-"`` or ``"+"``.

    `parts` are its pieces, each with whether it is new or gone (in a line that only changed a
    little, most pieces are neither).
    """

    mark: str
    parts: tuple[tuple[str, bool], ...]

    @property
    def text(self) -> str:
        """The whole line."""
        return "".join(piece for piece, _ in self.parts)


def diff_graphs(before: Graph, after: Graph, context: int = 2) -> list[DiffLine]:
    """The lines in which two graphs' texts differ, with `context` equal lines around them.

    >>> from weft.compiler.text import parse
    >>> text = "graph @f(%x: f32[]) -> (f32[]) { %y = sin %x : f32[] return %y }"
    >>> lines = diff_graphs(parse(text), parse(text.replace("sin", "cos")), context=0)
    >>> print(diff_text(lines[1:3]))
    -   %y = sin %x : f32[]
    +   %y = cos %x : f32[]
    >>> [piece for piece, changed in lines[1].parts if changed]
    ['sin']
    """
    return diff_lines(before.text().splitlines(), after.text().splitlines(), context)


def diff_lines(a: list[str], b: list[str], context: int = 2) -> list[DiffLine]:
    """The same for any two lists of lines. Left-out stretches are a line of ``…``."""
    out: list[DiffLine] = []
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    end = 0
    for group in matcher.get_grouped_opcodes(context):
        if group[0][1] > end:
            out.append(DiffLine(" ", (("…", False),)))
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                out += [DiffLine(" ", ((line, False),)) for line in a[i1:i2]]
            else:
                out += _changed(a[i1:i2], b[j1:j2])
        end = group[-1][2]
    if out and end < len(a):
        out.append(DiffLine(" ", (("…", False),)))
    return out


def _changed(old: list[str], new: list[str]) -> Iterator[DiffLine]:
    """Old lines and new ones; lines of the same name stand together."""
    rest = list(new)
    for line in old:
        partner = next((n for n in rest if _similar(line, n)), None)
        if partner is None:
            yield DiffLine("-", ((line, True),))
            continue
        while rest[0] is not partner:
            yield DiffLine("+", ((rest.pop(0), True),))
        rest.pop(0)
        yield from _pair(line, partner)
    for line in rest:
        yield DiffLine("+", ((line, True),))


def _similar(a: str, b: str) -> bool:
    head = a.split(" = ")[0]
    if " = " in a and head == b.split(" = ")[0]:
        return True
    return " = " not in a and difflib.SequenceMatcher(None, a, b).quick_ratio() > _CLOSE


def _pair(old: str, new: str) -> Iterator[DiffLine]:
    a, b = _WORDS.findall(old), _WORDS.findall(new)
    before: list[tuple[str, bool]] = []
    after: list[tuple[str, bool]] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        changed = tag != "equal"
        if i2 > i1:
            before.append(("".join(a[i1:i2]), changed))
        if j2 > j1:
            after.append(("".join(b[j1:j2]), changed))
    yield DiffLine("-", tuple(before))
    yield DiffLine("+", tuple(after))


_COLOURS = {"-": ("31", "41;97"), "+": ("32", "42;97"), " ": ("2", "2")}


def diff_text(lines: Iterable[DiffLine], colour: bool = False) -> str:
    """A difference as text; with terminal colours if asked for."""
    if not colour:
        return "\n".join(f"{line.mark} {line.text}".rstrip() for line in lines)
    return "\n".join(_coloured(line) for line in lines)


def _coloured(line: DiffLine) -> str:
    plain, strong = _COLOURS[line.mark]
    whole = all(changed for _, changed in line.parts)
    pieces = "".join(f"\x1b[{strong if changed and not whole else plain}m{piece}\x1b[0m"
                     for piece, changed in line.parts)
    return f"\x1b[{plain}m{line.mark}\x1b[0m {pieces}"
