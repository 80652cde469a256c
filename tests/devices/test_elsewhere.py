"""Functions on a device that is not the CPU, whose arrays are not NumPy's."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import weft
from tests.devices.toy import LIMIT, OPEN, ToyArray, on_toy, toys
from weft.compiler.errors import WeftError
from weft.compiler.ops.registry import OPS, OUTSIDE
from weft.devices.outside_kernels import kernels_for
from weft.devices.protocol import DeviceError, OutOfMemoryError
from weft.devices.reference.device import ReferenceDevice
from weft.devices.registry import get_device

X, Y = np.arange(6.0).reshape(2, 3), np.array([1.0, -2.0, 0.5])


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    """The toy device, for each test anew."""
    with toys():
        yield


def lies(value: Any, ordinal: int = 0) -> np.ndarray:
    """The values of an array that must lie on the toy device."""
    assert type(value) is ToyArray and value.ordinal == ordinal
    return get_device(f"toy:{ordinal}").memory.get(value)


def located(caught: Any) -> str:
    """An error's text with LINE for the number of the line that it names."""
    return re.sub(r"(test_elsewhere\.py:)\d+", r"\1LINE", str(caught.value))


def through_python(f: Any, *args: Any) -> bool:
    """Whether a call is taken apart by Python."""
    seen: set[str] = set()
    sys.setprofile(lambda frame, event, arg: seen.add(frame.f_code.co_name))
    try:
        f(*args)
    finally:
        sys.setprofile(None)
    return "_dispatch" in seen


def affine(x: Any, y: Any) -> Any:
    return x @ y + 1.0


def test_named_device() -> None:
    f = weft.jit(affine, device="toy")
    for args in ((X, Y), (on_toy(X), Y), (on_toy(X, 1), on_toy(Y)), (X, Y)):
        np.testing.assert_array_equal(lies(f(*args)), affine(X, Y))
    assert len(f.history()) == 1                     # wherever the arguments come from
    np.testing.assert_array_equal(lies(weft.jit(affine, device="toy:1")(X, Y), 1), affine(X, Y))
    assert f.compile(X, Y).options.device == "toy"
    np.testing.assert_array_equal(lies(f.compile(X, Y)(on_toy(X), Y)), affine(X, Y))


def test_arguments_decide() -> None:
    f = weft.jit(affine)
    for _ in range(3):
        assert type(f(X, Y)) is np.ndarray
        np.testing.assert_array_equal(lies(f(on_toy(X), Y)), affine(X, Y))
        np.testing.assert_array_equal(lies(f(X, on_toy(Y, 1)), 1), affine(X, Y))
    assert [r.device for r in f.history()] == ["cpu", "toy", "toy:1"]
    assert f.history()[1].reasons == ("device: cpu → toy",)
    assert str(weft.explain(f, on_toy(X), Y)).startswith(
        "affine(x: f64[2, 3], y: f64[3]) on toy\n")


def test_containers_and_keywords() -> None:
    f = weft.jit(lambda p, scale=1.0: {"a": p["a"] * scale, "n": (p["b"], 3)})
    got = f({"a": on_toy(X), "b": Y}, scale=2.0)
    np.testing.assert_array_equal(lies(got["a"]), X * 2)
    np.testing.assert_array_equal(lies(got["n"][0]), Y)     # put there, so it comes from there
    assert got["n"][1] == 3
    with weft.default_device("toy"):
        assert type(f({"a": X, "b": Y})["a"]) is ToyArray


def test_two_devices() -> None:
    f = weft.jit(affine)
    for _ in range(2):
        with pytest.raises(DeviceError) as caught:
            f(on_toy(X), on_toy(Y, 1))
        assert located(caught) == (
            "affine got arrays of two devices: 'x' lies on 'toy', 'y' on 'toy:1'\n"
            "  at test_elsewhere.py:LINE: f(on_toy(X), on_toy(Y, 1))\n"
            "  expected: arrays of one device, or NumPy's beside them\n"
            "  repair:   name the device, to which the others are copied: affine.to('toy')")
        f(on_toy(X), Y)                             # compiled for these types; still an error
    np.testing.assert_array_equal(lies(f.to("toy")(on_toy(X), on_toy(Y, 1))), affine(X, Y))
    got = f.to("cpu")(on_toy(X), on_toy(Y, 1))
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, affine(X, Y))


def test_to() -> None:
    f = weft.jit(affine, fast_math=True)
    g = f.to("toy:0")
    assert g is f.to("toy") and g is g.to("toy") and g.options.fast_math
    assert type(g(X, Y)) is ToyArray and type(g.to("cpu")(X, Y)) is np.ndarray
    with pytest.raises(DeviceError) as caught:
        f.to("toi")
    assert str(caught.value) == ("there is no device named 'toi'\n  expected: one of "
                                 + ", ".join(map(repr, dict.fromkeys(
                                     d.name.partition(":")[0] for d in weft.devices())))
                                 + "\n  repair:   did you mean 'toy'?")
    with pytest.raises(DeviceError, match="there is no device 'toy:5': there are 2 devices 'toy'"):
        f.to("toy:5")(X, Y)

    class Model:
        w = Y

        @weft.jit
        def __call__(self, x: Any) -> Any:
            return x @ self.w
    assert type(Model().__call__.to("toy")(X)) is ToyArray
    assert type(weft.grad(lambda x: (x * x).sum()).to("toy")(Y)) is ToyArray


def test_scalars() -> None:
    """0-d results stay there; Python numbers are Python numbers."""
    f = weft.jit(lambda x: x * 2, device="toy")
    got = [f(v) for v in (1.5, 2, True, 1j)]
    assert got == [3.0, 4, 2, 2j] and [type(g) for g in got] == [float, int, int, complex]
    total = weft.jit(lambda x: x.sum(), device="toy")(X)
    assert lies(total).shape == () and float(total) == 15.0
    assert lies(f(np.float32(2))).dtype == np.float32


def test_default_device() -> None:
    f = weft.jit(affine)
    cpu = weft.jit(affine, device="cpu")
    for _ in range(3):                              # the native entry is there from the second on
        assert type(f(X, Y)) is np.ndarray
    slow = through_python(f, X, Y)
    with weft.default_device("toy"):
        assert weft.get_default_device() == "toy"
        assert type(f(X, Y)) is ToyArray and type(f(X, y=Y)) is ToyArray
        assert type(cpu(X, Y)) is np.ndarray
        with weft.default_device("toy:1"):
            lies(f(X, Y), 1)
            lies(f(on_toy(X), Y), 0)
        seen: list[Any] = []
        other = threading.Thread(target=lambda: seen.append(f(X, Y)))
        other.start()
        other.join()
        assert type(seen[0]) is np.ndarray          # each thread has its own
    assert through_python(f, X, Y) is slow
    weft.set_default_device("toy")
    try:
        assert type(f(X, Y)) is ToyArray
    finally:
        weft.set_default_device("cpu")
    assert type(f(X, Y)) is np.ndarray
    assert [r.device for r in f.history()] == ["cpu", "toy", "toy:1"]
    with pytest.raises(DeviceError, match="there is no device named 'tpi'"), \
            weft.default_device("tpi"):
        pass


def test_default_device_of_a_task() -> None:
    f = weft.jit(affine)

    async def there() -> Any:
        with weft.default_device("toy"):
            await asyncio.sleep(0.01)
            return f(X, Y)

    async def here() -> Any:
        await asyncio.sleep(0)
        return f(X, Y)

    async def both() -> list[Any]:
        return await asyncio.gather(there(), here())

    assert list(map(type, asyncio.run(both()))) == [ToyArray, np.ndarray]


@pytest.mark.parametrize(("value", "last"), [
    ("reference", "reference"),
    ("nothing", "WEFT_DEVICE=nothing: there is no device named 'nothing'")])
def test_environment(value: str, last: str) -> None:
    code = ("import weft, numpy as np\n"
            "try: print(weft.jit(lambda x: x + 1).compile(np.zeros(2)).options.device)\n"
            "except weft.errors.WeftError as e: print(str(e).splitlines()[0])")
    env = {**os.environ, "WEFT_DEVICE": value, "PYTHONPATH": ":".join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert out.stdout.strip() == last, out.stderr


def test_outside_arrays() -> None:
    """Arrays that lie on a device are read at each call, wherever the function finds them."""
    held = {"w": on_toy(Y)}
    f = weft.jit(lambda x: x @ held["w"])
    np.testing.assert_array_equal(lies(f(X)), X @ Y)
    held["w"] = on_toy(Y + 1)
    np.testing.assert_array_equal(lies(f(X)), X @ (Y + 1))
    assert len(f.history()) == 1
    held["w"] = on_toy(Y, 1)
    np.testing.assert_array_equal(lies(f(X), 1), X @ Y)
    with pytest.raises(DeviceError, match=r"'x' lies on 'toy', 'w' on 'toy:1'"):
        f(on_toy(X))
    held["w"] = Y
    assert type(f(X)) is np.ndarray

    class Layer:
        def __init__(self) -> None:
            self.w = on_toy(Y)

        @weft.jit
        def apply(self, x: Any) -> Any:
            return x @ self.w
    np.testing.assert_array_equal(lies(Layer().apply(X)), X @ Y)


def test_asynchronous() -> None:
    f = weft.jit(lambda x, i: (x[i], x + 1), device="toy")
    OPEN.clear()
    try:
        picked, more = f(X, 1)
        again = f(more, 0)[0]
        assert not picked.values.done() and not again.values.done()
    finally:
        OPEN.set()
    assert weft.block_until_ready({"a": picked, "b": [again, 2.0]})["b"][1] == 2.0
    assert picked.values.done() and again.values.done()
    np.testing.assert_array_equal(lies(again), (X + 1)[0])
    late = f(X, 7)                                  # no error yet
    with pytest.raises(IndexError):
        weft.block_until_ready(late)


def test_out_of_memory() -> None:
    f = weft.jit(lambda x: x + 1, device="toy")
    with pytest.raises(OutOfMemoryError) as caught:
        f(np.zeros(LIMIT))
    assert located(caught) == (
        "device 'toy:0' is out of memory: 32.00 MiB were asked for, 100 bytes of 4.00 MiB are in "
        "use\n  at test_elsewhere.py:LINE: f(np.zeros(LIMIT))\n"
        "  repair:   delete arrays that are not needed, donate arguments, or take smaller batches")
    np.testing.assert_array_equal(lies(f(np.zeros(3))), np.ones(3))     # it goes on


class Narrow(ReferenceDevice):
    """A device that has not got everything."""

    name = "narrow"
    symbolic_sizes = False

    def supported(self) -> frozenset[str]:
        return super().supported() - {"sort"}

    def dtypes(self) -> frozenset[str]:
        return frozenset(("f32", "i64", "bool"))


@pytest.mark.parametrize(("fn", "args", "shapes", "text"), [
    (lambda x: np.sort(x), [np.zeros(3, np.float32)], {},
     "device 'narrow' has no op sort\n"
     "  at test_elsewhere.py:LINE: (lambda x: np.sort(x), [np.zeros(3, np.float32)], {},\n"
     "  repair:   run this on another device"),
    (lambda x: np.where(x > 0, x.astype(np.float64), 0), [np.zeros(3, np.float32)], {},
     "device 'narrow' has no f64\n  at test_elsewhere.py:LINE: (lambda x: "
     "np.where(x > 0, x.astype(np.float64), 0), [np.zeros(3, np.float32)], {},\n"
     "  expected: one of bool, i64, f32\n"
     "  repair:   convert with astype, or run this on another device"),
    (lambda x: x + 1, [np.zeros(3, np.float32)], {"x": ["B"]},
     "device 'narrow' cannot leave sizes open: B\n"
     "  expected: sizes that are known when a function is compiled\n"
     "  repair:   leave out shapes=, so that it compiles for each size"),
])
def test_capabilities(fn: Any, args: Any, shapes: Any, text: str) -> None:
    with toys(narrow=Narrow), pytest.raises(DeviceError) as caught:
        weft.jit(fn, device="narrow", shapes=shapes)(*args)
    assert located(caught) == text


def test_kernels_of_custom_ops() -> None:
    class Own(Narrow):
        name = "own"

        def supported(self) -> frozenset[str]:
            return (super().supported() - OUTSIDE) | set(kernels_for("own"))

    with toys(own=Own):
        kernel = object()
        try:
            doubled_ = weft.custom_op(lambda x: x + x, name="doubled_", kernels={"own": kernel})
            halved_ = weft.custom_op(lambda x: x / 2, name="halved_")
            assert kernels_for("own") == {"doubled_": kernel}
            x = np.ones(2, np.float32)
            assert weft.jit(lambda x: doubled_(x), device="own")(x).tolist() == [2, 2]
            with pytest.raises(WeftError) as caught:
                weft.jit(lambda x: halved_(x), device="own")(x)
            assert "device 'own' has no kernel for the op halved_" in str(caught.value)
            assert str(caught.value).endswith(
                "repair:   give one: weft.custom_op(..., kernels={'own': ...})")
            with pytest.raises(DeviceError, match="there is no device named 'owm'"):
                weft.custom_op(lambda x: x, name="third_", kernels={"owm": kernel})
            with pytest.raises(WeftError, match="a kernel for 'toy:1' alone"):
                weft.custom_op(lambda x: x, name="third_", kernels={"toy:1": kernel})
        finally:
            for name in ("doubled_", "halved_"):
                OUTSIDE.discard(name)
                dict.pop(OPS, name, None)


def test_donated_and_symbolic() -> None:
    f = weft.jit(lambda x, y: x + y, device="toy", donate="x", shapes={"x": ["B"], "y": ["B"]})
    x = on_toy(Y)
    for args in ((x, Y), (x, x), (Y, Y)):
        np.testing.assert_array_equal(lies(f(*args)), Y + Y)
    np.testing.assert_array_equal(lies(f(on_toy(X[0]), X[1])), X[0] + X[1])
    np.testing.assert_array_equal(lies(f(np.ones(7), on_toy(np.ones(7)))), np.full(7, 2.0))
    assert len(f.history()) == 1


def test_strangers() -> None:
    """Arrays of libraries that no device knows are refused as before."""
    class Foreign:
        def __array__(self) -> np.ndarray:
            return Y
    for _ in range(2):
        with pytest.raises(TypeError, match="not an array of NumPy's own"):
            weft.jit(affine)(X, Foreign())
