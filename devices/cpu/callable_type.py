"""Python classes whose instances are called straight into native code.

`native_callable(Base)` is a subclass of an ordinary Python class, made by CPython's own
`PyType_FromSpecWithBases`, that adds to each instance one machine word: the address of the function
to be called when the instance is (PEP 590, vectorcall). Everything else (methods, attributes,
`__get__`, weak references, garbage collection) is the base's.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, TypeVar

from weft.devices.cpu.python_api import supported

__all__ = ["native_callable", "set_entry"]

T = TypeVar("T")

# Flags, slot numbers and member kinds of CPython's stable ABI.
_BASETYPE, _VECTORCALL = 1 << 10, 1 << 11
_TP_MEMBERS = 72
_T_PYSSIZET, _READONLY = 19, 1


class _Member(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("type", ctypes.c_int), ("offset", ctypes.c_ssize_t),
                ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


class _Slot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("pfunc", ctypes.c_void_p))


class _Spec(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("basicsize", ctypes.c_int), ("itemsize", ctypes.c_int),
                ("flags", ctypes.c_uint), ("slots", ctypes.POINTER(_Slot)))


@functools.cache
def native_callable(base: type[T]) -> type[T]:
    """A subclass of `base`, of the same name, whose instances can have a native entry.

    Until `set_entry` gives it one, calling an instance calls its method `_dispatch` with the
    arguments; so does an entry that misses. `base` is a class written in Python, of metaclass
    `type` and without `__slots__`, that defines `_dispatch` and, as the same thing, `__call__`:
    where native entries are not possible (`python_api.supported()` is false), `base` itself is
    returned and its `__call__` is what runs.
    """
    if not supported():
        return base
    made = _make(base)
    made.__module__, made.__qualname__ = base.__module__, base.__qualname__
    made.__doc__ = base.__doc__
    return made


def set_entry(instance: object, address: int) -> bool:
    """Let calls of the instance go to the vectorcall function at the address; 0 for `_dispatch`.

    Returns whether that is possible, which it is for instances of a `native_callable` class where
    those are supported. The code must stay loaded as long as the instance lives: a call of the
    old entry may be running on another thread when the entry changes.
    """
    offset = _offsets.get(type(instance))
    if offset is None:
        return False
    ctypes.c_size_t.from_address(id(instance) + offset).value = address
    return True


_offsets: dict[type, int] = {}  # class made here -> where in an instance the address stands
_kept: list[Any] = []           # what CPython may point to as long as a class lives


def _make(base: type[T]) -> type[T]:
    """The subclass, made from a specification as an extension module would.

    It inherits `tp_call`, which is what CPython calls as long as the vectorcall address is null.
    """
    offset = -(-base.__basicsize__ // 8) * 8
    members = (_Member * 2)(_Member(b"__vectorcalloffset__", _T_PYSSIZET, offset, _READONLY))
    slots = (_Slot * 2)(_Slot(_TP_MEMBERS, ctypes.addressof(members)))
    name = f"{base.__module__}.{base.__qualname__}".encode()
    spec = _Spec(name, offset + 8, 0, _BASETYPE | _VECTORCALL, slots)
    create = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object)(
        ("PyType_FromSpecWithBases", ctypes.pythonapi))
    made: type[T] = create(ctypes.addressof(spec), (base,))
    _kept.append((members, slots, name, spec))
    _offsets[made] = offset
    return made
