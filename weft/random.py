"""Random numbers from keys: functions of a key that always give the same numbers.

See `weft.random.key`, `split` and `fold_in`, then the distributions. Inside compiled functions
these add to the program; outside, they are compiled for each shape and kept.
"""

from weft.frontend.random.continuous import (
    bits,
    cauchy,
    double_sided_maxwell,
    exponential,
    gumbel,
    laplace,
    logistic,
    lognormal,
    maxwell,
    normal,
    pareto,
    rayleigh,
    triangular,
    uniform,
    wald,
    weibull_min,
)
from weft.frontend.random.discrete import (
    bernoulli,
    categorical,
    geometric,
    integers,
    rademacher,
    randint,
)
from weft.frontend.random.keys import fold_in, key, split
from weft.frontend.random.reuse import check_keys
from weft.frontend.random.shuffles import choice, permutation

__all__ = ["bernoulli", "bits", "categorical", "cauchy", "check_keys", "choice",
           "double_sided_maxwell", "exponential", "fold_in", "geometric", "gumbel", "integers",
           "key", "laplace", "logistic", "lognormal", "maxwell", "normal", "pareto", "permutation",
           "rademacher", "randint", "rayleigh", "split", "triangular", "uniform", "wald",
           "weibull_min"]
