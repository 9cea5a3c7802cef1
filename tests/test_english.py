"""The text is plain, modern English: none of the words and turns that once made it read as
translated, and no first line of a file that is a riddle."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each with what to write instead
DROPPED = {
    r"lest": "so that ... not",
    r"anew": "again",
    r"beforehand": "in advance",
    r"meanwhile": "at the same time",
    r"of whom|whereof|thereof|therein": "whose, of it, in it",
    r"for ever": "forever, without end",
    r"nor (?:would|does|do|is|can) \w+": "a whole sentence with not",
    r"as all do": "say who does what",
    r"(?:is|are|was|be) told": "receives, is given, knows",
    r"what it is told|told apart": "what it receives; distinguished",
    r"must see": "should see",
    r"is slower so": "is slower in this case",
    r"one row an op|a folder a class|a thread a core|a row an op|a line an op": "per",
}
# Names that say nothing of what they hold or do
EMPTY_NAMES = {"told", "spot", "apart", "going_on", "ours", "settled", "held", "theirs"}
THIS = Path(__file__).name


def texts():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.py", "*.md"], cwd=ROOT, capture_output=True, text=True
    )
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    paths = [ROOT / name for name in names if name] or [*ROOT.rglob("*.py"), *ROOT.glob("*.md")]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in paths
        if path.exists() and path.name != THIS
    }


TEXTS = texts()


def test_there_is_text_to_read():
    assert len(TEXTS) > 300


@pytest.mark.parametrize("words", DROPPED)
def test_no_text_uses_what_reads_as_translated(words):
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in TEXTS.items()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(rf"\b(?:{words})\b", line, re.IGNORECASE)
    ]
    assert not found, f"write: {DROPPED[words]}"


def names_given_in(source: str) -> set[str]:
    """Every name that a file assigns, defines or takes as an argument."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
    return names


def test_names_say_what_they_hold_or_do():
    found = {
        name: empty
        for name, text in TEXTS.items()
        if name.endswith(".py") and not name.startswith("tests/")
        if (empty := names_given_in(text) & EMPTY_NAMES)
    }
    assert not found


# The term that people search for, in the first paragraph of the file where the thing lives
TERMS = {
    "engine/tensor.py": "Tensor",
    "engine/walk.py": "backward",
    "nn/winograd.py": "Winograd convolution",
    "nn/norm.py": "Layer norm",
    "nn/group_norm.py": "Group norm",
    "nn/batch_norm.py": "Batch norm",
    "nn/activation.py": "GELU",
    "nn/spectral_norm.py": "Spectral norm",
    "sequence/rnn.py": "RNN",
    "sequence/lstm.py": "LSTM",
    "sequence/gru.py": "GRU",
    "sequence/align.py": "Bahdanau",
    "sequence/seq2seq.py": "Seq2Seq|Sequence.to.sequence",
    "sequence/decode.py": "Beam search",
    "sequence/attention.py": "dot-product attention",
    "sequence/blockwise.py": "FlashAttention",
    "sequence/encoder_decoder.py": "Transformer",
    "sequence/gpt.py": "GPT",
    "sequence/text_encoder.py": "Text encoder",
    "vision/vit.py": "Vision Transformer",
    "adversarial/gan.py": "Generative adversarial networks|GAN",
    "adversarial/networks.py": "DCGAN",
    "adversarial/plane.py": "PacGAN",
    "adversarial/unrolled.py": "Unrolled GAN",
    "likelihood/units.py": "Bits per dimension",
    "likelihood/baselines.py": "Chow-Liu",
    "likelihood/flow.py": "RealNVP",
    "likelihood/glow.py": "Glow",
    "diffusion/flow_matching.py": "Rectified flow",
    "likelihood/vae.py": "VAE",
    "diffusion/cross_entropy.py": "theorem 1 of LSGM",
    "diffusion/mixed_score.py": "Mixed score",
    "diffusion/latent.py": "Latent diffusion",
    "diffusion/cross_attention.py": "Cross-attention",
    "diffusion/text_to_image.py": "Text to image",
    "nn/discretized.py": "Discretised logistic",
    "likelihood/vq_vae.py": "VQ-VAE",
    "likelihood/dalle.py": "DALL-E",
    "likelihood/ais.py": "Annealed importance sampling",
    "diffusion/score.py": "Score matching",
    "diffusion/denoising.py": "DDPM",
    "diffusion/samplers.py": "DDIM",
    "diffusion/langevin.py": "Langevin",
    "diffusion/sde.py": "Score SDE",
    "diffusion/ode.py": "Probability flow ODE",
    "diffusion/edm.py": "EDM",
    "diffusion/guidance.py": "Classifier-free guidance",
    "diffusion/inpaint.py": "RePaint",
    "diffusion/tweedie.py": "Tweedie",
    "diffusion/unet.py": "U-Net",
    "diffusion/dit.py": "DiT",
    "diffusion/video_dit.py": "VideoDiT",
    "diffusion/video.py": "Video diffusion",
    "optim/adam.py": "Adam",
    "optim/sgd.py": "SGD",
    "gpu/capture.py": "CUDA graph",
    "gpu/conv_tiles.py": "implicit GEMM",
}


@pytest.mark.parametrize("name", TERMS)
def test_a_file_begins_with_the_term_that_people_search_for(name):
    first = (ast.get_docstring(ast.parse(TEXTS[f"tinycv/{name}"])) or "").split("\n\n")[0]
    assert re.search(TERMS[name], first, re.IGNORECASE), first


def test_winograd_says_that_it_saves_multiplications_in_its_first_line():
    first = (ast.get_docstring(ast.parse(TEXTS["tinycv/nn/winograd.py"])) or "").splitlines()[0]
    assert "multiplications" in first


@pytest.mark.parametrize(
    "folder",
    ["engine", "nn", "optim", "training", "sequence", "vision", "adversarial"]
    + ["likelihood", "diffusion", "gpu", "data", "show"],
)
def test_a_folders_map_names_each_of_its_files(folder):
    text = ast.get_docstring(ast.parse(TEXTS[f"tinycv/{folder}/__init__.py"])) or ""
    files = {path.name for path in (ROOT / "tinycv" / folder).glob("*.py")} - {"__init__.py"}
    assert not [name for name in sorted(files) if name not in text]
