"""From a cluster of nodes to a kernel: reductions, stages, stores, scratch rows."""

from __future__ import annotations

from weft.compiler.ir import Node, is_scalar_constant
from weft.compiler.kernel.cluster import (
    Cluster,
    contraction_indices,
    ordered_axes,
    reduction_index,
)
from weft.compiler.kernel.expr import Expr, Exprs, walk
from weft.compiler.kernel.index import Axis, Index, as_index
from weft.compiler.kernel.ir import Check, Kernel, Reduce, Stage, Store
from weft.compiler.kernel.pullback import At, expression, is_counting, update_place, updates_of
from weft.compiler.lazy_dataclass import replace
from weft.compiler.ops.registry import OPS
from weft.compiler.types import DTYPES, Dim, DType, TensorType

__all__ = ["construct", "expr_cost"]

SPILL_COST = 10.0      # flops from which a value needed by two stages is kept in a scratch row
_REDUCE = {"reduce_sum": "sum", "reduce_prod": "prod", "reduce_max": "max", "reduce_min": "min",
           "reduce_and": "and", "reduce_or": "or", "argmax": "argmax", "argmin": "argmin"}
_F32, _I64 = DTYPES["f32"], DTYPES["i64"]


class _Construction:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.members = set(cluster.members)
        self.exprs = Exprs()
        self.loads: dict[str, Node] = {}
        self.reduces: list[tuple[Reduce, tuple[Axis, ...]]] = []
        self.checks: dict[Check, None] = {}
        self._memo: dict[tuple[Node, At, Expr | None], Expr] = {}

    # ---- the Reader protocol

    def read(self, node: Node, at: At, guard: Expr | None = None) -> Expr:
        if is_scalar_constant(node):
            return self.exprs.const(node.attrs["value"], node.dtype)
        key = (node, at, guard)
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self._compute(node, at, guard)
        return found

    def check(self, node: Node, value: Expr, size: Dim, axis: int, kind: str = "index") -> None:
        self.checks[Check(value, size, axis, node.origin, kind)] = None

    def _compute(self, node: Node, at: At, guard: Expr | None) -> Expr:
        if node in self.members:
            if node.kind == "reduction":
                return self._reduce(node, at)
            if node.kind == "contraction":
                return self._contract(node, at)
            return expression(self, node, at, guard)
        if is_counting(node):
            return expression(self, node, at, guard)
        self.loads[node.name] = node
        return self.exprs.load(node.name, at, node.dtype, guard)

    def _reduce(self, node: Node, at: At) -> Expr:
        inner = self.cluster.inner[node]
        value = self.read(node.inputs[0], reduction_index(node, at, inner))
        op = _REDUCE[node.opname]
        if op in ("argmax", "argmin"):
            return self._acc(op, value, _I64, inner)
        wide = _accumulator(op, node.dtype)
        return self._narrow(self._acc(op, self._widen(value, wide), wide, inner), node.dtype)

    def _contract(self, node: Node, at: At) -> Expr:
        inner = self.cluster.inner[node]
        ia, ib = contraction_indices(node, at, inner)
        wide = _accumulator("sum", node.dtype)
        a = self._widen(self.read(node.inputs[0], ia), wide)
        b = self._widen(self.read(node.inputs[1], ib), wide)
        product = self.exprs.apply("and" if wide.kind == "bool" else "mul", wide, a, b)
        op = "or" if wide.kind == "bool" else "sum"
        return self._narrow(self._acc(op, product, wide, inner), node.dtype)

    def _acc(self, op: str, value: Expr, dtype: DType, inner: tuple[Axis, ...]) -> Expr:
        for r, axes in self.reduces:
            if (r.op, r.value, axes) == (op, value, inner):
                return self.exprs.acc(r.number, r.dtype)
        number = len(self.reduces)
        self.reduces.append((Reduce(number, op, value, dtype), inner))
        return self.exprs.acc(number, dtype)

    def _widen(self, e: Expr, dtype: DType) -> Expr:
        return e if e.dtype is dtype else self.exprs.apply("convert", dtype, e)

    _narrow = _widen

    # ---- the kernel

    def kernel(self) -> Kernel:
        k = self.cluster
        if k.update is not None:
            return self._update(k.update)
        stores = [Store(n.name, at, self.read(n, at)) for n, at in k.roots.items()]
        rows = k.axes if k.rows is None else k.rows
        stages = self._stages(stores, frozenset(rows))
        stages, scratch = _spill(stages, self.exprs)
        buffers = [(n, node.tensor) for n, node in self.loads.items()]
        buffers += [(n.name, n.tensor) for n in k.roots]
        return Kernel(tuple(rows), stages, tuple(buffers), tuple(n.name for n in k.roots),
                      scratch)

    def _update(self, node: Node) -> Kernel:
        """A kernel that writes into the array that a node's first operand is."""
        k = self.cluster
        at = k.roots[node]
        place, guard = update_place(self, node, at)
        from weft.compiler.ops.updates import COMBINE  # loaded with the op

        combine = COMBINE[node.attrs.get("combine", "set")] or ""
        store = Store(node.name, place, self.read(updates_of(node), at), combine, guard)
        ordered = ordered_axes(k.axes, place)
        first = k.axes.index(ordered[0]) if ordered else len(k.axes)
        rows, inner = k.axes[:first], k.axes[first:]
        checked: dict[tuple[Axis, ...], list[Check]] = {}
        for c in self.checks:
            checked.setdefault(tuple(a for a in inner if a in c.value.axes), []).append(c)
        same = tuple(checked.pop(inner, ()))        # in each turn, before it writes
        stages = [Stage(axes, checks=tuple(cs)) for axes, cs in checked.items()]
        buffers = [(n, x.tensor) for n, x in self.loads.items()]
        return Kernel(rows, (*stages, Stage(inner, (), (store,), same, ordered)),
                      (*buffers, (node.name, node.tensor)), (node.name,), (), node.name)

    def _stages(self, stores: list[Store], rows: frozenset[Axis]) -> tuple[Stage, ...]:
        level = self._levels()

        def expr_level(e: Expr) -> int:
            return max((level[n] + 1 for n in e.accs), default=0)

        slots: dict[tuple[int, int, tuple[Axis, ...]], tuple[list[Reduce], list[Store],
                                                             list[Check]]] = {}
        for r, axes in self.reduces:
            slots.setdefault((level[r.number], 0, _live(axes)), ([], [], []))[0].append(r)
        last = max(level.values(), default=-1) + 1
        for s in stores:
            inner = tuple(a for a in self._space(s) if a not in rows)
            key = (expr_level(s.value), 0, inner) if inner else (last, 1, ())
            slots.setdefault(key, ([], [], []))[1].append(s)
        for c in self.checks:
            inner = tuple(a for a in self._space(c) if a not in rows)
            slots.setdefault((expr_level(c.value), 0, inner), ([], [], []))[2].append(c)
        # indices are checked before anything of the same level is read by them
        order = sorted(slots.items(), key=lambda item: (*item[0][:2], not item[1][2]))
        return tuple(Stage(key[2], tuple(r), tuple(s), tuple(c)) for key, (r, s, c) in order)

    def _levels(self) -> dict[int, int]:
        level: dict[int, int] = {}
        for r, _ in self.reduces:  # a reduction is listed after those its value needs
            level[r.number] = max((level[n] + 1 for n in r.value.accs), default=0)
        return level

    def _space(self, s: Store | Check) -> tuple[Axis, ...]:
        if isinstance(s, Store):
            used = frozenset().union(*(ix.axes for ix in s.index)) if s.index else frozenset()
        else:
            used = s.value.axes
        everything = dict.fromkeys((*self.cluster.axes, *(a for v in self.cluster.inner.values()
                                                          for a in v)))
        return tuple(a for a in everything if a in used)


def _live(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    return tuple(a for a in axes if a.extent != 1)


def _accumulator(op: str, dtype: DType) -> DType:
    """16-bit floats are summed and multiplied up in float32."""
    return _F32 if op in ("sum", "prod") and dtype.is_float and dtype.itemsize == 2 else dtype


def expr_cost(e: Expr) -> float:
    """Flops of one expression node, without its children."""
    if e.kind != "apply":
        return 0.0
    weight = 3.0 if e.dtype.is_complex else 1.0
    return OPS[e.what].cost * weight


def _spill(stages: tuple[Stage, ...], exprs: Exprs
           ) -> tuple[tuple[Stage, ...], tuple[tuple[str, TensorType], ...]]:
    """Heavy values that a later stage over the same axes needs again are kept in scratch rows."""
    scratch: list[tuple[str, TensorType]] = []
    out = list(stages)
    for i, stage in enumerate(out):
        if not stage.axes or not all(isinstance(a.extent, int) for a in stage.axes):
            continue
        here = walk(*stage.roots)
        for j in range(i + 1, len(out)):
            if out[j].axes != stage.axes:
                continue
            for e in _shared(here, out[j], stage.axes):
                name = f"row{len(scratch)}"
                at = tuple(as_index(a) for a in stage.axes)
                scratch.append((name, TensorType(tuple(_extent(a) for a in stage.axes), e.dtype)))
                stage = replace(stage, stores=(*stage.stores, Store(name, at, e)))
                out[i] = stage
                loaded = exprs.load(name, at, e.dtype)
                for later in range(j, len(out)):
                    if out[later].axes == stage.axes:
                        out[later] = _substituted(out[later], e, loaded)
    return tuple(out), tuple(scratch)


def _extent(a: Axis) -> Dim:
    assert not isinstance(a.extent, Index)
    return a.extent


def _shared(here: list[Expr], later: Stage, axes: tuple[Axis, ...]) -> list[Expr]:
    """The outermost heavy expressions, varying along the axes, of both stages."""
    known = set(here)
    found: list[Expr] = []
    stack = list(later.roots)
    seen: set[Expr] = set()
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e in known and e.axes & frozenset(axes) and e.kind == "apply" \
                and e.dtype.kind != "bool":
            varying = [x for x in walk(e) if x.axes & frozenset(axes)]
            if sum(map(expr_cost, varying)) >= SPILL_COST:
                found.append(e)
                continue
        stack.extend(e.children)
    return found


def _substituted(stage: Stage, old: Expr, new: Expr) -> Stage:
    memo: dict[Expr, Expr] = {old: new}

    def swap(e: Expr) -> Expr:
        if e not in memo:
            memo[e] = replace(e, args=tuple(map(swap, e.args))) if e.args else e
        return memo[e]

    return replace(stage, reduces=tuple(replace(r, value=swap(r.value)) for r in stage.reduces),
                   stores=tuple(replace(s, value=swap(s.value)) for s in stage.stores),
                   checks=tuple(replace(c, value=swap(c.value)) for c in stage.checks))


def construct(cluster: Cluster) -> Kernel:
    """The kernel that computes a cluster; buffers are named after the graph's nodes."""
    return _Construction(cluster).kernel()
