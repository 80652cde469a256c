"""Rendering: differences by text, drawings and pages that are well-formed and self-contained."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from strategies import graphs

from weft.compiler.ir import Graph
from weft.compiler.passes import History, run_pipeline
from weft.compiler.show import (
    diff_graphs,
    diff_html,
    diff_lines,
    diff_text,
    graph_html,
    graph_svg,
    history_html,
    page,
)
from weft.compiler.target import Target
from weft.compiler.text import parse

TEXT = """\
graph @f(%"x<b>": f32[4, 8], %w: f32[8]) -> (f32[4, 8], f32[]) {
  %a = mul %"x<b>", 2.0:f32 : f32[4, 8]  # model.py:1
  %b = broadcast_in_dim %w {shape=[4, 8], dims=[1]} : f32[4, 8]  # model.py:2
  %c = add %a, %b : f32[4, 8]  # model.py:3
  %d = tanh %c : f32[4, 8]  # model.py:4
  %e = mul %d, 1.0:f32 : f32[4, 8]  # model.py:5
  %g = sub %e, %a : f32[4, 8]  # model.py:6
  return %g, 3.0:f32
}"""
GRAPH = parse(TEXT)


def _boxes(svg: str) -> list[tuple[float, float, float]]:
    rects = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}rect")
    return [(float(r.get("x", 0)), float(r.get("y", 0)), float(r.get("width", 0))) for r in rects]


@settings(max_examples=40)
@given(graphs(max_nodes=20))
def test_boxes_of_a_drawing_do_not_overlap(graph: Graph) -> None:
    boxes = sorted(_boxes(graph_svg(graph)), key=lambda b: (b[1], b[0]))
    assert all(x >= 0 for x, _, _ in boxes)
    for (x0, y0, w0), (x1, y1, _) in pairwise(boxes):
        assert y0 != y1 or x0 + w0 <= x1


def test_a_drawing_shows_ops_types_scalars_and_lines() -> None:
    svg = graph_svg(GRAPH)
    words = "".join(ET.fromstring(svg).itertext())
    for piece in ("mul · 2.0", "f32[4, 8]", "x<b>", "model.py:4",
                  "return 3.0:f32", "tanh"):
        assert piece in words
    assert svg.count("<rect") == 2 + 6 + 2
    assert ET.fromstring(graph_svg(parse("graph @f() -> () { return }"))) is not None


def test_a_difference_marks_what_changed() -> None:
    after = parse(TEXT.replace("tanh %c", "tanh %a").replace(
        "  %b = broadcast_in_dim %w {shape=[4, 8], dims=[1]} : f32[4, 8]  # model.py:2\n", "")
        .replace("%a, %b :", "%a, %a :"))
    lines = diff_graphs(GRAPH, after, context=0)
    assert diff_text(lines) == """\
  …
-   %b = broadcast_in_dim %w {shape=[4, 8], dims=[1]} : f32[4, 8]  # model.py:2
-   %c = add %a, %b : f32[4, 8]  # model.py:3
+   %c = add %a, %a : f32[4, 8]  # model.py:3
-   %d = tanh %c : f32[4, 8]  # model.py:4
+   %d = tanh %a : f32[4, 8]  # model.py:4
  …"""
    assert [p for p, changed in lines[2].parts if changed] == ["%b"]
    assert [p for p, changed in lines[5].parts if changed] == ["%a"]
    assert diff_graphs(GRAPH, GRAPH) == []
    assert diff_text(lines, colour=True).count("\x1b[") > 10
    assert re.sub(r"\x1b\[[\d;]*m", "", diff_text(lines, colour=True)) == diff_text(lines)


def test_unrelated_lines_are_gone_and_new() -> None:
    lines = diff_lines(["%a = x", "same"], ["%b = y", "same"], context=1)
    assert [(line.mark, line.text) for line in lines] == [
        ("-", "%a = x"), ("+", "%b = y"), (" ", "same")]


def _pages() -> list[str]:
    out, history = run_pipeline(GRAPH, Target())
    return [graph_html(GRAPH, drawing=True), diff_html(GRAPH, out), history_html(history),
            history_html(History())]


@pytest.mark.parametrize("k", range(4))
def test_html_is_self_contained_and_escaped(k: int) -> None:
    html = _pages()[k]
    links = re.findall(r'(?:src|href|url)\s*[=(]', html)
    assert links == [] and "@import" not in html
    assert html.replace('xmlns="http://www.w3.org/2000/svg"', "").count("http") == 0
    assert "<b>&quot;" not in html and "x<b>" not in html
    whole = page("a <title>", html)
    assert whole.startswith("<!doctype html>") and "a &lt;title&gt;" in whole


def test_history_shows_each_pass() -> None:
    _, history = run_pipeline(GRAPH, Target())
    html = history_html(history)
    for step in history:
        assert step.name in html
    assert html.count("<details") == 2 + sum(s.changed for s in history)
    assert "nothing to do" in html
