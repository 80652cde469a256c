"""The command line."""

import io

import pytest

from weft.devices.registry import device_names
from weft.frontend import cli
from weft.frontend.cli import main
from weft.frontend.cli_target import parse_arguments

KNOWN = ", ".join(map(repr, device_names()))
SOURCE = """
import numpy as np
import weft

def gelu(x, b):
    h = x + b
    return 0.5 * h * (1 + np.tanh(0.7978845608 * (h + 0.044715 * h**3)))

@weft.jit(device="reference")
def jitted(x, n):
    return x * n

def total(x):
    return x.sum(axis=1)

class Model:
    @staticmethod
    def run(x):
        return x + 1

number = 3
"""
GRAPH = """graph @f(%x: f32[3]) -> (f32[3]) {
  %mul.0 = mul %x, 1.0:f32 : f32[3]
  %add.1 = add %mul.0, %x : f32[3]
  return %add.1
}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model_for_cli.py"
    path.write_text(SOURCE)
    return str(path)


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "graph.txt"
    path.write_text(GRAPH)
    return str(path)


@pytest.fixture
def run(capsys):
    """Runs a command; gives status, output and errors."""
    def run(*argv):
        status = main(argv)
        captured = capsys.readouterr()
        return status, captured.out, captured.err
    return run


# ---- show

def test_show_a_function(run, file):
    status, out, err = run("show", f"{file}:gelu", "--args", "f32[3, 4], f32[4]")
    assert (status, err) == (0, "")
    assert out.startswith("graph @gelu(%x: f32[3, 4], %b: f32[4]) -> (f32[3, 4]) {\n")
    assert "tanh" in out and "# model_for_cli.py:7" in out


@pytest.mark.parametrize("stage, start", [
    ("trace", "graph @gelu("), ("optimized", "graph @gelu("), ("history", "pass "),
    ("diff", "--- before"), ("kernels", "kernel "), ("llvm", ""), ("asm", "")])
def test_show_each_stage(run, file, stage, start):
    status, out, err = run("show", f"{file}:gelu", "--args", "f32[3,4],f32[4]", "--stage", stage)
    assert (status, err) == (0, "")
    assert out.startswith(start) and len(out.splitlines()) > 5


def test_show_symbolic_sizes_scalars_and_methods(run, file):
    status, out, _ = run("show", f"{file}:gelu", "--args", "f32[B, 4], f32[4]", "--stage", "trace")
    assert status == 0 and "%x: f32[B, 4]" in out
    _, out, _ = run("show", f"{file}:jitted", "--args", "f32[3], 2", "--stage", "trace")
    assert out.startswith("graph @jitted(%x: f32[3], %n: i64[]) -> (f32[3]) {")
    _, out, _ = run("show", f"{file}:jitted", "--args", "f32[3], f64", "--stage", "trace")
    assert "%n: f64[]" in out
    _, out, _ = run("show", f"{file}:Model.run", "--args", "i8[2]", "--stage", "trace")
    assert out.startswith("graph @run(%x: i8[2])")


def test_show_a_graph(run, graph):
    assert run("show", graph, "--stage", "trace") == (0, GRAPH, "")
    status, out, _ = run("show", graph, "--device", "reference")
    assert status == 0 and "mul" not in out


@pytest.mark.parametrize("argv, message", [
    (("show", "missing.py:f"), "weft: there is no file missing.py\n"),
    (("show", "missing.txt"), "weft: [Errno 2] No such file or directory: 'missing.txt'\n"),
    (("show", "{file}:gelo"),
     "weft: {file} has no function 'gelo'\n  repair:   did you mean gelu?\n"),
    (("show", "{file}:number"), "weft: number of {file} is a int\n  expected: a function\n"),
    (("show", "{file}:gelu", "--args", "f32[3]"),
     "weft: gelu() missing a required argument: 'b'\n"),
    (("show", "{file}:gelu", "--args", "f33[3], f32"),
     "weft: 'f33[3]' is neither a type nor a value\n"
     "  expected: types such as f32[3, 4] or i64, or Python values\n"
     "  repair:   the element types are bool, i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, "
     "f32, f64, c64, c128\n"),
    (("show", "{file}:gelu", "--args", "f32[3-1], f32"),
     "weft: '3-1' is not a size\n  expected: a number, or a name for an open size\n"),
    (("explain", "graph.txt"), "weft: 'graph.txt' is not FILE.py:function\n"),
    (("show", "{file}:gelu", "--args", "f32, f32", "--device", "nowhere"),
     "weft: there is no device named 'nowhere'\n  expected: one of " + KNOWN + "\n"),
    (("ops", "tanhh"), "weft: there is no op named 'tanhh'\n  repair:   did you mean tanh, atanh, "
     "tan?\n"),
    (("opt", "{graph}", "--passes", "nothing"),
     "weft: there is no pass named 'nothing'\n  expected: one of inline-calls, eliminate-dead, "
     "fold-constants, eliminate-common, simplify-control, canonicalize, decompose, move-shapes\n"),
])
def test_errors(run, file, graph, argv, message):
    status, out, err = run(*(a.format(file=file, graph=graph) for a in argv))
    assert (status, out) == (1, "")
    assert err == message.format(file=file)


def test_errors_in_the_users_code_name_the_line(run, file):
    status, _, err = run("show", f"{file}:gelu", "--args", "f32[3, 4], f32[5]")
    assert status == 1
    assert err.splitlines()[1] == "  at model_for_cli.py:6: h = x + b"


def test_malformed_graph(run, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_text("graph @f(%x: f32[3]) -> (f32[3]) { return %y }")
    status, _, err = run("opt", str(bad))
    assert status == 1 and err.startswith("weft: ") and "^" in err
    bad.write_bytes(b"\xff\xfe\x00")
    status, _, err = run("opt", str(bad))
    assert (status, err) == (1, f"weft: {bad} is not text\n"
                             "  expected: a graph as weft prints it\n")


@pytest.mark.parametrize("argv", [(), ("nothing",), ("show",), ("cache", "fill"),
                                  ("show", "x", "--stage", "y")])
def test_wrong_usage(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: weft")


# ---- the others

def test_explain(run, file):
    status, out, _ = run("explain", f"{file}:gelu", "--args", "f32[3, 4], f32[4]")
    assert status == 0
    assert out.startswith("gelu(x: f32[3, 4], b: f32[4]) on cpu\n  compiled in ")


def test_devices(run):
    status, out, _ = run("devices")
    assert status == 0
    assert any(line.startswith("cpu (default): ") for line in out.splitlines())
    assert any(line.startswith("reference: ") for line in out.splitlines())


def test_ops(run):
    status, out, _ = run("ops")
    assert status == 0 and "reduction: axes removed by combining their elements\n  " in out
    assert run("ops", "convert") == (0, "convert (elementwise): the value in another element type, "
                                     "as astype does\n  operands: 1   cost: 1 per element\n"
                                     "  attributes: dtype\n", "")


def test_cache(run, tmp_path, monkeypatch):
    from weft.runtime import cache
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cli, "default_cache", cache.DiskCache)
    cache.DiskCache().put("abcd0000", b"x" * 100)
    status, out, _ = run("cache")
    assert status == 0 and out.startswith(f"{tmp_path}: 1 entries, 0.0 MiB of at most ")
    assert run("cache", "clear")[1].startswith(f"{tmp_path}: 0 entries")


def test_opt(run, graph, monkeypatch):
    status, out, _ = run("opt", graph)
    assert status == 0 and out == GRAPH.replace(
        "  %mul.0 = mul %x, 1.0:f32 : f32[3]\n", "").replace("%mul.0", "%x")
    assert run("opt", graph, "--passes", "eliminate-dead")[1] == GRAPH
    status, out, _ = run("opt", graph, "--passes", "canonicalize", "--diff")
    assert "-  %mul.0 = mul %x, 1.0:f32 : f32[3]" in out
    assert run("opt", graph, "--history", "--device", "cpu")[1].startswith("pass ")
    monkeypatch.setattr("sys.stdin", io.StringIO(GRAPH))
    assert run("opt", "--passes", "eliminate-dead, eliminate-common")[1] == GRAPH


def test_parse_arguments():
    values, shapes = parse_arguments("f32[2,3], i8[], bf16, (1, 'a,b'), True, None, f64[n]")
    assert [getattr(v, "shape", None) for v in values[:3]] == [(2, 3), (), ()]
    assert values[3:6] == [(1, "a,b"), True, None]
    assert shapes == {6: ("n",)}
    assert parse_arguments("  ") == ([], {})
