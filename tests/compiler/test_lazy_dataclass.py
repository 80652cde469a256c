"""`lazy_dataclass.dataclass` against the standard library's, on the same classes."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import pytest

from weft.compiler.lazy_dataclass import dataclass as lazy

Decorator = Callable[..., Any]


def _classes(dataclass: Decorator) -> tuple[Any, ...]:
    @dataclass(frozen=True)
    class Point:
        """A point."""

        x: float
        y: int = 0
        note: Any = field(default=None, compare=False)
        kind: ClassVar[str] = "point"

    @dataclass(frozen=True)
    class Named(Point):
        """A derived class, with checks."""

        names: list[str] = field(default_factory=list, repr=False)

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError("negative")

    @dataclass(eq=False)
    class Open:
        """Not frozen, compared by identity."""

        value: int = 3

    @dataclass
    class Plain:
        """Compared by value, not hashable."""

        value: int

    @dataclass(frozen=True)
    class Empty:
        """No field, its own repr."""

        def __repr__(self) -> str:
            return "nothing"

    return Point, Named, Open, Plain, Empty


BOTH = pytest.mark.parametrize("dataclass", [dataclasses.dataclass, lazy])


@BOTH
def test_behaves_as_the_standard_librarys(dataclass: Decorator) -> None:
    point, named, opened, plain, empty = _classes(dataclass)
    assert dataclasses.is_dataclass(point)
    assert [f.name for f in dataclasses.fields(named)] == ["x", "y", "note", "names"]
    p = point(1.5, note="a")
    assert p == point(1.5, 0, "b") and p != point(1.5, 1) and hash(p) == hash((1.5, 0))
    assert p != named(1.5) and repr(p).endswith("Point(x=1.5, y=0, note='a')")
    assert dataclasses.replace(p, y=7) == point(x=1.5, y=7) and copy.deepcopy(p) == p
    assert named(1.0).names == [] and named(1.0).names is not named(1.0).names
    assert repr(named(1.0)).endswith("Named(x=1.0, y=0, note=None)")
    assert point.kind == "point" and point.__match_args__ == ("x", "y", "note")
    assert repr(empty()) == "nothing" and empty() == empty() and hash(empty()) == hash(())
    assert opened() != opened() and hash(opened()) and opened(4).value == 4
    assert plain(1) == plain(1) and point(float("nan")) != point(float("nan"))
    with pytest.raises(TypeError, match="unhashable"):
        hash(plain(1))
    with pytest.raises(ValueError, match="negative"):
        named(-1.0)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        p.x = 2.0
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del p.x
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        point()
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        point(1.0, z=2)


@BOTH
def test_plain_subclass(dataclass: Decorator) -> None:
    point = _classes(dataclass)[0]

    class Shifted(point):  # type: ignore[misc, valid-type]
        pass

    assert Shifted(1.0, 2).y == 2 and isinstance(Shifted(1.0), point)
