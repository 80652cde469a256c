"""Pieces of HTML for notebooks: text in folding sections, graph text lightly coloured."""

from __future__ import annotations

import re

__all__ = ["page", "section"]

_STYLE = ("<style>.weft pre{line-height:1.35;margin:.3em 0 .8em}.weft summary{font-weight:600}"
          ".weft .v{color:#0b62a3}.weft .t{color:#7a3e9d}.weft .c{color:#888}"
          ".weft .a{color:#1a7f37}.weft .d{color:#b42318}</style>")
_TOKENS = re.compile(
    r"(?P<c># .*$)|(?P<v>%(?:&quot;.*?&quot;|[\w.]+))"
    r"|(?P<t>\b(?:bool|[iu](?:8|16|32|64)|bf16|f(?:16|32|64)|c(?:64|128))\b(?:\[[^\]]*\])?)"
    r"|^(?P<a>\+ .*$)|^(?P<d>- .*$)", re.MULTILINE)


def page(*sections: str) -> str:
    """Sections put together."""
    return f'<div class="weft">{_STYLE}{"".join(sections)}</div>'


def section(title: str, text: str, open: bool = True) -> str:
    """Text under a title, folded unless `open`.

    >>> section("graph", "%x: f32[3]", open=False)[:47]
    '<details><summary>graph</summary><pre><span cla'
    """
    shown = _TOKENS.sub(lambda m: f'<span class="{m.lastgroup}">{m[0]}</span>', _escape(text))
    return (f"<details{' open' if open else ''}><summary>{_escape(title)}</summary>"
            f"<pre>{shown}</pre></details>")


def _escape(text: str) -> str:
    # `html.escape` does the same, in a module that loads a table of two thousand names.
    return (text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            .replace('"', "&quot;").replace("'", "&#x27;"))
