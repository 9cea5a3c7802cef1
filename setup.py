"""Packaging. tinycv needs only numpy, safetensors and threadpoolctl; each extra adds what one use
needs.

The name to import is tinycv. The name of the distribution is another one, because the package that
the public index calls "tinycv" belongs to somebody else: install this one from its clone, with
pip install -e .
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
source = (here / "tinycv/__init__.py").read_text(encoding="utf-8")
version = re.search(r'^__version__ = "(.+?)"', source, re.MULTILINE)[1]
demos = ["matplotlib", "tqdm", "scikit-learn", "scikit-image", "mlxtend", "Babel"]
download = ["pooch>=1.8", "urllib3>=2.1", "tqdm"]  # pooch brings requests, and that urllib3
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
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["tinycv", "tinycv.*"]),
    package_data={"tinycv": ["py.typed"]},
    install_requires=["numpy>=2.0", "safetensors>=0.4", "threadpoolctl>=3.0"],
    extras_require={
        "demos": demos,
        "test": ["pytest", "pytest-xdist", "hypothesis", "PyYAML", *demos, *download],
        "parity": ["torch"],
        "bench": ["torch", "autograd", "mygrad", "matplotlib", "scipy>=1.15"],
        "gpu": ["cupy-cuda13x[ctk]>=14,<15"],
        "gpu12": ["cupy-cuda12x[ctk]>=14,<15"],
        "mpi": ["mpi4py", "mpich"],
        "download": download,
    },
)
