"""Connectionist temporal classification: labels without alignment."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError
from weft.frontend.control import scan
from weft.frontend.nn.common import Array, floating, function, reduced
from weft.frontend.nn.normalization import logsumexp
from weft.frontend.numpy.common import lift, static
from weft.frontend.problems import problem

__all__ = ["ctc_loss"]


def _joined(terms: list[Any]) -> Any:
    """log of the sum of exponentials, of which all may be -inf."""
    return logsumexp(np.stack(terms), axis=0)


@function
def ctc_loss(log_probabilities: Array, targets: Array, input_lengths: Array,
             target_lengths: Array, blank: int = 0, reduction: str = "mean") -> Any:
    """-log of the probability of all alignments that read `targets` (Graves et al., 2006).

    Args:
        log_probabilities: (time, batch, classes), logarithms: `weft.nn.log_softmax` of logits.
        targets: (batch, labels), whole numbers other than `blank`, padded with anything.
        input_lengths, target_lengths: (batch,), how much of each counts.
        blank: the class of the blank.
        reduction: ``"mean"`` divides each loss by its target's length first, as PyTorch does.

    The sums run in logarithms over the extended labels, blanks between and around them. Where no
    alignment is long enough, the loss is inf.
    """
    logs: Any = floating(log_probabilities)
    labels: Any = lift(targets)
    if len(logs.node.shape) != 3 or len(labels.node.shape) != 2:
        raise problem(ShapeError, f"ctc_loss got log_probabilities of {len(logs.node.shape)} and "
                      f"targets of {len(labels.node.shape)} dimension(s)",
                      expected="(time, batch, classes) and (batch, labels)")
    none = static(blank, "blank")
    steps, frames = lift(input_lengths), logs.shape[0]
    count = lift(target_lengths)
    batch, most = labels.shape
    inside = np.arange(most) < count[:, None]
    labels = np.where(inside, labels, none).astype(np.int64)
    states = np.full((batch, 2 * most + 1), none, np.int64)
    spread = np.stack([np.full((batch, most), none, np.int64), labels], axis=2)
    states = np.concatenate([spread.reshape((batch, 2 * most)), states[:, :1]], axis=1)
    jumps = _jumps(states, none)
    of_state = np.take_along_axis(logs, np.broadcast_to(
        states[None], (frames, batch, 2 * most + 1)), axis=2)
    number = np.arange(2 * most + 1)
    first = np.where((number < 2) & (number <= 2 * count[:, None]), of_state[0], -np.inf)

    def step(alpha: Any, now: Any) -> Any:
        emitted, at = now
        low = np.full((batch, 1), -np.inf, alpha.dtype)
        one = np.concatenate([low, alpha[:, :-1]], axis=1)
        two = np.concatenate([low, one[:, :-1]], axis=1)
        new = _joined([alpha, one, np.where(jumps, two, -np.inf)]) + emitted
        return np.where((at < steps)[:, None], new, alpha), None

    last, _ = scan(step, first, (of_state[1:], np.arange(1, frames)))
    end = 2 * count
    final = np.take_along_axis(last, end[:, None].astype(np.int64), axis=1)[:, 0]
    before = np.take_along_axis(last, np.maximum(end - 1, 0)[:, None].astype(np.int64),
                                axis=1)[:, 0]
    loss = -_joined([final, np.where(count > 0, before, -np.inf)])
    if reduction == "mean":
        return (loss / np.maximum(count, 1).astype(loss.dtype)).mean()
    return reduced(loss, reduction, "ctc_loss")


def _jumps(states: Any, blank: int) -> Any:
    """Whether a state may be reached from the one before the last: another label, not a blank."""
    before = np.concatenate([np.full_like(states[:, :2], blank), states[:, :-2]], axis=1)
    return (states != blank) & (states != before)
