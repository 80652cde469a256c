"""`with weft.device(...)`: parts of a function on other devices, as if they were not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import weft
from tests.devices.toy import OPEN, ToyArray, ToyCompiled, ToyDevice, ToyLowered, on_toy, toys
from weft.compiler.errors import WeftError
from weft.compiler.ops.registry import OPS, OUTSIDE
from weft.devices.protocol import DeviceError
from weft.devices.registry import get_device

PATIENCE = 60
X = np.linspace(-1.0, 2.0, 12).reshape(3, 4)
W = np.linspace(0.5, 1.5, 16).reshape(4, 4)


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    """The toy device, for each test anew, and one that lacks an op."""
    with toys(poor=Poor, failing=Failing):
        yield


class Poor(ToyDevice):
    """A device without sorting."""

    name = "poor"

    def supported(self) -> frozenset[str]:
        return frozenset(OPS) - {"sort"}


class Failing(ToyDevice):
    """A device whose programs fail when they run."""

    name = "failing"

    def lower(self, graph: Any, target: Any, donated: Any = ()) -> Any:
        return FailingLowered(self, graph)


class FailingLowered(ToyLowered):
    def compile(self, cache: Any = None) -> Any:
        return FailingCompiled(self.device, self.graph)


class FailingCompiled(ToyCompiled):
    def run(self, arrays: Any, /) -> Any:
        raise RuntimeError("the hardware is on fire")


def located(caught: Any) -> str:
    """An error's text with LINE for the number of the line that it names."""
    return re.sub(r"(test_placement\.py:)\d+", r"\1LINE", str(caught.value))


def on(name: str, fn: Any) -> Any:
    """The function, placed whole."""
    def placed(*args: Any) -> Any:
        with weft.device(name):
            return fn(*args)
    return placed


def mixed(x: Any, w: Any) -> Any:
    """Parts on three devices, one in another."""
    p = np.sin(x)
    with weft.device("toy"):
        a = np.exp(p) @ w
        with weft.device("reference"):
            b = a.sum(axis=0)
        a = a - b
    c = np.cos(x) * 2
    with weft.device("toy:1"):
        d = np.tanh(c + a)
    return a + d, d.sum()


def plain(x: Any, w: Any) -> Any:
    a = np.exp(np.sin(x)) @ w
    a = a - a.sum(axis=0)
    d = np.tanh(np.cos(x) * 2 + a)
    return a + d, d.sum()


def unplaced(name: str) -> Any:
    """In the place of `weft.device`, for what is expected."""
    return nullcontext()


def scheduled(f: Any, *args: Any) -> list[str]:
    """The schedule without the lines' origins, and names of values as ``%``."""
    text = f.lower(*args).text("schedule")
    return [re.sub(r"%[\w.]+", "%", line.partition("  #")[0]) for line in text.splitlines()]


# ---- values and where they are

def test_parts_on_several_devices() -> None:
    """The values are those of the function; arguments and results are NumPy arrays as ever."""
    f = weft.jit(mixed)
    for _ in range(3):
        got = f(X, W)
        for a, b in zip(got, plain(X, W)):
            assert type(a) is type(b)
            np.testing.assert_allclose(a, b, rtol=1e-14)


def test_each_value_is_moved_once() -> None:
    def f(x: Any) -> Any:
        with weft.device("toy"):
            a = np.sin(x)
        b = a + 1
        with weft.device("toy"):
            c = a * x
            d = c - b
        return d * a
    g = weft.jit(f)
    np.testing.assert_allclose(g(X), f(X))
    memory = get_device("toy").memory
    memory.puts = 0
    g(X)
    assert memory.puts == 2                     # x and b
    assert scheduled(g, X) == [
        "move %: cpu → toy, 96 bytes", "run toy.0: % → %", "move %: toy → cpu, 96 bytes",
        "run cpu.0: % → %", "move %: cpu → toy, 96 bytes", "run toy.1: %, %, % → %",
        "move %: toy → cpu, 96 bytes", "run cpu.1: %, % → %"]


def test_equal_parts_are_compiled_once() -> None:
    def f(x: Any, w: Any) -> Any:
        for _ in range(4):
            with weft.device("toy"):
                x = np.tanh(x @ w)
            x = np.sin(x) + 1
        return x
    g = weft.jit(f)
    np.testing.assert_allclose(g(X, W), _by_hand(X, W))
    parts = g.lower(X, W).lowered.parts
    assert [len({id(p.lowered) for p in parts if p.name.startswith(d)})
            for d in ("toy", "cpu")] == [1, 1] and len(parts) == 8


def _by_hand(x: Any, w: Any) -> Any:
    for _ in range(4):
        x = np.sin(np.tanh(x @ w)) + 1
    return x


def test_the_functions_own_device_may_be_another() -> None:
    """Arguments are brought to it, and results stay there."""
    f = weft.jit(mixed, device="toy")
    for got, want in zip(f(X, W), plain(X, W)):
        assert type(got) is ToyArray
        np.testing.assert_allclose(get_device("toy").memory.get(got), want, rtol=1e-14)
    got = weft.jit(mixed)(on_toy(X), on_toy(W))[0]      # where its arguments are
    assert type(got) is ToyArray and got.ordinal == 0
    assert "run cpu" not in weft.jit(mixed).lower(on_toy(X), on_toy(W)).text("schedule")


def test_a_part_on_the_functions_own_device_is_nothing_special() -> None:
    f = weft.jit(on("cpu", np.sin))
    assert f.lower(X).lowered.kinds == ("kernels", "llvm", "asm")
    f(X)
    f(X)
    assert f.compiled_for(X)[0].is_native
    assert "reference" not in weft.jit(on("reference", np.sin), device="reference").trace(
        X).optimize().text()


def test_reused_and_nested_blocks() -> None:
    toy = weft.device("toy")

    def f(x: Any) -> Any:
        with toy:
            y = x + 1
            with toy:
                z = y * 2
            with weft.device("cpu"):
                z = z - 3
            w = z * y
        with toy:
            return w + z
    assert repr(toy) == "weft.device('toy')"
    np.testing.assert_allclose(weft.jit(f)(X), f(X))
    assert [line.split(":")[0] for line in scheduled(weft.jit(f), X) if "run" in line] == [
        "run toy.0", "run cpu.0", "run toy.1"]


def test_an_error_in_a_block_leaves_it() -> None:
    def f(x: Any) -> Any:
        try:
            with weft.device("toy"):
                raise KeyError
        except KeyError:
            pass
        return x + 1
    assert "toy" not in weft.jit(f).trace(X).text()


def test_jitted_functions_inside() -> None:
    """What they do belongs to the trace, and so to the block."""
    inner = weft.jit(lambda x: np.tanh(x))

    def f(x: Any) -> Any:
        with weft.device("toy"):
            return inner(x) + 1
    assert scheduled(weft.jit(f), X)[1] == "run toy.0: % → %"
    np.testing.assert_allclose(weft.jit(f)(X), np.tanh(X) + 1)


def test_jitted_functions_with_a_device_inside() -> None:
    """They run there, as they do outside; without a trace around it, the caller's is another."""
    inner = weft.jit(lambda x: np.tanh(x), device="toy")

    def f(x: Any) -> Any:
        return inner(x) + inner.to("cpu")(x)
    assert [line.partition(":")[0] for line in scheduled(weft.jit(f), X) if "run" in line] == [
        "run toy.0", "run cpu.0"]
    np.testing.assert_allclose(weft.jit(f)(X), 2 * np.tanh(X))
    got = weft.grad(lambda x: inner(x).sum())(X)
    assert type(got) is np.ndarray
    np.testing.assert_allclose(got, 1 - np.tanh(X) ** 2)


def test_symbolic_sizes() -> None:
    def f(x: Any, device: Any = weft.device) -> Any:
        with device("toy"):
            n = weft.numpy.arange(x.shape[0]) * weft.numpy.ones(x.shape[0])
            y = x.T @ n
            y = weft.fori_loop(0, 2, lambda i, y: y + weft.numpy.ones(x.shape[0]).sum(), y)
        return y + x.shape[0]
    g = weft.jit(f, shapes={"x": ("B", 4)})
    for n in (1, 3, 5):
        x = np.ones((n, 4)) * n
        np.testing.assert_allclose(g(x), f(x, unplaced))
    assert len(g.history()) == 1


def test_arrays_from_outside() -> None:
    table = np.arange(4.0)

    def f(x: Any, device: Any = weft.device) -> Any:
        y = x * 1.0
        with device("toy"):
            y *= table
        y += 1
        return y
    g = weft.jit(f)
    np.testing.assert_allclose(g(X), f(X, unplaced))
    table += 1
    np.testing.assert_allclose(g(X), f(X, unplaced))


def test_donated_arguments_may_be_placed() -> None:
    f = weft.jit(lambda x, y: on("toy", np.add)(x, y) * 2, donate="x")
    x = X.copy()
    np.testing.assert_allclose(f(x, X), X * 4)


def test_results_that_are_constant_or_arguments() -> None:
    def f(x: Any) -> Any:
        with weft.device("toy"):
            return np.ones(3), x, np.arange(2.0) + 1, x.sum()
    for got, want in zip(weft.jit(f)(X), f(X)):
        np.testing.assert_allclose(got, want)


# ---- outside of compiled functions

def test_outside_of_a_trace_it_is_the_default() -> None:
    f = weft.jit(lambda x: x + 1)
    with weft.device("toy"):
        assert type(f(X)) is ToyArray
        with weft.device("cpu"):
            assert type(f(X)) is np.ndarray
        assert weft.get_default_device() == "toy"
    assert weft.get_default_device() == "cpu" and type(f(X)) is np.ndarray


# ---- transforms

TRANSFORMS = {
    "grad": lambda f: weft.grad(lambda x, w: f(x, w)[1]),
    "value and grad of all": lambda f: weft.value_and_grad(
        lambda x, w: (f(x, w)[0] ** 2).sum(), argnums=(0, 1)),
    "jvp": lambda f: lambda x, w: weft.jvp(f, (x, w), (w[:3], w)),
    "vjp": lambda f: lambda x, w: weft.vjp(f, x, w)[1]((x * 2, 1.5)),
    "linearize": lambda f: lambda x, w: weft.linearize(f, x, w)[1](x, w),
    "vmap": lambda f: lambda x, w: weft.vmap(f, in_axes=(None, 0))(x, np.stack([w, w + 1])),
    "vmap of grad": lambda f: lambda x, w: weft.vmap(
        weft.grad(lambda x, w: f(x, w)[1]), in_axes=(0, None))(np.stack([x, x + 1]), w),
    "grad of vmap": lambda f: weft.grad(lambda x, w: weft.vmap(f, in_axes=(None, 0))(
        x, np.stack([w, w + 1]))[0].sum()),
    "grad of grad": lambda f: weft.grad(lambda x, w: (weft.grad(
        lambda x, w: f(x, w)[1])(x, w) ** 2).sum()),
    "hessian-vector product": lambda f: lambda x, w: weft.hvp(
        lambda x: f(x, w)[1], (x,), (x + 1,)),
    "jacfwd": lambda f: weft.jacfwd(lambda x, w: f(x, w)[0][0], argnums=1),
    "checkpoint": lambda f: weft.grad(lambda x, w: weft.checkpoint(f)(x, w)[1]),
    "cheap checkpoint": lambda f: weft.grad(
        lambda x, w: weft.checkpoint(f, policy="cheap")(x, w)[1]),
    "products checkpoint": lambda f: weft.grad(
        lambda x, w: weft.checkpoint(f, policy="products")(x, w)[1]),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_of_placed_functions(transform: Any) -> None:
    """The values are those without places; what was placed stays placed, and nothing else is."""
    want = weft.jit(transform(plain), device="reference")(X, W)
    f = weft.jit(transform(mixed))
    for a, b in zip(_flat(f(X, W)), _flat(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)
    for node in f.trace(X, W).optimize().graph.nodes:
        if node.opname == "call":
            ops = {n.opname for n in node.attrs["graph"].nodes}
            device = node.attrs["device"]
            assert not ops & ({"tanh"} if device != "toy:1" else {"exp", "sin"}), (device, ops)
            assert "exp" not in ops or device == "toy"


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, tuple | list):
        return [value]
    return [leaf for v in value for leaf in _flat(v)]


def test_transforms_inside_of_a_block() -> None:
    """All of a derivative that is taken inside of a block is computed there."""
    f = weft.jit(on("toy", weft.grad(lambda x: (np.sin(x) ** 2).sum())))
    np.testing.assert_allclose(f(X), np.sin(2 * X))
    assert scheduled(f, X) == ["move %: cpu → toy, 96 bytes", "run toy.0: % → %",
                               "move %: toy → cpu, 96 bytes"]


def test_custom_derivatives() -> None:
    """A rule may place its parts elsewhere than the function, and both may be in blocks."""
    @weft.custom_vjp
    def f(x: Any) -> Any:
        with weft.device("toy"):
            return np.sin(x)

    def backward(x: Any, ct: Any) -> Any:
        with weft.device("toy:1"):
            return (ct * np.cos(x) * 3,)
    f.defvjp(lambda x: (f(x), x), backward)

    @weft.custom_jvp
    def g(x: Any) -> Any:
        return np.exp(x)

    @g.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        with weft.device("toy:1"):
            return g(*primals), tangents[0] * 2

    def whole(x: Any) -> Any:
        with weft.device("reference"):
            y = g(f(x))
        return y.sum()
    h = weft.jit(weft.grad(whole))
    np.testing.assert_allclose(h(X), 2 * 3 * np.cos(X))
    assert {line.split(".")[0] for line in scheduled(h, X) if "run" in line} >= {"run toy:1"}
    np.testing.assert_allclose(weft.jit(whole)(X), np.exp(np.sin(X)).sum())


# ---- loops and branches

def test_loops_in_blocks() -> None:
    def f(x: Any, device: Any = weft.device) -> Any:
        with device("toy"):
            y = weft.fori_loop(0, 3, lambda i, y: np.sin(y) + i, x)
            z = weft.cond(y.sum() > 0, np.exp, np.cos, y)
        return z + weft.scan(lambda c, v: (c + v, c), 0.0, x[0])[0]
    np.testing.assert_allclose(weft.jit(f)(X), f(X, unplaced))
    assert len(scheduled(weft.jit(f), X)) == 4

    def gradient(*device: Any) -> Any:
        return weft.jit(weft.grad(lambda x: f(x, *device).sum()))(X)
    np.testing.assert_allclose(gradient(), gradient(unplaced))


def test_blocks_in_loops_on_their_own_device() -> None:
    def f(x: Any) -> Any:
        return weft.fori_loop(0, 3, lambda i, y: on("toy", np.sin)(y), x)
    got = weft.jit(f, device="toy")(X)
    np.testing.assert_allclose(get_device("toy").memory.get(got), np.sin(np.sin(np.sin(X))))
    np.testing.assert_allclose(weft.jit(on("toy", f))(X), np.sin(np.sin(np.sin(X))))


# ---- overlap, by events

@pytest.fixture
def meeting() -> Iterator[Any]:
    """An op that returns once two threads are in it."""
    barrier = threading.Barrier(2)

    def meet(x: Any) -> Any:
        barrier.wait(PATIENCE)
        return x * 2.0
    op = weft.custom_op(meet, name="test_meet")
    yield op
    del OPS["test_meet"]
    OUTSIDE.discard("test_meet")


def test_devices_overlap(meeting: Any) -> None:
    """Both parts are in the op at once, or neither would ever leave it."""
    def f(x: Any) -> Any:
        with weft.device("reference"):
            a = meeting(x)
        b = meeting(x + 1)
        return a + b
    g = weft.jit(f)
    big = np.ones((200, 1000))
    for _ in range(3):
        np.testing.assert_allclose(g(big), 2 * big + 2 * (big + 1))


def test_asynchronous_devices_overlap() -> None:
    """The toy device computes nothing before the CPU's part has run: they were begun together."""
    def release(x: Any) -> Any:
        OPEN.set()
        return x * 3.0
    op = weft.custom_op(release, name="test_release")
    try:
        def f(x: Any) -> Any:
            with weft.device("toy"):
                a = np.sin(x)
            return a + op(x)
        g = weft.jit(f)
        big = np.ones((100, 1000))
        OPEN.clear()
        np.testing.assert_allclose(g(big), np.sin(big) + 3)
    finally:
        OPEN.set()
        del OPS["test_release"]
        OUTSIDE.discard("test_release")


def test_calls_return_before_an_asynchronous_device_is_done() -> None:
    """Where the results are on such a device, nothing waits for them."""
    f = weft.jit(lambda x: on("toy:1", np.cos)(x) + 1, device="toy")
    OPEN.clear()
    try:
        out = weft.jit(lambda x: on("toy", np.sin)(x), device="toy")(on_toy(X))
        assert not out.values.done()
    finally:
        OPEN.set()
    np.testing.assert_allclose(get_device("toy").memory.get(weft.block_until_ready(out)), np.sin(X))
    np.testing.assert_allclose(get_device("toy").memory.get(f(X)), np.cos(X) + 1)


def test_many_calls_at_once() -> None:
    f = weft.jit(mixed)
    want, wrong = plain(X, W)[0], []

    def work() -> None:
        for _ in range(20):
            if not np.allclose(f(X, W)[0], want):
                wrong.append(1)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# ---- what can be looked at

def test_explain() -> None:
    def f(x: Any, w: Any) -> Any:
        with weft.device("toy"):
            a = np.exp(x) @ w
        with weft.device("reference"):
            b = np.cos(x)
        return a + b
    g = weft.jit(f)
    text = str(weft.explain(g, X, W))
    part = text[text.index("placement"):].partition("\n\n")[0]
    assert re.sub(r"test_placement\.py:\d+", "HERE", part) == """\
placement: 3 partitions on cpu, reference, toy, 320 B moved
  move %x: cpu → toy, 96 bytes
  move %w: cpu → toy, 128 bytes
  run toy.0: %x, %w → %dot_general.1  # HERE
  move %x: cpu → reference, nothing to copy: they share a memory
  run reference.0: %x → %cos.2  # HERE
  move %dot_general.1: toy → cpu, 96 bytes  # HERE
  move %cos.2: reference → cpu, nothing to copy: they share a memory  # HERE
  run cpu.0: %dot_general.1, %cos.2 → %add.3"""
    html = weft.explain(g, X, W).html()
    assert "placement: 3 partitions" in html and "transfer" in html
    assert "schedule" in g.lower(X, W).html()


# ---- bad input

def test_unknown_device() -> None:
    def f(x: Any) -> Any:
        with weft.device("tow"):
            return x + 1
    with pytest.raises(DeviceError) as caught:
        weft.jit(f)(X)
    assert located(caught) == """\
there is no device named 'tow'
  at test_placement.py:LINE: with weft.device("tow"):
  expected: one of 'cpu', 'reference', 'toy', 'poor', 'failing'
  repair:   did you mean 'toy'?""".replace("'cpu', 'reference', ", ", ".join(
        repr(n) for n in _built_in()) + ", ")
    with pytest.raises(DeviceError) as caught, weft.device("tow"):
        pass
    assert "at test_placement.py:LINE: with pytest" in located(caught)


def _built_in() -> list[str]:
    from weft.devices.registry import device_names

    return [n for n in device_names() if n not in ("toy", "poor", "failing")]


def test_a_number_that_there_is_not() -> None:
    def f(x: Any) -> Any:
        with weft.device("toy:2"):
            return x + 1
    with pytest.raises(DeviceError) as caught:
        weft.jit(f)(X)
    assert located(caught) == """\
there is no device 'toy:2': there are 2 devices 'toy' here
  at test_placement.py:LINE: with weft.device("toy:2"):
  expected: 'toy:0' to 'toy:1'"""


def test_no_name_of_a_device() -> None:
    with pytest.raises(WeftError) as caught:
        weft.device(3)  # type: ignore[arg-type]
    assert located(caught) == """\
weft.device got a int
  at test_placement.py:LINE: weft.device(3)  # type: ignore[arg-type]
  expected: the name of a device, such as 'cpu' or 'gpu:0'"""


def test_an_op_that_the_device_has_not() -> None:
    def f(x: Any) -> Any:
        with weft.device("poor"):
            y = x + 1
            return np.sort(y)
    with pytest.raises(DeviceError) as caught:
        weft.jit(f)(X)
    assert located(caught) == """\
device 'poor' has no op sort
  at test_placement.py:LINE: return np.sort(y)
  repair:   run this on another device"""


def test_arguments_on_two_devices() -> None:
    """Blocks do not say where arguments that lie on two devices should be."""
    f = weft.jit(mixed)
    with pytest.raises(DeviceError) as caught:
        f(on_toy(X), on_toy(W, 1))
    assert located(caught) == """\
mixed got arrays of two devices: 'x' lies on 'toy', 'w' on 'toy:1'
  at test_placement.py:LINE: f(on_toy(X), on_toy(W, 1))
  expected: arrays of one device, or NumPy's beside them
  repair:   name the device, to which the others are copied: mixed.to('toy')"""


def test_a_part_that_fails() -> None:
    """The error says where in the user's code, on which device; the next call works."""
    def f(x: Any, bad: bool) -> Any:
        y = np.sin(x)
        if bad:
            with weft.device("failing"):
                y = y * 2
        with weft.device("toy"):
            return y + 1
    g = weft.jit(f, static_argnames="bad")
    with pytest.raises(DeviceError) as caught:
        g(X, True)
    assert located(caught) == """\
device 'failing' failed in the partition failing.0: the hardware is on fire
  at test_placement.py:LINE: with weft.device("failing"):"""
    assert isinstance(caught.value.__cause__, RuntimeError)
    np.testing.assert_allclose(g(X, False), np.sin(X) + 1)


def test_errors_of_the_users_values_name_their_line() -> None:
    def f(x: Any, i: Any) -> Any:
        with weft.device("reference"):
            y = np.sin(x)
        return y[i]
    with pytest.raises(IndexError) as caught:
        weft.jit(f)(X, np.array([7]))
    assert "index 7 is out of bounds for axis 0 with size 3\n  at test_placement.py:LINE" in \
        located(caught)


def test_parts_of_a_function_on_a_mesh() -> None:
    def f(x: Any) -> Any:
        with weft.device("toy"):
            return x + 1
    with pytest.raises(DeviceError) as caught:
        weft.jit(f, device="toy", mesh=weft.mesh((1,), ("data",)), in_specs=weft.spec("data"),
                 out_specs=weft.spec("data")).trace(X)
    assert located(caught) == """\
f runs on a mesh, and what is in it is placed on 'toy'
  at test_placement.py:LINE: with weft.device("toy"):
  expected: a mesh, or parts on devices
  repair:   leave out mesh=, or what places the part"""
