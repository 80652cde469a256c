"""Random typed graphs and inputs for property tests, and bit-exact comparison of results.

``graphs()`` draws graphs over elementwise, view, reduction, scan, sort, indexing and contraction
ops with small shapes, sizes 0 and 1 included. ``inputs(graph, seed)`` makes arguments full of
special values: NaN, infinities, -0.0, subnormals, extreme integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from weft.compiler.build import Builder
from weft.compiler.ir import Graph, Node
from weft.compiler.ops import OPS
from weft.compiler.ops.elementwise import KIND_LETTER
from weft.compiler.types import DTYPES, DType, Shape, Size, TensorType, numel

__all__ = ["ALL_DTYPES", "assert_same", "graphs", "inputs", "same", "special_values"]

ALL_DTYPES = tuple(DTYPES)
_Draw = Callable[[st.SearchStrategy[Any]], Any]

# --------------------------------------------------------------------------- values


def special_values(dtype: DType) -> np.ndarray[Any, Any]:
    """Values at which rules go wrong: zeros of both signs, NaN, infinities, extremes, ordinary."""
    if dtype.kind == "bool":
        return np.array([False, True])
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        low = [info.min, info.min + 1, -1, -2, -7] if info.min else []
        return np.array([*low, 0, 1, 2, 3, 7, 8, 100, info.max - 1, info.max], dtype.numpy)
    if dtype.is_complex:
        return _complex_grid(np.array([0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan]), dtype)
    import ml_dtypes
    info = ml_dtypes.finfo(dtype.numpy)
    extremes = [info.max, info.smallest_normal, info.smallest_subnormal, info.eps]
    values = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 7.7, 1e-3, 100.0, np.inf, *map(float, extremes)]
    with np.errstate(all="ignore"):
        return np.array([*values, *(-v for v in values), np.nan]).astype(dtype.numpy)


def _complex_grid(parts: np.ndarray[Any, Any], dtype: DType) -> np.ndarray[Any, Any]:
    out = np.empty((len(parts), len(parts)), dtype.numpy)
    out.real, out.imag = parts[:, None], parts[None, :]
    return out.ravel()


def inputs(graph: Graph, seed: int, *, integral: bool = False,
           sizes: dict[str, int] | None = None) -> list[np.ndarray[Any, Any]]:
    """Arguments for a graph. `integral`: small whole numbers, on which sums are exact."""
    rng = np.random.default_rng(seed)
    return [_fill(rng, p.tensor, integral, sizes or {}) for p in graph.params]


def _fill(rng: np.random.Generator, type: TensorType, integral: bool,
          sizes: dict[str, int]) -> np.ndarray[Any, Any]:
    shape = tuple(d.evaluate(sizes) if isinstance(d, Size) else d for d in type.shape)
    if integral:
        low = 0 if type.dtype.kind in ("uint", "bool") else -2
        return rng.integers(low, 3, shape).astype(type.dtype.numpy)
    plain = rng.normal(size=shape) * 4
    with np.errstate(all="ignore"):
        ordinary = (np.abs(plain) if type.dtype.kind == "uint" else plain).astype(type.dtype.numpy)
        special = rng.choice(special_values(type.dtype), shape)
    return np.asarray(np.where(rng.random(shape) < 0.4, special, ordinary))


def same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Whether two arrays agree in type, shape and every bit; all NaN count as one."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(_agrees(a, b).all())


def _agrees(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if a.dtype.kind == "c":
        return _agrees(a.real, b.real) & _agrees(a.imag, b.imag)
    with np.errstate(all="ignore"):
        nan = (a != a) & (b != b)
    bits = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[a.dtype.itemsize]
    equal = np.ascontiguousarray(a).view(bits) == np.ascontiguousarray(b).view(bits)
    return np.asarray(nan | equal.reshape(nan.shape))


def assert_same(got: Sequence[np.ndarray[Any, Any]], want: Sequence[np.ndarray[Any, Any]],
                context: object = "") -> None:
    """Fail unless `same` holds for each pair."""
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert (g.dtype, g.shape) == (w.dtype, w.shape), context
        wrong = ~_agrees(g, w)
        assert not wrong.any(), f"got {g[wrong][:9]}, want {w[wrong][:9]}\n{context}"


# --------------------------------------------------------------------------- graphs

_SIZES = (0, 1, 1, 2, 2, 3, 3, 4)
_TRANSCENDENTAL = frozenset(
    name for name, op in OPS.items() if op.kind == "elementwise" and op.cost >= 12
    and name not in ("gcd", "lcm"))
_WHOLE = ("add", "sub", "mul", "neg", "abs", "maximum", "minimum", "sign", "not", "and", "or")
_ELEMENTWISE = tuple(
    name for name, op in OPS.items() if op.kind == "elementwise" and op.arity in (1, 2)
    and name not in ("convert", "bitcast", "pow", "ldexp", "spacing", "frexp_mantissa",
                     "frexp_exponent", "nextafter"))


class _Maker:
    """Adds random nodes to a builder, one draw after another."""

    def __init__(self, draw: _Draw, dtypes: Sequence[DType], elementwise: Sequence[str],
                 integral: bool) -> None:
        self.draw = draw
        self.b = Builder("random")
        self.dtypes = dtypes
        self.elementwise_ops = elementwise
        self.integral = integral
        self.values: list[Node] = []

    def pick(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def value(self, want: Callable[[Node], bool] = lambda n: True) -> Node | None:
        fits = [v for v in self.values if want(v)]
        return self.pick(fits) if fits else None

    def scalar(self, dtype: DType) -> Node:
        values = np.arange(3).astype(dtype.numpy) if self.integral else special_values(dtype)
        return self.b.constant(values[self.draw(st.integers(0, len(values) - 1))])

    def other(self, x: Node) -> Node:
        """An operand that goes with `x`: another value, a scalar, a broadcast, or itself."""
        how = self.pick(("same", "scalar", "broadcast", "self"))
        if how == "scalar":
            return self.scalar(x.dtype)
        if how == "same":
            found = self.value(lambda v: v.dtype is x.dtype and v.shape in ((), x.shape))
            return found if found is not None else x
        if how == "broadcast":
            return self.b.broadcast(self.scalar(x.dtype), x.shape)
        return x

    # ---- one method a family of ops; each gives a node or None

    def elementwise(self) -> Node | None:
        x = self.value()
        assert x is not None
        letter = KIND_LETTER[x.dtype.kind]
        names = [n for n in self.elementwise_ops if letter in _LETTERS[n]]
        if not names:
            return None
        name = self.pick(names)
        return self.b.add(name, x) if OPS[name].arity == 1 else self.swap(name, x, self.other(x))

    def swap(self, name: str, x: Node, y: Node) -> Node:
        return self.b.add(name, y, x) if self.draw(st.booleans()) else self.b.add(name, x, y)

    def select(self) -> Node | None:
        x = self.value()
        assert x is not None
        mask = self.value(lambda v: v.dtype.kind == "bool" and v.shape in ((), x.shape))
        if mask is None:
            return None
        y = self.other(x)
        return self.b.add("select", mask, x, y)

    def power(self) -> Node | None:
        x = self.value(lambda v: v.dtype.kind in ("int", "float"))
        if x is None:
            return None
        exponents = (0, 1, 2) if self.integral or x.dtype.is_integer else (0, 1, 2, 3, 4, -1, 2.5)
        return self.b.add("pow", x, self.b.scalar(self.pick(exponents), x.dtype))

    def convert(self) -> Node | None:
        x = self.value()
        assert x is not None
        if self.integral:
            return None
        wide = [d for d in self.dtypes if x.dtype.kind in ("bool", "int", "uint")
                or d.kind not in ("int", "uint")]  # floats out of range of integers: undefined
        return self.b.convert(x, self.pick(wide)) if wide else None

    def broadcast(self) -> Node | None:
        x = self.value(lambda v: len(v.shape) <= 3)
        if x is None:
            return None
        shape: list[Any] = []
        dims = []
        for d in x.shape:
            if len(shape) < 3 and self.draw(st.booleans()):
                shape.append(self.pick((1, 2, 3)))
            dims.append(len(shape))
            shape.append(self.pick((1, 2, 4)) if d == 1 else d)
        return self.b.add("broadcast_in_dim", x, shape=tuple(shape), dims=tuple(dims))

    def reshape(self) -> Node | None:
        x = self.value()
        assert x is not None
        size = x.tensor.size
        if not isinstance(size, int):
            return None
        shapes = [x.shape, (size,), (1, *x.shape), (*x.shape, 1), x.shape[::-1],
                  tuple(d for d in x.shape if d != 1)]
        shapes += [(k, size // k) for k in (2, 3, 4) if size and size % k == 0]
        return self.b.add("reshape", x, shape=self.pick(shapes))

    def transpose(self) -> Node | None:
        x = self.value()
        assert x is not None
        perm = tuple(self.draw(st.permutations(range(len(x.shape)))))
        return self.b.add("transpose", x, perm=perm)

    def reverse(self) -> Node | None:
        x = self.value()
        assert x is not None
        axes = tuple(a for a in range(len(x.shape)) if self.draw(st.booleans()))
        return self.b.add("reverse", x, axes=axes)

    def slice(self) -> Node | None:
        x = self.value(lambda v: v.tensor.is_static)
        if x is None:
            return None
        bounds = [sorted((self.draw(st.integers(0, d)), self.draw(st.integers(0, d))))
                  for d in x.shape]
        stride = tuple(self.pick((1, 1, 2)) for _ in x.shape)
        return self.b.add("slice", x, start=tuple(lo for lo, _ in bounds),
                          limit=tuple(hi for _, hi in bounds), stride=stride)

    def pad(self) -> Node | None:
        x = self.value()
        assert x is not None
        low, high = (tuple(self.pick((0, 0, 1)) for _ in x.shape) for _ in range(2))
        return self.b.add("pad", x, self.scalar(x.dtype), low=low, high=high)

    def concatenate(self) -> Node | None:
        x = self.value(lambda v: len(v.shape) > 0)
        if x is None:
            return None
        y = self.value(lambda v: v.type == x.type)
        parts = self.pick(([x], [x, y], [y, x, x]))
        return self.b.add("concatenate", *parts, axis=self.pick(range(len(x.shape))))

    def iota(self) -> Node | None:
        dtype = self.pick([d for d in self.dtypes if d.kind != "bool"])
        shape = (self.pick((1, 2, 3)), self.pick((1, 3)))
        return self.b.add("iota", shape=shape, axis=self.pick((0, 1)), dtype=dtype)

    def constant(self) -> Node | None:
        dtype, shape = self.pick(self.dtypes), (self.pick((1, 2, 3)), self.pick((1, 2)))
        seed = self.draw(st.integers(0, 9))
        type = TensorType(shape, dtype)
        return self.b.constant(_fill(np.random.default_rng(seed), type, self.integral, {}))

    def reduction(self) -> Node | None:
        x = self.value()
        assert x is not None
        axes = tuple(a for a in range(len(x.shape)) if self.draw(st.booleans()))
        names = ["reduce_sum", "reduce_prod"] if x.dtype.kind != "bool" else \
            ["reduce_and", "reduce_or"]
        if all(x.shape[a] != 0 for a in axes):
            names += ["reduce_max", "reduce_min"] * 2
        if self.integral and "reduce_prod" in names:
            names.remove("reduce_prod")
        return self.b.add(self.pick(names), x, axes=axes)

    def along(self) -> Node | None:
        """An op along one axis: scans, sorts, argmax and argmin."""
        x = self.value(lambda v: len(v.shape) > 0 and v.dtype.kind in ("int", "uint", "float"))
        if x is None:
            return None
        axis = self.pick(range(len(x.shape)))
        name = self.pick(("cumsum", "cummax", "sort", "argsort", "argmax"))
        if name == "argmax":
            return self.b.add(name, x, axis=axis) if x.shape[axis] != 0 else None
        attrs = {"stable": True} if name in ("sort", "argsort") else {}
        return self.b.add(name, x, axis=axis, **attrs)

    def indices(self, shape: Shape, low: int, high: int) -> Node:
        n = int(np.prod(shape))  # type: ignore[arg-type]
        line = [self.draw(st.integers(low, high)) for _ in range(n)]
        return self.b.constant(np.array(line, np.int64).reshape(shape))  # type: ignore[arg-type]

    def scatter(self) -> Node | None:
        """A gather, or a scatter of what a gather reads or of a value everywhere."""
        x = self.value(lambda v: len(v.shape) > 0 and v.tensor.is_static and 0 not in v.shape)
        if x is None:
            return None
        axis = self.pick(range(len(x.shape)))
        attrs = {"axes": (axis,), "position": self.pick(range(len(x.shape))),
                 "mode": self.pick(("raise", "clip", "wrap", "drop"))}
        low, high = (-x.shape[axis], x.shape[axis] - 1) if attrs["mode"] == "raise" else (-9, 9)
        i = self.indices(self.pick(((), (1,), (3,), (2, 2), (0,))), low, high)
        read = self.b.add("gather", x, i, **attrs)
        if self.draw(st.booleans()):
            return read
        updates = self.pick((read, self.b.broadcast(self.scalar(x.dtype), read.shape)))
        return self.b.add("scatter", x, i, updates, **attrs, combine=self.pick(("set", "add")))

    def part(self) -> Node | None:
        """A dynamic slice, or an update of one by another."""
        x = self.value(lambda v: v.tensor.is_static)
        if x is None:
            return None

        def starts() -> list[Node]:
            return [self.indices((), -2, 4) for _ in x.shape]
        sizes = tuple(self.draw(st.integers(0, d)) for d in x.shape)
        read = self.b.add("dynamic_slice", x, *starts(), sizes=sizes)
        if self.draw(st.booleans()):
            return read
        return self.b.add("dynamic_update_slice", x, read, *starts())

    def dot(self) -> Node | None:
        x = self.value(lambda v: v.dtype.kind in ("int", "float") and len(v.shape) in (1, 2, 3))
        if x is None:
            return None
        y = self.value(lambda v: v.dtype is x.dtype and 0 < len(v.shape) <= 3)
        assert y is not None
        pairs = [(i, j) for i, d in enumerate(x.shape) for j, e in enumerate(y.shape) if d == e]
        chosen: list[tuple[int, int]] = []
        for i, j in pairs:
            if all(i != k and j != m for k, m in chosen) and self.draw(st.booleans()):
                chosen.append((i, j))
        cut = self.draw(st.integers(0, len(chosen)))
        contract, batch = (tuple(zip(*part)) or ((), ()) for part in (chosen[:cut], chosen[cut:]))
        if len(x.shape) + len(y.shape) - len(chosen) - cut > 4:
            return None
        return self.b.add("dot_general", x, y, contract=contract, batch=batch)


def _letters(name: str) -> str:
    """The kinds of operand that an elementwise op takes, by asking its type rule."""
    op, found = OPS[name], ""
    for letter, dtype in (("b", "bool"), ("i", "i32"), ("f", "f32"), ("c", "c64")):
        try:
            op.infer((TensorType((), DTYPES[dtype]),) * (op.arity or 1), {})
            found += letter
        except (TypeError, ValueError):
            pass
    return found


_LETTERS = {name: _letters(name) for name in _ELEMENTWISE}
_STEPS = ("elementwise", "elementwise", "elementwise", "elementwise", "select", "convert",
          "broadcast", "broadcast", "reshape", "reshape", "transpose", "transpose", "reverse",
          "slice", "pad", "concatenate", "iota", "constant", "reduction", "reduction", "along",
          "dot", "power", "scatter", "part")
_BIG = 400  # elements: random dots and broadcasts must not run away


@st.composite
def graphs(draw: _Draw, *, max_nodes: int = 10, dtypes: Sequence[str] = ("bool", "i8", "u32",
           "i64", "f16", "bf16", "f32", "f64", "c64"), steps: Sequence[str] = _STEPS,
           transcendental: bool = True, integral: bool = False, symbolic: bool = False) -> Graph:
    """Random well-typed graphs.

    `steps` are names of the families of ops to draw from; `transcendental` allows functions whose
    last bit may depend on the layout of arrays; `integral` keeps to ops that are exact on small
    whole numbers (use it with ``inputs(…, integral=True)``); `symbolic` gives the first parameter
    a first axis of size B.
    """
    names = _WHOLE if integral else [
        n for n in _ELEMENTWISE if transcendental or n not in _TRANSCENDENTAL]
    maker = _Maker(draw, [DTYPES[d] for d in dtypes], names, integral)
    _params(draw, maker, symbolic)
    for _ in range(draw(st.integers(1, max_nodes))):
        node = getattr(maker, draw(st.sampled_from(list(steps))))()
        if node is not None and _small(node.shape):
            maker.values.append(node)
    results = draw(st.lists(st.sampled_from(maker.values[::-1]), min_size=1, max_size=3))
    return maker.b.graph(results)


def _small(shape: Shape) -> bool:
    size = numel(shape)
    return not isinstance(size, int) or size <= _BIG


def _params(draw: _Draw, maker: _Maker, symbolic: bool) -> None:
    shared = [draw(st.sampled_from(_SIZES)) for _ in range(3)]
    for k in range(draw(st.integers(1, 3))):
        rank = draw(st.integers(0, 3))
        shape: Shape = tuple(draw(st.sampled_from(shared)) for _ in range(rank))
        if symbolic and k == 0:
            shape = (Size.symbol("B"), *shape[1:])
        dtype = draw(st.sampled_from(list(maker.dtypes)))
        maker.values.append(maker.b.param("xyz"[k], TensorType(shape, dtype)))
