"""Steps of libraries: only what CuPy has is asked of it, and what it lacks is said."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

import weft
from tests.gpu.double import EmulatedDriver
from tests.gpu.harness import Batch, emulated, lowered, needs_compiler
from weft.compiler.ops.registry import OPS, names_of_kind
from weft.devices.conformance.samples import cases
from weft.devices.gpu.device import GpuDevice
from weft.devices.gpu.library import ON_HOST

pytestmark = needs_compiler
# Functions of CuPy 14 that are used, with the keywords that they are given. Looked up by hand:
# where CuPy is not installed, nothing else can say so.
CUPY = {
    "abs": (), "array": (), "asarray": (), "conj": (), "cumprod": ("axis", "dtype"),
    "cumsum": ("axis", "dtype"), "einsum": (), "empty": (), "full_like": (), "moveaxis": (),
    "searchsorted": ("side",), "sort": ("axis", "kind"), "argsort": ("axis", "kind"), "stack": (),
    "swapaxes": (), "fft.fft": (), "fft.ifft": (), "fft.irfft": (), "fft.rfft": (),
    "linalg.cholesky": (), "linalg.det": (), "linalg.eigh": (), "linalg.eigvalsh": (),
    "linalg.qr": (), "linalg.slogdet": (), "linalg.solve": (), "linalg.svd": ()}
NAMES = [n for n in (*names_of_kind("sort", "scan", "factorization", "transform"), "searchsorted")
         if n != "pinv"]


class LikeCupy:
    """NumPy with CuPy's functions only."""

    def __init__(self, module: ModuleType = np, path: str = "") -> None:
        self._module = module
        self._path = path

    def __getattr__(self, name: str) -> Any:
        found, path = getattr(self._module, name), f"{self._path}{name}"
        if isinstance(found, ModuleType):
            return LikeCupy(found, f"{path}.")
        assert path in CUPY, f"CuPy's {path} was not looked up"

        def function(*args: Any, **keywords: Any) -> Any:
            assert set(keywords) <= set(CUPY[path]), f"{path} got {sorted(keywords)}"
            return found(*args, **keywords)
        return function


@pytest.mark.parametrize("name", NAMES)
def test_only_what_cupy_has(name: str) -> None:
    made = Batch()
    for label, (operands, attrs) in cases(OPS[name]):
        made.add(OPS[name], label, operands, attrs)
    with emulated() as driver:
        driver.xp = LikeCupy()
        program = lowered(made.graph)
        out = program.compile().run([driver.put(np.asarray(a)) for a in made.arrays])
        found = [GpuDevice().memory.get(a) for a in out]
    if name == "cholesky":      # of a triangle turned round: LAPACK goes another way then
        for got, (_, label, want, _) in zip(found, made.wanted):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14, err_msg=label)
    else:
        made.check(found)
    assert any(k.fallback for k in program.kernels) == (name in ON_HOST)


def test_what_runs_on_the_host_is_said() -> None:
    with emulated():
        text = str(weft.explain(weft.jit(np.linalg.eigvals, device="gpu"), np.eye(3)))
    assert "eig runs on the host, by NumPy: cuSOLVER's eigenvalues are in another order" in text


@pytest.mark.parametrize("f, words", [(np.linalg.inv, "Singular matrix"),
                                      (np.linalg.cholesky, "Matrix is not positive definite")])
def test_errors_are_in_numpys_words(f: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise np.linalg.LinAlgError("Error reported by potrf in cuSOLVER. devInfo = [1].")

    class Failing:
        conj, swapaxes = staticmethod(np.conj), staticmethod(np.swapaxes)

        class linalg:
            solve = cholesky = staticmethod(refuse)

    with emulated() as driver, pytest.raises(np.linalg.LinAlgError, match=f"^{words}\n  at test_"):
        monkeypatch.setattr(EmulatedDriver, "xp", Failing)
        assert driver.xp is Failing
        weft.jit(f, device="gpu")(np.zeros((3, 3)))
