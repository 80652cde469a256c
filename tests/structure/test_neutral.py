"""No file depends on, or tells of, the machine it was written on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.structure.sources import ROOT, modules

_PATH = re.compile(r"""(?:^|[\s"'`(\[=])/([A-Za-z_]+)/[\w.]""")
_EVERYWHERE = {"proc", "sys", "dev", "usr", "bin", "tmp", "etc"}
_MADE_UP = {"some", "home"}         # in tests, of messages that show paths
_BINARY = {".png", ".pyc"}
_SKIPPED = {"build", "dist", "__pycache__"}


def _tracked() -> list[Path]:
    """The files under version control; all files where the checkout has no history."""
    if (ROOT / ".git").exists():
        out = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT,
                             capture_output=True, text=True, check=True)
        paths = [ROOT / name for name in out.stdout.split("\0") if name]
    else:
        paths = [p for p in ROOT.rglob("*")
                 if not any(part.startswith(".") or part in _SKIPPED
                            for part in p.relative_to(ROOT).parts[:-1])]
    return [p for p in paths if p.is_file() and p.suffix not in _BINARY]


def test_no_machine_paths() -> None:
    """No file has an absolute path in it but those that every system has."""
    found = []
    for path in {*_tracked(), *(m.path for m in modules())}:
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if set(_PATH.findall(line)) - _EVERYWHERE - _MADE_UP:
                found.append(f"{path.name}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)
