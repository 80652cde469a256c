"""The examples in the documentation of the compiler's modules hold."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import weft.compiler


def _modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(weft.compiler.__path__, "weft.compiler."):
        yield found.name
    yield "weft.devices.reference"


@pytest.mark.parametrize("name", list(_modules()))
def test_examples(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.failed == 0
