"""Minimax fits of the polynomials in this package: Remez exchange. Not used at run time.

`fit(f, lo, hi, terms, weight, bits)` gives coefficients c with f(x) ~ c0 + c1 x + ... of least
weighted error on [lo, hi]. Each is rounded to `bits` of mantissa in turn, lowest order first, and
the rest fitted again, so that the rounding of one is made good by the others.

The tables in this package name what they fit, the interval and the error reached. That of exp:

    fit(lambda r: (mp.expm1(r) - r) / r**2, -0.3466, 0.3466, 10, lambda r: r**2 / mp.expm1(r))

Needs mpmath. Slower than a second only for long tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import mpmath as mp
from mpmath import mpf

__all__ = ["fit", "odd_pieces", "remez", "rounded"]

Function = Callable[[mpf], mpf]

mp.mp.prec = 200


def rounded(c: mpf, bits: int) -> mpf:
    """c to the nearest number with this many bits of mantissa."""
    with mp.workprec(bits):
        return +c


def remez(values: Sequence[mpf], weights: Sequence[mpf], basis: Sequence[Sequence[mpf]],
          start: list[mpf], rounds: int = 12) -> list[mpf]:
    """Coefficients of the basis (given on a grid) of least greatest weighted error.

    No worse than those in `start`, if given.
    """
    n, points = len(basis), len(values)
    at = [round((points - 1) * (1 - mp.cos(mp.pi * k / n)) / 2) for k in range(n + 1)]

    def errors(c: list[mpf]) -> list[mpf]:
        return [w * (v - mp.fsum(ci * b[i] for ci, b in zip(c, basis)))
                for i, (v, w) in enumerate(zip(values, weights))]

    best, least = start, max(map(abs, errors(start))) if start else mp.inf
    for _ in range(rounds):
        rows = [[b[i] for b in basis] + [(-1) ** k / weights[i]] for k, i in enumerate(at)]
        try:
            solved = mp.lu_solve(mp.matrix(rows), mp.matrix([values[i] for i in at]))
        except ZeroDivisionError:
            break
        c, level = [solved[i] for i in range(n)], abs(solved[n])
        error = errors(c)
        worst = max(map(abs, error))
        if worst < least:
            best, least = c, worst
        peaks: list[int] = []            # the extreme of each run of one sign
        for i, err in enumerate(error):
            if peaks and (error[peaks[-1]] > 0) == (err > 0):
                if abs(err) > abs(error[peaks[-1]]):
                    peaks[-1] = i
            else:
                peaks.append(i)
        while len(peaks) > n + 1:        # drop the weaker end
            peaks.pop(0 if abs(error[peaks[0]]) < abs(error[peaks[-1]]) else -1)
        if len(peaks) < n + 1 or peaks == at or worst < level * mpf("1.0005"):
            break
        at = peaks
    return best


def fit(f: Function, lo: float, hi: float, terms: int, weight: Function | None = None,
        bits: int = 53, points: int = 400) -> tuple[list[float], float]:
    """`terms` coefficients for f on [lo, hi], rounded to `bits`, and log2 of the weighted error."""
    middle, half = (mpf(lo) + mpf(hi)) / 2, (mpf(hi) - mpf(lo)) / 2
    grid = [middle - half * mp.cos(mp.pi * (k + mpf("0.5")) / points) for k in range(points)]
    values = [f(x) for x in grid]
    weights = [abs(weight(x)) if weight else mpf(1) for x in grid]
    basis = [[x ** k for x in grid] for k in range(terms)]
    out: list[mpf] = []
    c: list[mpf] = []
    while len(out) < terms:
        c = remez(values, weights, basis[len(out):], c[1:], 3 if out else 12)
        out.append(rounded(c[0], bits))
        values = [v - out[-1] * b for v, b in zip(values, basis[len(out) - 1])]
    worst = max(abs(w * v) for v, w in zip(values, weights))
    return [float(c) for c in out], float(mp.log(worst, 2))



def odd_pieces(f: Function, top: float, terms: int = 6) -> list[tuple[list[float], float]]:
    """The rows of an `OddPieces` and log2 of their errors, from the least arguments up.

    They belong into the table from row 12 on, and from row 0 again. Of 400 centres near the middle
    the one is taken where f is nearest to a float32.
    """
    scale = rounded(mpf(15) / top, 22)
    ends = [(mpf(2) ** (k // 4) * (1 + mpf(k % 4) / 4) - 1) / scale for k in range(17)]
    found, error = fit(lambda h: f(h) / h, 1e-9, ends[1], terms - 1, lambda h: h / f(h), 24)
    out = [([0.0, 0.0, *found], error)]
    for lo, hi in pairwise(ends[1:]):
        near = [rounded(lo + (hi - lo) * (450 + mpf(k) / 4) / 1000, 24) for k in range(400)]
        c = min(near, key=lambda c: abs(rounded(f(c), 24) - f(c)))

        def moved(h: mpf, c: mpf = c) -> mpf:
            return f(c + h)

        def weight(h: mpf, c: mpf = c) -> mpf:
            return 1 / f(c + h)

        found, error = fit(moved, lo - c, hi - c, terms, weight, 24)
        out.append(([float(c), *found], error))
    return out
