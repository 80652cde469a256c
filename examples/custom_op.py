"""An op of your own: its meaning, its derivative and its machine code, from outside of weft.

`softsign(x) = x / (1 + |x|)` is elementwise, so that it fuses with what is around it. `row_median`
is not, and keeps to NumPy: compiled code calls it through Python, and `weft.explain` says so.
"""

import numpy as np

import weft


@weft.custom_op(
    partials=("1 / ((1 + abs(x)) * (1 + abs(x)))",),                 # for grad, jvp, hessian, ...
    kernels={"cpu": lambda e, x: x / (e.intrinsic("fabs", x) + 1.0)})  # LLVM, vectors of any width
def softsign(x):
    """x / (1 + |x|)"""
    return x / (1 + np.abs(x))


@weft.custom_op(result=lambda a: (a.shape[:-1], a.dtype), vectorized=True)
def row_median(a):
    """The median of each row."""
    return np.median(a, axis=-1)


def main():
    x = np.linspace(-3, 3, 7)
    layer = weft.jit(lambda x: softsign(2 * x) + 1)
    np.testing.assert_allclose(layer(x), 2 * x / (1 + np.abs(2 * x)) + 1)
    print(layer.lower(x).text())                                       # one kernel

    slope = weft.vmap(weft.grad(softsign))(x)
    np.testing.assert_allclose(slope, 1 / (1 + np.abs(x)) ** 2)
    print("slope", slope)

    table = np.random.default_rng(0).standard_normal((4, 5, 9))
    medians = weft.vmap(row_median)(table)
    np.testing.assert_array_equal(medians, np.median(table, axis=-1))
    print(str(weft.explain(weft.jit(row_median), table[0])).partition("kernels")[2])


if __name__ == "__main__":
    main()
