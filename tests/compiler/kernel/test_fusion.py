"""Fusion keeps its quality: the number of kernels of well-known computations."""

from __future__ import annotations

import pytest
from kernel_graphs import B, Make, N, build, check, kernels

SUM = 4e-6      # sums of a few dozen float32 elements, added in another order


def mlp(b: Make):
    x = b.x("x", 4, 8)
    for k, (m, n) in enumerate([(8, 7), (7, 6), (6, 3)]):
        x = b.maximum(b.dense(x, b.x(f"w{k}", m, n), b.x(f"b{k}", n)), b.num(x, 0))
    return x


def pairwise(b: Make):
    x, y = b.x("x", 6, 3), b.x("y", 5, 3)
    d = b.sub(b.broadcast(x, (6, 5, 3), (0, 2)), b.broadcast(y, (6, 5, 3), (1, 2)))
    return b.sqrt(b.reduce_sum(b.mul(d, d), axes=(2,)))


def mean_and_variance(b: Make):
    x = b.x("x", 5, 33)
    return b.mean(x), b.variance(x)


def shared_mean_and_variance(b: Make):
    x = b.x("x", 5, 33)
    m = b.mean(x)
    d = b.sub(x, b.keep(m, x, (1,)))
    return m, b.mean(b.mul(d, d))


def cosine(b: Make):
    x, y = b.x("x", 5, 33), b.x("y", 5, 33)
    dot, xx, yy = (b.reduce_sum(b.mul(p, q), axes=(1,)) for p, q in ((x, y), (x, x), (y, y)))
    return b.div(dot, b.mul(b.sqrt(xx), b.sqrt(yy)))


def several_elementwise(b: Make):
    x, y = b.x("x", 5, 33), b.x("y", 5, 33)
    return b.plus(x, y), b.mul(x, y), b.exp(y)


def normalised_with_its_sum(b: Make):
    x = b.x("x", 5, 33)
    s = b.reduce_sum(x, axes=(1,))
    return b.softmax(x), s, b.exp(x)


def block(b: Make):
    """x @ w1, GELU, @ w2, residual, layer norm: two products and the normalisation."""
    x = b.x("x", 4, 8)
    h = b.gelu(b.dense(x, b.x("w1", 8, 16), b.x("b1", 16)))
    y = b.plus(b.dense(h, b.x("w2", 16, 8), b.x("b2", 8)), x)
    return b.layernorm(y, b.x("s", 8), b.x("t", 8))


def attention(b: Make):
    q, k, v = (b.x(n, 6, 4) for n in "qkv")
    s = b.dot_general(q, k, contract=((1,), (1,)), batch=((), ()))
    return b.matmul(b.softmax(b.mul(s, b.num(s, 0.5))), v)


def whole_statistics(b: Make):
    x = b.x("x", 5, 33)
    return b.reduce_sum(x, axes=(0, 1)), b.reduce_max(x, axes=(0, 1))


def layer_kept_for_its_slope(b: Make):
    """The product before ReLU is needed beside ReLU's result, which the next product reads."""
    h = b.dense(b.x("x", 4, 8), b.x("w1", 8, 7), b.x("b1", 7))
    y = b.matmul(b.maximum(h, b.num(h, 0)), b.x("w2", 7, 7))
    return b.mul(y, h)


def shared_by_dependent_kernels(b: Make):
    """exp(x) is needed for its sums, and by a kernel that needs these in another order."""
    e = b.exp(b.x("x", 6, 6))
    s = b.reduce_sum(e, axes=(1,))
    return b.mul(e, b.broadcast(s, (6, 6), (1,)))


def moved(b: Make):
    """Views cost no kernel of their own."""
    x = b.x("x", 4, 6)
    y = b.reshape(b.transpose(b.reverse(x, axes=(0,)), perm=(1, 0)), (4, 6))
    return b.tanh(b.plus(b.slice(y, start=(0, 1), limit=(4, 6), stride=(1, 1)),
                         b.slice(y, start=(0, 0), limit=(4, 5), stride=(1, 1))))


CASES = {
    "softmax": (lambda b: b.softmax(b.x("x", 5, 33)), 1),
    "softmax_symbolic": (lambda b: b.softmax(b.x("x", B, N)), 1),
    "layernorm": (lambda b: b.layernorm(b.x("x", 5, 33), b.x("s", 33), b.x("t", 33)), 1),
    "logsumexp": (lambda b: b.logsumexp(b.x("x", 5, 33)), 1),
    "variance": (lambda b: b.variance(b.x("x", 5, 33)), 1),
    "dense_gelu": (lambda b: b.gelu(b.dense(b.x("x", 4, 8), b.x("w", 8, 6), b.x("b", 6))), 1),
    "gelu_bias": (
        lambda b: b.gelu(b.plus(b.x("x", 5, 33), b.broadcast(b.x("b", 33), (5, 33)))), 1),
    **{f.__name__: (f, count) for f, count in (
        (mlp, 3), (pairwise, 1), (mean_and_variance, 1), (shared_mean_and_variance, 1),
        (cosine, 1), (several_elementwise, 1), (normalised_with_its_sum, 1), (block, 3),
        (attention, 3), (whole_statistics, 1), (moved, 1),
        (layer_kept_for_its_slope, 2), (shared_by_dependent_kernels, 2))},
}


@pytest.mark.parametrize("name", CASES)
def test_number_of_kernels(name):
    make, count = CASES[name]
    program = check(build(make), rtol=SUM, B=5, N=33)
    assert kernels(program) == count, program.text()


def test_dependent_kernels_stay_apart():
    """b needs the product, which needs a: one kernel for a and b would need itself."""
    def make(b: Make):
        x, w = b.x("x", 4, 4), b.x("w", 4, 4)
        first = b.tanh(x)
        return first, b.plus(b.matmul(first, w), x), b.exp(x)
    program = check(build(make), rtol=SUM)
    assert kernels(program) == 2, program.text()


def test_elements_of_a_whole_sum_are_not_computed_by_its_one_row():
    def make(b: Make):
        x = b.x("x", 64, 64)
        return b.reduce_sum(x, axes=(0, 1)), b.exp(x)
    assert kernels(check(build(make), rtol=SUM)) == 2


@pytest.mark.parametrize("make_x", [lambda x, b: x, lambda x, b: b.exp(x)])
def test_rows_and_columns_are_not_the_same_space(make_x):
    """Sums over rows and over columns of a square array read it in different orders."""
    def make(b: Make):
        x = make_x(b.x("x", 16, 16), b)
        return b.reduce_sum(x, axes=(0,)), b.reduce_sum(x, axes=(1,))
    program = check(build(make), rtol=SUM)
    assert all(len(s.kernel.outputs) == 1 for s in program.steps), program.text()


def test_long_chains_are_cut():
    """However many operations follow one another, compilation does not run out of stack."""
    def chain(b: Make):
        x = b.x("x", 4, 4, dtype="f64")
        for i in range(1000):
            x = b.plus(b.mul(x, b.num(x, 0.99)), b.num(x, i % 7))
        return x
    assert 10 < kernels(check(build(chain))) < 40

    def products(b: Make):
        x = b.x("x", 4, 4, dtype="f64")
        for _ in range(500):
            x = b.tanh(b.matmul(x, x))
        return x
    assert kernels(check(build(products), rtol=1e-6)) == 500


def test_many_results_of_one_array_are_one_kernel():
    def make(b: Make):
        x = b.x("x", 8, 8)
        return [b.plus(x, b.num(x, i)) for i in range(100)]
    assert kernels(check(build(make))) == 1
