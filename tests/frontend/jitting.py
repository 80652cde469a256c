"""What the tests of `weft.jit` share: both devices, comparing, counting traces."""

import functools

import numpy as np
import pytest

import weft

DEVICE = "reference"
X = np.linspace(-2, 3, 12, dtype=np.float32).reshape(3, 4)
Y = np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4)


def jit(fn=None, **options):
    """`weft.jit` for the device that the test runs on."""
    return weft.jit(fn, **{"device": DEVICE, **options})


@pytest.fixture(params=["reference", "cpu"], autouse=True)
def device(request, monkeypatch):
    """Every test on both devices: they dispatch in different ways."""
    monkeypatch.setitem(globals(), "DEVICE", request.param)


def same(got, want):
    """Equal in value, element type, shape and kind of object."""
    assert type(got) is type(want)
    if isinstance(want, np.ndarray):
        assert got.dtype == want.dtype and got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-6)


def counted(fn):
    """The function, and a list that grows whenever it is traced."""
    runs = []

    @functools.wraps(fn)
    def counting(*args, **kwargs):
        runs.append(1)
        return fn(*args, **kwargs)
    return counting, runs
