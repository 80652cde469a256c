"""Reading graph text. The text is untrusted: malformed text raises `TextError`, nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np

from weft.compiler.errors import Origin, TextError, WeftError
from weft.compiler.ir import Graph, Node
from weft.compiler.literals import NUMBER, parse_array, parse_element
from weft.compiler.ops.registry import Op, get_op
from weft.compiler.types import DTYPES, Dim, DType, Size, TensorType, TupleType, Type

__all__ = ["parse"]

T = TypeVar("T")


def parse(text: str) -> Graph:
    """The graph that the text describes.

    Types are checked against the ops' rules. Raises `TextError` with the line and a caret.

    >>> print(parse("graph @f(%x: i8[2]) -> (i8[2]) { %y = add %x, 3:i8 : i8[2] return %y }"))
    graph @f(%x: i8[2]) -> (i8[2]) {
      %y = add %x, 3:i8 : i8[2]
      return %y
    }
    """
    reader = _Reader(text)
    graph = reader.graph()
    if reader.token.kind != "end":
        reader.fail("text after the end of the graph")
    return graph


# --------------------------------------------------------------------------- tokens

class _Token(NamedTuple):
    kind: str
    text: str
    start: int


_STRING = r'"(?:[^"\\\n]|\\.)*"'
_SCAN = re.compile("|".join((
    r"(?P<space>\s+)", r"(?P<comment>\#[^\n]*)",
    rf"(?P<ref>%(?:[\w.]+|{_STRING}))", rf"(?P<name>@(?:[\w.]+|{_STRING}))",
    rf"(?P<string>{_STRING})",
    rf"(?P<complex>{NUMBER}[+-]{NUMBER.removeprefix('-?')}j)", rf"(?P<number>{NUMBER})",
    r"(?P<word>[^\W\d]\w*)", r"(?P<mark>->|[()\[\]{},=:*+-])",
)))
_ORIGIN = re.compile(r"#\s*(\S.*):(\d{1,9})\s*")
_MAX_DEPTH = 40
_MAX_DIGITS = 40


class _Reader:
    """A recursive-descent reader over the list of tokens."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[_Token] = []
        self.comments: dict[int, str] = {}  # index of the token before it -> comment
        self.at = self.depth = 0
        self.types: dict[str, DType] = dict(DTYPES)
        self._scan()
        self.token = self.tokens[0]

    def _scan(self) -> None:
        position, text, tokens = 0, self.text, self.tokens
        while position < len(text):
            found = _SCAN.match(text, position)
            if found is None:
                self.token = _Token("", text[position], position)
                self.fail(f"unexpected character {text[position]!r}")
            kind = found.lastgroup or ""
            if kind == "comment":
                self.comments[len(tokens) - 1] = found.group()
            elif kind != "space":
                tokens.append(_Token(kind, found.group(), position))
            position = found.end()
        tokens.append(_Token("end", "", len(text)))

    def fail(self, what: str, token: _Token | None = None, repair: str | None = None) -> NoReturn:
        """Raise a `TextError` that points at the token."""
        start = min((token or self.token).start, len(self.text.rstrip()))
        number = self.text.count("\n", 0, start) + 1
        first = self.text.rfind("\n", 0, start) + 1
        line = self.text[first:].split("\n", 1)[0].replace("\t", " ")
        column, cut = start - first, max(0, start - first - 60)
        line = ("…" if cut else "") + line[cut:cut + 100]
        caret = " " * (column - cut + bool(cut)) + "^"
        raise TextError(f"line {number}: {what}\n  {line}\n  {caret}", repair=repair)

    def next(self) -> _Token:
        """The current token; moves on."""
        token = self.token
        if token.kind != "end":
            self.at += 1
            self.token = self.tokens[self.at]
        return token

    def take(self, text: str) -> bool:
        """Whether the current token is `text`; moves on if so."""
        if self.token.text != text or self.token.kind not in ("mark", "word"):
            return False
        self.next()
        return True

    def expect(self, text: str) -> None:
        """Move past `text`, or fail."""
        if not self.take(text):
            self.fail(f"expected {text!r}, found {self._found()}")

    def expect_kind(self, kind: str, what: str) -> _Token:
        """The current token, which must be of this kind; moves on."""
        if self.token.kind != kind:
            self.fail(f"expected {what}, found {self._found()}")
        return self.next()

    def _found(self) -> str:
        return repr(self.token.text[:30]) if self.token.text else "the end of the text"

    def nest(self, read: Callable[[], T]) -> T:
        """`read()`, one level deeper."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("nested too deeply")
        result = read()
        self.depth -= 1
        return result

    def items(self, opening: str, closing: str, read: Callable[[], T]) -> list[T]:
        """A comma-separated list in brackets."""
        self.expect(opening)
        found: list[T] = []
        while not self.take(closing):
            if found:
                self.expect(",")
            found.append(self.nest(read))
        return found

    # ---- names, types

    def unquote(self, token: _Token, body: str) -> str:
        """The string that a quoted name or text stands for."""
        if not body.startswith('"'):
            return body
        try:
            value = json.loads(body)
        except ValueError:
            self.fail("malformed quoted text", token)
        assert isinstance(value, str)
        return value

    def dtype(self) -> DType:
        """An element type's name."""
        token = self.expect_kind("word", "an element type")
        if token.text not in self.types:
            self.fail(f"there is no element type {token.text!r}", token,
                      f"the types are {', '.join(DTYPES)}")
        return self.types[token.text]

    def type(self) -> Type:
        """The type of a value."""
        if self.token.text == "(":
            return TupleType(tuple(self.items("(", ")", self.tensor_type)))
        return self.tensor_type()

    def tensor_type(self) -> TensorType:
        """The type of an array."""
        dtype = self.dtype()
        return TensorType(tuple(self.items("[", "]", self.extent)), dtype)

    def extent(self) -> Dim:
        """A dimension of a shape: not negative."""
        token = self.token
        dim = self.dim()
        if isinstance(dim, int) and dim < 0:
            self.fail(f"a size cannot be negative: {dim}", token)
        return dim

    def dim(self) -> Dim:
        """An integer or symbolic size: ``3``, ``2*B + 1``."""
        sign = -1 if self.take("-") else 1
        total = self.term() * sign
        while self.token.text in ("+", "-"):
            sign = 1 if self.next().text == "+" else -1
            total = total + self.term() * sign
        return total

    def term(self) -> Dim:
        """A product of integers and names."""
        product = self.factor()
        while self.take("*"):
            product = product * self.factor()
        return product

    def factor(self) -> Dim:
        """An integer or a name."""
        if self.token.kind == "word":
            return Size.symbol(self.next().text)
        return self.integer()

    def integer(self) -> int:
        """An integer literal."""
        token = self.expect_kind("number", "a size")
        if not re.fullmatch(rf"-?\d{{1,{_MAX_DIGITS}}}", token.text):
            self.fail("expected an integer", token)
        return int(token.text)

    # ---- attribute values

    def value(self) -> Any:
        """Any value an attribute can have."""
        token = self.token
        if token.kind == "string":
            return self.unquote(self.next(), token.text)
        if token.text == "[":
            return tuple(self.items("[", "]", self.value))
        if token.kind == "word":
            return self.word_value()
        if token.kind in ("number", "complex"):
            return self.number_value()
        if token.text != "-":
            self.fail(f"expected a value, found {self._found()}")
        return self.dim()

    def word_value(self) -> Any:
        """A value that begins with a word."""
        word, after = self.token.text, self.tokens[self.at + 1].text
        if word == "graph":
            return self.nest(self.graph)
        if word in ("true", "false"):
            return self.scalar() if after == ":" else self.next().text == "true"
        if word in self.types:
            return self.array() if after == "[" else self.dtype()
        return self.dim()

    def number_value(self) -> Any:
        """A value that begins with a number."""
        token, after = self.token, self.tokens[self.at + 1].text
        if after == ":":
            return self.scalar()
        if re.fullmatch(r"-?\d+", token.text):
            return self.dim()
        if token.kind == "complex" or "(" in token.text:
            self.fail("this number needs a type, such as :c64")
        return float(self.next().text)

    def scalar(self) -> np.ndarray[Any, Any]:
        """A typed scalar: ``2.0:f32``."""
        token = self.next()
        if token.kind not in ("number", "complex", "word"):
            self.fail("expected a scalar", token)
        self.expect(":")
        dtype = self.dtype()
        return np.asarray(self.guard(token, f"{token.text} is no {dtype}",
                                     lambda: parse_element(token.text, dtype)))

    def array(self) -> np.ndarray[Any, Any]:
        """An array: ``f32[2](1.0, 2.0)``."""
        start = self.token
        type = self.tensor_type()
        if not type.is_static:
            self.fail("a constant has no symbolic sizes", start)
        self.expect("(")
        form = self.next().text if self.token.text in ("splat", "base64", "digest") else "list"
        items: list[str] = []
        while not self.take(")"):
            if items:
                self.expect(",")
            token = self.next()
            items.append(self.unquote(token, token.text))
        if form != "list" and len(items) != 1:
            self.fail(f"{form} takes one item", start)
        shape = tuple(d for d in type.shape if isinstance(d, int))
        return self.guard(start, "malformed constant",
                          lambda: parse_array(type.dtype, shape, form, items))

    def guard(self, token: _Token, what: str, make: Callable[[], T]) -> T:
        """`make()`, where a refusal of the data becomes a `TextError`."""
        try:
            return make()
        except (ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
            detail = f": {error}" if isinstance(error, ValueError) and error.args else ""
            self.fail(what + detail, token)

    # ---- graphs

    def graph(self) -> Graph:
        """A whole graph."""
        self.expect("graph")
        token = self.expect_kind("name", "the graph's @name")
        return _GraphReader(self, self.unquote(token, token.text[1:])).read()


class _GraphReader:
    """Reads one graph; nested graphs get their own, with their own names."""

    def __init__(self, reader: _Reader, name: str) -> None:
        self.reader = reader
        self.name = name
        self.known: dict[str, Node] = {}
        self.params: list[Node] = []
        self.nodes: list[Node] = []
        self.scalars: dict[tuple[Any, bytes], Node] = {}

    def read(self) -> Graph:
        """The graph, from behind its name to its closing brace."""
        r = self.reader
        r.items("(", ")", self.param)
        r.expect("->")
        start = r.token
        types = r.items("(", ")", r.tensor_type)
        r.expect("{")
        while not r.take("return"):
            self.statement()
        results: list[Node] = []
        while not r.take("}"):
            if results:
                r.expect(",")
            results.append(self.operand())
        if [n.type for n in results] != types:
            r.fail("the graph says it returns ("
                   f"{', '.join(map(str, types))}) but returns "
                   f"({', '.join(str(n.type) for n in results)})", start)
        return Graph(self.name, self.params, self.nodes, results)

    def define(self) -> str:
        """A name that is new in this graph."""
        r = self.reader
        token = r.expect_kind("ref", "a %name")
        name = r.unquote(token, token.text[1:])
        if name in self.known:
            r.fail(f"%{name} is defined twice", token)
        return name

    def param(self) -> None:
        """A parameter with its type."""
        name = self.define()
        self.reader.expect(":")
        node = Node(None, (), {}, self.reader.type(), None, name)
        self.known[name] = node
        self.params.append(node)

    def operand(self) -> Node:
        """A reference to a node, or an inline scalar."""
        r = self.reader
        token = r.token
        if token.kind == "ref":
            r.next()
            node = self.known.get(r.unquote(token, token.text[1:]))
            return node if node is not None else r.fail(f"{token.text} is not defined", token)
        return self.scalar(r.scalar())

    def scalar(self, value: np.ndarray[Any, Any]) -> Node:
        """The one node of this graph for a 0-d constant."""
        key = (value.dtype, value.tobytes())
        node = self.scalars.get(key)
        if node is None:
            op, attrs = get_op("constant"), {"value": value}
            node = self.scalars[key] = Node(op, (), attrs, op.infer((), attrs))
            self.nodes.append(node)
        return node

    def statement(self) -> None:
        """``%name = op operands {attrs} : type  # file:line``."""
        r = self.reader
        name = self.define()
        r.expect("=")
        token = r.expect_kind("word", "the name of an op")
        op = self.op(token)
        inputs: list[Node] = []
        while r.token.text not in ("{", ":"):
            if inputs:
                r.expect(",")
            inputs.append(self.operand())
        attrs = self.attrs(op) if r.token.text == "{" else {}
        r.expect(":")
        at = r.token
        stated = r.type()
        type = self.infer(op, inputs, attrs, token)
        if type != stated:
            r.fail(f"{op.name} gives {type}, the text says {stated}", at)
        node = Node(op, tuple(inputs), attrs, type, self.origin(), name)
        self.known[name] = node
        self.nodes.append(node)

    def op(self, token: _Token) -> Op:
        """The op of this name."""
        try:
            return get_op(token.text)
        except WeftError as error:
            self.reader.fail(error.what, token, error.repair)

    def attrs(self, op: Op) -> dict[str, Any]:
        """The attributes in braces."""
        found: dict[str, Any] = {}
        r = self.reader

        def one() -> None:
            token = r.expect_kind("word", "the name of an attribute")
            if token.text not in op.attrs or token.text in found:
                r.fail(f"{op.name} has no attribute {token.text!r} here", token,
                       f"its attributes are {', '.join(op.attrs)}" if op.attrs else None)
            r.expect("=")
            found[token.text] = r.value()

        r.items("{", "}", one)
        return found

    def infer(self, op: Op, inputs: list[Node], attrs: dict[str, Any], token: _Token) -> Type:
        """The type by the op's rule."""
        try:
            return op.infer(tuple(i.type for i in inputs), attrs)
        except WeftError as error:
            self.reader.fail(error.what, token, error.repair)
        except KeyError as error:
            self.reader.fail(f"{op.name} lacks the attribute {error.args[0]}", token)
        except Exception:  # rules assume well-formed operands; whatever breaks is the text's fault
            self.reader.fail(f"the operands or attributes do not fit {op.name}", token)

    def origin(self) -> Origin | None:
        """The line of user code named by the comment behind the last token."""
        comment = self.reader.comments.get(self.reader.at - 1)
        found = _ORIGIN.fullmatch(comment) if comment else None
        return Origin(found[1], int(found[2])) if found else None
