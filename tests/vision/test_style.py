"""Style transfer: Gram matrices, the losses, the canvas, and exact optima that must be found."""

import numpy as np
import pytest
from near import near

import tinycv
from tinycv import Tensor
from tinycv.data import sample_photo
from tinycv.engine.check import certify
from tinycv.optim import LBFGS
from tinycv.vision import (
    Canvas,
    RandomFilters,
    StyleObjective,
    content_loss,
    gram_matrix,
    luminance,
    match_luminance,
    style_loss,
    total_variation,
)
from tinycv.vision.style import Features

RNG = np.random.default_rng(0)


def photo(seed=0, side=16):
    """A random image in the middle of the range, (1, 3, side, side)."""
    values = np.random.default_rng(seed).uniform(0.2, 0.8, (1, 3, side, side))
    return Tensor(values.astype(np.float32))


def small_filters():
    return RandomFilters(per_size=4, sizes=(3, 5), levels=2)


def pixels_alone(x):
    """An extractor of 1 x 1 linear filters: the channels themselves."""
    return Features([x - 0.5], luminance(x))


def minimise(goal, canvas, evaluations):
    """Optimise the pixels by L-BFGS, without an early end."""
    optimizer = LBFGS(
        canvas.parameters(),
        max_iter=evaluations,
        max_eval=evaluations,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = goal(canvas())
        loss.backward()
        return loss

    optimizer.step(closure)


# ── Gram matrices and the losses ──────────────────────────────────────────────────────────────────


def test_a_gram_matrix_equals_a_double_loop_over_channels_and_positions(device):
    features = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = np.zeros((2, 3, 3))
    for n in range(2):
        for i in range(3):
            for j in range(3):
                for h in range(4):
                    for w in range(5):
                        expected[n, i, j] += features[n, i, h, w] * features[n, j, h, w] / 20
    near(gram_matrix(Tensor(features, device=device)).numpy(), expected)


def test_a_gram_matrix_does_not_depend_on_where_the_features_are():
    features = RNG.normal(size=(1, 3, 4, 5)).astype(np.float32)
    moved = features.reshape(1, 3, 20)[:, :, RNG.permutation(20)].reshape(1, 3, 4, 5)
    near(gram_matrix(Tensor(moved)).numpy(), gram_matrix(Tensor(features)).numpy())


def test_the_style_loss_is_e_l_of_the_paper_for_images_of_equal_size():
    a, b = RNG.normal(size=(2, 1, 3, 4, 5))
    n, m = 3, 20  # channels, positions
    f, g = a.reshape(n, m), b.reshape(n, m)
    of_paper = ((f @ f.T - g @ g.T) ** 2).sum() / (4 * n**2 * m**2)
    found = style_loss([Tensor(a)], [gram_matrix(Tensor(b))], [1.0])
    near(found.numpy(), of_paper, rtol=1e-12)


def test_layers_weigh_equally_if_no_weights_are_given():
    maps = [Tensor(RNG.normal(size=(1, c, 4, 4))) for c in (2, 3)]
    grams = [Tensor(np.zeros((1, c, c))) for c in (2, 3)]
    near(style_loss(maps, grams).numpy(), style_loss(maps, grams, [0.5, 0.5]).numpy())


def test_an_image_has_its_own_style_loss_0_with_gradient_exactly_0(device):
    x, filters = photo().numpy(), small_filters().to(device)
    x = Tensor(x, requires_grad=True, device=device)
    goal = StyleObjective(None, x, filters)
    loss = goal(x)
    loss.backward()
    assert loss.item() == 0
    assert (x.grad.numpy() == 0).all()


def test_content_equal_to_the_target_has_loss_0():
    x = photo()
    assert content_loss(x, x).item() == 0


def test_the_content_loss_is_half_a_mean_of_squares():
    assert (
        content_loss(Tensor(np.full((1, 2, 3, 3), 3.0)), Tensor(np.ones((1, 2, 3, 3)))).item() == 2
    )


def test_the_total_variation_of_a_constant_is_0():
    assert total_variation(tinycv.full((1, 3, 5, 7), 0.3)).item() == 0


def test_the_total_variation_adds_rows_and_columns():
    ramp = np.zeros((1, 1, 3, 4)) + np.arange(4) * 2 + np.arange(3)[:, None]
    assert total_variation(Tensor(ramp)).item() == 2**2 + 1**2


@pytest.mark.parametrize("alpha, smoothness", [(0.0, 0.0), (0.3, 0.1)])
def test_the_gradient_of_the_whole_loss_is_certified(alpha, smoothness):
    filters = RandomFilters(per_size=2, sizes=(3,), levels=2).to("float64")
    content, style = (Tensor(photo(seed, 8).numpy().astype(float)) for seed in (1, 2))
    goal = StyleObjective(content, style, filters, alpha, smoothness=smoothness)
    certify(goal, photo(3, 8).numpy().astype(float))


# ── exact optima ──────────────────────────────────────────────────────────────────────────────────


def root(matrix, power):
    values, vectors = np.linalg.eigh(matrix)
    return vectors * values**power @ vectors.T


def test_whitening_and_colouring_is_an_optimum_for_1_x_1_linear_filters():
    """A linear map of the colours gives the second moments, and so the Gram matrix, exactly."""
    content, style = (photo(seed, 12).numpy().astype(float) - 0.5 for seed in (1, 2))
    style[:, 1] += 0.3 * style[:, 0]  # colours that are correlated
    moments = [x.reshape(3, -1) @ x.reshape(3, -1).T / 144 for x in (content, style)]
    map_of_colours = root(moments[1], 0.5) @ root(moments[0], -0.5)
    recoloured = (map_of_colours @ content.reshape(3, -1)).reshape(content.shape)
    grams = [gram_matrix(Tensor(style))]
    assert style_loss([Tensor(recoloured)], grams).item() < 1e-28
    assert style_loss([Tensor(content)], grams).item() > 1e-6


def test_lbfgs_finds_an_optimum_for_1_x_1_linear_filters():
    content = Tensor(photo(1).numpy().astype(float))
    style = Tensor(photo(2).numpy().astype(float) ** 2)
    goal = StyleObjective(content, style, pixels_alone, alpha=0.0)
    canvas = Canvas(content)
    before = goal(canvas()).item()
    minimise(goal, canvas, 80)
    assert goal(canvas()).item() < 1e-6 * before


def painted(alpha):
    """The style loss and the content loss after 40 evaluations by L-BFGS."""
    content, style = (Tensor(sample_photo(name, 16)[None]) for name in ("coffee", "gravel"))
    goal = StyleObjective(content, style, small_filters(), alpha)
    canvas = Canvas(content)
    minimise(goal, canvas, 40)
    features = goal.extractor(canvas())
    return (
        style_loss(features.style, goal.grams).item(),
        content_loss(features.content, goal.target).item(),
    )


def test_more_weight_on_the_content_gives_less_style_and_more_content():
    style, content = painted(0.0)
    style_with_content, content_with_content = painted(10.0)
    assert style < 0.5 * style_with_content
    assert content_with_content < 0.5 * content


# ── the canvas, brightness ────────────────────────────────────────────────────────────────────────


def test_a_canvas_begins_as_its_photo(device):
    x = photo()
    canvas = Canvas(Tensor(x.numpy(), device=device))
    near(canvas().numpy(), x.numpy())


def test_showing_a_canvas_does_not_edit_the_array_that_is_optimised():
    canvas = Canvas(photo())
    before = canvas.logits.numpy().copy()
    shown = canvas().numpy()
    shown[:] = 0  # a viewer that works in place
    assert (canvas.logits.numpy() == before).all()


def test_a_canvas_stays_between_black_and_white_whatever_the_logits_are():
    canvas = Canvas(tinycv.zeros(1, 3, 4, 4))
    canvas.logits.data = canvas.logits.data * 1e3
    assert 0 <= canvas().numpy().min() <= canvas().numpy().max() <= 1


def test_black_and_white_start_with_finite_logits():
    values = np.zeros((1, 3, 4, 4), np.float32)
    values[:, :, :2] = 1
    assert np.isfinite(Canvas(Tensor(values)).logits.numpy()).all()


def test_matched_luminance_has_the_mean_and_the_deviation_of_the_style(device):
    content, style = photo(1).numpy(), photo(2).numpy() * 0.5 + 0.2
    grey = match_luminance(Tensor(content, device=device), Tensor(style, device=device))
    y = luminance(Tensor(style)).numpy()
    near([grey.numpy().mean(), grey.numpy().std()], [y.mean(), y.std()], rtol=1e-3)


def test_matched_luminance_is_perfectly_correlated_with_the_content():
    content, style = photo(1), tinycv.clip(photo(2) * 0.5 + 0.2, 0, 1)
    grey = match_luminance(content, style).numpy()[:, 0].ravel()
    assert np.corrcoef(grey, luminance(content).numpy().ravel())[0, 1] > 1 - 1e-5


def test_the_luminance_of_grey_is_its_value():
    near(luminance(tinycv.full((1, 3, 2, 2), 0.4)).numpy(), np.full((1, 1, 2, 2), 0.4))


# ── bad input: one sentence each ──────────────────────────────────────────────────────────────────


BAD = {
    "grey": (
        np.zeros((1, 1, 32, 32), np.float32),
        r"has shape \(1, 1, 32, 32\); it must be an RGB",
    ),
    "bytes": (np.zeros((1, 3, 32, 32), np.uint8), "is uint8 of shape .*; it must be an RGB image"),
    "NaN": (np.full((1, 3, 32, 32), np.nan, np.float32), "holds NaN; its values must be from 0 to"),
    "too bright": (
        np.full((1, 3, 32, 32), 255, np.float32),
        "holds 255 to 255; its values must be from 0 to 1",
    ),
    "one axis less": (np.zeros((3, 32, 32), np.float32), "it must be an RGB image"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("argument", ["content", "style"])
def test_an_image_that_is_no_rgb_image_is_refused_by_name(name, argument):
    image, words = BAD[name]
    images = {"content": photo(1, 32), "style": photo(2, 32)} | {argument: image}
    with pytest.raises((ValueError, TypeError), match=f"StyleObjective: {argument} .*{words}"):
        StyleObjective(**images, extractor=small_filters())


@pytest.mark.parametrize(
    "call",
    [
        lambda two: StyleObjective(two, photo(2, 32), small_filters()),
        lambda two: StyleObjective(None, two, small_filters()),
        lambda two: StyleObjective(None, photo(2, 32), small_filters())(two),
        lambda two: match_luminance(two, photo(2, 32)),
        lambda two: match_luminance(photo(2, 32), two),
        Canvas,
    ],
    ids=("content", "style", "x", "matched", "matched to", "canvas"),
)
def test_two_images_are_refused_where_one_is_painted(call):
    two = Tensor(np.full((2, 3, 32, 32), 0.5, np.float32))
    with pytest.raises(ValueError, match=r"has shape \(2, 3, 32, 32\); it must be one RGB image"):
        call(two)


def test_a_style_photo_smaller_than_the_filters_is_refused_with_both_sizes():
    words = "StyleObjective: style: .*x is 32 x 32 pixels; both sides must be at least 56"
    with pytest.raises(ValueError, match=words):
        StyleObjective(None, photo(2, 32), RandomFilters(per_size=2))


def test_style_weights_that_do_not_fit_the_layers_are_refused():
    with pytest.raises(ValueError, match="weights has 3 numbers; there are 2 style layers"):
        StyleObjective(None, photo(), small_filters(), weights=[1, 1, 1])


def test_an_extractor_that_returns_something_else_is_refused():
    with pytest.raises(TypeError, match="extractor returned .*; it must return Features"):
        StyleObjective(None, photo(), lambda x: x)


@pytest.mark.statistical
def test_fresh_filters_find_an_optimised_photo_nearer_to_its_style():
    """With filters that had no part in the optimisation, as in the demo, on smaller photos."""
    content, style = (
        Tensor(sample_photo(name, 48)[None]) for name in ("coffee", "immunohistochemistry")
    )
    filters, fresh = (RandomFilters(8, sizes=(3, 5), levels=3) for _ in range(2))
    goal = StyleObjective(match_luminance(content, style), style, filters, alpha=0.01)
    canvas = Canvas(content)
    minimise(goal, canvas, 40)
    grams = [gram_matrix(maps) for maps in fresh(style).style]
    before, after = (style_loss(fresh(x).style, grams).item() for x in (content, canvas()))
    assert after < before / 5
