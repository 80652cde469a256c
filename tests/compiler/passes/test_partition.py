"""Partitions: what stands together, what is moved, and that nothing changes by it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import assert_same, graphs, inputs

from weft.compiler.errors import VerifyError
from weft.compiler.ir import Graph, Node
from weft.compiler.ops import OPS
from weft.compiler.passes import InlineCalls, run_pipeline
from weft.compiler.passes.partition import Partition
from weft.compiler.passes.within import placed_pipeline
from weft.compiler.placement import device_of, outline, placed_inside
from weft.compiler.target import Target
from weft.compiler.text import parse
from weft.compiler.verify import verify
from weft.devices.reference import evaluate

TARGET = Target()
EVERYTHING = frozenset(OPS)
DEVICES = ("cpu", "gpu", "gpu:1")


def _placed(text: str, **devices: str) -> Graph:
    """The graph with the named nodes on devices: ``a="gpu"``; one name may stand for several."""
    graph = parse(text)
    by_name = {n.name: n for n in graph.nodes}
    return outline(graph, {by_name[name]: (device, None) for names, device in devices.items()
                           for name in names.split("_")})


def _cut(graph: Graph) -> Graph:
    out, _ = run_pipeline(graph, TARGET, (InlineCalls("cpu"), Partition("cpu")))
    return out


def _shape(graph: Graph) -> list[str]:
    """Partitions with their ops, and transfers, in order: ``cpu.0: sin exp``, ``x → gpu``."""
    lines = []
    for node in graph.nodes:
        if device_of(node) is not None:
            inner: Graph = node.attrs["graph"]
            ops = [n.opname for n in inner.nodes if n.opname != "constant"]
            lines.append(f"{inner.name}: {' '.join(ops)}")
        elif node.opname == "transfer":
            lines.append(f"{node.inputs[0].name} → {node.attrs['to']}")
    return lines


OVERLAP = """graph @f(%x: f32[2000, 3]) -> (f32[2000, 3]) {
  %p = sin %x : f32[2000, 3]
  %a = exp %p : f32[2000, 3]
  %b = cos %x : f32[2000, 3]
  %y = add %a, %b : f32[2000, 3]
  return %y
}"""


def test_what_overlaps_stays_apart() -> None:
    """What the other device needs runs first and alone, what needs it last and alone."""
    graph = _cut(_placed(OVERLAP.replace("2000", "90000"), a="gpu"))
    assert _shape(graph) == ["cpu.0: sin", "p → gpu", "gpu.0: exp", "cpu.1: cos", "a → cpu",
                             "cpu.2: add"]


def test_little_work_is_not_run_apart() -> None:
    graph = _cut(_placed(OVERLAP.replace("2000", "4"), a="gpu"))
    assert _shape(graph) == ["cpu.0: sin", "p → gpu", "gpu.0: exp", "a → cpu", "cpu.1: cos add"]


def test_text_of_a_partitioned_graph() -> None:
    graph = _cut(_placed(OVERLAP.replace("2000", "2"), a="gpu:1"))
    assert str(graph) == """\
graph @f(%x: f32[2, 3]) -> (f32[2, 3]) {
  %call.0 = call %x {
    device="cpu",
    graph=graph @cpu.0(%x: f32[2, 3]) -> (f32[2, 3]) {
      %p = sin %x : f32[2, 3]
      return %p
    }
  } : (f32[2, 3])
  %p = get %call.0 {index=0} : f32[2, 3]
  %transfer.2 = transfer %p {source="cpu", to="gpu:1"} : f32[2, 3]
  %call.3 = call %transfer.2 {
    device="gpu:1",
    graph=graph @"gpu:1.0"(%p: f32[2, 3]) -> (f32[2, 3]) {
      %a = exp %p : f32[2, 3]
      return %a
    }
  } : (f32[2, 3])
  %a = get %call.3 {index=0} : f32[2, 3]
  %transfer.5 = transfer %a {source="gpu:1", to="cpu"} : f32[2, 3]
  %call.6 = call %x, %transfer.5 {
    device="cpu",
    graph=graph @cpu.1(%x: f32[2, 3], %a: f32[2, 3]) -> (f32[2, 3]) {
      %b = cos %x : f32[2, 3]
      %y = add %a, %b : f32[2, 3]
      return %y
    }
  } : (f32[2, 3])
  %y = get %call.6 {index=0} : f32[2, 3]
  return %y
}"""
    assert parse(str(graph)) == graph


def test_a_value_is_moved_once_to_each_device() -> None:
    graph = _cut(_placed("""graph @f(%x: f32[3]) -> (f32[3], f32[3], f32[3]) {
      %a = exp %x : f32[3]
      %b = sin %x : f32[3]
      %c = cos %x : f32[3]
      %d = add %c, %a : f32[3]
      return %a, %b, %d
    }""", a="gpu", b="gpu:1", c_d="gpu"))
    assert _shape(graph) == ["x → gpu", "gpu.0: exp cos add", "x → gpu:1", "gpu:1.0: sin",
                             "a → cpu", "b → cpu", "d → cpu"]


def test_constants_are_made_where_they_are_used() -> None:
    graph = _cut(_placed("""graph @f(%x: f32[2]) -> (f32[2], f32[2]) {
      %k = constant {value=f32[2](1.0, 2.0)} : f32[2]
      %o = broadcast_in_dim 1.0:f32 {shape=[2], dims=[]} : f32[2]
      %c = add %x, %k : f32[2]
      %a = mul %x, %k : f32[2]
      %b = add %a, %o : f32[2]
      return %b, %c
    }""", a_b="gpu"))
    assert _shape(graph) == ["x → gpu", "gpu.0: mul broadcast_in_dim add", "cpu.0: add", "b → cpu"]


def test_a_result_that_is_constant_is_made_on_the_functions_device() -> None:
    graph = _cut(_placed("""graph @f(%x: f32[2]) -> (f32[2], f32[2]) {
      %k = constant {value=f32[2](1.0, 2.0)} : f32[2]
      %a = mul %x, %k : f32[2]
      return %k, %a
    }""", a="gpu"))
    assert _shape(graph) == ["x → gpu", "gpu.0: mul", "cpu.0: ", "a → cpu"]
    assert_same(evaluate(graph, inputs(graph, 0)), evaluate(graph, inputs(graph, 0)))


def test_parts_within_parts() -> None:
    """A part inside of a part on another device splits that; on the function's own, it returns."""
    inner = """graph @gpu(%x: f32[3]) -> (f32[3]) {
      %a = exp %x : f32[3]
      %p = call %a {
        device="DEVICE",
        graph=graph @inner(%a: f32[3]) -> (f32[3]) {
          %b = sin %a : f32[3]
          return %b
        }
      } : (f32[3])
      %b = get %p {index=0} : f32[3]
      %c = cos %b : f32[3]
      return %c
    }"""
    text = f"""graph @f(%x: f32[3]) -> (f32[3]) {{
      %p = call %x {{device="gpu", graph={inner}}} : (f32[3])
      %y = get %p {{index=0}} : f32[3]
      return %y
    }}"""
    assert _shape(_cut(parse(text.replace("DEVICE", "gpu:1")))) == [
        "x → gpu", "gpu.0: exp", "a → gpu:1", "gpu:1.0: sin", "b → gpu", "gpu.1: cos", "c → cpu"]
    assert _shape(_cut(parse(text.replace("DEVICE", "cpu")))) == [
        "x → gpu", "gpu.0: exp", "a → cpu", "cpu.0: sin", "b → gpu", "gpu.1: cos", "c → cpu"]
    assert _shape(_cut(parse(text.replace("DEVICE", "gpu")))) == [
        "x → gpu", "gpu.0: exp sin cos", "c → cpu"]


def test_symbolic_sizes_come_along() -> None:
    """A partition whose inputs do not tell a size gets a parameter that does."""
    graph = _cut(_placed("""graph @f(%x: f32[B, 3], %n: f32[B]) -> (f32[B], f32[B, 3]) {
      %i = iota {shape=[B], axis=0, dtype=f32} : f32[B]
      %a = exp %i : f32[B]
      %y = neg %x : f32[B, 3]
      return %a, %y
    }""", a="gpu"))
    assert _shape(graph) == ["x → gpu", "gpu.0: iota exp", "cpu.0: neg", "a → cpu"]
    verify(graph)
    arrays = inputs(graph, 0, sizes={"B": 4})
    assert evaluate(graph, arrays)[0].shape == (4,)


LOOP = """graph @f(%x: f32[3]) -> (f32[3]) {
  %s = scan %x {
    consts=0, carries=1, length=4, reverse=false,
    body=graph @body(%c: f32[3]) -> (f32[3]) {
      %p = call %c {
        device="gpu",
        graph=graph @gpu(%c: f32[3]) -> (f32[3]) {
          %e = exp %c : f32[3]
          return %e
        }
      } : (f32[3])  # placed_model.py:7
      %e = get %p {index=0} : f32[3]
      return %e
    }
  } : (f32[3])
  %y = get %s {index=0} : f32[3]
  return %y
}"""


def test_loops_whose_work_is_on_one_device_move_there() -> None:
    out = _cut(parse(LOOP))
    assert _shape(out) == ["x → gpu", "gpu.0: scan get", "get.0 → cpu"]
    assert Partition("cpu").run(out, TARGET) is out


def test_loops_with_parts_on_several_devices_are_cut_inside() -> None:
    """Their text says where operands are; what is cut already stays as it is."""
    out = _cut(parse(LOOP.replace("return %e\n    }\n  } : (f32[3])\n  %y", """%n = sin %e : f32[3]
      return %n
    }
  } : (f32[3])
  %y""")))
    scan = next(n for n in out.nodes if n.opname == "scan")
    assert scan.attrs["device"] == "cpu" and scan.attrs["places"] == ("cpu", "cpu")
    assert _shape(scan.attrs["body"]) == ["c → gpu", "gpu.0: exp", "e → cpu", "cpu.0: sin add"]
    assert parse(out.text()) == out and Partition("cpu").run(out, TARGET) is out
    body = scan.attrs["body"]
    wrong = {**scan.attrs, "places": ("cpu", "gpu")}
    moved = Graph("f", out.params, [
        *out.nodes[:out.nodes.index(scan)], Node(scan.op, scan.inputs, wrong, scan.type, None, "s")
    ], out.params)
    assert body is scan.attrs["body"]
    with pytest.raises(VerifyError, match="%c to be on 'cpu', it is on 'gpu'"):
        verify(moved)


def test_parts_in_loops_on_their_own_device_dissolve() -> None:
    graph = parse(LOOP)
    out = InlineCalls("gpu").run(graph, TARGET)
    assert not list(placed_inside(out))
    assert InlineCalls().run(graph, TARGET) == out


def test_passes_run_inside() -> None:
    """Every partition is simplified for its device, in what stands in it."""
    graph = _placed("""graph @f(%x: f32[3]) -> (f32[3]) {
      %a = mul %x, 1.0:f32 : f32[3]
      %b = hypot %a, %x : f32[3]
      %y = hypot %b, %x : f32[3]
      return %y
    }""", a_b="gpu")
    passes = placed_pipeline("cpu", {"cpu": (TARGET, EVERYTHING),
                                     "gpu": (TARGET, EVERYTHING - {"floor_divide", "frexp"})})
    out, history = run_pipeline(graph, TARGET, passes)
    assert _shape(out) == ["x → gpu", "gpu.0: hypot", "b → cpu", "cpu.0: hypot"]
    assert [s.name for s in history][:4] == ["inline-calls", "eliminate-dead", "eliminate-common",
                                             "partition"]


@settings(max_examples=150)
@given(graphs(transcendental=False), st.lists(st.sampled_from([None, *DEVICES]), min_size=12,
                                              max_size=12), st.integers(0, 9))
def test_any_placement_keeps_every_bit(graph: Graph, devices: Sequence[str | None], seed: int
                                       ) -> None:
    """However nodes are placed: the graph verifies, prints, parses, and computes the same."""
    places = {n: (d, None) for n, d in zip(graph.nodes, [*devices, *devices]) if d is not None}
    placed = outline(graph, places)
    verify(placed)
    assert parse(str(placed)) == placed
    cut = _cut(placed)
    assert parse(str(cut)) == cut
    assert Partition("cpu").run(cut, TARGET) is cut
    transfers = [(n.inputs[0], n.attrs["to"]) for n in cut.nodes if n.opname == "transfer"]
    assert len(transfers) == len(set(transfers))
    machines = dict.fromkeys(DEVICES, (TARGET, EVERYTHING))
    out, _ = run_pipeline(placed, TARGET, placed_pipeline("cpu", machines))
    arrays = inputs(graph, seed)
    want = evaluate(graph, arrays)
    for other in (placed, cut):
        assert_same(evaluate(other, arrays), want, f"{graph}\n{other}")
    arrays = inputs(graph, seed, integral=True)
    assert_same(evaluate(out, arrays), evaluate(graph, arrays), f"{graph}\n{out}")


@pytest.mark.parametrize(("change", "message"), [
    (('transfer %p {source="cpu", to="gpu"}', 'transfer %p {source="gpu:1", to="gpu"}'),
     "%t takes %p to be on 'gpu:1', it is on 'cpu'"),
    (("call %t {", "call %p {"), "%d takes %p to be on 'gpu', it is on 'cpu'"),
    (("return %y", "return %b"), "the result %b is on 'gpu', others and the parameters on 'cpu'"),
    (("%y = transfer %b", "%z = neg %p : f32[3]\n  %y = transfer %b"),
     "%z is on no device, but values are moved between devices"),
])
def test_the_verifier_checks_devices(change: tuple[str, str], message: str) -> None:
    text = """graph @f(%x: f32[3]) -> (f32[3]) {
  %c = call %x {device="cpu", graph=graph @cpu.0(%x: f32[3]) -> (f32[3]) {
    %p = sin %x : f32[3]
    return %p
  }} : (f32[3])
  %p = get %c {index=0} : f32[3]
  %t = transfer %p {source="cpu", to="gpu"} : f32[3]
  %d = call %t {device="gpu", graph=graph @gpu.0(%x: f32[3]) -> (f32[3]) {
    %p = sin %x : f32[3]
    return %p
  }} : (f32[3])
  %b = get %d {index=0} : f32[3]
  %y = transfer %b {source="gpu", to="cpu"} : f32[3]
  return %y
}"""
    verify(parse(text))
    with pytest.raises(AssertionError, match=re.escape(message)):
        verify(parse(text.replace(*change)))
