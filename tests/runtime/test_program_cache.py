"""Whole programs kept on disk: found again, described as before, never believed when damaged."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import weft
from weft.compiler.build import Builder
from weft.compiler.errors import Origin
from weft.compiler.types import TensorType, dtype_of
from weft.devices.cpu import identity, kept, loader
from weft.devices.cpu.device import CpuDevice
from weft.runtime.cache import DiskCache, default_cache

ROOT = str(Path(weft.__file__ or "").parents[1])
X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DiskCache]:
    """The cache of the process, in a folder of its own."""
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("WEFT_CACHE", raising=False)
    monkeypatch.delenv("WEFT_DUMP", raising=False)
    default_cache.cache_clear()
    yield default_cache()
    default_cache.cache_clear()


def compiled(fn: Function, *args: Any, **options: Any) -> Any:
    """The stage of a new compilation."""
    return weft.jit(fn, **options).compile(*args)


def entries(cache: DiskCache) -> list[Path]:
    return sorted(cache.directory.rglob("*.o"))


def same(got: Any, want: Any) -> None:
    if isinstance(want, tuple | list):
        assert type(got) is type(want) and len(got) == len(want)
        for g, w in zip(got, want):
            same(g, w)
        return
    assert type(got) is type(want)
    if isinstance(want, np.ndarray | np.generic):
        assert got.dtype == want.dtype and np.shape(got) == np.shape(want)
    np.testing.assert_allclose(np.asarray(got, np.complex128), np.asarray(want, np.complex128),
                               rtol=2e-6, atol=1e-6)


TABLE = np.arange(20.0)
TABLE.flags.writeable = False       # nothing can change it: a constant of the program

PROGRAMS: dict[str, tuple[Function, tuple[Any, ...]]] = {
    "elementwise": (lambda x: np.tanh(x) * 2, (X,)),
    "several results": (lambda x, y: (x + y, [x * y, x @ y.T]), (X, X + 1)),
    "a result twice": (lambda x: (np.exp(x), np.exp(x), x), (X,)),
    "scalars": (lambda x, n, f: (x.sum() * n, f + 1.0, n * 2), (X, 3, 2.5)),
    "specialised": (lambda x, axis: x.sum(axis=axis), (X, 1)),
    "constants": (lambda x: x + np.arange(4, dtype=np.float32)[::-1] + TABLE[5:9], (X,)),
    "matmul": (lambda x: x @ x.T, (np.ones((70, 90), np.float32),)),
    "sorting": (lambda x: (np.sort(x, axis=0), np.argsort(x), np.cumsum(x)), (X,)),
    "complex": (lambda x: np.exp(1j * x), (X,)),
    "empty": (lambda x: x.sum(axis=0), (np.zeros((0, 3)),)),
    "large": (lambda x: np.sqrt(x) + 1, (np.ones((300, 400)),)),
    "indices": (lambda x, i: x[i], (X, np.array([0, 2, -1]))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_found_again(name: str, cache: DiskCache) -> None:
    fn, args = PROGRAMS[name]
    first = compiled(fn, *args)
    assert not first.from_cache and len(entries(cache)) >= 1
    again = compiled(fn, *args)
    assert again.from_cache and again.times.keys() == {"trace", "load"}
    assert again.compiled.facts.order == first.compiled.facts.order
    same(again(*args), fn(*args))
    jitted = weft.jit(fn)
    for _ in range(4):                  # by Python, then by a native entry
        same(jitted(*args), fn(*args))
    assert jitted.history()[0].kernels == first.kernel_count == len(first.before.kernels)
    assert again.entry_spec() == first.entry_spec()


def test_sizes_left_open(cache: DiskCache) -> None:
    def fn(x: Any, w: Any) -> Any:
        return np.tanh(x @ w).sum(axis=1)
    w = np.ones((4, 5), np.float32)
    for found in (False, True):
        jitted = weft.jit(fn, shapes={"x": ("B", 4)})
        assert jitted.compile(X, w).from_cache == found
        for rows in (3, 1, 0, 7):
            x = np.resize(X, (rows, 4))
            for _ in range(3):
                np.testing.assert_allclose(jitted(x, w), fn(x, w), rtol=1e-5)
        assert len(jitted.history()) == 1


def test_what_was_not_made_is_made_when_asked_for(cache: DiskCache) -> None:
    def fn(x: Any) -> Any:
        return np.tanh(x + 1).sum(axis=1)
    first, again = compiled(fn, X), compiled(fn, X)
    assert again.from_cache
    for kind in ("kernels", "llvm", "asm"):
        assert again.text(kind) == first.text(kind)
    assert again.before.before.text() == first.before.before.text()
    jitted = weft.jit(fn)
    jitted(X)
    text = str(weft.explain(jitted, X))
    assert ", load" in text and "(the program from the disk cache; what follows was made" in text
    assert "k0_reduce_sum" in text and "canonicalize" in text and "test_program_cache.py:" in text
    assert "k0_reduce_sum" in weft.explain(jitted, X).html()


# ---- errors

SOURCE = """
def pick(x, i):
    y = x + 1
    return y[i]
"""


def _from_source(tmp_path: Path, blank_lines: int) -> Function:
    file = tmp_path / f"user{blank_lines}.py"
    file.write_text("\n" * blank_lines + SOURCE)
    space: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), space)
    made: Function = space["pick"]
    return made


def test_errors_name_the_line_where_the_code_is_now(tmp_path: Path) -> None:
    for blank, found in ((0, False), (0, True), (17, True)):
        stage = compiled(_from_source(tmp_path, blank), X, np.array([1, 7]))
        assert stage.from_cache == found
        with pytest.raises(IndexError) as caught:
            stage(X, np.array([1, 7]))
        assert str(caught.value) == (
            "index 7 is out of bounds for axis 0 with size 3\n"
            f"  at user{blank}.py:{4 + blank}: return y[i]")


def test_lines_that_part_ways_are_told_apart() -> None:
    """Checks on one line in one function and on two in the next: no error names the wrong one."""
    def one(x: Any, i: Any, j: Any) -> Any:
        return x[i], x[j] * 2

    def two(x: Any, i: Any, j: Any) -> Any:
        first = x[i]
        return first, x[j] * 2
    x, good, bad = np.arange(3.0), np.array([0]), np.array([9])
    for fn, source in ((one, "return x[i], x[j] * 2"), (two, "return first, x[j] * 2")) * 2:
        with pytest.raises(IndexError) as caught:
            compiled(fn, x, good, bad)(x, good, bad)
        assert str(caught.value).endswith(source)


def test_powers() -> None:
    def fn(x: Any, n: Any) -> Any:
        return x ** n
    x, n = np.array([2, 3]), np.array([1, -1])
    for _ in range(2):
        with pytest.raises(ValueError, match="Integers to negative integer powers"):
            compiled(fn, x, n)(x, n)


def test_what_linear_algebra_says() -> None:
    """Library steps have words of their own for what goes wrong, and call NumPy's loops."""
    b = Builder("f")
    a = b.param("a", TensorType((3, 3), dtype_of("f64")))
    b.origin = origin = Origin("user.py", 3)
    graph = b.graph([b.cholesky(a, lower=True)])
    device = CpuDevice()
    made = device.lower(graph, device.target()).compile()
    data = device.program_bytes(made, [origin])
    assert data is not None and made.facts.externals
    for line in (3, 5):
        again = device.read_program(data, [Origin("user.py", line)])
        np.testing.assert_allclose(again.run([np.eye(3) * 4])[0], np.eye(3) * 2)
        with pytest.raises(np.linalg.LinAlgError, match="positive definite") as caught:
            again.run([-np.eye(3)])
        assert f"at user.py:{line}" in str(caught.value)
    with pytest.raises(ValueError, match="cannot be loaded"):
        device.read_program(data.replace(b"cholesky", b"choleskx"), [origin])


# ---- what belongs to the key

def _double(x: Any) -> Any:
    return x + x


@pytest.mark.parametrize("what", ["processor", "sources", "settings", "cache_sizes", "_library"])
def test_another_machine_or_version_finds_nothing(what: str, monkeypatch: pytest.MonkeyPatch
                                                  ) -> None:
    compiled(_double, X)
    assert compiled(_double, X).from_cache
    identity.identity.cache_clear()
    try:
        monkeypatch.setattr(identity, what, lambda: "another")
        assert not compiled(_double, X).from_cache
        assert compiled(_double, X).from_cache
    finally:
        identity.identity.cache_clear()


def test_options_belong_to_the_key() -> None:
    compiled(_double, X)
    assert not compiled(_double, X, fast_math=True).from_cache
    assert not compiled(_double, X.astype(np.float64)).from_cache
    assert not compiled(_double, X[:2]).from_cache
    assert compiled(_double, X).from_cache
    assert compiled(lambda y: y + y, X).from_cache      # names do not count


def test_without_sources_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, cache: DiskCache) -> None:
    identity.identity.cache_clear()
    try:
        monkeypatch.setattr(identity, "sources", lambda: "")
        for _ in range(2):
            assert "load" not in compiled(_double, X).times
    finally:
        identity.identity.cache_clear()


def test_sources_are_those_of_this_package(tmp_path: Path) -> None:
    text = identity.sources()
    assert text.startswith(weft.__version__ + "\n")
    if (Path(ROOT) / "pyproject.toml").is_file():       # a checkout: every file counts
        assert "elementwise.py" in text and "lowered.py" in text


def test_the_processor_is_read_from_its_first_core(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Fast\ncpu MHz\t\t: 1000.5\nflags\t\t: avx2 fma\n"
                    "\nprocessor\t: 1\nmodel name\t: Slow\n")
    assert identity.processor(str(file)) == "model name\t: Fast\nflags\t\t: avx2 fma"
    assert identity.processor(str(tmp_path / "absent")) == ""
    file.write_text("no such thing")
    assert identity.processor(str(file)) == ""


# ---- damage, limits

def _program_entry(cache: DiskCache) -> Path:
    return next(p for p in entries(cache) if b"WEFTPRG1" in p.read_bytes())


@pytest.mark.parametrize("damage", [
    lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b + b"x",
    lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b"X" + b[1:]])
def test_a_damaged_entry_is_made_again(damage: Callable[[bytes], bytes], cache: DiskCache) -> None:
    compiled(_double, X)
    path = _program_entry(cache)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert not compiled(_double, X).from_cache
    assert path.read_bytes() == good
    assert compiled(_double, X).from_cache


@pytest.mark.parametrize("content", [
    b"", b"WEFTPRG1", b"WEFTPRG1\x05\0\0\0[1,2]", b"WEFTPRG1\x02\0\0\0()",
    b"WEFTPRG1\xff\xff\xff\xff", b"WEFTPRG1\x08\0\0\0print(1)", b"WEFTPRG1\x04\0\0\0((((",
    b"\0" * 100])
def test_an_entry_that_is_whole_but_no_program(content: bytes, cache: DiskCache) -> None:
    compiled(_double, X)
    cache.put(_program_entry(cache).stem, content)
    stage = compiled(_double, X)
    assert not stage.from_cache
    same(stage(X), X + X)
    assert compiled(_double, X).from_cache


def test_no_change_of_the_description_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes changed behind the checksum's back are refused, or give facts of the right kinds."""
    def fn(x: Any, i: Any) -> Any:
        return (x + np.arange(4, dtype=np.float32))[i], x
    stage = compiled(fn, X, np.array([1, 2]))
    good = CpuDevice().program_bytes(stage.compiled, [])
    assert good is None                     # an error names a line, and there are none
    origins = [n.origin for n in stage.traced.graph.nodes if n.origin]
    good = CpuDevice().program_bytes(stage.compiled, list(dict.fromkeys(origins)))
    assert good is not None
    rng, read = random.Random(1), 0
    for _ in range(2000):
        raw = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            raw[rng.randrange(400)] = rng.choice(b"0123456789,[]()'-fiu \"\n\0")
        try:
            facts, code = kept._read(bytes(raw), list(dict.fromkeys(origins)))
        except ValueError:
            continue
        read += 1
        assert all(0 <= i < len(facts.results) for i in facts.order)
        assert all(0 <= slot < len(facts.order) for slot, _ in facts.results)
        assert all(isinstance(a, np.ndarray) for a in facts.constants) and code.to_bytes()
    assert read


def test_code_that_cannot_be_loaded_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(_double, X)
    monkeypatch.setattr(kept, "CpuCompiled", lambda *a: (_ for _ in ()).throw(RuntimeError("no")))
    assert not compiled(_double, X).from_cache


def test_large_constants_are_not_kept(cache: DiskCache) -> None:
    big = np.arange(300_000.0)
    big.flags.writeable = False
    for _ in range(2):
        assert "load" not in compiled(lambda x: x + big, big).times


def test_a_cache_that_is_full_or_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("WEFT_CACHE", "0"), ("WEFT_CACHE_SIZE", "100")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            patch.setenv("WEFT_CACHE_DIR", str(tmp_path / name))
            default_cache.cache_clear()
            for _ in range(2):
                stage = compiled(_double, X)
                assert not stage.from_cache
                same(stage(X), X + X)
            assert not list((tmp_path / name).rglob("*.o"))
    default_cache.cache_clear()


def test_other_devices_keep_nothing(cache: DiskCache) -> None:
    for _ in range(2):
        assert not compiled(_double, X, device="reference").from_cache
    assert not any(b"WEFTPRG1" in p.read_bytes() for p in entries(cache))


# ---- other processes

def _run(code: str, **env: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": path, **env})


def _output(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0 and not error, error
    return out.strip()


CALLS = """
    import sys
    import numpy as np, weft
    f = weft.jit(lambda x, y: (np.tanh(x) @ y).max(axis=1))
    x = np.ones((30, 40), np.float32)
    for _ in range(3):
        np.testing.assert_allclose(f(x, x.T), f.__wrapped__(x, x.T), rtol=1e-5)
    print(f.history()[0].seconds.keys() == {"trace", "load"})
"""


def test_several_processes_at_once() -> None:
    assert sorted(_output(p) for p in [_run(CALLS) for _ in range(4)])[-1] in ("True", "False")
    assert [_output(p) for p in [_run(CALLS) for _ in range(2)]] == ["True", "True"]


@pytest.mark.skipif(not loader.loads_images(), reason="LLVM loads code on this system")
def test_a_process_that_finds_everything_needs_no_compiler() -> None:
    """Neither LLVM nor passes, fusion and code generation are loaded; nor what else is not needed.
    """
    assert _output(_run(CALLS)) == "False"
    out = _output(_run(CALLS + """
    heavy = ("weft.compiler.passes", "weft.compiler.rewrite", "weft.compiler.kernel",
             "weft.devices.cpu.lowered", "weft.devices.cpu.codegen", "weft.devices.cpu.emit",
             "weft.devices.cpu.elf", "weft.devices.cpu.jitlink", "ml_dtypes", "llvmlite")
    print(*[name for name in heavy if name in sys.modules])
    print("libllvmlite" in open("/proc/self/maps").read())
    """))
    assert out.splitlines() == ["True", "", "False"]
