"""Reduction of huge angles modulo pi/2 (Payne and Hanek), off the straight path of trig.py.

|x| = m 2^e with an integer m of 53 bits. Of m 2^e 2/pi only the bits about the binary point matter:
a window of 256 bits of 2/pi, chosen by e, times m in integer arithmetic gives the quadrant and the
fraction to 2^-190, which outlasts any cancellation in float64 (2^-62).

It stands in a helper function, lane by lane, written once a module (`Emitter.helpers`) and cold.
"""

from __future__ import annotations

import math

from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.math.rare import any_lane
from weft.devices.cpu.math.tools import bits, pair_product, pair_sum

__all__ = ["reduce_far"]

# 2/pi times 2^SCALE, rounded down.
SCALE = 1224
TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09"
    "d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff8"
    "97ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292"
    "ea6bfb5fb11f8d5d0856033046fc7b6babf0", 16)
TABLE = "weft_two_over_pi"
TABLE_BYTES = 192
POINT = 247              # bits of fraction in the window: 256 less 2, and 7 for the byte's shift
HALF_PI = (1.5707963267948966, 6.123233995736766e-17)


def reduce_far(e: Emitter, far: Val, a: Val, usual: tuple[Val, ...]) -> tuple[Val, ...]:
    """The `usual` n, r (and rest), but those of the helper in the lanes of `far`, if there are any.

    a = |x| = n pi/2 + r + rest, with |r| <= pi/4; only the low two bits of the integer n count.
    """
    helper = f"weft_far_{len(usual)}_{a.dtype}x{a.lanes}"
    values = (far, a, *usual)
    result = "{ " + ", ".join(v.type for v in usual) + " }"
    if helper not in e.helpers:
        data = TWO_OVER_PI.to_bytes(TABLE_BYTES, "little")
        e.helpers[TABLE] = (f"@{TABLE} = internal constant [{TABLE_BYTES} x i8] c\""
                            + "".join(f"\\{byte:02X}" for byte in data) + '"')
        e.helpers[helper] = _helper_text(e, helper, result, values)
    yes, done, before = e.fresh("far"), e.fresh("near"), e.block
    e.branch(any_lane(e, far), yes, done)
    e.label(yes)
    slow = e.assign(f"call {result} @{helper}("
                    + ", ".join(f"{v.type} {v.ref}" for v in values) + ")", a.dtype)
    parts = [e.assign(f"extractvalue {result} {slow.ref}, {k}", v.dtype, v.lanes)
             for k, v in enumerate(usual)]
    e.jump(done)
    e.label(done)
    return tuple(e.assign(f"phi {v.type} [{v.ref}, %{before}], [{p.ref}, %{yes}]",
                          v.dtype, v.lanes) for v, p in zip(usual, parts))


def _helper_text(e: Emitter, helper: str, result: str, like: tuple[Val, ...]) -> str:
    """The definition of the helper, for arguments of the types of `like`."""
    inner = Emitter(e.target)
    far, a, *usual = (inner.arg(f"a{k}", v.dtype, v.lanes) for k, v in enumerate(like))
    with inner.loop(0, a.lanes, carry=usual) as lane:
        here = inner.extract(far, lane.i)
        x = inner.convert(inner.extract(a, lane.i), "f64")
        n, r, rest = _reduce_one(inner, inner.select(here, x, 1e30))
        narrow = inner.convert(r, a.dtype)
        new = [inner.convert(n, usual[0].dtype), narrow]
        if len(usual) == 3:
            rest = rest if a.dtype == "f64" else r - inner.convert(narrow, "f64")
            new.append(inner.convert(rest, a.dtype))
        lane.next = [_insert(inner, old, lane.i, inner.select(here, v, inner.extract(old, lane.i)))
                     for old, v in zip(lane.carry, new)]
    out = "poison"
    for k, v in enumerate(lane.out):
        out = inner.assign(f"insertvalue {result} {out}, {v.type} {v.ref}, {k}", "ptr").ref
    inner.write(f"ret {result} {out}")
    e.declares |= inner.declares
    parameters = ", ".join(f"{v.type} %a{k}" for k, v in enumerate(like))
    return (f"define internal {result} @{helper}({parameters}) cold noinline {{\nentry:\n"
            f"{inner.body()}\n}}")


def _insert(e: Emitter, a: Val, lane: Val, x: Val) -> Val:
    """a with the lane of this (variable) number replaced."""
    if a.lanes == 1:
        return x
    return e.assign(f"insertelement {a.type} {a.ref}, {x.type} {x.ref}, i64 {lane.ref}",
                    a.dtype, a.lanes)


def _reduce_one(e: Emitter, x: Val) -> tuple[Val, Val, Val]:
    """n, r and rest of a float64 scalar x >= 2^10 (n as i64); NaN for inf."""
    i = bits(e, x)
    m = (i & ((1 << 52) - 1)) | (1 << 52)
    # The lowest bit of 2/pi 2^SCALE that the window holds, for x = m 2^(field - 1075).
    first = (SCALE - POINT + 1075) - (i >> 52)
    byte = e.gep(Val(e, f"@{TABLE}", "ptr"), first >> 3, "u8")
    window = e.assign(f"load i256, ptr {byte.ref}, align 1", "ptr")
    shift = e.assign(f"zext i64 {(first & 7).ref} to i256", "ptr")
    window = e.assign(f"lshr i256 {window.ref}, {shift.ref}", "ptr")
    factor = e.assign(f"zext i64 {m.ref} to i256", "ptr")
    product = e.assign(f"mul i256 {window.ref}, {factor.ref}", "ptr")
    # The fraction to the top, where its first bit is a sign: it rounds to the nearest quadrant.
    fraction = e.assign(f"shl i256 {product.ref}, {256 - POINT}", "ptr")

    def chunk(start: int, how: str) -> Val:
        """48 bits of the fraction, which a float64 holds exactly, at their value."""
        moved = e.assign(f"{how} i256 {fraction.ref}, {start}", "ptr")
        word = e.assign(f"trunc i256 {moved.ref} to i64", "i64")
        word = word if how == "ashr" else word & ((1 << 48) - 1)
        return e.convert(word, "f64") * 2.0 ** (start - 256)

    quadrant = e.assign(f"lshr i256 {product.ref}, {POINT}", "ptr")
    quadrant = e.assign(f"trunc i256 {quadrant.ref} to i64", "i64")
    top = chunk(208, "ashr")
    n = quadrant + e.convert(top < 0.0, "i64")
    high, low = pair_sum(top, chunk(160, "lshr"))
    high, low = pair_sum(high, low + (chunk(112, "lshr") + chunk(64, "lshr")))
    r, r_rest = pair_product(e, high, e.like(high, HALF_PI[0]))
    r, rest = pair_sum(r, r_rest + (high * HALF_PI[1] + low * HALF_PI[0]))
    return n, e.select(x < math.inf, r, math.nan), rest
