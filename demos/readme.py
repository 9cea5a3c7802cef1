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
RESULTS = "benchmarks/results/{}.json"
READING = [
    ("tinycv/engine/tensor.py", "a Tensor is an array that remembers how it was computed"),
    ("tinycv/engine/walk.py", "the walk back along that memory: backward, grad, vjp, hvp"),
    ("tinycv/engine/ops.py", "the derivative table: every op on one row"),
    ("tinycv/engine/record.py", "how a row becomes a function that records"),
    ("tinycv/engine/fused.py", "the pair: a definition to read, a kernel to run"),
    ("tinycv/nn/module.py", "how a network finds its parameters"),
    ("tinycv/nn/linear.py", "weighted sums, and embeddings"),
    ("tinycv/nn/activation.py", "softmax, GELU, SiLU"),
    ("tinycv/nn/norm.py", "layer norm and group norm; batch_norm.py is beside it"),
    ("tinycv/nn/losses.py", "cross-entropy, label smoothing, two classes"),
    ("tinycv/nn/conv.py", "convolution, and its transpose"),
    ("tinycv/nn/winograd.py", "the same with fewer products, and three small matrices"),
    ("tinycv/sequence/rnn.py", "one matrix carries what is remembered, and forgets it"),
    ("tinycv/sequence/lstm.py", "a memory that is written and read step by step"),
    ("tinycv/sequence/gru.py", "the same with two gates"),
    ("tinycv/sequence/recurrent.py", "layers, directions, and sequences of several lengths"),
    ("tinycv/sequence/align.py", "a decoder that looks back: additive, dot and general attention"),
    ("tinycv/sequence/seq2seq.py", "from one sequence to another: encoder, decoder, teacher forcing"),
    ("tinycv/sequence/decode.py", "greedy and beam search"),
    ("tinycv/sequence/attention.py", "scaled dot-product and multi-head attention, keys and values kept"),
    ("tinycv/sequence/blockwise.py", "the same for thousands of tokens, without the N x N matrix"),
    ("tinycv/sequence/positions.py", "where a token stands: clocks of many speeds, or a table"),
    ("tinycv/sequence/transformer.py", "encoder and decoder blocks, pre- and post-norm, their stacks"),
    ("tinycv/sequence/encoder_decoder.py", "the Transformer entire"),
    ("tinycv/sequence/gpt.py", "a decoder alone"),
    ("tinycv/vision/vit.py", "the Vision Transformer"),
    ("tinycv/optim.py", "SGD, Adam, AdamW"),
    ("tinycv/train.py", "one training loop, resumed bit for bit"),
    ("tinycv/engine/recompute.py", "less memory: what is kept no longer is computed again"),
    ("tinycv/engine/shards.py", "one batch by several threads: how they exchange sums"),
    ("tinycv/parallel.py", "all cores at one batch"),
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
    """Whole models, how they grow if that was measured, and the ops that lose: with the machine."""
    from benchmarks.tables import readme_tables
    scale = ROOT / RESULTS.format("scale")
    return readme_tables(measured("models"), measured("ops"), measured("scale") if scale.exists() else None)


def bounds() -> str:
    """What LSTM and convolution spend their time on, shape by shape."""
    from benchmarks.bounds import table
    name = RESULTS.format("bounds")
    if not (ROOT / name).exists():
        sys.exit(f"{name} is not there: run  python -m benchmarks bounds --out {name}")
    return table(json.loads((ROOT / name).read_text(encoding="utf-8")))


def measured(suite: str) -> dict:
    """The committed record of a suite of benchmarks."""
    name = RESULTS.format(suite)
    if not (ROOT / name).exists():
        sys.exit(f"{name} is not there: run  python -m benchmarks run {suite} --out {name}")
    record = json.loads((ROOT / name).read_text(encoding="utf-8"))
    if record["quick"]:
        sys.exit(f"{name} is from a quick run, whose figures mean nothing: run it again without --quick")
    return record


def count_lines(path: str) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def renewed(text: str) -> str:
    """The README with every block made anew."""
    for block in (reading, figures, speed, bounds):
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
