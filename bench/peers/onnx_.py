"""ONNX Runtime: the matrix products and the perceptron, as a small ONNX model each.

A product is fed both its sides, as with every peer. The perceptron's weights are constants of the
model: that is how ONNX Runtime serves one, and it lets it pack them once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bench.peers.base import Peer
from bench.workloads import Workload

# kernel: (op, inputs, output) of each node. The workload's inputs are a0, a1, …; y is fetched.
GRAPHS: dict[str, tuple[tuple[str, list[str], str], ...]] = {
    "matmul": (("MatMul", ["a0", "a1"], "y"),),
    "matmul_gelu": (
        ("MatMul", ["a0", "a1"], "h"), ("Add", ["h", "a2"], "hb"), ("Gelu", ["hb"], "y"),
    ),
    "mlp": (
        ("Gemm", ["a0", "a1", "a2"], "h1"), ("Relu", ["h1"], "r1"),
        ("Gemm", ["r1", "a3", "a4"], "h2"), ("Relu", ["h2"], "r2"),
        ("Gemm", ["r2", "a5", "a6"], "y"),
    ),
}  # fmt: skip
ATTRIBUTES = {"Gelu": {"approximate": "tanh"}}
FED = {"mlp": 1}  # how many inputs are fed, where it is not all of them


class OnnxRuntime(Peer):
    """An inference session on the CPU, NumPy in and out."""

    distributions = ("onnxruntime", "onnx", "numpy")

    def build(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        nodes = GRAPHS.get(workload.kernel)
        if nodes is None:
            return None
        fed = FED.get(workload.kernel, len(inputs))
        model = _model(nodes, inputs, fed).SerializeToString()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        names = [f"a{i}" for i in range(fed)]
        return lambda *args: session.run(None, dict(zip(names, args)))[0]

    def arguments(self, workload: Workload, inputs: Sequence[np.ndarray]) -> list[Any]:
        return list(inputs[: FED.get(workload.kernel, len(inputs))])


PEER = OnnxRuntime


def _model(
    nodes: Sequence[tuple[str, list[str], str]], inputs: Sequence[np.ndarray], fed: int
) -> onnx.ModelProto:
    """A model of ``nodes``; the inputs after the first ``fed`` become its constants."""
    made = [helper.make_node(op, ins, [out], **ATTRIBUTES.get(op, {})) for op, ins, out in nodes]
    named = [(f"a{i}", array) for i, array in enumerate(inputs)]
    feeds = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, a.shape) for name, a in named[:fed]
    ]
    constants = [numpy_helper.from_array(a, name) for name, a in named[fed:]]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(made, "bench", feeds, [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
