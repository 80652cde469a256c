"""Parts on the GPU beside parts on the CPU, on a second GPU and on XLA."""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import weft
from tests.gpu.double import EmulatedArray, EmulatedDriver
from tests.gpu.harness import emulated, needs_compiler
from weft.compiler.ops.registry import OPS, OUTSIDE
from weft.devices.costs import TABLE, costs_of
from weft.devices.protocol import DeviceError
from weft.devices.registry import get_device

pytestmark = needs_compiler
X = np.linspace(-1.0, 2.0, 12, dtype=np.float32).reshape(3, 4)
W = np.linspace(0.5, 1.5, 16, dtype=np.float32).reshape(4, 4)
OTHERS = ["reference", pytest.param("xla", marks=pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="JAX is not installed"))]


@pytest.fixture(autouse=True)
def driver() -> Iterator[EmulatedDriver]:
    """Two emulated GPUs."""
    with emulated(devices=2) as driver:
        yield driver


def there(value: np.ndarray, ordinal: int = 0) -> Any:
    """The value on a GPU."""
    return get_device(f"gpu:{ordinal}").memory.put(value)


def placed_on(other: str) -> Any:
    """A function with a part on the GPU, one on another device, and one on its own."""
    def mixed(x: Any, w: Any) -> Any:
        p = np.sin(x)
        with weft.device("gpu"):
            a = np.exp(p) @ w
            a = a - a.sum(axis=0)
        with weft.device(other):
            b = np.tanh(a)
        return a * np.cos(x) + b, (a * b).sum()
    return mixed


def plain(x: Any, w: Any) -> Any:
    a = np.exp(np.sin(x)) @ w
    a = a - a.sum(axis=0)
    return a * np.cos(x) + np.tanh(a), (a * np.tanh(a)).sum()


def scheduled(f: Any, *args: Any) -> list[str]:
    """The schedule's lines, names of values as ``%``."""
    text = f.lower(*args).text("schedule")
    return [re.sub(r"%[\w.]+", "%", line.partition("  #")[0]) for line in text.splitlines()]


@pytest.mark.parametrize("other", OTHERS)
def test_numpy_arguments_give_numpy_results(other: str, driver: EmulatedDriver) -> None:
    f = weft.jit(placed_on(other))
    for _ in range(3):
        for got, want in zip(f(X, W), plain(X, W)):
            assert type(got) is type(want)
            np.testing.assert_allclose(got, want, rtol=1e-5)
    runs = [line.split(".")[0] for line in scheduled(f, X, W) if line.startswith("run")]
    assert runs == ["run cpu", "run gpu", f"run {other}", "run cpu"]
    assert driver.launches


@pytest.mark.parametrize("other", OTHERS)
def test_the_arguments_decide_where_the_rest_runs(other: str) -> None:
    """Arrays on a GPU: what is not placed runs there, and results stay there."""
    f = weft.jit(placed_on(other))
    for args in ((there(X), there(W)), (there(X), W)):
        for got, want in zip(f(*args), plain(X, W)):
            assert type(got) is EmulatedArray and got.ordinal == 0
            np.testing.assert_allclose(got.get(), want, rtol=1e-5)
        lines = scheduled(f, *args)
        assert not any("cpu" in line for line in lines)
        assert [line.split(":")[0] for line in lines if line.startswith("run")] == [
            "run gpu.0", f"run {other}.0", "run gpu.1"]


def test_the_second_gpu_is_another_device() -> None:
    """A function whose arrays lie on it has its own part there, and the block's on the first."""
    f = weft.jit(placed_on("gpu:1"))
    got = f(there(X, 1), there(W, 1))
    assert [g.ordinal for g in got] == [1, 1]
    for a, want in zip(got, plain(X, W)):
        np.testing.assert_allclose(a.get(), want, rtol=1e-5)
    assert [line.rpartition(".")[0] for line in scheduled(f, there(X, 1), there(W, 1))
            if line.startswith("run")] == ["run gpu:1", "run gpu", "run gpu:1"]
    assert "move %: gpu:1 → gpu, 48 bytes" in scheduled(f, there(X, 1), there(W, 1))


@pytest.mark.parametrize("other", OTHERS)
def test_a_function_for_another_device_with_a_part_on_the_gpu(other: str) -> None:
    f = weft.jit(placed_on("cpu"), device=other)
    memory = get_device(other).memory
    for got, want in zip(f(X, W), plain(X, W)):
        assert memory.owns(np.asarray(got) if other == "reference" else got)
        np.testing.assert_allclose(memory.get(got), want, rtol=1e-5)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("transform", [
    lambda f: weft.grad(lambda x, w: f(x, w)[1], argnums=(0, 1)),
    lambda f: lambda x, w: weft.jvp(lambda w: f(x, w)[0], (w,), (w + 1,))[1],
    lambda f: lambda x, w: weft.vmap(f, in_axes=(0, None))(np.stack([x, x + 1]), w)[0],
    lambda f: weft.grad(lambda x, w: weft.checkpoint(f)(x, w)[1]),
])
def test_transforms(transform: Any, other: str) -> None:
    got = weft.jit(transform(placed_on(other)))(X, W)
    want = weft.jit(transform(plain))(X, W)
    got, want = (v if isinstance(v, tuple) else (v,) for v in (got, want))
    for a, b in zip(got, want, strict=True):
        assert type(a) is np.ndarray
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


def test_arguments_of_two_devices() -> None:
    f = weft.jit(plain)
    with pytest.raises(DeviceError) as caught:
        f(there(X), there(W, 1))
    assert re.sub(r"(test_placed\.py:)\d+", r"\1LINE", str(caught.value)) == """\
plain got arrays of two devices: 'x' lies on 'gpu', 'w' on 'gpu:1'
  at test_placed.py:LINE: f(there(X), there(W, 1))
  expected: arrays of one device, or NumPy's beside them
  repair:   name the device, to which the others are copied: plain.to('gpu')"""
    f(there(X), there(W))                       # compiled for the first one by now
    with pytest.raises(DeviceError, match="'x' lies on 'gpu', 'w' on 'gpu:1'"):
        f(there(X), there(W, 1))
    for got, want in zip(f.to("gpu:1")(there(X), there(W, 1)), plain(X, W)):
        assert got.ordinal == 1
        np.testing.assert_allclose(got.get(), want, rtol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_arguments_on_a_gpu_and_on_xla() -> None:
    f = weft.jit(plain)
    on_xla = get_device("xla").memory.put(W)
    with pytest.raises(DeviceError, match="'x' lies on 'gpu', 'w' on 'xla'"):
        f(there(X), on_xla)
    got = f.to("gpu")(there(X), on_xla)[0]
    np.testing.assert_allclose(got.get(), plain(X, W)[0], rtol=1e-5)


def test_a_check_that_fails_on_the_gpu_names_the_line() -> None:
    """An index out of bounds is found on the device, and raised where its values are moved."""
    def f(x: Any, i: Any) -> Any:
        with weft.device("gpu"):
            y = np.sin(x)[i]
        return y + 1
    with pytest.raises(IndexError) as caught:
        weft.jit(f)(X, np.array([7]))
    assert re.sub(r"(test_placed\.py:)\d+", r"\1LINE", str(caught.value)).startswith(
        "index 7 is out of bounds for axis 0 with size 3\n"
        "  at test_placed.py:LINE: y = np.sin(x)[i]")
    np.testing.assert_allclose(weft.jit(f)(X, np.array([1])), np.sin(X)[[1]] + 1, rtol=1e-6)


def test_a_gpu_that_is_lost(driver: EmulatedDriver) -> None:
    f = weft.jit(placed_on("reference"))
    f(X, W)
    driver.lost = True
    with pytest.raises(DeviceError) as caught:
        f(X, W)
    assert "test_placed.py" in str(caught.value)
    driver.lost = False


def test_precision_reaches_the_gpu() -> None:
    def f(x: Any, w: Any) -> Any:
        with weft.device("gpu"):
            y = x @ w
        return y + 1
    gpu, _ = weft.jit(f, precision="tf32").lower(X, W).lowered.parts
    assert gpu.lowered.target.precision == "tf32"


def test_a_stream_of_the_users_is_used_in_every_thread(driver: EmulatedDriver) -> None:
    """A copy from the GPU and a part on another device meet, so one is not in the caller's thread;
    the copy is on the caller's stream all the same."""
    inside, threads = threading.Barrier(2), set()
    get = driver.get

    def meet(x: Any) -> Any:
        inside.wait(60)
        return x * 2.0

    def meeting_get(array: Any) -> Any:
        inside.wait(60)
        threads.add(threading.current_thread())
        return get(array)
    op = weft.custom_op(meet, name="test_meet_gpu")
    driver.get = meeting_get                    # type: ignore[method-assign]
    try:
        def f(x: Any) -> Any:
            with weft.device("gpu"):
                y = np.sin(x)
            with weft.device("reference"):
                z = op(x)
            return y + z
        g, big = weft.jit(f), np.ones((200, 1000), np.float32)
        for stream in (7, 8):
            with driver.on_stream(stream):
                driver.used.clear()
                np.testing.assert_allclose(g(big), np.sin(big) + 2 * big, rtol=1e-6)
            assert driver.used == {("put", stream), ("launch", stream), ("get", stream)}
    finally:
        driver.get = get                        # type: ignore[method-assign]
        del OPS["test_meet_gpu"]
        OUTSIDE.discard("test_meet_gpu")


def test_waiting_for_what_was_begun_long_ago_takes_no_error_away() -> None:
    """Runs are waited for behind the eighth; what fails in a later one is still told."""
    def f(x: Any, i: Any) -> Any:
        with weft.device("gpu"):
            y = np.sin(x)[i]
        return y + 1
    g = weft.jit(f)
    for _ in range(12):
        g(X, np.array([1]))
        with pytest.raises(IndexError):
            g(X, np.array([7]))


def test_costs_follow_from_the_device(driver: EmulatedDriver) -> None:
    """By its clocks where the driver tells them; the cost model says what it assumes."""
    gpu = get_device("gpu")
    assert costs_of(gpu) is TABLE["gpu"]
    driver.rates = (1e9, 1e12)
    costs = costs_of(gpu)
    assert 0.5 < costs.flops / (4 * 128 * 2 * 1e9) < 1 and 0.5 < costs.bandwidth / 1e12 < 1
    assert costs.why.startswith("float32 on 4 multiprocessors at 1 GHz and 1 TB/s")
    choice, = weft.jit(plain, device="auto").trace(X, W).choices
    assert any(line.strip().startswith("assumed of gpu: ") for line in choice.lines())


@pytest.mark.parametrize("home", ["cpu", "gpu"])
def test_loops_that_the_host_drives(home: str, driver: EmulatedDriver) -> None:
    """A carry that stays on the GPU, and what is collected, on the CPU or there."""
    def f(x: Any, w: Any, device: Any = weft.device) -> Any:
        def body(c: Any, v: Any) -> Any:
            a, n = c
            with device("gpu"):
                a = np.tanh(a @ w)
            with device("cpu"):
                n = n + np.cos(v)
            return (a, n), a.sum(axis=1)
        return weft.scan(body, (x, x[0]), x)
    (a, n), ys = weft.jit(lambda x, w: f(x, w, lambda name: nullcontext()))(X, W)
    g = weft.jit(f, device=home)
    for _ in range(2):
        (b, m), zs = g(X, W)
        for got, want in zip((b, m, zs), (a, n, ys)):
            np.testing.assert_allclose(got.get() if home == "gpu" else got, want, rtol=1e-5)
    lines = scheduled(g, X, W)
    assert any("turn by turn" in line for line in lines)
    assert not any(line.startswith("    move %: cpu → gpu, 64") for line in lines)  # the weights


def test_a_loop_on_the_gpu_moves_there_whole() -> None:
    def f(x: Any) -> Any:
        def body(i: Any, y: Any) -> Any:
            with weft.device("gpu"):
                return np.sin(y) + i
        return weft.fori_loop(0, 3, body, x)
    want = X
    for i in range(3):
        want = np.sin(want) + np.float32(i)
    g = weft.jit(f)
    np.testing.assert_allclose(g(X), want, rtol=1e-5)
    assert [line.split(":")[0] for line in scheduled(g, X) if line.startswith("run")] == [
        "run gpu.0"]
