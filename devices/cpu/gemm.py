"""Contractions on the CPU: matrix products and their kin, with whatever follows them.

`plan` says whether and how a kernel is computed this way, `emit` writes it. The parts:
`gemm_form` recognises, `gemm_plan` decides on tiles and blocks, `gemm_pack` copies operands into
order, `gemm_micro` holds the inner loops, `gemm_finish` the epilogues.

The loops around a tile, for one unit of work (some columns of all or some rows of one batch):

    for every block of k:
        pack the right side's block into panels             # stays in L2
        for every tile's rows:
            pack the left side's rows                       # stays in L1
            for every panel:
                tile: accumulate over the block of k        # in registers
                behind the last block: epilogue and stores
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

from weft.compiler.kernel.index import Axis, Index
from weft.compiler.kernel.ir import Kernel
from weft.compiler.target import Target
from weft.compiler.types import DTYPES, Dim
from weft.devices.cpu.code import KernelCode, Phase
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.evaluate import Evaluator
from weft.devices.cpu.gemm_finish import Finisher, epilogue_cost
from weft.devices.cpu.gemm_form import Form, Leaf, recognise
from weft.devices.cpu.gemm_micro import Body, Planes, Reader, plane_type, read_element, tile
from weft.devices.cpu.gemm_pack import Packer, Range, address, element_type, prefetch, sweep
from weft.devices.cpu.gemm_plan import Plan, make_plan

__all__ = ["Plan", "emit", "plan"]

STACK_BYTES = 16 << 10    # a unit's memory up to this size lies on the stack
INLINE_COST = 4.0         # flops of an epilogue up to which it is written out for every register
LINE = 64                 # bytes of a cache line
STREAM_TURNS = 8          # rows of a matrix that a vector times it reads side by side
LEFT_PAD = 16             # packed rows are an odd number of these apart: in different cache sets


def plan(kernel: Kernel, target: Target) -> Plan | None:
    """How to compute the kernel as a contraction; None if it is not one."""
    form = recognise(kernel)
    return None if form is None else make_plan(form, target)


def emit(kernel: Kernel, plan: Plan, name: str, target: Target) -> KernelCode:
    """The code of a kernel for which `plan` gave the plan."""
    form = recognise(kernel)
    assert form is not None
    return _Writer(form, plan, name, target).code()


class _Writer:
    def __init__(self, form: Form, plan: Plan, name: str, target: Target) -> None:
        self.form = form
        self.plan = plan
        self.name = name
        self.target = target
        self.e = e = Emitter(target)
        self.ev = Evaluator(e, {}, form.kernel.types, {})
        self.masked = target.masked and (target.vector_bytes >= 64 or all(
            t.dtype.itemsize >= 4 for _, t in form.kernel.buffers))
        self.packer = Packer(e, self.ev, plan.lanes, self.masked)
        self.body = Body(e, form, plan.lanes)
        self.finisher = Finisher(e, self.ev, form, plan.lanes, self.masked)
        self.blocks = max(1, ceil(form.depth / plan.depth))
        self.acc_planes = 2 if form.dtype.is_complex else 1

    # ---- the function and its memory

    def code(self) -> KernelCode:
        """The function and how it is run."""
        e, k = self.e, self.form.kernel
        ctx = e.arg("ctx", "ptr")
        for i, (name, _) in enumerate(k.buffers):
            self.ev.pointers[name] = e.load(e.gep(ctx, i, "ptr"), "ptr")
        self._dims(ctx)
        with self._memory(), e.loop(e.arg("lo", "i64"), e.arg("hi", "i64"), stem="unit") as unit, \
                self.ev.scope():
            self._unit(unit.i)
        e.write("ret void")
        text = (f"define internal void @{self.name}(ptr noalias %ctx, i64 %lo, i64 %hi) "
                f"{{\nentry:\n{e.body()}\n}}\n")
        phase = Phase(self.name, self.plan.units, 1, self.plan.parallel)
        return KernelCode(text, frozenset(e.declares), dict(e.helpers), (phase,))

    def _dims(self, ctx: Val) -> None:
        e, k = self.e, self.form.kernel
        if k.symbols:
            table = e.load(e.gep(ctx, len(k.buffers), "ptr"), "ptr")
            self.ev.dims.update({s: e.load(e.gep(table, i, "i64"), "i64")
                                 for i, s in enumerate(k.symbols)})

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """The unit's own memory: packed operands and tiles."""
        e, sizes = self.e, self._sizes()
        total = sum(sizes)
        block = e.const("ptr", 0)
        if 0 < total <= STACK_BYTES:
            block = e.assign(f"alloca i8, i64 {total}, align 64", "ptr")
        elif total:
            e.declares.add("declare ptr @weft_alloc(i64)")
            block = e.assign(f"call ptr @weft_alloc(i64 {total})", "ptr")
        at = 0
        regions = []
        for size in sizes:
            regions.append(e.gep(block, at, "i8"))
            at += size
        f = self.form
        self.right_regions = dict(zip(f.right, regions))
        self.left_regions = dict(zip(self._left, regions[len(f.right):]))
        self.tiles = regions[-1]
        yield
        if total > STACK_BYTES:
            e.declares.add("declare void @weft_free(ptr)")
            e.write(f"call void @weft_free(ptr {block.ref})")

    @property
    def _left(self) -> tuple[Leaf, ...]:
        """What the tile broadcasts, the parts of neither side included."""
        return (*self.form.left, *self.form.middle)

    def _sizes(self) -> list[int]:
        """Bytes of each right leaf's panels, of each left leaf's rows, and of the tiles."""
        p = self.plan
        width = ceil(p.unit_columns / p.width) * p.width
        right = [x.planes * p.depth * width * _item(x) if p.pack_right else 0
                 for x in self.form.right]
        turns = p.depth if p.pack_left == "m" else p.rows
        left = [x.planes * turns * self._left_plane * _item(x) if p.pack_left else 0
                for x in self._left]
        item = DTYPES[plane_type(self.form.dtype)].itemsize
        tiles = self._tile_size * item
        if p.streams:
            tiles = self.acc_planes * width * item
        elif self.blocks > 1:
            tiles *= ceil(p.unit_rows / p.rows) * (width // p.width)
        elif self.inline:
            tiles = 0
        return [(n + 63) // 64 * 64 for n in (*right, *left, tiles)]

    @property
    def _tile_size(self) -> int:
        return self.acc_planes * self.plan.rows * self.plan.width

    @property
    def inline(self) -> bool:
        """Whether accumulators go to the epilogue in registers."""
        p, f = self.plan, self.form
        rows = f.rows
        exact = p.pack_left is None or (isinstance(rows, int) and rows % p.rows == 0)
        masked = self.masked or f.columns % p.width == 0
        return exact and masked and self.blocks == 1 and epilogue_cost(f) <= INLINE_COST

    # ---- one unit

    def _unit(self, unit: Val) -> None:
        p, f = self.plan, self.form
        column_blocks = ceil(f.columns / p.unit_columns)
        unit, column = self._divided(unit, column_blocks)
        unit, chunk = self._divided(unit, p.row_chunks)
        for axis in reversed(f.batch):
            assert not isinstance(axis.extent, Index)
            unit, self.ev.axes[axis] = self._divided(unit, axis.extent)
        n_lo = column * p.unit_columns
        n_hi = self._least(n_lo + p.unit_columns, f.columns)
        m_lo, m_hi = self._rows(chunk)
        if p.streams:
            self._stream(n_lo, n_hi)
            return
        with self._span(0, self.blocks) as block:
            k_lo = block * p.depth
            k_hi = self._least(k_lo + p.depth, f.depth)
            if p.pack_right:
                self._pack_right(n_lo, n_hi, k_lo, k_hi)
            self._tiles(n_lo, n_hi, m_lo, m_hi, k_lo, k_hi, block)

    def _stream(self, n_lo: Val, n_hi: Val) -> None:
        """One row: a few turns of k at a time along all columns, so that memory is read in order.

        The sums lie in the unit's memory, which L1 holds.
        """
        e, p, f = self.e, self.plan, self.form
        zero = e.const("i64", 0)
        whole = f.columns % p.lanes == 0
        kind = plane_type(f.dtype)
        width = ceil(p.unit_columns / p.width) * p.width
        with e.loop(0, width * self.acc_planes, p.lanes, stem="zero") as loop:
            e.store(e.const(kind, 0, p.lanes), e.gep(self.tiles, loop.i, kind))
        some = f.depth // STREAM_TURNS * STREAM_TURNS
        for lo, hi, turns in ((0, some, STREAM_TURNS), (some, f.depth, 1)):
            if lo < hi:
                with e.loop(lo, hi, turns, stem="k") as k, self.ev.scope():
                    self._stream_turns(n_lo, n_hi, k.i, turns, width)
        self.finisher.memory(self.tiles, width, zero, (zero, e.const("i64", 1)), n_lo, n_hi, whole)

    def _stream_turns(self, n_lo: Val, n_hi: Val, k: Val, turns: int, width: int) -> None:
        e, p, f = self.e, self.plan, self.form
        kind, zero = plane_type(f.dtype), e.const("i64", 0)
        middle = [self._left_reader(x, zero, k) for x in f.middle]
        held = [{r.leaf.expr: r.at(e.const("i64", t), 0) for r in middle} for t in range(turns)]
        wide = [{x: tuple(e.splat(v, p.lanes) for v in planes) for x, planes in turn.items()}
                for turn in held]

        def write(i: Val, lanes: int, mask: Val | None) -> None:
            body = Body(e, f, lanes)
            at = [e.gep(self.tiles, i - n_lo + q * width, kind) for q in range(self.acc_planes)]
            acc = tuple(e.load(a, kind, lanes) for a in at)
            right = [self._right_reader(x, i, k, [mask], lanes) for x in f.right]
            for t in range(turns):
                turn = e.const("i64", t)
                acc = body.step(acc, {**(wide if lanes > 1 else held)[t],
                                      **{r.leaf.expr: r.at(turn, 0) for r in right}})
            for x, a in zip(acc, at):
                e.store(x, a)
        sweep(e, n_lo, n_hi, p.lanes, f.columns % p.lanes == 0, self.masked, write)

    def _divided(self, x: Val, by: Dim) -> tuple[Val, Val]:
        """Quotient and remainder of what is not negative."""
        e = self.e
        if by == 1:
            return x, e.const("i64", 0)
        d = self.ev.dim(by)
        u, w = Val(e, x.ref, "u64"), Val(e, d.ref, "u64")
        q = Val(e, (u / w).ref, "i64")
        return q, x - q * d

    def _least(self, x: Val, bound: Val | int) -> Val:
        return self.e.intrinsic("smin", x, self.e.like(x, bound))

    def _rows(self, chunk: Val) -> tuple[Val, Val]:
        p, e = self.plan, self.e
        total = self.ev.dim(self.form.rows)
        if p.unit_rows:
            lo = chunk * p.unit_rows
            return lo, self._least(lo + p.unit_rows, total)
        tiles = (total + (p.rows * p.row_chunks - 1)) / (p.rows * p.row_chunks)
        each = tiles * p.rows
        lo = chunk * each
        return lo, e.intrinsic("smin", lo + each, total)

    @contextmanager
    def _span(self, lo: int, hi: int) -> Iterator[Val]:
        """A loop, or just its body where there is one turn."""
        if hi - lo == 1:
            yield self.e.const("i64", lo)
            return
        with self.e.loop(lo, hi, stem="block") as loop, self.ev.scope():
            yield loop.i

    # ---- packing

    def _pack_right(self, n_lo: Val, n_hi: Val, k_lo: Val, k_hi: Val) -> None:
        p, f = self.plan, self.form
        whole = f.columns % p.lanes == 0 and p.unit_columns % p.lanes == 0
        for leaf, region in self.right_regions.items():
            k = Range(f.k, k_lo, k_hi, f.depth % p.lanes == 0 and p.depth % p.lanes == 0)
            self.packer.copy(leaf, k, Range(f.n, n_lo, n_hi, whole),
                             self._panel_place(leaf, region))

    def _panel_place(self, leaf: Leaf, region: Val) -> Callable[[Val, Val, int], Val]:
        p, kind = self.plan, plane_type(leaf.expr.dtype)

        def place(k: Val, column: Val, plane: int) -> Val:
            panel, rest = self._divided(column, p.width)
            row = (panel * p.depth + k) * (leaf.planes * p.width)
            return self.e.gep(region, row + rest + plane * p.width, kind)
        return place

    def _pack_left(self, m_lo: Val, m_hi: Val, k_lo: Val, k_hi: Val) -> None:
        p, f = self.plan, self.form
        for leaf, region in self.left_regions.items():
            k = Range(f.k, k_lo, k_hi, f.depth % p.lanes == 0 and p.depth % p.lanes == 0)
            place = self._row_place(leaf, region)
            if f.m is None or f.m not in leaf.expr.axes:
                one = Range(_ONE, self.e.const("i64", 0), self.e.const("i64", 1))
                self.packer.copy(leaf, one, k, place)
            elif p.pack_left == "k":
                self.packer.copy(leaf, Range(f.m, m_lo, m_hi), k, place)
            else:
                self.packer.copy(leaf, k, Range(f.m, m_lo, m_hi), lambda o, i, q, at=place:
                                 at(i, o, q))

    def _row_place(self, leaf: Leaf, region: Val) -> Callable[[Val, Val, int], Val]:
        def place(i: Val, k: Val, plane: int) -> Val:
            row, turn, kind = self._left_steps(leaf)
            return self.e.gep(region, i * row + k * turn + plane * self._left_plane, kind)
        return place

    def _left_steps(self, leaf: Leaf) -> tuple[int, int, str]:
        """Elements from row to row and from turn to turn of packed rows, and their type."""
        p, kind = self.plan, plane_type(leaf.expr.dtype)
        if p.pack_left == "m":
            return 1, leaf.planes * self._left_plane, kind
        return leaf.planes * self._left_plane, 1, kind

    @property
    def _left_plane(self) -> int:
        p = self.plan
        length = p.rows if p.pack_left == "m" else p.depth
        return (ceil(length / LEFT_PAD) | 1) * LEFT_PAD

    # ---- tiles

    def _tiles(self, n_lo: Val, n_hi: Val, m_lo: Val, m_hi: Val, k_lo: Val, k_hi: Val,
               block: Val) -> None:
        e, p = self.e, self.plan

        def one(m: Val, n: Val) -> None:
            with self.ev.scope():
                start, rows = self._tile_rows(m, m_hi)
                number = (m - m_lo) / p.rows * (ceil(p.unit_columns / p.width)) \
                    + (n - n_lo) / p.width
                self._tile(start, rows, n, n_lo, n_hi, k_lo, k_hi, block, number)

        if p.panels_outer:
            with e.loop(n_lo, n_hi, p.width, stem="panel") as column, \
                    e.loop(m_lo, m_hi, p.rows, stem="rows") as row:
                one(row.i, column.i)
            return
        with e.loop(m_lo, m_hi, p.rows, stem="rows") as row:
            if p.pack_left:
                self._pack_left(row.i, self._least(row.i + p.rows, m_hi), k_lo, k_hi)
            with e.loop(n_lo, n_hi, p.width, stem="panel") as column:
                if p.pack_left:
                    self._ask_ahead(row.i + p.rows, (column.i - n_lo) / p.width, k_lo)
                one(row.i, column.i)

    def _ask_ahead(self, m: Val, panel: Val, k_lo: Val) -> None:
        """Prefetch a part of the next tile's rows: all of them in the time of this tile's."""
        e, p, f = self.e, self.plan, self.form
        each = ceil(p.rows / ceil(p.unit_columns / p.width))
        for leaf in f.left:
            if leaf.load is None or f.m is None or leaf.step(f.k) != 1:
                continue
            line = LINE // leaf.load.dtype.itemsize
            with e.loop(0, each, stem="ask") as row, e.loop(0, p.depth, line, stem="line") as at:
                prefetch(e, address(self.ev, leaf, {f.m: m + panel * each + row.i,
                                                    f.k: k_lo + at.i}))

    def _tile_rows(self, m: Val, m_hi: Val) -> tuple[Val, tuple[Val, Val]]:
        """The first row that the tile computes, and which of its rows are wanted.

        Without packed rows the last tile is moved up to end with the last row.
        """
        e, p, total = self.e, self.plan, self.form.rows
        zero, rows = e.const("i64", 0), e.const("i64", p.rows)
        if isinstance(total, int) and total % p.rows == 0:
            return m, (zero, rows)
        if p.pack_left:
            return m, (zero, self._least(m_hi - m, p.rows))
        assert isinstance(total, int)
        start = self._least(m, total - p.rows)
        return start, (m - start, rows)

    def _tile(self, m: Val, rows: tuple[Val, Val], n: Val, n_lo: Val, n_hi: Val, k_lo: Val,
              k_hi: Val, block: Val, number: Val) -> None:
        e, p, f = self.e, self.plan, self.form
        masks = self._masks(n, n_hi)
        left = [self._left_reader(x, m, k_lo) for x in f.left]
        middle = [self._left_reader(x, m, k_lo) for x in f.middle]
        right = [self._packed_reader(x, n - n_lo) if p.pack_right else
                 self._right_reader(x, n, k_lo, masks, p.lanes) for x in f.right]
        depth = f.depth if self.blocks == 1 else k_hi - k_lo
        accs = tile(self.body, depth, p.rows, p.vectors, p.ways, left, right, middle)
        if self.inline:
            self.finisher.registers(accs, m, n, masks)
            return
        memory = self.tiles
        if self.blocks > 1:
            memory = e.gep(memory, number * self._tile_size, plane_type(f.dtype))
        self._keep(accs, memory, block)
        end = self._least(n + p.width, n_hi)
        if self.blocks == 1:
            self._finish(memory, m, rows, n, end)
            return
        with e.when(block.eq(self.blocks - 1), "last"), self.ev.scope():
            self._finish(memory, m, rows, n, end)

    def _finish(self, memory: Val, m: Val, rows: tuple[Val, Val], n: Val, end: Val) -> None:
        whole = self.form.columns % self.plan.lanes == 0
        self.finisher.memory(memory, self.plan.width, m, rows, n, end, whole)

    def _keep(self, accs: list[list[Planes]], memory: Val, block: Val) -> None:
        """Put a tile into memory, added to what earlier blocks gave."""
        e, p = self.e, self.plan
        kind = plane_type(self.form.dtype)
        if self.blocks > 1:
            with e.when(block.eq(0), "first"), \
                    e.loop(0, self._tile_size, p.lanes, stem="zero") as loop:
                e.store(e.const(kind, 0, p.lanes), e.gep(memory, loop.i, kind))
        for i, row in enumerate(accs):
            for v, acc in enumerate(row):
                at = [e.gep(memory, (i * self.acc_planes + q) * p.width + v * p.lanes, kind)
                      for q in range(self.acc_planes)]
                if self.blocks > 1:
                    acc = self.body.add(acc, tuple(e.load(a, kind, p.lanes) for a in at))
                for x, a in zip(acc, at):
                    e.store(x, a)

    def _masks(self, n: Val, n_hi: Val) -> list[Val | None]:
        """Live lanes of the tile's vectors; None where all always are."""
        e, p = self.e, self.plan
        if self.form.columns % p.width == 0 or not self.masked \
                or (p.pack_right and not self.inline):
            return [None] * p.vectors
        left = e.convert(n_hi - n, "i32")
        return [e.iota("i32", p.lanes) < e.splat(left - v * p.lanes, p.lanes)
                for v in range(p.vectors)]

    # ---- readers

    def _left_reader(self, leaf: Leaf, m: Val, k_lo: Val) -> Reader:
        e, f, p = self.e, self.form, self.plan
        if p.pack_left:
            row, turn, kind = self._left_steps(leaf)
            region = self.left_regions[leaf]

            def packed(k: Val, i: int) -> Planes:
                at = e.gep(region, k * turn if turn != 1 else k, kind)
                return tuple(e.load(e.gep(at, i * row + q * self._left_plane, kind), kind)
                             for q in range(leaf.planes))
            return Reader(leaf, packed)
        base = address(self.ev, leaf, {f.k: k_lo} if f.m is None else {f.k: k_lo, f.m: m})
        turn, row, kind = leaf.step(f.k) or 0, leaf.step(f.m) or 0, element_type(leaf)

        def direct(k: Val, i: int) -> Planes:
            at = base if turn == 0 else e.gep(base, k * turn if turn != 1 else k, kind)
            return read_element(e, leaf, e.gep(at, i * row, kind), 1, None)
        return Reader(leaf, direct)

    def _right_reader(self, leaf: Leaf, n: Val, k_lo: Val, masks: list[Val | None],
                      lanes: int) -> Reader:
        e, f = self.e, self.form
        base = address(self.ev, leaf, {f.k: k_lo, f.n: n})
        turn, kind = leaf.step(f.k) or 0, element_type(leaf)

        def direct(k: Val, v: int) -> Planes:
            at = base if turn == 0 else e.gep(base, k * turn, kind)
            return read_element(e, leaf, e.gep(at, v * lanes, kind), lanes, masks[v])
        return Reader(leaf, direct)

    def _packed_reader(self, leaf: Leaf, column: Val) -> Reader:
        e, p, kind = self.e, self.plan, plane_type(leaf.expr.dtype)
        base = e.gep(self.right_regions[leaf], column / p.width * (
            p.depth * leaf.planes * p.width), kind)

        def packed(k: Val, v: int) -> Planes:
            at = e.gep(base, k * (leaf.planes * p.width), kind)
            return tuple(e.load(e.gep(at, q * p.width + v * p.lanes, kind), kind, p.lanes)
                         for q in range(leaf.planes))
        return Reader(leaf, packed)


_ONE = Axis("one", 1)


def _item(leaf: Leaf) -> int:
    return DTYPES[plane_type(leaf.expr.dtype)].itemsize
