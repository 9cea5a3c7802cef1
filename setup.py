"""Packaging. tinycv needs only numpy, safetensors and threadpoolctl; each extra adds what one use
needs.

A wheel (pip wheel .) has the package and, in tinycv/weights, the weights of its two commands:
python -m tinycv.vision.classify and python -m tinycv.diffusion.sample. In a clone these files lie
in demos/weights, where an editable install finds them (training/pretrained.py).

The name to import is tinycv. The name of the distribution is another one, because the package that
the public index calls "tinycv" belongs to somebody else: install this one from its clone, with
pip install -e .
"""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
source = (here / "tinycv/__init__.py").read_text(encoding="utf-8")
version = re.search(r'^__version__ = "(.+?)"', source, re.MULTILINE)[1]
WEIGHTS = "06_vit.safetensors", "17_diffusion_digits.safetensors"


class BuildWithWeights(build_py):
    """Copies the files of the package to the wheel, and the weights too."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "tinycv", "weights")
        self.mkpath(str(folder))
        for name in WEIGHTS:
            source = here / "demos" / "weights" / name
            if not source.is_file():
                raise SystemExit(f"setup.py: {source} is missing: the commands need these weights")
            self.copy_file(str(source), str(folder / name))


demos = ["matplotlib", "tqdm", "scikit-learn", "scikit-image", "mlxtend", "Babel"]
download = ["pooch>=1.8", "urllib3>=2.1", "tqdm"]  # pooch brings requests, and that urllib3
site = ["sphinx>=8", "myst-parser>=4", "sphinx-gallery>=0.19", "furo", "sphinx-mathjax-offline"]
notebooks = ["nbclient", "ipykernel"]
browser = ["playwright"]  # drives an installed Chromium in tests/site/test_browser.py
log = ["tensorboardX"]
setup(
    name="tinycv-from-scratch",
    version=version,
    description="The models of modern computer vision, from scratch on NumPy or CuPy: to read, to "
    "run, to measure",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="tinycv contributors",
    license="MIT",
    keywords="autograd automatic-differentiation computer-vision transformer vit gan diffusion "
    "numpy cupy education",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["tinycv", "tinycv.*"]),
    package_data={"tinycv": ["py.typed"]},
    cmdclass={"build_py": BuildWithWeights},
    install_requires=["numpy>=2.0", "safetensors>=0.4", "threadpoolctl>=3.0"],
    extras_require={
        "demos": demos,
        "test": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "PyYAML",
            "setuptools>=70.1",
            *demos,
            *download,
            *log,
        ],
        "parity": ["torch"],
        "bench": ["torch", "autograd", "mygrad", "matplotlib", "scipy>=1.15"],
        "gpu": ["cupy-cuda13x[ctk]>=14,<15"],
        "gpu12": ["cupy-cuda12x[ctk]>=14,<15"],
        "log": log,
        "mpi": ["mpi4py", "mpich"],
        "download": download,
        "site": [*site, *notebooks, *browser, *demos],
    },
)
