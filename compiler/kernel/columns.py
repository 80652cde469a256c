"""Elementwise kernels with a short last axis, such as stacks of arrays, done row by row.

    out[i, j] = a[i] if j < 1 else b[i]   ->   out[i, 0] = a[i]; out[i, 1] = b[i]

A loop over so few columns would leave most lanes of a vector empty; over the rows, a device can
fill them and write the columns side by side. An axis of which only quotients and remainders by a
small number are used is taken apart into rows and columns first:

    out[i] = f(a[i // 2], i % 2)   ->   out[2*p] = f(a[p], 0); out[2*p + 1] = f(a[p], 1)
"""

from __future__ import annotations

from weft.compiler.kernel.flatten import flatten
from weft.compiler.kernel.index import Axis, Quotient, Remainder, as_index
from weft.compiler.kernel.ir import Kernel, Program, Stage, Step
from weft.compiler.kernel.pieces import one_piece, plain
from weft.compiler.kernel.plan import change_nested
from weft.compiler.kernel.rename import Substitution, canonical, work
from weft.compiler.lazy_dataclass import replace
from weft.compiler.types import Dim

__all__ = ["split_columns"]

MOST_COLUMNS = 8
MOST_EXPRS = 128        # of all columns together
NEAR = 8                # elements from row to row, up to which reading along rows is no detour


def split_columns(program: Program) -> Program:
    """The program with the short last axes of large elementwise kernels written out."""
    program = change_nested(program, split_columns)
    steps = tuple(part for step in program.steps for part in _step(step))
    changed = len(steps) != len(program.steps) or any(
        a is not b for a, b in zip(steps, program.steps))
    return replace(program, steps=steps) if changed else program


def _step(step: Step) -> list[Step]:
    k = step.kernel
    if not isinstance(k, Kernel) or not plain(k) or not k.axes:
        return [step]
    flat = flatten(k)
    columns = k.axes[-1]
    if len(k.axes) > 1 and 2 <= _size(columns) <= MOST_COLUMNS \
            and _size(flat.axes[-1]) == _size(columns):     # not one loop with the axis before it
        rows = _rows(k, columns, _size(columns))
        return [_with(step, k, rows)] if _worthwhile(rows, k) else [step]
    return _apart(step, flat)


def _size(axis: Axis) -> int:
    return axis.extent if isinstance(axis.extent, int) else 0


def _with(step: Step, old: Kernel, new: Kernel) -> Step:
    """The step with a kernel of some of the same buffers."""
    names = [n for n, _ in new.buffers]
    return replace(step, kernel=canonical(new), buffers=tuple(
        b for b, (n, _) in zip(step.buffers, old.buffers) if n in names))


# ---- axes taken apart

def _apart(step: Step, k: Kernel) -> list[Step]:
    """The step with the last axis of its flattened kernel in rows and columns; what does not fill
    a row is a step of its own."""
    axis = k.axes[-1]
    count = _period(k, axis)
    if count is None or _size(axis) < count:
        return [step]
    whole = _size(axis) // count * count
    main = k if whole == _size(axis) else one_piece(k, axis, 0, whole)
    row, column = Axis(axis.name, whole // count), Axis(f"{axis.name}c", count)
    at = as_index(row) * count + as_index(column)
    swap = Substitution(lambda a: at if a.name == axis.name else None)
    stores = tuple(map(swap.store, main.stages[0].stores))
    split = replace(main, axes=(*(a for a in main.axes if a.name != axis.name), row, column),
                    stages=(Stage((), (), stores),))
    rows = _rows(split, column, count)
    if not _worthwhile(rows, main):
        return [step]
    if whole == _size(axis):
        return [_with(step, k, rows)]
    rest = one_piece(k, axis, whole, _size(axis))
    return [replace(_with(step, k, part), name=f"{step.name}_p{i}", flops=work(part),
                    nbytes=step.nbytes * (1 - i)) for i, part in enumerate((rows, rest))]


def _period(k: Kernel, axis: Axis) -> int | None:
    """The number by which the axis is divided everywhere, if it is one and small."""
    found: set[Dim] = set()
    indices = [ix for e in k.exprs for ix in e.index]
    while indices:
        for atom, _ in indices.pop().terms:
            if isinstance(atom, (Quotient, Remainder)) and axis in atom.of.axes:
                found.add(atom.by)
                indices.append(atom.of)
    (period,) = found if len(found) == 1 else (None,)
    return period if isinstance(period, int) and 2 <= period <= MOST_COLUMNS else None


# ---- columns written out


def _rows(k: Kernel, columns: Axis, count: int) -> Kernel:
    """The kernel with the stores of all columns in one turn of a row."""
    parts = [one_piece(k, columns, j, j + 1) for j in range(count)]
    read = {n for p in parts for n, _ in p.buffers}
    # those of one array next to each other, as they lie in memory
    stores = tuple(s for same in zip(*(p.stages[0].stores for p in parts)) for s in same)
    return replace(k, axes=parts[0].axes, stages=(Stage((), (), stores),),
                   buffers=tuple(b for b in k.buffers if b[0] in read))


def _worthwhile(k: Kernel, whole: Kernel) -> bool:
    """Whether rows are many, and each reads near what the one before it reads."""
    if [n for n, _ in k.buffers] != [n for n, _ in whole.buffers]:
        return False
    flat = flatten(k)
    if not flat.axes or not isinstance(flat.axes[-1].extent, int) or flat.axes[-1].extent < 64:
        return False
    steps = [e.index[0].coefficient(flat.axes[-1]) for e in flat.exprs if e.kind == "load"]
    return len(flat.exprs) <= MOST_EXPRS and all(
        isinstance(c, int) and abs(c) <= NEAR for c in steps)
