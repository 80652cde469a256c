"""A slow path for the few lanes that the straight one cannot serve: libm, lane by lane.

The call stands in a helper function, written once a module (`Emitter.helpers`) and marked cold, so
that kernels carry one test and one call for it.
"""

from __future__ import annotations

from weft.devices.cpu.emit import Emitter, Val

__all__ = ["any_lane", "libm_where"]


def any_lane(e: Emitter, mask: Val) -> Val:
    """Whether the mask is true in any lane, as one `i1`."""
    if mask.lanes == 1:
        return mask
    reduce = f"@llvm.vector.reduce.or.v{mask.lanes}i1"
    e.declares.add(f"declare i1 {reduce}({mask.type})")
    return e.assign(f"call i1 {reduce}({mask.type} {mask.ref})", "i1")


def libm_where(e: Emitter, symbol: str, mask: Val, usual: Val, *args: Val) -> Val:
    """`usual`, but in the lanes of `mask` the double-precision libm function of the args.

    A lane's value does not depend on the others': only masked lanes take libm's.
    """
    helper = f"weft_rare_{symbol}_{usual.dtype}x{usual.lanes}"
    values = (mask, usual, *args)
    if helper not in e.helpers:
        e.helpers[helper] = _helper_text(e, helper, symbol, values)
    yes, done, before = e.fresh("rare"), e.fresh("usual"), e.block
    e.branch(any_lane(e, mask), yes, done)
    e.label(yes)
    slow = e.assign(f"call {usual.type} @{helper}("
                    + ", ".join(f"{v.type} {v.ref}" for v in values) + ")",
                    usual.dtype, usual.lanes)
    e.jump(done)
    e.label(done)
    return e.assign(f"phi {usual.type} [{usual.ref}, %{before}], [{slow.ref}, %{yes}]",
                    usual.dtype, usual.lanes)


def _helper_text(e: Emitter, helper: str, symbol: str, like: tuple[Val, ...]) -> str:
    """The definition of `helper(mask, usual, args…)`, of the types of `like`."""
    inner = Emitter(e.target)
    mask, usual, *args = (inner.arg(f"a{k}", v.dtype, v.lanes) for k, v in enumerate(like))
    with inner.loop(0, usual.lanes, carry=[usual]) as lane:
        wide = (inner.convert(inner.extract(a, lane.i), "f64") for a in args)
        value = inner.convert(inner.call(symbol, "f64", *wide), usual.dtype)
        value = inner.select(inner.extract(mask, lane.i), value, inner.extract(usual, lane.i))
        old = lane.carry[0]
        lane.next = [value if old.lanes == 1 else inner.assign(
            f"insertelement {old.type} {old.ref}, {value.type} {value.ref}, i64 {lane.i.ref}",
            old.dtype, old.lanes)]
    inner.write(f"ret {usual.type} {lane.out[0].ref}")
    e.declares |= inner.declares
    parameters = ", ".join(f"{v.type} %a{k}" for k, v in enumerate(like))
    return (f"define internal {usual.type} @{helper}({parameters}) cold noinline {{\nentry:\n"
            f"{inner.body()}\n}}")
