"""Ctrl-C, and other signals, during a loop that runs in native code."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

SCRIPT = """
import os, signal, threading, time
import numpy as np
import weft

def spin(x, n):
    return weft.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, {turn}), (0, x))[1]

f = weft.jit(spin)
for _ in range(3):
    f({x}, 3)
def later():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.{name})
signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("late")))
for _ in range(2):
    threading.Thread(target=later).start()
    try:
        f({x}, 1 << 60)
    except (KeyboardInterrupt, TimeoutError) as error:
        print(type(error).__name__, error)
print(np.shape(f({x}, 3)))
"""


@pytest.mark.parametrize("x, turn", [("1.0", "s[1] * 0.5 + 1"),
                                     ("np.ones(300)", "np.sin(s[1][::-1]) @ np.eye(300)")],
                         ids=["numbers", "arrays"])
@pytest.mark.parametrize("name, said", [("SIGINT", "KeyboardInterrupt "),
                                        ("SIGALRM", "TimeoutError late")])
def test_a_loop_ends(name: str, said: str, x: str, turn: str) -> None:
    """The handler's error is raised at the call, twice, and the function works afterwards."""
    code = textwrap.dedent(SCRIPT).format(name=name, x=x, turn=turn)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr
    shape = "()" if x == "1.0" else "(300,)"
    assert done.stdout.splitlines() == [said, said, shape]


