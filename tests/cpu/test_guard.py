"""Guards: variables found by address, and lost again."""

from types import CellType

import numpy as np
import pytest

from weft.devices.cpu import guard
from weft.devices.cpu.guard import Variable, guard_ir, load_guard, supported

needs_layouts = pytest.mark.skipif(not supported(), reason="this interpreter's layouts are others")


@needs_layouts
def test_variables_are_found():
    scope = {"a": 1.5, "b": np.ones(3)}
    for name, value in scope.items():
        row = guard._row(Variable(scope, name, value))
        assert row[0] == id(scope) and row[5] == id(value)
    assert guard._row(Variable(scope, "a", 2.5)) is None             # holds something else
    assert guard._row(Variable(scope, "missing", 1.5)) is None
    cell = CellType(7)
    assert guard._row(Variable(cell, "cell_contents", 7))[5] == id(7)


@needs_layouts
def test_dictionaries_that_are_none_of_pythons_own_are_refused():
    class Mine(dict):
        pass
    value = 2.5
    assert guard._row(Variable(Mine(a=value), "a", value)) is None


@needs_layouts
def test_a_table_with_other_keys_and_deleted_ones():
    value = "text"
    scope = {1: 2, "a": value, (3,): 4}
    assert guard._row(Variable(scope, "a", value))[5] == id(value)
    del scope["a"]
    assert guard._row(Variable(scope, "a", value)) is None


def test_without_known_layouts_there_are_no_guards(monkeypatch):
    monkeypatch.setattr(guard, "supported", lambda: False)
    assert load_guard(object(), [Variable({"a": 1}, "a", 1)], 0) is None


def test_the_text_depends_on_kinds_alone():
    assert guard_ir("dcDC", 2) == guard_ir("dcDC", 2) != guard_ir("dcDD", 2)
    kinds = [Variable({}, "a", 1).kind, Variable({}, "a", 1, passed=True).kind,
             Variable(CellType(), "a", 1).kind, Variable(CellType(), "a", 1, passed=True).kind]
    assert kinds == ["d", "D", "c", "C"]
