"""The wheel has everything: packages listed, files installed, versions agreeing."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

import weft
from tests.structure.sources import LAYERS, ROOT, folder

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def _source(package: str) -> Path:
    """The folder of the checkout that a package is built from."""
    _, *parts = package.split(".")
    return ROOT.joinpath(*parts) if parts else ROOT / "weft"


def test_every_folder_is_a_package() -> None:
    """pyproject.toml lists just the folders that hold Python files."""
    found = {"weft"}
    for layer in LAYERS:
        for path in (ROOT / layer).rglob("*.py"):
            found.add(".".join(("weft", *path.parent.relative_to(ROOT).parts)))
    assert set(SETUPTOOLS["packages"]) == found
    assert all((_source(p) / "__init__.py").is_file() for p in found - {"weft"})


def test_folders_are_mapped() -> None:
    """Each top-level folder is installed under weft."""
    assert SETUPTOOLS["package-dir"] == {"weft": "weft", **{f"weft.{d}": d for d in LAYERS}}


def test_every_file_is_installed() -> None:
    """What is imported has the checkout's files, to the byte, the marker of typed packages too."""
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            installed = folder(f"weft.{layer}") / path.relative_to(ROOT / layer)
            assert installed.is_file(), f"{installed} is missing"
            assert installed.read_bytes() == path.read_bytes(), f"{installed} is not {path}"
    assert (Path(weft.__file__ or "").parent / "py.typed").is_file()


def test_versions_agree() -> None:
    """One version everywhere: pyproject.toml, the module, the newest entry of CHANGELOG.md."""
    version = PROJECT["project"]["version"]
    assert weft.__version__ == version
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changes, re.MULTILINE)
    assert newest and newest[1] == version


def test_core_dependencies() -> None:
    """NumPy, llvmlite and ml_dtypes, and nothing else."""
    names = {re.match(r"[\w-]+", d)[0] for d in PROJECT["project"]["dependencies"]}  # type: ignore[index]
    assert names == {"numpy", "llvmlite", "ml_dtypes"}


@pytest.mark.parametrize("target", PROJECT["project"]["scripts"].values())
def test_scripts_exist(target: str) -> None:
    """A console script names a function that is there."""
    module, _, name = target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_public_names_resolve() -> None:
    """All that `weft.__all__` promises can be had, and `dir` shows it."""
    for name in weft.__all__:
        assert getattr(weft, name) is not None
    assert set(weft.__all__) <= set(dir(weft))
    with pytest.raises(AttributeError, match="no attribute 'jti'"):
        weft.jti  # noqa: B018
