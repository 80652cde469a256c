"""What the passes make of branches and loops."""

from __future__ import annotations

import numpy as np
import pytest

from weft.compiler.ir import Graph
from weft.compiler.passes import PASSES, SimplifyControl, run_pipeline
from weft.compiler.target import Target
from weft.compiler.text import parse
from weft.compiler.verify import verify
from weft.devices.conformance import control as texts
from weft.devices.reference import evaluate


def simplified(text: str, *arrays: object) -> Graph:
    """The graph after the pass, which gives what it gave before."""
    graph = parse(text)
    out = SimplifyControl().run(graph, Target())
    verify(out)
    for a, b in zip(evaluate(out, arrays), evaluate(graph, arrays)):
        np.testing.assert_array_equal(a, b)
    assert SimplifyControl().run(out, Target()) is out
    return out


def test_a_constant_index_picks() -> None:
    out = simplified("""graph @f(%x: f32[3]) -> (f32[3]) {
      %c = case 1:i32, %x { branches=[
        graph @a(%x: f32[3]) -> (f32[3]) { %y = sin %x : f32[3] return %y },
        graph @b(%x: f32[3]) -> (f32[3]) { %y = cos %x : f32[3] return %y }] } : (f32[3])
      %g = get %c {index=0} : f32[3]
      return %g
    }""", np.ones(3, np.float32))
    assert [n.opname for n in out.nodes] == ["cos"]


def test_branches_without_what_they_do_not_need() -> None:
    out = simplified("""graph @f(%i: i32[], %x: f32[3], %y: f32[3]) -> (f32[3], f32[3], f32[]) {
      %c = case %i, %x, %y, %x, %y { branches=[
        graph @a(%p: f32[3], %q: f32[3], %r: f32[3], %u: f32[3])
            -> (f32[3], f32[3], f32[], f32[3]) {
          %s = add %p, %r : f32[3] return %s, %q, 1.0:f32, %u },
        graph @b(%p: f32[3], %q: f32[3], %r: f32[3], %u: f32[3])
            -> (f32[3], f32[3], f32[], f32[3]) {
          %t = sin %q : f32[3] return %r, %q, 1.0:f32, %t }]
      } : (f32[3], f32[3], f32[], f32[3])
      %0 = get %c {index=0} : f32[3]
      %1 = get %c {index=1} : f32[3]
      %2 = get %c {index=2} : f32[]
      return %0, %1, %2
    }""", np.int32(0), np.ones(3, np.float32), np.zeros(3, np.float32))
    assert out.text() == """\
graph @f(%i: i32[], %x: f32[3], %y: f32[3]) -> (f32[3], f32[3], f32[]) {
  %c = case %i, %x {
    branches=[
      graph @a(%p: f32[3]) -> (f32[3]) {
        %s = add %p, %p : f32[3]
        return %s
      },
      graph @b(%p: f32[3]) -> (f32[3]) {
        return %p
      }
    ]
  } : (f32[3])
  %0 = get %c {index=0} : f32[3]
  return %0, %y, 1.0:f32
}"""


def test_loops_without_what_they_do_not_need() -> None:
    out = simplified("""graph @f(%n: i64[], %x: f32[3], %k: f32[3]) -> (f32[3], f32[3]) {
      %w = while 0:i64, %x, %k, %x, %n, %k, %n {
        cond=graph @cond(%i: i64[], %a: f32[3], %b: f32[3], %d: f32[3], %n: i64[], %k: f32[3],
            %m: i64[]) -> (bool[]) { %t = lt %i, %m : bool[] return %t },
        body=graph @body(%i: i64[], %a: f32[3], %b: f32[3], %d: f32[3], %n: i64[], %k: f32[3],
            %m: i64[]) -> (i64[], f32[3], f32[3], f32[3]) {
          %j = add %i, 1:i64 : i64[]
          %s = add %a, %b : f32[3]
          %e = mul %d, %k : f32[3]
          return %j, %s, %b, %e },
        carries=4 } : (i64[], f32[3], f32[3], f32[3])
      %1 = get %w {index=1} : f32[3]
      %2 = get %w {index=2} : f32[3]
      return %1, %2
    }""", np.int64(3), np.ones(3, np.float32), np.ones(3, np.float32))
    (loop,) = [n for n in out.nodes if n.opname == "while"]
    assert loop.name == "w" and loop.attrs["carries"] == 2
    assert [p.name for p in loop.attrs["body"].params] == ["i", "a", "b", "n"]
    assert out.results[1].name == "k"


def test_scans_without_what_they_do_not_need() -> None:
    out = simplified("""graph @f(%x: f32[3], %xs: f32[5, 3])
        -> (f32[3], f32[5, 3], f32[5, 3], f32[5]) {
      %w = scan %x, %x, %x, %x, %xs, %xs {
        body=graph @body(%k: f32[3], %l: f32[3], %a: f32[3], %b: f32[3], %u: f32[3], %v: f32[3])
            -> (f32[3], f32[3], f32[3], f32[3], f32[], f32[3]) {
          %s = add %a, %l : f32[3]
          %t = add %s, %v : f32[3]
          return %t, %b, %u, %b, 2.0:f32, %s },
        consts=2, carries=2, length=5, reverse=true
      } : (f32[3], f32[3], f32[5, 3], f32[5, 3], f32[5], f32[5, 3])
      %0 = get %w {index=0} : f32[3]
      %2 = get %w {index=2} : f32[5, 3]
      %3 = get %w {index=3} : f32[5, 3]
      %4 = get %w {index=4} : f32[5]
      return %0, %2, %3, %4
    }""", np.ones(3, np.float32), np.arange(15, dtype=np.float32).reshape(5, 3))
    (loop,) = [n for n in out.nodes if n.opname == "scan"]
    assert [p.name for p in loop.attrs["body"].params] == ["k", "a", "u"]
    assert len(loop.type.elements) == 1
    assert out.results[1] is out.params[1]
    assert out.results[2].opname == out.results[3].opname == "broadcast_in_dim"


@pytest.mark.parametrize("length", [0, 1])
def test_short_scans_are_written_out(length: int) -> None:
    out = simplified(f"""graph @f(%x: f32[3], %xs: f32[{length}, 3])
        -> (f32[3], f32[{length}, 3]) {{
      %w = scan %x, %xs {{
        body=graph @body(%a: f32[3], %u: f32[3]) -> (f32[3], f32[3]) {{
          %s = add %a, %u : f32[3] return %s, %s }},
        consts=0, carries=1, length={length}, reverse=false }} : (f32[3], f32[{length}, 3])
      %0 = get %w {{index=0}} : f32[3]
      %1 = get %w {{index=1}} : f32[{length}, 3]
      return %0, %1
    }}""", np.ones(3, np.float32), np.ones((length, 3), np.float32))
    assert not any(n.opname == "scan" for n in out.nodes)


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_goes_inside(name: str) -> None:
    """A pass changes nested graphs as it changes others, and keeps the meaning of all."""
    for text in (texts.SWAP, texts.DUPLICATES, texts.NESTED, texts.WRITES, texts.SYMBOLIC):
        graph = parse(text)
        out = PASSES[name]().run(graph, Target())
        verify(out, after=name)
        assert parse(out.text()) == out
    nested = parse("""graph @f(%i: i32[], %x: f32[3]) -> (f32[3]) {
      %c = case %i, %x { branches=[
        graph @a(%x: f32[3]) -> (f32[3]) {
          %d = exp %x : f32[3] %y = neg %x : f32[3] %z = neg %y : f32[3] return %z },
        graph @b(%x: f32[3]) -> (f32[3]) { %y = cos %x : f32[3] return %y }] } : (f32[3])
      %g = get %c {index=0} : f32[3]
      return %g
    }""")
    out, _ = run_pipeline(nested, Target())
    (case,) = [n for n in out.nodes if n.opname == "case"]
    assert [len(g.nodes) for g in case.attrs["branches"]] == [0, 1]
