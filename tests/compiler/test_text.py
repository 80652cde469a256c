"""The text form: exact round trips, exact messages, and no text that crashes the reader."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ALL_DTYPES, graphs, special_values

from weft.compiler.build import Builder
from weft.compiler.digest import GraphDigest
from weft.compiler.errors import Origin, TextError
from weft.compiler.ir import Graph, Node
from weft.compiler.literals import array_text, element_text, parse_element
from weft.compiler.ops.registry import Op
from weft.compiler.text import node_text, parse, print_graph
from weft.compiler.types import DTYPES, Size, TensorType, dtype_of

F32 = dtype_of("f32")


@settings(max_examples=120)
@given(graphs(dtypes=ALL_DTYPES, max_nodes=14))
def test_text_reads_back_as_the_same_graph(graph: Graph) -> None:
    text = graph.text()
    again = parse(text)
    assert again == graph and hash(again) == hash(graph)
    assert again.text() == text
    assert GraphDigest(again).key == GraphDigest(graph).key


@settings(max_examples=30)
@given(graphs(symbolic=True, steps=("elementwise", "transpose", "broadcast", "reduction", "pad")))
def test_symbolic_sizes_read_back(graph: Graph) -> None:
    assert parse(graph.text()) == graph


def _constant_graph(value: np.ndarray) -> Graph:
    b = Builder("k")
    return b.graph([b.constant(value)])


@pytest.mark.parametrize("name", ALL_DTYPES)
def test_constants_keep_every_bit(name: str) -> None:
    dtype = DTYPES[name]
    for value in special_values(dtype):
        assert parse(_constant_graph(value).text()) == _constant_graph(value)
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (300, dtype.itemsize), np.uint8)
    values = (raw & 1 if name == "bool" else raw).view(dtype.numpy).reshape(-1)
    for value in values:
        text = element_text(value, dtype)
        assert parse_element(text, dtype).tobytes() == value.tobytes(), text
    for array in (values, values[:6].reshape(2, 3), values[:0].reshape(0, 4),
                  np.full((50, 2), values[0]), values[::-2]):
        again = parse(_constant_graph(array).text())
        assert again.results[0].attrs["value"].tobytes() == array.tobytes()
        assert again == _constant_graph(array)


@pytest.mark.parametrize(("value", "text"), [
    (np.float32(0.1), "0.1"), (np.float32(2), "2.0"), (np.float32(1e-45), "1e-45"),
    (np.float32(-0.0), "-0.0"), (np.float64(1e22), "1e+22"), (np.float16(65504), "65504.0"),
    (DTYPES["bf16"].numpy.type(1.1), "1.1"), (DTYPES["bf16"].numpy.type(3e38), "3e+38"),
    (np.float32(np.nan), "nan"), (-np.float32(np.inf), "-inf"), (np.int8(-128), "-128"),
    (np.array(0xFFC00000, np.uint32).view("f4")[()], "-nan"),
    (np.array(0x7FC00001, np.uint32).view("f4")[()], "nan(0x7fc00001)"),
    (np.complex64(complex(1.5, -0.0)), "1.5-0.0j"), (np.complex128(complex(np.nan, np.inf)),
                                                     "nan+infj"), (np.True_, "true"),
])
def test_elements_print_as(value: np.generic, text: str) -> None:
    assert element_text(value, dtype_of(value.dtype)) == text


def test_large_constants_are_compact_or_hashed() -> None:
    value = np.arange(100.0)
    assert array_text(np.zeros((9, 9), np.float32)) == "f32[9, 9](splat 0.0)"
    assert array_text(value).startswith('f64[100](base64 "AAAA')
    assert array_text(value, digest=True) == 'f64[100](digest "10971145f690f9531ab02d8087830a7e")'
    with pytest.raises(TextError, match="only the hash of a constant"):
        parse(print_graph(_constant_graph(value), digest=True))


def _full() -> Graph:
    b = Builder("f", Origin("/home/me/model.py", 3))
    size = Size.symbol("B")
    x = b.param("x[0]", TensorType((size, 3), F32))
    y = b.param("y", TensorType((2 * size + 1,), DTYPES["i64"]))
    h = b.mul(x, b.scalar(2.0, "f32"))
    s = b.reduce_sum(h, axes=(0, 1))
    t = b.broadcast(s, (size, 2 * size - 1))
    g = b.gather(x, y, axes=(0,), position=0, mode="clip")
    return b.graph([t, g, b.convert(y, "bf16"), b.scalar(True, "bool")])


FULL_TEXT = """\
graph @f(%"x[0]": f32[B, 3], %y: i64[2*B + 1]) -> (f32[B, 2*B - 1], f32[2*B + 1, 3], bf16[2*B + 1], bool[]) {
  %mul.0 = mul %"x[0]", 2.0:f32 : f32[B, 3]  # model.py:3
  %reduce_sum.1 = reduce_sum %mul.0 {axes=[0, 1]} : f32[]  # model.py:3
  %broadcast_in_dim.2 = broadcast_in_dim %reduce_sum.1 {shape=[B, 2*B - 1], dims=[]} : f32[B, 2*B - 1]  # model.py:3
  %gather.3 = gather %"x[0]", %y {axes=[0], position=0, mode="clip"} : f32[2*B + 1, 3]  # model.py:3
  %convert.4 = convert %y {dtype=bf16} : bf16[2*B + 1]  # model.py:3
  return %broadcast_in_dim.2, %gather.3, %convert.4, true:bool
}"""  # noqa: E501


def test_everything_prints_as() -> None:
    assert _full().text() == FULL_TEXT
    again = parse(FULL_TEXT)
    assert again == _full()
    assert again.nodes[1].origin == Origin("model.py", 3)
    assert again.text() == FULL_TEXT
    assert "#" not in _full().text(origins=False)
    assert node_text(again.nodes[-2]) == "%convert.4 = convert %y {dtype=bf16} : bf16[2*B + 1]"


def test_graphs_within_nodes_are_indented() -> None:
    loop = Op("loop", "structure", 1, "a test op", lambda types, attrs: types[0],
              lambda xp, x, body, count: x, attrs=("body", "count"))
    b = Builder("body")
    inner = b.graph([b.neg(b.param("i", TensorType((2,), F32)))])
    x = Node(None, (), {}, TensorType((2,), F32), None, "x")
    y = Node(loop, (x,), {"body": inner, "count": 3}, x.type, Origin("a.py", 7), "y")
    text = Graph("f", [x], [y], [y]).text()
    assert text == """\
graph @f(%x: f32[2]) -> (f32[2]) {
  %y = loop %x {
    body=graph @body(%i: f32[2]) -> (f32[2]) {
      %neg.0 = neg %i : f32[2]
      return %neg.0
    },
    count=3
  } : f32[2]  # a.py:7
  return %y
}"""
    from weft.compiler.ops import OPS
    OPS["loop"] = loop
    try:
        again = parse(text)
        assert again.text() == text
        assert again == Graph("f", [x], [y], [y])
    finally:
        del OPS["loop"]


# --------------------------------------------------------------------------- malformed text

MALFORMED = {
    "": "line 1: expected 'graph', found the end of the text\n  \n  ^",
    "graph @f(%x: f33[]) -> () { return }":
        "line 1: there is no element type 'f33'\n"
        "  graph @f(%x: f33[]) -> () { return }\n               ^\n"
        f"  repair:   the types are {', '.join(DTYPES)}",
    "graph @f(%x: f32[-1]) -> () { return }":
        "line 1: a size cannot be negative: -1\n"
        "  graph @f(%x: f32[-1]) -> () { return }\n                   ^",
    "graph @f(%x: f32[2]) -> (f32[2]) {\n  %y = sinn %x : f32[2]\n  return %y\n}":
        "line 2: there is no op named 'sinn'\n    %y = sinn %x : f32[2]\n         ^\n"
        "  repair:   did you mean sin, sinh, sign?",
    "graph @f(%x: f32[2]) -> (f32[3]) {\n  %y = sin %x : f32[3]\n  return %y\n}":
        "line 2: sin gives f32[2], the text says f32[3]\n    %y = sin %x : f32[3]\n"
        "                  ^",
    "graph @f(%x: f32[2]) -> (f32[3]) {\n  return %x\n}":
        "line 1: the graph says it returns (f32[3]) but returns (f32[2])\n"
        "  graph @f(%x: f32[2]) -> (f32[3]) {\n                          ^",
    "graph @f(%x: f32[2]) -> () {\n  %x = neg %x : f32[2]\n  return\n}":
        "line 2: %x is defined twice\n    %x = neg %x : f32[2]\n    ^",
    "graph @f() -> () {\n  %y = neg %z : f32[2]\n  return\n}":
        "line 2: %z is not defined\n    %y = neg %z : f32[2]\n             ^",
    "graph @f() -> (i8[]) { return 300:i8 }":
        "line 1: 300 is no i8: out of range\n"
        "  graph @f() -> (i8[]) { return 300:i8 }\n                                ^",
    "graph @f(%x: f32[2]) -> () { %y = reduce_sum %x : f32[2] return }":
        "line 1: reduce_sum lacks the attribute axes\n"
        "  graph @f(%x: f32[2]) -> () { %y = reduce_sum %x : f32[2] return }\n"
        "                                    ^",
    "graph @f(%x: f32[2]) -> () { %y = neg %x {axis=1} : f32[2] return }":
        "line 1: neg has no attribute 'axis' here\n"
        "  graph @f(%x: f32[2]) -> () { %y = neg %x {axis=1} : f32[2] return }\n"
        "                                            ^",
    "graph @f() -> () { %y = constant {value=f32[2](1.0)} : f32[2] return }":
        "line 1: malformed constant: 1 elements given for 2\n"
        "  graph @f() -> () { %y = constant {value=f32[2](1.0)} : f32[2] return }\n"
        "                                          ^",
    "graph @f() -> () { return } }":
        "line 1: text after the end of the graph\n  graph @f() -> () { return } }\n"
        "                              ^",
    "graph @f(%x: f32[2]) -> () { $ }":
        "line 1: unexpected character '$'\n  graph @f(%x: f32[2]) -> () { $ }\n"
        "                               ^",
}


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_text_says(text: str) -> None:
    with pytest.raises(TextError) as caught:
        parse(text)
    assert str(caught.value) == MALFORMED[text]


def test_hostile_text_is_refused() -> None:
    for text in ("graph @f(%x: f32[" + "(" * 9000, "graph @f() -> () { %y = constant {value="
                 + "[" * 9000, "graph @f(%x: f32[" + "9" * 9000 + "]) -> () { return }",
                 "graph @f() -> () { %y = constant {value=f32[99999999999](splat 1.0)} : f32[] }",
                 "graph @f() -> () { %y = iota {shape=[2], axis=[[]], dtype=3} : f32[2] return }"):
        with pytest.raises(TextError):
            parse(text)


@settings(max_examples=150)
@given(st.data())
def test_damaged_text_never_crashes(data: st.DataObject) -> None:
    text = FULL_TEXT
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 12))
        piece = data.draw(st.sampled_from(["", "%", "[", "]", "{", "}", "(", ")", ",", ":", "-1",
                                           "nan", "f32", "B", '"', "\\", "graph @g", "1e999", "*"])
                          | st.text(max_size=3))
        text = text[:at] + piece + text[at + cut:]
    try:
        graph = parse(text)
    except TextError:
        return
    assert parse(graph.text()) == graph
