"""Connections between processes: ``Link``, through which Python objects are sent, and ``Worker``, a
worker process as the process that started it sees it.

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
MOST_READ = 1 << 15  # bytes that are read at once: more than most messages have


class Job(NamedTuple):
    """What is sent to a worker for one batch."""

    number: int  # that of the function
    function: bytes | None  # its bytes; None if the worker has kept them
    part: list  # for each array of the shard: its place in shared memory, and what it is
    weight: float | None  # of the shard's loss; None in ``map``
    output: tuple[int, int]  # where the results go: their offset, and how many bytes fit there
    exchange: tuple[int, int, int]  # shards, offset and size of an Exchange (shared_memory.py)
    # settings of the calling process that hold in the shard too
    streams: Any  # of random numbers
    mode: Any  # no_grad, debug
    floating_errors: Any  # np.errstate
    shard_weight: float | None  # the weight that layers see (shards.Member.weight)


class Link:
    """One end of a connection between two processes, through which Python objects are sent.

    A message is its length, in 8 bytes, and then the pickled objects. A length of 0 is no message:
    it only wakes the other process.
    looks: how often to look for a message before sleeping until there is one.
    """

    LENGTH = Struct("=Q")

    def __init__(self, end: socket.socket, looks: int):
        self.socket, self.looks = end, looks
        self.poll = select.poll()
        self.poll.register(end, select.POLLIN)
        self.unread = bytearray()  # what has arrived of the next messages

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
            (length,) = self.LENGTH.unpack(self._read(self.LENGTH.size))
        return pickle.loads(self._read(length))

    def _read(self, length: int) -> bytearray:
        while len(self.unread) < length:
            wait_for(self.poll, self.looks)
            data = self.socket.recv(MOST_READ)
            if not data:
                raise EOFError
            self.unread += data
        found = self.unread[:length]
        del self.unread[:length]
        return found


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
        self.sent = 0  # how many functions have been sent
        self.capacity = 0  # bytes to reserve for its results of ``map``
        self.ended: str | None = None  # how it ended, in words

    def number_of(self, function: bytes) -> tuple[int, bytes | None]:
        """The number under which the worker keeps a function, and its bytes if they are new."""
        number = self.functions.get(function)
        if number is not None:
            return number, None
        number = self.sent % KEPT  # replaces the oldest one
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
    """How a process ended, by its status from ``os.waitpid``."""
    code = os.waitstatus_to_exitcode(status)
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
