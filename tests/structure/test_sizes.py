"""How long files may be: 400 lines are wanted, 700 the most."""

from __future__ import annotations

import warnings
from pathlib import Path

from tests.structure.sources import ROOT, modules

WANTED, MOST = 400, 700


def _files() -> dict[str, Path]:
    found = {str(m): m.path for m in modules()}
    for folder in ("tests", "bench", "examples", "docs"):
        found |= {str(p.relative_to(ROOT)): p for p in sorted((ROOT / folder).rglob("*.py"))}
    return found


def test_no_file_is_too_long() -> None:
    """A file over the limit fails; one over what is wanted is named in a warning."""
    lines = {name: len(p.read_text(encoding="utf-8").splitlines()) for name, p in _files().items()}
    long = sorted(((n, name) for name, n in lines.items() if n > WANTED), reverse=True)
    assert not [name for n, name in long if n > MOST], long
    if long:
        warnings.warn("files longer than wanted: " + ", ".join(f"{name} {n}" for n, name in long),
                      stacklevel=1)
