"""The short way of calls that are like an earlier one: no key is made and nothing looked up.

A call is taken to be like the earlier one, and looked at closely enough to notice where it is not.
What can be left to the device is: XLA compares types, shapes and places in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from weft.compiler.errors import caller_origin
from weft.devices.protocol import Compiled, DeviceError, Direct, Memory
from weft.runtime.executable import MISSED

__all__ = ["DirectCall", "Misfit", "direct_call", "is_dense", "program_of", "root"]

DirectCall: TypeAlias = Callable[[Sequence[Any]], Any]
Handers: TypeAlias = Sequence[Callable[[Any], Any] | None]


def direct_call(kinds: Sequence[type], handers: Handers, program: Direct,
                build: Callable[[list[Any]], Any] | None) -> DirectCall:
    """A function of flat arguments that gives the result, or `MISSED` where they do not fit.

    `kinds` are the classes that they have to have; `handers` bring those to the device that lie
    elsewhere; without `build`, the result is what the program gives.
    """
    call, waiting, poll = program.call, program.waiting, program.poll
    misfits: tuple[type[Exception], ...] = (*program.misfits, Misfit)

    def alike(leaves: Sequence[Any]) -> Any:
        for leaf in leaves:
            if type(leaf) is not kind:
                return MISSED
        if waiting and poll is not None:
            poll()
        try:
            results = call(*leaves)
        except misfits:
            return MISSED
        except Exception as error:
            raise _with_line(program.told(error)) from error.__cause__
        return results if build is None else build(results)

    def mixed(leaves: Sequence[Any]) -> Any:
        if len(leaves) != len(kinds):
            return MISSED
        for leaf, wanted in zip(leaves, kinds):
            if type(leaf) is not wanted:
                return MISSED
        if waiting and poll is not None:
            poll()
        try:
            results = call(*[leaf if hand is None else hand(leaf)
                             for leaf, hand in zip(leaves, handers)])
        except misfits:
            return MISSED
        except Exception as error:
            raise _with_line(program.told(error)) from error.__cause__
        return results if build is None else build(results)

    kind = kinds[0] if kinds else None
    return mixed if any(handers) or len(set(kinds)) != 1 else alike


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


class Misfit(Exception):
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
                raise Misfit
        for i in there:
            if not (owns(arrays[i]) and is_dense(arrays[i])):
                raise Misfit
        if donates and len(set(map(root, arrays))) != len(arrays):
            raise Misfit
        return run(arrays)

    return Direct(call, (), _same)


def _same(error: Exception) -> Exception:
    return error


def _with_line(error: Exception) -> Exception:
    if isinstance(error, DeviceError):
        error.origin = error.origin or caller_origin()
    return error


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
