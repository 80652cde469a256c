"""Compiled programs as bytes, for the disk cache, and back.

The facts are written as a Python literal (`ast.literal_eval` reads nothing else), followed by the
constants and the code. What is read is not trusted: everything is checked to be what it should be
before anything is made of it. Lines of user code are kept as numbers, which the digest of the graph
gives a meaning (`weft.compiler.digest`): where the code has moved in its file, so do its errors.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import Origin
from weft.compiler.types import DTYPES, Dim, Size, TensorType, numel
from weft.devices.cpu.compiled import CpuCompiled, Facts, Status
from weft.devices.cpu.linker import Code, read_code

__all__ = ["program_bytes", "read_program"]

_MAGIC = b"WEFTPRG1"
_HEAD = struct.Struct("<8sI")
_MOST = 1 << 20         # bytes of constants worth keeping, and of a description worth reading


def program_bytes(program: CpuCompiled, origins: Sequence[Origin]) -> bytes | None:
    """The program as bytes, or None where it is not to be kept.

    `origins` are the lines of user code that errors may name.
    """
    facts = program.facts
    number: dict[Origin | None, int] = {None: -1, **{o: i for i, o in enumerate(origins)}}
    if sum(a.nbytes for a in facts.constants) > _MOST or any(
            f.origin not in number for f in facts.statuses.values()):
        return None
    text = repr((
        [_type(t) for t in facts.params], [(slot, *_type(t)) for slot, t in facts.results],
        list(facts.order), list(facts.symbols),
        [(status, f.kind, f.axis, _dim(f.size), number[f.origin], f.text)
         for status, f in facts.statuses.items()],
        [_type(TensorType(a.shape, _dtype(a))) for a in facts.constants],
        facts.kernels, facts.work, list(facts.externals))).encode()
    return b"".join([_HEAD.pack(_MAGIC, len(text)), text,
                     *[a.tobytes() for a in facts.constants], program.code.to_bytes()])


def read_program(data: bytes, origins: Sequence[Origin]) -> CpuCompiled:
    """The program that these bytes are, loaded. Raises `ValueError` if they are none."""
    facts, code = _read(data, origins)
    try:
        return CpuCompiled(code, facts)
    except RuntimeError as error:
        raise ValueError(f"a program that cannot be loaded: {error}") from None


def _read(data: bytes, origins: Sequence[Origin]) -> tuple[Facts, Code]:
    try:
        magic, length = _HEAD.unpack_from(data)
        start = _HEAD.size + length
        if magic != _MAGIC or length > _MOST or start > len(data):
            raise ValueError("not a program")
        (params, results, order, symbols, statuses, constants, kernels, work,
         externals) = ast.literal_eval(data[_HEAD.size:start].decode())
        arrays, start = _arrays([_as_type(*t) for t in constants], data, start)
        lines = [*origins, None]        # -1 is the last
        facts = Facts(
            tuple(_as_type(*t) for t in params),
            tuple((_int(slot), _as_type(*t)) for slot, *t in results),
            tuple(map(_int, order)), tuple(map(_str, symbols)),
            {_int(status): Status(_str(kind), _int(axis), _as_dim(size), lines[_int(line)],
                                  _str(text))
             for status, kind, axis, size, line, text in statuses},
            arrays, _int(kernels), None if work is None else _int(work),
            tuple(map(_str, externals)))
    except (TypeError, SyntaxError, KeyError, IndexError, struct.error, RecursionError,
            MemoryError) as error:
        raise ValueError(f"not a program: {error}") from None
    if any(not -len(facts.params) <= i < len(facts.results) for i in facts.order) or any(
            not 0 <= slot < len(facts.order) for slot, _ in facts.results):
        raise ValueError("not a program: a result is not there")
    return facts, read_code(data[start:])


def _arrays(types: Sequence[TensorType], data: bytes, start: int
            ) -> tuple[tuple[np.ndarray[Any, Any], ...], int]:
    """Arrays that lie one after another, and where they end."""
    made = []
    for type in types:
        count = numel(type.shape)
        if not isinstance(count, int):
            raise ValueError("not a program: a constant without a size")
        end = start + count * type.dtype.itemsize
        flat = np.frombuffer(data[start:end], type.dtype.numpy, count)
        made.append(flat.reshape([_int(d) for d in type.shape]))
        start = end
    return tuple(made), start


def _type(type: TensorType) -> tuple[str, list[Any]]:
    return type.dtype.name, [_dim(d) for d in type.shape]


def _as_type(dtype: Any, shape: Any) -> TensorType:
    return TensorType(tuple(map(_as_dim, shape)), DTYPES[dtype])


def _dtype(array: np.ndarray[Any, Any]) -> Any:
    return next(d for d in DTYPES.values() if d.numpy == array.dtype)


def _dim(d: Dim) -> Any:
    """A number, or a symbolic size as its terms."""
    return d if isinstance(d, int) else [(list(names), factor) for names, factor in d.terms]


def _as_dim(value: Any) -> Dim:
    if isinstance(value, list) and value:
        terms = {tuple(map(_str, names)): _int(factor) for names, factor in value}
        return Size(terms)
    return _positive(value)


def _int(value: Any) -> int:
    if type(value) is not int or not -1 << 63 <= value < 1 << 63:
        raise ValueError(f"not a program: {value!r} is no number")
    return value


def _positive(value: Any) -> int:
    if _int(value) < 0:
        raise ValueError(f"not a program: {value} is no size")
    return int(value)


def _str(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"not a program: {value!r} is no name")
    return value
