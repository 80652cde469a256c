"""What gradients compile to: as few kernels as one would write by hand, and no idle work."""

import numpy as np
import pytest

import weft

rng = np.random.default_rng(0)


def f32(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def mlp(p, x, y):
    h = np.maximum(x @ p["w1"] + p["b1"], 0)
    h = np.maximum(h @ p["w2"] + p["b2"], 0)
    return np.mean((h @ p["w3"] + p["b3"] - y) ** 2)


def cross_entropy(z, y):
    z = z - z.max(axis=-1, keepdims=True)
    return -np.mean(np.sum(y * (z - np.log(np.sum(np.exp(z), axis=-1, keepdims=True))), axis=-1))


def layer_norm(x, g, b, t):
    c = x - x.mean(-1, keepdims=True)
    return np.sum(t * (c / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5) * g + b))


def gelu(x, t):
    return np.sum(t * 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x ** 3))))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v, t):
    return np.sum(t * (softmax(q @ np.swapaxes(k, -1, -2) * 0.125) @ v))


def attention_and_more(q, k, v, w):
    return np.sum(np.tanh(softmax(q @ np.swapaxes(k, -1, -2) * 0.125) @ v @ w))


def pairwise(x, w):
    d = x[:, None, :] - x[None, :, :]
    return np.sum(w * np.sqrt(np.sum(d * d, axis=-1) + 1e-3))


LAYERS = {"w1": f32(20, 16), "b1": f32(16), "w2": f32(16, 12), "b2": f32(12), "w3": f32(12, 5),
          "b3": f32(5)}
QKV = [f32(2, 8, 6) for _ in range(4)]

# The function, what it is differentiated by, its arguments, the number of kernels, and what these
# are, by hand.
GRADIENTS = {
    "mlp": (mlp, 0, (LAYERS, f32(9, 20), f32(9, 5)), 11,
            "3 products forward, 2 back, for 3 weights 3 products, for 3 biases 3 sums"),
    "cross-entropy": (cross_entropy, 0, (f32(9, 5), f32(9, 5)), 1, "row by row"),
    "layer norm": (layer_norm, (0, 1, 2), (f32(9, 16), f32(16), f32(16), f32(9, 16)), 2,
                   "rows, and sums over columns"),
    "gelu": (gelu, 0, (f32(9, 16), f32(9, 16)), 1, "elementwise"),
    "attention": (attention, (0, 1, 2), QKV, 6, "5 products, and the rows of softmax"),
    "attention, tanh": (attention_and_more, (0, 1, 2, 3), (*QKV[:3], f32(6, 6)), 11,
                        "softmax forward and back, 3 products forward, 6 back"),
    "pairwise": (pairwise, 0, (f32(9, 3), f32(9, 9)), 2, "distances; sums over rows and columns"),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_number_of_kernels(name):
    fn, argnums, args, count, _ = GRADIENTS[name]
    assert len(weft.grad(fn, argnums).lower(*args).kernels) == count


@pytest.mark.parametrize("name", GRADIENTS)
def test_answers(name):
    fn, argnums, args, *_ = GRADIENTS[name]
    slope = weft.grad(fn, argnums)
    for got, want in zip(flat(slope(*args)), flat(weft.jit(slope, device="reference")(*args))):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.max(np.abs(want)))


def flat(value):
    if isinstance(value, np.ndarray):
        return [value]
    return [x for v in (value.values() if isinstance(value, dict) else value) for x in flat(v)]


@pytest.mark.parametrize("name", GRADIENTS)
def test_no_idle_work(name):
    """No zeros or ones in memory, no copies, nothing added to or multiplied with a neutral."""
    fn, argnums, args, *_ = GRADIENTS[name]
    graph = weft.grad(fn, argnums).trace(*args).optimize().graph
    for node in graph.nodes:
        constants = [i for i in node.inputs if i.opname == "constant"]
        if node.opname in ("add", "mul"):
            assert not any(np.all(c.attrs["value"] == {"add": 0, "mul": 1}[node.opname])
                           for c in constants)
        assert node.opname not in ("transpose", "reshape", "concatenate")
        if node.opname == "broadcast_in_dim":
            assert not constants or node not in graph.results
    used = {i for n in graph.nodes for i in n.inputs} | set(graph.results)
    assert all(n in used for n in graph.nodes)
