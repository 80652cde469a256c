"""README.md: its code runs, its commands exist, and it shows what the code prints."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from typing import Any

import numpy as np
import pytest

import weft
from tests.docs.markdown import ROOT, Block, blocks, check_generated, run
from weft.frontend.cli import main as command_line

FILE = ROOT / "README.md"


def _namespace() -> dict[str, Any]:
    """The names after all of the README's Python code has run, in order."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for found in blocks(FILE, "python"):
            run(found, names, "readme.py")
    return names


def test_code_runs_and_is_right(bless: bool) -> None:
    """Every block of Python, in order; the first gives NumPy's answer and the text shown."""
    names = _namespace()
    arguments = [names[n] for n in ("x", "w1", "b1", "w2", "b2")]
    block = names["block"]
    np.testing.assert_allclose(block(*arguments), block.__wrapped__(*arguments), atol=1e-5)

    def explained() -> str:
        parts = weft.explain(block, *arguments).text().split("\n\n")
        return next(p for p in parts if p.startswith("kernels:"))
    check_generated(FILE, {"explain": explained}, bless)


def _commands() -> list[tuple[Block, str]]:
    """Each command of the shell blocks, and those in the text."""
    found = [(b, line) for file in (FILE, ROOT / "CONTRIBUTING.md") for b in blocks(file, "sh")
             for line in b.text.splitlines()]
    text = FILE.read_text(encoding="utf-8")
    found += [(Block(FILE, "", text, 0), c)
              for c in re.findall(r"`((?:make|python|pip|\w+=\S+ python) [^`]+)`", text)]
    return [(b, c.split("   ")[0].strip()) for b, c in found if c.strip() and c[:1] not in "# "]


@pytest.mark.parametrize(("where", "command"), _commands(), ids=lambda v: str(v)[:60])
def test_commands_exist(where: Block, command: str) -> None:
    """A command's program, make target, module or file is there."""
    words = [w for w in shlex.split(command, comments=True) if "=" not in w or w.startswith("-")]
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), where
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]) is not None, where
    elif words[0] == "python":
        assert words[1].startswith("your_") or (ROOT / words[1]).is_file(), where
    elif words[0].startswith("."):
        assert (ROOT / words[0]).exists(), where
    else:
        assert words[0] in ("pip", "git"), f"{where}: what is {words[0]}?"


@pytest.mark.parametrize("command", [c for b, c in _commands() if c.startswith("python -m weft ")
                                     and b.language], ids=str)
def test_weft_commands_run(command: str, capsys: pytest.CaptureFixture[str],
                           monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `python -m weft …` of a shell block works and prints something."""
    monkeypatch.chdir(ROOT)
    assert not command_line(shlex.split(command)[3:])
    assert capsys.readouterr().out.strip()
