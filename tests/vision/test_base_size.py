"""The size that real weights have: ViT-B/16 reads an image of 224 x 224 pixels in less than 1
GB."""

import subprocess
import sys

import pytest

pytest.importorskip("resource")  # Windows tells no peak of memory

LOOK = """
import resource, sys
from pathlib import Path
import numpy as np, tinycv
from tinycv.vision import ViT
model = ViT(224, 16, 1000, channels=3, dim=768, depth=12, heads=12).eval()
with tinycv.no_grad():
    scores = model(tinycv.randn(1, 3, 224, 224)).numpy()
assert scores.shape == (1, 1000) and np.isfinite(scores).all()
# ru_maxrss would count the process that started this one, until exec
kernel = Path("/proc/self/status")
lines = kernel.read_text().splitlines() if kernel.exists() else []
peaks = [line.split()[1] for line in lines if line.startswith("VmHWM")]
usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unit = 1 if sys.platform == "darwin" else 1024
print(model.num_parameters(), int(peaks[0]) * 1024 if peaks else usage * unit)
"""


def test_vit_b_16_has_the_published_number_of_parameters_and_runs_in_less_than_1_gb():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    parameters, peak = map(int, done.stdout.split())
    assert parameters == 86_567_656  # torchvision's ViT_B_16_Weights, "num_params"
    assert peak < 1e9
