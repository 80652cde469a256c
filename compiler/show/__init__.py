"""Looking at graphs: differences, HTML and SVG, with the standard library alone."""

from weft.compiler.show.diff import DiffLine, diff_graphs, diff_lines, diff_text
from weft.compiler.show.html import diff_html, graph_html, history_html, page
from weft.compiler.show.svg import graph_svg

__all__ = ["DiffLine", "diff_graphs", "diff_html", "diff_lines", "diff_text", "graph_html",
           "graph_svg", "history_html", "page"]
