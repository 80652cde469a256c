"""Settings of the whole process: how many threads are used."""

from __future__ import annotations

from weft.devices.cpu import native

__all__ = ["get_num_threads", "set_num_threads"]


def get_num_threads() -> int:
    """The number of threads that compiled code may use on the CPU.

    It begins with `WEFT_NUM_THREADS`, or what the CPU affinity and the container's limit allow.

    >>> import weft
    >>> weft.get_num_threads() >= 1
    True
    """
    return native.num_threads()


def set_num_threads(count: int) -> None:
    """Let compiled code use `count` threads, from the next call on. `ValueError` if below 1.

    >>> import weft
    >>> before = weft.get_num_threads()
    >>> weft.set_num_threads(1)
    >>> weft.get_num_threads()
    1
    >>> weft.set_num_threads(before)
    """
    native.set_num_threads(count)
