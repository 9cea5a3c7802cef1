"""Compiles every CUDA kernel with NVIDIA's compiler, for an H100 or H200, on a machine without GPU:

    pip install cupy-cuda13x nvidia-cuda-nvrtc nvidia-cuda-runtime;   python tests/nvrtc.py

This is not part of the test suite, which needs neither package: there, g++ compiles the same
sources (cupy_double/raw.py), but g++ knows C headers that NVRTC does not.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import cupy
from cupy_backends.cuda.libs import nvrtc

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tinycv.gpu import cuda

INCLUDE = Path(cupy.__file__).parents[1] / "nvidia" / "cu13" / "include"


def compiled(code: str) -> int:
    """The size of the machine code in bytes. SystemExit with the compiler's message if it fails."""
    program = nvrtc.createProgram(code, "kernels.cu", (), ())
    try:
        nvrtc.compileProgram(program, ("--gpu-architecture=sm_90", "-std=c++17", f"-I{INCLUDE}"))
    except nvrtc.NVRTCError:
        sys.exit(nvrtc.getProgramLog(program))
    return len(nvrtc.getCUBIN(program))


seen = set()
for file in sorted((ROOT / "tinycv/gpu").glob("*.py"), reverse=True):
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    kernels = getattr(importlib.import_module(name), "kernels", {})
    # some files have one source per width
    for label, each in kernels.items() if isinstance(kernels, dict) else [("", kernels)]:
        if each.source in seen:  # conv_tiles.py re-exports the kernels of conv_tiles_kernels.py
            continue
        seen.add(each.source)
        print(
            name,
            label,
            *(f"{char}: {compiled(cuda.text(each.source, char)):,} B" for char in cuda.TYPES),
        )
