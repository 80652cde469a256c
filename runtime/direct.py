"""The short way of calls that are like an earlier one: no key is made and nothing looked up.

A call is taken to be like the earlier one, and looked at closely enough to notice where it is not.
What can be left to the device is: XLA compares types, shapes and places in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from weft.compiler.errors import caller_origin
from weft.compiler.lazy_dataclass import dataclass
from weft.devices.protocol import Compiled, DeviceError, Direct, Memory
from weft.runtime.executable import MISSED

__all__ = ["DirectCall", "Expected", "direct_call", "is_dense", "program_of", "root"]

DirectCall: TypeAlias = Callable[[Sequence[Any]], Any]
_WRITTEN = 8        # arguments up to which a function is written for them


@dataclass(frozen=True)
class Expected:
    """An argument as it has to be: its class, and for an array of NumPy's its element type, in
    native byte order. `hand` makes of it what the program takes; None: as it is."""

    kind: type
    dtype: np.dtype[Any] | None = None
    hand: Callable[[Any], Any] | None = None


def direct_call(expected: Sequence[Expected], program: Direct,
                build: Callable[[list[Any]], Any] | None) -> DirectCall:
    """A function of flat arguments that gives the result, or `MISSED` where they do not fit.

    Without `build`, the result is what the program gives.
    """
    call, misfits, waiting, poll = program.call, program.misfits, program.waiting, program.poll

    def failed(error: Exception) -> Exception:
        error = program.told(error)
        if isinstance(error, DeviceError):
            error.origin = error.origin or caller_origin()
        return error

    if len(expected) <= _WRITTEN:
        return _written(expected, call=call, misfits=misfits, waiting=waiting, poll=poll,
                        failed=failed, build=build)

    plain = not any(e.hand for e in expected)
    facts: list[tuple[Any, Any]] = [(e.kind, e.dtype) for e in expected]

    def direct(leaves: Sequence[Any]) -> Any:
        if len(leaves) != len(facts):
            return MISSED
        for leaf, (kind, dtype) in zip(leaves, facts):
            if type(leaf) is not kind or (dtype is not None and leaf.dtype is not dtype):
                return MISSED
        if waiting and poll is not None:
            poll()
        try:
            results = call(*leaves) if plain else call(
                *[v if e.hand is None else e.hand(v) for e, v in zip(expected, leaves)])
        except misfits:
            return MISSED
        except Exception as error:
            raise failed(error) from error.__cause__
        return results if build is None else build(results)

    return direct


def _written(expected: Sequence[Expected], **names: Any) -> DirectCall:
    """The same, written out for so many arguments: loops would take as long as all the rest."""
    names.update(MISSED=MISSED)
    tests, passed = [], []
    for i, e in enumerate(expected):
        names.update({f"kind{i}": e.kind, f"dtype{i}": e.dtype, f"hand{i}": e.hand})
        tests.append(f"type(v{i}) is not kind{i}")
        tests += [f"v{i}.dtype is not dtype{i}"] if e.dtype is not None else []
        passed.append(f"v{i}" if e.hand is None else f"hand{i}(v{i})")
    text = _TEXT.format(
        count=len(expected), variables="".join(f"v{i}, " for i in range(len(expected))),
        tests=" or ".join(tests) or "False", call=f"call({', '.join(passed)})")
    exec(text if names["build"] else text.replace("build(results)", "results"), names)
    made: DirectCall = names["direct"]
    return made


_TEXT = """\
def direct(leaves):
    if len(leaves) != {count}:
        return MISSED
    [{variables}] = leaves
    if {tests}:
        return MISSED
    if waiting:
        poll()
    try:
        results = {call}
    except misfits:
        return MISSED
    except Exception as error:
        raise failed(error) from error.__cause__
    return build(results)
"""


def _same(value: Any) -> Any:
    return value


def program_of(compiled: Compiled, memory: Memory, leaves: Sequence[Any], host: Sequence[int],
               donates: bool) -> Direct | None:
    """The device's own way into the program, else one that looks at the arrays here.

    The arguments with the indices `host` are brought to the device.
    """
    made = getattr(compiled, "direct", None)
    if made is not None:
        found: Direct | None = made(host)
        return found
    return None if any(isinstance(leaves[i], np.generic) for i in host) else _looking(
        compiled, memory, leaves, host, donates)


class _Misfit(Exception):
    """An argument that is not like that of the earlier call."""


def _looking(compiled: Compiled, memory: Memory, leaves: Sequence[Any], host: Sequence[int],
             donates: bool) -> Direct:
    run, owns = compiled.run, memory.owns
    facts = [None if i in host and not isinstance(v, np.ndarray) else (v.dtype, tuple(v.shape))
             for i, v in enumerate(leaves)]
    known = [(i, fact) for i, fact in enumerate(facts) if fact is not None]
    there = [i for i in range(len(leaves)) if i not in host]

    def call(*arrays: Any) -> list[Any]:
        for i, fact in known:
            if (arrays[i].dtype, arrays[i].shape) != fact:
                raise _Misfit
        for i in there:
            if not (owns(arrays[i]) and is_dense(arrays[i])):
                raise _Misfit
        if donates and len(set(map(root, arrays))) != len(arrays):
            raise _Misfit
        return run(arrays)

    return Direct(call, (_Misfit,), _same)


_strided: dict[type, bool] = {}         # whether arrays of a class have strides: not all do


def is_dense(array: Any) -> bool:
    """Whether the elements lie in C order without gaps."""
    cls = type(array)
    strided = _strided.get(cls)
    if strided is None:
        strided = _strided[cls] = hasattr(array, "flags")
    return not strided or bool(array.flags.c_contiguous)


def root(array: Any) -> int:
    """The identity of the array whose memory this one is or shares."""
    base = getattr(array, "base", None)
    return id(array if base is None else base)
