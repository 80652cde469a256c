"""The public names: what they are, that they are loaded late, that their examples work."""

import os
import subprocess
import sys

import numpy as np
import pytest

import weft
import weft.numpy
from weft.frontend import jit


def python(code):
    """What a new process prints."""
    paths = os.pathsep.join(filter(None, sys.path))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": paths}, check=True)
    return run.stdout.strip()


def test_nothing_but_numpy_is_imported():
    loaded = python("import sys, numpy; before = set(sys.modules); import weft; "
                    "print(sorted(m for m in set(sys.modules) - before))")
    assert loaded == "['weft']"


def test_every_public_name_is_there():
    assert dir(weft) == sorted(weft.__all__)
    for name in weft.__all__:
        assert getattr(weft, name) is not None
    assert weft.jit is jit.jit
    assert weft.numpy.float32 is np.float32


def test_unknown_name():
    with pytest.raises(AttributeError, match=r"^module 'weft' has no attribute 'jot'$"):
        weft.jot  # noqa: B018


def test_import_styles():
    assert python("from weft import jit, explain, numpy, errors; import weft.errors; "
                  "print(errors.ShapeError.__name__, callable(jit), numpy.pi)") == (
        f"ShapeError True {np.pi}")


def test_version_is_that_of_the_package():
    try:
        import tomllib
        from pathlib import Path
        text = (Path(weft.__file__).parent.parent / "pyproject.toml").read_text()
    except OSError:
        pytest.skip("not a checkout")
    assert tomllib.loads(text)["project"]["version"] == weft.__version__


def test_devices_and_threads():
    names = [device.name for device in weft.devices() if device.usable]
    assert names[:2] == ["cpu", "reference"]
    before = weft.get_num_threads()
    weft.set_num_threads(1)
    assert weft.get_num_threads() == 1
    weft.set_num_threads(before)
    with pytest.raises(ValueError, match="the number of threads must be at least 1, got 0"):
        weft.set_num_threads(0)


def test_the_example_of_the_issue():
    @weft.jit
    def block(x, w1, b1, w2, b2):
        h = x @ w1 + b1
        h = 0.5 * h * (1 + np.tanh(0.7978845608 * (h + 0.044715 * h**3)))
        y = h @ w2 + b2 + x
        m = y.mean(axis=-1, keepdims=True)
        return (y - m) / np.sqrt(((y - m) ** 2).mean(axis=-1, keepdims=True) + 1e-5)

    rng = np.random.default_rng(0)
    args = [rng.normal(size=s).astype(np.float32)
            for s in ((8, 16), (16, 32), (32,), (32, 16), (16,))]
    for _ in range(3):
        y = block(*args)
        assert type(y) is np.ndarray and y.dtype == np.float32
        np.testing.assert_allclose(y, block.__wrapped__(*args), rtol=2e-4, atol=2e-5)
    assert "dot_general" in block.trace(*args).optimize().text()
    assert "kernels: " in str(weft.explain(block, *args))
