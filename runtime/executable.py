"""A compiled program with what stands around it: how arguments go in and results come out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.devices.host_memory import HostMemory
from weft.devices.protocol import Compiled, Device
from weft.runtime.arrays import Array, own, prepare

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object   # making a protocol takes as long as importing a small module

__all__ = ["MISSED", "Executable", "Output", "executable_class"]

MISSED = object()
"""What `DeviceExecutable.direct` gives for calls that are not like the one it was made for."""

_ndarray = np.ndarray


class Output(Protocol):
    """Where one flat result comes from (`weft.frontend.trace.ResultSpec` is one).

    `kind` is ``"array"``, ``"scalar"`` (a NumPy scalar), or ``"float"``, ``"int"``, ``"bool"``,
    ``"complex"`` for result `index` of the program; ``"argument"`` for the flat argument `index`
    itself; ``"static"`` for `value`.
    """

    @property
    def kind(self) -> str:
        """Which object to hand out."""

    @property
    def index(self) -> int:
        """The program's result, or the flat argument."""

    @property
    def value(self) -> object:
        """The object itself, for ``"static"``."""


class Executable:
    """Runs a compiled program on flat arguments, as Python holds them.

    `dtypes` are the element types of the program's parameters, the hidden ones included; `hidden`
    are functions that give those, called at each call; `build` puts the flat results together.
    Calls need no lock.
    """

    __slots__ = ("_build", "_donated", "_dtypes", "_hidden", "_outputs", "_plain", "_run",
                 "_single", "about", "compiled", "countdown", "entry", "runner", "state")

    on_device = False       # whether it is a `DeviceExecutable`

    def __init__(self, compiled: Compiled, dtypes: Sequence[np.dtype[Any]],
                 outputs: Sequence[Output], build: Callable[[list[Any]], Any],
                 hidden: Sequence[Callable[[], Array]] = (), *, plain: bool = False,
                 single: bool = False, donated: Sequence[int] = ()) -> None:
        """`plain`: all arguments are native arrays; `single`: the result is one array; `donated`:
        arguments that the program may overwrite."""
        self.compiled = compiled
        self.about: Any = None          # whatever made it, for those who look in
        self.countdown = 1              # calls through Python before its entry is seen to
        self.entry: Any = None          # a native entry, perhaps with a guard
        # A faster way to run it, which prepares arguments itself.
        self.runner: Callable[..., list[Array]] | None = None
        self.state: Hashable = ()       # of what the code reads beside its arguments
        self._run = compiled.run
        self._dtypes = tuple(dtypes)
        self._outputs = tuple(outputs)
        self._build = build
        self._hidden = tuple(hidden)
        self._plain = plain and not hidden
        self._donated = tuple(donated)
        self._single = single and [(o.kind, o.index) for o in outputs] == [("array", 0)]

    @property
    def is_native(self) -> bool:
        """Whether calls go through a native entry by now."""
        return self.entry is not None or self.runner is not None

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """The function's result for these flat arguments."""
        if self._hidden:
            leaves = [*leaves, *[read() for read in self._hidden]]
        if self._donated:
            leaves = own(leaves, self._donated)
        if self.runner is not None:
            results = self.runner(*leaves)
        elif self._plain and self._ready(leaves):
            results = self._run(leaves)
        else:
            results = self._run(prepare(leaves, self._dtypes))
        if self._single:
            return results[0]
        return self._build([_wrapped(o, results, leaves) for o in self._outputs])

    @staticmethod
    def _ready(leaves: Sequence[Any]) -> bool:
        for leaf in leaves:  # noqa: SIM110, `all` with a generator costs 3x as much
            if type(leaf) is not _ndarray or not leaf.flags.carray:
                return False
        return True


def executable_class(device: Device) -> type[Executable]:
    """`Executable`, or what it is for a device whose arrays are not NumPy's.

    The latter takes further arguments.
    """
    if isinstance(device.memory, HostMemory):
        return Executable
    from weft.runtime.device_executable import DeviceExecutable  # not for the CPU

    return DeviceExecutable


def _wrapped(output: Output, results: Sequence[Array], leaves: Sequence[Any]) -> Any:
    kind = output.kind
    if kind == "array":
        return results[output.index]
    if kind == "scalar":
        return results[output.index][()]
    if kind == "argument":
        return leaves[output.index]
    if kind == "static":
        return output.value
    return results[output.index].item()
