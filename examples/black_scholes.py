"""Prices of European options in plain NumPy, compiled as it is: one pass over the memory.

    python examples/black_scholes.py
"""

from __future__ import annotations

import numpy as np

import weft

Array = np.ndarray
RATE, VOLATILITY = 0.02, 0.30


def normal_cdf(d: Array) -> Array:
    """The standard normal distribution, by a polynomial that is good to 7.5e-8."""
    k = 1.0 / (1.0 + 0.2316419 * np.abs(d))
    tail = k * (0.319381530 + k * (-0.356563782 + k * (1.781477937 + k * (
        -1.821255978 + k * 1.330274429))))
    tail = tail * 0.3989422804 * np.exp(-0.5 * d * d)
    return np.where(d > 0, 1.0 - tail, tail)


def prices(price: Array, strike: Array, years: Array) -> tuple[Array, Array]:
    """The values of a call and a put on each stock."""
    spread = VOLATILITY * np.sqrt(years)
    d1 = (np.log(price / strike) + (RATE + 0.5 * VOLATILITY**2) * years) / spread
    d2 = d1 - spread
    discounted = strike * np.exp(-RATE * years)
    call = price * normal_cdf(d1) - discounted * normal_cdf(d2)
    return call, call - price + discounted


def inputs(options: int = 1_000_000) -> tuple[Array, ...]:
    """Random prices, strikes and times to expiry, float32."""
    rng = np.random.default_rng(0)
    ranges = (10.0, 50.0), (10.0, 50.0), (0.1, 2.0)
    return tuple(rng.uniform(low, high, options).astype(np.float32) for low, high in ranges)


if __name__ == "__main__":
    compiled = weft.jit(prices)
    arguments = inputs()
    for name, mine, numpys in zip(("call", "put"), compiled(*arguments), prices(*arguments)):
        print(f"{name}: largest difference from NumPy: {np.abs(mine - numpys).max():.2e}")
    print(weft.explain(compiled, *arguments))
