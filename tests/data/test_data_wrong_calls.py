"""Wrong calls of the functions of tinycv.data for images, files and loaders: each gives an error
that names the function and the argument."""

import inspect

import numpy as np
import pytest
from PIL import Image
from wrong_calls import riddles

from tinycv import data
from tinycv.data import (
    cifar,
    disk_cache,
    face_folder,
    idx,
    loader,
    memory,
    mnist,
    photos,
    sample_photos,
)
from tinycv.data.rand_augment import CHANGES

X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
Y = np.eye(4, dtype=np.float32)
RNG = np.random.default_rng(0)
MAPS = np.ones((2, 32, 32), np.uint8)


def identity(x, rng):
    return x


def draw(n, rng):
    return (np.zeros(n),)


GOOD = {
    "random_flip": (data.random_flip, {"x": X, "rng": RNG, "chance": 0.5}),
    "random_crop": (data.random_crop, {"x": X, "rng": RNG, "size": (5, 6), "padding": 1}),
    "random_shift": (data.random_shift, {"x": X, "rng": RNG, "pixels": 2}),
    "random_affine": (
        data.random_affine,
        {"x": X, "rng": RNG, "degrees": 15, "translate": 0.1, "scale": (0.9, 1.1), "shear": 3.0},
    ),
    "affine": (
        data.affine,
        {
            "x": X,
            "degrees": np.ones(4),
            "translate": np.ones((4, 2)),
            "scale": np.ones(4),
            "shear": np.ones(4),
        },
    ),
    "rand_augment": (
        data.rand_augment,
        {"x": X, "rng": RNG, "n": 2, "magnitude": 3.0, "changes": CHANGES},
    ),
    "mixup": (data.mixup, {"x": X, "y": Y, "rng": RNG, "alpha": 0.4}),
    "cutmix": (data.cutmix, {"x": X, "y": Y, "rng": RNG, "alpha": 1.0}),
    "one_hot": (data.one_hot, {"labels": np.arange(4), "classes": 5}),
    "halved": (data.halved, {"images": X}),
    "stacked_digits": (
        data.stacked_digits,
        {"images": X[:, :1], "labels": np.arange(4), "n": 3, "rng": RNG},
    ),
    "split_digits_8x8": (data.split_digits_8x8, {"test": 297, "seed": 0}),
    "stratified_folds": (
        data.stratified_folds,
        {"labels": np.arange(10) % 2, "folds": 2, "seed": 0},
    ),
    "mnist_5k": (data.mnist_5k, {"test": 10, "seed": 0}),
    "adding": (data.adding, {"n": 3, "steps": 4, "rng": RNG}),
    "copying": (data.copying, {"n": 3, "wait": 4, "rng": RNG}),
    "copying_without_memory": (memory.copying_without_memory, {"wait": 4}),
    "DataLoader": (
        lambda array, **options: list(data.DataLoader(array, Y, **options)),
        {
            "array": X,
            "batch_size": 2,
            "shuffle": True,
            "seed": 0,
            "transform": identity,
            "drop_last": False,
        },
    ),
    "DataLoader mix": (
        lambda mix: list(data.DataLoader(X, Y, batch_size=2, mix=mix)),
        {"mix": data.mixup},
    ),
    "DataLoader.epoch": (
        lambda number, start: list(data.DataLoader(X, batch_size=2).epoch(number, start)),
        {"number": 1, "start": 1},
    ),
    "DrawnLoader": (
        lambda draw, batch_size, batches, seed: len(
            data.DrawnLoader(draw, batch_size, batches, seed)
        ),
        {"draw": draw, "batch_size": 2, "batches": 2, "seed": 0},
    ),
    "DrawnLoader.epoch": (
        lambda number, start: list(data.DrawnLoader(draw, 2, 3).epoch(number, start)),
        {"number": 1, "start": 1},
    ),
    "image_folder": (
        data.image_folder,
        {"path": "photos", "size": 4, "channels": 3, "labels": "labels.csv", "broken": "skip"},
    ),
    "split_by_class": (
        data.split_by_class,
        {"images": X, "labels": np.arange(4) % 2, "held_out": 0.5, "seed": 0},
    ),
    "faces": (data.faces, {"n": 2, "seed": 3, "glasses": 1, "turn": 0.5}),
    "draw_faces": (data.draw_faces, {"attributes": {"glasses": 1}}),
    "faces_from_folder": (
        data.faces_from_folder,
        {"folder": "photos", "csv_name": "attributes.csv", "size": 4, "columns": ["glasses"]},
    ),
    "open_photo": (photos.open_photo, {"path": "photos/a/x.png", "channels": 3, "alpha": False}),
    "square": (
        photos.square,
        {"photo": Image.new("RGB", (8, 8)), "size": 4, "crop": 0.9, "resample": "bicubic"},
    ),
    "pixels": (photos.pixels, {"photo": Image.new("RGB", (8, 8))}),
    "sample_photo": (
        data.sample_photo,
        {"name": "chelsea", "size": 8, "box": (10, 20, 30)},
    ),
    "credit": (data.credit, {"names": ["china", "flower"]}),
    "PhotoCrops": (
        lambda pictures, size: data.PhotoCrops(pictures, size)(2, RNG),
        {"pictures": [X[0]], "size": 4},
    ),
    "PhotoCrops draw": (data.PhotoCrops([X[0]], 4), {"n": 2, "rng": RNG}),
    "halvings": (sample_photos.halvings, {"picture": X[0], "least": 4}),
    "scenes": (data.scenes, {"n": 2, "seed": 0}),
    "paint": (data.paint, {"labels": MAPS}),
    "label_map_from_png": (data.label_map_from_png, {"path": "map.png", "side": 8}),
    "read_idx": (data.read_idx, {"path": "a.idx"}),
    "idx_header": (idx.idx_header, {"path": "a.idx"}),
    "write_idx": (
        data.write_idx,
        {"path": "b.idx", "array": np.arange(6, dtype=np.uint8).reshape(2, 3)},
    ),
    "idx_folder": (data.idx_folder, {"folder": "mnist"}),
    "cifar_folder": (data.cifar_folder, {"folder": "cifar"}),
}
OTHERS = {  # whose files have tests of their own
    "EOS",
    "PAD",
    "SOS",
    "Balls",
    "Boxes",
    "Mixture",
    "Motion",
    "Pairs",
    "Scene",
    "Thing",
    "Vocabulary",
    "WordTokenizer",
    "addition",
    "alignment_error",
    "all_scenes",
    "bag_ceiling",
    "caption",
    "captioned_balls",
    "checkerboard",
    "copies",
    "corners",
    "dates",
    "download",
    "draw_balls",
    "draw_scenes",
    "eight_gaussians",
    "entropy",
    "gaussian",
    "grid",
    "lecture",
    "moebius",
    "motion_caption",
    "motion_of",
    "motion_words",
    "padded",
    "picture",
    "random_balls",
    "reversal",
    "ring",
    "rings",
    "scene_of",
    "simulate",
    "sorting",
    "swiss_roll",
    "two_modes",
    "two_moons",
}
# the training loop calls parts, with a loader that it has checked
NOTHING_TO_GIVE = {"digits_8x8", "cache_folder", "cached", "Loader", "parts"}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    # a wrong path may be one that can be written
    monkeypatch.chdir(tmp_path)
    for place in ("photos/a", "mnist", "cifar"):
        (tmp_path / place).mkdir(parents=True)
    for name in "xy":
        Image.new("RGB", (8, 8)).save(f"photos/a/{name}.png")
    (tmp_path / "photos/attributes.csv").write_text("file,glasses\na/x.png,1\na/y.png,0\n")
    (tmp_path / "photos/labels.csv").write_text("file,label\na/x.png,a\na/y.png,a\n")
    Image.new("RGB", (8, 8), (110, 190, 240)).save("map.png")
    data.write_idx("a.idx", np.zeros((2, 3), np.uint8))
    for part in ("train", "t10k"):
        data.write_idx(f"mnist/{part}-images-idx3-ubyte", np.zeros((2, 4, 4), np.uint8))
        data.write_idx(f"mnist/{part}-labels-idx1-ubyte", np.zeros(2, np.uint8))
    for name in (*cifar.TRAIN, *cifar.TEST):
        (tmp_path / "cifar" / name).write_bytes(bytes(2 * 3073))


@pytest.mark.parametrize("name", GOOD)
def test_the_error_of_a_wrong_call_names_the_function(name):
    function, good = GOOD[name]
    function(**good)
    assert not riddles(function, good, name.split()[0])


def test_every_public_function_is_covered():
    found = {name for name in data.__all__ if name not in OTHERS}
    for module in (
        photos,
        sample_photos,
        face_folder,
        loader,
        idx,
        cifar,
        mnist,
        memory,
        disk_cache,
    ):
        found |= {
            name
            for name, thing in vars(module).items()
            if inspect.isfunction(thing) or inspect.isclass(thing)
            if thing.__module__ == module.__name__ and not name.startswith("_")
        }
    assert found - NOTHING_TO_GIVE == {name for name in GOOD if "." not in name and " " not in name}


MASKED = np.ma.masked_array(np.ones((4, 4)), np.eye(4, dtype=bool))


@pytest.mark.parametrize(
    "value",
    [MASKED, [MASKED[0], MASKED[1]], np.matrix(np.ones((4, 4)))],
    ids=["masked", "list of masked", "matrix"],
)
def test_masked_arrays_and_matrices_are_refused(value):
    for name, argument in (
        ("mixup", "y"),
        ("cutmix", "y"),
        ("affine", "translate"),
        ("write_idx", "array"),
    ):
        function, good = GOOD[name]
        with pytest.raises(
            TypeError, match=rf"{name}: {argument} is an? (masked array|np.matrix) of shape"
        ):
            function(**{**good, argument: value})


@pytest.mark.parametrize(
    "path", ["x" * 300, "é" * 200 + ".gz", "b/" * 3000 + "c"], ids=["name", "bytes", "path"]
)
@pytest.mark.parametrize(
    "call",
    [
        "read_idx",
        "idx_header",
        "write_idx",
        "idx_folder",
        "cifar_folder",
        "image_folder",
        "open_photo",
    ],
)
def test_a_path_that_is_too_long_is_refused(call, path):
    function, good = GOOD[call]
    argument = "folder" if "folder" in good else "path"
    with pytest.raises(
        ValueError, match=f"{call}: {argument} is .*, too long for a file or folder"
    ):
        function(**{**good, argument: path})


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda many: data.checkerboard(many), "checkerboard: squares"),
        (lambda many: data.reversal([3], n=many), "reversal: n"),
        (lambda many: data.reversal([3, many]), r"reversal: lengths\[1\]"),
    ],
    ids=["checkerboard", "questions", "letters"],
)
def test_numbers_that_would_run_endlessly_or_fill_the_memory_are_refused(call, words):
    with pytest.raises(
        ValueError, match=words + " is 10{12}; it must be a whole number, at least . and at most"
    ):
        call(10**12)


def test_a_list_that_contains_itself_is_refused():
    loop = []
    loop.append(loop)
    for name in ("random_flip", "one_hot", "write_idx"):
        function, good = GOOD[name]
        argument = [*good][0] if name != "write_idx" else "array"
        with pytest.raises(
            TypeError, match=rf"{name}: {argument} is \[\[...\]\]; .* \(it is nested too deeply\)"
        ):
            function(**{**good, argument: loop})
