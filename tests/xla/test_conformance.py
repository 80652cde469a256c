"""The conformance suite on XLA, on whatever JAX has here; derivatives at length if asked for.

    python -m pytest tests/xla/test_conformance.py -m slow      all rules: several minutes
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from weft.compiler.ops import Op
from weft.devices.conformance import Outcome, Subject, run_jobs
from weft.devices.conformance.checks import ALL, conformance, op_jobs, rule_jobs
from weft.frontend.conformance import call_outcomes, random_jobs

pytest.importorskip("jax", reason="JAX is not installed: pip install 'weft[tpu]'")
FEW = 3         # checks of one op's rules: XLA compiles a program for each op
every_op = pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)


def hold(outcomes: Iterable[Outcome]) -> None:
    """Fail with what failed."""
    failed = [f"{o.name}: {o.text}" for o in outcomes if o.status == "failed"]
    assert not failed, "\n".join(failed)


@every_op
def test_op(op: Op) -> None:
    """In every element type, on special values and samples."""
    xla = Subject.of("xla")
    hold(run_jobs(xla, list(op_jobs(op, xla.device.ulps(), xla.device.subnormals))))


@every_op
def test_rules(op: Op) -> None:
    """A few derivatives and batches of each op."""
    xla = Subject.of("xla")
    jobs = list(rule_jobs(op, xla.device.dtypes()))
    hold(run_jobs(xla, jobs[::-(-len(jobs) // FEW) or 1]))


@pytest.mark.slow
@every_op
def test_all_rules(op: Op) -> None:
    """All of them."""
    xla = Subject.of("xla")
    hold(run_jobs(xla, list(rule_jobs(op, xla.device.dtypes()))))


def test_everything_else() -> None:
    """The contract, control flow, sizes left open, errors, random numbers."""
    groups = ["contract", "control", "sizes", "errors", "random"]
    hold(conformance(Subject.of("xla"), groups, more=random_jobs()))


def test_calls() -> None:
    """Functions compiled for it, called."""
    hold(call_outcomes(Subject.of("xla")))
