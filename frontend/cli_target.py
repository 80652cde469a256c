"""What a command of the shell names: a function in a file, its arguments as types, a graph."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from weft.compiler.errors import WeftError
from weft.compiler.ir import Graph
from weft.compiler.text import parse
from weft.compiler.types import DTYPES
from weft.frontend.jit import Jit, jit
from weft.frontend.signature import Pattern

__all__ = ["CommandError", "load_function", "parse_arguments", "read_graph"]

_TYPE = re.compile(r"(\w+)\s*(?:\[([^\]]*)\])?")
_OPEN_SIZE = 4     # elements along a symbolic size: only its name matters


class CommandError(WeftError):
    """A command that cannot be carried out as it was given."""


def load_function(target: str, text: str, device: str | None) -> tuple[Jit, list[Any]]:
    """The function that ``FILE:function`` names, jitted, and arguments of the types in `text`."""
    path, _, name = target.rpartition(":")
    fn = _find(_module(Path(path)), name, path)
    arguments, patterns = parse_arguments(text)
    plain = fn.__wrapped__ if isinstance(fn, Jit) else fn
    if not callable(plain):
        raise CommandError(f"{name} of {path} is a {type(plain).__name__}", expected="a function")
    options = fn.options if isinstance(fn, Jit) else None
    made = jit(plain, device=device or (options.device if options else None),
               fast_math=options.fast_math if options else False,
               precision=options.precision if options else "highest")
    names = [made.argument_name(i) for i in range(len(arguments))]
    shapes = {names[i]: pattern for i, pattern in patterns.items()}
    return (made.with_shapes(shapes) if shapes else made), arguments


def read_graph(file: str) -> Graph:
    """The graph in a text file, or in what stands on the input for ``-``."""
    if file == "-":
        return parse(sys.stdin.read())
    try:
        return parse(Path(file).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise CommandError(f"{file} is not text", expected="a graph as weft prints it") from None


def parse_arguments(text: str) -> tuple[list[Any], dict[int, Pattern]]:
    """Arguments from their types or values, and the symbolic shapes among them by position.

    ``f32[3, 4]`` is an array, ``f32[B, 4]`` one with a size left open, ``f32`` a NumPy scalar;
    Python numbers, strings and None stand for themselves.

    >>> arguments, shapes = parse_arguments("f32[B, 2], i8, 2.5, 'fast'")
    >>> [type(a).__name__ for a in arguments], shapes
    (['ndarray', 'int8', 'float', 'str'], {0: ('B', 2)})
    """
    arguments: list[Any] = []
    patterns: dict[int, Pattern] = {}
    for i, word in enumerate(_words(text)):
        value, pattern = _argument(word)
        arguments.append(value)
        if pattern is not None and any(isinstance(d, str) for d in pattern):
            patterns[i] = pattern
    return arguments, patterns


def _argument(word: str) -> tuple[Any, Pattern | None]:
    match = _TYPE.fullmatch(word)
    if match is None or match[1] not in DTYPES:
        return _literal(word), None
    dtype = DTYPES[match[1]].numpy
    if match[2] is None:
        return dtype.type(1), None
    pattern = tuple(map(_dim, filter(None, (d.strip() for d in match[2].split(",")))))
    shape = [_OPEN_SIZE if isinstance(d, str) else d for d in pattern]
    return np.ones(shape, dtype), pattern


def _dim(text: str) -> int | str:
    if text.isdecimal() and len(text) < 19:
        return int(text)
    if text.isidentifier():
        return text
    raise CommandError(f"{text!r} is not a size", expected="a number, or a name for an open size")


def _literal(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise CommandError(
            f"{word!r} is neither a type nor a value", expected=(
                "types such as f32[3, 4] or i64, or Python values"),
            repair=f"the element types are {', '.join(DTYPES)}") from None


def _words(text: str) -> Iterator[str]:
    """Split at commas outside of brackets and quotes."""
    word, depth, quote = "", 0, ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        else:
            depth += (c in "[({") - (c in "])}")
        if c == "," and depth == 0 and not quote:
            yield word.strip()
            word = ""
        else:
            word += c
    if word.strip():
        yield word.strip()


def _module(path: Path) -> Any:
    if not path.is_file():
        raise CommandError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{path} is not a Python file", expected="FILE.py:function")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))     # as Python does for a script
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _find(module: Any, name: str, path: str) -> Any:
    value = module
    for part in name.split("."):
        if not hasattr(value, part):
            near = difflib.get_close_matches(part, dir(value), 3)
            raise CommandError(f"{path} has no function {name!r}",
                               repair=f"did you mean {', '.join(near)}?" if near else None)
        value = getattr(value, part)
    return value
