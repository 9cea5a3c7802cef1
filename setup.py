"""Packaging. numpy, safetensors and threadpoolctl are all that tinycv needs; the extras bring what
one use needs.

What is imported is called tinycv. The distribution has a name of its own, because the package that
the public index calls "tinycv" belongs to somebody else: install this one from its clone, by pip
install -e .
"""

from pathlib import Path

from setuptools import find_packages, setup

demos = ["matplotlib", "tqdm", "scikit-learn", "mlxtend", "Babel"]
setup(
    name="tinycv-from-scratch",
    version="0.1.0",
    description="The models of modern computer vision, from scratch on NumPy or CuPy: to read, to "
    "run, to measure",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["tinycv", "tinycv.*"]),
    package_data={"tinycv": ["py.typed"]},
    install_requires=["numpy>=2.0", "safetensors>=0.4", "threadpoolctl>=3.0"],
    extras_require={
        "demos": demos,
        "test": ["pytest", "pytest-xdist", "hypothesis", *demos],
        "parity": ["torch"],
        "bench": ["torch", "autograd", "mygrad", "matplotlib", "scipy>=1.15"],
        "gpu": ["cupy-cuda13x[ctk]>=14,<15"],
        "gpu12": ["cupy-cuda12x[ctk]>=14,<15"],
        "mpi": ["mpi4py", "mpich"],
    },
)
