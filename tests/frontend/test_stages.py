"""Stages, explanations, dumps."""

import re
import subprocess
import sys

import numpy as np
import pytest

import weft
from weft.compiler.text import parse
from weft.devices.reference import evaluate
from weft.frontend import jit, replay

X = np.linspace(-2, 3, 12, dtype=np.float32).reshape(3, 4)
B = np.ones(4, np.float32)


@weft.jit
def gelu(x, b):
    h = x + b
    return 0.5 * h * (1 + np.tanh(0.7978845608 * (h + 0.044715 * h**3)))


@weft.jit(device="reference")
def scaled(x, n):
    return x.sum(axis=n) * 2


def test_stages_in_order():
    traced = gelu.trace(X, B)
    assert traced.graph.name == "gelu"
    assert "# test_stages.py:" in traced.text()
    assert parse(traced.text()) == traced.graph
    optimized = traced.optimize()
    assert len(optimized.history) >= 4
    assert all(step.seconds >= 0 for step in optimized.history)
    assert "--- before canonicalize" in optimized.history.diff()
    np.testing.assert_allclose(evaluate(optimized.graph, [X, B])[0],
                               gelu.__wrapped__(X, B), rtol=1e-5)
    lowered = optimized.lower()
    assert lowered.text("kernels").startswith("kernel ")
    assert "define" in lowered.text("llvm")
    assert lowered.text() == lowered.text("kernels")
    assert len(lowered.text("asm").splitlines()) > 10
    compiled = lowered.compile()
    np.testing.assert_allclose(compiled(X, B), gelu.__wrapped__(X, B), rtol=1e-5)
    np.testing.assert_allclose(compiled(b=B, x=X), gelu.__wrapped__(X, B), rtol=1e-5)
    assert not gelu.records               # looking is not calling


def test_shortcuts_and_strings():
    np.testing.assert_allclose(gelu.compile(X, B)(X, B), gelu.trace(X, B).compile()(X, B))
    assert gelu.lower(X, B).kernels == gelu.trace(X, B).lower().kernels
    for stage in (gelu.trace(X, B), gelu.trace(X, B).optimize(), gelu.lower(X, B),
                  gelu.compile(X, B)):
        assert str(stage) == stage.text()
        assert stage._repr_html_().startswith('<div class="weft"><style>')


def test_a_stage_for_another_device():
    lowered = gelu.trace(X, B).optimize().lower("reference")
    assert lowered.device.name == "reference"
    np.testing.assert_allclose(lowered.compile()(X, B), gelu.__wrapped__(X, B), rtol=1e-5)
    assert lowered.text() == lowered.before.text()
    with pytest.raises(weft.errors.DeviceError) as caught:
        lowered.text("llvm")
    assert str(caught.value) == ("device 'reference' has no llvm text\n"
                                 "  repair:   it runs the graph itself: look at the optimised "
                                 "graph's text")


def test_a_kind_of_text_that_is_not_there():
    with pytest.raises(weft.errors.DeviceError) as caught:
        gelu.lower(X, B).text("ptx")
    assert str(caught.value) == ("device 'cpu' has no 'ptx' text\n"
                                 "  expected: 'kernels' or 'llvm' or 'asm'")


def test_a_compiled_stage_is_for_one_signature():
    compiled = gelu.compile(X, B)
    with pytest.raises(TypeError) as caught:
        compiled(X[:2], B)
    assert str(caught.value) == ("compiled for gelu(x: f32[3, 4], b: f32[4]), called as "
                                 "gelu(x: f32[2, 4], b: f32[4])")


def test_a_compiled_stage_is_for_one_value():
    compiled = scaled.compile(X, 1)
    np.testing.assert_allclose(compiled(X, 1), X.sum(axis=1) * 2, rtol=1e-6)
    with pytest.raises(TypeError, match="compiled for n = 1, called with n = 0"):
        compiled(X, 0)


def test_html_escapes_and_colours():
    html = weft.jit(lambda x, mode: x * 2.0, device="reference").trace(X, "<b>").html()
    assert "<b>" not in html and "&lt;b&gt;" in html
    assert '<span class="t">f32[3, 4]</span>' in html and '<span class="v">%x</span>' in html


# ---- explain

def test_explain_shows_everything(monkeypatch):
    monkeypatch.setattr(jit, "disk_cache", lambda: None)
    f = weft.jit(gelu.__wrapped__)
    f(X, B), f(X, B), f(X[:2], B)
    explanation = weft.explain(f, X, B)
    text = str(explanation)
    assert text == explanation.text() == repr(explanation)
    for pattern in (
            r"^gelu\(x: f32\[3, 4\], b: f32\[4\]\) on cpu$",
            r"^  compiled in [\d.]+ ms: trace [\d.]+, optimize [\d.]+, lower [\d.]+, compile",
            r"^  1 later call through Python, native entry, 0 fallbacks$",
            r"^passes: \d+ in [\d.]+ ms$", r"^  canonicalize +[\d.]+ ms  \d+ → \d+ nodes$",
            r"^kernels: 1 for \d+ ops, \d+ FLOP, 112 B moved$", r"^   1  \w+: \d+ FLOP, 112 B$",
            r"^      ops      .*tanh", r"^      lines    test_stages.py:\d+  h = x \+ b$",
            r"^               test_stages.py:\d+  return 0.5 \* h",
            r"^   1 +[\d.]+ ms  gelu\(x: f32\[3, 4\], b: f32\[4\]\)$", r"^ +first call$",
            r"^ +because argument x: shape \(3, 4\) → \(2, 4\)$"):
        assert re.search(pattern, text, re.MULTILINE), pattern
    assert "changes of the passes" in explanation.html()


def test_explain_compiles_but_does_not_run():
    f = weft.jit(gelu.__wrapped__)
    assert weft.explain(f, X, B).hits == 0
    assert len(f.records) == 1
    assert str(weft.explain(f)).startswith("compilations\n   1 ")
    f(X, B)
    assert len(f.records) == 1


def test_explain_names_specialised_values():
    text = str(weft.explain(scaled, X, 1))
    assert "  for n = 1 only: the code needs its value\n" in text
    scaled(X, 0)
    assert "because argument n: value 1 → 0 (the code needs its value)" in str(
        weft.explain(scaled))


def test_explain_of_plain_functions_methods_and_others():
    assert "gelu(x: f32[3, 4], b: f32[4]) on cpu" in str(weft.explain(gelu.__wrapped__, X, B))

    class Model:
        w = 2.0

        @weft.jit(device="reference")
        def run(self, x):
            return x * self.w
    assert "x: f32[3, 4]) on reference" in str(weft.explain(Model().run, X))
    with pytest.raises(weft.errors.UnsupportedError) as caught:
        weft.explain(3)
    assert str(caught.value) == ("weft.explain got a int\n"
                                 "  expected: a function, then its arguments")


def test_explain_of_symbolic_sizes():
    f = weft.jit(lambda x: np.tanh(x), device="reference", shapes={"x": ("B", 4)})
    assert "kernels: 1 for 1 ops, 72*B FLOP, 32*B B moved" in str(weft.explain(f, X))


# ---- dump

def test_dump(tmp_path, monkeypatch):
    monkeypatch.setenv("WEFT_DUMP", str(tmp_path / "new" / "dump"))
    f = weft.jit(gelu.__wrapped__)
    f(X, B), f(X, B), f(X[:2], B)
    folders = sorted((tmp_path / "new" / "dump").iterdir())
    assert [p.name.split("-", 2)[2] for p in folders] == ["gelu", "gelu"]
    names = {p.name for p in folders[0].iterdir()}
    assert names >= {"signature.txt", "trace.txt", "optimized.txt", "history.txt", "kernels.txt",
                     "llvm.ll", "asm.s", "repro.py"}
    assert any(re.fullmatch(r"pass\d\d-canonicalize\.diff", n) for n in names)
    assert parse((folders[0] / "trace.txt").read_text()) == gelu.trace(X, B).graph
    for device, status in (("cpu", 0), ("reference", 0)):
        run = subprocess.run([sys.executable, folders[0] / "repro.py", device],
                             capture_output=True, text=True, env=_environment())
        assert (run.returncode, run.stderr) == (status, "")
        assert run.stdout.splitlines()[-1] == f"@gelu on {device}: agrees with the reference"


def test_dump_of_a_compilation_that_fails(tmp_path, monkeypatch):
    from weft.devices.registry import get_device
    monkeypatch.setenv("WEFT_DUMP", str(tmp_path))

    def broken(self, graph, target, donated):
        raise RuntimeError("cannot")
    monkeypatch.setattr(type(get_device("reference")), "lower", broken)
    with pytest.raises(RuntimeError, match="cannot"):
        weft.jit(gelu.__wrapped__, device="reference")(X, B)
    folder, = tmp_path.iterdir()
    assert {"trace.txt", "optimized.txt", "repro.py"} <= {p.name for p in folder.iterdir()}


def test_replay_tells_wrong_answers(monkeypatch, capsys):
    text = gelu.trace(X, B).text()
    assert replay.replay(text, "reference") == 0
    monkeypatch.setattr(replay, "evaluate", lambda graph, arrays: [
        a + 1 for a in evaluate(graph, arrays)])
    assert replay.replay(text, "cpu") == 1
    out = capsys.readouterr().out
    assert "(more than 0.0001)" in out and "@gelu on cpu: differs from the reference" in out


@pytest.mark.parametrize("got, want, error", [
    ([1.0, np.nan], [1.0, np.nan], 0.0), ([np.inf], [np.inf], 0.0), ([np.inf], [1.0], np.inf),
    ([np.nan], [1.0], np.inf), ([1.5], [1.0], 0.5), ([15.0], [10.0], 0.5), ([[1.0]], [1.0], np.inf),
    ([], [], 0.0)])
def test_difference(got, want, error):
    found = replay.difference(np.array(got), np.array(want))
    assert found == error or (found > 1e300 and error == np.inf)


def _environment():
    import os
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
