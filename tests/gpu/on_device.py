"""``python -m tests.gpu.on_device``: what the emulator's tests hold, on the GPU that is here.

Products of every layout, epilogue and precision, attention, and CUDA graphs; the examples' losses
over 100 steps of training; streams, errors, and parts on several devices. Each result is held to
NumPy's or the CPU's; there is a line for each that is wrong. `tests/gpu/on_device.sh` runs it.
"""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator

import numpy as np

import weft
from tests.gpu import test_attention, test_products
from tests.gpu.test_models import example, losses, training
from weft.devices.protocol import OutOfMemoryError
from weft.devices.registry import device_problem, get_device

Check = Callable[[], None]


def _same(f: Callable[..., np.ndarray], args: tuple[np.ndarray, ...], atol: float,
          **options: object) -> None:
    memory = get_device("gpu").memory
    with np.errstate(all="ignore"):
        want = np.asarray(weft.jit(f)(*args))
    made = weft.jit(f, device="gpu", **options)
    there = [memory.put(np.ascontiguousarray(a)) for a in args]
    scale = float(np.max(np.abs(want), initial=1.0, where=np.isfinite(want)))
    for turn in range(5):               # the second call is recorded, the later ones replay it
        got = memory.get(made(*there))
        np.testing.assert_allclose(got, want, rtol=0, atol=atol * scale, err_msg=f"call {turn}")


def checks() -> Iterator[tuple[str, Check]]:
    """All of them, by name."""
    for name, (f, args) in test_products.LAYOUTS.items():
        yield f"product, {name}", lambda f=f, args=args: _same(f, args, 1e-5)
    rand = test_products.rand
    arrays = rand(96, 128), rand(128, 112), rand(112)
    for name, (f, _, _) in test_products.EPILOGUES.items():
        for precision, atol in (("highest", 1e-5), ("tf32", 2e-2), ("bf16", 5e-2), ("fp16", 2e-2)):
            yield f"epilogue, {name}, {precision}", lambda f=f, p=precision, atol=atol: _same(
                f, arrays, atol, precision=p)
    for name, (f, args) in test_attention.CASES.items():
        yield f"attention, {name}", lambda f=f, args=args: _same(f, args, 2e-5)
    for precision, atol in test_attention.ROUNDED.items():
        for name in ("sizes that tiles do not divide", "wide", "causal", "grouped"):
            f, args = test_attention.CASES[name]
            yield f"attention, {name}, {precision}", lambda f=f, args=args, p=precision, \
                atol=atol: _same(f, args, atol, precision=p)
    args = test_attention.three(1, 2, 350, 400, 64, 64)
    for name in test_attention.MASKS:
        f = test_attention.numbered(name)
        yield f"attention, {name}", lambda f=f, args=args: _same(f, args, 2e-5)
    q, k, v = (test_attention.rand(n, 16, seed=i) for i, n in enumerate((40, 70, 70)))
    for name, (f, make) in test_attention.SPECIAL.items():
        yield f"attention, {name}", lambda f=f, make=make: _same(f, make(q, k, v), 5e-5)


# ---- models

def _training(name: str, steps: int = 100) -> None:
    """The CPU's losses, with as much between as 100 steps make of the last bits of sums."""
    m, (weights, data) = training(name)
    want, got = (losses(m, weights, data, device, steps) for device in ("cpu", "gpu"))
    assert want[-1] < want[0]
    far = np.max(np.abs(np.divide(got, want) - 1))
    print(f"  {name}: losses of {steps} steps are up to {far:.1e} apart")
    np.testing.assert_allclose(got, want, rtol=2e-4)


def _black_scholes() -> None:
    m = example("black_scholes")
    arguments = m.inputs(1_000_003)
    for a, b in zip(weft.jit(m.prices, device="gpu")(*arguments), m.prices(*arguments)):
        np.testing.assert_allclose(get_device("gpu").memory.get(a), b, rtol=2e-5, atol=2e-5)


# ---- streams, errors, several devices

def _streams() -> None:
    """Work goes to the user's stream, results are right on it, and it may be captured by them."""
    import cupy
    f = weft.jit(lambda x: np.tanh(x) / x.sum() @ np.ones((1000, 1000)), device="gpu")
    x = np.random.default_rng(0).standard_normal((1000, 1000))
    want = np.tanh(x) / x.sum() @ np.ones((1000, 1000))
    for _ in range(3):
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            there = cupy.asarray(x)
            results = [f(there) for _ in range(4)]
        stream.synchronize()
        for got in results:
            np.testing.assert_allclose(got.get(), want, rtol=1e-9, atol=1e-12)


def _index_errors() -> None:
    """Told at a wait, in loops of calls, with graphs; then all is well again."""
    f = weft.jit(lambda x, i: np.sum(x[i] * 2) + x, device="gpu")
    memory = get_device("gpu").memory
    x, good, bad = (memory.put(np.asarray(a)) for a in (np.arange(5.0), [1, 2], [1, 9]))
    for indices in (good, good, good, bad, good, good):
        out = f(x, indices)
        if indices is bad:
            try:
                weft.block_until_ready(out)
            except IndexError as error:
                assert "index 9 is out of bounds for axis 0 with size 5" in str(error)
            else:
                raise AssertionError("no error was raised")
        else:
            np.testing.assert_array_equal(memory.get(out), np.arange(5.0) + 6)


def _out_of_memory() -> None:
    f = weft.jit(lambda x: np.outer(x, x), device="gpu")
    x = np.ones(1 << 21)
    try:
        f(x)
    except OutOfMemoryError as error:
        print("  " + str(error).splitlines()[0])
    else:
        raise AssertionError("no error was raised")
    assert get_device("gpu").memory.get(f(x[:3])).shape == (3, 3)       # the process goes on


def _placed() -> None:
    def f(x, w):
        y = np.sin(x)
        with weft.device("gpu"):
            z = np.tanh(y @ w)
        return z.sum(axis=1) + y[:, 0]
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((300, 200)), rng.standard_normal((200, 400))
    for _ in range(3):
        np.testing.assert_allclose(weft.jit(f)(x, w), f(x, w), rtol=1e-9)
    for got, want in zip(weft.jit(weft.grad(lambda x, w: f(x, w).sum(), argnums=(0, 1)))(x, w),
                         weft.grad(lambda x, w: np.sum(np.tanh(np.sin(x) @ w)) + np.sum(
                             np.sin(x)[:, 0]), argnums=(0, 1))(x, w)):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)


def _auto() -> None:
    """`device="auto"` gives the answers, wherever it puts the work."""
    def f(x):
        for _ in range(20):
            x = np.tanh(x @ x) * 0.1
        return x
    x = np.random.default_rng(2).standard_normal((2000, 2000)).astype(np.float32)
    g = weft.jit(f, device="auto")
    np.testing.assert_allclose(np.asarray(_host(g(x))), f(x), rtol=0, atol=1e-5)
    print("  " + " ".join(str(weft.explain(g)).split())[:300])


_LOSE = """
import cupy, numpy, weft
f = weft.jit(lambda x: x + 1, device="gpu")
f(numpy.zeros(3))
cupy.RawKernel('extern "C" __global__ void wild(float* x) { x[0] = 1; }', 'wild')((1,), (1,), (8,))
try:
    weft.block_until_ready(f(numpy.zeros(3)))
except weft.errors.DeviceLostError as error:
    print(str(error).splitlines()[0])
"""


def _lost() -> None:
    """A kernel of somebody's writes where nothing is, which ends the device for its process."""
    run = subprocess.run([sys.executable, "-c", _LOSE], capture_output=True, text=True)
    assert "device 'gpu:0' has stopped working: " in run.stdout, run.stderr[-2000:]
    print("  " + run.stdout.strip())


def _host(value: object) -> object:
    return value.get() if hasattr(value, "get") else value


ELSEWHERE: dict[str, Check] = {
    "training an MLP": lambda: _training("train_mlp"),
    "training a GPT": lambda: _training("train_gpt"), "Black-Scholes": _black_scholes,
    "streams": _streams, "index errors": _index_errors, "out of memory": _out_of_memory,
    "parts on two devices": _placed, "device='auto'": _auto,
    "a lost device": _lost}


def main() -> int:
    """How many are wrong, at most 1."""
    problem = device_problem("gpu")
    if problem is not None:
        print(f"no GPU: {problem.splitlines()[0]}")
        return 1
    wrong = 0
    for name, check in (*checks(), *ELSEWHERE.items()):
        try:
            check()
        except Exception:       # of any kind: the others are run all the same
            wrong += 1
            print(f"WRONG {name}\n{traceback.format_exc(limit=-2)}")
    print(f"{get_device('gpu').describe()}: {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
