#!/usr/bin/env bash
# What somebody does who has no clone: install a wheel into a new virtual environment, read a drawn digit, draw another.
# Needs a clean checkout. PYTHON=python3.13 .ci/wheel.sh takes another Python.
set -euo pipefail
cd "$(dirname "$0")/.."
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
# in a copy: setuptools would also pack what older builds have left in build/
git clone -q . "$room/clone"
"${PYTHON:-python3}" -m venv "$room/venv"
. "$room/venv/bin/activate"
cd "$room"
pip wheel -q --no-deps ./clone -w .
rm -rf clone
pip install -q ./*.whl
unset PYTHONPATH
python -m tinycv.show.doctor
(! python -m tinycv.vision.classify seven.png) 2>&1 | grep -F "pip install Pillow"   # one sentence, where Pillow is missing
pip install -q Pillow
python - <<'END'
from PIL import Image, ImageDraw

paper = Image.new("RGB", (321, 243), "ivory")
ImageDraw.Draw(paper).line([(90, 60), (200, 55), (140, 200)], fill="navy", width=9, joint="curve")
paper.save("seven.png")
END
python -m tinycv.vision.classify seven.png --show seen.png | tee said
grep -q "^seven.png: 7 " said
python -m tinycv.diffusion.sample --label 7 --n 4 --out sevens.png
ls -s seen.png sevens.png ./*.whl
