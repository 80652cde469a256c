"""NVRTC, called directly."""

from __future__ import annotations

import pytest

from tests.gpu.harness import lowered
from weft.compiler.text import parse
from weft.devices.gpu.nvrtc import architectures, build, image_for, nvrtc_problem, nvrtc_version
from weft.devices.protocol import DeviceError

pytestmark = pytest.mark.skipif(nvrtc_problem() is not None, reason=str(nvrtc_problem()))
KERNEL = 'extern "C" __global__ void k(float* x) { x[threadIdx.x] *= 2.0f; }'


def test_images() -> None:
    """Machine code for what NVRTC knows, PTX for what is newer."""
    newest = architectures()[-1]
    assert {80, 90} <= set(architectures()) and nvrtc_version() >= (12, 0)
    assert image_for(KERNEL, "sm_80")[:4] == image_for(KERNEL, f"sm_{newest}")[:4] == b"\x7fELF"
    ptx = image_for(KERNEL, f"sm_{newest + 100}")
    assert f".target sm_{newest}".encode() in ptx and ptx.endswith(b"\0")
    with pytest.raises(DeviceError, match=r"NVRTC \d+\.\d+ makes no code for sm_20"):
        image_for(KERNEL, "sm_20")


def test_refused() -> None:
    with pytest.raises(DeviceError) as caught:
        build("nonsense", "sm_80")
    assert str(caught.value).startswith("NVRTC refused the generated code for sm_80:\nweft.cu(1)")


def test_products_and_sums_stay_apart() -> None:
    """No contraction, no approximation; 16 bytes at a time."""
    graph = parse("graph @f(%x: f32[65536], %y: f32[65536]) -> (f32[65536]) {\n"
                  "  %m = mul %x, %y : f32[65536]\n  %a = add %m, %x : f32[65536]\n"
                  "  %d = div %a, %y : f32[65536]\n  %s = sqrt %d : f32[65536]\n"
                  "  return %s\n}\n")
    ptx = lowered(graph).text("ptx")
    assert "fma." not in ptx and "approx" not in ptx
    assert "div.rn.f32" in ptx and "sqrt.rn.f32" in ptx
    assert "ld.global.nc.v4.f32" in ptx and "st.global.v4.f32" in ptx
