"""`WEFT_DUMP=dir`: every stage of every compilation as files, with a script that runs it again."""

from __future__ import annotations

import itertools
import os
import re
from typing import TYPE_CHECKING

from weft.compiler.passes import Step
from weft.frontend.stages import LoweredStage, OptimizedStage, TracedStage

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Dump", "dump_directory"]

VARIABLE = "WEFT_DUMP"
_numbers = itertools.count(1)


def dump_directory() -> Path | None:
    """Where to dump to, if the environment asks for that."""
    named = os.environ.get(VARIABLE, "").strip()
    if not named:
        return None
    from pathlib import Path  # with what it imports, as slow as tracing a function

    return Path(named)


class Dump:
    """The files of one compilation, each written as soon as it can be, so that a stage that fails
    leaves what came before it.

    In a new folder below `directory`: `signature.txt`, `trace.txt`, `repro.py`, two numbered files
    for each pass that changed something, `optimized.txt`, `history.txt`, the device's texts. With
    None for a directory, nothing is written.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self.folder: Path | None = None

    def traced(self, stage: TracedStage) -> None:
        """Make the folder and write what there is before any pass."""
        if self._directory is None:
            return
        self.folder = _new_folder(self._directory, stage.graph.name)
        self._write("signature.txt", stage.source.call.text)
        self._write("trace.txt", stage.text())
        options = stage.source.options
        self._write("repro.py", _REPRO.format(
            name=stage.graph.name, device=options.device, fast_math=options.fast_math))

    def step(self, step: Step) -> None:
        """Write what a pass changed."""
        if self._directory is not None and step.changed:
            stem = f"pass{step.index:02}-{step.name}"
            self._write(f"{stem}.txt", step.after.text())
            self._write(f"{stem}.diff", step.diff())

    def optimized(self, stage: OptimizedStage) -> None:
        """Write the optimised graph."""
        if self._directory is not None:
            self._write("optimized.txt", stage.text())
            self._write("history.txt", stage.history.text())

    def lowered(self, stage: LoweredStage) -> None:
        """Write the device's program at each level."""
        if self._directory is not None:
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
sys.exit(replay(text, device, fast_math={fast_math}))
'''
