"""Losses: what training makes small.

`reduction` is ``"mean"``, ``"sum"`` or ``"none"``. Losses on logits have exact derivatives at any
size of the logits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError
from weft.frontend.nn.activation import softplus
from weft.frontend.nn.common import Array, floating, reduced, rounded
from weft.frontend.nn.normalization import log_softmax
from weft.frontend.numpy.common import axis_of, lift
from weft.frontend.problems import problem

__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_similarity",
           "cross_entropy", "hinge_loss", "huber_loss", "kl_div", "l1_loss", "mse_loss",
           "smooth_l1_loss"]


@rounded
def cross_entropy(logits: Array, target: Array, axis: int = -1, reduction: str = "mean",
                  label_smoothing: float = 0.0, ignore_index: int | None = None) -> Any:
    """-sum of target * log_softmax(logits) along the axis of the classes.

    `target` holds whole numbers, the classes, in the shape of `logits` without that axis; or
    distributions over the classes, in the shape of `logits`. Of the right class,
    `label_smoothing` is given to all alike. Positions with the class `ignore_index` count neither
    in the sum nor in the mean.

    >>> import numpy as np, weft
    >>> logits = np.array([[0.0, 0.0], [1000.0, 0.0]])
    >>> weft.nn.cross_entropy(logits, np.array([1, 0]), reduction="none")
    array([0.69314718, 0.        ])
    """
    logits, labels = floating(logits), lift(target)
    a = axis_of(axis, len(logits.node.shape))
    logs = log_softmax(logits, a)
    if labels.element.is_inexact:
        return reduced(_of_distributions(logs, labels, a, label_smoothing), reduction,
                       "cross_entropy")
    wanted = logits.node.shape[:a] + logits.node.shape[a + 1:]
    if labels.node.shape != wanted:
        raise problem(ShapeError, f"cross_entropy got classes of shape {labels.node.shape} for "
                      f"logits of shape {logits.node.shape}", expected=str(wanted),
                      repair="give `axis`, that of the classes")
    counts = None if ignore_index is None else labels != ignore_index
    at = labels if counts is None else np.where(counts, labels, 0)
    picked = np.take_along_axis(logs, np.expand_dims(at, a), axis=a)
    loss = 0 - np.squeeze(picked, axis=a)       # (no -0.0 where the prediction is certain)
    if not (isinstance(label_smoothing, float) and label_smoothing == 0.0):
        loss = (1 - label_smoothing) * loss - label_smoothing * logs.mean(axis=a)
    if counts is None:
        return reduced(loss, reduction, "cross_entropy")
    loss = np.where(counts, loss, 0)
    if reduction == "mean":
        return loss.sum() / counts.sum().astype(loss.dtype)
    return reduced(loss, reduction, "cross_entropy")


def _of_distributions(logs: Any, target: Any, axis: int, smoothing: Any) -> Any:
    if not (isinstance(smoothing, float) and smoothing == 0.0):
        target = target * (1 - smoothing) + smoothing / logs.shape[axis]
    # what has no probability adds nothing, also where its logarithm is -inf
    return -np.where(target == 0, 0, target * logs).sum(axis=axis)


@rounded
def binary_cross_entropy_with_logits(logits: Array, target: Array, reduction: str = "mean",
                                     pos_weight: Array | None = None) -> Any:
    """-(target * log(p) + (1 - target) * log(1 - p)) for p = sigmoid(logits).

    `pos_weight` is a factor of the first term.
    """
    x, y = floating(logits), lift(target)
    if pos_weight is None:
        return reduced(softplus(x) - x * y, reduction, "binary_cross_entropy_with_logits")
    loss = y * pos_weight * softplus(-x) + (1 - y) * softplus(x)
    return reduced(loss, reduction, "binary_cross_entropy_with_logits")


@rounded
def binary_cross_entropy(probabilities: Array, target: Array, reduction: str = "mean") -> Any:
    """-(target * log(p) + (1 - target) * log(1 - p)), logarithms being at least -100."""
    p, y = floating(probabilities), lift(target)
    first, second = (np.maximum(np.log(q), -100) for q in (p, 1 - p))
    return reduced(-(y * first + (1 - y) * second), reduction, "binary_cross_entropy")


@rounded
def mse_loss(x: Array, target: Array, reduction: str = "mean") -> Any:
    """Squared differences."""
    d = floating(x) - target
    return reduced(d * d, reduction, "mse_loss")


@rounded
def l1_loss(x: Array, target: Array, reduction: str = "mean") -> Any:
    """Absolute differences."""
    return reduced(np.abs(floating(x) - target), reduction, "l1_loss")


@rounded
def huber_loss(x: Array, target: Array, reduction: str = "mean", delta: float = 1.0) -> Any:
    """Half squared differences up to `delta`, from there on linear (Huber, 1964)."""
    d = np.abs(floating(x) - target)
    near = np.where(d <= delta, d, delta)
    return reduced(near * (d - 0.5 * near), reduction, "huber_loss")


@rounded
def smooth_l1_loss(x: Array, target: Array, reduction: str = "mean", beta: float = 1.0) -> Any:
    """The Huber loss over `beta`: absolute differences, rounded off near 0."""
    d = np.abs(floating(x) - target)
    near = np.where(d <= beta, d, beta)
    return reduced(near * (d - 0.5 * near) / beta, reduction, "smooth_l1_loss")


@rounded
def hinge_loss(x: Array, target: Array, reduction: str = "mean") -> Any:
    """max(0, 1 - target * x), for targets -1 and 1."""
    margin = 1 - floating(x) * target
    return reduced(np.where(margin <= 0, 0, margin), reduction, "hinge_loss")


@rounded
def kl_div(log_probabilities: Array, target: Array, reduction: str = "mean",
           log_target: bool = False) -> Any:
    """target * (log(target) - log_probabilities): the terms of the divergence from `target`.

    With `log_target`, `target` holds logarithms too. What has no probability adds nothing.
    """
    x, y = floating(log_probabilities), floating(target)
    if log_target:
        terms = np.where(y == -np.inf, 0, np.exp(y) * (y - x))
        return reduced(terms, reduction, "kl_div")
    safe = np.where(y > 0, y, 1)
    return reduced(np.where(y > 0, y * (np.log(safe) - x), 0), reduction, "kl_div")


@rounded
def cosine_similarity(x: Array, y: Array, axis: int = -1, eps: float = 1e-8) -> Any:
    """x · y / (|x| |y|) along an axis, the norms being at least `eps`."""
    a, b = floating(x), floating(y)
    least = eps * eps
    squares = [np.maximum((t * t).sum(axis=axis), least) for t in (a, b)]
    return (a * b).sum(axis=axis) / (np.sqrt(squares[0]) * np.sqrt(squares[1]))
