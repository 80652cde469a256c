"""Transforms of programs: functions from graph to graph that compose to any order.

| module | transform |
|---|---|
| `jvp` | forward mode: results and their tangents |
| `transpose` | reverse mode: what is linear in the tangents, turned round |
| `batch` | the function mapped over a new first axis |
| `accumulate` | cotangents of parts, added up in place |
| `control`, `loops`, `calls` | the rules of branches, counted loops, other loops, calls |
| `late_products` | products that the turns of a loop add up, taken after it |
| `remat` | what is kept for the backward pass, and what computed again |
| `formula` | derivatives of elementwise ops, written as text |

The rules by op stand in the ops' declarations (`weft.compiler.ops`); see `Op` in
`weft.compiler.ops.registry` for how they are called.
"""

from weft.compiler.inline import inline, zeros
from weft.compiler.transforms.batch import batch, batch_into
from weft.compiler.transforms.jvp import instantiate, jvp, push_forward
from weft.compiler.transforms.transpose import (
    LinearMap,
    linear_map,
    pull_back,
    transposed,
    vjp,
)

__all__ = ["LinearMap", "batch", "batch_into", "inline", "instantiate", "jvp",
           "linear_map", "pull_back", "push_forward", "transposed", "vjp", "zeros"]
