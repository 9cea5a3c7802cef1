"""The wheel has the package, its type marker and the weights of the two commands, and nothing else;
both commands run from it, far from the clone. (.ci/wheel.sh installs it into a new environment.)"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).parent.parent
BUILT_FROM = "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"
WEIGHTS = {"06_vit.safetensors", "17_diffusion_digits.safetensors"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in a copy, because setuptools writes into the folder that it builds."""
    copy, made = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, copy / name)
    shutil.copytree(ROOT / "tinycv", copy / "tinycv", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "demos" / "weights", copy / "demos" / "weights")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q"]
    options = ["--no-build-isolation", "--no-deps", "--no-index", "-w", str(made)]
    done = subprocess.run([*pip, *options, str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = made.glob("*.whl")
    return found


def test_the_wheel_has_the_package_its_marker_and_the_weights_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tinycv").rglob("*.py")}
    notes = {name for name in names if ".dist-info/" in name}
    weights = {f"tinycv/weights/{name}" for name in WEIGHTS}
    assert names - notes == sources | weights | {"tinycv/py.typed"}
    assert any(name.endswith("LICENSE") for name in notes)


def test_the_weights_in_the_wheel_are_those_of_the_clone(wheel):
    with zipfile.ZipFile(wheel) as packed:
        for name in WEIGHTS:
            shipped = (ROOT / "demos" / "weights" / name).read_bytes()
            assert packed.read(f"tinycv/weights/{name}") == shipped


def test_doctor_classify_and_sample_run_from_the_wheel_alone(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    paper = Image.new("L", (150, 200), 255)
    ImageDraw.Draw(paper).line([(40, 40), (110, 40), (70, 160)], fill=0, width=10, joint="curve")
    paper.save(tmp_path / "seven.png")
    code = (
        "import tinycv; print(tinycv.__file__)\n"
        "from tinycv.show import doctor; doctor.main()\n"
        "from tinycv.vision import classify; classify.main(['seven.png', '--show', 'seen.png'])\n"
        "from tinycv.diffusion import sample; sample.main('--n 1 --steps 2 --label 3'.split())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site" / "tinycv"))
    assert "seven.png: 7" in done.stdout and "digits.png: 1 digit in 2 steps" in done.stdout
    assert Image.open(tmp_path / "digits.png").size == (100, 100)


def test_a_build_without_the_weights_ends_with_a_sentence(tmp_path):
    for name in ("setup.py", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "tinycv").mkdir()
    shutil.copy(ROOT / "tinycv" / "__init__.py", tmp_path / "tinycv")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "06_vit.safetensors is missing: the commands need these weights" in done.stderr
