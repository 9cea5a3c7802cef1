"""CLIP: vectors, scores, reranking, and the most that reranking can give."""

from __future__ import annotations

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv import Tensor, no_grad
from tinycv.data.shapes_and_words import Scene, Thing, all_scenes, caption, draw_scenes, words
from tinycv.data.tokenizer import WordTokenizer
from tinycv.optim import AdamW
from tinycv.vision import CLIP, perfect_ranker, rerank

TOKENIZER = WordTokenizer(words(["en"]))
SCENES = all_scenes(1)[::5]
IMAGES = 2 * draw_scenes(SCENES, seed=1) - 1
IDS = TOKENIZER.encode([caption(scene) for scene in SCENES], 6)


def clip(seed=SEED):
    tinycv.manual_seed(seed)
    return CLIP(16, 3, len(TOKENIZER), 6, dim=16, heads=2, embed_dim=8, width=4)


@pytest.fixture(scope="module")
def made():
    return clip().eval()


def test_images_and_texts_become_unit_vectors_of_one_width(made):
    for vectors in (made.encode_image(IMAGES), made.encode_text(IDS)):
        assert vectors.shape == (len(SCENES), 8)
        np.testing.assert_allclose((vectors.numpy() ** 2).sum(axis=1), 1, rtol=1e-5)


def test_the_score_is_the_cosine_of_an_image_and_its_text(made):
    u, v = made.encode_image(IMAGES).numpy(), made.encode_text(IDS).numpy()
    np.testing.assert_allclose(made(IMAGES, IDS).numpy(), (u * v).sum(axis=1), atol=1e-6)


def test_the_score_of_an_image_does_not_depend_on_the_other_images(made):
    np.testing.assert_allclose(
        made(IMAGES, IDS).numpy()[3:5], made(IMAGES[3:5], IDS[3:5]).numpy(), atol=1e-5
    )


def test_more_padding_does_not_change_a_text(made):
    short = TOKENIZER.encode("a red circle", 3)
    long = TOKENIZER.encode("a red circle", 6)
    np.testing.assert_allclose(
        made.encode_text(short).numpy(), made.encode_text(long).numpy(), atol=1e-6
    )


def test_every_parameter_gets_a_gradient():
    model = clip()
    model.loss(IMAGES, IDS).backward()
    assert not [
        name
        for name, p in model.named_parameters()
        if p.grad is None or not np.isfinite(p.grad.numpy()).all()
    ]


def test_the_temperature_starts_at_007():
    assert 1 / np.exp(clip().log_scale.numpy()) == pytest.approx(0.07, rel=1e-5)


def test_a_model_on_the_device_has_the_loss_of_the_cpu(device):
    model = clip()
    expected = model.loss(IMAGES, IDS).item()
    model.to(device)
    found = model.loss(Tensor(IMAGES, device=device), Tensor(IDS, device=device))
    assert found.numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.statistical
def test_it_learns_to_find_the_text_of_each_image():
    model = clip()
    optimizer = AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = model.loss(IMAGES, IDS)
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.5  # before: log 20 = 3.0
    model.eval()
    with no_grad():
        cosines = (model.encode_image(IMAGES) @ model.encode_text(IDS).T).numpy()
    assert (cosines.argmax(axis=1) == np.arange(len(IMAGES))).mean() > 0.4  # by chance 1/20


# ── reranking ────────────────────────────────────────────────────────────────────────────────────


def test_reranking_sorts_images_by_their_cosine(made):
    order = rerank(made, IMAGES, IDS[2])
    cosines = made(IMAGES, IDS[2:3].repeat(len(IMAGES), axis=0)).numpy()
    assert sorted(order) == list(range(len(IMAGES)))
    assert (np.diff(cosines[order]) <= 1e-6).all()


def test_reranking_takes_one_row_of_ids_too(made):
    np.testing.assert_array_equal(rerank(made, IMAGES, IDS[2]), rerank(made, IMAGES, IDS[2:3]))


@pytest.mark.parametrize("ids", [IDS[:4], IDS[:0], IDS[:1, None]], ids=lambda ids: str(ids.shape))
def test_reranking_takes_the_ids_of_one_text_alone(made, ids):
    with pytest.raises(ValueError, match="rerank: ids is .*one text.*call rerank once for each"):
        rerank(made, IMAGES, ids)


def test_reranking_leaves_no_gradient_and_no_graph(made):
    rerank(made, IMAGES, IDS[0])
    assert all(p.grad is None for p in made.parameters())


def test_a_model_in_training_mode_does_not_rerank():
    with pytest.raises(ValueError, match="rerank: clip is in training mode.*call clip.eval"):
        rerank(clip(), IMAGES, IDS[0])


def test_a_perfect_ranker_reaches_its_bound_and_no_ranker_exceeds_it():
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 50)
    right = rng.random((4000, 50, 8)) < p[:, None]  # trials, texts, samples
    perfect = right.any(axis=-1).mean()
    first, noisy = right[..., 0].mean(), (right + rng.normal(0, 0.5, right.shape)).argmax(axis=-1)
    chosen = np.take_along_axis(right, noisy[..., None], axis=-1).mean()
    bound = perfect_ranker(p, 8).mean()
    assert perfect == pytest.approx(bound, abs=0.01)
    assert first < chosen < bound


def test_the_mean_over_texts_is_below_the_bound_of_the_mean():
    p = np.array([0.0, 1.0, 0.5])
    assert perfect_ranker(p, 16).mean() < perfect_ranker(p.mean(), 16)
    assert perfect_ranker(p, 1) == pytest.approx(p)


def test_a_text_that_is_too_long_is_refused(made):
    with pytest.raises(ValueError, match=r"CLIP: ids has shape \(1, 7\).* at most 6 words"):
        made.encode_text(np.full((1, 7), 3))


def test_a_scene_that_leaves_something_open_can_be_scored(made):
    ids = TOKENIZER.encode(caption(Scene((Thing("cross", "red"),))), 6)
    assert rerank(made, IMAGES, ids).shape == (len(IMAGES),)


@pytest.mark.parametrize("p", [1.5, -0.1, np.nan, np.array([0.5, 1.1]), np.array([0.5, np.nan])])
def test_a_perfect_ranker_takes_probabilities_only(p):
    with pytest.raises(ValueError, match="perfect_ranker: p"):
        perfect_ranker(p, 2)


def test_an_image_without_a_score_is_not_ranked():
    model, images = clip().eval(), IMAGES[:3].copy()
    images[1, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="score of image 1 is NaN"):
        rerank(model, images, IDS[0])
