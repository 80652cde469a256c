"""What is inside? A conductivity is found from a few temperatures, by descent through a simulation.

    python examples/inverse_problem.py

A plate's left edge is held hot, its right edge cold, and heat spreads through it:

    du/dt = div(c grad u)

Its conductivity `c`, with two inclusions, is unknown. Sensors tell temperatures at some places, at
a few times. The simulation is plain NumPy in a `weft.scan`; its gradient by all of `c` costs a few
simulations, and memory for one state a block of steps (`weft.checkpoint`).
"""

from __future__ import annotations

import numpy as np

import weft

Array = np.ndarray
SIDE, DT, BLOCKS, BLOCK = 24, 0.15, 8, 40     # places a side; times measured; steps between them
DESCENTS = 150
INSIDE = np.arange(SIDE) % (SIDE - 1) != 0     # the left and right edges keep their temperatures
SHADES = " .:-=+*#%@"


def true_field() -> Array:
    """Conductivities: a background of 1, a good conductor and an insulator."""
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    good = np.exp(-((x - 0.3) ** 2 + (y - 0.3) ** 2) / 0.02)
    poor = np.exp(-((x - 0.65) ** 2 + (y - 0.7) ** 2) / 0.02)
    return 1 + 0.6 * good - 0.6 * poor


def spread(u: Array, c: Array) -> Array:
    """Temperatures a time step later; no heat crosses the upper and lower edges."""
    across = 0.5 * (c[:, 1:] + c[:, :-1]) * (u[:, 1:] - u[:, :-1])
    down = 0.5 * (c[1:] + c[:-1]) * (u[1:] - u[:-1])
    flow = np.pad(across, ((0, 0), (1, 1))), np.pad(down, ((1, 1), (0, 0)))
    gain = flow[0][:, 1:] - flow[0][:, :-1] + flow[1][1:] - flow[1][:-1]
    return u + DT * INSIDE * gain


def measured(c: Array) -> Array:
    """What the sensors, every third place, tell at each time."""
    @weft.checkpoint
    def block(u: Array, c: Array) -> Array:
        return weft.fori_loop(0, BLOCK, lambda _, u: spread(u, c), u)

    def until_next(u: Array, _: None) -> tuple[Array, Array]:
        u = block(u, c)
        return u, u[1::3, 1::3]

    cold = np.zeros((SIDE, SIDE))
    cold[:, 0] = 1
    return weft.scan(until_next, cold, None, length=BLOCKS)[1]


def misfit(log_c: Array, seen: Array) -> Array:
    """How far a conductivity is from explaining the measurements, and how rough it is."""
    wrong = ((measured(np.exp(log_c)) - seen) ** 2).mean()
    rough = (np.diff(log_c, axis=0) ** 2).mean() + (np.diff(log_c, axis=1) ** 2).mean()
    return 1e4 * wrong + 0.2 * rough


@weft.jit
def descend(log_c: Array, m: Array, v: Array, t: float, seen: Array) -> tuple[Array, ...]:
    """A step of Adam."""
    value, g = weft.value_and_grad(misfit)(log_c, seen)
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    log_c = log_c - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return log_c, m, v, value


def picture(c: Array) -> list[str]:
    """The field in characters, dark where it conducts badly."""
    shade = ((c - 0.4) / 1.2 * len(SHADES)).astype(int).clip(0, len(SHADES) - 1)
    return ["".join(2 * SHADES[i] for i in row) for row in shade[::2]]


def main() -> None:
    """Measure the true plate, then find it again."""
    true = true_field()
    exact = weft.jit(measured)(true)
    seen = exact + 1e-3 * np.random.default_rng(0).standard_normal(exact.shape)
    log_c, m, v = (np.zeros((SIDE, SIDE)) for _ in range(3))
    values = []
    for t in range(1, DESCENTS + 1):
        log_c, m, v, value = descend(log_c, m, v, float(t), seen)
        values.append(float(value))
        if t % 30 == 0:
            print(f"step {t:4}   misfit {value:9.4f}")
    found = np.exp(log_c)
    print(f"\n{'the plate':{2 * SIDE}}   what was found")
    for left, right in zip(picture(true), picture(found)):
        print(f"{left}   {right}")
    error = np.abs(found - true).mean() / np.abs(true - 1).mean()
    print(f"mean error: {100 * error:.0f} % of what an even plate would have")
    assert values[-1] < 0.05 * values[0] and error < 0.7


if __name__ == "__main__":
    main()
