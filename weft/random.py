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
from weft.frontend.random.counts import binomial, multinomial, poisson
from weft.frontend.random.discrete import (
    bernoulli,
    categorical,
    geometric,
    integers,
    rademacher,
    randint,
)
from weft.frontend.random.gammas import (
    ball,
    beta,
    chisquare,
    dirichlet,
    f,
    gamma,
    generalized_normal,
    loggamma,
    t,
)
from weft.frontend.random.keys import fold_in, key, split
from weft.frontend.random.reuse import check_keys
from weft.frontend.random.shuffles import choice, permutation
from weft.frontend.random.truncated import truncated_normal
from weft.frontend.random.vectors import multivariate_normal, orthogonal

__all__ = ["ball", "bernoulli", "beta", "binomial", "bits", "categorical", "cauchy", "check_keys",
           "chisquare", "choice", "dirichlet", "double_sided_maxwell", "exponential", "f",
           "fold_in", "gamma", "generalized_normal", "geometric", "gumbel", "integers", "key",
           "laplace", "loggamma", "logistic", "lognormal", "maxwell", "multinomial",
           "multivariate_normal", "normal", "orthogonal", "pareto", "permutation", "poisson",
           "rademacher", "randint", "rayleigh", "split", "t", "triangular", "truncated_normal",
           "uniform", "wald", "weibull_min"]
