"""Neural style transfer: the content of one photo in the style of another, by optimising the pixels
of the result (Gatys et al. 2016).

    L(x) = α L_content + Σ_l w_l E_l + γ L_TV               one number for one image x
    L_content = ½ mean (F - P)²                             F, P: content features of x, content
    E_l  = 1 / (4 N_l² M_l²) Σ_ij (G_ij - A_ij)²            G, A: Gram matrices of x, style
    G_ij = Σ_k F_ik F_jk                                    over all M_l positions k of layer l
    L_TV = mean of (difference of neighbouring pixels)²     Mahendran & Vedaldi 2015

Filters respond to an image, each in its own channel. The Gram matrix says which of the N_l channels
respond together. Because it sums over all positions, it forgets where they respond; what it keeps
is texture and colour. The content loss compares the features position by position instead. The
paper also has a weight β of the style; here it is 1, because only the ratio α / β matters.

No network is trained. The pixels of x are the parameters, and every step moves them downhill:

    goal = StyleObjective(content, style, filters, alpha=0.02)
    canvas = Canvas(content)
    optimizer = Adam(canvas.parameters(), lr=0.1)                  or LBFGS, with a closure
    for _ in range(150):
        optimizer.zero_grad()
        goal(canvas()).backward()
        optimizer.step()
    picture = canvas().numpy()

``filters`` are random (style_filters.py), or VGG-19 if you have its weights (vgg.py). adain.py
paints in a new style without an optimisation, but it needs a trained network.
Gatys, Ecker & Bethge 2016, "Image style transfer using convolutional neural networks".
Shapes: images (1, 3, H, W) from 0 to 1. In formulas a layer has N_l channels and M_l positions, as
in the paper; in shapes, N counts images and C channels, and H' W' is M_l.
Demo: demos/12_style_transfer.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinycv.engine.arguments import function, shown
from tinycv.engine.functions import std
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import clip, log, sigmoid
from tinycv.engine.tensor import Parameter, Tensor
from tinycv.nn.inputs import finite, numbers
from tinycv.nn.module import Module
from tinycv.vision.inputs import features_of, layers_of, one_photo

# How far the first image of a Canvas stays from black and white, whose logits would be infinite.
MARGIN = 0.01


class Features(NamedTuple):
    """What an extractor returns for images (N, 3, H, W).

    style: the feature maps of the layers whose Gram matrices are compared, each (N, C, H', W').
    content: the features that are compared position by position, (N, C, H', W').
    """

    style: list[Tensor]
    content: Tensor


Extractor = Callable[[Tensor], Features]


def extracted(extractor: Extractor, x: Tensor, who: str) -> Features:
    """What the extractor returns for x; TypeError, which names the caller ``who``, if that is not
    Features."""
    found = extractor(x)
    if not isinstance(found, Features):
        raise TypeError(
            f"{who}: extractor returned {shown(found)}; it must return Features "
            "(vision/style.py), as RandomFilters does"
        )
    return found


def gram_matrix(features: Tensor) -> Tensor:
    """Which channels respond together: features (N, C, H, W). Returns (N, C, C).

    differs: G is divided by the number of positions, M = H W. In return, style_loss does not divide
    E_l by M². For two images of equal size E_l is that of the paper, and the style may also have
    another size than the content. (A common mistake is to divide in both places.)
    """
    features = features_of(features, "gram_matrix: features")
    n, c, h, w = features.shape
    rows = features.reshape((n, c, h * w))  # (N, C, M)
    return rows @ rows.swapaxes(-1, -2) / (h * w)  # (N, C, C)


def style_loss(
    features: Sequence[Tensor], grams: Sequence[Tensor], weights: Sequence[float] | None = None
) -> Tensor:
    """Σ_l w_l E_l: how far the Gram matrices of the layers ``features`` are from ``grams``.

    weights: one w_l per layer; None means 1 / L for each of L layers, as in the paper. The losses
    of several images are added.
    """
    features = layers_of(features, "style_loss: features", "feature maps (N, C, H, W)")
    grams = layers_of(grams, "style_loss: grams", "Gram matrices (N, C, C)")
    weights = layer_weights(weights, len(features), "style_loss")
    if len(grams) != len(features):
        raise ValueError(
            f"style_loss: features has {len(features)} layers and grams {len(grams)}; there must "
            "be one Gram matrix per layer"
        )
    total: Any = 0.0
    for i, (maps, gram, weight) in enumerate(zip(features, grams, weights, strict=True)):
        found = gram_matrix(maps)
        if gram.ndim != 3 or gram.shape[1:] != found.shape[1:] or len(gram) not in (1, len(found)):
            raise ValueError(
                f"style_loss: grams[{i}] has shape {tuple(gram.shape)}; the features of this layer "
                f"have a Gram matrix of shape {tuple(found.shape)}"
            )
        difference = found - gram  # (N, C, C)
        channels = maps.shape[1]
        total = total + weight / (4 * channels**2) * (difference * difference).sum()
    return total


def layer_weights(weights: Sequence[float] | None, layers: int, who: str) -> list[float]:
    """w_l for each layer; None means 1 / L."""
    if weights is None:
        return [1 / layers] * layers
    checked = numbers(weights, f"{who}: weights", low=0)
    if len(checked) != layers:
        raise ValueError(
            f"{who}: weights has {len(checked)} numbers; there are {layers} style layers"
        )
    return checked


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """½ mean (F - P)². differs: a mean, where the paper has a sum, so that the same α suits images
    of any size."""
    features = features_of(features, "content_loss: features")
    if features_of(target, "content_loss: target").shape != features.shape:
        raise ValueError(
            f"content_loss: features have shape {tuple(features.shape)} and target "
            f"{tuple(target.shape)}; they must be equal"
        )
    difference = features - target
    return 0.5 * (difference * difference).mean()


def total_variation(x: Tensor) -> Tensor:
    """The mean squared difference of neighbouring pixels, down plus across: 0 for a constant image,
    large for noise. x (N, C, H, W), at least 2 x 2 pixels.

    differs: means, where the paper has a sum, so that the same γ suits images of any size.
    """
    x = features_of(x, "total_variation: x", least=2)
    down = x[:, :, 1:] - x[:, :, :-1]
    across = x[:, :, :, 1:] - x[:, :, :, :-1]
    return (down * down).mean() + (across * across).mean()


class StyleObjective:
    """L(x) for one content photo and one style photo; call it with an image (1, 3, H, W).

    content: (1, 3, H, W), or None for texture synthesis, which has no content loss. style: (1, 3,
    H', W'), of any size. alpha: the weight of the content. weights: w_l, see ``style_loss``; a
    layer of weight 0 plays no part. smoothness: the γ of the total variation.
    """

    def __init__(
        self,
        content: Tensor | None,
        style: Tensor,
        extractor: Extractor,
        alpha: float = 1.0,
        weights: Sequence[float] | None = None,
        smoothness: float = 0.0,
    ):
        self.extractor = function(extractor, "StyleObjective: extractor")
        self.alpha = finite(alpha, "StyleObjective: alpha", low=0)
        self.smoothness = finite(smoothness, "StyleObjective: smoothness", low=0)
        style = one_photo(style, "StyleObjective: style").detach()
        self.grams = [gram_matrix(maps).detach() for maps in self.features(style, "style").style]
        self.weights = layer_weights(weights, len(self.grams), "StyleObjective")
        self.target = None
        if content is not None:
            content = one_photo(content, "StyleObjective: content").detach()
            self.target = self.features(content, "content").content.detach()

    def features(self, x: Tensor, what: str = "x") -> Features:
        """What the extractor returns for x. what: which image x is, for errors."""
        try:
            return extracted(self.extractor, x, "StyleObjective")
        except ValueError as error:  # too small, for example
            raise ValueError(f"StyleObjective: {what}: {error}") from error

    def __call__(self, x: Tensor) -> Tensor:
        """x (1, 3, H, W). Returns the loss, a single number."""
        features = self.features(one_photo(x, "StyleObjective: x"))
        if self.target is not None and features.content.shape != self.target.shape:
            raise ValueError(
                f"StyleObjective: x has shape {tuple(x.shape)}; it must have that of the content"
            )
        loss = style_loss(features.style, self.grams, self.weights)
        if self.target is not None:
            loss = loss + self.alpha * content_loss(features.content, self.target)
        return loss + self.smoothness * total_variation(x)


class Canvas(Module):
    """The image that is optimised: pixels = sigmoid(logits), so they never leave 0 to 1.

    differs: the paper optimises the pixels themselves. They can leave the range, and if they are
    clipped at the end, the picture that is shown is not the one whose loss was minimised. Here the
    two are the same.
    """

    def __init__(self, start: Tensor):
        """start: the first image, (1, 3, H, W). It is moved inwards by MARGIN if necessary."""
        start = clip(one_photo(start, "Canvas: start").detach(), MARGIN, 1 - MARGIN)
        self.logits = Parameter(log(start / (1 - start)))

    def forward(self) -> Tensor:
        """The pixels (1, 3, H, W)."""
        return sigmoid(self.logits)


# ── brightness and colour ─────────────────────────────────────────────────────────────────────────


def luminance(x: Tensor) -> Tensor:
    """Brightness (N, 1, H, W) of RGB images (N, 3, H, W), with the weights of ITU-R BT.601."""
    if features_of(x, "luminance: x").shape[1] != 3:
        raise ValueError(f"luminance: x has shape {tuple(x.shape)}; it must be RGB, (N, 3, H, W)")
    return 0.299 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]


def match_luminance(content: Tensor, style: Tensor) -> Tensor:
    """The content as a grey image, whose brightness has the mean and the standard deviation of that
    of the style. Returns (1, 3, H, W), clipped to 0 to 1.

    Bright content in a dark style is impossible: one of the two losses stays high. A change of
    brightness and contrast ends this conflict, and where nothing is clipped, the correlation with
    the brightness of the content is still 1.
    (Gatys et al. 2017, "Controlling perceptual factors in neural style transfer", change the style
    in this way, not the content.)
    """
    content, style = (
        one_photo(content, "match_luminance: content"),
        one_photo(style, "match_luminance: style"),
    )
    y, target = luminance(content.detach()), luminance(style.detach())  # (1, 1, H, W)
    contrast = std(target) / (std(y) + 1e-6)
    grey = clip((y - y.mean()) * contrast + target.mean(), 0.0, 1.0)
    return concatenate([grey] * 3, axis=1)
