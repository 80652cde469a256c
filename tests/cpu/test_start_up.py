"""What makes first calls fast, where it could go wrong: other threads, forks, early exits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import weft
from weft.devices.cpu import module
from weft.devices.cpu.assembler import assemble_all
from weft.devices.cpu.host import host_target

ROOT = str(Path(weft.__file__ or "").parents[1])


def _run(code: str, **env: str) -> str:
    path = os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": path, "WEFT_CACHE": "0", **env})
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("code", [
    "import weft; weft.jit",
    "import weft; weft.jit(abs)",
    "import weft, sys; weft.jit(abs); sys.exit()",
])
def test_a_process_may_end_meanwhile(code: str) -> None:
    for _ in range(3):
        assert _run(code) == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("first", ["weft.jit", "f"])
def test_a_process_may_fork_meanwhile(first: str) -> None:
    out = _run("import os, sys, numpy as np, weft\n"
               + ("f = weft.jit(lambda x: x + 1)\n" if first == "f" else f"{first}\n")
               + "child = os.fork()\n"
               "f = weft.jit(lambda x: x + 1)\n"
               "assert f(np.zeros(3)).tolist() == [1, 1, 1]\n"
               "if child: print(os.waitpid(child, 0)[1])\n"
               "sys.stdout.flush(); os._exit(0)")
    assert out == "0"


def test_a_bad_setting_is_reported_where_it_matters() -> None:
    out = _run("import numpy as np, weft\n"
               "try: weft.jit(lambda x: x + 1)(np.zeros(3))\n"
               "except ValueError as e: print(e)", WEFT_CPU_FEATURES="mmx")
    assert out.startswith("WEFT_CPU_FEATURES='mmx' is not one of")


def test_one_processor_is_enough() -> None:
    out = _run("import os\n"
               "if hasattr(os, 'sched_setaffinity'):\n"
               "    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
               "import numpy as np, weft\n"
               "print(weft.jit(lambda x: x + 1)(np.zeros(3)))")
    assert out == "[1. 1. 1.]"


def test_a_large_program_is_assembled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE_TEXT", 0)
    def two(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
        return np.sort(x, axis=0), (x @ y).sum(axis=0), np.tanh(y).cumsum(axis=1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 30)), rng.normal(size=(30, 20))
    fn = weft.jit(two)
    parts = fn.lower(x, y).lowered.module.parts  # type: ignore[attr-defined]
    assert len(parts) == (2 if host_target().threads > 1 else 1)
    for got, want in zip(fn(x, y), two(x, y)):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_an_error_in_one_part_is_raised() -> None:
    good = "define i32 @f() {\n  ret i32 1\n}\n"
    for texts in ([good, "define"], ["define", good], [good, good, "define"]):
        with pytest.raises(RuntimeError, match="LLVM cannot parse the module"):
            assemble_all(texts, host_target())
    assert len(assemble_all([good, good], host_target())) == 2
