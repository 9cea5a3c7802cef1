"""python -m demos exercise                list the exercises, in the lecture's order
python -m demos exercise NAME           write out/exercises/NAME.py, with a blank for the answer
python -m demos exercise check NAME     check that file, and say in words what is wrong

--out FOLDER: another folder than out/exercises. The exit status of check is 0 if the exercise is
solved, 1 if it is not, and 2 if the command is wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from difflib import get_close_matches
from pathlib import Path

from demos.exercises import ORDER

SECONDS = 30


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        "python -m demos exercise", description=__doc__.split("\n\n")[0]
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("words", nargs="*", metavar="NAME", help="an exercise, or: check NAME")
    parser.add_argument("--out", default="out/exercises", metavar="FOLDER")
    options = parser.parse_args(arguments)
    words, folder = options.words, Path(options.out)
    if not words:
        print(listing(folder))
        return 0
    checking = words[0] == "check"
    names = words[1:] if checking else words
    if len(names) != 1:
        print("name one exercise: python -m demos exercise check tanh", file=sys.stderr)
        return 2
    (name,) = names
    if name not in ORDER:
        print(no_exercise(name), file=sys.stderr)
        return 2
    return check_file(name, folder) if checking else write(name, folder)


def no_exercise(name: str) -> str:
    """The sentence for a name that no exercise has."""
    known = {word.replace("_", ""): word for word in ORDER}
    typed = "".join(filter(str.isalnum, name.lower()))
    near = [known[word] for word in get_close_matches(typed, known, n=3, cutoff=0.5)]
    near += [word for key, word in known.items() if typed in key and word not in near and typed]
    if near:
        return f"no exercise is called {name!a}; near it: {', '.join(near)}"
    return f"no exercise is called {name!a}; there are: {', '.join(ORDER)}"


def listing(folder: Path) -> str:
    """All exercises with their titles; a star where the learner has a file."""
    from demos.exercises.exercise import load

    lines = []
    for i, name in enumerate(ORDER, 1):
        begun = "*" if path_of(name, folder).exists() else " "
        lines.append(f"{i:>2} {begun} {name:<20} {load(name).title}")
    commands = (__doc__ or "").split("\n\n")[0]
    star = f"* you have a file for this exercise in {folder.as_posix()}/"
    return "\n".join([*lines, "", star, "", commands])


def path_of(name: str, folder: Path) -> Path:
    """The learner's file."""
    return folder / f"{name}.py"


def write(name: str, folder: Path) -> int:
    """Write the blank, unless the learner has a file already."""
    from demos.exercises.exercise import load

    path, blank = path_of(name, folder), load(name).blank()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"--out {folder.as_posix()}: no folder can be made there ({error.strerror})")
        return 1
    try:
        # "x": never overwrite
        with path.open("x", encoding="ascii", newline="\n") as file:
            file.write(blank)
    except FileExistsError:
        print(
            f"{path.as_posix()} exists already and was left as it is, since it may hold your work. "
            "For a fresh one, rename or delete that file and run this command again."
        )
        return 1
    print(f"{path.as_posix()} is ready. Open it in an editor, fill in the blank, and run")
    print(f"    python -m demos exercise check {name}{elsewhere(folder)}")
    return 0


def elsewhere(folder: Path) -> str:
    """The option that a command needs for another folder than the usual one."""
    if folder == Path("out/exercises"):
        return ""
    text = folder.as_posix()
    return f' --out "{text}"' if " " in text else f" --out {text}"


def check_file(name: str, folder: Path, seconds: float = SECONDS) -> int:
    """Check the learner's file in a process of its own, which is stopped if it hangs."""
    path = path_of(name, folder)
    if not path.is_file():
        command = f"python -m demos exercise {name}{elsewhere(folder)}"
        print(f"there is no {path.as_posix()} yet; write it with: {command}")
        return 1
    child = [sys.executable, "-m", "demos.exercises.command", name, str(path)]
    try:
        # The learner's code gets no keyboard: input() would wait for it.
        done = subprocess.run(child, stdin=subprocess.DEVNULL, timeout=seconds)
    except subprocess.TimeoutExpired:
        print(
            f"Not yet: {name}.\nThe check did not end within {seconds:g} seconds, so it was "
            "stopped: look for a loop that never ends. If there is none, this computer is busy "
            "with other work: check again later."
        )
        return 1
    if done.returncode not in (0, 1):
        print(f"Not yet: {name}.\nPython itself stopped, with status {done.returncode}.")
    return 0 if done.returncode == 0 else 1


def check_here(name: str, path: Path) -> int:
    """Check the learner's file in this process, and print the verdict."""
    from demos.exercises.diagnose import check
    from demos.exercises.exercise import load

    exercise = load(name)
    verdict = check(exercise, path.read_bytes(), path.as_posix())
    print(verdict.text)
    if verdict.solved:
        print(f"Compare it with {exercise.read}")
        print(f"Next: {following(name)}")
    return 0 if verdict.solved else 1


def following(name: str) -> str:
    """The command that writes the next exercise."""
    after = ORDER[ORDER.index(name) + 1 :]
    return f"python -m demos exercise {after[0]}" if after else "that was the last one."


if __name__ == "__main__":
    sys.exit(check_here(sys.argv[1], Path(sys.argv[2])))
