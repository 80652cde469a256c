"""Recurrent cells, and their loops over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError
from weft.frontend.control import scan
from weft.frontend.nn.common import Array, applied, floating, function
from weft.frontend.numpy.common import lift
from weft.frontend.problems import problem

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell"]


def _gates(x: Any, h: Any, w_ih: Array, w_hh: Array, bias: Any, count: int, what: str) -> Any:
    """The inputs of the gates, side by side, from the input and from the state."""
    rows = lift(w_ih).node.shape[0]
    if rows != count * h.node.shape[-1]:
        raise problem(ShapeError, f"{what} got weights of {rows} rows for a state of "
                      f"{h.node.shape[-1]}", expected=f"{count} rows for each element of the state")
    left, right = x @ np.swapaxes(w_ih, 0, 1), h @ np.swapaxes(w_hh, 0, 1)
    b_ih, b_hh = (None, None) if bias is None else bias
    return (left if b_ih is None else left + b_ih), (right if b_hh is None else right + b_hh)


@function
def lstm_cell(x: Array, state: tuple[Array, Array], w_ih: Array, w_hh: Array,
              b_ih: Array | None = None, b_hh: Array | None = None) -> Any:
    """One step of a long short-term memory (Hochreiter and Schmidhuber, 1997).

    Args:
        x: (…, inputs).
        state: the hidden and the cell state (h, c), each (…, size).
        w_ih, w_hh: (4 * size, inputs) and (4 * size, size): rows for the input, forget, cell and
            output gates, as PyTorch orders them.
        b_ih, b_hh: (4 * size,).

    Gives the next state (h, c).
    """
    h, c = map(floating, state)
    left, right = _gates(floating(x), h, w_ih, w_hh, (b_ih, b_hh), 4, "lstm_cell")
    i, f, g, o = np.split(left + right, 4, axis=-1)
    c = applied("logistic", f) * c + applied("logistic", i) * np.tanh(g)
    return applied("logistic", o) * np.tanh(c), c


@function
def gru_cell(x: Array, state: Array, w_ih: Array, w_hh: Array, b_ih: Array | None = None,
             b_hh: Array | None = None) -> Any:
    """One step of a gated recurrent unit (Cho et al., 2014), as PyTorch defines it.

    `w_ih` (3 * size, inputs) and `w_hh` (3 * size, size) hold rows for the reset, update and new
    gates; biases are (3 * size,). Gives the next state (…, size).
    """
    h = floating(state)
    left, right = _gates(floating(x), h, w_ih, w_hh, (b_ih, b_hh), 3, "gru_cell")
    (r, z, n), (hr, hz, hn) = np.split(left, 3, axis=-1), np.split(right, 3, axis=-1)
    update = applied("logistic", z + hz)
    new = np.tanh(n + applied("logistic", r + hr) * hn)
    return new + update * (h - new)


@function
def lstm(x: Array, state: tuple[Array, Array], w_ih: Array, w_hh: Array,
         b_ih: Array | None = None, b_hh: Array | None = None, reverse: bool = False) -> Any:
    """An LSTM over time: `x` is (time, batch, inputs), the state (h, c) of (batch, size) each.

    Gives the hidden states of all steps, (time, batch, size), and the last state (h, c). With
    `reverse` it runs from the last step to the first.
    """
    def step(carry: Any, now: Any) -> Any:
        h, c = lstm_cell(now, carry, w_ih, w_hh, b_ih, b_hh)
        return (h, c), h
    last, outputs = scan(step, tuple(map(floating, state)), floating(x), reverse=bool(reverse))
    return outputs, last


@function
def gru(x: Array, state: Array, w_ih: Array, w_hh: Array, b_ih: Array | None = None,
        b_hh: Array | None = None, reverse: bool = False) -> Any:
    """A GRU over time: `x` is (time, batch, inputs), the state (batch, size).

    Gives the states of all steps, (time, batch, size), and the last one.
    """
    def step(carry: Any, now: Any) -> Any:
        h = gru_cell(now, carry, w_ih, w_hh, b_ih, b_hh)
        return h, h
    last, outputs = scan(step, floating(state), floating(x), reverse=bool(reverse))
    return outputs, last
