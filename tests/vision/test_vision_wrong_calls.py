"""Wrong calls of everything public in tinycv.vision: each raises one plain sentence, whatever
container holds the images."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vgg_file import vgg_file
from wrong_calls import riddles

import tinycv
from tinycv import vision
from tinycv.vision import classify

IMAGES = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)
LABELS = np.arange(4) % 3
VIDEO = np.random.default_rng(1).random((2, 4, 1, 6, 8), np.float32)
MAPS = [tinycv.tensor(np.full((2, 2, 5, 5), 0.2, np.float32))] * 2
ABOUT = {"mean": [0.5], "std": [0.5], "crop": 0.9, "resample": "bicubic"}


def vit(**options):
    return vision.ViT(
        **(
            {"image_size": 8, "patch_size": 4, "num_classes": 3, "dim": 8, "depth": 1, "heads": 2}
            | options
        )
    )


MODEL = vit().eval()
PHOTO = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
FILTERS = vision.RandomFilters(2, (3,), 2)
FEATURES = np.ones((1, 2, 4, 4), np.float32)
GRAMS = np.ones((1, 2, 2), np.float32)
PAINTER = vision.AdaINTransfer(width=2)
SIZES = {
    "image_size": 8,
    "patch_size": 4,
    "num_classes": 3,
    "channels": 1,
    "dim": 8,
    "depth": 1,
    "heads": 2,
    "mlp_dim": 16,
    "dropout": 0.1,
    "pool": "cls",
    "layer_norm_eps": 1e-5,
}


PAIRED = vision.CLIP(8, 1, 9, 4, dim=8, heads=2, embed_dim=4, width=2).eval()
IDS = np.array([[3, 4, 5, 0], [3, 4, 6, 7], [5, 0, 0, 0], [8, 3, 0, 0]])
SEGMENTER = vision.Segmenter(3, width=2).eval()
COLOURED = IMAGES.repeat(3, axis=1)
LABEL_MAPS = np.zeros((4, 8, 8), np.int64)


def equal_chances(images):
    return np.full((len(images), 3), 1 / 3)


def trained(model, images, labels, epochs, seed, transform, mix, batch_size, held_out, half):
    """train_classifier with a new model each time, because a model stays in half precision."""
    model = vit() if model is MODEL else model
    return vision.train_classifier(
        model,
        images,
        labels,
        min(epochs, 1) if type(epochs) is int else epochs,
        seed=seed,
        transform=transform,
        mix=mix,
        batch_size=batch_size,
        held_out=held_out,
        half=half,
    )


def attributes_learned(model, images, attributes, epochs, seed, transform, batch_size):
    """train_attributes for at most one epoch, with a new model each time."""
    return vision.train_attributes(
        vit() if model is MODEL else model,
        images,
        attributes,
        min(epochs, 1) if type(epochs) is int else epochs,
        seed=seed,
        transform=transform,
        batch_size=batch_size,
    )


def vgg(path, pooling):
    """VGG19Features, whose file is written when the good call needs it."""
    if isinstance(path, str) and path == "vgg19.safetensors" and not Path(path).exists():
        vgg_file(Path.cwd())
    return vision.VGG19Features(path, pooling)


GOOD = {
    "ViT": (vision.ViT, SIZES),
    "ViT ": (lambda images: MODEL(images), {"images": IMAGES}),
    "ViT  ": (vision.ViT, SIZES | {"stem": (2, 3)}),
    "ConvStem": (vision.ConvStem, {"channels": 1, "widths": (2, 3), "dim": 4}),
    "ConvStem ": (lambda images: vision.ConvStem(1, (2, 3), 4).eval()(images), {"images": IMAGES}),
    "ConvNet": (vision.ConvNet, {"num_classes": 3, "image_size": 8, "in_channels": 1, "width": 2}),
    "ConvNet ": (lambda images: vision.ConvNet(3, 8, 1, 2).eval()(images), {"images": IMAGES}),
    "CLIP": (
        vision.CLIP,
        {
            "image_size": 8,
            "channels": 1,
            "words": 9,
            "length": 4,
            "dim": 8,
            "heads": 2,
            "depth": 1,
            "embed_dim": 4,
            "width": 2,
        },
    ),
    "CLIP ": (lambda images, ids: PAIRED(images, ids), {"images": IMAGES, "ids": IDS}),
    "CLIP  ": (
        lambda images, ids, groups: PAIRED.loss(images, ids, groups),
        {"images": IMAGES, "ids": IDS, "groups": LABELS},
    ),
    "rerank": (vision.rerank, {"clip": PAIRED, "images": IMAGES, "ids": IDS[0]}),
    "perfect_ranker": (vision.perfect_ranker, {"p": 0.5, "n": 16}),
    "patchify": (vision.patchify, {"images": tinycv.tensor(IMAGES), "patch_size": 4}),
    "unpatchify": (
        vision.unpatchify,
        {"patches": np.zeros((2, 4, 16)), "patch_size": 4, "shape": (2, 1, 8, 8)},
    ),
    "patchify_video": (
        vision.patchify_video,
        {"video": tinycv.tensor(VIDEO), "patch_size": (2, 3, 4)},
    ),
    "unpatchify_video": (
        vision.unpatchify_video,
        {"patches": np.zeros((2, 8, 24)), "patch_size": (2, 3, 4), "shape": (2, 4, 1, 6, 8)},
    ),
    "tubelet_grid": (
        vision.tubelet_grid,
        {"shape": (2, 4, 1, 6, 8), "patch_size": (2, 3, 4), "who": "tubelet_grid"},
    ),
    "attention_rollout": (vision.attention_rollout, {"maps": MAPS}),
    "cls_attention": (vision.cls_attention, {"maps": MAPS}),
    "attention_distance": (vision.attention_distance, {"maps": MAPS, "patch_size": 4}),
    "patch_distance": (vision.patch_distance, {"side": 3}),
    "patch_filters": (vision.patch_filters, {"model": MODEL, "count": 3}),
    "patch_rollout": (vision.patch_rollout, {"model": MODEL, "images": IMAGES}),
    "position_similarity": (vision.position_similarity, {"model": MODEL}),
    "nearness_learned": (vision.nearness_learned, {"model": MODEL}),
    "spearman": (vision.spearman, {"a": np.arange(4.0), "b": np.arange(4.0)}),
    "enrichment": (vision.enrichment, {"mass": np.ones((2, 4)), "mask": np.ones((2, 8, 8), bool)}),
    "deletion_curve": (
        vision.deletion_curve,
        {
            "predict": equal_chances,
            "images": IMAGES,
            "labels": LABELS,
            "order": np.tile(np.arange(4), (4, 1)),
            "fill": 0.5,
        },
    ),
    "probabilities": (vision.probabilities, {"model": MODEL, "images": IMAGES, "batch_size": 3}),
    "accuracy": (vision.accuracy, {"model": MODEL, "images": IMAGES, "labels": LABELS}),
    "train_classifier": (
        trained,
        {
            "model": MODEL,
            "images": IMAGES,
            "labels": LABELS,
            "epochs": 1,
            "seed": 0,
            "transform": None,
            "mix": None,
            "batch_size": 2,
            "held_out": (IMAGES, LABELS),
            "half": False,
        },
    ),
    "attribute_probabilities": (
        vision.attribute_probabilities,
        {"model": MODEL, "images": IMAGES, "batch_size": 3},
    ),
    "train_attributes": (
        attributes_learned,
        {
            "model": MODEL,
            "images": IMAGES,
            "attributes": np.eye(4, 3, dtype=np.float32),
            "epochs": 1,
            "seed": 0,
            "transform": None,
            "batch_size": 2,
        },
    ),
    "Segmenter": (vision.Segmenter, {"num_classes": 3, "width": 2}),
    "Segmenter ": (lambda images: SEGMENTER(images), {"images": COLOURED}),
    "segment": (vision.segment, {"model": SEGMENTER, "images": COLOURED}),
    "pixel_cross_entropy": (
        vision.pixel_cross_entropy,
        {"scores": tinycv.tensor(COLOURED), "labels": LABEL_MAPS},
    ),
    "iou_by_class": (
        vision.iou_by_class,
        {"predicted": LABEL_MAPS, "labels": LABEL_MAPS, "num_classes": 3},
    ),
    "mean_iou": (
        vision.mean_iou,
        {"predicted": LABEL_MAPS, "labels": LABEL_MAPS, "num_classes": 3},
    ),
    "load_vit": (vision.load_vit, {"path": "a.safetensors", "heads": 2, "image_size": 8}),
    "save_vit": (vision.save_vit, {"path": "b.safetensors", "model": MODEL, "layout": "timm"}),
    "gram_matrix": (vision.gram_matrix, {"features": FEATURES}),
    "style_loss": (
        vision.style_loss,
        {"features": [tinycv.tensor(FEATURES)], "grams": [tinycv.tensor(GRAMS)], "weights": [1.0]},
    ),
    "content_loss": (vision.content_loss, {"features": FEATURES, "target": FEATURES}),
    "total_variation": (vision.total_variation, {"x": PHOTO}),
    "luminance": (vision.luminance, {"x": PHOTO}),
    "match_luminance": (vision.match_luminance, {"content": PHOTO, "style": PHOTO}),
    "Canvas": (vision.Canvas, {"start": PHOTO}),
    "StyleObjective": (
        vision.StyleObjective,
        {
            "content": PHOTO,
            "style": PHOTO,
            "extractor": FILTERS,
            "alpha": 1.0,
            "weights": [1.0, 1.0],
            "smoothness": 0.1,
        },
    ),
    "StyleObjective ": (vision.StyleObjective(PHOTO, PHOTO, FILTERS), {"x": PHOTO}),
    "RandomFilters": (vision.RandomFilters, {"per_size": 2, "sizes": (3, 5), "levels": 2}),
    "RandomFilters ": (lambda x: FILTERS(x), {"x": PHOTO}),
    "VGG19Features": (vgg, {"path": "vgg19.safetensors", "pooling": "max"}),
    "AdaINTransfer": (vision.AdaINTransfer, {"width": 2}),
    "AdaINTransfer ": (
        lambda content, style, alpha: PAINTER(content, style, alpha),
        {"content": PHOTO, "style": PHOTO, "alpha": 0.5},
    ),
    "adain_loss": (
        vision.adain_loss,
        {
            "model": PAINTER,
            "content": PHOTO,
            "style": PHOTO,
            "extractor": FILTERS,
            "style_weight": 1.0,
        },
    ),
    "classify": (
        classify.classify,
        {"model": MODEL, "image": IMAGES[0], "top": 2, "device": "cpu"},
    ),
    "prepared": (classify.prepared, {"path": "a.png", "size": 4, "channels": 1, "about": ABOUT}),
    "read_labels": (classify.read_labels, {"path": "names.txt", "classes": 3}),
}
FOR_THE_COMMAND = {"refuse_show", "main", "report", "digit_report", "photo_report", "parser"}
ALSO = {
    "CLIP": ("ConvNet", "TextEncoder"),
    "CLIP ": ("ConvNet", "TextEncoder"),
    "CLIP  ": ("ConvNet", "TextEncoder", "contrastive_loss"),
    "rerank": ("ConvNet", "TextEncoder", "CLIP"),
    "train_attributes": ("ViT", "attribute_loss"),
    "attribute_probabilities": ("ViT",),
    "style_loss": ("gram_matrix",),
    "AdaINTransfer": ("StyleDecoder",),
    "AdaINTransfer ": ("PatchCosines",),
    "adain_loss": ("AdaINTransfer", "PatchCosines"),
    "StyleObjective": ("RandomFilters",),
    "StyleObjective ": ("RandomFilters",),
    "VGG19Features": (".safetensors", "word"),
    "train_classifier": ("ViT",),
    "patch_rollout": ("ViT",),
    "accuracy": ("ViT",),
    "probabilities": ("ViT",),
    "classify": ("ViT", "device"),
    "segment": ("Segmenter",),
    "pixel_cross_entropy": ("cross_entropy",),
    "mean_iou": ("iou_by_class",),
    "prepared": ("open_photo", "square"),
    "load_vit": ("a.safetensors", ".safetensors", "word"),
}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8)).save("a.png")
    vision.save_vit("a.safetensors", MODEL)
    (tmp_path / "names.txt").write_text("a\nb\nc\n")


@pytest.mark.parametrize("name", GOOD)
def test_every_wrong_call_ends_in_a_sentence_that_names_the_function(name):
    function, good = GOOD[name]
    function(**good)
    assert not riddles(function, good, name.strip(), *ALSO.get(name, ()))


def test_no_public_function_is_left_out():
    own = {
        name
        for name, thing in vars(classify).items()
        if inspect.isfunction(thing) and thing.__module__ == classify.__name__
    }
    assert set(vision.__all__) | own - FOR_THE_COMMAND == {name.strip() for name in GOOD}
