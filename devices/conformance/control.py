"""Graphs of loops and branches, and arguments for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from weft.compiler.ir import Graph
from weft.compiler.text import parse

__all__ = ["DUPLICATES", "GATHER", "HEAVY", "NESTED", "ROTATE", "SWAP", "SYMBOLIC",
           "SYMBOLIC_SIZES", "WRITES", "control_cases", "symbolic_arguments", "types_graph"]

Array = np.ndarray[Any, Any]

SWAP = """graph @swap(%x: f32[5], %y: f32[5]) -> (f32[5], f32[5], f32[7, 5]) {
  %s = scan %x, %y {
    body=graph @body(%a: f32[5], %b: f32[5]) -> (f32[5], f32[5], f32[5]) {
      %c = add %a, %b : f32[5]
      return %b, %a, %c
    },
    consts=0, carries=2, length=7, reverse=false
  } : (f32[5], f32[5], f32[7, 5])
  %0 = get %s {index=0} : f32[5]
  %1 = get %s {index=1} : f32[5]
  %2 = get %s {index=2} : f32[7, 5]
  return %0, %1, %2
}"""

ROTATE = """graph @rotate(%x: i32[], %y: i32[], %z: i32[], %n: i64[]) -> (i32[], i32[], i32[]) {
  %w = while %x, %y, %z, 0:i64, %n {
    cond=graph @cond(%a: i32[], %b: i32[], %c: i32[], %i: i64[], %n: i64[]) -> (bool[]) {
      %t = lt %i, %n : bool[]
      return %t
    },
    body=graph @body(%a: i32[], %b: i32[], %c: i32[], %i: i64[], %n: i64[])
        -> (i32[], i32[], i32[], i64[]) {
      %j = add %i, 1:i64 : i64[]
      return %b, %c, %a, %j
    },
    carries=4
  } : (i32[], i32[], i32[], i64[])
  %0 = get %w {index=0} : i32[]
  %1 = get %w {index=1} : i32[]
  %2 = get %w {index=2} : i32[]
  return %0, %1, %2
}"""

DUPLICATES = """graph @duplicates(%x: f64[3], %k: f64[3])
    -> (f64[3], f64[3], f64[4, 3], f64[4, 3], f64[4], f64[4, 3]) {
  %s = scan %k, %x, %x {
    body=graph @body(%k: f64[3], %a: f64[3], %b: f64[3])
        -> (f64[3], f64[3], f64[3], f64[3], f64[], f64[3]) {
      %c = add %a, %k : f64[3]
      return %c, %b, %c, %c, 2.5:f64, %k
    },
    consts=1, carries=2, length=4, reverse=false
  } : (f64[3], f64[3], f64[4, 3], f64[4, 3], f64[4], f64[4, 3])
  %0 = get %s {index=0} : f64[3]
  %1 = get %s {index=1} : f64[3]
  %2 = get %s {index=2} : f64[4, 3]
  %3 = get %s {index=3} : f64[4, 3]
  %4 = get %s {index=4} : f64[4]
  %5 = get %s {index=5} : f64[4, 3]
  return %0, %1, %2, %3, %4, %5
}"""

NESTED = """graph @nested(%i: i32[], %x: f64[4], %n: i64[]) -> (f64[4], f64[]) {
  %c = case %i, %x, %n {
    branches=[
      graph @plain(%x: f64[4], %n: i64[]) -> (f64[4], f64[]) {
        return %x, 1.0:f64
      },
      graph @loop(%x: f64[4], %n: i64[]) -> (f64[4], f64[]) {
        %w = while %x, 0:i64, 0.0:f64, %n {
          cond=graph @cond(%x: f64[4], %i: i64[], %t: f64[], %n: i64[]) -> (bool[]) {
            %l = lt %i, %n : bool[]
            return %l
          },
          body=graph @body(%x: f64[4], %i: i64[], %t: f64[], %n: i64[])
              -> (f64[4], i64[], f64[]) {
            %s = scan %t, %x {
              body=graph @sum(%t: f64[], %v: f64[]) -> (f64[], f64[]) {
                %p = mul %v, 0.5:f64 : f64[]
                %u = add %t, %p : f64[]
                return %u, %u
              },
              consts=0, carries=1, length=4, reverse=true
            } : (f64[], f64[4])
            %u = get %s {index=0} : f64[]
            %y = get %s {index=1} : f64[4]
            %j = add %i, 1:i64 : i64[]
            %total = reduce_sum %y {axes=[0]} : f64[]
            %b = gt %total, 3.0:f64 : bool[]
            %k = convert %b {dtype=i32} : i32[]
            %z = case %k, %y, %u {
              branches=[
                graph @no(%y: f64[4], %u: f64[]) -> (f64[4], f64[]) {
                  return %y, %u
                },
                graph @yes(%y: f64[4], %u: f64[]) -> (f64[4], f64[]) {
                  %q = broadcast_in_dim %u {shape=[4], dims=[]} : f64[4]
                  %d = sub %y, %q : f64[4]
                  %m = neg %u : f64[]
                  return %d, %m
                }
              ]
            } : (f64[4], f64[])
            %z0 = get %z {index=0} : f64[4]
            %z1 = get %z {index=1} : f64[]
            return %z0, %j, %z1
          },
          carries=3
        } : (f64[4], i64[], f64[])
        %v = get %w {index=0} : f64[4]
        %t = get %w {index=2} : f64[]
        return %v, %t
      }
    ]
  } : (f64[4], f64[])
  %0 = get %c {index=0} : f64[4]
  %1 = get %c {index=1} : f64[]
  return %0, %1
}"""

HEAVY = """graph @heavy(%w: f32[40, 40], %x: f32[9, 40], %big: f64[200000])
    -> (f32[9, 40], f32[6, 9, 40], f64[6], f64[200000]) {
  %s = scan %w, %x, %big {
    body=graph @body(%w: f32[40, 40], %x: f32[9, 40], %big: f64[200000])
        -> (f32[9, 40], f64[200000], f32[9, 40], f64[]) {
      %y = dot_general %x, %w {contract=[[1], [0]], batch=[[], []]} : f32[9, 40]
      %t = tanh %y : f32[9, 40]
      %o = sort %t {axis=1, stable=false} : f32[9, 40]
      %c = cumsum %o {axis=0} : f32[9, 40]
      %m = mul %big, 1.5:f64 : f64[200000]
      %r = reduce_sum %m {axes=[0]} : f64[]
      return %t, %m, %c, %r
    },
    consts=1, carries=2, length=6, reverse=false
  } : (f32[9, 40], f64[200000], f32[6, 9, 40], f64[6])
  %0 = get %s {index=0} : f32[9, 40]
  %3 = get %s {index=1} : f64[200000]
  %1 = get %s {index=2} : f32[6, 9, 40]
  %2 = get %s {index=3} : f64[6]
  return %0, %1, %2, %3
}"""

SYMBOLIC = """graph @symbolic(%x: f32[T, B, 3], %h: f32[B, 3]) -> (f32[B, 3], f32[T, B, 3], i64[]) {
  %s = scan %h, 0:i64, %x {
    body=graph @body(%h: f32[B, 3], %k: i64[], %x: f32[B, 3]) -> (f32[B, 3], i64[], f32[B, 3]) {
      %a = add %h, %x : f32[B, 3]
      %f = tanh %a : f32[B, 3]
      %g = sort %f {axis=0, stable=false} : f32[B, 3]
      %n = size {size=T*B} : i64[]
      %j = add %k, %n : i64[]
      return %g, %j, %a
    },
    consts=0, carries=2, length=T, reverse=true
  } : (f32[B, 3], i64[], f32[T, B, 3])
  %0 = get %s {index=0} : f32[B, 3]
  %1 = get %s {index=2} : f32[T, B, 3]
  %2 = get %s {index=1} : i64[]
  return %0, %1, %2
}"""


WRITES = """graph @writes(%x: f64[6], %n: i64[]) -> (f64[6], f64[6], f64[4, 6]) {
  %w = while %x, 0:i64, %n {
    cond=graph @cond(%x: f64[6], %i: i64[], %n: i64[]) -> (bool[]) {
      %t = lt %i, %n : bool[]
      return %t
    },
    body=graph @body(%x: f64[6], %i: i64[], %n: i64[]) -> (f64[6], i64[]) {
      %j = add %i, 1:i64 : i64[]
      %r = reduce_sum %x {axes=[0]} : f64[]
      %u = reshape %r {shape=[1]} : f64[1]
      %y = dynamic_update_slice %x, %u, %i : f64[6]
      return %y, %j
    },
    carries=2
  } : (f64[6], i64[])
  %s = scan %x {
    body=graph @body(%x: f64[6]) -> (f64[6], f64[6]) {
      %u = slice %x {start=[2], limit=[4], stride=[1]} : f64[2]
      %v = neg %u : f64[2]
      %y = dynamic_update_slice %x, %v, 1:i64 : f64[6]
      return %y, %x
    },
    consts=0, carries=1, length=4, reverse=false
  } : (f64[6], f64[4, 6])
  %0 = get %w {index=0} : f64[6]
  %1 = get %s {index=0} : f64[6]
  %2 = get %s {index=1} : f64[4, 6]
  return %0, %1, %2
}"""


def types_graph(dtype: str, shape: str) -> str:
    """A scan and a branch whose carries are of this type, moved about but not computed with."""
    t = f"{dtype}[{shape}]"
    return f"""graph @types(%x: {t}, %y: {t}, %i: i32[]) -> ({t}, {t}, {t}) {{
  %s = scan %i, %x, %y {{
    body=graph @body(%i: i32[], %a: {t}, %b: {t}) -> ({t}, {t}) {{
      %c = case %i, %a, %b {{
        branches=[
          graph @one(%a: {t}, %b: {t}) -> ({t}, {t}) {{
            return %b, %a
          }},
          graph @two(%a: {t}, %b: {t}) -> ({t}, {t}) {{
            return %a, %a
          }}
        ]
      }} : ({t}, {t})
      %p = get %c {{index=0}} : {t}
      %q = get %c {{index=1}} : {t}
      return %p, %q
    }},
    consts=1, carries=2, length=3, reverse=false
  }} : ({t}, {t})
  %0 = get %s {{index=0}} : {t}
  %1 = get %s {{index=1}} : {t}
  return %0, %1, %0
}}"""


GATHER = """graph @gather(%x: f32[4], %n: i64[]) -> (f32[]) {
  %w = while 0:i64, 0.0:f32, %x, %n {
    cond=graph @cond(%i: i64[], %s: f32[], %x: f32[4], %n: i64[]) -> (bool[]) {
      %t = lt %i, %n : bool[]
      return %t
    },
    body=graph @body(%i: i64[], %s: f32[], %x: f32[4], %n: i64[]) -> (i64[], f32[]) {
      %v = gather %x, %i {axes=[0], position=0, mode="raise"} : f32[]  # model.py:7
      %u = add %s, %v : f32[]
      %j = add %i, 1:i64 : i64[]
      return %j, %u
    },
    carries=2
  } : (i64[], f32[])
  %0 = get %w {index=1} : f32[]
  return %0
}"""


_DTYPES = ("bool", "i8", "u16", "i64", "f16", "bf16", "f32", "f64", "c64", "c128")
SYMBOLIC_SIZES = ((4, 5), (0, 2), (1, 1), (3, 0), (2, 300), (5, 64))
"""Sizes T and B to run `SYMBOLIC` for."""


def control_cases() -> Iterator[tuple[str, Graph, list[Array], float]]:
    """A label, a graph, arguments and the tolerance that its sums and functions need."""
    for label, text, arguments, rtol in _written():
        yield label, parse(text), [np.asarray(a) for a in arguments], rtol
    for dtype in _DTYPES:
        for shape in ("", "3", "2, 0"):
            graph = parse(types_graph(dtype, shape))
            x, y = _moved(graph)
            for i in (0, 1):
                yield f"types-{dtype}-{len(shape)}-{i}", graph, [x, y, np.asarray(np.int32(i))], 0.0


def _written() -> Iterator[tuple[str, str, list[Any], float]]:
    yield "swap", SWAP, [np.arange(5, dtype=np.float32), -np.ones(5, np.float32)], 1e-6
    for n in (0, 1, 2, 3, 7):
        yield f"rotate-{n}", ROTATE, [np.int32(1), np.int32(2), np.int32(3), np.int64(n)], 0.0
    yield "duplicates", DUPLICATES, [np.array([1.0, -0.0, np.inf]), np.array([0.5, 2.0, 1.0])], 1e-6
    for i in (0, 1, 5, -1):
        for n in (0, 1, 6):
            yield f"nested-{i}-{n}", NESTED, [
                np.int32(i), np.array([1.0, 2.0, -1.0, 0.5]), np.int64(n)], 1e-6
    for n in (0, 1, 5):
        yield f"writes-{n}", WRITES, [np.arange(6.0), np.array(n)], 1e-6
    rng = np.random.default_rng(0)
    yield "heavy", HEAVY, [(rng.standard_normal((40, 40)) / 6).astype(np.float32),
                           rng.standard_normal((9, 40)).astype(np.float32),
                           rng.standard_normal(200000)], 3e-4
    yield "gather-4", GATHER, [np.arange(4, dtype=np.float32), np.int64(4)], 1e-6


def _moved(graph: Graph) -> list[Array]:
    rng = np.random.default_rng(2)
    like = graph.params[0].tensor
    size = tuple(d for d in like.shape if isinstance(d, int))
    top = 2 if like.dtype.kind == "bool" else 90
    return [np.asarray(rng.integers(0, top, size)).astype(like.dtype.numpy) for _ in range(2)]


def symbolic_arguments(t: int, b: int) -> list[Array]:
    """Arguments for `SYMBOLIC` where T and B are these."""
    rng = np.random.default_rng(1)
    return [rng.standard_normal((t, b, 3)).astype(np.float32),
            rng.standard_normal((b, 3)).astype(np.float32)]
