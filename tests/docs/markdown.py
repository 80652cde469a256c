"""Code blocks of the documentation: found, run, and regenerated.

A comment on the line before a block says what it is: ``<!-- generated: NAME -->`` for text that the
code gives, ``<!-- run: FILE -->`` for code that is run as if it stood in that file,
``<!-- not run -->`` for code that only shows.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!-- (.+?) -->\n\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, the line it begins on, and the comment before it."""

    file: Path
    language: str
    text: str
    line: int
    comment: str = ""

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


def blocks(file: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a file, or those of one language."""
    content = file.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(content):
        before = content[:match.start()]
        comment = _COMMENT.search(before)
        found.append(Block(file, match[1], match[2], before.count("\n") + 2,
                           comment[1] if comment else ""))
    return [b for b in found if language in (None, b.language)]


def block(file: Path, comment: str) -> Block:
    """The one block with this comment."""
    (found,) = [b for b in blocks(file) if b.comment == comment]
    return found


def run(b: Block, namespace: dict[str, Any], name: str = "") -> None:
    """Run a block's code in a namespace, as the file `name`, whose lines errors can show.

    Blocks run one after another under one name stand in that file one after another.
    """
    name = name or b.file.name
    before: list[str] = namespace.setdefault("__lines__", [])
    lines = [*before, *b.text.splitlines(keepends=True)]
    linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
    exec(compile("\n" * len(before) + b.text, name, "exec"), namespace)
    namespace["__lines__"] = lines


def check_generated(file: Path, make: Mapping[str, Callable[[], str]], bless: bool) -> None:
    """Hold each generated block to what the code gives now; with `bless`, re-write the file."""
    found = {b.comment.removeprefix("generated: "): b for b in blocks(file)
             if b.comment.startswith("generated: ")}
    assert set(found) == set(make), f"{file.name}: {sorted(set(found) ^ set(make))}"
    wanted = {name: maker().strip("\n") + "\n" for name, maker in make.items()}
    if bless:
        content = file.read_text(encoding="utf-8")
        for name, text in wanted.items():
            before = re.compile(rf"(<!-- generated: {re.escape(name)} -->\n```\w*\n).*?(^```$)",
                                re.MULTILINE | re.DOTALL)
            content = before.sub(lambda m, text=text: m[1] + text + m[2], content)
        file.write_text(content, encoding="utf-8")
        return
    for name, text in wanted.items():
        if found[name].text != text:
            pytest.fail(f"{found[name]}: what the code gives for {name!r} has changed. See if the "
                        f"text around it still holds, then run `pytest tests/docs --bless`.\n\n"
                        + text, pytrace=False)
