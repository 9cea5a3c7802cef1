"""A Python process that imports everything once, and forks a child for each program, so that the
imports, which take seconds, are done only once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

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

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.pipe.unlink()
