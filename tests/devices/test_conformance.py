"""The conformance suite finds what is wrong with a device, and lists what it does not look at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tests.devices.toy import ToyArray, ToyDevice, ToyMemory, toys
from weft.devices import registry
from weft.devices.conformance import Outcome, Subject, conformance
from weft.devices.conformance.compare import flushed
from weft.devices.reference.device import ReferenceDevice
from weft.frontend.cli import main
from weft.frontend.conformance import check_device_conformance


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    with toys(wrong=Wrong, careless=Careless, narrow=Narrow, lazy=Lazy, flushing=Flushing):
        yield


class Wrong(ReferenceDevice):
    """Every result is one too large, where it is a float32."""

    name = "wrong"

    def lower(self, graph: Any, target: Any, donated: Sequence[int] = ()) -> Any:
        lowered = super().lower(graph, target, donated)

        class Lowered:
            def compile(self, cache: Any = None) -> Any:
                run = lowered.compile().run

                class Compiled:
                    def run(self, arrays: Any) -> Any:
                        return [r + 1 if r.dtype == np.float32 else r for r in run(arrays)]
                return Compiled()
        return Lowered()


class SharingMemory(ToyMemory):
    """Forgets to copy."""

    def put(self, array: np.ndarray, /) -> ToyArray:
        made = super().put(array)
        made.values.__init__()          # type: ignore[misc]
        made.values.set_result(array)
        return made


class Careless(ToyDevice):
    name = "careless"

    def __init__(self, ordinal: int = 0) -> None:
        super().__init__(ordinal)
        self.memory = SharingMemory(ordinal)


class Narrow(ReferenceDevice):
    name = "narrow"
    symbolic_sizes = False

    def supported(self) -> frozenset[str]:
        return super().supported() - {"cosh"}

    def dtypes(self) -> frozenset[str]:
        return frozenset(("f32", "i32", "i64", "bool"))

    def lacks(self) -> Mapping[str, str]:
        return {"errors": "nothing is checked", "ops/tanh/f32": "it has no hyperbolics"}


class Flushing(ReferenceDevice):
    """Takes subnormals for zeros, and says so."""

    name = "flushing"
    subnormals = False

    def lower(self, graph: Any, target: Any, donated: Sequence[int] = ()) -> Any:
        lowered = super().lower(graph, target, donated)

        class Lowered:
            def compile(self, cache: Any = None) -> Any:
                run = lowered.compile().run

                class Compiled:
                    def run(self, arrays: Any) -> Any:
                        return [flushed(r) for r in run([flushed(a) for a in arrays])]
                return Compiled()
        return Lowered()


class Lazy:
    """Not a device at all."""

    def __init__(self, ordinal: int) -> None:
        self.name, self.ordinal = "lazy", 0
        self.memory = registry.get_device("cpu").memory

    def __getattr__(self, name: str) -> Any:
        if name in ("supported", "target", "lacks", "ulps", "dtypes", "lower", "symbolic_sizes",
                    "subnormals"):
            return getattr(registry.get_device("reference"), name)
        raise AttributeError(name)


def of(device: str, *groups: str, ops: Sequence[str] = (), dtypes: Sequence[str] = ()
       ) -> list[Outcome]:
    return list(conformance(Subject.of(device), groups, ops, dtypes))


def failed(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.name: o.text for o in outcomes if o.status == "failed"}


def test_wrong_results_are_found() -> None:
    outcomes = of("wrong", "ops", "jvp", "vjp", "batch", ops=["add"])
    assert {o.dtype for o in outcomes if o.status == "failed"} == {"f32"}
    assert {o.dtype for o in outcomes if o.status == "passed"} >= {"f64", "i8", "c64"}
    text = failed(outcomes)["add f32-0"]
    assert text.startswith("add f32-0: ") and "off by more than 0 ULP, such as" in text
    assert of("wrong", "ops", ops=["add"], dtypes=["f64"])[0].status == "passed"


def test_shared_memory_is_found() -> None:
    wrong = failed(of("careless", "contract"))
    assert wrong["put-copies"] == (
        "put gives an array that changes with the one that it was given")
    assert not failed(of("toy", "contract"))


def test_what_a_device_lacks_is_listed() -> None:
    outcomes = of("narrow", "ops", "sizes", "errors", ops=["cosh", "tanh", "convert"])
    skipped = {(o.name.partition(" ")[0], o.dtype): o.text for o in outcomes
               if o.status == "skipped"}
    assert skipped["cosh", "f32"] == "device 'narrow' has no op cosh"
    assert skipped["cosh", "f64"] == "device 'narrow' has no f64"
    assert skipped["tanh", "f32"] == "it has no hyperbolics"
    assert any(name == "convert" for name, _ in skipped)
    assert not failed(outcomes)
    others = of("narrow", "sizes", "errors")
    assert [(o.group, o.text) for o in others] == [
        ("sizes", "device 'narrow' cannot leave sizes open: T, B"),
        ("sizes", "device 'narrow' cannot leave sizes open: B"),
        ("errors", "nothing is checked"), ("errors", "nothing is checked")]


def test_subnormals(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = of("flushing", "ops", ops=["neg", "mul", "sqrt"])
    assert not failed(outcomes)
    assert [o.text for o in outcomes if o.status == "skipped"] == [
        "the device takes subnormal numbers for zeros"]
    monkeypatch.setattr(Flushing, "subnormals", True)
    assert {"neg f32-0", "mul f64-0"} <= set(failed(of("flushing", "ops", ops=["neg", "mul"])))


def test_a_part_of_the_protocol_is_missing() -> None:
    assert failed(of("lazy", "contract"))["protocol"] == (
        "the device lacks count, describe: see weft.devices.protocol.Device")


def test_calls_of_a_device_with_its_own_arrays() -> None:
    outcomes = check_device_conformance("toy", ["calls", "random", "control"])
    assert not failed(outcomes) and {o.group for o in outcomes} == {"calls", "random", "control"}


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--device", "narrow", "--op", "add", "--op", "tanh",
                 "--group", "ops", "-v"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("conformance of narrow (every op by its definition, with NumPy)\n"
                          "            passed  failed  skipped\n  ops     ")
    (line,) = re.findall(r"\n  ops add: (.*)\n", out)
    assert {"bool", "i8:-", "i32", "f32", "f64:-", "c128:-"} <= set(line.split())
    assert "skipped\n" in out and "  ops: it has no hyperbolics\n" in out
    assert main(["conformance", "--device", "wrong", "--op", "add", "--dtype", "f32"]) == 1
    assert "failed\n  ops add f32-0 f32\n      add f32-0: " in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "text"), [
    (["--device", "nowhere"], "weft: there is no device named 'nowhere'\n"),
    (["--device", "cpu", "--op", "sinn"], "weft: there is no op named 'sinn'"),
    (["--device", "cpu", "--group", "all"],
     "weft: there is no group of checks named 'all'\n  expected: one of contract, ops, jvp, vjp, "
     "batch, control, sizes, errors, random, calls\n")])
def test_bad_commands(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", *arguments]) == 1
    assert capsys.readouterr().err.startswith(text)
