"""weft: a graph compiler for NumPy code.

Decorate a function with `weft.jit`; it is traced to a graph, optimised, and compiled to native
code. `weft.explain` and ``f.trace(...)`` show what became of it.

Everything here is loaded on first use, so that ``import weft`` costs little more than NumPy.
"""

import importlib
import os as _os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft import errors, linalg, nn, numpy, random
    from weft.devices.listing import devices
    from weft.devices.mesh import mesh, spec
    from weft.frontend.control import cond, fori_loop, map, scan, switch, while_loop
    from weft.frontend.custom_op import custom_op
    from weft.frontend.explain import explain
    from weft.frontend.jit import jit
    from weft.frontend.location import (
        block_until_ready,
        default_device,
        get_default_device,
        set_default_device,
    )
    from weft.frontend.parts import dynamic_slice, dynamic_update_slice, index_update
    from weft.frontend.placement import device
    from weft.frontend.prefixes import associative_scan
    from weft.frontend.pytree import register_pytree
    from weft.frontend.settings import get_num_threads, set_num_threads
    from weft.frontend.transforms.batching import vmap
    from weft.frontend.transforms.custom import (
        checkpoint,
        custom_jvp,
        custom_vjp,
        stop_gradient,
    )
    from weft.frontend.transforms.derivatives import grad, jvp, linearize, value_and_grad, vjp
    from weft.frontend.transforms.jacobians import hessian, hvp, jacfwd, jacobian, jacrev

__all__ = [
    "__version__",
    "associative_scan",
    "block_until_ready",
    "checkpoint",
    "cond",
    "custom_jvp",
    "custom_op",
    "custom_vjp",
    "default_device",
    "device",
    "devices",
    "dynamic_slice",
    "dynamic_update_slice",
    "errors",
    "explain",
    "fori_loop",
    "get_default_device",
    "get_num_threads",
    "grad",
    "hessian",
    "hvp",
    "index_update",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "linalg",
    "linearize",
    "map",
    "mesh",
    "nn",
    "numpy",
    "random",
    "register_pytree",
    "scan",
    "set_default_device",
    "set_num_threads",
    "spec",
    "stop_gradient",
    "switch",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]

__version__ = "0.2.0"

# In a checkout, the other folders stand one level up. (NumPy has imported os, but not pathlib.)
_root = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))
if _os.path.isfile(_os.path.join(_root, "pyproject.toml")) and _os.path.isdir(
        _os.path.join(_root, "compiler")):
    __path__.append(_root)

_HOMES = {name: module for module, names in {
    "weft.devices.mesh": ("mesh", "spec"),
    "weft.frontend.control": (
        "cond", "fori_loop", "map", "scan", "switch", "while_loop"),
    "weft.frontend.custom_op": ("custom_op",),
    "weft.frontend.explain": ("explain",),
    "weft.frontend.prefixes": ("associative_scan",),
    "weft.frontend.jit": ("jit",),
    "weft.frontend.parts": ("dynamic_slice", "dynamic_update_slice", "index_update"),
    "weft.frontend.placement": ("device",),
    "weft.frontend.pytree": ("register_pytree",),
    "weft.frontend.location": (
        "block_until_ready", "default_device", "get_default_device", "set_default_device"),
    "weft.frontend.settings": ("get_num_threads", "set_num_threads"),
    "weft.frontend.transforms.batching": ("vmap",),
    "weft.frontend.transforms.custom": ("checkpoint", "custom_jvp", "custom_vjp", "stop_gradient"),
    "weft.frontend.transforms.derivatives": ("grad", "jvp", "linearize", "value_and_grad", "vjp"),
    "weft.frontend.transforms.jacobians": ("hessian", "hvp", "jacfwd", "jacobian", "jacrev"),
}.items() for name in names}
_MODULES = ("devices", "errors", "linalg", "nn", "numpy", "random")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"weft.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'weft' has no attribute {name!r}")
    if name == "jit":       # the rest of its imports and the user's go on meanwhile
        cache = importlib.import_module("weft.runtime.cache").disk_cache()
        importlib.import_module("weft.devices.cpu.warm_up").begin_unless_kept(cache)
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
