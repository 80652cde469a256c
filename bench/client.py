"""The parent's end of a worker: starts it, asks, and survives its death."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.peers import PeerSpec

ROOT = Path(__file__).resolve().parent.parent
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "CUDA_VISIBLE_DEVICES": "",  # a benchmark of the CPU
    "JAX_PLATFORMS": "cpu",
}


class WorkerDied(RuntimeError):
    """The worker went away or did not answer in time."""


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: ours, with byte code kept on disk as users have it."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    path = os.pathsep.join(p for p in (str(ROOT), env.get("PYTHONPATH", "")) if p)
    return {**env, **QUIET, "PYTHONPATH": path, **extra}


class Worker:
    """A worker process of one peer; ``hello`` is its first answer.

    It runs while it is asked something, and is held otherwise, where the system can do that: some
    libraries' threads go on spinning, on cores that the next peer is timed on.
    """

    def __init__(
        self,
        spec: PeerSpec,
        python: str,
        extra: Mapping[str, str],
        timeout: float = 600.0,
    ) -> None:
        self.spec, self.timeout = spec, timeout
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed by close)
        self.process = subprocess.Popen(
            [python, "-m", "bench.worker", spec.name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            text=True, cwd=ROOT, env=environment(extra),
        )  # fmt: skip
        self.hello = self._answer()

    def ask(self, cmd: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        assert self.process.stdin is not None
        self._let("SIGCONT")
        try:
            self.process.stdin.write(json.dumps({"cmd": cmd, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerDied(self._last_words()) from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        stdout = self.process.stdout
        assert stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(self.timeout):
                self.close()
                raise WorkerDied(f"no answer in {self.timeout:g} s")
        line = stdout.readline()  # one answer a command, so nothing else waits in the buffer
        if not line:
            raise WorkerDied(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        self._let("SIGSTOP")
        return answer

    def _let(self, name: str) -> None:
        """Let it go on, or hold it."""
        if hasattr(signal, name):
            self.process.send_signal(getattr(signal, name))

    def _last_words(self) -> str:
        code = self.process.wait(10)
        return f"its process ended with {code}"

    def stderr(self) -> str:
        """What it printed so far."""
        self.log.seek(0)
        return self.log.read()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
