"""Graphs, differences and histories as HTML that needs nothing else: no files, no network.

Each function gives a fragment for a notebook; `page` makes a document of fragments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from weft.compiler.ir import Graph, Node
from weft.compiler.ops import OPS
from weft.compiler.passes.base import History, Step
from weft.compiler.show.diff import DiffLine, diff_graphs
from weft.compiler.show.svg import KIND_COLOURS, graph_svg

__all__ = ["diff_html", "graph_html", "history_html", "page"]

_STYLE = """
.weft{--ink:#1c2126;--soft:#5b6470;--line:#d5d9df;--back:#fff;--old:#fdeceb;--oldb:#f5b5b0;
--new:#e9f7ec;--newb:#a5dcb0;--name:#0b62a3;--type:#7a3e9d;color:var(--ink)}
@media (prefers-color-scheme:dark){.weft{--ink:#e3e6ea;--soft:#9aa3ad;--line:#3a4048;
--back:#181b1f;--old:#3a1f1f;--oldb:#7c302c;--new:#1c3323;--newb:#2d6b3c;--name:#6cb6f0;
--type:#c79be0}}
.weft pre{font:12px/1.5 ui-monospace,monospace;margin:.4em 0;overflow-x:auto;color:var(--ink)}
.weft .v{color:var(--name)}.weft .v.on{background:var(--newb);border-radius:3px}
.weft .t{color:var(--type)}.weft .c{color:var(--soft)}.weft b{font-weight:600}
.weft .old{background:var(--old)}.weft .new{background:var(--new)}
.weft .old b{background:var(--oldb)}.weft .new b{background:var(--newb)}
.weft summary{cursor:pointer}.weft summary i{color:var(--soft);font-style:normal}
.weft .draw{overflow:auto;background:#fff;border:1px solid var(--line);border-radius:6px}
"""
# Pointing at a name marks its other uses in the same listing.
_SCRIPT = """
document.addEventListener("mouseover",e=>{const v=e.target.closest?.(".weft .v");
document.querySelectorAll(".weft .v.on").forEach(n=>n.classList.remove("on"));
if(v)v.closest("pre").querySelectorAll(".v").forEach(n=>{
if(n.textContent===v.textContent)n.classList.add("on")})});
"""
_TOKEN = re.compile(
    r"(?P<c>  # .*$)|(?P<v>%(?:&quot;.*?&quot;|[\w.]+))|(?<= = )(?P<o>\w+)"
    r"|(?P<t>\b(?:bool|[iu](?:8|16|32|64)|bf16|f(?:16|32|64)|c(?:64|128))\b(?:\[[^\]]*\])?)",
    re.MULTILINE)


def page(title: str, *fragments: str) -> str:
    """A whole HTML document of these fragments."""
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
            '<body style="margin:1.5em;background:Canvas;font-family:system-ui,sans-serif">'
            f'<h1 style="font-size:1.2em">{escape(title)}</h1>{"".join(fragments)}</body></html>')


def _wrap(body: str) -> str:
    return f'<div class="weft"><style>{_STYLE}</style>{body}<script>{_SCRIPT}</script></div>'


def _highlight(text: str) -> str:
    def mark(found: re.Match[str]) -> str:
        if found.lastgroup == "o":
            op = OPS.get(found[0])
            colour = KIND_COLOURS.get(op.kind if op else "", "#eeeeee")
            return (f'<b style="box-shadow:inset 0 -2px {colour}" '
                    f'title="{escape(op.doc if op else "")}">{found[0]}</b>')
        return f'<span class="{found.lastgroup}">{found[0]}</span>'
    return _TOKEN.sub(mark, escape(text))


def graph_html(graph: Graph, drawing: bool = False) -> str:
    """A graph's text in colours, the ops' meanings on hovering; and a drawing if asked for.

    >>> from weft.compiler.text import parse
    >>> text = "graph @f(%x: f32[2]) -> (f32[2]) { %y = sin %x : f32[2] return %y }"
    >>> "sine of radians" in graph_html(parse(text))
    True
    """
    body = f"<pre>{_highlight(graph.text())}</pre>"
    if drawing:
        body += (f"<details open><summary>drawing</summary>"
                 f'<div class="draw">{graph_svg(graph)}</div></details>')
    return _wrap(body)


def _diff_line(line: DiffLine) -> str:
    whole = all(changed for _, changed in line.parts)
    pieces = "".join(f"<b>{escape(piece)}</b>" if changed and not whole else escape(piece)
                     for piece, changed in line.parts)
    kind = {"-": "old", "+": "new", " ": "c"}[line.mark]
    return f'<span class="{kind}">{line.mark} {pieces}</span>'


def _diff(lines: Iterable[DiffLine]) -> str:
    return "<pre>" + "\n".join(map(_diff_line, lines)) + "</pre>"


def diff_html(before: Graph, after: Graph) -> str:
    """What differs between two graphs, changed words marked within their lines."""
    return _wrap(_diff(diff_graphs(before, after)))


def history_html(history: History) -> str:
    """The passes of a run: times, node counts, and for each that did something what it did."""
    steps = list(history)
    if not steps:
        return _wrap("<p>no passes ran</p>")
    total = f"<p>{len(steps)} passes, {history.seconds * 1e3:.2f} ms</p>"
    first = f"<details><summary>before</summary>{_listing(steps[0].before)}</details>"
    last = f"<details open><summary>after</summary>{_listing(steps[-1].after)}</details>"
    return _wrap(total + first + "".join(map(_step, steps)) + last)


def _listing(graph: Graph) -> str:
    return f"<pre>{_highlight(graph.text())}</pre>"


def _step(step: Step) -> str:
    what = f"{_count(step.before.nodes)} → {_count(step.after.nodes)} nodes" if step.changed \
        else "nothing to do"
    head = f"{escape(step.name)} <i>{step.seconds * 1e3:.2f} ms, {what}</i>"
    if not step.changed:
        return f'<div style="margin-left:1em">{head}</div>'
    return (f"<details><summary>{head}</summary>"
            f"{_diff(diff_graphs(step.before, step.after))}</details>")


def _count(nodes: Iterable[Node]) -> int:
    return sum(1 for n in nodes if n.name)
