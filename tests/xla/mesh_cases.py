"""Functions on a mesh of eight devices; run by `test_mesh.py`, in a process that has them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import weft

MESH = weft.mesh((4, 2), ("data", "model"))
X, W = np.arange(24.0).reshape(8, 3) / 10, np.arange(12.0).reshape(3, 4) / 10
ROWS, COLUMNS, WHOLE = weft.spec("data"), weft.spec(None, "model"), weft.spec()


def affine(x: Any, w: Any) -> Any:
    return np.tanh(x @ w)


def on_mesh(f: Callable[..., Any] = affine, **options: Any) -> Any:
    return weft.jit(f, **{"device": "xla", "mesh": MESH, **options})


def error(f: Any, *args: Any) -> str:
    """What a call raises, with LINE for the number of the line."""
    with pytest.raises(weft.errors.WeftError) as caught:
        weft.block_until_ready(f(*args))
    return re.sub(r"mesh_cases\.py:\d+.*", "mesh_cases.py:LINE", str(caught.value))


def test_divided_results() -> None:
    """Values are NumPy's; they lie as the specs say."""
    f = on_mesh(in_specs=(ROWS, COLUMNS), out_specs=weft.spec("data", "model"))
    out = f(X, W)
    np.testing.assert_allclose(np.asarray(out), affine(X, W), atol=1e-15)
    assert len(out.addressable_shards) == 8
    assert {s.data.shape for s in out.addressable_shards} == {(2, 2)}
    np.testing.assert_allclose(np.asarray(f(out[:, :3], W)), affine(affine(X, W)[:, :3], W),
                               atol=1e-15)


def test_no_specs_mean_whole_arrays() -> None:
    """And the device chooses for results."""
    np.testing.assert_allclose(np.asarray(on_mesh()(X, W)), affine(X, W), atol=1e-15)


def test_specs_by_argument_and_container() -> None:
    """A spec for a container is that of all in it; names may be used."""
    def f(p: Any, x: Any) -> Any:
        return {"y": x @ p["w"] + p["b"], "s": x.sum()}

    p = {"w": W, "b": W[0]}
    want = f(p, X)
    for specs in ({"x": ROWS}, (None, ROWS), ({"w": COLUMNS, "b": weft.spec("model")}, ROWS)):
        out = on_mesh(f, in_specs=specs, out_specs={"y": ROWS, "s": WHOLE})(p, X)
        np.testing.assert_allclose(np.asarray(out["y"]), want["y"], atol=1e-14)
        assert abs(float(out["s"]) - want["s"]) < 1e-12
        assert {s.data.shape for s in out["y"].addressable_shards} == {(2, 4)}


def test_several_mesh_axes() -> None:
    """Rows over all devices."""
    out = on_mesh(lambda x: x * 2, in_specs=weft.spec(("data", "model")),
                  out_specs=weft.spec(("data", "model")))(X)
    assert {s.data.shape for s in out.addressable_shards} == {(1, 3)}
    np.testing.assert_array_equal(np.asarray(out), X * 2)


def test_communication_is_put_in() -> None:
    """A product over a divided axis is summed over the devices."""
    f = on_mesh(in_specs=(weft.spec(None, "model"), weft.spec("model")), out_specs=WHOLE)
    x, w = np.ones((8, 4)), np.ones((4, 4))
    assert "all-reduce" in f.lower(x, w).text("hlo")
    np.testing.assert_allclose(np.asarray(f(x, w)), affine(x, w), atol=1e-15)


def test_checks() -> None:
    """A bad index is raised from a mesh too."""
    f = on_mesh(lambda x, i: x[i].sum(), in_specs=(ROWS, None))
    assert float(f(X, np.array([1, 7]))) == pytest.approx(X[[1, 7]].sum())
    assert error(f, X, np.array([1, 8])).startswith(
        "index 8 is out of bounds for axis 0 with size 8\n  at mesh_cases.py:LINE")


def test_donation() -> None:
    """Weights come back where they were."""
    f = on_mesh(lambda x: x + 1, in_specs=ROWS, out_specs=ROWS, donate="x")
    once = f(X)
    np.testing.assert_array_equal(np.asarray(f(once)), X + 2)
    assert once.is_deleted()


def test_random_bits() -> None:
    """The same wherever they are computed."""
    def f(key: Any) -> Any:
        return weft.random.normal(key, (8, 2))

    key = weft.random.key(3)
    want = weft.jit(f)(key)
    np.testing.assert_allclose(np.asarray(on_mesh(f, out_specs=ROWS)(key)), want, rtol=1e-6)


@pytest.mark.parametrize(("options", "text"), [
    ({"in_specs": (weft.spec("modle"), None)},
     "'x' of affine: there is no mesh axis 'modle'\n  at mesh_cases.py:LINE\n"
     "  expected: one of 'data', 'model'\n  repair:   did you mean 'model'?"),
    ({"in_specs": (weft.spec(None, "data"), None)},
     "'x' of affine is f64[8, 3]: axis 1 of size 3 does not divide into 4 parts, along 'data' of "
     "the mesh data=4 x model=2\n  at mesh_cases.py:LINE\n  expected: a multiple of 4\n"
     "  repair:   pad the axis, or divide another one"),
    ({"in_specs": (weft.spec(None, ("data", "model")), None)},
     "'x' of affine is f64[8, 3]: axis 1 of size 3 does not divide into 8 parts, along 'data' and "
     "'model' of the mesh data=4 x model=2\n  at mesh_cases.py:LINE\n  expected: a multiple of 8\n"
     "  repair:   pad the axis, or divide another one"),
    ({"in_specs": (weft.spec("data", None, None), None)},
     "'x' of affine is f64[8, 3], its spec('data', None, None) is for 3 axes\n"
     "  at mesh_cases.py:LINE\n  expected: at most 2"),
    ({"in_specs": (weft.spec("data", "data"), None)},
     "'x' of affine: spec('data', 'data') names the mesh axis 'data' twice\n"
     "  at mesh_cases.py:LINE\n  expected: each mesh axis at most once"),
    ({"in_specs": {"y": None}},
     "in_specs has 'y', which is no argument of affine\n  at mesh_cases.py:LINE\n"
     "  expected: 'x', 'w'"),
    ({"in_specs": (None,)},
     "in_specs has 1 entries, affine got 2 argument(s)\n  at mesh_cases.py:LINE\n"
     "  expected: one for each argument, or a dict by argument"),
    ({"in_specs": ({"a": None}, None)},
     "in_specs of 'x' is {'a': None}, where there is an array\n  at mesh_cases.py:LINE\n"
     "  expected: a spec, None for a whole array, or a container like that one"),
    ({"out_specs": weft.spec(None, "data", "model")},
     "the result of affine is f64[8, 4], its spec(None, 'data', 'model') is for 3 axes\n"
     "  at mesh_cases.py:LINE\n  expected: at most 2"),
    ({"mesh": weft.mesh((16,), ("data",))},
     "the mesh data=16 has 16 places: there are 8 devices for 'xla'\n  at mesh_cases.py:LINE\n"
     "  expected: at most 8 place(s)\n  repair:   on a CPU, set "
     "XLA_FLAGS=--xla_force_host_platform_device_count=16 before JAX is imported"),
    ({"device": "cpu"},
     "device 'cpu' has no meshes\n  at mesh_cases.py:LINE\n"
     "  expected: device='xla', 'tpu', or another that spans several machines"),
    ({"shapes": {"x": ("B", 3)}},
     "sizes are left open (B) of a function on a mesh\n  at mesh_cases.py:LINE\n"
     "  expected: known sizes\n  repair:   leave out shapes="),
])
def test_errors(options: dict[str, Any], text: str) -> None:
    """Exact texts."""
    assert error(on_mesh(**options), X, W) == text


def test_lowered_for_absent_tpus() -> None:
    """The program for a mesh of TPUs can be looked at without them."""
    if weft.devices()[0] and jax.default_backend() == "tpu":
        pytest.skip("there are TPUs")
    text = on_mesh(device="tpu", in_specs=(ROWS, None)).lower(X, W).text()
    assert '<["data"=4, "model"=2]>' in text and 'sdy.sharding<@mesh, [{"data"}, {}]>' in text


def _example() -> Any:
    path = Path(__file__).resolve().parents[2] / "examples" / "train_sharded.py"
    found = importlib.util.spec_from_file_location("train_sharded", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_training_in_every_layout(capsys: pytest.CaptureFixture[str]) -> None:
    """The example: data-, model-parallel, both, and a pipeline have one device's losses."""
    example = _example()
    example.main()
    assert capsys.readouterr().out.count("apart") == 6


def test_pipeline_passes_parts_on() -> None:
    """Stages send to their neighbours; no device has more than its own layer."""
    example = _example()
    w = np.zeros((example.STAGES, example.WIDTH, example.WIDTH), np.float32)
    x = np.zeros((example.PARTS, 2, example.WIDTH), np.float32)
    text = example.pipeline().lower(w, x, x).text("hlo")
    assert "collective-permute" in text and "all-gather" not in text
