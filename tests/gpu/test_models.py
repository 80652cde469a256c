"""The examples' models on the emulated GPU: losses over steps of training are the CPU's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import weft
from tests.gpu.harness import TARGET, emulated, needs_compiler
from weft.devices.gpu.lowered import lower
from weft.devices.gpu.nvrtc import build, nvrtc_problem

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
needs_nvrtc = pytest.mark.skipif(nvrtc_problem() is not None, reason=str(nvrtc_problem()))


def example(name: str) -> ModuleType:
    """An example as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def training(name: str) -> tuple[ModuleType, tuple[Any, ...]]:
    """A model that learns, made small, and what a step takes beside the weights."""
    m, rng = example(name), np.random.default_rng(0)
    if name == "train_mlp":
        return m, (m.init(rng, 100, 32, 24, 10), m.draw(rng, 16))
    m.LAYERS, m.PLACES, m.WIDTH = 1, 12, 32
    return m, (m.init(rng, 20), (rng.integers(0, 20, (2, 9)),))


def losses(m: ModuleType, weights: Any, data: tuple[Any, ...], device: str, steps: int
           ) -> list[float]:
    """The loss before each step of training."""
    step, out = m.step.to(device), []
    p = {k: v.copy() for k, v in weights.items()}
    moments = [{k: np.zeros_like(a) for k, a in p.items()} for _ in range(2)]
    state = p, *moments
    for t in range(1, steps + 1):
        *state, loss = step(*state, float(t), *data)
        out.append(float(loss))
    return out


@needs_compiler
@pytest.mark.parametrize("name", ["train_mlp", "train_gpt"])
def test_training(name: str) -> None:
    m, (weights, data) = training(name)
    want = losses(m, weights, data, "cpu", 8)
    with emulated():
        got = losses(m, weights, data, "gpu", 8)
    assert want[-1] < want[0]
    np.testing.assert_allclose(got, want, rtol=2e-5)


@needs_compiler
def test_black_scholes() -> None:
    m = example("black_scholes")
    arguments = m.inputs(3001)
    with emulated():
        got = weft.jit(m.prices, device="gpu")(*arguments)
        for a, b in zip(got, m.prices(*arguments)):
            np.testing.assert_allclose(a.get(), b, rtol=2e-5, atol=2e-5)


@needs_nvrtc
@pytest.mark.parametrize(("name", "arch"), [
    ("train_gpt", "sm_80"), ("train_mlp", "sm_90"),
    pytest.param("train_gpt", "sm_90", marks=pytest.mark.slow),
    pytest.param("train_mlp", "sm_80", marks=pytest.mark.slow)])
def test_training_compiles(name: str, arch: str) -> None:
    """In full size, for both architectures."""
    m, rng = example(name), np.random.default_rng(0)
    p = m.init(rng, 100, 256, 128, 10) if name == "train_mlp" else m.init(rng, 60)
    data = m.draw(rng, 64) if name == "train_mlp" else (rng.integers(0, 60, (16, 49)),)
    graph = m.step.trace(p, p, p, 1.0, *data).optimize().graph
    assert build(lower(graph, TARGET).text("cuda"), arch).cubin
