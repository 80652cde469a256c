"""Every op, on every device that is here, against its reference meaning."""

from __future__ import annotations

import pytest

from tests.conformance.devices import EVERYWHERE, Subject
from weft.compiler.ops import Op
from weft.devices.conformance import Outcome, run_jobs
from weft.devices.conformance.checks import ALL, op_jobs

everywhere = pytest.mark.parametrize("device", EVERYWHERE, ids=str)


def assert_passed(outcomes: list[Outcome]) -> None:
    """Fail with what failed; skip, with the reasons, where nothing was checked."""
    failed = [f"{o.name}: {o.text}" for o in outcomes if o.status == "failed"]
    assert not failed, "\n".join(failed)
    if outcomes and all(o.status == "skipped" for o in outcomes):
        pytest.skip("; ".join(dict.fromkeys(o.text for o in outcomes)))


@everywhere
@pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)
def test_op(op: Op, device: Subject) -> None:
    """One graph holds all cases of an op, so that they are compiled together."""
    jobs = op_jobs(op, device.device.ulps(), device.device.subnormals)
    assert_passed(list(run_jobs(device, list(jobs))))
