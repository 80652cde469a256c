"""NVRTC, called directly: CUDA C++ to machine code, without a GPU or a toolkit.

The library is that of the wheel `nvidia-cuda-nvrtc` (or `nvidia-cuda-nvrtc-cu12`), of the toolkit
that `CUDA_PATH` names or that lies at /usr/local/cuda, or the one the loader finds.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from weft.compiler.lazy_dataclass import dataclass
from weft.devices.gpu.libraries import library_places
from weft.devices.protocol import DeviceError

__all__ = ["Built", "architectures", "build", "image_for", "nvrtc_problem", "nvrtc_version"]

# No contraction of products and sums, and no approximations: answers are NumPy's.
_EXACT = ("--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true",
          "--device-as-default-execution-space")
_FAST = ("--std=c++17", "--use_fast_math", "--device-as-default-execution-space")
_REPAIR = "pip install nvidia-cuda-nvrtc (for CUDA 12: nvidia-cuda-nvrtc-cu12)"


@dataclass(frozen=True)
class Built:
    """What NVRTC makes of a text: machine code, and the PTX that it was made from."""

    cubin: bytes
    ptx: str


def build(source: str, arch: str, fast_math: bool = False) -> Built:
    """The text compiled for an architecture such as ``"sm_90"``.

    Raises `DeviceError` where there is no NVRTC, or the text is refused.
    """
    lib = _library()
    program = ctypes.c_void_p()
    _check(lib, lib.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"weft.cu", 0,
                                       None, None))
    try:
        options = [f"--gpu-architecture={arch}", *(_FAST if fast_math else _EXACT)]
        array = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        if lib.nvrtcCompileProgram(program, len(options), array):
            raise DeviceError(f"NVRTC refused the generated code for {arch}:\n{_log(lib, program)}",
                              repair="this is a mistake in weft: please report it with the code")
        return Built(_bytes(lib, program, "CUBIN"),
                     _bytes(lib, program, "PTX").rstrip(b"\0").decode())
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(program))


def image_for(source: str, arch: str, fast_math: bool = False) -> bytes:
    """What a device of this architecture can load: machine code, or, where it is of a family that
    is newer than NVRTC, PTX, which its driver compiles.

    Raises `DeviceError` for one that is older than all that NVRTC knows.
    """
    number = int(arch[3:])
    near = max((a for a in architectures() if a <= number), default=0)
    if not near:
        raise DeviceError(f"NVRTC {'.'.join(map(str, nvrtc_version()))} makes no code for {arch}",
                          expected=f"sm_{architectures()[0]} or a later one",
                          repair="install an older one: pip install nvidia-cuda-nvrtc-cu12")
    built = build(source, f"sm_{near}", fast_math)
    return built.cubin if near // 10 == number // 10 else built.ptx.encode() + b"\0"


@cache
def architectures() -> tuple[int, ...]:
    """The architectures that the library makes code for, in ascending order: 75, 80, 86, …"""
    lib, count = _library(), ctypes.c_int()
    _check(lib, lib.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    found = (ctypes.c_int * count.value)()
    _check(lib, lib.nvrtcGetSupportedArchs(found))
    return tuple(sorted(found))


def nvrtc_version() -> tuple[int, int]:
    """The version of the library: (13, 0)."""
    lib, major, minor = _library(), ctypes.c_int(), ctypes.c_int()
    _check(lib, lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def nvrtc_problem() -> str | None:
    """Why NVRTC cannot be used here, or None if it can."""
    try:
        _library()
    except DeviceError as error:
        return error.what
    return None


def _log(lib: ctypes.CDLL, program: ctypes.c_void_p) -> str:
    return _bytes(lib, program, "ProgramLog").rstrip(b"\0").decode(errors="replace")


def _bytes(lib: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(lib, getattr(lib, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    data = ctypes.create_string_buffer(size.value)
    _check(lib, getattr(lib, f"nvrtcGet{what}")(program, data))
    return data.raw


def _check(lib: ctypes.CDLL, status: int) -> None:
    if status:
        lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise DeviceError(f"NVRTC failed: {lib.nvrtcGetErrorString(status).decode()}")


# ---- where it is

@cache
def _library() -> ctypes.CDLL:
    tried = []
    for place in library_places("nvrtc", "cuda_nvrtc"):
        try:
            if Path(place).is_absolute():       # it opens its other half by the bare name
                for half in Path(place).parent.glob("libnvrtc-builtins.so.*"):
                    ctypes.CDLL(str(half))
            return ctypes.CDLL(place)
        except OSError as error:
            tried.append(str(error))
    raise DeviceError("there is no NVRTC, which compiles kernels for GPUs", repair=_REPAIR)
