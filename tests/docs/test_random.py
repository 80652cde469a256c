"""docs/random.md: its code runs, and it names every distribution."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

import weft
from tests.docs.markdown import ROOT, block, run

FILE = ROOT / "docs" / "random.md"


def test_code_runs() -> None:
    names: dict[str, Any] = {}
    run(block(FILE, "run: random_numbers.py"), names, "random_numbers.py")
    assert names["x"].dtype == np.float32 and sorted(names["order"]) == list(range(10))
    assert names["y"].shape == (3, 4) and names["each"].shape == (5,)


def test_every_distribution_is_in_the_table() -> None:
    rows = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    named = set(re.findall(r"`(\w+)`", "\n".join(rows)))
    assert named == set(weft.random.__all__) - {"key", "split", "fold_in", "check_keys"}
