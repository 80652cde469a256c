"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.structure.sources import modules

NAMES = [m.name for m in modules() if ">>> " in m.text]


@pytest.mark.parametrize("name", NAMES)
def test_doctests(name: str) -> None:
    """All examples of one module."""
    module = importlib.import_module(name)
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert tried, f"doctest finds no example in {name}"
    assert not failed


def test_every_module_can_be_imported() -> None:
    """No module fails at import, `__main__` apart, which runs the command line.

    What only a device's own library is missing for is passed over.
    """
    for module in modules():
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if error.name not in ("cupy", "jax"):
                    raise
