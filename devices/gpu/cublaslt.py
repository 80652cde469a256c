"""cuBLASLt, called directly: products as `blas` describes them.

The library comes with CuPy's CUDA (the wheels `nvidia-cublas`, `nvidia-cublas-cu12`, or a toolkit).
What it needs for one kind of product is made once and kept: descriptions of the matrices, and the
algorithm that the library's heuristics recommend. Memory for its work is the caller's, so that
calls can be captured in CUDA graphs.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from math import gcd
from typing import Any

import numpy as np

from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DTYPES
from weft.devices.gpu.libraries import library_places
from weft.devices.protocol import DeviceError

__all__ = ["CublasLt", "find_cublaslt"]

# cublas_api.h, library_types.h
_DATA = {"f32": 0, "f64": 1, "f16": 2, "c64": 4, "c128": 5, "bf16": 14}
_COMPUTE = {"f32": 68, "f64": 70, "f32 by fp16": 74, "f32 by bf16": 75, "f32 by tf32": 77}
_OPERATION = {"N": 0, "T": 1}
# cublasLt.h: attributes of descriptions, layouts and preferences; epilogues
_TRANSA, _TRANSB, _EPILOGUE, _BIAS, _AUX, _AUX_LD, _AUX_STRIDE = 3, 4, 7, 8, 11, 12, 13
_BATCH, _STRIDE = 5, 6
_WORKSPACE, _ALIGNMENTS = 1, (5, 6, 7, 8)
_EPILOGUES = {"": 1, "sum": 1, "relu": 2, "bias": 4, "bias_relu": 6, "gelu": 32, "bias_gelu": 36,
              "gelu_aux": 160, "bias_gelu_aux": 164}
_MOST_WORKSPACE = 32 << 20      # what NVIDIA recommends for Hopper
_ALIGNED = 256                  # more than that no algorithm asks for
_STATUS = {1: "not initialised", 3: "out of memory", 7: "invalid value", 8: "architecture mismatch",
           13: "execution failed", 14: "internal error", 15: "not supported"}


class _Algorithm(ctypes.Structure):
    """`cublasLtMatmulHeuristicResult_t`."""

    _fields_ = (("algo", ctypes.c_uint64 * 8), ("workspace", ctypes.c_size_t),
                ("state", ctypes.c_int), ("waves", ctypes.c_float), ("reserved", ctypes.c_int * 4))


@dataclass(frozen=True)
class _Prepared:
    """What one kind of product needs: descriptions by name, and the algorithm."""

    operation: ctypes.c_void_p
    layouts: tuple[ctypes.c_void_p, ...]        # of A, B, C and D
    algorithm: _Algorithm


class CublasLt:
    """The library, opened."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        self._lib = lib
        self._lock = threading.Lock()       # descriptions hold pointers while a call is made
        self._handles: dict[int, ctypes.c_void_p] = {}
        self._prepared: dict[Any, _Prepared] = {}

    def matmul(self, attrs: Mapping[str, Any], pointers: Sequence[int], ordinal: int, stream: int,
               workspace: Callable[[int], int]) -> None:
        """One product on a stream of the current device, which is number `ordinal`.

        `attrs` are a step's, with numbers for sizes; `pointers` to A, B, D, and where there are
        such the bias or C, and the second result. `workspace` gives memory of so many bytes, which
        must live until the work is done. Raises `DeviceError` where the library has no way.
        """
        if 0 in (attrs["rows"], attrs["columns"], attrs["batch"][0]):
            return
        size = DTYPES[attrs["type"]].itemsize
        out = DTYPES[attrs["out"]].itemsize
        widths = (size, size, out)
        firsts = [p + first * width for p, first, width in zip(
            pointers, (attrs["a"][2], attrs["b"][2], attrs["d"][1]), widths)]
        extra = list(pointers[3:])
        steps = [n * width for x in (attrs["batch"], *attrs["loops"])
                 for n, width in zip(x[1:], widths)]
        aligned = gcd(_ALIGNED, *firsts, *extra, *steps)
        with self._lock:
            made = self._find(attrs, aligned, ordinal)
            memory = workspace(made.algorithm.workspace) if made.algorithm.workspace else 0
            for moved in _places(attrs["loops"], widths, (0, 0, 0)):
                self._call(made, attrs, [p + m for p, m in zip(firsts, moved)],
                           [p + moved[2] * (attrs["epilogue"] == "sum") for p in extra],
                           ordinal, stream, memory)

    def _call(self, made: _Prepared, attrs: Mapping[str, Any], abd: list[int], extra: list[int],
              ordinal: int, stream: int, memory: int) -> None:
        a, b, d = abd
        epilogue = attrs["epilogue"]
        rest = iter(extra)
        if epilogue.startswith("bias"):
            self._set("MatmulDesc", made.operation, _BIAS, ctypes.c_void_p(next(rest)))
        if epilogue.endswith("aux"):
            self._set("MatmulDesc", made.operation, _AUX, ctypes.c_void_p(next(rest)))
        c = next(rest) if epilogue == "sum" else d
        one, beta = _scale(attrs, 1), _scale(attrs, epilogue == "sum")
        p = ctypes.c_void_p
        la, lb, lc, ld = made.layouts
        self._check("Matmul", self._handle(ordinal), made.operation, p(one.ctypes.data), p(a), la,
                    p(b), lb, p(beta.ctypes.data), p(c), lc, p(d), ld,
                    ctypes.byref(made.algorithm), p(memory),
                    ctypes.c_size_t(made.algorithm.workspace), p(stream))

    # ---- what is made once

    def _handle(self, ordinal: int) -> ctypes.c_void_p:
        if ordinal not in self._handles:
            handle = ctypes.c_void_p()
            self._check("Create", ctypes.byref(handle))
            self._handles[ordinal] = handle
        return self._handles[ordinal]

    def _find(self, attrs: Mapping[str, Any], aligned: int, ordinal: int) -> _Prepared:
        key = (*attrs.items(), aligned, ordinal)
        if key not in self._prepared:
            operation, layouts = self._operation(attrs), self._layouts(attrs)
            self._prepared[key] = _Prepared(operation, layouts, self._algorithm(
                attrs, operation, layouts, aligned, ordinal))
        return self._prepared[key]

    def _operation(self, attrs: Mapping[str, Any]) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        self._check("MatmulDescCreate", ctypes.byref(made), _COMPUTE[attrs["compute"]],
                    _DATA[_scale_type(attrs)])
        for attribute, name in ((_TRANSA, "a"), (_TRANSB, "b")):
            self._set("MatmulDesc", made, attribute, ctypes.c_int32(_OPERATION[attrs[name][0]]))
        self._set("MatmulDesc", made, _EPILOGUE, ctypes.c_uint32(_EPILOGUES[attrs["epilogue"]]))
        if attrs["epilogue"].endswith("aux"):       # it lies as D does
            self._set("MatmulDesc", made, _AUX_LD, ctypes.c_int64(attrs["d"][0]))
            self._set("MatmulDesc", made, _AUX_STRIDE, ctypes.c_int64(attrs["batch"][3]))
        return made

    def _layouts(self, attrs: Mapping[str, Any]) -> tuple[ctypes.c_void_p, ...]:
        m, n, k = attrs["rows"], attrs["columns"], attrs["depth"]
        turns, *steps = attrs["batch"]
        sizes = [(m, k) if attrs["a"][0] == "N" else (k, m),
                 (k, n) if attrs["b"][0] == "N" else (n, k), (m, n)]
        lds = (attrs["a"][1], attrs["b"][1], attrs["d"][0])
        types = (attrs["type"], attrs["type"], attrs["out"])
        a, b, d = (self._layout(*x, turns) for x in zip(types, sizes, lds, steps))
        return a, b, d, d

    def _layout(self, type: str, sizes: tuple[int, int], ld: int, step: int, turns: int
                ) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        rows, columns = sizes
        self._check("MatrixLayoutCreate", ctypes.byref(made), _DATA[type],
                    ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(max(ld, rows)))
        if turns != 1:
            self._set("MatrixLayout", made, _BATCH, ctypes.c_int32(turns))
            self._set("MatrixLayout", made, _STRIDE, ctypes.c_int64(step))
        return made

    def _algorithm(self, attrs: Mapping[str, Any], operation: ctypes.c_void_p,
                   layouts: tuple[ctypes.c_void_p, ...], aligned: int, ordinal: int) -> _Algorithm:
        wish = ctypes.c_void_p()
        self._check("MatmulPreferenceCreate", ctypes.byref(wish))
        self._set("MatmulPreference", wish, _WORKSPACE, ctypes.c_uint64(_MOST_WORKSPACE))
        for attribute in _ALIGNMENTS:
            self._set("MatmulPreference", wish, attribute, ctypes.c_uint32(aligned))
        found, number = _Algorithm(), ctypes.c_int()
        status = self._lib.cublasLtMatmulAlgoGetHeuristic(
            self._handle(ordinal), operation, *layouts, wish, 1, ctypes.byref(found),
            ctypes.byref(number))
        self._lib.cublasLtMatmulPreferenceDestroy(wish)
        if status or not number.value or found.state:
            said = status or found.state
            raise DeviceError(
                f"cuBLASLt has no way for this product: {_describe(attrs)} "
                f"({_STATUS.get(said, f'status {said}') if said else 'none was found'})",
                repair="please report it; another device ('cpu') computes it meanwhile")
        return found

    def _set(self, what: str, made: ctypes.c_void_p, attribute: int, value: Any) -> None:
        self._check(f"{what}SetAttribute", made, attribute, ctypes.byref(value),
                    ctypes.c_size_t(ctypes.sizeof(value)))

    def _check(self, name: str, *arguments: Any) -> None:
        status = getattr(self._lib, f"cublasLt{name}")(*arguments)
        if status:
            raise DeviceError(f"cublasLt{name} failed: {_STATUS.get(status, f'status {status}')}")


def _describe(attrs: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in attrs.items())


def _scale_type(attrs: Mapping[str, Any]) -> str:
    """The type of the factors of the sums and of C."""
    return "f32" if attrs["type"] in ("f16", "bf16") else str(attrs["type"])


def _scale(attrs: Mapping[str, Any], value: float) -> np.ndarray[Any, Any]:
    return np.array(value, DTYPES[_scale_type(attrs)].numpy)


def _places(loops: Sequence[Sequence[int]], widths: Sequence[int], at: Sequence[int]
            ) -> list[tuple[int, ...]]:
    """By how many bytes A, B and D are moved in each turn of the loops."""
    if not loops:
        return [tuple(at)]
    (turns, *steps), *rest = loops
    return [place for i in range(turns) for place in _places(
        rest, widths, [x + i * s * w for x, s, w in zip(at, steps, widths)])]


def find_cublaslt(major: int) -> CublasLt | None:
    """The library for CUDA of this major version, or None where there is none."""
    for place in library_places("cublasLt", "cublas", major):
        try:
            return CublasLt(ctypes.CDLL(place))
        except OSError:
            continue
    return None
