"""Elementwise kernels with a short last axis, such as stacks of arrays, done row by row.

    out[i, j] = a[i] if j < 1 else b[i]   ->   out[i, 0] = a[i]; out[i, 1] = b[i]

A loop over so few columns would leave most lanes of a vector empty; over the rows, a device can
fill them and write the columns side by side.
"""

from __future__ import annotations

from weft.compiler.kernel.flatten import flatten
from weft.compiler.kernel.index import Axis
from weft.compiler.kernel.ir import Kernel, Program, Stage, Step
from weft.compiler.kernel.nested import map_programs
from weft.compiler.kernel.pieces import one_piece, plain
from weft.compiler.kernel.rename import canonical
from weft.compiler.lazy_dataclass import replace

__all__ = ["split_columns"]

MOST_COLUMNS = 8
MOST_EXPRS = 64         # of all columns together
NEAR = 8                # elements from row to row, up to which reading along rows is no detour


def split_columns(program: Program) -> Program:
    """The program with the short last axes of large elementwise kernels written out."""
    program = map_programs(program, split_columns)
    steps = tuple(map(_step, program.steps))
    changed = any(a is not b for a, b in zip(steps, program.steps))
    return replace(program, steps=steps) if changed else program


def _step(step: Step) -> Step:
    k = step.kernel
    if not isinstance(k, Kernel) or not plain(k) or len(k.axes) < 2:
        return step
    columns = k.axes[-1]
    if not isinstance(columns.extent, int) or not 2 <= columns.extent <= MOST_COLUMNS:
        return step
    if flatten(k).axes[-1].extent != columns.extent:
        return step                     # it is one loop together with the axis before it
    rows = _rows(k, columns, columns.extent)
    return replace(step, kernel=canonical(rows)) if _worthwhile(rows) and \
        [n for n, _ in rows.buffers] == [n for n, _ in k.buffers] else step


def _rows(k: Kernel, columns: Axis, count: int) -> Kernel:
    """The kernel with the stores of all columns in one turn of a row."""
    parts = [one_piece(k, columns, j, j + 1) for j in range(count)]
    read = {n for p in parts for n, _ in p.buffers}
    stores = tuple(s for p in parts for s in p.stages[0].stores)
    return replace(k, axes=parts[0].axes, stages=(Stage((), (), stores),),
                   buffers=tuple(b for b in k.buffers if b[0] in read))


def _worthwhile(k: Kernel) -> bool:
    """Whether rows are many, and each reads near what the one before it reads."""
    flat = flatten(k)
    if not flat.axes or not isinstance(flat.axes[-1].extent, int) or flat.axes[-1].extent < 64:
        return False
    steps = [e.index[0].coefficient(flat.axes[-1]) for e in flat.exprs if e.kind == "load"]
    return len(flat.exprs) <= MOST_EXPRS and all(
        isinstance(c, int) and abs(c) <= NEAR for c in steps)
