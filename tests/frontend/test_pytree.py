"""Containers taken apart and put together."""

import dataclasses
from collections import OrderedDict, defaultdict, namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.compiler.errors import UnsupportedError
from weft.frontend.pytree import flatten, leaf_paths, places, register_pytree, tree_text, unflatten
from weft.frontend.statics import Static, value_key

Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Layer:
    w: object
    b: object = None
    name: str = "layer"


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: object
    b: object


trees = st.recursive(
    st.integers() | st.none() | st.text(max_size=2),
    lambda kids: st.lists(kids, max_size=3) | st.tuples(kids, kids)
    | st.dictionaries(st.text(max_size=2), kids, max_size=3) | st.builds(Point, kids, kids)
    | st.builds(Layer, kids, kids), max_leaves=8)


@given(trees)
def test_round_trip(value):
    leaves, tree = flatten(value)
    assert unflatten(tree, leaves) == value
    assert len(leaf_paths(tree)) == len(leaves)
    hash(tree)


@pytest.mark.parametrize("value", [
    OrderedDict(b=1, a=2), defaultdict(list, x=1), Point(1, [2, None]), Frozen(1, (2,)),
    Layer(1, {"k": 2}), (), [], {}, None,
], ids=lambda v: type(v).__name__)
def test_types_survive(value):
    leaves, tree = flatten(value)
    back = unflatten(tree, leaves)
    assert back == value and type(back) is type(value)
    if isinstance(value, defaultdict):
        assert back.default_factory is list


def test_dict_order_is_kept():
    _, ab = flatten({"a": 1, "b": 2})
    _, ba = flatten({"b": 2, "a": 1})
    assert ab != ba
    assert list(unflatten(ba, [1, 2])) == ["b", "a"]


def test_attributes_beside_the_fields_of_a_dataclass_are_kept():
    layer = Layer(1, 2)
    layer.extra = 3
    leaves, tree = flatten(layer)
    assert unflatten(tree, leaves).extra == 3
    assert leaf_paths(tree, "p") == ["p.w", "p.b", "p.name", "p.extra"]


def test_registered_class():
    class Pair:
        def __init__(self, a, b):
            self.a, self.b = a, b

    assert register_pytree(Pair, lambda p: ((p.a, p.b), "tag"), lambda aux, ab: Pair(*ab)) is Pair
    leaves, tree = flatten([Pair(1, {"k": 2})])
    assert leaves == [1, 2]
    assert unflatten(tree, "xy")[0].b == {"k": "y"}
    assert leaf_paths(tree, "p") == ["p[0][0]", "p[0][1]['k']"]
    with pytest.raises(ValueError, match=r"Pair is registered already$"):
        register_pytree(Pair, lambda p: ((), None), lambda aux, ab: None)


def test_static_values_belong_to_the_tree():
    leaves, tree = flatten({"n": 3, "mode": "fast"},
                           lambda v: Static(v) if isinstance(v, str) else None)
    assert leaves == [3]
    assert unflatten(tree, [4]) == {"n": 4, "mode": "fast"}
    assert [(p, repr(s)) for p, s in places(tree, "o")] == [
        ("o['n']", "None"), ("o['mode']", "'fast'")]


def test_cyclic_container():
    loop = []
    loop.append(loop)
    with pytest.raises(UnsupportedError) as caught:
        flatten(loop)
    assert str(caught.value) == ("a container is nested too deeply, or contains itself\n"
                                 "  expected: a tree of containers")


def test_tree_text():
    value = {"a": (1,), "b": [Point(1, None), Layer(1, 2)]}
    assert tree_text(flatten(value)[1]) == (
        "{'a': (*,), 'b': [Point(x=*, y=None), Layer(w=*, b=*, name=*)]}")


@pytest.mark.parametrize("a, b", [
    (1, True), (1, 1.0), (0.0, -0.0), ((1, 2), (1.0, 2)), ("a", b"a"), (slice(1), slice(1.0)),
])
def test_values_that_code_can_tell_apart_have_other_keys(a, b):
    assert value_key(a) != value_key(b)


def test_equal_values_have_equal_keys():
    assert value_key(float("nan")) == value_key(float("nan"))
    assert value_key((1, "a", slice(None, 2))) == value_key((1, "a", slice(None, 2)))
    with pytest.raises(TypeError):
        value_key([1])
    with pytest.raises(TypeError):
        value_key((1, [2]))
