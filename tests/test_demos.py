"""Demos are tests: each runs with --quick, and leaves a picture that is not blank and a record of
its figures."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from tinycv.show.demo_flags import WITH_HALF, WITH_PRETRAINED

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # demos is no part of the installed package
DEMOS = sorted((ROOT / "demos").glob("[0-9][0-9]_*.py"))
PROTOCOLS = sorted((ROOT / "demos/full").glob("[0-9][0-9]_*.py"))
# protocols that run their demo, once for each seed; and the demos that no protocol runs
REPEATING = [page for page in PROTOCOLS if "repeat_demo(" in page.read_text(encoding="utf-8")]
ALONE = [demo for demo in DEMOS if demo.stem not in [page.stem for page in REPEATING]]


def run(command: list, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        capture_output=True,
        timeout=240,
        env={
            **os.environ,
            "PYTHONIOENCODING": "ascii",
            "MPLCONFIGDIR": str(folder / "mpl"),
            # the package beside these tests
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        },
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Runs a page as ``python page flags`` does, in this process: what it imports is imported
    already."""
    from matplotlib import pyplot

    def run_page(page: Path, *flags: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(page), *flags])
        run_path(str(page), run_name="__main__")

    monkeypatch.chdir(tmp_path)
    yield run_page
    pyplot.close("all")


def check_what_it_left(folder: Path, name: str) -> dict:
    from matplotlib.image import imread

    picture = imread(folder / f"{name}.png")
    assert min(picture.shape[:2]) > 300
    assert np.unique(picture.reshape(-1, picture.shape[-1]), axis=0).shape[0] > 20, (
        "the picture is blank"
    )
    return record_in(folder, name)


def record_in(folder: Path, name: str) -> dict:
    record = json.loads((folder / f"{name}.json").read_text())
    assert record["rows"] and all(np.isfinite(row["value"]).all() for row in record["rows"])
    assert {"seed", "device", "seconds", "peak_memory_mib", "versions"} <= set(record)
    return record


def test_a_demo_is_a_command(tmp_path):
    done = run([DEMOS[0], "--quick"], tmp_path)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert check_what_it_left(tmp_path / "out", DEMOS[0].stem)["device"] == "cpu"


@pytest.mark.parametrize("demo", ALONE, ids=lambda path: path.stem)
def test_a_demo_runs_quickly_and_leaves_a_picture_and_figures(demo, here, tmp_path):
    here(demo, "--quick")
    assert check_what_it_left(tmp_path / "out", demo.stem)["device"] == "cpu"


@pytest.mark.parametrize("page", PROTOCOLS, ids=lambda path: path.stem)
def test_a_protocol_runs_in_a_tiny_size_and_leaves_a_picture_and_figures(page, here, tmp_path):
    here(page, "--quick")
    record = check_what_it_left(tmp_path / "out", page.stem)
    assert record["demo"] == page.stem and record["size"] == "quick"
    if page in REPEATING:
        demo = check_what_it_left(tmp_path / "out" / page.stem / "seed_0", page.stem)
        assert demo["demo"] == page.stem and demo["device"] == "cpu"


@pytest.mark.parametrize("page", PROTOCOLS, ids=lambda path: path.stem)
def test_full_of_a_demo_runs_its_protocol_and_nothing_else(page, here, tmp_path, monkeypatch):
    reached = []
    monkeypatch.setattr(runpy, "run_path", lambda path, run_name: reached.append((path, run_name)))
    with pytest.raises(SystemExit) as left:
        here(ROOT / "demos" / page.name, "--full")
    assert left.value.code is None
    assert reached == [(str(page), "__main__")]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("demo", DEMOS, ids=lambda path: path.stem)
def test_a_demo_runs_on_the_double_of_cupy(demo, here, tmp_path, double, monkeypatch):
    """In halves where it can train so. All is drawn, and nothing painted: a CPU did that above."""
    from tinycv.show import draw

    painted = []
    monkeypatch.setattr(draw, "save", lambda figure, path: painted.append(path))
    half = demo.stem in WITH_HALF
    here(demo, "--quick", "--device", "gpu", *["--half"] * half)
    record = record_in(tmp_path / "out", demo.stem)
    assert record["device"] == "gpu:0" and record["half"] == half
    assert painted[-1] == Path("out", f"{demo.stem}.png")


@pytest.mark.parametrize("name", sorted({"06_vit", "17_diffusion_digits"} & set(WITH_PRETRAINED)))
def test_with_pretrained_a_demo_trains_nothing_and_draws_all(name, here, tmp_path, capsys):
    here(ROOT / f"demos/{name}.py", "--quick", "--pretrained")
    record = check_what_it_left(tmp_path / "out", name)
    assert record["pretrained"] == f"{name}.safetensors"
    assert "epoch" not in capsys.readouterr().out.replace("epochs", "")
    committed = {row["metric"]: row["value"] for row in committed_rows(name)}
    found = {row["metric"]: row["value"] for row in record["rows"]}
    seconds = next(metric for metric in found if metric.startswith("seconds"))
    assert found[seconds] == committed[seconds]
    if name == "06_vit":
        accuracy = "accuracy on 1,000 unseen digits"
        assert abs(found[accuracy] - committed[accuracy]) < 0.0011  # one digit


def committed_rows(name: str) -> list[dict]:
    return json.loads((ROOT / f"demos/gallery/{name}.json").read_text(encoding="utf-8"))["rows"]


def test_the_vit_demo_learns_idx_files_of_your_own(tmp_path, here):
    from tinycv.data import write_idx

    chance = np.random.default_rng(0)
    for part, count in (("train", 150), ("t10k", 60)):
        write_idx(
            tmp_path / f"{part}-images-idx3-ubyte.gz",
            chance.integers(0, 256, (count, 28, 28), np.uint8),
        )
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    here(ROOT / "demos/06_vit.py", "--quick", "--data", str(tmp_path))
    record = check_what_it_left(tmp_path / "out", "06_vit")
    assert (
        record["rows"][0]["metric"] == "accuracy on 60 unseen images"
        and "Fashion" in record["rows"][0]["target"]
    )


def test_the_face_demo_learns_a_folder_of_your_own_faces(tmp_path, here):
    from PIL import Image

    chance = np.random.default_rng(0)
    lines = ["file,glasses,woman"]
    for i in range(60):
        photo = chance.integers(0, 256, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(photo).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{i % 2},{2 * (i // 2 % 2) - 1}")
    (tmp_path / "attributes.csv").write_text("\n".join(lines))
    here(ROOT / "demos/10_face_arithmetic.py", "--quick", "--faces", str(tmp_path))
    record = check_what_it_left(tmp_path / "out", "10_face_arithmetic")
    assert record["rows"][0]["metric"].endswith("held-out faces: glasses, woman")
    assert "own faces" in record["title"] and "synthetic" not in record["title"]


def test_the_label_demo_paints_a_map_of_your_own(tmp_path, here):
    from PIL import Image

    from tinycv.data.scenes import LEGEND

    labels = np.arange(6).repeat(32 * 32 // 6 + 1)[: 32 * 32].reshape(32, 32)
    Image.fromarray(LEGEND[labels]).save(tmp_path / "mine.png")
    here(ROOT / "demos/11_label_to_image.py", "--quick", "--map", str(tmp_path / "mine.png"))
    check_what_it_left(tmp_path / "out", "11_label_to_image")
    assert (tmp_path / "out/11_label_to_image_map.png").exists()


@pytest.mark.parametrize("prompt", ["a small green triangle top left", "左上角的绿色小三角形"])
def test_the_text_demo_draws_a_prompt_of_your_own(prompt, here, tmp_path):
    with pytest.raises(SystemExit) as left:
        here(ROOT / "demos/24_text_to_image.py", "--quick", "--prompt", prompt)
    assert not left.value.code
    assert (tmp_path / "out/24_text_to_image_prompt.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "prompt, said",
    [
        ("a small purple triangle", "does not know 'purple'"),
        ("", "empty prompt"),
        ("маленький треугольник", "does not know that language"),
        ("a small green triangle top left left", "at most 6"),
    ],
)
def test_the_text_demo_refuses_what_it_cannot_read_before_it_trains(prompt, said, here, capsys):
    with pytest.raises(SystemExit) as left:
        here(ROOT / "demos/24_text_to_image.py", "--prompt", prompt)
    error = capsys.readouterr().err
    assert left.value.code == 2 and error.startswith("--prompt") and said in error


def test_a_demo_without_a_gpu_says_why_and_what_to_do(tmp_path):
    blocked = (
        "import sys, runpy; sys.modules['cupy'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = run(["-c", blocked, DEMOS[0], "--device", "gpu"], tmp_path)
    assert done.returncode == 2
    assert b"pip install" in done.stderr and b"Traceback" not in done.stderr


def test_every_demo_begins_with_a_question_its_command_and_its_minutes():
    for demo in DEMOS:
        question, command = demo.read_text(encoding="utf-8").splitlines()[:2]
        assert question.startswith(f'"""{demo.name[:2]} · ') and question.endswith("?")
        assert command.startswith(f"python demos/{demo.name} ")
        assert command.endswith((" on one core", " on two cores"))


def test_every_loop_on_a_page_reads_its_loss_where_it_shows_it_and_so_refuses_nan():
    texts = {demo.stem: demo.read_text(encoding="utf-8") for demo in DEMOS}
    loops = [name for name, text in texts.items() if " in steps(" in text]
    assert {"02_rnn_lstm", "06_vit", "08_gan_2d", "17_diffusion_digits"} <= set(loops)
    assert all("read_loss(" in texts[name] for name in loops)


@pytest.mark.parametrize("demo", DEMOS, ids=lambda path: path.stem)
def test_the_minutes_in_a_demos_header_are_those_of_its_record(demo):
    from demos.targets import took  # as the README shows them

    record = json.loads((ROOT / f"demos/gallery/{demo.stem}.json").read_text(encoding="utf-8"))
    command = demo.read_text(encoding="utf-8").splitlines()[1]
    assert command.endswith(f" {took(record)}")


@pytest.mark.parametrize("demo", DEMOS, ids=lambda path: path.stem)
def test_no_committed_picture_is_older_than_its_script(demo):
    from tinycv.show.demo import script_hash

    record = json.loads((ROOT / f"demos/gallery/{demo.stem}.json").read_text(encoding="utf-8"))
    run_it = f"run  python demos/{demo.name} --out demos/gallery"
    assert record["script"] == script_hash(demo), run_it
    assert record["title"]


@pytest.mark.parametrize("demo", DEMOS, ids=lambda path: path.stem)
def test_every_committed_film_and_picture_belongs_to_a_demo_that_still_writes_it(demo):
    text = demo.read_text(encoding="utf-8")
    for path in (ROOT / "demos/gallery").glob(f"{demo.stem}*"):
        is_of_a_run = path.stem in (demo.stem, f"{demo.stem}_full")
        assert path.suffix == ".json" or is_of_a_run or path.name in text, path
        assert path.suffix != ".gif" or "save_gif" in text


def figures(name: str) -> dict:
    record = json.loads((ROOT / f"demos/gallery/{name}.json").read_text(encoding="utf-8"))
    return {row["metric"]: row["value"] for row in record["rows"]}


def test_figures_in_the_prose_of_demos_are_those_of_the_records():
    left = figures("07_vit_maps")
    rollout, ink = (
        left[f"chance of the right answer, mean while patches go, first: {name}"]
        for name in ("rollout says most", "most ink")
    )
    ddpm = [
        figures(name)[metric][1]
        for name in ("17_diffusion_digits", "17_diffusion_digits_full")
        for metric in figures(name)
        if metric.startswith("DDPM, larger variance")
    ]
    sizes = [
        figures("19_gan_or_diffusion")[
            f"grid, {name}: parameters of the network that makes points, by seed"
        ][0]
        for name in ("GAN", "diffusion")
    ]
    pacgan = figures("08_gan_2d_full")["PacGAN's networks, grid, Pac4: share within 3 sigma"]
    tested = json.loads((ROOT / "demos/records/06_vit_validation.json").read_text("utf-8"))
    tested = tested["all trainings of the chosen setting that were tested"]
    shares = [100 * tested[key] for key in ("lowest", "highest", "mean")]
    said = {
        "06_vit": "had {:.1f} to {:.1f} %, and {:.1f} % on average".format(*shares),
        "07_vit_maps": f"(chance of the right digit: {rollout:.4f}, {ink:.4f})",
        "08_gan_2d": f"a share of {pacgan:.3f} within",
        "17_diffusion_digits": "{:.1f} in one run, {:.1f} in another".format(*ddpm),
        "19_gan_or_diffusion": "{:,.0f} parameters, the\ndiffusion network {:,.0f}".format(*sizes),
    }
    lost = []
    for name, text in said.items():
        prose = (ROOT / f"demos/{name}.py").read_text(encoding="utf-8")
        if " ".join(text.split()) not in " ".join(prose.split()):  # wherever lines end
            lost.append(text)
    assert not lost


def test_the_list_of_demos_names_each_with_its_minutes():
    done = subprocess.run(
        [sys.executable, "-m", "demos"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert all(demo.name in done.stdout for demo in DEMOS)
