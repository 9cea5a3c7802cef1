"""python -m demos.readme            writes the README's tables from what was measured
python -m demos.readme --check    says whether they are up to date (the tests ask this)

Between  <!-- NAME -->  and  <!-- /NAME -->  the README holds what the function NAME here makes of the files: line
counts from the source, figures from demos/gallery/*.json and benchmarks/results/*.json. Nothing there is typed.
"""

import json
import re
import sys
from pathlib import Path

from tinycv.demo import ascii_only

ROOT = Path(__file__).parent.parent
READING = [
    ("tinycv/engine/tensor.py", "a Tensor is an array that remembers how it was computed"),
    ("tinycv/engine/walk.py", "the walk back along that memory: backward, grad, vjp, hvp"),
    ("tinycv/engine/ops.py", "the derivative table: every op on one row"),
    ("tinycv/engine/record.py", "how a row becomes a function that records"),
    ("tinycv/engine/fused.py", "the pair: a definition to read, a kernel to run"),
    ("tinycv/nn/module.py", "how a network finds its parameters"),
    ("tinycv/nn/linear.py", "weighted sums, and embeddings"),
    ("tinycv/nn/activation.py", "softmax, GELU and the like"),
    ("tinycv/nn/norm.py", "layer and group normalisation"),
    ("tinycv/nn/losses.py", "cross-entropy, label smoothing, binary cross-entropy"),
    ("tinycv/nn/conv.py", "convolution, and its transpose"),
    ("tinycv/nn/batch_norm.py", "batch normalisation, also of a batch in parts"),
    ("tinycv/sequence/lstm.py", "the gates of an LSTM"),
    ("tinycv/sequence/attention.py", "scaled dot-product and multi-head attention"),
    ("tinycv/sequence/blockwise.py", "attention without its N x N matrix"),
    ("tinycv/sequence/transformer.py", "the encoder block"),
    ("tinycv/vision/vit.py", "the Vision Transformer"),
    ("tinycv/optim.py", "SGD, Adam, AdamW"),
    ("tinycv/engine/recompute.py", "time for memory: compute again instead of keeping"),
    ("tinycv/parallel.py", "one batch, all cores"),
    ("tinycv/train.py", "one training loop, resumed bit for bit"),
]


def reading() -> str:
    rows = [f"| {i} | [{path}]({path}) | {count_lines(path)} | {what} |" for i, (path, what) in enumerate(READING, 1)]
    return "\n".join(["| | file | lines | what you learn there |", "|---|---|---|---|", *rows])


def figures() -> str:
    """The measured figures of every demo in the gallery."""
    rows = []
    for path in sorted((ROOT / "demos/gallery").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        name, size = record["demo"], record["size"]
        command = f"`python demos/{name}.py{' --full' if size == 'full' else ''}`"
        for i, row in enumerate(record["rows"]):
            value = row["value"]
            shown = ", ".join(f"{v:.4g}" for v in value) if isinstance(value, list) else f"{value:.5g}"
            rows.append(f"| {command if i == 0 else ''} | {row['metric']} | {shown} | {row['target']} "
                        f"| {row['reference']} | {duration(record['seconds']) if i == 0 else ''} |")
    head = ["| command | figure | measured | target | for comparison | took |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def speed() -> str:
    """Models and ops beside what one would use instead, with the machine; and what bounds LSTM and convolution."""
    from benchmarks import bounds, report
    models, ops, bound = (json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))
                          for name in ("models", "ops", "bounds"))
    return "\n".join([report.readme_tables(models, ops), "", bounds.table(bound)])


def count_lines(path: str) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def renewed(text: str) -> str:
    """The README with every block made anew."""
    for block in (reading, figures, speed):
        name, made = block.__name__, block()
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            sys.exit(f"the README has no block {name!r}")
        text = pattern.sub(lambda m, made=made: m[1] + made + "\n" + m[2], text)
    return text


def main(arguments: list[str]) -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    new = renewed(text)
    if "--check" in arguments:
        sys.exit(None if new == text else "README.md is not up to date: run  python -m demos.readme")
    readme.write_text(new, encoding="utf-8")
    print(ascii_only("README.md is up to date"))


if __name__ == "__main__":
    main(sys.argv[1:])
