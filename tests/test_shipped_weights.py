"""The weights in demos/weights belong to the code and to the figures beside them. Nothing is
trained: names, shapes and records are compared, and some figures are computed again."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import tinycv
from tinycv.adversarial import DCGANGenerator, images_of
from tinycv.data import dates, mnist_5k, split_digits_8x8
from tinycv.data.faces import BINARY
from tinycv.data.shapes_and_words import all_scenes, caption, words
from tinycv.data.tokenizer import WordTokenizer
from tinycv.diffusion import TextDiT, TextToImage, UNet
from tinycv.diffusion.denoising import diffusion_loss
from tinycv.diffusion.schedule import cosine_schedule
from tinycv.likelihood.autoregressive import MADE
from tinycv.likelihood.dalle import DALLE
from tinycv.likelihood.image_gpt import ImageGPT
from tinycv.likelihood.pixelcnn import GatedPixelCNN, PixelCNN
from tinycv.likelihood.units import binarize
from tinycv.likelihood.vq_vae import DiscreteVAE
from tinycv.sequence import GPT, Transformer, next_symbol_loss
from tinycv.show.demo import script_hash
from tinycv.show.demo_flags import WITH_PRETRAINED
from tinycv.show.judge import Judge
from tinycv.show.metrics import squared_distances
from tinycv.show.rule_judge import RuleJudge
from tinycv.training import pretrained
from tinycv.vision import CLIP, ConvNet, ViT, attribute_probabilities, probabilities

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "demos/weights"
FILES = sorted(FOLDER.glob("*.safetensors"))
MOST_BYTES = 8_000_000  # of all files together
LANGUAGES = "en", "zh"  # of the captions of demo 24
MODELS = {  # what builds each model of each file
    "05_transformer": {"sorter": Transformer, "gpt": GPT, "dates": Transformer},
    "06_vit": {"vit": ViT},
    "09_gan_digits": {"generator": DCGANGenerator, "judge": ConvNet},
    "10_face_arithmetic": {"generator": DCGANGenerator, "judge": ConvNet},
    "17_diffusion_digits": {"unet": UNet, "judge": ConvNet},
    "22_autoregressive": {
        "PixelCNN": PixelCNN,
        "gated PixelCNN": GatedPixelCNN,
        "MADE": MADE,
        "MADE, spiral": MADE,
        "MADE, 8 orders": MADE,
        "image GPT": ImageGPT,
        "first mask B": PixelCNN,
    },
    "24_text_to_image": {"network": TextDiT, "dvae": DiscreteVAE, "gpt": DALLE, "clip": CLIP},
}


def test_the_files_are_those_of_the_demos_that_have_the_flag():
    assert [path.stem for path in FILES] == sorted(WITH_PRETRAINED)
    assert set(WITH_PRETRAINED) <= set(MODELS)
    assert sum(path.stat().st_size for path in FILES) <= MOST_BYTES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_code_builds_the_models_of_a_file_and_no_array_is_left_over(path):
    weights = pretrained.read(path)
    kinds = MODELS[path.stem]
    assert {name.split("/")[0] for name in weights.arrays} == set(kinds) == set(weights.config)
    for name, kind in kinds.items():
        assert weights.build(name, kind).num_parameters() > 1000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_was_written_by_the_run_whose_record_is_committed(path):
    weights = pretrained.read(path).record
    record = json.loads((ROOT / f"demos/gallery/{path.stem}.json").read_text(encoding="utf-8"))
    assert weights["script"] == script_hash(ROOT / f"demos/{path.stem}.py")
    for key in ("demo", "script", "size", "title", "rows", "seed", "seconds", "versions", "cpu"):
        assert weights[key] == record[key], key


# ── Figures, computed again from the weights ──────────────────────────────────────────────────────
def figure_of_the_file(demo: str, metric: str) -> float:
    """A figure of demos/records/float16.json, which was measured with the weights of the file."""
    record = json.loads((ROOT / "demos/records/float16.json").read_text(encoding="utf-8"))
    rows = record["files"][demo]["figures"]
    return next(row["float16"] for row in rows if row["metric"] == metric)


def wrong_of_transformer(weights):
    """Its cross-entropy on 500 unseen dates. The share of dates that are right is too coarse: with
    one matrix of the wrong order it may stay at 1."""
    _, unseen = dates(weights.record["seed"], "english")
    source, target = tinycv.Tensor(unseen.source[:500]), tinycv.Tensor(unseen.target[:500])
    with tinycv.no_grad():
        found = next_symbol_loss(weights.build("dates", Transformer), source, target).item()
    metric = "dates: cross-entropy of 500 unseen, nats per symbol"
    return abs(found / figure_of_the_file("05_transformer", metric) - 1) > 0.1


def wrong_of_vit(weights):
    """Its accuracy and its cross-entropy on 1,000 test digits. With another BLAS one digit may be
    read differently."""
    _, _, test, labels = mnist_5k(seed=weights.record["seed"])
    p = probabilities(weights.build("vit", ViT), test)
    accuracy = (p.argmax(axis=1) == labels).mean()
    nats = -np.log(p[np.arange(len(labels)), labels]).mean()
    metric = "cross-entropy of 1,000 unseen digits, nats"
    error = nats / figure_of_the_file("06_vit", metric) - 1
    recorded = weights.value("accuracy on 1,000 unseen digits")
    return abs(error) > 1e-3 or abs(accuracy - recorded) > 0.0011


def wrong_of_dcgan(weights):
    """How far its digits are from the training digits: in the demo, the median of 1,000."""
    x, _, _, _ = mnist_5k(seed=weights.record["seed"])
    noise = np.random.default_rng(weights.record["seed"])
    noise.normal(size=(40, 64))  # the demo draws these first
    vectors = noise.normal(size=(len(x), 64)).astype(np.float32)[:1000]
    made = images_of(weights.build("generator", DCGANGenerator), vectors)
    squared = squared_distances(made.reshape(1000, 784), x.reshape(-1, 784))
    found = np.median(squared.min(axis=1)) ** 0.5
    metric = (
        "median distance of generated digits to the nearest training digit, in pixel brightness"
    )
    return abs(found - weights.value(metric)) > 0.001


def wrong_of_unet(weights):
    """Its error on test digits, with the same noise, and the judge's mean probability of its
    answers on them."""
    _, _, test, labels = mnist_5k()
    unet = weights.build("unet", UNet)
    tinycv.manual_seed(0)
    losses = []
    with tinycv.no_grad():
        for start in range(0, 1000, 200):
            some = slice(start, start + 200)
            images = tinycv.Tensor(2 * test[some] - 1)
            loss = diffusion_loss(
                unet, images, labels[some], schedule=cosine_schedule(1000), predicts="v"
            )
            losses.append(loss.item())
    metric = "squared error of v on 1,000 unseen digits, the same noise"
    error = np.mean(losses) / figure_of_the_file("17_diffusion_digits", metric) - 1
    judge = Judge(weights.build("judge", ConvNet))
    sure = judge.probabilities(test).max(axis=1).mean()
    recorded = weights.value(
        "real digits, unseen: mean probability that the judge gives to its answer"
    )
    return abs(error) > 1e-3 or abs(sure - recorded) > 1e-4


def wrong_of_faces(weights):
    """The share of the GAN's faces in which the judge is sure of every attribute: in the demo, of
    15,000, here of 500."""
    vectors = np.random.default_rng(1).normal(size=(500, 16)).astype(np.float32)
    made = images_of(weights.build("generator", DCGANGenerator), vectors)
    p = attribute_probabilities(weights.build("judge", ConvNet), made)[:, : len(BINARY)]
    found = (np.maximum(p, 1 - p) >= 0.95).all(axis=1).mean()
    metric = "share of 15000 faces in whose attributes the judge is all sure (>= 0.95)"
    return abs(found - weights.value(metric)) > 0.08


def wrong_of_pixel_models(weights):
    """The nats of unseen digits, exact likelihoods."""
    _, _, test, _ = split_digits_8x8()
    images = tinycv.Tensor(binarize(test, 0.5))
    wrong = False
    for name, kind in MODELS["22_autoregressive"].items():
        if name == "first mask B":
            continue  # its figure is no likelihood
        with tinycv.no_grad():
            nats = -weights.build(name, kind).log_prob(images).numpy().mean()
        wrong |= not abs(nats - weights.value(f"{name}: nats of test digits")) < 0.01
    return wrong


def wrong_of_text_to_image(weights):
    """How far its pictures of the 96 seen captions are from clean drawings, with guidance 2."""
    scenes = all_scenes()
    network = weights.build("network", TextDiT)
    captions = [
        caption(s, language)
        for s in all_scenes() + all_scenes(held_out=True)
        for language in LANGUAGES
    ]
    tokenizer = WordTokenizer([word for word in words() if word in " ".join(captions)])
    model = TextToImage(network, tokenizer, mean=0.3, std=1.5, sigma_max=20.0, centre=-1.0)
    ids = tinycv.Tensor(tokenizer.encode([caption(scene) for scene in scenes], 6))
    tinycv.manual_seed(0)
    with tinycv.no_grad():
        images = model.sample(ids, tinycv.randn(len(scenes), 3, 16, 16), 2.0, 12, "ddim").numpy()
    found = RuleJudge().residual(images / 2 + 0.5).mean()
    metric = "diffusion, w = 2: distance to the nearest clean drawing, seen"
    return abs(found / figure_of_the_file("24_text_to_image", metric) - 1) > 0.005


WRONG = {
    "05_transformer": wrong_of_transformer,
    "06_vit": wrong_of_vit,
    "09_gan_digits": wrong_of_dcgan,
    "10_face_arithmetic": wrong_of_faces,
    "17_diffusion_digits": wrong_of_unet,
    "22_autoregressive": wrong_of_pixel_models,
    "24_text_to_image": wrong_of_text_to_image,
}
MATRIX = {  # one matrix of each file that these figures need
    "05_transformer": "dates/encoder.layers.1.linear1.weight",
    "06_vit": "vit/blocks.1.linear1.weight",
    "09_gan_digits": "generator/layers.2.weight",
    "10_face_arithmetic": "generator/layers.2.weight",
    "17_diffusion_digits": "unet/middle.0.conv2.weight",
    "22_autoregressive": "MADE/layers.1.weight",
    "24_text_to_image": "network/blocks.0.attention.in_proj_weight",
}


@pytest.mark.parametrize("name", sorted(set(WRONG) & set(WITH_PRETRAINED)))
def test_a_figure_of_the_record_is_computed_again_from_the_weights(name):
    assert not WRONG[name](pretrained.read(name))


@pytest.mark.parametrize("name", sorted(set(WRONG) & set(WITH_PRETRAINED)))
def test_weights_with_one_matrix_upside_down_would_be_found(name):
    """One matrix in reverse order: names, shapes and all statistics are right."""
    weights = pretrained.read(name)
    reversed_rows = {MATRIX[name]: weights.arrays[MATRIX[name]][::-1].copy()}
    assert WRONG[name](dataclasses.replace(weights, arrays=weights.arrays | reversed_rows))


def test_the_vit_of_another_seed_would_be_found():
    """Its initial weights stand for those of another training."""
    weights = pretrained.read("06_vit")
    tinycv.manual_seed(1)
    other = ViT(**weights.config["vit"])
    arrays = pretrained.arrays_of({"vit": other})
    assert WRONG["06_vit"](dataclasses.replace(weights, arrays=arrays))
