"""What a function is decorated with reaches the parts of it that are placed elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import weft
from tests.devices.toy import ToyDevice, toys
from weft.frontend import replay

X = np.linspace(-1.0, 2.0, 12, dtype=np.float32).reshape(3, 4)
W = np.linspace(0.5, 1.5, 16, dtype=np.float32).reshape(4, 4)


class Noting(ToyDevice):
    """A device that notes what it is given."""

    name = "noting"
    seen: ClassVar[list[tuple[str, bool, tuple[int, ...]]]] = []

    def lower(self, graph: Any, target: Any, donated: Any = ()) -> Any:
        self.seen.append((target.precision, target.fast_math, tuple(donated)))
        return super().lower(graph, target, donated)


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    Noting.seen.clear()
    with toys(noting=Noting):
        yield


def mixed(x: Any, w: Any) -> Any:
    with weft.device("noting"):
        y = np.sin(x) @ w
    return y + 1


def test_precision_and_fast_math_reach_the_parts() -> None:
    want = np.sin(X) @ W + 1
    for options in ({}, {"precision": "tf32"}, {"fast_math": True}):
        Noting.seen.clear()
        np.testing.assert_allclose(weft.jit(mixed, **options)(X, W), want, rtol=1e-5)
        assert [s[:2] for s in Noting.seen] == [
            (options.get("precision", "highest"), options.get("fast_math", False))]


def test_the_repro_of_a_dump_runs_the_parts(tmp_path: Path, monkeypatch: Any) -> None:
    def f(x: Any, w: Any) -> Any:
        with weft.device("reference"):
            y = np.sin(x) @ w
        return y + 1
    monkeypatch.setenv("WEFT_DUMP", str(tmp_path))
    weft.jit(f, precision="bf16", fast_math=True)(X, W)
    folder, = tmp_path.iterdir()
    script = (folder / "repro.py").read_text()
    assert "replay(text, device, fast_math=True, precision='bf16')" in script
    assert "run reference.0" in (folder / "schedule.txt").read_text()
    assert 'device="reference"' in (folder / "trace.txt").read_text()
    root = Path(weft.__file__ or "").parents[1]
    done = subprocess.run([sys.executable, folder / "repro.py"], cwd=root, capture_output=True,
                          text=True, env={"PYTHONPATH": str(root), "PATH": ""}, check=False)
    assert done.returncode == 0, done.stderr
    assert "@f on cpu: agrees with the reference" in done.stdout


def test_replay_takes_the_parts_and_the_precision(monkeypatch: Any, capsys: Any) -> None:
    text = weft.jit(mixed).trace(X, W).text()
    Noting.seen.clear()
    for device in ("cpu", "toy"):
        assert replay.replay(text, device, precision="tf32") == 0
    assert [s[0] for s in Noting.seen] == ["tf32", "tf32"]
    monkeypatch.setattr(replay, "_ROUNDED", {})
    monkeypatch.setattr(replay, "difference", lambda got, want: 1e-3)
    assert replay.replay(text, "cpu", precision="tf32") == 1
    assert "(more than 0.0001)" in capsys.readouterr().out
