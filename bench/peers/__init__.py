"""The peers: who is measured, and what each needs to run. One module here speaks to each library.

Adding a peer is one module with a ``Peer`` class and the kernels' functions, and one line in
``PEERS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.peers.base import Peer


@dataclass(frozen=True)
class PeerSpec:
    """One column of the table. In ``warm``, ``{dir}`` stands for a fresh folder.

    ``warm`` is the environment that makes it keep compiled code on disk (None: it cannot);
    ``cold`` the one that makes sure that it does not find any.
    """

    name: str
    module: str  # under bench.peers; also what has to be importable, see `imports`
    imports: str  # the module whose import is timed
    variant: str = ""
    compiles: bool = False
    slow_compile: bool = False  # takes many seconds: its first call is measured once
    cold: Mapping[str, str] = field(default_factory=dict)
    warm: Mapping[str, str] | None = None

    def load(self) -> Peer:
        """Import the library and give its adapter (in a worker process)."""
        peer: Peer = importlib.import_module(f"bench.peers.{self.module}").PEER(self.variant)
        return peer


_JAX_WARM = {
    "JAX_COMPILATION_CACHE_DIR": "{dir}",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
_INDUCTOR = {"TORCHINDUCTOR_CACHE_DIR": "{dir}"}

PEERS: tuple[PeerSpec, ...] = (
    PeerSpec("weft", "weft_", "weft", compiles=True, cold={"WEFT_CACHE": "0"},
             warm={"WEFT_CACHE_DIR": "{dir}"}),
    PeerSpec("numpy", "numpy_", "numpy"),
    PeerSpec("jax", "jax_", "jax.numpy", compiles=True, warm=_JAX_WARM),
    PeerSpec("torch", "torch_", "torch"),
    PeerSpec("torch-compile", "torch_", "torch", "compile", compiles=True, slow_compile=True,
             cold=_INDUCTOR, warm=_INDUCTOR),
    PeerSpec("tensorflow", "tensorflow_", "tensorflow"),
    PeerSpec("tensorflow-xla", "tensorflow_", "tensorflow", "xla", compiles=True),
    PeerSpec("numba", "numba_", "numba", compiles=True, warm={"NUMBA_CACHE_DIR": "{dir}"}),
    PeerSpec("onnxruntime", "onnx_", "onnxruntime"),
)
BY_NAME = {spec.name: spec for spec in PEERS}
SUBJECT = "weft"  # the one whose goals are checked; the others are its peers
