"""The XLA devices: `xla`, whatever JAX offers first, and `tpu`, JAX's TPUs.

`tpu` can be lowered for, and exported, on machines that have none; running there is refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from weft.compiler.ir import Graph
from weft.compiler.ops.registry import OUTSIDE
from weft.compiler.target import Target
from weft.devices.mesh import Layout, Mesh
from weft.devices.protocol import Device, DeviceError
from weft.devices.xla.memory import XlaMemory

if TYPE_CHECKING:
    from weft.devices.xla.lowered import XlaLowered

__all__ = ["XlaDevice", "make_tpu", "make_xla"]

# Units in the last place. Many numbers divided by one are multiplied by its reciprocal; recurrences
# are contracted; factorizations are other routines than NumPy's, or other versions of them: on the
# CPU, SciPy's LAPACK, which may or may not be NumPy's. (With another one, svd was off by
# 91, lstsq by 104.)
_ULPS = {
    "acosh": 6, "erf": 6, "erfc": 12, "erf_inv": 4, "log1p": 64, "tanh": 4, "div": 1, "pow": 120,
    "linear_recurrence": 32, "cholesky": 16, "det": 64, "eig": 64, "eigh": 400, "lstsq": 128,
    "qr": 200, "slogdet": 64, "solve": 32, "svd": 160,
}
# What JAX cannot lower for a platform: general eigenvalues for TPUs. ("custom" is no op.)
_LACKING = {"tpu": {"custom", "eig"}}


class XlaDevice(Device):
    """One device of JAX's. `platform` asks for a kind of machine, None takes JAX's default.

    Raises an `ImportError` where JAX is not installed.
    """

    name = ""           # the instances have their own
    ordinal = 0

    def __init__(self, name: str, platform: str | None, ordinal: int = 0) -> None:
        self.name = name
        self.ordinal = ordinal
        self._platform = platform
        self._jax: Any = importlib.import_module("jax")

    @cached_property
    def memory(self) -> XlaMemory:
        """The memory of JAX's device."""
        return XlaMemory(self.jax_device)

    @cached_property
    def devices(self) -> tuple[Any, ...]:
        """JAX's devices of this kind, those of this process; none where there are none."""
        try:
            return tuple(self._jax.local_devices(backend=self._platform))
        except RuntimeError:        # JAX's way to say so
            return ()

    def jax_device(self) -> Any:
        """JAX's device; a `DeviceError` where there is none."""
        if not self.devices:
            here = self._jax.default_backend()
            raise DeviceError(
                f"there is no {self.name.upper()} here: JAX offers {here!r}",
                expected=f"a machine with a {self.name.upper()}, or device='xla', which is {here} "
                "here", repair="lower(…).text('stablehlo') shows the program without running it")
        return self.devices[self.ordinal]

    @property
    def platform(self) -> str:
        """XLA's name of the kind of machine: ``cpu``, ``cuda``, ``rocm``, ``tpu``."""
        if not self.devices:
            return self._platform or "cpu"
        kind: str = self.devices[0].platform
        return "cuda" if kind == "gpu" else kind

    def count(self) -> int:
        """How many there are here."""
        return len(self.devices)

    def describe(self) -> str:
        """What the hardware is, and JAX's version; a `DeviceError` where there is none."""
        kind = self.jax_device().device_kind
        of = f" of {len(self.devices)}" if len(self.devices) > 1 else ""
        return f"{kind} ({self.platform}){of}, JAX {self._jax.__version__}"

    def target(self) -> Target:
        """A machine of which passes need know nothing: XLA decides."""
        return Target(device=self.name, cpu=self.platform)

    def supported(self) -> frozenset[str]:
        """The ops with a line in the tables, and those from outside, which are called back."""
        from weft.devices.xla.table import POINTWISE, SITED  # imports jax

        return frozenset({*POINTWISE, *SITED, *OUTSIDE} - _LACKING.get(self.platform, {"custom"}))

    def ulps(self) -> Mapping[str, int]:
        """What XLA's functions are good to on the CPU, as far as it has been seen."""
        return _ULPS

    def lacks(self) -> Mapping[str, str]:
        """Where XLA is nearer to the truth than NumPy."""
        return {"ops/log1p/c128": "NumPy's log1p of complex numbers loses 1e-40, XLA's does not"}

    @property
    def subnormals(self) -> bool:
        """XLA flushes them, on the CPU and on TPUs."""
        return False

    def lower(self, graph: Graph, target: Target, donated: Sequence[int] = ()) -> XlaLowered:
        """The whole graph as one function of JAX's."""
        from weft.devices.xla.lowered import XlaLowered  # imports jax

        return XlaLowered(graph, self, tuple(donated), target)


    def lower_sharded(self, graph: Graph, target: Target, donated: Sequence[int],
                      layout: Layout) -> XlaLowered:
        """The same, for a mesh of devices like this one, those of other processes included.

        Raises a `DeviceError` where there are not enough.
        """
        from weft.devices.xla.lowered import XlaLowered  # imports jax

        self.jax_mesh(layout.mesh)
        return XlaLowered(graph, self, tuple(donated), target, layout)

    def jax_mesh(self, mesh: Mesh) -> Any:
        """JAX's mesh; a `DeviceError` where there are not enough devices. Where there are none at
        all, one without devices, for which programs can be lowered."""
        if not self.devices:
            return self._jax.sharding.AbstractMesh(mesh.shape, mesh.axes)
        every = self._jax.devices(self._platform)
        if mesh.size > len(every):
            raise DeviceError(
                f"the mesh {mesh} has {mesh.size} places: there "
                f"{'is one device' if len(every) == 1 else f'are {len(every)} devices'} for "
                f"{self.name!r}", expected=f"at most {len(every)} place(s)", repair=(
                    f"on a CPU, set XLA_FLAGS=--xla_force_host_platform_device_count={mesh.size} "
                    "before JAX is imported" if self.platform == "cpu" else
                    "start more processes with jax.distributed, or take a smaller mesh"))
        kinds = (self._jax.sharding.AxisType.Auto,) * len(mesh.axes)
        return self._jax.make_mesh(mesh.shape, mesh.axes, kinds, devices=every[:mesh.size])


def make_xla(ordinal: int = 0) -> XlaDevice:
    """Whatever JAX offers as its default: a TPU, a GPU or the CPU."""
    return XlaDevice("xla", None, ordinal)


def make_tpu(ordinal: int = 0) -> XlaDevice:
    """JAX's TPUs, here or not."""
    return XlaDevice("tpu", "tpu", ordinal)
