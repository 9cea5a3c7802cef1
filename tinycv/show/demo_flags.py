"""The command line of a demo: its flags, and which of them it refuses. Used by demo.py.

    parser = flag_parser(name, story, ...)     the flags that all demos have, and those of this one
    given = read_flags(parser, arguments)      unknown flags end the run

Whatever cannot be done ends the run with one line and exit status 2, before anything is trained.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from tinycv.data import inputs
from tinycv.data.atomic import obstacle
from tinycv.engine import backend
from tinycv.training import pretrained as shipped
from tinycv.training.groups import Group
from tinycv.training.parallel import CARRIERS

WITH_HALF = "06_vit", "17_diffusion_digits"
WITH_PARALLEL = ("06_vit",)
WITH_PRETRAINED = (
    "05_transformer",
    "06_vit",
    "09_gan_digits",
    "10_face_arithmetic",
    "17_diffusion_digits",
    "22_autoregressive",
    "24_text_to_image",
)


def flag_parser(
    name: str,
    story: str,
    half: bool,
    full: bool,
    parallel: bool,
    pretrained: bool,
    flags: dict[str, str],
) -> argparse.ArgumentParser:
    """A parser of the flags that all demos have, and of those that this demo adds."""
    parser = argparse.ArgumentParser(
        prog=f"demos/full/{name}.py" if full else f"demos/{name}.py",
        description=ascii_only(story),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        action="store_true",
        help="seconds, to see that it works; the figures mean nothing",
    )
    size.add_argument(
        "--full", action="store_true", help="the whole protocol: up to two hours on two cores"
    )
    parser.add_argument("--device", default="cpu", help="cpu, gpu, gpu:1 or auto (default: cpu)")
    in_halves = "train in float16, with float32 master weights: for a GPU"
    parser.add_argument(
        "--half", action="store_true", help=in_halves if half else argparse.SUPPRESS
    )
    sharing = "how several workers share each batch (training/parallel.py)"
    parser.add_argument(
        "--parallel", choices=[*CARRIERS], help=sharing if parallel else argparse.SUPPRESS
    )
    reading = "train nothing: read the weights that ship, or those of FILE (training/pretrained.py)"
    parser.add_argument(
        "--pretrained",
        nargs="?",
        const="",
        metavar="FILE",
        help=reading if pretrained else argparse.SUPPRESS,
    )
    parser.add_argument("--seed", type=int, help="of all random numbers (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder for the picture and the figures"
    )
    for flag, meaning in flags.items():
        parser.add_argument(f"--{flag}", help=meaning)
    return parser


def read_flags(
    parser: argparse.ArgumentParser, arguments: list[str] | None, full: bool
) -> argparse.Namespace:
    """The flags on the command line, or in ``arguments``. full: the script is a protocol."""
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        name = Path(parser.prog).stem
        of_protocol = f"{name} --full: the whole protocol does not take"
        parser.error(f"{of_protocol if full else 'unrecognized arguments:'} {' '.join(unknown)}")
    return given


def weights_of(
    parser: argparse.ArgumentParser, given: argparse.Namespace, ships: bool
) -> shipped.Weights | None:
    """The weights that --pretrained names, or None without this flag. The run ends, with one line,
    where they cannot be used. A seed that is not given becomes that of the weights, or 0."""
    if given.pretrained is None:
        given.seed = 0 if given.seed is None else given.seed
        return None
    name = Path(parser.prog).stem
    if not ships:
        can = ", ".join(WITH_PRETRAINED)
        parser.exit(2, f"{parser.prog} trains all that it shows; --pretrained is a flag of {can}\n")
    if given.full or given.half or given.parallel:
        parser.exit(
            2, "--pretrained trains nothing; it does not go with --full, --half or --parallel\n"
        )
    try:
        weights = shipped.read(given.pretrained or name)
    except (ValueError, OSError) as error:
        parser.exit(2, f"--pretrained: {error}\n")
    seed = weights.record["seed"]
    if weights.record["demo"] != name:
        parser.exit(2, f"--pretrained: {weights} is of the demo {weights.record['demo']}\n")
    if given.seed not in (None, seed):
        parser.exit(
            2,
            f"--seed {given.seed}: the weights of {weights} are of seed {seed}, and another seed "
            "would test them on what they have learned from; leave --seed out\n",
        )
    given.seed = seed
    return weights


def refuse_what_this_demo_lacks(
    parser: argparse.ArgumentParser, given: argparse.Namespace, half: bool, parallel: bool
) -> None:
    """End the run if a flag has a value that cannot be used, or belongs to other demos."""
    name = Path(parser.prog).stem
    if not 0 <= given.seed < 2**63:
        parser.exit(
            2, f"--seed {given.seed}: it must be a whole number, at least 0 and below 2^63\n"
        )
    if given.half and not half:
        can = " and ".join(WITH_HALF)
        parser.exit(2, f"demos/{name}.py trains in float32 alone; --half is a flag of {can}\n")
    if given.parallel and (not parallel or given.half):
        why = "with --half, one worker trains" if parallel else "one worker trains"
        parser.exit(
            2,
            f"demos/{name}.py: {why}; --parallel is a flag of {' and '.join(WITH_PARALLEL)}, "
            "in float32\n",
        )
    problem = obstacle(given.out / f"{name}.json")
    if problem:
        parser.exit(2, f"--out {given.out}: nothing can be written there: {problem}\n")


def group_and_device(
    parser: argparse.ArgumentParser, given: argparse.Namespace
) -> tuple[Group | None, str]:
    """The workers of --parallel, or None, and the device on which this process computes."""
    try:
        group: Group | None = CARRIERS[given.parallel]() if given.parallel else None
        device = given.device if group is None else group.place(given.device)
        return group, backend.resolve(device or "cpu")
    except (backend.GpuUnavailable, ImportError, RuntimeError, ValueError) as error:
        parser.exit(2, f"{error}\n")


def ascii_only(text: str) -> str:
    """The text for consoles that print only ASCII: other characters are replaced, and a word in
    another script that stands in parentheses is left out."""
    text = inputs.text(text, "ascii_only: text")
    text = re.sub(r" \([^\x00-\x7f]+\)", "", text)
    return text.replace("·", "-").encode("ascii", "replace").decode()
