"""Hand-made graphs for the tests of fusion and kernels: a builder, `f32(…)` parameters, idioms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.ir import Graph, Node
from weft.compiler.kernel.interp import run_program
from weft.compiler.kernel.ir import Program
from weft.compiler.kernel.program import build_program
from weft.compiler.target import Target
from weft.compiler.types import Dim, Size, TensorType, dtype_of
from weft.compiler.verify import verify
from weft.devices.reference import evaluate

__all__ = ["TARGET", "B", "Make", "N", "build", "check", "data", "kernels"]

B, N = Size.symbol("B"), Size.symbol("N")
TARGET = Target()
Array = np.ndarray[Any, Any]


class Make(Builder):
    """A builder with the idioms of NumPy code."""

    def x(self, name: str, *shape: Dim, dtype: str = "f32") -> Node:
        """A parameter."""
        return self.param(name, TensorType(shape, dtype_of(dtype)))

    def plus(self, x: Node, y: Node) -> Node:
        """x + y (`add` is the builder's own)."""
        return self.add("add", x, y)

    def num(self, like: Node, value: float) -> Node:
        """A scalar of the type of another value."""
        return self.scalar(value, like.dtype)

    def keep(self, x: Node, like: Node, axes: Sequence[int]) -> Node:
        """A reduction's result repeated along the axes that it removed."""
        rank = len(like.shape)
        kept = [a for a in range(rank) if a not in axes]
        return self.broadcast(x, like.shape, kept)

    def mean(self, x: Node, axes: tuple[int, ...] = (-1,)) -> Node:
        """The mean over axes of known size."""
        axes = tuple(a % len(x.shape) for a in axes)
        n = int(np.prod([x.shape[a] for a in axes]))  # type: ignore[arg-type]
        return self.div(self.reduce_sum(x, axes=axes), self.num(x, n))

    def variance(self, x: Node) -> Node:
        """The variance over the last axis."""
        last = len(x.shape) - 1
        d = self.sub(x, self.keep(self.mean(x), x, (last,)))
        return self.mean(self.mul(d, d))

    def softmax(self, x: Node) -> Node:
        """Softmax over the last axis."""
        last = len(x.shape) - 1
        e = self.exp(self.sub(x, self.keep(self.reduce_max(x, axes=(last,)), x, (last,))))
        return self.div(e, self.keep(self.reduce_sum(e, axes=(last,)), x, (last,)))

    def logsumexp(self, x: Node) -> Node:
        """log(sum(exp(x))) over the last axis."""
        last = len(x.shape) - 1
        m = self.reduce_max(x, axes=(last,))
        s = self.reduce_sum(self.exp(self.sub(x, self.keep(m, x, (last,)))), axes=(last,))
        return self.plus(self.log(s), m)

    def layernorm(self, x: Node, scale: Node, shift: Node) -> Node:
        """Layer norm over the last axis."""
        last = len(x.shape) - 1
        d = self.sub(x, self.keep(self.mean(x), x, (last,)))
        v = self.mean(self.mul(d, d))
        sd = self.sqrt(self.plus(v, self.num(x, 1e-5)))
        y = self.div(d, self.keep(sd, x, (last,)))
        return self.plus(self.mul(y, self.broadcast(scale, x.shape)),
                        self.broadcast(shift, x.shape))

    def gelu(self, x: Node) -> Node:
        """The tanh form of GELU."""
        cube = self.mul(self.mul(x, x), x)
        t = self.tanh(self.mul(self.num(x, 0.79788456),
                               self.plus(x, self.mul(self.num(x, 0.044715), cube))))
        return self.mul(self.mul(self.num(x, 0.5), x), self.plus(t, self.num(x, 1.0)))

    def matmul(self, a: Node, b: Node) -> Node:
        """A product of two matrices."""
        return self.dot_general(a, b, contract=((1,), (0,)), batch=((), ()))

    def dense(self, x: Node, w: Node, b: Node) -> Node:
        """x @ w + b."""
        y = self.matmul(x, w)
        return self.plus(y, self.broadcast(b, y.shape))


def build(make: Callable[[Make], Node | Sequence[Node]]) -> Graph:
    """The graph of a function that adds nodes to a builder, verified."""
    b = Make("f")
    out = make(b)
    graph = b.graph([out] if isinstance(out, Node) else list(out))
    verify(graph)
    return graph


def data(graph: Graph, seed: int = 0, **sizes: int) -> list[Array]:
    """Random arguments for a graph: floats near 1, small integers."""
    rng = np.random.default_rng(seed)
    out = []
    for p in graph.params:
        shape = tuple(d if isinstance(d, int) else d.evaluate(sizes) for d in p.shape)
        if p.dtype.is_inexact:
            a = rng.normal(size=shape)
            out.append((a + 1j * rng.normal(size=shape) if p.dtype.is_complex else a
                        ).astype(p.dtype.numpy))
        else:
            out.append(rng.integers(0, 5 if p.dtype.is_integer else 2, shape
                                    ).astype(p.dtype.numpy))
    return out


def compare(got: Array, want: Array, rtol: float) -> None:
    """Equal types and shapes; equal values up to a tolerance for inexact types."""
    assert got.shape == want.shape and got.dtype == want.dtype
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
        return
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    if rtol == 0:
        np.testing.assert_array_equal(got.astype(wide), want.astype(wide))
    else:
        scale = float(np.abs(want.astype(wide)).max(initial=0, where=np.isfinite(want)))
        np.testing.assert_allclose(got.astype(wide), want.astype(wide), rtol, rtol * scale)


def check(graph: Graph, arrays: Sequence[Array] | None = None, rtol: float = 0.0,
          target: Target = TARGET, transform: Callable[[Program], Program] = lambda p: p,
          **sizes: int) -> Program:
    """The program computes what the graph means. Sums are added in another order: give rtol."""
    arrays = data(graph, **sizes) if arrays is None else arrays
    program = transform(build_program(graph, target))
    for got, want in zip(run_program(program, arrays), evaluate(graph, arrays), strict=True):
        compare(got, want, rtol)
    return program


def kernels(program: Program) -> int:
    """The number of steps."""
    return len(program.steps)
