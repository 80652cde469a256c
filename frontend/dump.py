"""`WEFT_DUMP=dir`: every stage of every compilation as files, with a script that runs it again."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from weft.compiler.passes import Step
from weft.devices.protocol import Cache
from weft.frontend.stages import CompiledStage, LoweredStage, OptimizedStage, TracedStage

__all__ = ["Dump", "compile_dumping"]

VARIABLE = "WEFT_DUMP"
_numbers = itertools.count(1)


def compile_dumping(traced: TracedStage, cache: Cache | None) -> CompiledStage:
    """Take a traced function all the way, writing each stage to the directory that is asked for."""
    dump = Dump(Path(os.environ[VARIABLE].strip()))
    dump.traced(traced)
    optimized = traced.optimize(callback=dump.step)
    dump.optimized(optimized)
    lowered = optimized.lower()
    dump.lowered(lowered)
    return lowered.compile(cache)


class Dump:
    """The files of one compilation, each written as soon as it can be, so that a stage that fails
    leaves what came before it.

    In a new folder below `directory`: `signature.txt`, `trace.txt`, `repro.py`, two numbered files
    for each pass that changed something, `optimized.txt`, `history.txt`, the device's texts.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.folder: Path | None = None

    def traced(self, stage: TracedStage) -> None:
        """Make the folder and write what there is before any pass."""
        self.folder = _new_folder(self._directory, stage.graph.name)
        self._write("signature.txt", stage.source.call.text)
        self._write("trace.txt", stage.text())
        options = stage.source.options
        self._write("repro.py", _REPRO.format(
            name=stage.graph.name, device=options.device, fast_math=options.fast_math,
            precision=options.precision))

    def step(self, step: Step) -> None:
        """Write what a pass changed."""
        if step.changed:
            stem = f"pass{step.index:02}-{step.name}"
            self._write(f"{stem}.txt", step.after.text())
            self._write(f"{stem}.diff", step.diff())

    def optimized(self, stage: OptimizedStage) -> None:
        """Write the optimised graph."""
        self._write("optimized.txt", stage.text())
        self._write("history.txt", stage.history.text())

    def lowered(self, stage: LoweredStage) -> None:
        """Write the device's program at each level."""
        for kind in stage.lowered.kinds:
            self._write(f"{kind}.{_ENDINGS.get(kind, 'txt')}", stage.text(kind))

    def _write(self, name: str, text: str) -> None:
        assert self.folder is not None
        (self.folder / name).write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def _new_folder(directory: Path, name: str) -> Path:
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    while True:                          # other processes may dump to the same place
        folder = directory / f"{os.getpid()}-{next(_numbers):03}-{stem}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue


_ENDINGS = {"llvm": "ll", "asm": "s"}

_REPRO = '''"""Runs the traced graph @{name} on random inputs; compares with the reference.

    python repro.py [DEVICE]        ({device!r} unless given; exit status 1 if they differ)
"""

import sys
from pathlib import Path

from weft.frontend.replay import replay

text = Path(__file__).with_name("trace.txt").read_text(encoding="utf-8")
device = sys.argv[1] if len(sys.argv) > 1 else {device!r}
sys.exit(replay(text, device, fast_math={fast_math}, precision={precision!r}))
'''
