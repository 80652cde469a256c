"""Guards: native code that stands before an entry and looks whether variables still hold.

Compiled code depends on globals and closed-over variables too. A guard finds each by address: a
variable in a module's dictionary, or in a cell. Numbers and strings must be the very objects they
were; arrays are handed to the entry as further arguments, which it checks like the others.

Where a dictionary's items lie is found by looking for the name and the value side by side in its
table, and tried out on a dictionary of our own before any guard is made (`supported`). A guard
compares the table's address, its size and the name each time: a table that has moved is a miss.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from types import CellType
from typing import Any

from weft.compiler.lazy_dataclass import dataclass
from weft.devices.cpu.engine import Entry, Library, load
from weft.devices.cpu.native import glue
from weft.devices.cpu.python_api import supported as layouts_known
from weft.devices.protocol import Cache

__all__ = ["Guard", "Variable", "guard_ir", "load_guard", "supported"]

_TABLE, _SIZE, _CELL = 32, 8, 16   # of a dict: its table; of that: a word with its size; of a cell
_WORDS = 6                         # a row: holder, table, size word, item, name, value
_SIZE_MASK = 0xFFFF


@dataclass(frozen=True, eq=False)
class Variable:
    """One variable: the dictionary or cell that holds it, its name there, and what it holds.

    With `passed`, the entry gets the value as an argument; otherwise it must stay the same object.
    """

    holder: dict[str, Any] | CellType
    name: str
    value: Any
    passed: bool = False

    @property
    def kind(self) -> str:
        """A letter: `d` or `c` for a dictionary or a cell, capital if the value is passed on."""
        letter = "d" if isinstance(self.holder, dict) else "c"
        return letter.upper() if self.passed else letter


@dataclass(frozen=True, eq=False)
class Guard:
    """A guard and the entry behind it, used like an entry."""

    entry: Entry
    variables: tuple[Variable, ...]    # held: the code compares their addresses
    library: Library
    address: int

    def renew(self) -> bool:
        """Find the variables again, since a dictionary's table moves as it grows; whether all
        still hold."""
        rows = [_row(v) for v in self.variables]
        words = (ctypes.c_size_t * (_WORDS * len(rows))).from_address(self.library.address("rows"))
        words[:] = [word for row in rows for word in row or (0,) * _WORDS]
        return None not in rows

    def set_next(self, address: int) -> None:
        """Let misses go to the function at this address."""
        ctypes.c_size_t.from_address(self.library.address("missed")).value = address
        if not any(v.passed for v in self.variables):
            self.entry.set_next(address)


@functools.cache
def supported() -> bool:
    """Whether variables can be found by address in this interpreter."""
    if not layouts_known():
        return False
    names = [f"name{i}" for i in range(9)]
    scope: dict[str, Any] = {name: float(i) for i, name in enumerate(names)}
    cell = CellType(names)
    before = [_row(Variable(scope, n, scope[n])) for n in names]
    scope["name3"] = other = 77.5
    after = _row(Variable(scope, "name3", other))
    return (None not in before and after is not None and after[:5] == (before[3] or ())[:5]
            and _word(id(cell) + _CELL) == id(names))


def load_guard(entry: Entry, variables: Sequence[Variable], arguments: int,
               cache: Cache | None = None) -> Guard | None:
    """A guard before an entry that takes `arguments` arguments and then the variables passed on.

    None where a variable cannot be found by address.
    """
    if not supported():
        return None
    kinds = "".join(v.kind for v in variables)
    code = glue(f"guard {kinds} {arguments}", lambda: guard_ir(kinds, arguments), cache)
    library = load(code, [entry.library], exports=("guard", "rows", "behind", "missed", "strip"))
    ctypes.c_size_t.from_address(library.address("behind")).value = entry.address
    if any(v.passed for v in variables):
        entry.set_next(library.address("strip"))
    guard = Guard(entry, tuple(variables), library, library.address("guard"))
    return guard if guard.renew() else None


def _row(variable: Variable) -> tuple[int, ...] | None:
    holder, value = variable.holder, variable.value
    if isinstance(holder, CellType):
        return id(holder), 0, 0, id(holder) + _CELL - 8, 0, id(value)
    name = next((k for k in holder if k == variable.name), None)
    table = _word(id(holder) + _TABLE)
    size = holder.__sizeof__() - object.__sizeof__(holder)      # that of the table
    if name is None or type(holder) is not dict:
        return None
    for item in range(table, table + size - 8, 8):
        if _word(item) == id(name) and _word(item + 8) == id(value):
            return id(holder), table, _word(table + _SIZE) & _SIZE_MASK, item, id(name), id(value)
    return None


def _word(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value


def guard_ir(kinds: str, arguments: int) -> str:
    """The module of a guard for variables of these kinds. It depends on nothing else.

    `guard` has the vectorcall signature. `rows` has six words for each variable; `behind` is the
    entry; `missed` the function to call on a miss; `strip` takes the variables off the arguments
    again and goes there.
    """
    return _Writer(kinds, arguments).module()


class _Writer:
    def __init__(self, kinds: str, arguments: int) -> None:
        self.kinds = kinds
        self.arguments = arguments
        self.lines: list[str] = []
        self._count = 0

    def module(self) -> str:
        """The whole text."""
        passed = [self.check(i, kind) for i, kind in enumerate(self.kinds)]
        arrays = [value for value in passed if value]
        self.call_with(arrays) if arrays else self.call()
        return _MODULE.format(
            rows=_WORDS * len(self.kinds), body="\n".join(self.lines), extra=len(arrays))

    def let(self, text: str) -> str:
        """Write an instruction and return its value."""
        self._count += 1
        self.lines.append(f"  %v{self._count} = {text}")
        return f"%v{self._count}"

    def same(self, a: str, b: str) -> None:
        """Miss unless two words are equal."""
        equal = self.let(f"icmp eq i64 {a}, {b}")
        self._count += 1
        self.lines += [f"  br i1 {equal}, label %go{self._count}, label %miss",
                       f"go{self._count}:"]

    def word(self, row: int, column: int) -> str:
        """A word of the table of variables."""
        at = 8 * (_WORDS * row + column)
        return self.let(f"load i64, ptr getelementptr (i8, ptr @rows, i64 {at})")

    def read(self, address: str, offset: int = 0) -> str:
        """The word at an address."""
        where = self.let(f"add i64 {address}, {offset}")
        return self.let(f"load i64, ptr {self.let(f'inttoptr i64 {where} to ptr')}")

    def check(self, row: int, kind: str) -> str:
        """Check a variable; its value if that is passed on."""
        item = self.word(row, 3)
        if kind in "dD":
            table = self.word(row, 1)
            self.same(self.read(self.word(row, 0), _TABLE), table)
            size = self.let(f"and i64 {self.read(table, _SIZE)}, {_SIZE_MASK}")
            self.same(size, self.word(row, 2))
            self.same(self.read(item), self.word(row, 4))
        value = self.read(item, 8)
        if kind in "dc":
            self.same(value, self.word(row, 5))
            return ""
        empty = self.let(f"icmp eq i64 {value}, 0")
        self._count += 1
        self.lines += [f"  br i1 {empty}, label %miss, label %go{self._count}",
                       f"go{self._count}:"]
        return self.let(f"inttoptr i64 {value} to ptr")

    def call(self) -> None:
        """Go on to the entry with the same arguments."""
        behind = self.let("load ptr, ptr @behind")
        result = self.let(f"musttail call ptr {behind}({_SAME})")
        self.lines.append(f"  ret ptr {result}")

    def call_with(self, arrays: list[str]) -> None:
        """Call the entry with further arguments, held meanwhile: a variable may be bound anew."""
        given = self.let("and i64 %nargsf, 9223372036854775807")
        self.same(given, str(self.arguments))
        self.same(self.let("ptrtoint ptr %kwnames to i64"), "0")
        total = self.arguments + len(arrays)
        block = self.let(f"alloca [{total + 1} x ptr]")
        for i in range(total):
            source = arrays[i - self.arguments] if i >= self.arguments else self.let(
                f"load ptr, ptr {self.let(f'getelementptr ptr, ptr %args, i64 {i}')}")
            to = self.let(f"getelementptr ptr, ptr {block}, i64 {i + 1}")
            self.lines.append(f"  store ptr {source}, ptr {to}")
        self.lines += [f"  call void @Py_IncRef(ptr {a})" for a in arrays]
        first = self.let(f"getelementptr ptr, ptr {block}, i64 1")
        behind = self.let("load ptr, ptr @behind")
        result = self.let(f"call ptr {behind}(ptr %self, ptr {first}, i64 {total}, ptr null)")
        self.lines += [f"  call void @Py_DecRef(ptr {a})" for a in arrays]
        self.lines.append(f"  ret ptr {result}")


_SAME = "ptr %self, ptr %args, i64 %nargsf, ptr %kwnames"
_MODULE = f"""
declare ptr @weft_dispatch(ptr, ptr, i64, ptr) nounwind
declare void @Py_IncRef(ptr) nounwind
declare void @Py_DecRef(ptr) nounwind
@rows = global [{{rows}} x i64] zeroinitializer
@behind = global ptr null
@missed = global ptr @weft_dispatch

define ptr @guard({_SAME}) nounwind {{{{
{{body}}
miss:
  %next = load ptr, ptr @missed
  %missed = musttail call ptr %next({_SAME})
  ret ptr %missed
}}}}

define ptr @strip({_SAME}) nounwind {{{{
  %fewer = sub i64 %nargsf, {{extra}}
  %next = load ptr, ptr @missed
  %missed = musttail call ptr %next(ptr %self, ptr %args, i64 %fewer, ptr %kwnames)
  ret ptr %missed
}}}}
"""
