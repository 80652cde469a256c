"""HIPS/autograd's own tests, run on weft: ``python -m tests.conformance.against_autograd``.

autograd's source package is fetched from the Python package index with pip (``--source FOLDER``
uses one that lies there already), its tests run through `autograd_adapter`, and the counts printed.
Nothing of it is part of this repository. Further arguments go to pytest: ``-k sort``, ``-x``.

Derivatives are computed by the reference device, which spares some ten thousand compilations; that
the CPU computes graphs as the reference does is held by `tests/conformance`. ``--device cpu`` runs
them on the CPU.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import autograd_adapter

__all__ = ["EXEMPT"]

VERSION = "1.9.1"
_MACHINERY = "asks for autograd's own machinery (primitive, defvjp, const_graph)"
# Tests that say nothing about derivatives of NumPy code, and why; by the beginning of their name.
EXEMPT = {
    "test_logic.py::test_no_vjp_def": _MACHINERY,
    "test_logic.py::test_no_jvp_def": _MACHINERY,
    "test_logic.py::test_unimplemented_falseyness": _MACHINERY,
    "test_misc.py::test_const_graph": _MACHINERY,
    "test_tests.py": "tests autograd's checker with rules that are wrong on purpose",
    "test_wrappers.py::test_deprecated": _MACHINERY,
    "test_wrappers.py::test_wrapped_name_and_docs": "the names of autograd's wrappers",
    "test_numpy.py::test_scalar_array_box_attributes": "Python floats have a shape in autograd",
    "test_fft.py::test_rfftn_odd_not_implemented": "wants an error; weft has this derivative",
    "test_wrappers.py::test_custom_where": "autograd's own where, which takes keywords",
}


def sources(given: str | None) -> Path:
    """The folder of autograd's source package."""
    if given is not None:
        return Path(given)
    folder = Path(tempfile.mkdtemp(prefix="autograd-"))
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                    "--no-binary", ":all:", "--dest", str(folder), f"autograd=={VERSION}"],
                   check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(p for p in folder.iterdir() if p.is_dir())


class Report:
    """A pytest plugin that marks the exempt tests and counts outcomes."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.scipy: Counter[str] = Counter()     # of SciPy's functions, which weft does not trace
        self.failures: list[tuple[str, str]] = []

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Skip what is exempt."""
        for item in items:
            name = f"{item.path.name}::{item.name}"
            reason = next((r for start, r in EXEMPT.items() if name.startswith(start)), None)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason="exempt: " + reason))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count one test, once."""
        if report.skipped:
            reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
            self.counts["exempt" if "exempt: " in reason else "skipped"] += 1
        elif report.when == "call" or report.failed:
            scipy = "test_scipy.py" in report.nodeid
            (self.scipy if scipy else self.counts)[report.outcome] += 1
            if report.failed and not scipy:
                message = getattr(getattr(report.longrepr, "reprcrash", None), "message", "")
                self.failures.append((report.nodeid.rpartition("/")[2],
                                      " ".join(str(message).split())[:160]))


def _on_device(name: str) -> None:
    """Let transforms that are called on arrays compile for this device."""
    from weft.frontend.transforms import derivatives, wrapper
    jit: Any = functools.partial(wrapper.jit, device=name)
    wrapper.jit = derivatives.jit = jit


def main(argv: list[str]) -> int:
    """Run the tests; 0 if at least 95 of 100 that are not exempt pass."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", help="the folder of autograd's unpacked source package")
    parser.add_argument("--device", default="reference")
    options, rest = parser.parse_known_args(argv)
    folder = sources(options.source)
    if options.device != "cpu":
        _on_device(options.device)
    warnings.simplefilter("ignore")
    autograd_adapter.install(folder / "autograd")
    report = Report()
    tests = str(folder / "tests")
    chosen = rest if any(r.startswith(tests) for r in rest) else [tests, *rest]
    pytest.main(["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "--rootdir", tests,
                 "-c", "/dev/null", "--import-mode=prepend", *chosen], plugins=[report])
    for name, message in report.failures:
        print(f"{name}: {message}")
    ran = report.counts["passed"] + report.counts["failed"]
    share = 100 * report.counts["passed"] / max(ran, 1)
    print(f"\n{report.counts['passed']} of {ran} pass ({share:.1f} %); "
          f"{report.counts['exempt']} exempt, {report.counts['skipped']} skipped by autograd")
    print(f"of autograd.scipy, run on SciPy's own functions, most of which cannot be traced: "
          f"{report.scipy['passed']} of {report.scipy.total()}")
    return int(share < 95)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
