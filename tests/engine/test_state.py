"""Layer state changes once per batch: in shards and in a checkpoint, every layer gives the same
results and state as alone."""

from __future__ import annotations

import copy
import importlib
import pkgutil
from functools import cache

import numpy as np
import pytest

import tinycv
from tinycv import Tensor, diffusion, nn, sequence, vision
from tinycv.adversarial import gan, spade
from tinycv.adversarial import networks as gan_networks
from tinycv.diffusion import cross_attention, dit, embedding, mixed_score, unet, video_dit
from tinycv.diffusion import mlp as networks
from tinycv.engine import shards, state
from tinycv.likelihood import autoregressive, dalle, flow, glow, image_gpt, pixelcnn, vq_vae
from tinycv.nn.spectral_norm import SpectralNorm
from tinycv.sequence import align, positions, seq2seq
from tinycv.training import parallel
from tinycv.vision import adain

RNG = np.random.default_rng(0)
B = 7  # rows: cannot be divided evenly among 2 or 3 shards


def rows(*shape):
    return RNG.normal(size=(B, *shape))


def photos():
    return RNG.uniform(size=(B, 3, 8, 8))


def ids(*shape, words=5):
    return RNG.integers(1, words, (B, *shape))


def levels(count):
    """Images whose pixels are whole numbers below ``count``."""
    return RNG.integers(0, count, (B, 1, 4, 4)).astype(float)


def rnn(kind, **options):
    return lambda: kind(3, 4, batch_first=True, **options)


class Placed(nn.Module):
    """A layer that also takes the places of its tokens, which no shard may cut."""

    def __init__(self, layer, places):
        self.layer, self.places = layer, places

    def forward(self, x):
        return self.layer(x, self.places)


def placed(make, places):
    return lambda: Placed(make(), places)


MAP, PIXELS, WORDS = rows(4), rows(2, 5, 5), rows(3, 4)
TOKENS = np.ones((B, 1, 1, 2), bool)  # the mask of a prompt of two words
LAYERS = {
    "Sequential": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), SpectralNorm(nn.Linear(3, 2))),
        MAP,
    ),
    "PointGenerator": (lambda: gan_networks.PointGenerator(4, 2, width=6), MAP),
    "PointDiscriminator": (lambda: gan_networks.PointDiscriminator(4, width=6), MAP),
    "PointMLP": (lambda: gan_networks.PointMLP(4, 1, width=6), MAP),
    "DCGANDiscriminator": (lambda: gan_networks.DCGANDiscriminator(8, width=3), rows(1, 8, 8)),
    "DCGANGenerator": (lambda: gan_networks.DCGANGenerator(8, latent=4, width=2), MAP),
    "Flatten": (nn.Flatten, PIXELS),
    "Identity": (nn.Identity, MAP),
    "ReLU": (nn.ReLU, MAP),
    "Tanh": (nn.Tanh, MAP),
    "Sigmoid": (nn.Sigmoid, MAP),
    "Softplus": (nn.Softplus, MAP),
    "LeakyReLU": (nn.LeakyReLU, MAP),
    "SiLU": (nn.SiLU, MAP),
    "GELU": (nn.GELU, MAP),
    "Softmax": (nn.Softmax, MAP),
    "LayerNorm": (lambda: nn.LayerNorm(4), MAP),
    "GroupNorm": (lambda: nn.GroupNorm(2, 2), PIXELS),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2), PIXELS),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), MAP),
    "BatchNorm1d untracked": (lambda: nn.BatchNorm1d(4, track_running_stats=False), MAP),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3), PIXELS),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 3), PIXELS),
    "MaskedConv2d": (lambda: nn.MaskedConv2d(2, 3, 3, "A"), PIXELS),
    "MaskedLinear": (lambda: nn.MaskedLinear(4, 3, np.tri(3, 4, dtype=bool)), MAP),
    "Dropout": (lambda: nn.Dropout(0.0), MAP),
    "Linear": (lambda: nn.Linear(4, 3), MAP),
    "Embedding": (lambda: nn.Embedding(5, 3), ids(2)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), PIXELS),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), PIXELS),
    "SpectralNorm": (lambda: SpectralNorm(nn.Linear(4, 3)), MAP),
    "SpectralNorm Conv2d": (lambda: SpectralNorm(nn.Conv2d(2, 3, 3, bias=False)), PIXELS),
    "MultiheadAttention": (lambda: sequence.MultiheadAttention(4, 2), WORDS),
    "LSTM": (rnn(sequence.LSTM, bidirectional=True, num_layers=2), rows(5, 3)),
    "GRU": (rnn(sequence.GRU), rows(5, 3)),
    "RNN": (rnn(sequence.RNN), rows(5, 3)),
    "LSTMCell": (lambda: sequence.LSTMCell(4, 3), MAP),
    "GRUCell": (lambda: sequence.GRUCell(4, 3), MAP),
    "RNNCell": (lambda: sequence.RNNCell(4, 3), MAP),
    "AdditiveAttention": (lambda: align.AdditiveAttention(4, 3, 5), rows(2, 4), rows(6, 3)),
    "LocationAttention": (
        lambda: align.LocationAttention(4, 3, 5, filters=2, reach=3),
        rows(2, 4),
        rows(6, 3),
    ),
    "DotAttention": (align.DotAttention, rows(2, 3), rows(6, 3)),
    "GeneralAttention": (lambda: align.GeneralAttention(4, 3), rows(2, 4), rows(6, 3)),
    "SinusoidalPositions": (positions.SinusoidalPositions, WORDS),
    "LearnedPositions": (lambda: positions.LearnedPositions(9, 4), WORDS),
    "GridSinusoidalPositions": (placed(positions.GridSinusoidalPositions, (3, 1)), WORDS),
    "FactorisedPositions": (
        placed(lambda: positions.FactorisedPositions((3, 2), 4), (3, 1)),
        WORDS,
    ),
    "RotaryAttention": (
        placed(lambda: sequence.RotaryAttention(4, 2), np.arange(3.0)),
        WORDS,
    ),
    "TransformerEncoderLayer": (
        lambda: sequence.TransformerEncoderLayer(4, 2, 6, dropout=0.0),
        WORDS,
    ),
    "TransformerDecoderLayer": (
        lambda: sequence.TransformerDecoderLayer(4, 2, 6, dropout=0.0),
        WORDS,
        rows(2, 4),
    ),
    "TransformerEncoder": (
        lambda: sequence.TransformerEncoder(
            sequence.TransformerEncoderLayer(4, 2, 6, dropout=0.0), 2
        ),
        WORDS,
    ),
    "TransformerDecoder": (
        lambda: sequence.TransformerDecoder(
            sequence.TransformerDecoderLayer(4, 2, 6, dropout=0.0), 2
        ),
        WORDS,
        rows(2, 4),
    ),
    "Transformer": (lambda: sequence.Transformer(5, 5, 4, 2, 1, 1, 6, dropout=0.0), ids(3), ids(2)),
    "GPT": (lambda: sequence.GPT(5, 6, 4, 2, 1, dropout=0.0), ids(4)),
    "TextEncoder": (lambda: sequence.TextEncoder(5, 6, 4, 2, 1), ids(4)),
    "Seq2Seq": (
        lambda: seq2seq.Seq2Seq(5, 5, 3, 4, bidirectional=True, attention="location"),
        ids(4),
        ids(3),
    ),
    "Encoder": (lambda: seq2seq.Encoder(5, 3, 4), ids(4)),
    "TimeAndLabel": (lambda: embedding.TimeAndLabel(8, 5), RNG.uniform(size=B), ids()),
    "TextDiT": (
        lambda: diffusion.TextDiT(8, 4, 1, 5, 3, dim=8, depth=1, heads=2),
        rows(1, 8, 8),
        RNG.uniform(size=B),
        ids(3),
    ),
    "TextUNet": (
        lambda: diffusion.TextUNet(1, (4, 4), 5, 3, dim=4, heads=2, embed_dim=4),
        rows(1, 8, 8),
        RNG.uniform(size=B),
        ids(3),
    ),
    "TimeAndText": (
        lambda: cross_attention.TimeAndText(5, 3, 4, 6, 2, 1),
        RNG.uniform(size=B),
        ids(3),
    ),
    "CrossAttention": (lambda: cross_attention.CrossAttention(4, 2), WORDS, rows(2, 4), TOKENS),
    "TextDiTBlock": (
        lambda: cross_attention.TextDiTBlock(4, 2),
        WORDS,
        rows(4),
        rows(2, 4),
        TOKENS,
    ),
    "PixelCrossAttention": (
        lambda: cross_attention.PixelCrossAttention(4, 4, 2),
        rows(4, 2, 2),
        rows(2, 4),
        TOKENS,
    ),
    "ConvNet": (lambda: vision.ConvNet(3, 8, width=2), rows(1, 8, 8)),
    "CLIP": (
        lambda: vision.CLIP(8, 1, 5, 4, dim=4, heads=2, embed_dim=3, width=2),
        rows(1, 8, 8),
        ids(4),
    ),
    "ViT": (lambda: vision.ViT(8, 4, 3, dim=8, depth=1, heads=2), rows(1, 8, 8)),
    "ConvStem": (lambda: vision.ConvStem(1, [2], 4), rows(1, 8, 8)),
    "DiTBlock": (lambda: dit.DiTBlock(8, 2), rows(3, 8), rows(8)),
    "DiT": (
        lambda: diffusion.DiT(8, 4, dim=8, depth=1, heads=2, num_classes=5),
        rows(1, 8, 8),
        RNG.uniform(size=B),
        ids(),
    ),
    "VideoDiT": (
        lambda: video_dit.VideoDiT((2, 4, 4), dim=12, depth=1, heads=2, summary=True),
        rows(2, 1, 4, 4),
        RNG.uniform(size=B),
    ),
    "Maxout": (lambda: gan_networks.Maxout(4, 3, 2), MAP),
    "ScoreMLP": (lambda: networks.ScoreMLP(4, hidden=6), MAP, RNG.uniform(size=B)),
    "VelocityNoise": (
        lambda: mixed_score.VelocityNoise(networks.ScoreMLP(4, hidden=6)),
        MAP,
        RNG.uniform(size=B),
    ),
    "MixedScore": (
        lambda: mixed_score.MixedScore(networks.ScoreMLP(4, hidden=6), 4),
        MAP,
        RNG.uniform(size=B),
    ),
    "Packed": (lambda: gan.Packed(nn.Linear(4, 1), 1), MAP),
    "Conditional": (lambda: gan.Conditional(nn.Linear(9, 2), 5), MAP, ids()),
    "ResBlock": (lambda: unet.ResBlock(4, 4, 8), rows(4, 4, 4), rows(8)),
    "PixelAttention": (lambda: unet.PixelAttention(4, 2), rows(4, 4, 4)),
    "UNet": (
        lambda: unet.UNet(widths=(4, 8), heads=2, embed_dim=8),
        rows(1, 8, 8),
        RNG.uniform(size=B),
    ),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(2, affine=True), PIXELS),
    "Upsample": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), PIXELS),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), rows(4, 2, 3)),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), rows(1, 4, 6)),
    "ZeroPad2d": (lambda: nn.ZeroPad2d(1), PIXELS),
    "ReflectionPad2d": (lambda: nn.ReflectionPad2d(1), PIXELS),
    "ReplicationPad2d": (lambda: nn.ReplicationPad2d(1), PIXELS),
    "SPADE": (lambda: spade.SPADE(2, 3, hidden=4), PIXELS, rows(3, 5, 5)),
    "ConcatNorm": (lambda: spade.ConcatNorm(2, 3), PIXELS, rows(3, 5, 5)),
    "ConcatNorm batch": (lambda: spade.ConcatNorm(2, 3, "batch"), PIXELS, rows(3, 5, 5)),
    "Generator": (
        lambda: spade.Generator(3, latent=4, widths=(3, 2), side=8),
        MAP,
        rows(3, 8, 8),
    ),
    "StyleEncoder": (lambda: spade.StyleEncoder(2, width=2, side=8), rows(3, 8, 8)),
    "Discriminator": (lambda: spade.Discriminator(2, width=2), rows(3, 8, 8), rows(2, 8, 8)),
    "Segmenter": (lambda: vision.Segmenter(3, width=2), rows(3, 4, 4)),
    "RandomFilters": (lambda: vision.RandomFilters(2, sizes=(3,), levels=2), photos()),
    "PatchCosines": (adain.PatchCosines, photos()),
    "StyleDecoder": (lambda: adain.StyleDecoder(width=1), rows(192, 3, 3)),
    "AdaINTransfer": (lambda: vision.AdaINTransfer(width=1), photos(), photos()),
    "MADE": (lambda: autoregressive.MADE(4, (6, 5)), levels(2)),
    "PixelCNN": (lambda: pixelcnn.PixelCNN(4, 4, 2, 3), levels(2)),
    "PixelCNN of 3 levels": (lambda: pixelcnn.PixelCNN(4, 4, 2, 3, levels=3), levels(3)),
    "ResidualBlock": (lambda: pixelcnn.ResidualBlock(2), PIXELS),
    "GatedPixelCNN": (lambda: pixelcnn.GatedPixelCNN(4, 4, 2), levels(2)),
    "GatedLayer": (lambda: pixelcnn.GatedLayer(2, 2), PIXELS, PIXELS),
    "ImageGPT": (lambda: image_gpt.ImageGPT(4, 2, d_model=4, nhead=2), levels(2)),
    "ResidualConv": (lambda: vq_vae.ResidualConv(2), PIXELS),
    "PatchEncoder": (lambda: vq_vae.PatchEncoder(3, 2, 4), photos()),
    "PatchDecoder": (lambda: vq_vae.PatchDecoder(3, 2, 2), PIXELS),
    "TextAndGridPositions": (
        lambda: dalle.TextAndGridPositions(2, (2, 2), 4, False),
        rows(6, 4),
    ),
    "DALLE": (lambda: dalle.DALLE(5, 2, 5, 4, dim=4, heads=2, layers=1), ids(2), ids(4)),
    "ActNorm": (lambda: glow.ActNorm(2), PIXELS),
    "InvertibleConv1x1": (lambda: glow.InvertibleConv1x1(2), PIXELS),
    "Glow": (lambda: glow.Glow(1, 4, levels=2, steps=1, hidden=3), photos()[:, :1, :4, :4]),
    "AffineCoupling": (
        lambda: flow.AffineCoupling(flow.point_network(4, (3,)), flow.alternating_mask(4, 0)),
        MAP,
    ),
    "RealNVP": (lambda: flow.RealNVP(4, couplings=2, hidden=(3,)), MAP),
    "ImageRealNVP": (lambda: flow.ImageRealNVP(3, 8, hidden=3), photos()),
    "MultiScale": (
        lambda: flow.MultiScale(
            coarse=[flow.AffineCoupling(flow.image_network(4, 3), flow.channel_mask(4, 0))]
        ),
        rows(1, 4, 4),
    ),
    "Logit": (flow.Logit, photos()),
    "Flow": (lambda: flow.Flow([flow.Logit()], (3, 8, 8)), photos()),
}
# Layers that have no forward of their own, or one that needs the result of another layer: Decoder
# runs as a part of Seq2Seq.
ELSEWHERE = {
    "_Convolution",
    "Recurrent",
    "Cell",
    "Attention",
    "Players",
    "Decoder",
    # draw noise; their parts are in the table
    "LabelToImage",
    "VAE",
    "LSGM",
    "LatentDiffusion",
    "ConsistencyModel",
    "VideoDiffusion",
    "VideoBlock",  # inside VideoDiT; takes a grid of coordinates, which cannot be cut into shards
    "TextToImage",
    "TextDenoiser",  # the base of TextDiT and TextUNet
    "Canvas",  # takes no input
    "PixelModel",  # the base of MADE, PixelCNN and ImageGPT
    # their forward pass chooses codes, which stops gradients: tests/likelihood/test_vq_vae.py
    "ImageCodes",
    "DiscreteVAE",
    "VQVAE",
    "VectorQuantizer",  # returns a loss, too: tests/nn/test_vector_quantizer.py
    # read from a file: tests/vision/test_vgg.py
    "VGG19Features",
    "Convolution",
    # the losses: tests/training/test_parallel.py
    "CrossEntropyLoss",
    "BCEWithLogitsLoss",
    "MSELoss",
}


def test_every_layer_of_the_package_is_in_the_table():
    for module in pkgutil.walk_packages(tinycv.__path__, "tinycv."):
        importlib.import_module(module.name)
    found, classes = set(), [nn.Module]
    while classes:
        new = [c for c in classes.pop().__subclasses__() if c.__module__.startswith("tinycv.")]
        classes += new
        found |= {c.__name__ for c in new}
    assert found == {name.split()[0] for name in LAYERS} | ELSEWHERE


def numbers(result):
    """All Tensors in the result of a layer."""
    if isinstance(result, Tensor):
        return [result]
    return (
        [t for part in result for t in numbers(part)] if isinstance(result, (tuple, list)) else []
    )


def loss_of(layer):
    """A loss that depends on each output in another way: a sum over the rows of the batch."""

    def loss(*inputs):
        floats = [y for y in numbers(layer(*inputs)) if y.dtype.kind == "f"]
        # RNNs return their last states with the batch along axis 1, and shards differ in size; so
        # all entries get the same weight.
        return sum(((i + 1) * y + y * y * y).sum() for i, y in enumerate(floats))

    return loss


def measured(layer, run, inputs, group=None):
    """The loss of ``run`` over the batch, the gradients, and the state of the layer afterwards.
    Checks that the attributes of the layer are the same objects as before."""
    attributes = {path: dict(vars(module)) for path, module in layer.named_modules()}
    # Vectors, such as the times of a diffusion model, get no gradient.
    inputs = [Tensor(x, requires_grad=x.dtype.kind == "f" and x.ndim > 1) for x in inputs]
    if group is None:
        loss = run(*inputs)
        loss.backward()
    else:
        loss = group.backward(run, *inputs, reduction="sum")
    for path, module in layer.named_modules():
        assert vars(module).keys() == attributes[path].keys()
        assert all(value is attributes[path][key] for key, value in vars(module).items())
    grads = {n: p.grad.numpy() for n, p in layer.named_parameters() if p.grad is not None}
    grads |= {f"input {i}": x.grad.numpy() for i, x in enumerate(inputs) if x.grad is not None}
    return loss.numpy(), grads, state_of(layer)


def state_of(layer):
    return {name: t.numpy() for name, t in layer.state_dict().items()}


def made(make):
    tinycv.manual_seed(0)
    layer = make().to("float64").train()
    # Weights that are initially zero would hide gradients.
    for i, p in enumerate(layer.parameters()):
        p.data = p._data + 0.1 * np.random.default_rng(i).normal(size=p.shape)
    return layer


def step(name, how, group=None):
    make, *inputs = LAYERS[name]
    layer = made(make)
    return measured(layer, loss_of(HOW[how](layer)), inputs, group)


HOW = {
    "plain": lambda layer: layer,
    "checkpoint": nn.checkpoint,
    "checkpoint in a checkpoint": lambda layer: nn.checkpoint(nn.checkpoint(layer)),
}


@cache
def alone(name):
    return step(name, "plain")


def equal(results, expected):
    for a, b in zip(results, expected, strict=True):
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            equal([a[k] for k in sorted(a)], [b[k] for k in sorted(b)])
        else:
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.fixture(scope="module", params=[2, 3])
def group(request):
    with parallel.threads(request.param) as group:
        yield group


@pytest.mark.parametrize("how", [how for how in HOW if how != "plain"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_the_same_in_a_checkpoint_as_alone(name, how):
    equal(step(name, how), alone(name))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_the_same_in_shards_as_alone(name, how, group):
    equal(step(name, how, group), alone(name))


class Counts(nn.Module):
    """A wrong layer: it counts its calls."""

    def __init__(self):
        self.calls = Tensor(np.zeros(()))

    def forward(self, x):
        self.calls.data = self.calls._data + 1
        return x * self.calls


class Swaps(nn.Module):
    """A wrong layer: it sets an attribute in ``forward``."""

    def __init__(self):
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        self.last = self.layer(x)
        return self.last


@pytest.mark.parametrize("layer", [Counts, Swaps])
@pytest.mark.parametrize("how", ["checkpoint", "shards"])
def test_the_comparison_catches_a_layer_that_writes_its_state_directly(
    layer, how, group, monkeypatch
):
    monkeypatch.setitem(LAYERS, "bad", (layer, MAP))
    with pytest.raises(AssertionError):
        equal(
            step("bad", "plain" if how == "shards" else how, group if how == "shards" else None),
            step("bad", "plain"),
        )


# ── more than one pass, other modes ──


def stateful():
    return nn.Sequential(
        SpectralNorm(nn.Linear(4, 5)), nn.BatchNorm1d(5), nn.Tanh(), SpectralNorm(nn.Linear(5, 2))
    )


def twice(net):
    """Two forward passes before one backward: the second pass has other u, v and running statistics
    than the first."""
    return lambda x, y: loss_of(net)(x) - 2 * loss_of(net)(y)


def with_a_penalty(net):
    """A loss with a gradient penalty: the second derivative depends on the same state."""

    def loss(x, y):
        x = Tensor(x.detach(), requires_grad=True)
        (slope,) = tinycv.grad(loss_of(net)(x), x, create_graph=True)
        return (slope * slope).sum() + loss_of(net)(y)

    return loss


@pytest.mark.parametrize("run", [twice, with_a_penalty])
@pytest.mark.parametrize("how", HOW)
def test_two_forward_passes_before_one_backward_give_the_same_as_alone(run, how, group):
    inputs = MAP, rows(4)
    want = measured((net := made(stateful)), run(net), inputs)
    for where in (None, group):
        net = made(stateful)
        equal(measured(net, run(HOW[how](net)), inputs, where), want)


@pytest.mark.parametrize("mode", ["eval", "no_grad in training", "eval under no_grad"])
def test_state_changes_in_other_modes_as_it_does_alone(mode, group):
    nets = [made(stateful) for _ in range(3)]
    ys = []
    for net, how in zip(
        nets, (lambda f: f, nn.checkpoint, lambda f: lambda x: group.map(f, x)), strict=True
    ):
        net.train("train" in mode)
        before = {n: t.numpy().copy() for n, t in net.state_dict().items()}
        with tinycv.no_grad() if "no_grad" in mode else tinycv.enable_grad():
            ys.append(how(net)(Tensor(MAP)).numpy())
        moved = {n for n, t in net.state_dict().items() if (t.numpy() != before[n]).any()}
        assert bool(moved) == ("train" in mode)
    for y, net in zip(ys, nets, strict=True):
        np.testing.assert_allclose(y, ys[0], rtol=1e-12)
        equal([state_of(net)], [state_of(nets[0])])


def test_a_copied_layer_does_not_share_state():
    net = made(stateful)
    net(Tensor(MAP))
    twin = copy.deepcopy(net)
    before = {n: t.numpy().copy() for n, t in net.state_dict().items()}
    equal([before], [state_of(twin)])
    twin(Tensor(MAP))
    equal([before], [state_of(net)])
    assert (twin.state_dict()["0.u"].numpy() != before["0.u"]).any()


# ── a checkpoint's second run ──


@pytest.mark.parametrize(
    "make, shape",
    [(lambda: nn.BatchNorm1d(4), (4,)), (lambda: SpectralNorm(nn.Linear(4, 3)), (4,))],
)
def test_the_second_run_of_an_eval_layer_reads_the_state_of_the_first_run(make, shape):
    found = []
    for how in (lambda f: f, nn.checkpoint):
        layer, x = made(make).eval(), Tensor(MAP, requires_grad=True)
        y = (how(layer)(x) ** 2).sum()
        for buffer in (t for _, t in layer.named_tensors() if not isinstance(t, tinycv.Parameter)):
            # Another batch, or load_state_dict, would change it like this.
            buffer.data = buffer._data * 3 + 1
        y.backward()
        found.append(x.grad.numpy())
    np.testing.assert_allclose(*found, rtol=1e-12)


@pytest.mark.parametrize(
    "between, words",
    [
        (lambda net: net.eval(), r"mode \(training\) was True .* and is False now"),
        (
            lambda net: setattr(net[3].layer, "weight", tinycv.Parameter(np.ones((2, 5)))),
            "other weights or inputs",
        ),
        (
            lambda net: net.requires_grad_(False),
            "other weights or inputs|results that need a gradient",
        ),
    ],
)
def test_a_second_run_that_would_compute_something_else_is_refused(between, words):
    net = made(stateful)
    y = nn.checkpoint(net)(Tensor(MAP, requires_grad=True)).sum()
    between(net)
    with pytest.raises(RuntimeError, match=f"checkpoint: .*{words}"):
        y.backward()


def test_a_second_run_that_calls_more_layers_with_state_is_refused():
    layer, runs = nn.BatchNorm1d(4), []

    def function(x):
        runs.append(1)
        y = layer(x)
        return y if len(runs) == 1 else layer(y)

    y = nn.checkpoint(function)(Tensor(MAP.astype("f"), requires_grad=True)).sum()
    with pytest.raises(RuntimeError, match="called more layers"):
        y.backward()


def test_two_backward_passes_give_the_same_gradient():
    net, x = made(stateful), Tensor(MAP, requires_grad=True)
    y = loss_of(nn.checkpoint(net))(x)
    y.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * once, rtol=1e-12)


def test_threads_inside_a_checkpoint_are_refused(group):
    with pytest.raises(RuntimeError, match="inside nn.checkpoint"):
        nn.checkpoint(lambda x: group.map(made(stateful), x))(Tensor(MAP))


# ── errors in the middle of a batch ──


def kept(net):
    return [(n, t, t.numpy().copy()) for n, t in net.named_tensors()]


def unchanged(net, before):
    assert [(n, id(t)) for n, t in net.named_tensors()] == [(n, id(t)) for n, t, _ in before]
    for name, t, array in before:
        np.testing.assert_array_equal(t.numpy(), array, err_msg=name)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.BatchNorm1d(4),
        lambda: nn.BatchNorm1d(4, affine=False),
        lambda: nn.BatchNorm2d(2),
        lambda: SpectralNorm(nn.Linear(4, 3)),
        lambda: SpectralNorm(nn.Conv2d(2, 3, 3)),
    ],
)
@pytest.mark.parametrize("x", [rows(5), rows(1), rows(1, 5, 5), rows(3, 5, 5), np.ones(())])
def test_a_layer_that_refuses_its_input_keeps_its_state(make, x):
    layer = made(make)
    before = kept(layer)
    with pytest.raises((ValueError, IndexError)):
        layer(Tensor(x))
    unchanged(layer, before)


@pytest.mark.parametrize("culprit", range(B))
def test_an_error_in_one_shard_restores_the_state_of_the_model(culprit, group):
    net, x = made(stateful), MAP.copy()
    before = kept(net)

    def loss(x, number):
        y = loss_of(net)(x)
        if culprit in number:
            raise ZeroDivisionError
        return y

    with pytest.raises(ZeroDivisionError):
        group.backward(loss, x, np.arange(B), reduction="sum")
    unchanged(net, before)
    assert all(p.grad is None for p in net.parameters())
    equal(
        measured(net, loss_of(net), [x], group),
        measured((alone := made(stateful)), loss_of(alone), [x]),
    )


def test_an_error_while_new_state_is_computed_is_raised_and_changes_nothing(group):
    t = Tensor(np.zeros(3))

    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        group.map(lambda x: Tensor(x * state.renew([t], broken)[0]), np.ones(6))
    assert not t.numpy().any()


def test_all_shards_receive_the_same_new_state_after_all_have_arrived(group):
    t, ran = Tensor(np.zeros(2)), []

    def run(x):
        before = t.numpy().copy()
        (new,) = state.renew([t], lambda: ran.append(shards.rank()) or [t._data + 1])
        assert (before == len(ran) - 1).all() and (t.numpy() == new).all()
        return Tensor(np.full(len(x), new[0]))

    for i in range(1, 20):
        assert (group.map(run, np.ones(6)).numpy() == i).all()
    assert ran == [0] * 19


def test_shards_that_meet_for_different_primitives_raise_an_error():
    t = Tensor(np.zeros(2))
    with (
        parallel.threads(2) as pair,
        pytest.raises(RuntimeError, match="all_reduce and change of state"),
    ):
        pair.map(
            lambda x: Tensor(
                x * (shards.all_reduce(1) if x[0] else state.renew([t], lambda: [t._data])[0][0])
            ),
            np.arange(2.0),
        )
    with (
        parallel.threads(2) as pair,
        pytest.raises(RuntimeError, match="that one shard runs for all"),
    ):
        pair.map(
            lambda x: Tensor(x + state.renew([t], lambda: [shards.all_reduce(t._data)])[0][0]),
            np.arange(2.0),
        )


def test_an_average_that_would_become_infinite_is_not_loaded():
    from tinycv.optim.averaged import EMA

    average = EMA(nn.Linear(2, 2))
    state = {name: array.astype(np.float64) for name, array in average.state_dict().items()}
    state["weight"] = state["weight"] + 1e300
    before = {name: array.copy() for name, array in average.state_dict().items()}
    with pytest.raises(ValueError, match="weight has numbers of float64 that float32 cannot hold"):
        average.load_state_dict(state)
    for name, array in average.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
