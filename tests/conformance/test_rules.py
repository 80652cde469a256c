"""Derivatives and batches of every op, random numbers, calls, and what devices promise."""

from __future__ import annotations

import pytest

from tests.conformance.devices import DEVICES, EVERYWHERE, Subject
from tests.conformance.test_ops import assert_passed
from weft.compiler.ops import Op
from weft.devices.conformance import Job, conformance, run_jobs
from weft.devices.conformance.checks import ALL, rule_jobs
from weft.frontend.conformance import call_outcomes, random_jobs

# Of the CPU's instruction sets, the best; the reference is what the others are held to.
ONCE = [d for d in EVERYWHERE if d not in DEVICES[1:] and d.name != "reference"]


SOME = 16       # checks of one op: linear algebra has hundreds, which take long to compile


def rules_of(op: Op, device: Subject) -> list[Job]:
    return list(rule_jobs(op, device.device.dtypes()))


@pytest.mark.parametrize("device", ONCE, ids=str)
@pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)
def test_rules(op: Op, device: Subject) -> None:
    """Forwards, backwards and batched, on the device as on the reference, at some points."""
    jobs = rules_of(op, device)
    assert_passed(list(run_jobs(device, jobs[::-(-len(jobs) // SOME) or 1])))


@pytest.mark.slow
@pytest.mark.parametrize("device", ONCE, ids=str)
@pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)
def test_all_rules(op: Op, device: Subject) -> None:
    """The same, at all points."""
    assert_passed(list(run_jobs(device, rules_of(op, device))))


@pytest.mark.parametrize("device", EVERYWHERE, ids=str)
def test_everything_else(device: Subject) -> None:
    """The contract, sizes left open, errors, random numbers."""
    assert_passed(list(conformance(device, ["contract", "sizes", "errors", "random"],
                                   more=random_jobs())))


@pytest.mark.parametrize("device", [d for d in EVERYWHERE if d not in DEVICES[1:]], ids=str)
def test_calls(device: Subject) -> None:
    """Functions compiled for it, called."""
    assert_passed(list(call_outcomes(device)))
