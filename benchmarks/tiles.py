"""Two implementations of convolution on a GPU, by columns (im2col) and by tiles, timed against each
other.

    python -m benchmarks.tiles out/conv_tiles.json

For each shape, and for each of the three maps (forward, gradient of the input, gradient of the
weight), the record has the milliseconds (means of ten calls, by CUDA events) and TFLOP/s of both
implementations, their largest difference relative to the largest value, and whether two runs by
tiles give the same bits.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

CALLS = 10
NEVER = 1 << 62  # as the smallest size for tiles: they are never used
# images, input channels, output channels, side, window, stride, padding: large shapes, those of a
# U-Net, small ones, and some for which the library does not use tiles
SHAPES = (
    (128, 128, 128, 32, 3, 1, 1),
    (128, 128, 256, 32, 4, 2, 1),
    (64, 64, 64, 64, 3, 1, 1),
    (64, 64, 128, 64, 3, 2, 1),
    (64, 128, 128, 32, 3, 1, 1),
    (64, 64, 128, 64, 2, 2, 0),
    (64, 128, 64, 64, 3, 1, 1),
    (64, 32, 32, 28, 3, 1, 1),
    (64, 64, 64, 14, 3, 1, 1),
    (64, 64, 1, 64, 3, 1, 1),
    (64, 1, 64, 64, 3, 1, 1),
)


def rows(
    xp: Any, shapes: Any = SHAPES, calls: int = CALLS, many: int | None = None
) -> Iterator[dict[str, Any]]:
    """A row for each shape and map. many: the number of numbers from which on tiles are used; None
    takes the library's value."""
    from tinycv.gpu import conv_kernel, conv_tiles
    from tinycv.nn.layout import channels_first
    from tinycv.nn.window import output_size

    rng = np.random.default_rng(0)
    ways = {"columns": NEVER, "tiles": conv_tiles.MANY if many is None else many}

    def draw(*shape: int) -> Any:
        return xp.asarray(rng.random(shape, dtype=np.float32) - np.float32(0.5))

    for n, c, o, side, k, s, p in shapes:
        options = (s, s), ((p, p), (p, p)), (1, 1), 1
        size = output_size((side + 2 * p,) * 2, (k, k), (s, s), (1, 1))
        x, g = channels_first(draw(n, side, side, c)), channels_first(draw(n, *size, o))
        w = draw(o, c, k, k)
        flops = 2 * n * size[0] * size[1] * o * c * k * k
        shape = dict(images=n, channels=c, outputs=o, side=side, window=k, stride=s)
        for name, function, arguments in (
            ("forward", conv_kernel.forward, (x, w)),
            ("to_input", conv_kernel.to_input, (g, w, x.shape)),
            ("to_weight", conv_kernel.to_weight, (g, x, w.shape)),
        ):
            call = partial(function, xp, *arguments, *options)
            results, row = {}, {**shape, "map": name}
            for way, least in ways.items():
                with mock.patch.object(conv_tiles, "MANY", least):
                    results[way] = call()
                    again = call()
                    ms = milliseconds(call, calls)
                row |= {f"{way}_ms": ms, f"{way}_tflops": flops / ms * 1e-9}
            columns, tiles = results["columns"], results["tiles"]
            error = abs(tiles - columns).max() / abs(columns).max()
            same_bits = bool((again == tiles).all())  # again: the second call by tiles
            yield {**row, "error": float(error), "same_bits": same_bits}


def milliseconds(call: Callable[[], Any], calls: int) -> float:
    """Milliseconds per call, by the clock of the device."""
    from tinycv.engine.backend import Stopwatch

    with Stopwatch("gpu") as watch:
        for _ in range(calls):
            call()
    return 1e3 * watch.seconds / calls


def main(file: Path) -> int:
    """Measure and write the record. Returns 2 without a GPU, or if ``file`` cannot be written."""
    from tinycv.data.atomic import obstacle
    from tinycv.engine import backend
    from tinycv.show import doctor

    in_the_way = obstacle(file)
    if in_the_way:
        print(f"name a file for the record: {in_the_way}", file=sys.stderr)
        return 2
    problem = backend.gpu_problem()
    if problem is not None:
        print(f"GPU: not measured. {problem}", file=sys.stderr)
        return 2
    measured = []
    for row in rows(backend.module_for("gpu")):
        measured.append(row)
        print(row, flush=True)
    record = {
        "what": "the three maps of convolution on a GPU, float32, by columns and by tiles; means "
        "of ten calls",
        "gpu": doctor.report()["gpu"]["names"][0],
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
        "rows": measured,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiles")
    parser.add_argument("file", nargs="?", type=Path, default=Path("out/conv_tiles.json"))
    sys.exit(main(parser.parse_args().file))
