"""The signature of a native entry for a compiled function, where it can have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import replace
from weft.compiler.types import TensorType
from weft.devices.cpu.compiled import Facts
from weft.devices.cpu.entry_spec import EntrySpec, Param, Result
from weft.runtime.executable import Output

__all__ = ["EntrySpec", "Structure", "entry_spec"]

Structure = Literal["single", "tuple", "list"]

_LONG = 1_000_000           # operations and bytes from which other threads may run meanwhile
_PARAMS: Mapping[str, Any] = {"array": "array", "scalar": "npscalar", "float": "pyfloat",
                              "int": "pyint", "bool": "pybool", "complex": "pycomplex"}
_RESULTS: Mapping[str, Any] = {**_PARAMS, "scalar": "scalar"}


def entry_spec(params: Sequence[tuple[str, TensorType]], specialized: Mapping[int, object],
               outputs: Sequence[Output], graph: Graph, structure: Structure | None,
               facts: Facts) -> EntrySpec | None:
    """The signature of an entry, or None where only Python can make the call.

    `params` are the kinds (see `ArgSpec`) and types of the arguments, `specialized` the values that
    some must have; `graph` is what was traced, `facts` are about what was compiled of it.
    """
    results = [o.index for o in outputs if o.kind in _RESULTS]
    if structure is None or len(results) != len(outputs) or (
            results != list(range(len(graph.results)))) or (
            len(set(facts.order)) != len(graph.results)):
        return None
    given = [_param(kind, type, specialized.get(i, _TRACED))
             for i, (kind, type) in enumerate(params)]
    if any(p is None for p in given):
        return None
    over = {-1 - i for i in facts.order if i < 0}
    if over and (facts.statuses or any(p is not None and p.kind != "array" for i, p in
                                       enumerate(given) if i in over)):
        return None     # what looks into a failure would find arguments overwritten
    return EntrySpec(
        tuple(replace(p, writeable=True) if i in over else p
              for i, p in enumerate(given) if p is not None),
        tuple(Result("alias", n.dtype, n.shape, param=-1 - at) if at < 0 else
              Result(_RESULTS[o.kind], n.dtype, n.shape)
              for o, n, at in zip(outputs, graph.results, facts.order)),
        structure, sizes=graph.symbols, status=bool(facts.statuses),
        release_gil=facts.work is None or facts.work >= _LONG)


_TRACED = object()


def _param(kind: str, type: TensorType, value: object) -> Param | None:
    if value is _TRACED:
        return Param(_PARAMS[kind], type.dtype, type.shape)
    if isinstance(value, bool):
        return Param("equal_bool", value=value)
    return Param("equal_int", value=value) if isinstance(value, int) else None
