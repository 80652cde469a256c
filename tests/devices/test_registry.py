"""Devices by name; the reference device."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest

import weft
from tests.devices.toy import on_toy, toys
from weft.compiler.text import parse
from weft.devices import registry
from weft.devices.host_memory import HOST
from weft.devices.protocol import Device, DeviceError, OutOfMemoryError, out_of_memory
from weft.devices.reference.device import ReferenceDevice
from weft.devices.registry import (
    check_device,
    device_id,
    device_names,
    device_problem,
    get_device,
    owner_of,
)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Two devices; registrations end with the test."""
    few = {name: registry._factories[name] for name in ("cpu", "reference")}
    monkeypatch.setattr(registry, "_factories", few)
    monkeypatch.setattr(registry, "_devices", {})


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
    with pytest.raises(DeviceError) as caught:
        get_device("gpu:1")
    assert str(caught.value) == ("there is no device named 'gpu:1'\n"
                                 "  expected: one of 'cpu', 'reference'\n"
                                 "  repair:   did you mean 'cpu:1'?")
    with pytest.raises(DeviceError):
        check_device("tpu")


def test_device_whose_library_is_missing():
    registry.register_device("npu", "weft_has_no_such_module:Device")
    check_device("npu")                    # it exists, though it cannot be loaded
    assert device_problem("npu") == (
        "device 'npu' cannot be used here: No module named 'weft_has_no_such_module'")
    with pytest.raises(DeviceError) as caught:
        get_device("npu")
    assert str(caught.value).endswith(
        "repair:   install what it needs, or use another device: 'cpu', 'reference'")


def test_device_whose_extra_is_missing(monkeypatch):
    registry.register_device("gpu", "weft_has_no_such_module:Device")
    monkeypatch.setattr(registry, "_EXTRAS", {"gpu": "gpu"})
    with pytest.raises(DeviceError) as caught:
        get_device("gpu:3")
    assert str(caught.value) == (
        "device 'gpu' cannot be used here: No module named 'weft_has_no_such_module'\n"
        "  repair:   pip install 'weft[gpu]', or use another device: 'cpu', 'reference'")


class Twin(ReferenceDevice):
    name = "twin"

    def __init__(self, ordinal=0):
        self._ordinal = ordinal

    @property
    def ordinal(self):
        return self._ordinal

    def count(self):
        return 2


def test_ordinals():
    registry.register_device("twin", Twin)
    first, second = get_device("twin"), get_device("twin:1")
    assert get_device("twin:0") is first is not second is get_device("twin:1")
    assert [device_id(d) for d in (first, second)] == ["twin", "twin:1"]
    with pytest.raises(DeviceError) as caught:
        get_device("twin:2")
    assert str(caught.value) == ("there is no device 'twin:2': there are 2 devices 'twin' here\n"
                                 "  expected: 'twin:0' to 'twin:1'")
    with pytest.raises(DeviceError) as caught:
        get_device("cpu:1")
    assert str(caught.value) == ("there is no device 'cpu:1': there is one device 'cpu' here\n"
                                 "  expected: 'cpu'")
    for wrong in ("twin:", "twin:-1", "twin:x"):
        with pytest.raises(DeviceError) as caught:
            get_device(wrong)
        assert str(caught.value) == (f"{wrong!r} is no name of a device\n"
                                     "  expected: a name, or a name and a number: 'twin:0'")


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_protocol_is_fulfilled(name):
    device = get_device(name)
    missing = [n for n in vars(Device) if not n.startswith("_") and not hasattr(device, n)]
    assert not missing
    assert (device.name, device.ordinal, device.count()) == (name, 0, 1)
    assert device.memory is HOST and device.describe()
    assert {"f32", "bf16", "c128"} <= device.dtypes() and device.symbolic_sizes


def test_owners():
    """Whose array it is, those of the second device included, and of devices not made yet."""
    with toys():
        assert owner_of(np.zeros(2)) is None and owner_of(3) is None
        first, second = on_toy([1.0]), on_toy([1.0], 1)
        assert device_id(owner_of(first)) == "toy" and device_id(owner_of(second)) == "toy:1"
    with toys():
        assert device_id(owner_of(second)) == "toy:1"
    assert owner_of(second) is None


def test_listing():
    with toys(broken="weft_has_no_such_module:Device"):
        found = weft.devices()
    assert [(d.name, d.ordinal, d.usable) for d in found] == [
        ("cpu", 0, True), ("reference", 0, True), ("toy", 0, True), ("toy:1", 1, True),
        ("broken", 0, False)]
    assert str(found[3]) == "toy:1: a thread"
    assert str(found[4]) == (
        "broken: device 'broken' cannot be used here: No module named 'weft_has_no_such_module'")
    assert found[4].repair == ("install what it needs, or use another device: "
                               "'cpu', 'reference', 'toy'")


def test_host_memory():
    x = np.arange(3.0)
    assert HOST.owns(x) and not HOST.owns(1.0)
    assert HOST.put(x) is x and HOST.get(x) is x
    HOST.wait([x])


def test_out_of_memory():
    error = out_of_memory("gpu:1", 300 << 20, 2000)
    assert isinstance(error, OutOfMemoryError) and isinstance(error, MemoryError)
    assert str(error) == (
        "device 'gpu:1' is out of memory: 300.00 MiB were asked for, 1.95 KiB are in use\n"
        "  repair:   delete arrays that are not needed, donate arguments, or take smaller batches")


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
