"""The tour and the examples run, and say that their answers are right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import weft
from tests.docs.markdown import ROOT

PROGRAMS = {
    "docs/tour.py": "softmax and deviation agree with NumPy",
    "examples/transformer_block.py": "largest difference from NumPy",
    "examples/black_scholes.py": "largest difference from NumPy",
    "examples/train_mlp.py": "new pictures",
    "examples/train_gpt.py": "nats a letter",
    "examples/inverse_problem.py": "what was found",
    "examples/custom_op.py": "slope",
    "examples/two_devices.py reference": "the CPU and reference agree to",
    "examples/demo.py --small --plain": "Black-Scholes",
}


@pytest.mark.parametrize("command", PROGRAMS)
def test_program(command: str, tmp_path: Path) -> None:
    """It ends well, prints what is expected, and no warning."""
    program, *options = command.split()
    home = str(Path(weft.__file__ or "").parents[1])
    out = subprocess.run([sys.executable, str(ROOT / program), *options], cwd=tmp_path, text=True,
                         env={**os.environ, "PYTHONPATH": home, "PYTHONIOENCODING": "utf-8"},
                         capture_output=True, encoding="utf-8")
    assert out.returncode == 0, out.stdout + out.stderr
    assert PROGRAMS[command] in out.stdout
    assert not out.stderr


def test_every_program_is_run() -> None:
    """No example without a test; that on a mesh has its own, where JAX is (tests/xla)."""
    elsewhere = {"examples/train_sharded.py"}
    found = {p.relative_to(ROOT).as_posix() for d in ("docs", "examples")
             for p in (ROOT / d).glob("*.py")}
    assert found - elsewhere == {command.split()[0] for command in PROGRAMS}


def test_the_tour_is_a_tour() -> None:
    """It does not use what it explains, and is short enough to be read at once."""
    text = (ROOT / "docs" / "tour.py").read_text(encoding="utf-8")
    assert "import weft" not in text and "from weft" not in text
    assert len(text.splitlines()) <= 400
