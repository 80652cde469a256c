"""The derivative of a softmax, recognised in the expression of an element of it.

With ``e = exp(x - base)``, ``P = e / divisor`` and dP given, the derivative by x is
``P * (dP - sum(P * dP))``, in whatever order it is multiplied and divided; and, where the greatest
score was taken off by code that is differentiated too, a term that is 0 up to rounding,
``select(x == max, -sum of that / how many are the greatest, 0)``.
"""

from __future__ import annotations

from collections import Counter

from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.lazy_dataclass import dataclass, replace

__all__ = ["SoftmaxGradient", "changed", "product_of_factors", "softmax_gradient"]


@dataclass(frozen=True)
class SoftmaxGradient:
    """The parts of a softmax and of its derivative; `given` is dP, a load.

    `slope` is what is computed of the derivative by x, the load `upstream`; `counts` the condition
    of which the divisor depends, if any.
    """

    x: Expr
    base: Expr
    divisor: Expr
    weight: Expr
    given: Expr
    slope: Expr
    counts: Expr | None
    through_max: bool

    def is_weight(self, e: Expr) -> bool:
        """Whether an expression is P."""
        sign, factors, divisors = product_of_factors(e)
        return sign > 0 and factors == Counter([self.weight]) \
            and divisors == Counter([self.divisor])


def changed(e: Expr, by: dict[Expr, Expr]) -> Expr:
    """An expression with some of its parts replaced."""
    if e in by:
        return by[e]
    return replace(e, args=tuple(changed(a, by) for a in e.args)) if e.args else e


def product_of_factors(e: Expr) -> tuple[int, Counter[Expr], Counter[Expr]]:
    """Sign, factors and divisors of an expression."""
    if e.kind == "apply" and e.what == "neg":
        sign, factors, divisors = product_of_factors(e.args[0])
        return -sign, factors, divisors
    if e.kind == "apply" and e.what in ("mul", "div"):
        (s, a, b), (t, c, d) = map(product_of_factors, e.args)
        return (s * t, a + c, b + d) if e.what == "mul" else (s * t, a + d, b + c)
    return 1, Counter([e]), Counter()


def softmax_gradient(e: Expr, upstream: Expr) -> SoftmaxGradient | None:
    """The parts of a derivative by scores, which depends on one by the softmax's argument."""
    for inner in reversed(walk(e)):
        found = _derivative(inner)
        if found is None:
            continue
        weight, divisor, given, some = found
        x, base = weight.args[0].args
        most = Expr("acc", x.dtype, ("max", x))
        total = Expr("acc", x.dtype, ("sum", weight))
        around = changed(e, {inner: upstream})
        slope = _without_max(around, inner, upstream, x, most)
        either = [a for a in walk(divisor) if a.kind == "acc" and a.what[0] == "or"]
        if (some is not None and (either != [some] or not _masked(slope, some.what[1]))) \
                or len(either) > 1 or not _depends_on(base, [most]) \
                or not _depends_on(divisor, [total, *either]) \
                or any(a.kind == "acc" or a == given for a in walk(slope)):
            return None
        counts = either[0].what[1] if either else None
        return SoftmaxGradient(x, base, divisor, weight, given, slope, counts, slope != around)
    return None


def _derivative(e: Expr) -> tuple[Expr, Expr, Expr, Expr | None] | None:
    """exp(x - base), the divisor, dP, and what the sum depends on, if it is selected by that."""
    sign, factors, outside = product_of_factors(e)
    weights, sums = [f for f in factors if _is_weight(f)], [f for f in factors if _is_sum(f)]
    if factors.total() != 2 or len(weights) != 1 or len(sums) != 1:
        return None
    (weight,), (both,) = weights, sums
    terms = [_term(a, 1) for a in both.args]
    if both.what == "sub":
        terms[1] = (-terms[1][0], *terms[1][1:])
    for (s, a, by), (t, b, over) in (terms, terms[::-1]):
        dot, some = _selected(b)
        if dot.kind != "acc" or dot.what[0] != "sum" or a.kind != "load":
            continue
        u, inside, under = product_of_factors(dot.what[1])
        divisors = outside + by
        if inside == Counter([a, weight]) and divisors.total() == 1 and sign * s > 0 \
                and sign * t * u < 0 and outside + over + under == divisors + divisors:
            return weight, next(iter(divisors)), a, some
    return None


def _is_weight(e: Expr) -> bool:
    return e.kind == "apply" and e.what == "exp" and e.args[0].what == "sub"


def _is_sum(e: Expr) -> bool:
    return e.kind == "apply" and e.what in ("add", "sub")


def _term(e: Expr, sign: int) -> tuple[int, Expr, Counter[Expr]]:
    """A term of a sum as one factor, with its sign and what it is divided by."""
    s, factors, divisors = product_of_factors(e)
    one = next(iter(factors)) if factors.total() == 1 else e
    return (s * sign, one, divisors) if factors.total() == 1 else (sign, e, Counter())


def _selected(e: Expr) -> tuple[Expr, Expr | None]:
    """A number that is 0 where no key counts, and the reduction that says so."""
    if e.kind == "apply" and e.what == "select" and _is_zero(e.args[2]) \
            and e.args[0].kind == "acc" and e.args[0].what[0] == "or":
        return e.args[1], e.args[0]
    return e, None


def _is_zero(e: Expr) -> bool:
    return e.kind == "const" and bool(e.what == 0)


def _depends_on(e: Expr, accs: list[Expr]) -> bool:
    """Whether an expression depends on these reductions alone."""
    if e in accs:
        return True
    return e.kind in ("const", "apply") and all(_depends_on(a, accs) for a in e.args)


def _masked(slope: Expr, counts: Expr) -> bool:
    """Whether a derivative is 0 where a score does not count."""
    return any(e.kind == "apply" and e.what == "select" and e.args[0] == counts
               and _is_zero(e.args[2]) for e in walk(slope))


def _without_max(e: Expr, inner: Expr, upstream: Expr, x: Expr, most: Expr) -> Expr:
    """An expression of the derivative without the term by way of the maximum."""
    for part in walk(e):
        if part.kind == "apply" and part.what == "add" and upstream in part.args:
            other = part.args[1] if part.args[0] == upstream else part.args[0]
            if _by_max(other, inner, x, most):
                return changed(e, {part: upstream})
    return e


def _by_max(e: Expr, inner: Expr, x: Expr, most: Expr) -> bool:
    if e.kind != "apply" or e.what != "select" or not _is_zero(e.args[2]) \
            or not _compares(e.args[0], x, most) or e.args[1].what != "div":
        return False
    total, count = e.args[1].args
    if total.kind != "acc" or count.kind != "acc" or {total.what[0], count.what[0]} != {"sum"}:
        return False
    sign, factors, divisors = product_of_factors(total.what[1])
    ones = count.what[1]
    return ones.what == "convert" and _compares(ones.args[0], x, most) and \
        (-sign, factors, divisors) == product_of_factors(inner)


def _compares(e: Expr, x: Expr, most: Expr) -> bool:
    return e.kind == "apply" and e.what == "eq" and set(e.args) == {x, most}
