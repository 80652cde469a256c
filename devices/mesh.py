"""Many devices as one: a mesh of them with named axes, and how arrays lie on it.

A mesh is a grid of places for devices. A spec says, for each axis of an array, along which axis of
the mesh it is divided. Both are plain data; a device that has meshes (`lower_sharded`, see
`weft.devices.xla`) makes them its own. A function on a mesh means what it means without one: the
specs decide only where parts of its arrays lie, and who computes what.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from math import prod

from weft.compiler.errors import ShapeError, WeftError
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import TensorType

__all__ = ["Layout", "Mesh", "Spec", "check_spec", "mesh", "spec"]


@dataclass(frozen=True)
class Mesh:
    """A grid of devices: the sizes of its axes, and their names."""

    shape: tuple[int, ...]
    axes: tuple[str, ...]

    @property
    def size(self) -> int:
        """The number of places."""
        return prod(self.shape)

    def extent(self, axis: str) -> int:
        """The size of the axis of this name."""
        return self.shape[self.axes.index(axis)]

    def __str__(self) -> str:
        return " x ".join(f"{name}={n}" for name, n in zip(self.axes, self.shape))


class Spec:
    """How an array is divided: for each of its axes, the mesh's axes along which it is.

    Axes behind the last one that is named are not divided. Where none is, every place has the whole
    array.
    """

    __slots__ = ("axes",)

    def __init__(self, axes: tuple[tuple[str, ...], ...]) -> None:
        self.axes = axes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.axes == other.axes

    def __hash__(self) -> int:
        return hash(self.axes)

    def __repr__(self) -> str:
        shown = [None if not a else a[0] if len(a) == 1 else a for a in self.axes]
        return f"spec({', '.join(map(repr, shown))})"


@dataclass(frozen=True)
class Layout:
    """Where the arrays of a graph lie: a spec for each parameter, and for each result, None where
    the device may choose."""

    mesh: Mesh
    params: tuple[Spec, ...]
    results: tuple[Spec | None, ...]


def mesh(shape: Sequence[int], axes: Sequence[str]) -> Mesh:
    """A mesh of devices, which `weft.jit` takes.

    Args:
        shape: how many devices along each axis.
        axes: the axes' names, which specs use.

    Raises `ShapeError` for names and sizes that do not go together.

    >>> import weft
    >>> weft.mesh((4, 2), ("data", "model"))
    Mesh(shape=(4, 2), axes=('data', 'model'))
    """
    shape, axes = tuple(shape), tuple(axes)
    if len(shape) != len(axes):
        raise ShapeError(f"weft.mesh got {len(shape)} size(s) and {len(axes)} name(s)",
                         expected="a name for each axis")
    if any(not isinstance(n, int) or n < 1 for n in shape):
        raise ShapeError(f"weft.mesh got the sizes {list(shape)}", expected="positive numbers")
    if len(set(axes)) != len(axes) or not all(isinstance(a, str) and a for a in axes):
        raise ShapeError(f"weft.mesh got the names {list(axes)}", expected="different names")
    return Mesh(shape, axes)


def spec(*axes: str | Sequence[str] | None) -> Spec:
    """How an array lies on a mesh: for each of its axes a mesh axis, several, or None.

    ``spec("data")`` divides rows along the mesh's axis ``data``, ``spec(None, "model")`` columns
    along ``model``, ``spec(("data", "model"))`` rows along both; ``spec()`` divides nothing.

    >>> import weft
    >>> weft.spec("data", None)
    spec('data', None)
    """
    for a in axes:
        names = (a,) if isinstance(a, str) else a
        if names is not None and (isinstance(names, bytes) or not isinstance(names, Sequence)
                                  or not all(isinstance(n, str) for n in names)):
            raise ShapeError(f"weft.spec got {a!r}", expected="names of mesh axes, or None")
    return Spec(tuple(() if a is None else (a,) if isinstance(a, str) else tuple(a)
                      for a in axes))


def check_spec(on: Mesh, given: Spec, type: TensorType, what: str) -> None:
    """Raise the error for a spec that does not fit the mesh, or the array called `what`."""
    named = [name for names in given.axes for name in names]
    for name in named:
        if name not in on.axes:
            raise _unknown_axis(on, name, what)
        if named.count(name) > 1:
            raise ShapeError(f"{what}: {given} names the mesh axis {name!r} twice",
                             expected="each mesh axis at most once")
    if len(given.axes) > type.rank:
        raise ShapeError(f"{what} is {type}, its {given} is for {len(given.axes)} axes",
                         expected=f"at most {type.rank}")
    for axis, (names, size) in enumerate(zip(given.axes, type.shape)):
        parts = prod(on.extent(n) for n in names)
        if not isinstance(size, int) or size % parts:
            raise ShapeError(
                f"{what} is {type}: axis {axis} of size {size} does not divide into {parts} "
                f"parts, along {' and '.join(map(repr, names))} of the mesh {on}",
                expected=f"a multiple of {parts}", repair="pad the axis, or divide another one")


def _unknown_axis(on: Mesh, name: str, what: str) -> WeftError:
    near = difflib.get_close_matches(name, on.axes, 1)
    return ShapeError(f"{what}: there is no mesh axis {name!r}",
                      expected=f"one of {', '.join(map(repr, on.axes))}",
                      repair=f"did you mean {near[0]!r}?" if near else None)
