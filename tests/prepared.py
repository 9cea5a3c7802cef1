"""A Python process that imports everything once, and forks a child for each program, so that the
imports, which take seconds, are done only once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

# the child leaves the loop and runs its program at the top level, as a separate process would
SERVE = """
import json, os, signal, sys
for line in sys.stdin:
    program, out, environment = json.loads(line)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)                                # one that hangs is ended
        file = os.open(out, os.O_WRONLY)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.environ.update(environment)
        break
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    sys.exit()
exec(program)
"""

# a start for programs that fork while a group of workers is open
FORKING = """
import multiprocessing, os, signal, sys, threading, time
import numpy as np
import tinycv
from tinycv import Tensor, nn, parallel
from tinycv.engine import backward, shards

def in_child(work):
    \"\"\"The exit status of a forked child that does the work; an alarm ends one that hangs.\"\"\"
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            work()
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

layer, x = nn.Linear(3, 2), np.ones((6, 3), "f")
def batch():
    layer.zero_grad()
    group.backward(lambda x: (layer(x) ** 2).mean(), x)
    assert layer.weight.grad is not None
    assert group.map(layer, x).shape == (6, 2)
"""


class Prepared:
    """start: the source code that all programs share. One program runs at a time."""

    def __init__(self, start: str, folder):
        self.pipe = folder / "out"
        os.mkfifo(self.pipe)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", start + SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, program: str, **environment: str):
        """(the child's pid, a file with its output, which ends when the child ends)."""
        self.process.stdin.write(json.dumps([program, str(self.pipe), environment]) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        return pid, os.fdopen(os.open(self.pipe, os.O_RDONLY))

    def ended(self) -> int:
        """Wait for the child. Returns its exit code, -9 if it was killed."""
        return int(self.process.stdout.readline())

    def run(self, program: str, **environment: str) -> tuple[int, str]:
        """The exit code of a program, and what it and its children print."""
        with self.begin(program, **environment)[1] as said:
            text = said.read()
        return self.ended(), text

    def says(self, body: str, code: int = 0) -> str:
        """What a program prints, which must end with this exit code."""
        found, said = self.run(textwrap.dedent(body))
        assert found == code, said
        return said

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.pipe.unlink()
