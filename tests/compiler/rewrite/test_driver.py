"""The rewrite driver: names, origins, identity, termination, nested graphs."""

from __future__ import annotations

from weft.compiler.ir import Graph, Node
from weft.compiler.ops.registry import Op
from weft.compiler.rewrite import Rewriter, Rule, RuleTable, rebuild, rewrite, rule
from weft.compiler.text import parse
from weft.compiler.verify import verify

RULES: list[Rule] = []


@rule(RULES, "sin(x) → cos(neg(x))", "sin")
def _sin(n: Node, b: Rewriter) -> Node | None:
    return b.cos(b.neg(n.inputs[0]))


@rule(RULES, "exp(log(x)) → x", "exp")
def _exp_log(n: Node, b: Rewriter) -> Node | None:
    return n.inputs[0].inputs[0] if n.inputs[0].opname == "log" else None


TABLE = RuleTable(RULES)
TEXT = """\
graph @f(%x: f32[2]) -> (f32[2], f32[2]) {
  %log.0 = log %x : f32[2]  # a.py:1
  %keep = tanh %log.0 : f32[2]  # a.py:2
  %sin.7 = sin %keep : f32[2]  # a.py:3
  %y = mul %sin.7, 2.0:f32 : f32[2]  # a.py:4
  return %y, %keep
}"""


def test_new_nodes_take_name_and_origin_of_the_root() -> None:
    graph = parse(TEXT)
    out = rewrite(graph, TABLE)
    verify(out)
    assert str(out) == """\
graph @f(%x: f32[2]) -> (f32[2], f32[2]) {
  %log.0 = log %x : f32[2]  # a.py:1
  %keep = tanh %log.0 : f32[2]  # a.py:2
  %neg.8 = neg %keep : f32[2]  # a.py:3
  %sin.7 = cos %neg.8 : f32[2]  # a.py:3
  %y = mul %sin.7, 2.0:f32 : f32[2]  # a.py:4
  return %y, %keep
}"""
    assert out.nodes[1] is graph.nodes[1], "an untouched node is shared"
    assert str(graph) == TEXT


def test_nothing_to_do_gives_the_same_object() -> None:
    graph = parse(TEXT.replace("sin", "tan"))
    assert rewrite(graph, TABLE) is graph


def test_dead_nodes_disappear() -> None:
    out = rewrite(parse("""graph @f(%x: f32[]) -> (f32[]) {
      %a = log %x : f32[]
      %b = exp %a : f32[]
      return %b
    }"""), TABLE)
    assert out.nodes == () and out.results == out.params


def test_two_roots_of_one_replacement_share_it() -> None:
    rules: list[Rule] = []
    made: list[Node] = []

    @rule(rules, "sin(x) → one neg(x)", "sin")
    def share(n: Node, b: Rewriter) -> Node | None:
        made.append(b.neg(n.inputs[0])) if not made else None
        return made[0]

    out = rewrite(parse("""graph @f(%x: f32[]) -> (f32[], f32[]) {
      %a = sin %x : f32[]
      %b = sin %x : f32[]
      return %a, %b
    }"""), RuleTable(rules))
    verify(out)
    assert [n.name for n in out.nodes] == ["a"]


def test_rules_that_never_settle_are_stopped() -> None:
    rules: list[Rule] = []

    @rule(rules, "neg(x) → neg(neg(neg(x)))", "neg")
    def grow(n: Node, b: Rewriter) -> Node | None:
        return b.neg(b.neg(b.neg(n.inputs[0])))

    graph = parse("""graph @f(%x: f32[]) -> (f32[]) {
      %a = neg %x : f32[]
      return %a
    }""")
    out = rewrite(graph, RuleTable(rules))
    verify(out)
    assert len(out.nodes) < 2000


def test_a_chain_is_rewritten_in_one_sweep() -> None:
    lines = [f"%a{k} = {'log' if k % 2 else 'exp'} %a{k - 1} : f32[]" for k in range(1, 3001)]
    text = "graph @f(%a0: f32[]) -> (f32[]) {\n" + "\n".join(lines) + "\nreturn %a3000\n}"
    out = rewrite(parse(text), TABLE)
    assert out.nodes == () and out.results == out.params


def test_graphs_within_nodes_are_rewritten() -> None:
    loop = Op("loop", "structure", 1, "a test op", lambda types, attrs: types[0],
              lambda xp, x, body: x, attrs=("body",))
    inner = parse(TEXT.replace("@f", "@body"))
    x = Node(None, (), {}, inner.params[0].type, None, "x")
    y = Node(loop, (x,), {"body": inner}, x.type, None, "y")
    out = rewrite(Graph("f", [x], [y], [y]), TABLE)
    body = out.nodes[0].attrs["body"]
    assert [n.opname for n in body.nodes if n.name] == ["log", "tanh", "neg", "cos", "mul"]
    assert out.nodes[0].name == "y"
    again = rewrite(out, TABLE)
    assert again is out


def test_uses_count_in_the_input_graph() -> None:
    rules: list[Rule] = []

    @rule(rules, "sin(neg(x)) → sinh(x), where neg is used once", "sin")
    def once(n: Node, b: Rewriter) -> Node | None:
        x = n.inputs[0]
        return b.sinh(x.inputs[0]) if x.opname == "neg" and b.used_once(x) else None

    text = """graph @f(%x: f32[]) -> (f32[], f32[]) {{
      %a = neg %x : f32[]
      %b = sin %a : f32[]
      %c = {} %a : f32[]
      return %b, %c
    }}"""
    kept = parse(text.format("exp"))
    assert rewrite(kept, RuleTable(rules)) is kept
    shared = rewrite(parse(text.format("exp").replace("%b, %c", "%b, %b")), RuleTable(rules))
    assert [n.opname for n in shared.nodes] == ["sinh"]


def test_rebuild_replaces_nodes() -> None:
    graph = parse(TEXT)
    tanh = graph.nodes[1]
    new = Node(tanh.op, graph.params, {}, tanh.type, tanh.origin)
    out = rebuild(graph, {tanh: new})
    verify(out)
    assert str(out) == TEXT.replace("tanh %log.0", "tanh %x").replace(
        "  %log.0 = log %x : f32[2]  # a.py:1\n", "")
    to_param = rebuild(graph, {tanh: graph.params[0]})
    assert [n.opname for n in to_param.nodes if n.name] == ["sin", "mul"]
    assert to_param.results[1] is graph.params[0]
    assert rebuild(graph, {}) is graph
