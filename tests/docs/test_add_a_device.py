"""docs/add-a-device.md describes devices that work; they are run, and held to conformance."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import numpy as np
import pytest

import weft
from tests.docs.markdown import ROOT, blocks
from weft.devices import registry
from weft.devices.conformance import Subject, conformance
from weft.frontend.conformance import check_device_conformance

FILE = ROOT / "docs" / "add-a-device.md"
PACKAGE, QUEUE = ROOT / "examples" / "weft-cc", ROOT / "examples" / "weft-queue"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def modules() -> Iterator[None]:
    """The examples' modules, as if they were installed."""
    for folder in (PACKAGE, QUEUE):
        name = folder.name.replace("-", "_")
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None and spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules[name] = made
        spec.loader.exec_module(made)
    yield
    del sys.modules["weft_cc"], sys.modules["weft_queue"]


@pytest.fixture
def installed(modules: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their entry points are there."""
    projects = [tomllib.loads((folder / "pyproject.toml").read_text())["project"]
                for folder in (PACKAGE, QUEUE)]
    points = [EntryPoint(name, value, registry.GROUP) for project in projects
              for name, value in project["entry-points"][registry.GROUP].items()]
    monkeypatch.setattr("importlib.metadata.entry_points",
                        lambda group: points if group == registry.GROUP else [])
    monkeypatch.setattr(registry, "_devices", dict(registry._devices))


def test_what_is_quoted_stands_there() -> None:
    for file, least in ((PACKAGE / "weft_cc.py", 5), (QUEUE / "weft_queue.py", 2)):
        source = file.read_text()
        quoted = [b for b in blocks(FILE) if b.comment == f"from {file.name}"]
        assert len(quoted) >= least
        for b in quoted:
            assert b.text in source, f"{b} is not in {file.name}"
    assert blocks(FILE, "toml")[0].text in (PACKAGE / "pyproject.toml").read_text()


@needs_compiler
def test_it_is_found_and_runs(installed: None) -> None:
    assert "cc" in [d.name for d in weft.devices() if d.usable]
    f = weft.jit(lambda x: np.tanh(x).sum(axis=1), device="cc")
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    np.testing.assert_allclose(f(x), np.tanh(x).sum(axis=1), rtol=1e-15)
    assert "tanh(t0)" in f.lower(x).text("c") and "for i in 3:" in f.lower(x).text("kernels")
    with pytest.raises(IndexError, match="index 9 is out of bounds for axis 0 with size 3"):
        weft.jit(lambda x, i: x[i], device="cc")(x, 9)
    with pytest.raises(weft.errors.WeftError, match="device 'cc' has no op sort"):
        weft.jit(np.sort, device="cc")(x)


@needs_compiler
def test_conformance(installed: None) -> None:
    """One of each kind of op, and everything that is not about ops; the command does all."""
    ops = ("add", "maximum", "convert", "remainder", "shift_right", "tanh", "threefry", "select",
           "reduce_sum", "reduce_max", "argmin", "dot_general", "gather", "scatter", "pad", "conv")
    outcomes = list(conformance(Subject.of("cc"), ["ops", "batch"], ops))
    outcomes += check_device_conformance("cc", ["contract", "sizes", "errors", "random", "calls"])
    assert not [o for o in outcomes if o.status == "failed"]
    assert sum(o.status == "passed" for o in outcomes) > 400
    assert {o.text for o in outcomes if o.group == "sizes"} == {
        "device 'cc' cannot leave sizes open: T, B", "device 'cc' cannot leave sizes open: B"}


def test_a_device_of_one_page(installed: None) -> None:
    """Whole but for control flow: arrays of its own, work on a thread, errors where one waits."""
    assert len((QUEUE / "weft_queue.py").read_text().splitlines()) <= 150
    f = weft.jit(lambda x, i: np.tanh(x)[i].sum(axis=0), device="queue")
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    memory = registry.get_device("queue").memory
    for _ in range(3):
        got = f(x, np.array([0, 2]))
        assert memory.owns(got)
        np.testing.assert_array_equal(memory.get(got), np.tanh(x)[[0, 2]].sum(axis=0))
    late = f(x, np.array([0, 9]))
    with pytest.raises(IndexError, match="index 9 is out of bounds for axis 0 with size 3"):
        weft.block_until_ready(late)
    ops = ("add", "tanh", "reduce_sum", "argmin", "dot_general", "gather", "scatter", "sort", "qr")
    outcomes = list(conformance(Subject.of("queue"), ["ops", "jvp", "vjp", "batch"], ops))
    outcomes += check_device_conformance(
        "queue", ["contract", "control", "sizes", "errors", "random", "calls"])
    assert not [o for o in outcomes if o.status == "failed"]
    assert sum(o.status == "passed" for o in outcomes) > 400


@pytest.mark.slow
@needs_compiler
def test_whole_conformance(installed: None) -> None:
    outcomes = check_device_conformance("cc")
    assert not [o for o in outcomes if o.status == "failed"]


def test_without_a_compiler(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(weft.errors.WeftError) as caught:
        registry.get_device("cc")
    assert str(caught.value) == ("device 'cc' cannot be used here: there is no C compiler\n"
                                 "  repair:   install one, or say where it is: CC=/usr/bin/gcc")
