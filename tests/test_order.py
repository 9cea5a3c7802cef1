"""Layering: the package has floors, and a file imports only from its own floor or those below.

The tests read the import statements of all files.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tinycv"
# Each list is a floor, from the lowest to the highest. A file may import from its own floor and
# from those before it. A name may be that of a folder, with all its files.
FLOORS = [
    ["engine.arguments", "engine.signatures", "engine.torch_names", "engine.wrong_shapes"],
    [
        "engine.capturing",
        "engine.blas",
        "engine.memory",
        "engine.erf",
        "engine.find_gpu",
        "engine.rng",
    ],
    ["engine.backend"],
    ["engine.dispatch", "engine.watch", "engine.shards", "engine.crew"],
    ["engine.gemm", "engine.reduce"],
    ["engine.blocks"],
    ["engine.mode"],
    ["engine.convert"],
    ["engine.door"],
    ["engine.as_number"],
    ["engine.tensor", "engine.state"],
    ["engine.errors", "engine.debug", "engine.flat"],
    ["engine.operands"],
    ["engine.record", "engine.walk", "engine.backward"],
    ["engine.products"],
    ["engine.ops"],
    ["engine.in_place", "engine.functions"],
    ["engine.methods", "engine.create"],
    ["engine.fused"],
    ["engine.recompute", "engine.check"],
    ["certificate"],
    ["data"],
    ["nn"],
    ["optim.inputs"],
    ["optim.state"],
    ["optim.slab"],
    ["optim.optimizer", "optim.averaged", "optim.schedules", "optim.clipping", "optim.line_search"],
    ["optim.sgd", "optim.adam", "optim.objective"],
    ["optim.lbfgs"],
    ["training"],
    ["sequence"],
    ["vision"],
    ["show.metrics", "show.judge"],  # they measure what the next chapters generate
    ["adversarial"],
    ["likelihood"],
    ["diffusion"],
    # the CUDA kernels of all of the above, which only engine.dispatch loads
    ["gpu"],
    ["show"],
]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def floor_of(name: str) -> int:
    fits = [
        i
        for i, names in enumerate(FLOORS)
        if any(name == n or name.startswith(n + ".") for n in names)
    ]
    assert fits, f"tinycv.{name} is on no floor: add it to FLOORS"
    return fits[0]


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports when it is imported itself; imports inside
    functions do not count."""
    found = set()
    here = ["tinycv", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{a.name}" for a in node.names} | {module}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return {
        name.removeprefix("tinycv.")
        for name in found
        if name.startswith("tinycv.") and exists(name)
    }


def exists(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists()


def files() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "__init__.py"]


def test_every_file_imports_only_from_its_own_floor_or_below():
    wrong = [
        f"{module_name(path)} imports {name}"
        for path in files()
        for name in imports(path)
        if floor_of(name) > floor_of(module_name(path))
    ]
    assert files() and not wrong, wrong


def test_the_engine_does_not_import_anything_about_networks():
    upper = (
        "nn",
        "optim",
        "training",
        "sequence",
        "vision",
        "adversarial",
        "likelihood",
        "diffusion",
        "data",
        "show",
        "gpu",
    )
    assert not [
        p
        for p in files()
        if module_name(p).startswith("engine.")
        and any(name.split(".")[0] in upper for name in imports(p))
    ]


def test_importing_tinycv_imports_only_numpy_and_safetensors():
    heavy = "matplotlib", "sklearn", "cupy", "torch", "tqdm", "scipy", "threadpoolctl"
    code = f"import tinycv, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_file_named_in_a_text_exists():
    rooms = "tinycv|demos|tests|benchmarks|" + "|".join(
        folder.name for folder in PACKAGE.iterdir() if folder.is_dir()
    )
    texts = [
        path
        for room in ("tinycv", "demos", "tests", "benchmarks")
        for path in (ROOT / room).rglob("*.py")
    ]
    lost = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in [*texts, ROOT / "README.md"]
        for name in re.findall(
            rf"\b(?:{rooms})/[a-z0-9_/]+\.py\b", path.read_text(encoding="utf-8")
        )
        if not any((folder / name).exists() for folder in (ROOT, PACKAGE, path.parent))
    ]
    assert texts and not lost, lost


def test_every_file_of_gpu_has_the_name_of_exactly_one_file_that_it_serves():
    # These files are shared by several kernels, and serve no single file.
    shared = "capture conv_tiles conv_tiles_kernels cublas cuda norm_strips parts recording"
    shared = {*shared.split(), "__init__"}
    served = [
        p.stem for p in files() if module_name(p).split(".")[0] not in ("gpu", "show", "data")
    ]
    for path in (PACKAGE / "gpu").glob("*.py"):
        if path.stem not in shared:
            assert served.count(path.stem) == 1, f"gpu/{path.name} serves {served.count(path.stem)}"
