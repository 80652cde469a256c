"""Functions on the XLA device, on whatever JAX has here."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import weft
from weft.compiler.lazy_dataclass import replace
from weft.compiler.types import DTYPES
from weft.devices.protocol import DeviceError
from weft.devices.registry import get_device, owner_of

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'weft[tpu]'")
XlaDevice = importlib.import_module("weft.devices.xla.device").XlaDevice
X, W = np.linspace(-2, 2, 15).reshape(5, 3), np.arange(6.0).reshape(3, 2)


def affine(x: Any, w: Any) -> Any:
    return np.tanh(x @ w) + 1.0


def test_results_are_jax_arrays() -> None:
    """They stay on the device, and functions follow them there."""
    out = weft.jit(affine, device="xla")(X, W)
    assert isinstance(out, jax.Array) and out.dtype == np.float64
    np.testing.assert_allclose(np.asarray(out), affine(X, W), atol=1e-15)
    more = weft.jit(lambda y: y * 2)(out)
    assert isinstance(more, jax.Array) and owner_of(more) is get_device("xla")
    np.testing.assert_array_equal(np.asarray(more), np.asarray(out) * 2)


def test_no_global_flag_is_changed() -> None:
    """JAX goes on as the user has it: 32 bits, unless asked otherwise."""
    weft.jit(affine, device="xla")(X, W)
    assert jax.numpy.ones(2).dtype == np.float32 and not jax.config.jax_enable_x64


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_there_and_back(dtype: Any) -> None:
    """Every element type, also of arrays without elements and of single numbers."""
    memory = get_device("xla").memory
    for a in (np.arange(12).reshape(3, 4), np.zeros((0, 3)), np.array(5)):
        given = a.astype(dtype.numpy)
        there = memory.put(given)
        assert memory.owns(there) and there.dtype == given.dtype
        back = memory.get(there)
        assert type(back) is np.ndarray and back.flags.writeable
        np.testing.assert_array_equal(back, given)
        assert back.dtype == given.dtype


def test_put_copies() -> None:
    """JAX would go on reading the array itself."""
    memory = get_device("xla").memory
    raw = np.zeros(1 << 20, np.float32)
    there = memory.put(raw)
    raw[:] = 7
    assert memory.get(there).max() == 0


def test_donated_arrays_are_used_up() -> None:
    """The user's own NumPy arrays are not written to; arrays of JAX's are gone."""
    step = weft.jit(lambda x: x + 1, device="xla", donate="x")
    given = np.zeros(1000)
    once = step(given)
    assert given.max() == 0
    twice = step(once)
    assert once.is_deleted() and np.asarray(twice).max() == 2


def test_sizes_left_open() -> None:
    """XLA compiles for each size that comes; weft traces once."""
    f = weft.jit(lambda x: (x / x.shape[0]).sum(axis=0), device="xla", shapes={"x": ("B", 3)})
    for n in (1, 4, 7):
        np.testing.assert_allclose(np.asarray(f(np.ones((n, 3)))), np.ones(3), rtol=1e-14)
    assert len(f.history()) == 1
    assert "tensor<?x3xf64>" in f.lower(X).text("stablehlo")


TEXT = """\
module @jit_affine attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {
  func.func public @main(%arg0: tensor<5x3xf32>, %arg1: tensor<3x2xf32>) -> (tensor<5x2xf32> \
{jax.result_info = "result"}) {
    %0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [1] x [0], \
precision = [HIGHEST, HIGHEST] : (tensor<5x3xf32>, tensor<3x2xf32>) -> tensor<5x2xf32> \
loc("test_device.py":LINE:0)
    %1 = stablehlo.tanh %0 : tensor<5x2xf32> loc("test_device.py":LINE:0)
    %cst = stablehlo.constant dense<1.000000e+00> : tensor<f32>
    %2 = stablehlo.broadcast_in_dim %cst, dims = [] : (tensor<f32>) -> tensor<5x2xf32> \
loc("test_device.py":LINE:0)
    %3 = stablehlo.add %1, %2 : tensor<5x2xf32> loc("test_device.py":LINE:0)
    return %3 : tensor<5x2xf32>
  }
}
"""


def test_texts() -> None:
    """StableHLO with the user's lines, op for op; and what XLA made of it."""
    f = weft.jit(affine, device="xla").lower(*(a.astype(np.float32) for a in (X, W)))
    line = affine.__code__.co_firstlineno + 1
    assert f.text() == TEXT.replace("LINE", str(line))
    assert f.text("hlo").startswith("HloModule jit_affine")
    with pytest.raises(DeviceError) as caught:
        f.text("llvm")
    assert str(caught.value) == ("device 'xla' has no 'llvm' text\n"
                                 "  expected: 'stablehlo' or 'hlo'")


def test_explain() -> None:
    """One kernel, with all its ops."""
    text = str(weft.explain(weft.jit(affine, device="xla"), X, W))
    assert "affine(x: f64[5, 3], w: f64[3, 2]) on xla" in text
    assert "kernels: 1 for 3 ops" in text
    assert "XLA takes the graph whole" in text


PRODUCTS = {
    ("tpu", "highest"): "[HIGHEST, HIGHEST]", ("tpu", "tf32"): "[HIGH, HIGH]",
    ("tpu", "bf16"): "", ("tpu", "fp16"): "[HIGH, HIGH]",
    **{("cpu", p): "[HIGHEST, HIGHEST]" for p in ("highest", "tf32", "bf16", "fp16")},
    ("cuda", "highest"): "[HIGHEST, HIGHEST]",
    **{("cuda", p): f"algorithm = <lhs_precision_type = {t}, rhs_precision_type = {t}, "
       "accumulation_type = f32" for p, t in (("tf32", "tf32"), ("bf16", "bf16"), ("fp16", "f16"))},
}


def text_for(platform: str, f: Any, *args: Any, precision: str) -> str:
    """StableHLO for a platform that need not be here."""
    traced = weft.jit(f, device="xla", precision=precision).trace(*args)
    device = XlaDevice("xla", platform)
    target = replace(device.target(), precision=precision)
    return device.lower(traced.graph, target).text("stablehlo")


@pytest.mark.parametrize(("platform", "precision"), PRODUCTS)
def test_precision_of_products(platform: str, precision: str) -> None:
    """Full unless less is asked for, where JAX's own default is bfloat16 on TPUs, tf32 on GPUs."""
    said = PRODUCTS[platform, precision]
    text = text_for(platform, lambda x, w: x @ w, X.astype(np.float32), W.astype(np.float32),
                    precision=precision)
    assert said in text if said else "HIGH" not in text
    assert ("algorithm" in text) == ("algorithm" in said)
    assert ("stablehlo.convert" in text) == ((platform, precision) == ("cuda", "fp16"))
    assert "-> tensor<5x2xf32>" in text


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_precision_of_convolutions_and_of_doubles(platform: str, precision: str) -> None:
    """Convolutions have no algorithms; float64 is never given up."""
    image, kernel = np.ones((1, 1, 5, 5), np.float32), np.ones((1, 1, 3, 3), np.float32)
    text = text_for(platform, weft.nn.conv2d, image, kernel, precision=precision)
    kept = "HIGHEST" if platform == "cpu" else "DEFAULT" if (platform, precision) == (
        "tpu", "bf16") else "HIGH"
    assert text.count(f"#stablehlo<precision {kept}>") == 2
    text = text_for(platform, lambda x, w: x @ w, X, W, precision=precision)
    assert "algorithm" not in text and "stablehlo.convert" not in text


def test_precision_of_a_call() -> None:
    """The option of `weft.jit` is what the program is made with; a CPU computes in full."""
    f = weft.jit(lambda x, w: x @ w, device="tpu", precision="tf32")
    args = [a.astype(np.float32) for a in (X, W)]
    assert "precision = [HIGH, HIGH]" in f.lower(*args).text()
    here = weft.jit(lambda x, w: x @ w, device="xla", precision="bf16")
    if jax.default_backend() == "cpu":
        np.testing.assert_allclose(np.asarray(here(*args)), args[0] @ args[1], rtol=1e-6)


def test_threads() -> None:
    """Calls from several threads, the first ones at once."""
    f = weft.jit(affine, device="xla")
    wrong: list[Any] = []

    def work(k: int) -> None:
        for _ in range(10):
            out = np.asarray(f(X + k, W))
            if not np.allclose(out, affine(X + k, W), rtol=1e-13):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_absent_tpu() -> None:
    """Programs are lowered for it, and refused when they are to run."""
    if get_device("tpu").count():
        pytest.skip("there is a TPU")
    f = weft.jit(affine, device="tpu")
    assert "stablehlo.tanh" in f.lower(X, W).text()
    with pytest.raises(DeviceError) as caught:
        f(X, W)
    here = jax.default_backend()
    assert str(caught.value).splitlines()[0] == f"there is no TPU here: JAX offers {here!r}"
    assert [d.problem for d in weft.devices() if d.name == "tpu"] == [caught.value.what]


def test_more_than_there_are() -> None:
    """Ordinals count JAX's devices."""
    count = get_device("xla").count()
    with pytest.raises(DeviceError, match=f"there is no device 'xla:{count}'"):
        weft.jit(affine, device=f"xla:{count}")(X, W)


def test_no_jax_is_loaded_unless_asked_for() -> None:
    """Using the CPU does not import it."""
    code = ("import numpy as np, sys, weft\nweft.jit(lambda x: x + 1)(np.zeros(2))\n"
            "assert 'jax' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_out_of_memory() -> None:
    """The message says what was asked for; the process goes on."""
    from weft.devices.xla.failures import as_weft

    memory = get_device("xla").memory
    error = as_weft(RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate "
                                 "1.50GiB."), memory)  # type: ignore[arg-type]
    assert isinstance(error, MemoryError)
    assert str(error).startswith(f"device {jax.default_backend()!r} is out of memory: "
                                 "1.50 GiB were asked for, ")
