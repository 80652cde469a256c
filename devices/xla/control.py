"""Branches and loops: `lax.switch`, `lax.while_loop`, `lax.scan`.

Where a body may fail, the status of the program is one more value that goes through it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import lax

from weft.compiler.ir import Graph
from weft.devices.xla.program import Site, may_fail
from weft.devices.xla.tools import Lowering, both, like, pick

__all__ = ["CONTROL"]


def _enter(site: Site, fails: bool) -> tuple[Any, ...]:
    """The status as values for a body, none where it cannot change."""
    if not fails:
        return ()
    code, value = site.walk.status
    return lax.convert_element_type(code, np.int32), lax.convert_element_type(value, np.int64)


def _run(site: Site, graph: Graph, status: tuple[Any, ...], operands: Any
         ) -> tuple[tuple[Any, ...], list[Any]]:
    """The status after a body, and its results."""
    walk = site.walk.inside((status[0], status[1]) if status else site.walk.status)
    results = walk.evaluate(graph, list(operands), site.sizes)
    return (walk.status if status else ()), results


def _leave(site: Site, status: tuple[Any, ...]) -> None:
    if status:
        site.walk.status = (status[0], status[1])


def _case(site: Site, index: Any, *operands: Any) -> Any:
    branches = site.node.attrs["branches"]
    last = len(branches) - 1
    inside = both(lax.ge(index, like(index, 0)), lax.le(index, like(index, last)))
    status = _enter(site, any(map(may_fail, branches)))

    def branch(graph: Graph) -> Any:
        return lambda status, operands: _run(site, graph, status, operands)

    status, results = lax.switch(pick(inside, index, last), [branch(g) for g in branches],
                                 status, operands)
    _leave(site, status)
    return results


def _while(site: Site, *operands: Any) -> Any:
    n, cond, body = (site.node.attrs[k] for k in ("carries", "cond", "body"))
    fixed = operands[n:]
    status = _enter(site, may_fail(body) or may_fail(cond))
    checks_in_cond = may_fail(cond)

    def going(state: Any) -> Any:
        before, carries = state
        _, results = _run(site, cond, before, (*carries, *fixed))
        if not checks_in_cond:
            return results[0]
        return both(results[0], lax.eq(before[0], like(before[0], 0)))

    def turn(state: Any) -> Any:
        before, carries = state
        if checks_in_cond:
            before, _ = _run(site, cond, before, (*carries, *fixed))
        return _run(site, body, before, (*carries, *fixed))

    status, results = lax.while_loop(going, turn, (status, list(operands[:n])))
    _leave(site, status)
    return results


def _scan(site: Site, *operands: Any) -> Any:
    c, m, body = (site.node.attrs[k] for k in ("consts", "carries", "body"))
    fixed, xs = operands[:c], operands[c + m:]
    status = _enter(site, may_fail(body))

    def turn(state: Any, row: Any) -> Any:
        before, carries = state
        after, results = _run(site, body, before, (*fixed, *carries, *row))
        return (after, results[:m]), results[m:]

    (status, carries), stacks = lax.scan(turn, (status, list(operands[c:c + m])), xs,
                                         length=site.attrs["length"],
                                         reverse=bool(site.attrs["reverse"]))
    _leave(site, status)
    return [*carries, *stacks]


CONTROL: dict[str, Lowering] = {"case": _case, "while": _while, "scan": _scan}
