"""Links between documents lead somewhere, and files that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT
from tests.structure.sources import modules

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"),
                    *(ROOT / "bench").glob("*.md")])
_NEW = {"compiler/passes/reciprocal.py"}        # made up in docs/add-a-pass.md
_GENERATED = {"repro.py", "model.py", "user.py", "your_program.py", "readme.py"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links(document: Path) -> None:
    """Each relative link is a file or folder."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_named_exist(document: Path) -> None:
    """Each `….py` in backquotes is a file of the repository, or the end of one's path."""
    known = {p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py")
             if ".venv" not in p.parts}
    known |= {"/".join(m.path.parts[-3:]) for m in modules()}
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for name in re.findall(r"`([\w/.-]+\.py)\b[^`]*`", text):
        if name not in _NEW | _GENERATED and not name.startswith("pass"):
            assert any(f"/{k}".endswith(f"/{name}") for k in known), (
                f"{document.name} names {name}")
