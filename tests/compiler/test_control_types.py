"""The type rules of the control ops say what is wrong; nested graphs are verified and read."""

from __future__ import annotations

import pytest

from weft.compiler.errors import TextError, VerifyError, WeftError
from weft.compiler.ir import Graph, Node
from weft.compiler.ops import OPS, get_op
from weft.compiler.text import parse
from weft.compiler.types import TensorType, TupleType, dtype_of
from weft.compiler.verify import verify

F32, F64 = (TensorType((3,), dtype_of(d)) for d in ("f32", "f64"))
I32, BOOL = TensorType((), dtype_of("i32")), TensorType((), dtype_of("bool"))


def graph(params: str, results: str, body: str) -> Graph:
    return parse(f"graph @g({params}) -> ({results}) {{ {body} }}")


SAME = graph("%x: f32[3]", "f32[3]", "return %x")
WIDER = graph("%x: f32[3]", "f64[3]", "%y = convert %x {dtype=f64} : f64[3] return %y")
LONGER = graph("%x: f32[3]", "f32[6]", "%y = concatenate %x, %x {axis=0} : f32[6] return %y")
TRUE = graph("%x: f32[3]", "bool[]", "return true:bool")
SCAN = {"consts": 0, "carries": 1, "length": 4, "reverse": False}

BAD = {
    "index": ("case", (F32, F32), {"branches": (SAME,)}, "case got an index f32[3]"),
    "no branches": ("case", (I32,), {"branches": ()}, "case got no branches"),
    "operands": ("case", (I32, F32, F32), {"branches": (SAME,)},
                 "branch 0 of case takes 1 operands, got 2"),
    "operand type": ("case", (I32, F64), {"branches": (SAME,)},
                     "branch 0 of case takes f32[3] as %x, got f64[3]"),
    "branches differ": ("case", (I32, F32), {"branches": (SAME, WIDER)},
                        "branch 1 of case gives (f64[3]), branch 0 (f32[3])"),
    "carry type": ("while", (F32,), {"cond": TRUE, "body": WIDER, "carries": 1},
                   "the body of while turns the carry x from f32[3] into f64[3]"),
    "carry shape": ("scan", (F32,), {"body": LONGER, **SCAN},
                    "the body of scan turns the carry x from f32[3] into f32[6]"),
    "condition": ("while", (F32,), {"cond": SAME, "body": SAME, "carries": 1},
                  "the condition of while gives f32[3]"),
    "length": ("scan", (F32, F32), {"body": SAME, **SCAN},
               "scan over 4 turns got f32[3] as array 0 to run along"),
    "results": ("scan", (F32,), {"body": graph("%x: f32[3]", "", "return"), **SCAN},
                "the body of scan gives 0 results"),
}


@pytest.mark.parametrize("name", BAD)
def test_ill_typed(name: str) -> None:
    op, types, attrs, what = BAD[name]
    with pytest.raises(WeftError) as caught:
        OPS[op].infer(types, attrs)
    assert caught.value.what == what


def test_repairs_name_the_types() -> None:
    with pytest.raises(WeftError) as caught:
        OPS["while"].infer((F32,), {"cond": TRUE, "body": WIDER, "carries": 1})
    assert caught.value.repair == (
        "begin with float64 values, or end the body with x.astype(np.float32)")


def test_nested_graphs_are_verified() -> None:
    """They are closed: a node of the graph around them is none of theirs."""
    x = Node(None, (), {}, F32, None, "x")
    outer = Node(get_op("sin"), (x,), {}, F32, None, "outer")
    p = Node(None, (), {}, F32, None, "p")
    inner = Node(get_op("add"), (p, outer), {}, F32, None, "inner")
    body = Graph("body", [p], [inner], [inner])
    loop = Node(get_op("scan"), (x,), {"body": body, **SCAN}, TupleType((F32,)), None, "loop")
    get = Node(get_op("get"), (loop,), {"index": 0}, F32, None, "get")
    with pytest.raises(VerifyError) as caught:
        verify(Graph("f", [x], [outer, loop, get], [get]))
    assert "%inner uses %outer, which is not in the graph" in str(caught.value)


@pytest.mark.parametrize("text", [
    "%s = scan %x {body=3, consts=0, carries=1, length=4, reverse=false} : (f32[3])",
    "%s = scan %x {consts=0, carries=1, length=4, reverse=false} : (f32[3])",
    "%s = case %x {branches=[1, 2]} : (f32[3])",
    "%s = case 0:i32, %x {branches=[graph @g(%y: f32[3]) -> (f32[3]) { return %x }]} : (f32[3])",
    "%s = while %x {cond=graph @c(", ])
def test_malformed_text(text: str) -> None:
    with pytest.raises(TextError):
        parse(f"graph @f(%x: f32[3]) -> (f32[3]) {{ {text} %y = get %s {{index=0}} : f32[3] "
              "return %y }")
