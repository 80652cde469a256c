"""docs/gpu.md shows the code that is generated today."""

from __future__ import annotations

import numpy as np

import weft
from tests.docs.markdown import ROOT, check_generated
from weft.devices.gpu.lowered import lower
from weft.devices.gpu.target import target_named

FILE = ROOT / "docs" / "gpu.md"


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _kernel() -> str:
    graph = weft.jit(softmax).trace(np.zeros((4096, 1024), np.float32)).optimize().graph
    text = lower(graph, target_named("sm_90")).text("cuda")
    return text[text.index("// rows"):].rstrip() + "\n"


def test_generated(bless: bool) -> None:
    check_generated(FILE, {"softmax": _kernel}, bless)
