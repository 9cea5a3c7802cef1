"""The README tells the truth: its code runs and prints what it says, and its tables are those of
the files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prepared import Prepared

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # demos is no part of the installed package


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


TEXT = page("README.md")


@pytest.fixture(scope="module")
def printed_by(tmp_path_factory):
    with Prepared("import numpy, tinycv", tmp_path_factory.mktemp("readme")) as process:

        def printed_by(code: str) -> str:
            status, said = process.run(code)
            assert status == 0, said
            return said.strip()

        yield printed_by


def test_the_ten_lines_of_autograd_print_the_numbers_that_it_says(printed_by):
    code, said = re.search(
        r"```python\n(.*?)```\s+You should see `(.*?)`", TEXT, re.DOTALL
    ).groups()
    assert printed_by(code) == said


def test_the_small_network_prints_exclusive_or(printed_by):
    code, said = re.search(
        r"know from PyTorch:\s+```python\n(.*?)```\s+prints `(.*?)`",
        page("tinycv/README.md"),
        re.DOTALL,
    ).groups()
    assert printed_by(code) == said


def test_the_example_for_all_cores_prints_what_it_says(printed_by):
    code, said = re.search(
        r"All cores\s.*?```python\n(.*?)```\s+prints `(.*?)`",
        page("benchmarks/README.md"),
        re.DOTALL,
    ).groups()
    assert printed_by(code) == said


def test_the_row_that_contributing_adds_to_the_table_is_right():
    import numpy as np

    import tinycv
    from tinycv.engine.record import op

    name, row = re.search(r"^(\w+) = (op\(.*\))\n", page("CONTRIBUTING.md"), re.MULTILINE).groups()
    power = {"square": 2, "cube": 3}[name]
    added = eval(row, {"op": op})
    x = tinycv.tensor(np.array([1.0, -3.0]), requires_grad=True)
    added(x).sum().backward()
    assert x.grad.numpy().tolist() == [power, power * (-3.0) ** (power - 1)]


def test_the_readme_is_short_and_both_maps_have_the_same_rows():
    assert len(TEXT.splitlines()) <= 150
    maps = [
        re.search(r"<!-- (lecture\w*) -->\n(.*?)<!-- /", page(name), re.DOTALL)[2]
        for name in ("README.md", "README.zh.md")
    ]
    links = [re.findall(r"\]\((?!demos/gallery)(.*?)\)", text) for text in maps]
    assert links[0] == links[1] and len(links[0]) > 50


def test_every_row_of_the_map_says_what_its_picture_proves():
    from demos.lecture import LECTURE

    rows = re.search(r"<!-- lecture -->\n(.*?)<!-- /", TEXT, re.DOTALL)[1].splitlines()[2:]
    assert len(rows) == len(LECTURE)
    for row, slide in zip(rows, LECTURE, strict=True):
        name, _, proves = row.split(" | ")[0].removeprefix("| ").partition("**: ")
        assert slide.english in name
        assert len(proves) > 20, row


def test_all_subjects_of_the_lecture_have_code_a_demo_a_test_a_picture_and_figures():
    from demos.lecture import LECTURE
    from demos.readme import demo_path, records

    (count,) = re.findall(r"The (\d+) subjects of a lecture", TEXT)
    assert len({slide.english for slide in LECTURE}) == len(LECTURE) == int(count) == 27
    for slide in LECTURE:
        files = [ROOT / "tinycv" / file for file in slide.files]
        demo = demo_path(slide.demo)
        files += [demo, ROOT / slide.test, ROOT / f"demos/gallery/{demo.stem}.png"]
        assert len(files) > 3 and all(file.is_file() for file in files), slide.english
        assert records(demo.stem)["default"]["rows"], slide.english


def test_its_tables_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "-m", "demos.readme", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["demos.readme", "demos.diagrams", "benchmarks.tiles"])
def test_an_unknown_flag_is_refused_and_nothing_is_written(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", command, "--chek"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "unrecognized arguments: --chek" in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_there_is_is_there():
    from tinycv import adversarial, diffusion, likelihood, nn, sequence, vision

    rows = re.findall(
        r"^\| (?:layers|norms|activations|models) \| (.*?) \|$",
        page("tinycv/README.md"),
        re.MULTILINE,
    )
    names = ", ".join(rows).split(", ")
    homes = nn, sequence, vision, adversarial, likelihood, diffusion
    assert len(rows) == 4 and not [
        name for name in names if not any(hasattr(home, name) for home in homes)
    ]
    has = {
        name
        for home in homes
        for name, found in vars(home).items()
        if isinstance(found, type) and issubclass(found, nn.Module) and not name.endswith("Loss")
    }
    assert has - set(names) == {"Module", "Sequential", "Identity", "Flatten"}


@pytest.mark.parametrize(
    ("record", "said"), [(None, "is not there"), ({"quick": True}, "quick run")]
)
def test_its_speed_is_that_of_a_whole_run_or_it_says_what_to_run(
    tmp_path, monkeypatch, record, said
):
    # demos and benchmarks are no part of the installed package
    monkeypatch.syspath_prepend(ROOT)
    from demos import readme

    monkeypatch.setattr(readme, "ROOT", tmp_path)
    if record:
        (tmp_path / "benchmarks/results").mkdir(parents=True)
        (tmp_path / "benchmarks/results/models.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match=f"models.json .*{said}.* run "):
        readme.speed()


@pytest.mark.parametrize(
    "target, good, bad",
    [
        (">= 0.9", [0.9, 1], 0.89),
        ("<= 0.03: noise is gone", [-1, 0.03], 0.031),
        ("> 0", [1e-9], 0),
        ("< 2", [1.9], 2),
        ("1 +- 0.005", [0.9951, 1.004], 1.0075),
        ("0.78 to 0.80", [0.78, 0.8], 0.77),
        ("-0.05 to 0 + 2 errors", [-0.01], -0.06),
        ("within 1e-3", [-1e-3], 0.002),
        ("|.| <= 2", [-2], 2.1),
        ("25", [25], 24),
        ("the same order", None, None),
        ("within 1 %", None, None),
        ("1 within 1 %", [0.991, 1.009], 1.02),
    ],
)
def test_targets_are_read_and_a_miss_is_seen(target, good, bad):
    from demos.targets import met

    if good is None:
        assert met(1.0, target) is None
    else:
        assert (
            met(good, target) is True
            and met([*good, bad], target) is False
            and met(bad, target) is False
        )


def test_a_claim_about_a_family_whose_target_was_missed_does_not_hold():
    from demos.readme import family_row, family_sentence

    found = {
        "GAN: Frechet multiple": {"value": 4.0},
        "the lecture, of GAN, sharp: its sharpness": {"value": 0.98, "target": ">= 0.95"},
        "the lecture, of GAN, drops modes: its recall": {"value": 0.1, "target": "< -0.05"},
    }
    assert family_sentence("GAN", found) == (
        "- The lecture on **GAN**: *sharp* holds here (its sharpness: 0.98); "
        "*drops modes* does not hold here (its recall: 0.1)."
    )
    assert family_row("GAN", found).startswith("| GAN |  | no likelihood |  | 4.0 |")
