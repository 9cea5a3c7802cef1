"""python -m demos.readme            writes the tables of all READMEs from sources and records
python -m demos.readme --check    fails where a table is out of date (the tests run this)

Between  <!-- NAME -->  and  <!-- /NAME -->  a page holds what the function NAME of this file makes:
reading order from the source, figures and minutes from demos/gallery/*.json and
benchmarks/results/*.json. Nothing there is typed. The pages in demos/figures are made as a whole.
"""

import argparse
import ast
import json
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path

from demos.lecture import LECTURE, Slide
from demos.targets import duration, met, records, shown_value, took
from tinycv.show.demo_flags import ascii_only

ROOT = Path(__file__).parent.parent
RESULTS = "benchmarks/results/{}.json"
# Chapters, and their files in the order in which they read best
READING = {
    "The engine: a Tensor remembers, the walk back differentiates": (
        "engine",
        "tensor walk backward ops record fused",
    ),
    "What networks share": (
        "nn",
        "module linear activation softmax norm group_norm batch_norm losses conv masked winograd "
        "conv_few pool instance_norm upsample shuffle padding spectral_norm slerp inputs",
    ),
    "How they learn": (
        "optim",
        "sgd adam optimizer lbfgs line_search objective schedules clipping averaged "
        "../training/loop ../training/checkpoint ../training/pretrained ../training/parallel "
        "../training/groups ../training/threads ../training/processes ../training/workers "
        "../training/links ../training/calling_side ../training/worker_side "
        "../training/shared_memory ../training/sending ../training/user_code "
        "../training/receiving ../training/mpi ../training/messages "
        "../training/packed ../training/nccl ../engine/shards "
        "../engine/crew ../engine/state ../engine/recompute",
    ),
    "Chapter 1, sequences": (
        "sequence",
        "rnn lstm gru recurrent align seq2seq decode attention blockwise positions rotary "
        "transformer encoder_decoder gpt text_encoder",
    ),
    "Chapter 2, images read as sentences": (
        "vision",
        "stem vit tubelets convnet segment recipe attributes inside layouts weights "
        "../data/drawn_digit classify style style_filters vgg adain ../data/sample_photos",
    ),
    "Chapter 3, GANs: a generator against a discriminator": (
        "adversarial",
        "gan turns inputs unrolled networks plane recipe arithmetic ../data/faces spade "
        "../data/scenes ../show/judge ../show/metrics",
    ),
    "Chapter 4, likelihood: models that say how probable an image is": (
        "likelihood",
        "../nn/distributions ../nn/discretized units baselines vae ais flow glow pixel_by_pixel "
        "autoregressive pixelcnn image_gpt ../nn/gumbel ../nn/vector_quantizer vq_vae dalle",
    ),
    "Chapter 5, diffusion: from noise to images": (
        "diffusion",
        "../data/densities ../data/shapes ../data/surfaces schedule tweedie score denoising "
        "samplers bound langevin sde ode flow_matching edm guidance inpaint embedding mlp unet "
        "sample dit cross_entropy mixed_score latent distillation video_dit video "
        "../data/shapes_and_words ../data/tokenizer ../show/rule_judge "
        "cross_attention text_to_image ../nn/contrastive ../vision/clip "
        "../data/balls ../show/ball_parser",
    ),
    "On a GPU": (
        "gpu",
        "../engine/backend ../engine/find_gpu ../engine/dispatch cuda reduce gemm cublas capture "
        "recording activation softmax linear norm norm_strips group_norm batch_norm conv_kernel "
        "conv_tiles conv_tiles_kernels losses attention lstm parts adam clipping ../training/half",
    ),
}


# The three figures that a demo's section shows. A demo that is not listed shows the first three of
# its figures that have a target.
HEADLINES: dict[str, tuple[str, ...]] = {
    "02_rnn_lstm": (
        "adding, 100 steps, LSTM: mean squared error",
        "adding, 100 steps, RNN: mean squared error",
        "gradient at first state / at last, LSTM, trained",
    ),
    "04_attention": (
        "the lecture's sentences, held-out combinations, share right",
        "unseen dates, share right",
        "copied digits of dates, alignment error",
    ),
    "07_vit_maps": (
        "rollout: its share on ink, over ink's share of the image",
        "chance of the right answer, mean while patches go, first: rollout says most",
        "chance of the right answer, mean while patches go, first: most ink",
    ),
    "09_gan_digits": (
        "Frechet distance to held-out digits, as a multiple of the training digits'",
        "precision: share of generated digits that look real (k = 3)",
        "recall: share of real digits that could have been generated (k = 3)",
    ),
    "10_face_arithmetic": (
        "man with glasses - man + woman, mean of 3: share of answers with glasses",
        "man with glasses - man + woman, mean of 3: share of all other attributes kept",
        "a random vector of equal length added: share of answers with glasses",
    ),
    "11_label_to_image": (
        "SPADE: mean IoU of painted scenes, divided by that of real ones",
        "SPADE: uniform maps, share of pixels painted as asked",
        "labels concatenated: largest difference between uniform sky and uniform grass",
    ),
    "12_style_transfer": (
        "Gram distance to the style, fresh filters: the content photo's, divided by the painted "
        "one's",
        "ratio of the painted picture, divided by that of the better control",
        "lowest loss after 100 evaluations: that of Adam, at the best of three rates, divided by "
        "that of L-BFGS",
    ),
    "13_brownian": (
        "growth of the dye's variance per unit of time, divided by 2D",
        "log-likelihood of the ink that came back, minus that of the ink itself, nats",
        "the first distance divided by the second (0: particles return; 1: nothing is remembered)",
    ),
    "15_langevin": (
        "share in the heavy mode, plain, mean of 5 seeds (truth: 0.80)",
        "share in the heavy mode, annealed, mean of 5 seeds (truth: 0.80)",
        "share in the heavy mode, annealed, learned score, mean of 5 seeds (truth: 0.80)",
    ),
    "16_manifold": (
        "Moebius band: median distance from the sheet, divided by the lowest noise level",
        "Moebius band: local dimension of its points, from 20 neighbours",
        "local dimension of real digits, from 20 neighbours, by label 0 to 9",
    ),
    "17_diffusion_digits": (
        "guidance w = 1: share that the judge names as labelled",
        "no guidance: Frechet multiple",
        "distance to the nearest training digit, divided by that of unseen real digits (medians)",
    ),
    "18_sde_likelihood": (
        "eight Gaussians, VP, exact score: mean log-likelihood minus the truth, nats",
        "checkerboard, VP, learned score: mean log-likelihood minus the truth, nats",
        "checkerboard: integral of the learned density over the plane",
    ),
    "23_latent_score": (
        "Frechet multiple, prior N(0, I)",
        "Frechet multiple, two stages (latent diffusion), the same decoder",
        "Frechet multiple, LSGM, trained end to end",
    ),
    "24_text_to_image": (
        "diffusion, w = 0: all right, held out",
        "diffusion, w = 2: all right, held out",
        "GPT, best of 16 by CLIP: all right, held out",
    ),
    "25_video": (
        "plane: velocity error, px per frame",
        "plane: velocity error of a ball that stays",
        "plane: velocity error, faster / as trained",
    ),
    "19_gan_or_diffusion": (
        "mean KL of GAN, divided by that of diffusion",
        "mean KL of GAN, R1, divided by that of diffusion",
        "seconds of sampling: diffusion divided by GAN",
    ),
    "20_vae": (
        "log p(x) of probabilistic PCA minus this ELBO, nats",
        "IWAE-5 over the VAE: nats (L_500)",
        "IWAE-5: active units of 50",
    ),
    "21_flow": (
        "checkerboard, RealNVP: nats above the floor",
        "largest error of the inverse, float64",
        "digits, RealNVP: bits per dimension, test images",
    ),
    "22_autoregressive": (
        "MADE, 8 orders: nats of test digits",
        "gated PixelCNN: nats of test digits",
        "PixelCNN: earlier pixels that a pixel does not see",
    ),
}


def reading() -> str:
    """One table per chapter, with the first sentence of each file; and then, folder by folder, the
    files that the order leaves out.
    """
    parts = []
    ordered = []
    for title in READING:
        parts += ["", f"### {title}", "", "| | file | lines | |", "|---|---|---|---|"]
        for path in chapter_files(title):
            ordered.append(path)
            text = (ROOT / "tinycv" / path).read_text(encoding="utf-8")
            number, lines = len(ordered), len(text.splitlines())
            parts.append(f"| {number} | [{path}]({path}) | {lines} | {summary(text)} |")
    parts += ["", "### The other files", ""]
    for folder in sorted((ROOT / "tinycv").iterdir()):
        links = [
            f"[{path.stem}]({folder.name}/{path.name})"
            for path in sorted(folder.glob("*.py"))
            if f"{folder.name}/{path.name}" not in ordered and path.name != "__init__.py"
        ]
        if links:
            parts.append(f"- [{folder.name}/]({folder.name}/__init__.py): {', '.join(links)}")
    return "\n".join(parts[1:])


def chapter_files(title: str) -> list[str]:
    """The files of a chapter of READING, in order, as paths below tinycv/."""
    folder, names = READING[title]
    return [posixpath.normpath(f"{folder}/{name}.py") for name in names.split()]


def summary(source: str) -> str:
    """The first paragraph of a file's docstring, to the end of its first line's sentence."""
    paragraph = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
    first, *more = paragraph.splitlines()
    if more and not first.rstrip().endswith((".", ":", ";")):
        sentence, dot, _ = " ".join(more).partition(". ")
        first = f"{first} {sentence}{dot.strip()}"
    return first.split("   ")[0].strip()


# ── the lecture's map ────────────────────────────────────────────────────────────────────────────


def lecture() -> str:
    """One row per slide: what to read, what to run, which test holds it to account, and what the
    demo's picture proves."""
    head = ["| slide, and what the picture proves | read | run | test |", "|---|---|---|---|"]
    return "\n".join([*head, *(slide_row(slide, slide.english) for slide in LECTURE)])


def lecture_zh() -> str:
    """The map of the lecture in Chinese, from the same records."""
    head = ["| 幻灯片与图中的结论 | 源码 | 演示 | 测试 |", "|---|---|---|---|"]
    rows = [slide_row(slide, slide.chinese, chinese=True) for slide in LECTURE]
    return "\n".join([*head, *rows])


def slide_row(slide: Slide, name: str, chinese: bool = False) -> str:
    """A row of the map."""
    stem = demo_path(slide.demo).stem
    record = records(stem)["default"]
    files = ", ".join(f"[{Path(file).stem}](tinycv/{file})" for file in slide.files)
    proves = slide.proves_chinese if chinese else slide.proves or finding(name, record["title"])
    seconds = duration(record["seconds"]).replace(" ", "&nbsp;")
    run = f"[{slide.demo}](demos/README.md#{anchor(stem)}), {seconds}"
    test = f"[test]({slide.test})"
    return f"| **{name}**: {proves} | {files} | {run} | {test} |"


def finding(name: str, title: str) -> str:
    """The title of a demo's picture without a short first part that the slide's name has already:
    "Attention: 4 of 4 city names ..." on the slide "Attention (Bahdanau, Luong)".
    """
    term, colon, rest = title.partition(": ")
    is_said = colon and len(term) < 30 and term.split()[0].lower() in name.lower()
    return rest[:1].upper() + rest[1:] if is_said else title


def minutes_06() -> str:
    """How long the README's first command takes."""
    return took(records("06_vit")["default"])


def demo_path(number: str) -> Path:
    """The script of the demo with this number, "06"."""
    (path,) = (ROOT / "demos").glob(f"{number}_*.py")
    return path


def anchor(stem: str) -> str:
    """Where the section of a demo starts in demos/README.md: its heading is the file's name."""
    return stem


# ── demos ────────────────────────────────────────────────────────────────────────────────────────


def gallery() -> str:
    """Three demos per row; each cell holds the picture, the question and the minutes."""
    cells = [gallery_cell(path) for path in demo_scripts()]
    while len(cells) % 3:
        cells.append("")
    rows = [f"| {' | '.join(cells[i : i + 3])} |" for i in range(0, len(cells), 3)]
    return "\n".join(["| | | |", "|---|---|---|", *rows])


def gallery_cell(path: Path) -> str:
    """A demo in the gallery of README.md."""
    picture = f"demos/gallery/{path.stem}.png"
    text = question(path)
    links = [
        f"[{path.stem}.py](demos/{path.name})",
        f"[figures](demos/README.md#{anchor(path.stem)})",
        minutes(path.stem),
    ]
    if (ROOT / f"demos/gallery/{path.stem}.gif").exists():
        links.insert(2, f"[GIF](demos/gallery/{path.stem}.gif)")
    return (
        f'<a href="{picture}"><img src="{picture}" width="260" alt="{path.stem}"></a><br>'
        f"**{text}**<br>{' · '.join(links)}"
    )


def demo_scripts() -> list[Path]:
    """The demos, in their order."""
    return sorted((ROOT / "demos").glob("[0-9][0-9]_*.py"))


def question(path: Path) -> str:
    """The first line of a demo: its number and its question."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.strip('"').split("   ")[0].strip()


def minutes(stem: str) -> str:
    """How long the sizes of a demo took, such as "4 min, full 34 min"."""
    found = records(stem)
    took = [duration(found["default"]["seconds"])]
    if "full" in found:
        took.append(f"full {duration(found['full']['seconds'])}")
    return ", ".join(took)


def sections() -> str:
    """One section per demo: its question, picture, film, story, minutes and three figures."""
    return "\n\n".join(demo_section(path) for path in demo_scripts())


def demo_section(path: Path) -> str:
    """The section of a demo in demos/README.md."""
    stem = path.stem
    found = records(stem)
    story = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n", 3)[3]
    films = [film.name for film in sorted((ROOT / "demos/gallery").glob(f"{stem}*.gif"))]
    pictures = [picture.name for picture in sorted((ROOT / "demos/gallery").glob(f"{stem}*.png"))]
    shown = pictures + films
    links = [
        f"`python demos/{path.name}` ({minutes(stem)})",
        f"[source]({path.name})",
        f"[all figures](figures/{stem}.md)",
    ]
    lines = [
        f"## {stem}",
        f"**{question(path)}**",
        "\n".join(
            f'<img src="gallery/{name}" width="{width_of(name)}" alt="{name}">' for name in shown
        ),
        " · ".join(links),
        story.strip(),
        "\n".join(
            ["| figure | measured | target |", "|---|---|---|", *headlines(found["default"])]
        ),
    ]
    return "\n\n".join(lines)


def width_of(name: str) -> int:
    """The width in pixels at which a page shows a picture or a film."""
    return 360 if name.endswith(".gif") else 800


def headlines(record: dict) -> list[str]:
    """The rows of the three figures that a demo's section shows, and of every missed target."""
    by_metric = {row["metric"]: row for row in record["rows"]}
    with_target = [name for name, row in by_metric.items() if row["target"]]
    chosen = HEADLINES.get(record["demo"], tuple((with_target or list(by_metric))[:3]))
    missed = [name for name, row in by_metric.items() if met(row["value"], row["target"]) is False]
    chosen += tuple(name for name in missed if name not in chosen)
    missing = [name for name in chosen if name not in by_metric]
    if missing:
        sys.exit(f"{record['demo']} has no figure {missing}; see HEADLINES in demos/readme.py")
    return [
        table_row(name, shown_value(by_metric[name]), by_metric[name]["target"]) for name in chosen
    ]


FIVE_FAMILIES = "VAE", "flow", "autoregressive", "GAN", "diffusion"
# Figures of MNIST in nats: demo, size, metric of a model, and what the figure is
OF_MNIST = (
    ("20_vae", "default", r"(.+), 5k set: -log p\(x\) of \d+ test digits, nats, by (.+)", ""),
    ("22_autoregressive", "full", r"MNIST, .+, dynamic binarisation: (.+), nats of .+", "exact"),
    ("23_latent_score", "default", r"(.+): bound on -log p\(x\) of unseen .+", "bound"),
)


def families() -> str:
    """The five families of generative models on the 8x8 digits, from the protocol of demo 23: one
    row per model, and one sentence per family of what the lecture says of it."""
    found = records("23_latent_score")
    if "full" not in found:
        return "Not yet measured: run `python demos/23_latent_score.py --full --out demos/gallery`."
    by_metric = {row["metric"]: row for row in found["full"]["rows"]}
    head = (
        "| | bits/dim, 17 levels | | nats, binarised | Frechet multiple | precision | recall "
        "| training, s | 1,000 digits, s | weights |",
        "|---|---|---|---|---|---|---|---|---|---|",
    )
    rows = [family_row(name, by_metric) for name in family_names(by_metric)]
    sentences = [family_sentence(name, by_metric) for name in FIVE_FAMILIES]
    return "\n".join([*head, *rows, "", *sentences, "", *mnist_table()])


def mnist_table() -> list[str]:
    """The models of demos 20, 22 and 23 on 4,000 digits of MNIST, where their records exist."""
    rows = []
    for stem, size, pattern, kind in OF_MNIST:
        for row in records(stem).get(size, {"rows": []})["rows"]:
            match = re.fullmatch(pattern, row["metric"])
            if match:
                name, *estimates = match.groups()
                demo = f"[{stem[:2]}](#{anchor(stem)})"
                rows.append(table_row(demo, name, shown_value(row), kind or estimates[0]))
    if not rows:
        return []
    head = (
        "| demo | 4,000 training digits of MNIST, dynamic binarisation | nats of unseen digits "
        "(20: of 200, 22 and 23: of 1,000) | |"
    )
    return [head, "|---|---|---|---|", *rows]


def family_names(by_metric: dict) -> list[str]:
    """The models of the table: those that were sampled, and those without a network."""
    last = ": parameters"
    sampled = [metric.removesuffix(last) for metric in by_metric if metric.endswith(last)]
    bits = ": bits/dim of unseen digits, 17 levels"
    measured = [metric.removesuffix(bits) for metric in by_metric if metric.endswith(bits)]
    rest = [name for name in measured if by_metric[name + bits]["reference"] == "no network"]
    return sampled + rest


def family_row(name: str, by_metric: dict) -> str:
    """The row of one model; a cell is empty if the model has no such figure."""
    bits = by_metric.get(f"{name}: bits/dim of unseen digits, 17 levels", {})
    kind = bits.get("reference", "no likelihood")
    cells = [name, figure_cell(bits, ".2f"), kind]
    columns = (
        ("nats of unseen digits, binarised", ".2f"),
        ("Frechet multiple", ".1f"),
        ("precision", ".2f"),
        ("recall", ".2f"),
        ("seconds of training", ".0f"),
        ("seconds to sample 1,000 digits", ".2g"),
        ("parameters", ",.0f"),
    )
    for metric, form in columns:
        cells.append(figure_cell(by_metric.get(f"{name}: {metric}", {}), form))
    return table_row(*cells)


def figure_cell(row: dict, form: str) -> str:
    """The value of a figure, or nothing where there is none."""
    return format(row["value"], form) if row else ""


def family_sentence(name: str, by_metric: dict) -> str:
    """The lecture's claims about a family, whether each holds on these digits, and its figure. The
    metric of a claim is "the lecture, of FAMILY, CLAIM: FIGURE"."""
    start = f"the lecture, of {name}, "
    claims = []
    for metric, row in by_metric.items():
        if metric.startswith(start):
            claim, figure = metric.removeprefix(start).split(": ", 1)
            answer = "holds here" if met(row["value"], row["target"]) else "does not hold here"
            claims.append(f"*{claim}* {answer} ({figure}: {row['value']:.2g})")
    return f"- The lecture on **{name}**: {'; '.join(claims)}."


def figures_page(stem: str) -> str:
    """demos/figures/NAME.md: every figure of a demo, one metric per row."""
    parts = [
        f"# {stem}: every figure",
        f"{question(ROOT / f'demos/{stem}.py')} [Source](../{stem}.py), "
        f"[section](../README.md#{anchor(stem)}).",
        "Made by `python -m demos.readme` from the records in [gallery](../gallery). **Bold**: a "
        "target that was missed.",
    ]
    for size, record in records(stem).items():
        flag = " --full" if size == "full" else ""
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        rows = [
            table_row(row["metric"], shown_value(row), row["target"], row["reference"])
            for row in record["rows"]
        ]
        head = ["| figure | measured | target | for comparison |", "|---|---|---|---|"]
        parts += [
            f"## `python demos/{stem}.py{flag}`",
            f"{duration(record['seconds'])}, {record['peak_memory_mib']} MiB, seed "
            f"{record['seed']}, {record['device']}; {record['cpu']['model']}, "
            f"{record['cpu']['cores']} cores; {versions}.",
            "\n".join([*head, *rows]),
        ]
    return "\n\n".join(parts) + "\n"


# ── weights ──────────────────────────────────────────────────────────────────────────────────────


def shipped_weights() -> str:
    """A row for each file in demos/weights: its models, its size, and what float16 costs."""
    costs = json.loads((ROOT / "demos/records/float16.json").read_text(encoding="utf-8"))["files"]
    rows = []
    total = 0
    for path in sorted((ROOT / "demos/weights").glob("*.safetensors")):
        demo = table_link(path.stem)
        total += path.stat().st_size
        size = f"{path.stat().st_size / 1e6:.2f} MB"
        for figure in costs[path.stem]["figures"]:
            values = (f"{figure[kind]:.5g}" for kind in ("float32", "float16"))
            rows.append(table_row(demo, size, figure["metric"], *values))
            demo = size = ""
    head = ("| demo | file | figure | with float32 | with float16 |", "|---|---|---|---|---|")
    return "\n".join([*head, *rows, "", f"Together {total / 1e6:.1f} MB."])


def table_link(stem: str) -> str:
    return f"[{stem}](../{stem}.py)"


def table_row(*cells: str) -> str:
    """A row of a Markdown table; a bar within a cell is escaped."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# ── benchmarks ───────────────────────────────────────────────────────────────────────────────────


def speed() -> str:
    """Whole models beside what a user would pick instead, with the machine."""
    from benchmarks.tables import models_table

    return models_table(measured("models"))


def ops() -> str:
    """How models grow, and every single op."""
    from benchmarks.tables import ops_table

    return ops_table(measured("ops"), measured("scale"))


def parallel() -> str:
    """Two workers as measured, and many on paper."""
    from benchmarks.scaling import parallel_table

    return parallel_table(measured("parallel"))


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


# ── pages ────────────────────────────────────────────────────────────────────────────────────────

PAGES: dict[str, tuple[Callable[[], str], ...]] = {
    "README.md": (minutes_06, lecture, gallery),
    "README.zh.md": (minutes_06, lecture_zh),
    "tinycv/README.md": (reading,),
    "tinycv/gpu/README.md": (gpu,),
    "demos/README.md": (families, sections),
    "demos/weights/README.md": (shipped_weights,),
    "benchmarks/README.md": (speed, parallel, ops, bounds, kernels),
}


def renewed(page: str, text: str) -> str:
    """The page with all of its blocks as they should be now. A block within a line stays there."""
    for block in PAGES[page]:
        name, made = block.__name__, block()
        pattern = re.compile(rf"(<!-- {name} -->)(\n?).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            sys.exit(f"{page} has no block {name!r}")
        text = pattern.sub(lambda m, made=made: m[1] + m[2] + made + m[2] + m[3], text)
    return text


def wanted_pages() -> dict[str, str]:
    """Every page as it should be, by its path."""
    pages = {page: renewed(page, (ROOT / page).read_text(encoding="utf-8")) for page in PAGES}
    for path in demo_scripts():
        pages[f"demos/figures/{path.stem}.md"] = figures_page(path.stem)
    return pages


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m demos.readme")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if a page is out of date"
    )
    check = parser.parse_args(arguments).check
    stale = []
    for page, text in wanted_pages().items():
        path = ROOT / page
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(page)
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if check and stale:
        sys.exit(f"{', '.join(stale)}: out of date; run  python -m demos.readme")
    print(ascii_only(f"written: {', '.join(stale) or 'nothing, every page is up to date'}"))


if __name__ == "__main__":
    main(sys.argv[1:])
