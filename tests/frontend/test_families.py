"""The table of NumPy's functions says truly which module has which, and loads no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import weft
from weft.frontend import table
from weft.frontend.families import FAMILIES, HOOK_HOMES
from weft.frontend.numpy import rest


def _module(function: object) -> str:
    return getattr(function, "__module__", "").rpartition(".")[2]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_what_the_table_says(family: str) -> None:
    table.complete()
    for name in FAMILIES[family].split():
        if name.startswith("."):
            found = table.PROPERTIES.get(name[1:]) or table.METHODS.get(name[1:])
            homes = {_module(f[name[1:]]) for f in (table.PROPERTIES, table.METHODS)
                     if dict.__contains__(f, name[1:])}
        else:
            function = np
            for part in name.split("."):
                function = getattr(function, part)
            found = table.FUNCTIONS.get(function)
            homes = {_module(found)}
        assert found is not None and family in homes, f"{name} is not in {family}.py"


def test_every_family_is_in_the_rest() -> None:
    assert set(FAMILIES) | set(HOOK_HOMES.values()) <= set(rest.__all__)
    for hook in HOOK_HOMES:
        assert getattr(table.HOOKS, hook)


CODE = """
import sys
import numpy as np, weft
x = np.ones((3, 4))
f = weft.jit({0}, device="reference")
f(x)
print(*sorted(m.rpartition(".")[2] for m in sys.modules if m.startswith("weft.frontend.numpy.")))
"""
ALWAYS = {"promote", "python_scalars", "ufunc_rules", "ufuncs"}


@pytest.mark.parametrize("function, loads", [
    ("lambda x: np.tanh(x) + x * 2", set()),
    ("lambda x: x.sum(axis=0)", {"common", "reductions"}),
    ("lambda x: np.where(x > 0, x, 0)", {"common", "selection"}),
    ("lambda x: np.cumsum(x)", {"common", "scans", "joins", "reductions", "shapes"}),
])
def test_nothing_else_is_loaded(function: str, loads: set[str]) -> None:
    path = os.pathsep.join([str(Path(weft.__file__ or "").parents[1]),
                            *filter(None, [os.environ.get("PYTHONPATH")])])
    out = subprocess.run([sys.executable, "-c", CODE.format(function)], capture_output=True,
                         text=True, env={**os.environ, "PYTHONPATH": path}, check=True)
    assert set(out.stdout.split()) <= ALWAYS | loads
