"""What the vision chapter accepts: images in any container, labels that are classes, and no NaN as
a result."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinycv
from tinycv import nn
from tinycv.vision import (
    ConvNet,
    ViT,
    accuracy,
    attention_distance,
    attention_rollout,
    cls_attention,
    deletion_curve,
    patchify,
    probabilities,
    spearman,
    train_classifier,
    unpatchify,
)
from tinycv.vision.classify import classify

X = np.random.default_rng(0).random((3, 2, 8, 8), np.float32)
HOLDERS = {
    "list": lambda a: a.tolist(),
    "Tensor": tinycv.tensor,
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1, ::-1],
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "float64": lambda a: a.astype(float),
}
MODELS = {"ViT": lambda: ViT(8, 4, 3, 2, 8, 1, 2), "ConvNet": lambda: ConvNet(3, 8, 2, 2)}
both = pytest.mark.parametrize("name", MODELS)


@both
@pytest.mark.parametrize("holder", HOLDERS)
def test_images_may_be_in_any_container(name, holder):
    model, held = MODELS[name]().eval(), HOLDERS[holder](X)
    np.testing.assert_allclose(
        model(held).numpy(), model(tinycv.tensor(np.array(held, np.float32))).numpy(), atol=1e-5
    )


@both
def test_masked_images_and_bytes_are_refused(name):
    model = MODELS[name]()
    for x, words in (
        (np.ma.masked_array(X, X > 0.5), "masked array"),
        ((255 * X).astype(np.uint8), "divide bytes by 255"),
        (X.astype(complex), "complex"),
        (X > 0.5, "bool; they must be floats"),
        (X.astype(str), "<U32"),
    ):
        with pytest.raises(TypeError, match=f"{name}: images .*{words}"):
            model(x)


@given(
    b=st.integers(0, 3),
    c=st.integers(1, 3),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    p=st.integers(1, 4),
    kind=st.sampled_from(["u1", "i8", "f2", "f4", "?"]),
)
def test_patchify_and_unpatchify_work_for_any_dtype(b, c, rows, columns, p, kind):
    x = np.random.default_rng(0).integers(0, 200, (b, c, rows * p, columns * p)).astype(kind)
    patches = patchify(x, np.int64(p))
    assert patches.shape == (b, rows * columns, c * p * p) and patches.dtype == x.dtype
    assert (unpatchify(patches, np.int8(p), x.shape) == x).all()


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 0},
        {"mlp_dim": 0},
        {"heads": 0},
        {"heads": 3},
        {"dropout": 1.5},
        {"dropout": -0.1},
        {"patch_size": 0},
        {"patch_size": 3},
        {"dim": 0},
        {"dim": 8.0},
        {"num_classes": 0},
        {"channels": True},
        {"layer_norm_eps": -1.0},
        {"dropout": float("nan")},
    ],
)
def test_a_vit_that_cannot_be_built_is_refused_by_the_name_of_its_argument(options):
    sizes = {"image_size": 8, "patch_size": 4, "num_classes": 3, "dim": 8, "heads": 2, **options}
    with pytest.raises((TypeError, ValueError), match=f"ViT: .*{next(iter(options))}"):
        ViT(**sizes)


def test_sizes_of_numpy_build_the_same_vit():
    model = ViT(*map(np.int64, (8, 4, 3, 2, 8, 1, 2, 16)))
    assert all(type(n) is int for n in (model.image_size, model.patch_size, model.channels))
    assert model.eval()(X).shape == (3, 3)


class Says(nn.Module):
    """Returns its input as scores, with NaN for 9 and above."""

    def __init__(self):
        self.head = nn.Linear(1, 3)

    def forward(self, x):
        return tinycv.where(x < 9, x, np.nan)


def test_nan_scores_are_refused_or_count_as_wrong():
    scores = np.eye(3, dtype=np.float32)
    assert accuracy(Says(), scores, np.arange(3)) == 1
    # argmax of NaN would be class 0, which happens to be correct
    scores[0] = 9
    assert accuracy(Says(), scores, np.arange(3)) == pytest.approx(2 / 3)
    model = ViT(8, 4, 3, 2, 8, 1, 2)
    model.head.weight.data = np.full(model.head.weight.shape, np.nan, np.float32)
    with pytest.raises(
        ValueError, match="classify: the scores of the model for this image are NaN"
    ):
        classify(model, X[0])


@pytest.mark.parametrize(
    "labels, kind, words",
    [
        (np.array([[0], [1], [2]]), ValueError, r"is int64 of shape \(3, 1\)"),
        (np.arange(2), ValueError, "each of 3 images"),
        (np.array([0, 1, 3]), IndexError, "run from 0 to 3; 3 classes"),
        (np.array([0, 1, -1]), IndexError, "run from -1 to 1"),
        (np.array([0.0, 1, 2]), TypeError, "float64"),
        (np.eye(3), TypeError, "class numbers"),
    ],
)
def test_labels_that_do_not_fit_the_images_or_classes_are_refused(labels, kind, words):
    model = ViT(8, 4, 3, 2, 8, 1, 2)
    order = np.tile(np.arange(4), (3, 1))
    for call in (
        lambda: accuracy(Says(), np.eye(3, dtype=np.float32), labels),
        lambda: train_classifier(model, X, labels, 1, batch_size=2),
        lambda: train_classifier(model, X, np.arange(3), 1, batch_size=2, held_out=(X, labels)),
        lambda: deletion_curve(lambda x: np.full((len(x), 3), 1 / 3), X, labels, order),
    ):
        with pytest.raises(kind, match=words):
            call()


def test_maps_may_be_arrays_and_patches_that_attend_only_to_cls_have_no_distance():
    maps = np.full((2, 2, 5, 5), 0.2, np.float32)
    for function in (attention_rollout, cls_attention, lambda maps: attention_distance(maps, 4)):
        np.testing.assert_array_equal(function([maps]), function([tinycv.tensor(maps)]))
    plain = attention_distance([maps], 4)
    # in head 0, one patch attends only to CLS
    maps[:, 0, 2] = [1, 0, 0, 0, 0]
    maps[:, 1] = [1, 0, 0, 0, 0]  # in head 1, all patches do
    found = attention_distance([maps], 4)
    assert found[0, 0] == pytest.approx(plain[0, 0]) and np.isnan(found[0, 1])


def test_ranks_of_nan_are_refused():
    with pytest.raises(ValueError, match="spearman: a or b contains NaN"):
        spearman([1, 2, np.nan], [1, 2, 3])
    assert spearman([1, 2, np.inf], [1, 2, 3]) == pytest.approx(1)


def test_probabilities_of_no_images_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        probabilities(ViT(8, 4, 3, 2, 8, 1, 2), X[:0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_accuracy_of_images_that_are_not_finite_is_refused(value):
    images = np.eye(3, dtype=np.float32)
    images[1, 2] = value
    with pytest.raises(
        ValueError, match=r"accuracy: images of shape \(3, 3\): 1 of them contain NaN or infinity"
    ):
        accuracy(Says(), images, np.arange(3))
    # the sum of these images is infinite, but the images are finite
    huge = np.full((2, 3, 8, 8), np.finfo(np.float64).max)
    with pytest.raises(ValueError, match="1 of them contain NaN"):
        train_classifier(
            ViT(8, 4, 3, 3, 8, 1, 2),
            np.where(np.arange(2)[:, None, None, None], huge, value),
            np.arange(2),
            1,
        )
