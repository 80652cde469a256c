"""``python -m tests.gpu.on_device``: what the emulator's tests hold, on the GPU that is here.

Products of every layout, epilogue and precision, attention, and CUDA graphs: each result beside
NumPy's or the CPU's, a line for each that is wrong. `tests/gpu/on_device.sh` runs it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator

import numpy as np

import weft
from tests.gpu import test_attention, test_products
from weft.devices.registry import device_problem, get_device

Check = Callable[[], None]


def _same(f: Callable[..., np.ndarray], args: tuple[np.ndarray, ...], atol: float,
          **options: object) -> None:
    memory = get_device("gpu").memory
    with np.errstate(all="ignore"):
        want = np.asarray(weft.jit(f)(*args))
    made = weft.jit(f, device="gpu", **options)
    there = [memory.put(np.ascontiguousarray(a)) for a in args]
    scale = float(np.max(np.abs(want), initial=1.0, where=np.isfinite(want)))
    for turn in range(5):               # the second call is recorded, the later ones replay it
        got = memory.get(made(*there))
        np.testing.assert_allclose(got, want, rtol=0, atol=atol * scale, err_msg=f"call {turn}")


def checks() -> Iterator[tuple[str, Check]]:
    """All of them, by name."""
    for name, (f, args) in test_products.LAYOUTS.items():
        yield f"product, {name}", lambda f=f, args=args: _same(f, args, 1e-5)
    rand = test_products.rand
    arrays = rand(96, 128), rand(128, 112), rand(112)
    for name, (f, _, _) in test_products.EPILOGUES.items():
        for precision, atol in (("highest", 1e-5), ("tf32", 2e-2), ("bf16", 5e-2), ("fp16", 2e-2)):
            yield f"epilogue, {name}, {precision}", lambda f=f, p=precision, atol=atol: _same(
                f, arrays, atol, precision=p)
    for name, (f, args) in test_attention.CASES.items():
        yield f"attention, {name}", lambda f=f, args=args: _same(f, args, 2e-5)
    q, k, v = (test_attention.rand(n, 16, seed=i) for i, n in enumerate((40, 70, 70)))
    for name, (f, make) in test_attention.SPECIAL.items():
        yield f"attention, {name}", lambda f=f, make=make: _same(f, make(q, k, v), 5e-5)


def main() -> int:
    """How many are wrong, at most 1."""
    problem = device_problem("gpu")
    if problem is not None:
        print(f"no GPU: {problem.splitlines()[0]}")
        return 1
    wrong = 0
    for name, check in checks():
        try:
            check()
        except Exception:       # of any kind: the others are run all the same
            wrong += 1
            print(f"WRONG {name}\n{traceback.format_exc(limit=-2)}")
    print(f"{get_device('gpu').describe()}: {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
