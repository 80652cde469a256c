"""The tables of ops hang together: every op is described, tested and runs on the CPU."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import weft
from weft.compiler.ops import KINDS, OPS, Op, get_op, names_of_kind
from weft.compiler.ops.families import FAMILIES
from weft.compiler.ops.registry import HOMES, OUTSIDE
from weft.devices.cpu.device import CpuDevice
from weft.devices.cpu.lower import TABLE
from weft.devices.reference.device import ReferenceDevice

ALL = sorted(OPS.values(), key=lambda op: op.name)


@pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)
def test_declaration(op: Op) -> None:
    """An op has a kind, a line that describes it, a cost, and samples where no kind makes them."""
    assert op.kind in KINDS
    assert op.doc and "\n" not in op.doc
    assert op.cost >= 0
    assert op.kind in ("elementwise", "structure") or op.samples is not None, (
        f"{op.name} has no samples, so the conformance tests cannot reach it")


@pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)
def test_cpu_runs_it(op: Op) -> None:
    """An op is lowered by the CPU, composed of ops that are, or inlined before."""
    assert op.name in CpuDevice().supported() or op.decompose is not None or op.name == "call", (
        f"{op.name} has neither a line in a table of devices/cpu nor a decomposition")


def test_reference_runs_all() -> None:
    """The reference device supports whatever is declared."""
    assert ReferenceDevice().supported() == frozenset(OPS)


def test_no_lowering_without_an_op() -> None:
    """A line of the CPU's table belongs to an op that exists, and is elementwise."""
    assert not TABLE - set(OPS)
    assert {OPS[name].kind for name in TABLE} == {"elementwise"}


def test_families_are_complete() -> None:
    """The table of names has every op that a module of `compiler/ops` declares, with its kind."""
    folder = Path(importlib.import_module("weft.compiler.ops").__file__ or "").parent
    for file in sorted(folder.glob("*.py")):
        importlib.import_module(f"weft.compiler.ops.{file.stem}".removesuffix(".__init__"))
    assert set(OPS) - OUTSIDE == set(HOMES), (
        "a name is missing in compiler/ops/families.py, or too many")
    for family in FAMILIES.values():
        for kind, names in family.items():
            assert {OPS[name].kind for name in names.split()} == {kind}


def test_families_load_alone() -> None:
    """A module declares the ops that the table says it does; asking for one loads no other."""
    code = ("import sys\nfrom weft.compiler.ops import OPS, get_op\n"
            "get_op(sys.argv[1])\nprint(*dict.keys(OPS))")
    path = os.pathsep.join([str(Path(weft.__file__ or "").parents[1]),
                            *filter(None, [os.environ.get("PYTHONPATH")])])
    for family in FAMILIES.values():
        names = {name for group in family.values() for name in group.split()}
        out = subprocess.run([sys.executable, "-c", code, min(names)], capture_output=True,
                             text=True, env={**os.environ, "PYTHONPATH": path}, check=True)
        assert names <= set(out.stdout.split())


def test_the_table_loads_itself() -> None:
    """A look for an op, or at all of them, finds those that are not loaded."""
    assert get_op("sort").name == "sort" and "sort" in OPS and "sorted" not in OPS
    assert OPS.get("nothing") is None and len(list(OPS)) == len(OPS) == len(HOMES) + len(OUTSIDE)
    assert set(names_of_kind("scan")) == {op.name for op in OPS.values() if op.kind == "scan"}
