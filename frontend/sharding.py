"""Functions on a mesh of devices: specs of arguments and results, as the graph's own.

`in_specs` and `out_specs` follow the containers of arguments and results, or end before them: a
spec for a dict of weights is that of every weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weft.compiler.errors import ShapeError, UnsupportedError, caller_origin
from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import dataclass
from weft.devices.mesh import Layout, Mesh, Spec, check_spec
from weft.devices.protocol import Device, DeviceError, Lowered
from weft.devices.registry import device_id
from weft.frontend.pytree import LEAF, Tree, children, leaf_paths, tree_text
from weft.frontend.statics import Static

if TYPE_CHECKING:
    from weft.frontend.stages import OptimizedStage

__all__ = ["MeshOptions", "lower_sharded", "mesh_options"]

_WHOLE = Spec(())


@dataclass(frozen=True)
class MeshOptions:
    """What `weft.jit` was given about a mesh."""

    mesh: Mesh
    in_specs: Any
    out_specs: Any


def mesh_options(mesh: Mesh | None, in_specs: Any, out_specs: Any) -> MeshOptions | None:
    """The options, or None where there is no mesh. Raises `UnsupportedError` for specs alone."""
    if mesh is None:
        if in_specs is not None or out_specs is not None:
            raise UnsupportedError("weft.jit got in_specs or out_specs without a mesh",
                                   expected="mesh=weft.mesh(shape, names)",
                                   origin=caller_origin())
        return None
    if not isinstance(mesh, Mesh):
        raise UnsupportedError(f"weft.jit got a {type(mesh).__name__} as its mesh",
                               expected="weft.mesh(shape, names)", origin=caller_origin())
    return MeshOptions(mesh, in_specs, out_specs)


def lower_sharded(stage: OptimizedStage, device: Device, given: MeshOptions) -> Lowered:
    """The device's program for the graph on a mesh."""
    lower = getattr(device, "lower_sharded", None)
    if lower is None:
        raise DeviceError(f"device {device_id(device)!r} has no meshes", origin=caller_origin(),
                          expected="device='xla', 'tpu', or another that spans several machines")
    if stage.graph.symbols:
        raise ShapeError(f"sizes are left open ({', '.join(stage.graph.symbols)}) of a function "
                         "on a mesh", expected="known sizes", repair="leave out shapes=",
                         origin=caller_origin())
    try:
        lowered: Lowered = lower(stage.graph, stage.options.target(), stage.before.source.donated,
                                 _layout(stage, given))
    except (ShapeError, DeviceError) as error:
        error.origin = error.origin or caller_origin()
        raise
    return lowered


def _layout(stage: OptimizedStage, given: MeshOptions) -> Layout:
    graph, call = stage.graph, stage.before.source.call
    name = call.function
    specs: list[Spec] = []
    prefixes = _by_argument(call.names, given, name)
    for argument, tree, prefix in zip(call.names, call.trees, prefixes):
        paths = leaf_paths(tree, argument)
        for path, found in zip(paths, _spread(prefix, tree, f"in_specs of {argument!r}")):
            check_spec(given.mesh, found, graph.params[len(specs)].tensor, f"{path!r} of {name}")
            specs.append(found)
    specs += [_WHOLE] * (len(graph.params) - len(specs))        # arrays from outside
    return Layout(given.mesh, tuple(specs), _results(stage, graph, given, name))


def _by_argument(names: Sequence[str], given: MeshOptions, function: str) -> list[Any]:
    """The specs of each argument, by position or by name."""
    specs = given.in_specs
    if specs is None or isinstance(specs, Spec):
        return [specs] * len(names)
    if isinstance(specs, Mapping):
        unknown = [n for n in specs if n not in names]
        if unknown:
            raise ShapeError(f"in_specs has {unknown[0]!r}, which is no argument of {function}",
                             expected=", ".join(map(repr, names)))
        return [specs.get(n) for n in names]
    if not isinstance(specs, (tuple, list)) or len(specs) != len(names):
        count = len(specs) if isinstance(specs, (tuple, list)) else "no"
        raise ShapeError(f"in_specs has {count} entries, {function} got {len(names)} argument(s)",
                         expected="one for each argument, or a dict by argument")
    return list(specs)


def _results(stage: OptimizedStage, graph: Graph, given: MeshOptions, name: str
             ) -> tuple[Spec | None, ...]:
    """A spec for each result of the graph; None where none was given."""
    traced = stage.before.traced
    found: list[Spec | None] = [None] * len(graph.results)
    if given.out_specs is None:
        return tuple(found)
    paths = leaf_paths(traced.tree, "the result")
    wanted = _spread(given.out_specs, traced.tree, "out_specs")
    for path, spec, result in zip(paths, wanted, traced.traced.results):
        if result.kind not in ("argument", "static") and found[result.index] is None:
            check_spec(given.mesh, spec, graph.results[result.index].tensor, f"{path} of {name}")
            found[result.index] = spec
    return tuple(found)


def _spread(prefix: Any, tree: Tree, what: str) -> Iterator[Spec]:
    """The spec of each leaf of a tree."""
    if isinstance(tree, Static):
        return
    if prefix is None or isinstance(prefix, Spec):
        yield from [prefix or _WHOLE] * len(leaf_paths(tree))
        return
    held = children(prefix)
    if held is None or tree is LEAF or type(prefix) is not tree[0] or held[1] != tree[1] \
            or len(held[0]) != len(tree) - 2:
        shown = "an array" if tree is LEAF else tree_text(tree)
        raise ShapeError(f"{what} is {prefix!r}, where there is {shown}",
                         expected="a spec, None for a whole array, or a container like that one")
    for sub, subtree in zip(held[0], tree[2:]):
        yield from _spread(sub, subtree, what)
