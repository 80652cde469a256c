"""What is remembered of every compilation, and why there was another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from weft.compiler.lazy_dataclass import dataclass
from weft.frontend.signature import Description, differences

__all__ = ["FIRST", "Record", "reasons"]

FIRST = "first call"


@dataclass(frozen=True)
class Record:
    """One compilation: its signature, why it was made, and the seconds each stage took.

    `signature` tells signatures apart; `specialized` gives the arguments whose values the code
    needed, by name; `outside` what it read beside its arguments.
    """

    signature: int
    description: Description
    specialized: Mapping[str, str]
    outside: Mapping[str, str]
    reasons: tuple[str, ...]
    seconds: Mapping[str, float]
    kernels: int
    device: str = "cpu"

    @property
    def text(self) -> str:
        """The signature, with the values it was specialised to."""
        values = ", ".join(f"{name} = {value}" for name, value in self.specialized.items())
        return self.description.text + (f" where {values}" if values else "")


def reasons(signature: int, description: Description, values: Mapping[str, str],
            outside: Mapping[str, str], device: str, earlier: Sequence[Record]) -> tuple[str, ...]:
    """Why this had to be compiled though `earlier` had been. `values`: of the Python scalars."""
    if not earlier:
        return (FIRST,)
    same = [r for r in earlier if r.signature == signature]
    if same:
        return tuple(_value_differences(same[-1], values)) or (
            "compiled before, but dropped from the cache since",)
    nearest = min((_all_differences(r, description, outside, device) for r in reversed(earlier)),
                  key=len)
    return tuple(nearest) or (
        "something the code reads has been replaced",)


def _value_differences(old: Record, values: Mapping[str, str]) -> list[str]:
    return [f"argument {name}: value {was} → {values[name]} (the code needs its value)"
            for name, was in old.specialized.items() if values.get(name, was) != was]


def _all_differences(old: Record, new: Description, outside: Mapping[str, str],
                     device: str) -> list[str]:
    moved = [f"device: {old.device} → {device}"] if old.device != device else []
    return moved + differences(old.description, new) + [
        f"{name}: {was} → {outside[name]}"
        for name, was in old.outside.items() if outside.get(name, was) != was]
