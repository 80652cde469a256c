"""`import weft` loads next to nothing beyond NumPy; the compiler comes with the first use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import weft

HERE = str(Path(weft.__file__ or "").parents[1])


def _loaded(code: str) -> set[str]:
    path = os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])])
    out = subprocess.run([sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
                         env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
                         check=True)
    return set(out.stdout.split())


def test_import_is_light() -> None:
    """Nothing but the package itself is loaded, so the cost is NumPy's."""
    before = _loaded("from __future__ import annotations\nimport numpy, importlib, pathlib, typing")
    assert _loaded("import numpy, weft") - before == {"weft"}


def test_first_names_are_lazy() -> None:
    """The reference device runs without LLVM ever being loaded."""
    loaded = _loaded("import numpy as np, weft\n"
                     "assert weft.jit(lambda x: x + 1, device='reference')(np.zeros(2))[0] == 1")
    assert "weft.frontend.jit" in loaded
    assert not {m for m in loaded if m.split(".")[0] in ("cupy", "jax", "scipy", "torch")}


def test_placement_costs_nothing_where_there_is_none() -> None:
    """Partitions, the scheduler and the cost model are loaded by functions that have placed parts.
    """
    run = "import numpy as np, weft\nf = weft.jit(lambda x: np.sin(x) @ x{})\nf(np.ones((3, 3)))"
    own = {"weft.compiler.cost", "weft.compiler.passes.partition", "weft.compiler.passes.within",
           "weft.devices.costs", "weft.frontend.placement", "weft.runtime.choose",
           "weft.runtime.placed", "weft.runtime.scheduler"}
    assert not own & _loaded(run.format(""))
    chooses = _loaded(run.format(", device='auto'"))
    assert {"weft.compiler.cost", "weft.devices.costs", "weft.runtime.choose"} <= chooses
    placed = run.replace("np.sin(x) @ x", "weft.jit(np.sin, device='reference')(x) @ x")
    assert own <= chooses | _loaded(placed.format(""))
