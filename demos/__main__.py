"""python -m demos                    lists the demos with their minutes
python -m demos all --quick         runs them all, with the flags given
python -m demos 06 --seed 1         runs one, by its number
python -m demos exercise            lists exercises that check your answers
python -m demos site                builds the site (HTML) in out/site
python -m demos notebooks           writes the demos as notebooks to out/notebooks
"""

import subprocess
import sys
from pathlib import Path

from tinycv.show.demo_flags import ascii_only

DEMOS = sorted(Path(__file__).parent.glob("[0-9][0-9]_*.py"))


def headline(path: Path) -> str:
    """The question of a demo, and below it the command and its minutes."""
    question, command = path.read_text(encoding="utf-8").splitlines()[:2]
    return ascii_only(question.strip('"') + "\n     " + command)


def main(arguments: list[str]) -> int:
    if not arguments:
        print("\n".join(headline(path) for path in DEMOS) + "\n\n" + __doc__)
        return 0
    if arguments[0] == "exercise":
        from demos.exercises.command import main as exercise

        return exercise(arguments[1:])
    if arguments[0] in ("site", "notebooks"):
        from demos.site.build import main as build

        return build(arguments)
    chosen = [
        p
        for p in DEMOS
        if arguments[0] == "all" or p.stem.split("_")[0] == arguments[0] or p.stem == arguments[0]
    ]
    if not chosen:
        print(
            f"no demo is called {arguments[0]!r}; there are: {', '.join(p.stem for p in DEMOS)}",
            file=sys.stderr,
        )
        return 2
    failed = [
        p.stem
        for p in chosen
        if subprocess.run([sys.executable, str(p), *arguments[1:]]).returncode
    ]
    print(
        f"{len(chosen) - len(failed)} of {len(chosen)} demos ran"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
