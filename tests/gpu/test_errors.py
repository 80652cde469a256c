"""What users are told where a GPU cannot be used, or something goes wrong on it: exact texts."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import weft
from tests.gpu.double import EmulatedDriver
from tests.gpu.harness import emulated, needs_compiler
from weft.devices import registry
from weft.devices.gpu import driver as drivers
from weft.devices.gpu.driver import DriverError
from weft.devices.gpu.target import target_named
from weft.devices.protocol import DeviceError, DeviceLostError, OutOfMemoryError
from weft.devices.registry import device_names


@pytest.fixture
def driver() -> Iterator[EmulatedDriver]:
    """An emulated device with 1 MiB of memory."""
    with emulated(limit=1 << 20) as made:
        yield made


def others() -> str:
    return ", ".join(repr(n) for n in device_names() if n != "gpu")


def located(caught: Any) -> str:
    """An error's text with LINE for the number of the line that it names."""
    return re.sub(r"(test_errors\.py:)\d+", r"\1LINE", str(caught.value))


@pytest.fixture
def fresh() -> Iterator[None]:
    """No device was made, and no driver."""
    before = drivers.set_driver(None)
    registry.register_device("gpu", "weft.devices.gpu.device:GpuDevice")
    yield
    drivers.set_driver(before)
    registry.register_device("gpu", "weft.devices.gpu.device:GpuDevice")


class NoCupy:
    """What Python finds where CuPy is not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "cupy":
            raise ModuleNotFoundError("No module named 'cupy'", name="cupy")


def test_no_cupy(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "cupy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "weft.devices.gpu.cupy_driver", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoCupy(), *sys.meta_path])
    with pytest.raises(DeviceError) as caught:
        weft.jit(lambda x: x + 1, device="gpu")(1.0)
    assert located(caught).splitlines()[0] == \
        "device 'gpu' cannot be used here: No module named 'cupy'"
    assert caught.value.repair == f"pip install 'weft[gpu]', or use another device: {others()}"


@pytest.mark.parametrize(("kind", "text", "repair"), [
    ("absent", "there is no NVIDIA driver",
     "install NVIDIA's driver (nvidia-smi shows whether it works), or use another device: 'cpu'"),
    ("absent", "the NVIDIA driver knows no device",
     "install NVIDIA's driver (nvidia-smi shows whether it works), or use another device: 'cpu'"),
    ("old", "the NVIDIA driver is for CUDA 12.2, CuPy for CUDA 13.0",
     "update the driver, or install a CuPy for its version (cupy-cuda12x, cupy-cuda13x), or use "
     "another device: 'cpu'")])
def test_no_driver(fresh: None, monkeypatch: pytest.MonkeyPatch, kind: str, text: str, repair: str
                   ) -> None:
    def fail() -> Any:
        raise DriverError(kind, text)

    monkeypatch.setattr(drivers, "_cupy", fail)
    with pytest.raises(DeviceError) as caught:
        registry.get_device("gpu")
    assert str(caught.value) == f"device 'gpu' cannot be used here: {text}\n  repair:   {repair}"
    assert weft.devices()[device_names().index("gpu")].problem == \
        f"device 'gpu' cannot be used here: {text}"


def test_a_real_cupy_without_a_driver(fresh: None) -> None:
    """CuPy's own answers, where it is installed and there is no GPU."""
    cupy = pytest.importorskip("cupy")
    if cupy.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(DeviceError, match="NVIDIA driver"):
        registry.get_device("gpu")


@needs_compiler
def test_out_of_memory(driver: EmulatedDriver) -> None:
    f = weft.jit(lambda x: x[:, None] * x, device="gpu")
    x = np.zeros(1000, np.float32)
    with pytest.raises(OutOfMemoryError) as caught:
        f(x)
    assert located(caught) == (
        "device 'gpu:0' is out of memory: 3.81 MiB were asked for, 3.91 KiB of 1.00 MiB are in "
        "use\n  at test_errors.py:LINE: f(x)"
        "\n  repair:   delete arrays that are not needed, donate arguments, or take smaller "
        "batches")
    assert f(x[:3]).shape == (3, 3)                     # the process goes on


@needs_compiler
def test_device_lost(driver: EmulatedDriver) -> None:
    f = weft.jit(lambda x: x + 1, device="gpu")
    out = f(np.zeros(3))
    driver.lost = True
    with pytest.raises(DeviceLostError) as caught:
        f(np.zeros(3))
    assert located(caught) == (
        "device 'gpu:0' has stopped working: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access "
        "was encountered\n  at test_errors.py:LINE: f(np.zeros(3))\n"
        "  repair:   its arrays are gone: start a new process")
    with pytest.raises(DeviceLostError, match="device 'gpu:0' has stopped working"):
        weft.block_until_ready(out)


@needs_compiler
def test_checks_are_told_late(driver: EmulatedDriver) -> None:
    """At a wait, or at the next call once the device has come so far; then all is well again."""
    f = weft.jit(lambda x, i: x[i] + 1, device="gpu")
    x, bad, good = np.arange(5.0), np.array([1, 7]), np.array([0, -1])
    driver.eager = False
    out = f(x, bad)
    np.testing.assert_array_equal(f(x, good).get(), [1.0, 5.0])     # not known yet
    with pytest.raises(IndexError) as caught:
        weft.block_until_ready(out)
    assert located(caught) == (
        "index 7 is out of bounds for axis 0 with size 5\n"
        "  at test_errors.py:LINE: f = weft.jit(lambda x, i: x[i] + 1, device=\"gpu\")")
    weft.block_until_ready(f(x, good))
    f(x, bad)
    driver.eager = True
    with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 5"):
        f(x, good)
    np.testing.assert_array_equal(f(x, good).get(), [1.0, 5.0])


@needs_compiler
def test_a_wait_on_another_stream_forgets_nothing(driver: EmulatedDriver,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """What was launched on one stream is not done because another one is."""
    f = weft.jit(lambda x, i: x[i] + 1, device="gpu")
    x = np.arange(5.0)
    driver.eager = False
    marks: list[str] = []
    monkeypatch.setattr(driver, "record", lambda: marks[-1])
    finish = driver.finish
    monkeypatch.setattr(driver, "finish", lambda mark: finish(mark) if mark == "first" else None)
    marks.append("first")
    f(x, np.array([1, 7]))
    marks.append("second")              # where nothing checks anything
    with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 5"):
        weft.block_until_ready(driver.put(x))


@needs_compiler
def test_equal_kernels_name_their_own_lines(driver: EmulatedDriver) -> None:
    def f(x, i, j):
        a = x[i]
        return np.sin(a).sum() + x[j]

    g = weft.jit(f, device="gpu")
    x, good, bad = np.arange(5.0), np.array([0, 1]), np.array([0, 9])
    for i, j, line in ((bad, good, "a = x[i]"), (good, bad, "return np.sin(a).sum() + x[j]")):
        with pytest.raises(IndexError, match=re.escape(line)):
            weft.block_until_ready(g(x, i, j))


def test_architectures() -> None:
    with pytest.raises(DeviceError) as caught:
        target_named("sm_35")
    assert str(caught.value) == ("there is no GPU architecture 'sm_35'\n"
                                 "  expected: 'sm_75' or a later one, such as 'sm_80' or 'sm_90'")


def test_texts() -> None:
    from tests.gpu.harness import lowered
    from weft.compiler.text import parse

    low = lowered(parse("graph @f(%x: f32[3]) -> (f32[3]) {\n  %y = neg %x : f32[3]\n"
                        "  return %y\n}\n"))
    with pytest.raises(DeviceError) as caught:
        low.text("llvm")
    assert str(caught.value) == \
        "device 'gpu' has no llvm text\n  expected: one of kernels, cuda, ptx"
    assert "k0_neg" in low.text("cuda") and low.text("kernels").startswith("kernel k0_neg(")
