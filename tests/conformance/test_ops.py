"""Every op, on every device that is here, against its reference meaning."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conformance.cases import ALL, cases, results_of, types_of
from tests.conformance.compare import assert_close, expected
from tests.conformance.devices import DEVICES, Device
from weft.compiler.build import Builder
from weft.compiler.ops import Op


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)
def test_op(op: Op, device: Device) -> None:
    """One graph holds all cases of an op, so that they are compiled together."""
    b = Builder(op.name)
    arrays, results, wanted, labels = [], [], [], []
    for label, (operands, attrs) in cases(op):
        nodes = []
        for a, t in zip(operands, types_of(operands)):
            nodes.append(b.param(f"x{len(arrays)}", t))
            arrays.append(np.ascontiguousarray(a).reshape(t.shape))
        node = b.add(op.name, *nodes, **attrs)
        want = expected(op, operands, attrs)
        made, due = results_of(b, node), want if isinstance(want, tuple) else (want,)
        assert len(made) == len(due)
        results += made
        wanted += due
        labels += [(label, operands)] * len(due)
    for (label, operands), out, want in zip(labels, device.run(b.graph(results), arrays),
                                            wanted):
        assert_close(op, f"{op.name} {label}", out, want, operands)
