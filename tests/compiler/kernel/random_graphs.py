"""Random graphs of all that fusion has to deal with, from a stream of choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kernel_graphs import Make

from weft.compiler.ir import Graph, Node
from weft.compiler.ops.updates import picked_shape
from weft.compiler.types import numel

__all__ = ["random_graph"]

SIZES = (1, 2, 3, 4, 6)


class Chooser:
    """Picks of a random stream: `below(n)` gives a number in [0, n)."""

    def __init__(self, below: Callable[[int], int]) -> None:
        self.below = below

    def of(self, items: Sequence[Any]) -> Any:
        """One of the items."""
        return items[self.below(len(items))]

    def flip(self, n: int = 2) -> bool:
        """True once in n."""
        return self.below(n) == 0


class _Maker:
    def __init__(self, c: Chooser, zero: bool) -> None:
        self.c = c
        self.b = Make("random")
        self.sizes = (*SIZES, 0) if zero else SIZES
        self.pool: list[Node] = []
        for i in range(1 + c.below(3)):
            shape = [c.of(self.sizes) for _ in range(c.of([2, 1, 2, 3, 0]))]
            self.pool.append(self.b.x(f"x{i}", *shape, dtype=c.of(["f64", "f64", "i64"])))

    def pick(self, test: Callable[[Node], bool] = lambda n: True) -> Node | None:
        found = [n for n in self.pool[-12:] if test(n)]
        return self.c.of(found) if found else None

    # ---- kinds of nodes; each may give up with None

    def unary(self) -> Node | None:
        x = self.pick()
        if x is None:
            return None
        op = self.c.of(["neg", "sign"] if x.dtype.is_integer else
                       ["neg", "tanh", "exp", "abs", "floor", "sqrt"])
        return self.b.add(op, x)

    def binary(self) -> Node | None:
        x = self.pick()
        assert x is not None
        y = self.pick(lambda n: n.dtype is x.dtype and n.shape in ((), x.shape))
        y = y if y is not None and not self.c.flip(4) else self.b.num(x, self.c.of([2, 3, -1]))
        op = self.c.of(["add", "mul", "sub", "maximum", "minimum"])
        pair = (x, y) if self.c.flip() else (y, x)
        return self.b.add(op, *pair)

    def broadcast(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) < 4)
        if x is None:
            return None
        shape, dims = [], []
        for d in x.shape:
            if self.c.flip(3) and len(x.shape) < 4 and len(shape) < 4:
                shape.append(self.c.of(self.sizes))
            dims.append(len(shape))
            shape.append(self.c.of(self.sizes) if d == 1 else d)
        if len(shape) < 4 and self.c.flip():
            shape.append(self.c.of(self.sizes))
        if int(numel(shape)) > 2000:  # type: ignore[arg-type]
            return None
        return self.b.broadcast_in_dim(x, shape=tuple(shape), dims=tuple(dims))

    def reshape(self) -> Node | None:
        x = self.pick()
        assert x is not None
        n, shape = int(numel(x.shape)), []  # type: ignore[arg-type]
        if n == 0:
            return self.b.add("reshape", x, shape=tuple(reversed(x.shape)))
        while n > 1 and len(shape) < 3:
            f = self.c.of([d for d in range(1, n + 1) if n % d == 0][:6])
            shape.append(f)
            n //= f
        return self.b.add("reshape", x, shape=(*shape, n))

    def transpose(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) > 1)
        if x is None:
            return None
        rest, perm = list(range(len(x.shape))), []
        while rest:
            perm.append(rest.pop(self.c.below(len(rest))))
        return self.b.transpose(x, perm=tuple(perm))

    def reverse(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) > 0)
        return x and self.b.reverse(x, axes=(self.c.below(len(x.shape)),))

    def slice(self) -> Node | None:
        x = self.pick()
        assert x is not None
        start = [self.c.below(int(d) + 1) if self.c.flip() else 0 for d in x.shape]
        limit = [lo + self.c.below(int(d) - lo + 1) if self.c.flip(3) else d
                 for lo, d in zip(start, x.shape)]
        stride = [self.c.of([1, 1, 2, 3]) for _ in start]
        return self.b.slice(x, start=tuple(start), limit=tuple(limit), stride=tuple(stride))

    def pad(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) > 0)
        if x is None:
            return None
        low, high = ([self.c.of([0, 0, 1, 2]) for _ in x.shape] for _ in "lh")
        value = self.pick(lambda n: n.shape == () and n.dtype is x.dtype) or self.b.num(x, 7)
        return self.b.pad(x, value, low=tuple(low), high=tuple(high))

    def concatenate(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) > 0)
        if x is None:
            return None
        axis = self.c.below(len(x.shape))

        def fits(n: Node) -> bool:
            return n.dtype is x.dtype and len(n.shape) == len(x.shape) and all(
                a == axis or d == e for a, (d, e) in enumerate(zip(n.shape, x.shape)))
        parts = [self.pick(fits) or x for _ in range(1 + self.c.below(3))]
        return self.b.concatenate(x, *parts, axis=axis)

    def reduction(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) > 0)
        if x is None:
            return None
        axes = tuple(a for a in range(len(x.shape)) if self.c.flip())
        if self.c.flip(6):
            axis = self.c.below(len(x.shape))
            return self.b.add(self.c.of(["argmax", "argmin"]), x, axis=axis) \
                if x.shape[axis] else None
        op = self.c.of(["reduce_sum", "reduce_sum", "reduce_max", "reduce_min"])
        if op != "reduce_sum" and any(x.shape[a] == 0 for a in axes):
            return None
        return self.b.add(op, x, axes=axes)

    def keepdims(self) -> Node | None:
        """A reduction combined with its own operand: softmax's heart."""
        x = self.pick(lambda n: len(n.shape) > 0 and 0 not in n.shape)
        if x is None:
            return None
        axis = len(x.shape) - 1 if not self.c.flip(3) else self.c.below(len(x.shape))
        r = self.b.add(self.c.of(["reduce_sum", "reduce_max"]), x, axes=(axis,))
        return self.b.sub(x, self.b.keep(r, x, (axis,)))

    def matmul(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) == 2)
        y = x and self.pick(lambda n: n.dtype is x.dtype and len(n.shape) == 2)
        if x is None or y is None:
            return None
        pairs = [(i, j) for i in (0, 1) for j in (0, 1) if x.shape[i] == y.shape[j]]
        if not pairs:
            return None
        i, j = self.c.of(pairs)
        return self.b.dot_general(x, y, contract=((i,), (j,)), batch=((), ()))

    def gather(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) > 0 and 0 not in n.shape)
        i = self.pick(lambda n: n.dtype.name == "i64")
        if x is None or i is None:
            return None
        axis = self.c.below(len(x.shape))
        return self.b.gather(x, i, axes=(axis,), position=self.c.below(len(x.shape)),
                             mode=self.c.of(["clip", "wrap"]))

    def scatter(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) > 0 and 0 not in n.shape)
        i = self.pick(lambda n: n.dtype.name == "i64")
        if x is None or i is None:
            return None
        axes = tuple(a for a in range(len(x.shape)) if self.c.flip()) or (0,)
        position = self.c.below(len(x.shape) - len(axes) + 1)
        shape = picked_shape(x.shape, i.shape, axes, position)
        u = self.pick(lambda n: n.dtype is x.dtype and n.shape in ((), shape))
        if int(numel(shape)) > 2000 or u is None:  # type: ignore[arg-type]
            return None
        u = self.b.broadcast(u, shape)
        indices = [i] + [self.b.iota(shape=i.shape, axis=self.c.below(len(i.shape)),
                                     dtype=i.dtype) if i.shape and self.c.flip() else i
                         for _ in axes[1:]]
        return self.b.scatter(x, *indices, u, axes=axes, position=position,
                              mode=self.c.of(["clip", "wrap", "drop"]),
                              combine=self.c.of(["set", "add", "mul", "min", "max"]))

    def starts(self, x: Node) -> list[Node]:
        found = [self.pick(lambda n: n.dtype.name == "i64" and n.shape == ()) for _ in x.shape]
        return [self.b.scalar(self.c.below(4) - 1, "i64") if f is None or self.c.flip() else f
                for f in found]

    def dynamic_slice(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) > 0)
        if x is None:
            return None
        sizes = tuple(self.c.below(int(d) + 1) if self.c.flip() else d for d in x.shape)
        return self.b.dynamic_slice(x, *self.starts(x), sizes=sizes)

    def dynamic_update_slice(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) > 0)
        u = x and self.pick(lambda n: n.dtype is x.dtype and len(n.shape) == len(x.shape) and all(
            a <= b for a, b in zip(n.shape, x.shape)))
        if x is None or u is None:
            return None
        return self.b.dynamic_update_slice(x, u, *self.starts(x))

    def iota(self) -> Node | None:
        shape = [self.c.of(SIZES) for _ in range(1 + self.c.below(2))]
        return self.b.iota(shape=tuple(shape), axis=self.c.below(len(shape)),
                           dtype=self.pool[0].dtype)

    def scan(self) -> Node | None:
        x = self.pick(lambda n: len(n.shape) > 0)
        return x and self.b.cumsum(x, axis=self.c.below(len(x.shape)))

    def select(self) -> Node | None:
        x = self.pick()
        y = x and self.pick(lambda n: n.dtype is x.dtype and n.shape == x.shape)
        return y and self.b.select(self.b.lt(x, y), y, x)


_KINDS = ["unary", "binary", "broadcast", "reshape", "transpose", "reverse", "slice", "pad",
          "concatenate", "reduction", "keepdims", "matmul", "gather", "iota", "scan", "select",
          "binary", "unary", "keepdims", "binary", "scatter", "dynamic_slice",
          "dynamic_update_slice"]


def random_graph(below: Callable[[int], int], most: int = 12, zero: bool = True) -> Graph:
    """A graph of up to `most` steps whose last and some other values are results."""
    m = _Maker(Chooser(below), zero)
    for _ in range(1 + m.c.below(most)):
        node = getattr(m, m.c.of(_KINDS))()
        if node is not None and int(numel(node.shape)) <= 4000:
            m.pool.append(node)
    results = [m.pool[-1]] + [n for n in m.pool if m.c.flip(5)]
    return m.b.graph(results)
