"""docs/placement.md: its code runs, and its schedule is what comes of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.docs.markdown import ROOT, block, check_generated, run

FILE = ROOT / "docs" / "placement.md"


def test_code_and_schedule(bless: bool) -> None:
    names: dict[str, Any] = {}
    run(block(FILE, "run: mixed.py"), names, "mixed.py")
    x, w = names["x"], names["w"]
    np.testing.assert_allclose(names["result"], (np.exp(x) @ w + np.cos(x) @ w).sum())
    check_generated(FILE, {"schedule": lambda: names["schedule"]}, bless)
