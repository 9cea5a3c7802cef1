"""A worker process, as the process that started it sees it: the connection through which Python
objects are sent, and the functions that the worker keeps.

Read first: processes.py.  Read next: worker_side.py, what the worker does with what it is sent.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
from struct import Struct
from typing import Any, NamedTuple

KEPT = 16  # functions that a worker keeps


class Job(NamedTuple):
    """What is sent to a worker for one batch.

    number: that of the function, of which the worker has the bytes unless they are in ``function``.
    part: the place of each array in shared memory, and what it is. weight: the weight of the loss
    in a backward; None in ``map``. output: the offset of the results, and how many bytes fit there.
    The others are settings of the calling process that hold in the shard.
    """

    number: int
    function: bytes | None
    part: list
    weight: float | None
    output: tuple[int, int]
    streams: Any
    mode: Any
    floating_errors: Any
    shard_weight: float | None


class Link:
    """One end of a connection between two processes, through which Python objects are sent."""

    LENGTH = Struct("=Q")

    def __init__(self, end: socket.socket, looks: int):
        self.socket, self.looks = end, looks
        self.poll = select.poll()
        self.poll.register(end, select.POLLIN)

    def send(self, *message: Any) -> None:
        data = pickle.dumps(message, 5)
        self.socket.sendall(self.LENGTH.pack(len(data)) + data)

    def wake(self) -> None:
        """Wake the other process, if it sleeps, because a message will follow soon."""
        self.socket.sendall(self.LENGTH.pack(0))

    def receive(self) -> Any:
        """The next message. EOFError if the other process has ended."""
        length = 0
        while not length:
            wait_for(self.poll, self.looks)
            (length,) = self.LENGTH.unpack(self._read(self.LENGTH.size))
        return pickle.loads(self._read(length))

    def _read(self, length: int) -> bytes:
        data = self.socket.recv(length)
        if len(data) == length:
            return data
        parts = [data]
        while data and len(data) < length:
            length -= len(data)
            data = self.socket.recv(min(length, 1 << 20))
            parts.append(data)
        if not data:
            raise EOFError
        return b"".join(parts)


def wait_for(poll: Any, looks: int) -> list:
    """The connections from which something can be read: look often, then sleep until there is
    one."""
    for _ in range(looks):
        found = poll.poll(0)
        if found:
            return found
    return poll.poll()


class Worker:
    """A worker, as this process sees it."""

    def __init__(self, rank: int, pid: int, link: Link):
        self.rank, self.pid, self.link = rank, pid, link
        self.functions: dict[bytes, int] = {}  # those that the worker keeps, and their numbers
        self.sent = 0
        self.capacity = 0  # bytes of the last results of ``map``
        self.ended: str | None = None

    def number_of(self, function: bytes) -> tuple[int, bytes | None]:
        """The number under which the worker keeps a function, and its bytes if they are new."""
        number = self.functions.get(function)
        if number is not None:
            return number, None
        number = self.sent % KEPT
        self.functions = {f: n for f, n in self.functions.items() if n != number}
        self.functions[function], self.sent = number, self.sent + 1
        return number, function

    def kill(self) -> str:
        """End the worker at once, unless it has ended. Returns how it ended, in words."""
        if self.ended is None:
            self.link.socket.close()
            try:
                # A worker that has ended keeps its number until waitpid, so this kills no other.
                os.kill(self.pid, signal.SIGKILL)
                self.ended = in_words(os.waitpid(self.pid, 0)[1])
            except (ProcessLookupError, ChildProcessError):
                self.ended = "ended in an unknown way"  # another part of the program waited for it
        return self.ended


def in_words(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
