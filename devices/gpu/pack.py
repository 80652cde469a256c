"""Operands of a product laid out as matrices, where they do not lie so already.

A kernel of its own writes each factor, whatever it is computed from, as a dense array over the axes
that it depends on, the summed ones last: heads that are joined again, windows of a convolution,
a scale or a mask. That is worth it where each element is then used many times.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from math import prod

from weft.compiler.kernel.expr import Expr, Exprs, walk
from weft.compiler.kernel.index import Axis, as_index
from weft.compiler.kernel.ir import Buffer, Kernel, Stage, Step, Store
from weft.compiler.kernel.rename import canonical, traffic, work
from weft.compiler.lazy_dataclass import replace
from weft.compiler.types import TensorType

__all__ = ["packed_operands"]

# How often each element has to be used for laying it out to be worth it, beside our own product and
# where the library's runs on tensor cores. Of convolutions with 64 channels, ours took 201 us on an
# H200, the library's with laying out 246; with 256, 237 and 200.
USES, USES_ROUNDED = 128, 64
MOST_BYTES = 256 << 20  # that an operand may take when it is laid out


def packed_operands(step: Step, fits: Callable[[Kernel], bool], buffers: list[Buffer],
                    uses: int = USES) -> list[Step] | None:
    """The steps that lay out one operand of a sum of products or both, and then the sum over what
    they made, of which `fits` holds; None if nothing helps. Adds the arrays to `buffers`. Each
    element has to be used `uses` times."""
    kernel = step.kernel
    assert isinstance(kernel, Kernel)
    every = (*kernel.axes, *kernel.stages[0].axes)
    if not all(isinstance(a.extent, int) for a in every):
        return None
    for chosen in ((0,), (1,), (0, 1)):
        made = kernel
        packed: list[tuple[str, Kernel]] = []
        for i in chosen:
            one = _packed(made, i, every, uses)
            if one is None:
                break
            made, name, fill = one
            packed.append((name, fill))
        else:
            if fits(made):
                return _steps(step, made, packed, buffers)
    return None


def _packed(kernel: Kernel, which: int, every: tuple[Axis, ...], uses: int
            ) -> tuple[Kernel, str, Kernel] | None:
    """The kernel with a factor read from a new buffer, its name, and the kernel that fills it."""
    (reduce,) = kernel.reduces
    factor = reduce.value.args[which]
    inner = factor.args[0] if factor.what == "convert" and factor.kind == "apply" else factor
    axes = tuple(a for a in every if a in inner.axes)
    type = TensorType(tuple(a.extent for a in axes if isinstance(a.extent, int)), inner.dtype)
    size = type.size
    if not axes or inner.accs or not isinstance(size, int) or size * uses > prod(
            a.extent for a in every if isinstance(a.extent, int)) \
            or size * inner.dtype.itemsize > MOST_BYTES:
        return None
    name = next(n for i in count() if (n := f"laid{i or ''}") not in kernel.types)
    place = tuple(map(as_index, axes))
    fill = Kernel(axes, (Stage((), (), (Store(name, place, inner),)),),
                  (*_read(kernel, [inner]), (name, type)), (name,))
    load = Exprs().load(name, place, inner.dtype)
    new = load if inner is factor else replace(factor, args=(load,))
    args = tuple(new if i == which else a for i, a in enumerate(reduce.value.args))
    first = replace(kernel.stages[0],
                    reduces=(replace(reduce, value=replace(reduce.value, args=args)),))
    made = replace(kernel, stages=(first, *kernel.stages[1:]))
    kept = _read(kernel, [r for s in made.stages for r in s.roots])
    outs = [b for b in kernel.buffers if b[0] in kernel.outputs]
    inputs = [b for b in kept if b not in outs]
    return replace(made, buffers=(*inputs, (name, type), *outs)), name, fill


def _read(kernel: Kernel, roots: list[Expr]) -> list[tuple[str, TensorType]]:
    names = {e.what for e in walk(*roots) if e.kind == "load"}
    return [b for b in kernel.buffers if b[0] in names]


def _steps(step: Step, made: Kernel, packed: list[tuple[str, Kernel]],
           buffers: list[Buffer]) -> list[Step]:
    bound = dict(zip((n for n, _ in step.kernel.buffers), step.buffers))
    out: list[Step] = []
    for name, fill in packed:
        taken = {b.name for b in buffers}
        own = next(n for i in count() if (n := f"{step.name}.{name}_{i}") not in taken)
        buffers.append(Buffer(own, fill.types[name], "temp"))
        bound[name] = own
        out.append(Step(canonical(fill), tuple(bound[n] for n, _ in fill.buffers),
                        f"{step.name}_{name}", (), step.origins,
                        ("an operand is laid out as a matrix",), work(fill), traffic(fill)))
    return [*out, replace(step, kernel=made, buffers=tuple(bound[n] for n, _ in made.buffers))]
