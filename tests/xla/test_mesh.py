"""Meshes: on eight virtual devices, and between two processes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import weft
from weft.errors import ShapeError, UnsupportedError

HERE = Path(__file__).resolve().parent
needs_jax = pytest.mark.usefixtures("jax")


@pytest.fixture
def jax() -> None:
    """JAX, which the main process need not have loaded with several devices."""
    pytest.importorskip("jax", reason="JAX is not installed: pip install 'weft[tpu]'")


def environment(devices: int) -> dict[str, str]:
    """That of a process with so many devices of the CPU."""
    path = os.pathsep.join([*(p for p in sys.path if p), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


@needs_jax
def test_on_eight_devices() -> None:
    """The cases of `mesh_cases.py`, in a process that has the devices."""
    out = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
         str(HERE / "mesh_cases.py")], env=environment(8), capture_output=True, text=True)
    assert out.returncode == 0, out.stdout[-6000:]


def together(count: int, devices: int, command: Callable[[int, int], list[str]]) -> list[str]:
    """What several processes print, which run `command(port, number)` at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers = [subprocess.Popen([sys.executable, *command(port, i)], env=environment(devices),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
               for i in range(count)]
    try:
        texts = [w.communicate(timeout=240)[0] for w in workers]
    finally:
        for w in workers:
            w.kill()
    assert [w.returncode for w in workers] == [0] * count, "\n".join(t[-3000:] for t in texts)
    return texts


@needs_jax
def test_between_two_processes() -> None:
    """Two processes with two devices each train together, through `jax.distributed`."""
    worker = str(HERE / "process_worker.py")
    texts = together(2, 2, lambda port, i: [worker, str(port), "2", str(i)])
    losses = [re.search(r"loss (\S+)", t) for t in texts]
    assert losses[0] and losses[1] and losses[0][1] == losses[1][1]


@needs_jax
def test_the_example_between_two_processes() -> None:
    """By data, by model and by both, with the losses of one device."""
    example = str(HERE.parents[1] / "examples" / "train_sharded.py")
    for text in together(2, 4, lambda port, i: [example, "--processes", "2", "--process", str(i),
                                                "--address", f"127.0.0.1:{port}"]):
        assert [line.split(":")[0].strip() for line in text.splitlines() if "apart" in line] == [
            "one CPU", "data-parallel", "model-parallel", "both"]


# ---- what needs no devices

def test_mesh_and_spec() -> None:
    """Plain data, that can be compared and printed."""
    mesh = weft.mesh([4, 2], ["data", "model"])
    assert mesh == weft.mesh((4, 2), ("data", "model")) and mesh.size == 8
    assert str(mesh) == "data=4 x model=2"
    assert repr(weft.spec("data", None, ("a", "b"))) == "spec('data', None, ('a', 'b'))"
    assert weft.spec("data") == weft.spec(("data",)) and hash(weft.spec()) == hash(weft.spec())


@pytest.mark.parametrize(("shape", "names", "text"), [
    ((2,), ("a", "b"), "weft.mesh got 1 size(s) and 2 name(s)\n  expected: a name for each axis"),
    ((2, 0), ("a", "b"), "weft.mesh got the sizes [2, 0]\n  expected: positive numbers"),
    ((2, 2), ("a", "a"), "weft.mesh got the names ['a', 'a']\n  expected: different names"),
])
def test_bad_meshes(shape: tuple[int, ...], names: tuple[str, ...], text: str) -> None:
    """Sizes and names that do not go together."""
    with pytest.raises(ShapeError) as caught:
        weft.mesh(shape, names)
    assert str(caught.value) == text


def test_bad_specs() -> None:
    """Only names."""
    with pytest.raises(ShapeError) as caught:
        weft.spec("data", 3)  # type: ignore[arg-type]
    assert str(caught.value) == "weft.spec got 3\n  expected: names of mesh axes, or None"


def test_specs_need_a_mesh() -> None:
    """And a mesh is one of weft's."""
    with pytest.raises(UnsupportedError, match="got in_specs or out_specs without a mesh"):
        weft.jit(np.sin, in_specs=weft.spec())
    with pytest.raises(UnsupportedError, match="got a tuple as its mesh"):
        weft.jit(np.sin, mesh=(4, 2))  # type: ignore[arg-type]
