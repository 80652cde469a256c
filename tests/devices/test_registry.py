"""Devices by name; the reference device."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest

from weft.compiler.text import parse
from weft.devices import registry
from weft.devices.protocol import DeviceError
from weft.devices.reference.device import ReferenceDevice
from weft.devices.registry import check_device, device_names, device_problem, get_device


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Registrations end with the test."""
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    monkeypatch.setattr(registry, "_devices", dict(registry._devices))


def test_built_in_devices():
    assert device_names() == ("cpu", "reference")
    assert get_device("reference") is get_device("reference")
    assert device_problem("reference") is None
    assert "dot_general" in get_device("reference").supported()


def test_absent_device():
    with pytest.raises(DeviceError) as caught:
        get_device("referense")
    assert str(caught.value) == ("there is no device named 'referense'\n"
                                 "  expected: one of 'cpu', 'reference'\n"
                                 "  repair:   did you mean 'reference'?")
    with pytest.raises(DeviceError):
        check_device("tpu")


def test_device_whose_library_is_missing():
    registry.register_device("gpu", "weft_has_no_such_module:Device")
    check_device("gpu")                    # it exists, though it cannot be loaded
    assert device_problem("gpu") == (
        "device 'gpu' cannot be used here: No module named 'weft_has_no_such_module'")
    with pytest.raises(DeviceError) as caught:
        get_device("gpu")
    assert str(caught.value).endswith(
        "repair:   install what it needs, or use another device: 'cpu', 'reference'")


def test_registered_device():
    class Mine(ReferenceDevice):
        name = "mine"
    registry.register_device("mine", Mine)
    assert get_device("mine").name == "mine" and "mine" in device_names()
    registry.register_device("mine", ReferenceDevice)
    assert get_device("mine").name == "reference"


def test_installed_device(monkeypatch):
    point = EntryPoint("far", "weft.devices.reference.device:ReferenceDevice", "weft.devices")
    monkeypatch.setattr("importlib.metadata.entry_points",
                        lambda group: [point] if group == "weft.devices" else [])
    assert get_device("far").name == "reference"
    assert device_names() == ("cpu", "reference", "far")


GRAPH = parse("""graph @f(%x: f32[B, 3], %w: f32[3, 2]) -> (f32[B, 2], f32[3, B]) {
  %y = dot_general %x, %w {contract=[[1], [0]], batch=[[], []]} : f32[B, 2]
  %z = tanh %y : f32[B, 2]
  %t = transpose %x {perm=[1, 0]} : f32[3, B]
  return %z, %t
}""")


def test_reference_kernels_and_texts():
    device = get_device("reference")
    lowered = device.lower(GRAPH, device.target())
    assert [(k.name, k.ops, str(k.flops), str(k.nbytes)) for k in lowered.kernels] == [
        ("y", ("dot_general",), "12*B", "20*B + 24"), ("z", ("tanh",), "36*B", "16*B"),
        ("t", ("transpose",), "0", "24*B")]
    assert lowered.kinds == ()
    with pytest.raises(DeviceError, match="device 'reference' has no llvm text"):
        lowered.text("llvm")


def test_reference_results_are_new_arrays():
    device = get_device("reference")
    x, w = np.ones((5, 3), np.float32), np.ones((3, 2), np.float32)
    z, t = device.lower(GRAPH, device.target()).compile().run([x, w])
    np.testing.assert_allclose(z, np.tanh(x @ w))
    assert t.shape == (3, 5) and t.flags.c_contiguous and t.flags.owndata
    assert not np.shares_memory(t, x)
