"""Passes as text: each file in `golden/` has a header, an input graph, ``---``, and the output.

Header lines are ``# a comment``, ``pass: name, name`` (or ``pass: default`` for the whole
pipeline), ``fast_math: true`` and ``supported: op, op``. ``pytest --bless`` re-writes the outputs.
Where a graph has only static sizes, input and output are also run and compared (not under
`fast_math`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from strategies import assert_same, inputs

from weft.compiler.passes import DEFAULT, PASSES, Decompose, Pass, run_pipeline
from weft.compiler.target import Target
from weft.compiler.text import parse
from weft.devices.reference import evaluate

FILES = sorted((Path(__file__).parent / "golden").glob("*.txt"))


def _passes(header: dict[str, str]) -> tuple[Pass, ...]:
    if header["pass"] == "default":
        return DEFAULT
    names = [n.strip() for n in header["pass"].split(",")]
    supported = frozenset(n.strip() for n in header.get("supported", "").split(","))
    return tuple(Decompose(supported) if n == "decompose" else PASSES[n]() for n in names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_pass_gives_the_text(path: Path, bless: bool) -> None:
    head, _, body = path.read_text().partition("graph ")
    header = dict(line.split(": ", 1) for line in head.splitlines()
                  if ": " in line and not line.startswith("#"))
    source, _, expected = ("graph " + body).partition("---\n")
    graph = parse(source)
    target = Target(fast_math=header.get("fast_math") == "true")
    out, _ = run_pipeline(graph, target, _passes(header))
    if bless:
        path.write_text(f"{head}{source.strip()}\n---\n{out}\n")
        return
    assert str(out) == expected.strip(), "run `pytest --bless` if this is meant"
    if not graph.symbols and not target.fast_math:
        arrays = inputs(graph, 0, integral=True)
        assert_same(evaluate(out, arrays), evaluate(graph, arrays))


def test_every_pass_has_a_golden_file() -> None:
    text = "".join(p.read_text() for p in FILES)
    assert [name for name in PASSES if f"pass: {name}\n" not in text] == []
