"""python -m demos.readme            writes the tables of the three READMEs from what was measured
python -m demos.readme --check    says whether they are up to date (the tests ask this)

Between  <!-- NAME -->  and  <!-- /NAME -->  a page holds what the function NAME here makes of the
files: reading order from the source, figures from demos/gallery/*.json and
benchmarks/results/*.json. Nothing there is typed.
"""

import ast
import json
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path

from tinycv.show.demo import ascii_only

ROOT = Path(__file__).parent.parent
RESULTS = "benchmarks/results/{}.json"
# chapters, and their files in the order in which they read best
READING = {
    "The engine: a Tensor remembers, the walk back differentiates": (
        "engine",
        "tensor walk backward ops record fused",
    ),
    "What networks share": (
        "nn",
        "module linear activation softmax norm batch_norm losses conv winograd pool spectral_norm "
        "inputs",
    ),
    "How they learn": (
        "optim",
        "sgd adam optimizer schedules clipping averaged ../training/loop ../training/checkpoint "
        "../training/parallel ../engine/shards ../engine/crew ../engine/state ../engine/recompute",
    ),
    "Chapter 1, sequences": (
        "sequence",
        "rnn lstm gru recurrent align seq2seq decode attention blockwise positions "
        "transformer encoder_decoder gpt",
    ),
    "Chapter 2, images read as sentences": (
        "vision",
        "stem vit convnet recipe inside layouts weights classify",
    ),
    "Chapter 3, adversarial: the painter and the teacher": (
        "adversarial",
        "gan turns unrolled networks plane recipe ../show/judge ../show/metrics",
    ),
    "Chapter 5, diffusion: from noise to images": (
        "diffusion",
        "../data/densities ../data/shapes ../data/surfaces schedule tweedie score denoising "
        "samplers langevin sde ode edm guidance inpaint embedding mlp unet dit",
    ),
    "On a GPU": (
        "gpu",
        "../engine/backend ../engine/find_gpu ../engine/dispatch cuda reduce gemm cublas capture "
        "recording activation softmax linear norm norm_strips batch_norm conv_kernel conv_tiles "
        "conv_tiles_kernels losses attention lstm parts adam clipping ../training/half",
    ),
}


def reading() -> str:
    """A table a chapter: what each file says of itself in its first line."""
    parts, i = [], 0
    for title, (folder, names) in READING.items():
        parts += ["", f"**{title}**", "", "| | file | lines | |", "|---|---|---|---|"]
        for name in names.split():
            i, path = i + 1, posixpath.normpath(f"tinycv/{folder}/{name}.py")
            text = (ROOT / path).read_text(encoding="utf-8")
            parts.append(
                f"| {i} | [{path.removeprefix('tinycv/')}]({path}) | {len(text.splitlines())} | "
                f"{summary(text)} |"
            )
    return "\n".join(parts[1:])


def summary(source: str) -> str:
    """The first paragraph of a file's docstring, to the end of its first line's sentence."""
    paragraph = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
    first, *more = paragraph.splitlines()
    if more and not first.rstrip().endswith((".", ":", ";")):
        sentence, dot, _ = " ".join(more).partition(". ")
        first = f"{first} {sentence}{dot.strip()}"
    return first.split("   ")[0].strip()


def gallery() -> str:
    """Two demos a row: the picture, the question, how long it took here, and how many of its
    targets it met."""
    cells = []
    for path in sorted((ROOT / "demos").glob("[0-9][0-9]_*.py")):
        found = [
            json.loads(file.read_text(encoding="utf-8"))
            for file in sorted((ROOT / "demos/gallery").glob(f"{path.stem}*.json"))
        ]
        question = (
            path.read_text(encoding="utf-8").splitlines()[0].strip('"').split("   ")[0].strip()
        )
        verdicts = [
            v
            for record in found
            for row in record["rows"]
            if (v := met(row["value"], row["target"])) is not None
        ]
        said = [
            f"**{question}**",
            f"[demos/{path.name}](demos/{path.name})",
            *(f"{record['size']}: {duration(record['seconds'])}" for record in found),
            *([f"targets met: {sum(verdicts)} of {len(verdicts)}"] if verdicts else []),
        ]
        picture = f"demos/gallery/{path.stem}.png"
        shown = (
            f'<a href="{picture}"><img src="{picture}" width="330"></a>'
            if (ROOT / picture).exists()
            else ""
        )
        cells.append(f"{shown} | {'<br>'.join(said)}")
    rows = [
        f"| {' | '.join(cells[i : i + 2])} |" + " | |" * (i + 1 == len(cells))
        for i in range(0, len(cells), 2)
    ]
    return "\n".join(["| | | | |", "|---|---|---|---|", *rows])


def figures() -> str:
    """The measured figures of every demo in the gallery; a target that was missed is bold."""
    rows = []
    for path in sorted((ROOT / "demos/gallery").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        name, size = record["demo"], record["size"]
        command = f"`python demos/{name}.py{' --full' if size == 'full' else ''}`"
        for i, row in enumerate(record["rows"]):
            value = row["value"]
            shown = (
                ", ".join(f"{v:.4g}" for v in value) if isinstance(value, list) else f"{value:.5g}"
            )
            shown = f"**{shown}**" if met(value, row["target"]) is False else shown
            rows.append(
                f"| {command if i == 0 else ''} | {row['metric']} | {shown} | {row['target']} "
                f"| {row['reference']} | {duration(record['seconds']) if i == 0 else ''} |"
            )
    head = [
        "| command | figure | measured | target | for comparison | took |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows])


NUMBER = r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)"
# of a target, and when a value v meets it
FORMS: list[tuple[str, Callable[..., bool]]] = [
    (rf">= *{NUMBER}", lambda v, a: v >= a),
    (rf"<= *{NUMBER}", lambda v, a: v <= a),
    (rf"> *{NUMBER}", lambda v, a: v > a),
    (rf"< *{NUMBER}", lambda v, a: v < a),
    (rf"{NUMBER} \+- {NUMBER}", lambda v, a, b: abs(v - a) <= b),
    (rf"{NUMBER} to {NUMBER}", lambda v, a, b: a <= v <= b),
    (rf"{NUMBER} within {NUMBER} %", lambda v, a, b: abs(v - a) <= b / 100 * abs(a)),
    (rf"within {NUMBER}$", lambda v, a: abs(v) <= a),
    (rf"\|\.\| <= {NUMBER}", lambda v, a: abs(v) <= a),
    (rf"{NUMBER}$", lambda v, a: v == a),
]


def met(value: float | list, target: str) -> bool | None:
    """Does every value meet a target of one of the FORMS, such as ">= 0.99"? None where the target
    is of no such form."""
    for form, holds in FORMS:
        if found := re.match(form, target):
            return all(
                holds(v, *map(float, found.groups()))
                for v in (value if isinstance(value, list) else [value])
            )
    return None


def speed() -> str:
    """Whole models beside what a user would pick instead, with the machine."""
    from benchmarks.tables import models_table

    return models_table(measured("models"))


def ops() -> str:
    """How models grow, and the single ops that lose."""
    from benchmarks.tables import ops_table

    return ops_table(measured("ops"), measured("scale"))


def bounds() -> str:
    """What LSTM and convolution spend their time on, shape by shape."""
    from benchmarks.bounds import table

    name = RESULTS.format("bounds")
    if not (ROOT / name).exists():
        sys.exit(f"{name} is not there: run  python -m benchmarks bounds --out {name}")
    return table(json.loads((ROOT / name).read_text(encoding="utf-8")))


def gpu() -> str:
    """Steps on a GPU beside PyTorch's, and from which batch on it pays."""
    from benchmarks.gpu_tables import gpu_table

    return gpu_table(sessions())


def kernels() -> str:
    """CUDA kernels beside the array calls that they replace."""
    from benchmarks.gpu_tables import kernels_table

    return kernels_table(
        sessions()[0],
        json.loads((ROOT / "benchmarks/results/gpu/conv_tiles.json").read_text("utf-8")),
    )


def sessions() -> list[dict]:
    """The committed records of sessions on a GPU, in their order."""
    return [
        json.loads(file.read_text(encoding="utf-8"))
        for file in sorted((ROOT / "benchmarks/results/gpu").glob("*_[0-9].json"))
    ]


PAGES = {
    "README.md": (reading, gallery, speed, gpu),
    "demos/README.md": (figures,),
    "benchmarks/README.md": (ops, bounds, kernels),
}


def measured(suite: str) -> dict:
    """The committed record of a suite of benchmarks."""
    name = RESULTS.format(suite)
    if not (ROOT / name).exists():
        sys.exit(f"{name} is not there: run  python -m benchmarks run {suite} --out {name}")
    record = json.loads((ROOT / name).read_text(encoding="utf-8"))
    if record["quick"]:
        sys.exit(
            f"{name} is from a quick run, whose figures mean nothing: run it again without --quick"
        )
    return record


def duration(seconds: float) -> str:
    if seconds < 0.95:
        return "under 1 s"
    return f"{seconds:.0f} s" if seconds < 99.5 else f"{seconds / 60:.0f} min"


def renewed(page: str, text: str) -> str:
    """The page with every block made anew."""
    for block in PAGES[page]:
        name, made = block.__name__, block()
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            sys.exit(f"{page} has no block {name!r}")
        text = pattern.sub(lambda m, made=made: m[1] + made + "\n" + m[2], text)
    return text


def main(arguments: list[str]) -> None:
    stale = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        new = renewed(page, text)
        if new != text:
            stale.append(page)
            if "--check" not in arguments:
                (ROOT / page).write_text(new, encoding="utf-8")
    if "--check" in arguments:
        sys.exit(
            f"{', '.join(stale)}: not up to date; run  python -m demos.readme" if stale else None
        )
    print(ascii_only(f"written anew: {', '.join(stale) or 'nothing, all is up to date'}"))


if __name__ == "__main__":
    main(sys.argv[1:])
