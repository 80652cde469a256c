"""The files that make up weft, wherever it was imported from: a checkout or an installed wheel."""

from __future__ import annotations

import ast
import functools
import importlib
from dataclasses import dataclass
from pathlib import Path

import weft

ROOT = Path(__file__).parents[2]
"""The checkout (or the copy of it, without weft itself, that CI tests in)."""

LAYERS = ("compiler", "devices", "runtime", "frontend")
"""The folders of weft. Each may import itself and what stands before it."""


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name and where it is."""

    name: str
    path: Path

    @property
    def layer(self) -> str:
        """The folder of `LAYERS` it belongs to, or "weft" for the facade."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "weft"

    @functools.cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def __str__(self) -> str:
        return self.name


def folder(name: str) -> Path:
    """Where a package of weft is."""
    file = importlib.import_module(name).__file__
    assert file is not None
    return Path(file).parent


def _below(package: str, deep: bool) -> list[Module]:
    base = folder(package)
    found = []
    for path in sorted(base.rglob("*.py") if deep else base.glob("*.py")):
        parts = path.relative_to(base).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found.append(Module(".".join((package, *parts)), path))
    return found


@functools.cache
def modules() -> tuple[Module, ...]:
    """All modules of weft."""
    assert weft.__file__
    return (*_below("weft", deep=False),
            *(m for layer in LAYERS for m in _below(f"weft.{layer}", deep=True)))
