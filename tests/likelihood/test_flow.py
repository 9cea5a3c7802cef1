"""RealNVP: inverse, log-determinant and integral of p, and planted mistakes that they reveal."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from mutants import mutant

import tinycv
from tinycv import Tensor, nn
from tinycv.data.shapes import gaussian
from tinycv.likelihood import flow as flows
from tinycv.likelihood import glow
from tinycv.likelihood.flow import AffineCoupling, Flow, ImageRealNVP, Logit, MultiScale, RealNVP
from tinycv.nn.distributions import normal_log_prob
from tinycv.optim import Adam

RNG = np.random.default_rng(0)


def perturbed(layer, size=0.2):
    """The layer in float64, with noise added to all weights: a new flow is the identity."""
    rng = np.random.default_rng(7)
    for p in layer.to("float64").parameters():
        p.data = p._data + size * rng.normal(size=p.shape)
    return layer


def halves(m, channels):
    return [
        m.AffineCoupling(m.image_network(channels, 3), m.channel_mask(channels, i))
        for i in range(2)
    ]


def boards(m, channels, side):
    return [
        m.AffineCoupling(m.image_network(channels, 3), m.checkerboard_mask(side, side, i))
        for i in range(2)
    ]


# Each takes the module, so that a mutant of it can be tested too. Pixels are from 0 to 1.
CASES = {
    "coupling of points": (
        lambda m: m.AffineCoupling(m.point_network(3, (5,)), m.alternating_mask(3, 0)),
        (3,),
    ),
    "coupling, checkerboard": (lambda m: boards(m, 2, 4)[1], (2, 4, 4)),
    "coupling, odd channels": (lambda m: halves(m, 3)[0], (3, 2, 2)),
    "logit": (lambda m: m.Logit(0.1), (1, 2, 3)),
    "multi-scale": (
        lambda m: m.MultiScale(boards(m, 1, 4), halves(m, 4), [m.MultiScale((), halves(m, 8))]),
        (1, 4, 4),
    ),
    "two numbers": (lambda m: m.RealNVP(2, 4, (8, 6)), (2,)),
    "five numbers": (lambda m: m.RealNVP(5, 3, (8,)), (5,)),
    "images": (lambda m: m.ImageRealNVP(1, 8, 2, 4), (1, 8, 8)),
    "colours, one scale": (lambda m: m.ImageRealNVP(3, 3, 1, 4), (3, 3, 3)),
    "three scales": (lambda m: m.ImageRealNVP(1, 8, 3, 3), (1, 8, 8)),
    "Glow": (lambda m: glow.Glow(1, 4, 2, 2, 4), (1, 4, 4)),
}
every_case = pytest.mark.parametrize("name", CASES)


def case(name, m=flows):
    """(a flow or a layer of it, four examples)."""
    make, shape = CASES[name]
    return perturbed(make(m)).eval(), Tensor(RNG.uniform(0.05, 0.95, (4, *shape)))


def log_det_of_jacobian(layer, x):
    """log |det dy/dx| (B,) from the engine: one backward pass for each number of y."""
    x = Tensor(x.numpy(), requires_grad=True)
    y, _ = layer(x)
    flat = y.reshape((len(x), -1))
    rows = []
    for d in range(flat.shape[1]):
        (g,) = tinycv.grad(flat[:, d].sum(), x, retain_graph=True)
        rows.append(g.numpy().reshape(len(x), -1))
    return np.linalg.slogdet(np.stack(rows, axis=1))[1]


@every_case
def test_the_inverse_returns_x_to_1e_10(name):
    layer, x = case(name)
    y, _ = layer(x)
    assert np.abs(layer.inverse(y).numpy() - x.numpy()).max() < 1e-10
    assert np.abs(y.numpy() - x.numpy()).max() > 1e-3  # it is not the identity


@every_case
def test_the_log_determinant_is_that_of_the_jacobian(name):
    layer, x = case(name)
    _, log_det = layer(x)
    assert log_det.shape == (4,)
    np.testing.assert_allclose(log_det.numpy(), log_det_of_jacobian(layer, x), atol=1e-10)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("total = total + log_det", "total = log_det"),
        ("x * exp(s) + t, sum_of_example(s)", "x * exp(s) + t, -sum_of_example(s)"),
        ("of_fine + of_coarse + of_rest", "of_fine + of_coarse"),
        ("+ softplus(y) + softplus(-y)", "- softplus(y) - softplus(-y)"),
        ("return where(self.mask, 0.0, tanh(s))", "return tanh(s)"),
    ],
)
def test_a_mistake_in_the_log_determinant_is_seen(right, wrong):
    layer, x = case("images", mutant(flows, right, wrong))
    assert np.abs(layer(x)[1].numpy() - log_det_of_jacobian(layer, x)).max() > 1e-3


def test_an_inverse_in_the_order_of_the_layers_is_seen():
    layer, x = case("two numbers", mutant(flows, "in reversed(layers)", "in layers"))
    assert np.abs(layer.inverse(layer(x)[0]).numpy() - x.numpy()).max() > 1e-3


class Inverse(nn.Module):
    def __init__(self, layer):
        self.layer = layer

    def forward(self, y):
        return self.layer.inverse(y)


# Whole models are made of these.
@pytest.mark.parametrize("name", ["coupling of points", "coupling, odd channels", "logit"])
def test_the_derivatives_of_a_layer_and_of_its_inverse_are_certified_to_second_order(name):
    layer, x = case(name)
    certify_layer(layer, x.numpy()[:2])
    certify_layer(Inverse(layer), layer(x)[0].numpy()[:2])


def test_one_scale_is_certified_to_second_order():
    layer = perturbed(MultiScale((), halves(flows, 4)[:1], halves(flows, 2)[:1]))
    certify_layer(layer, RNG.normal(size=(1, 1, 2, 2)))


# ── the density ──────────────────────────────────────────────────────────────────────────────────


def plane(reach, side):
    """side x side midpoints of [-reach, reach]², and the area of a cell."""
    ticks = (np.arange(side) + 0.5) / side * 2 * reach - reach
    return np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2), (2 * reach / side) ** 2


@pytest.mark.parametrize("couplings", [1, 2, 4])
@pytest.mark.parametrize("size", [0.0, 0.1, 0.3])
def test_the_density_integrates_to_one_also_without_training(couplings, size):
    flow = perturbed(RealNVP(2, couplings, (6,)), size)
    reach = 2 * np.abs(flow.sample(4000).numpy()).max()
    x, area = plane(reach, 500)
    with tinycv.no_grad():
        total = np.exp(flow.log_prob(Tensor(x)).numpy()).sum() * area
    assert total == pytest.approx(1, abs=5e-3)


def test_samples_follow_the_density():
    flow = perturbed(RealNVP(2, 3, (6,)), 0.3)
    n = 20_000
    drawn = flow.sample(n).numpy()
    x, area = plane(2 * np.abs(drawn).max(), 500)
    with tinycv.no_grad():
        p = np.exp(flow.log_prob(Tensor(x)).numpy()) * area
    for region in (lambda x: x[:, 0] > 0.3, lambda x: x.sum(axis=1) > 0, lambda x: x[:, 1] > 1):
        share = p[region(x)].sum()
        assert abs(region(drawn).mean() - share) < 5 * (share * (1 - share) / n) ** 0.5 + 2e-3


def test_a_new_flow_of_points_is_the_standard_normal():
    x = RNG.normal(size=(5, 3)).astype(np.float32)
    found = RealNVP(3).log_prob(Tensor(x)).numpy()
    np.testing.assert_allclose(found, normal_log_prob(x, 0.0, 0.0).sum(axis=1), rtol=1e-6)


@pytest.mark.statistical
def test_on_a_gaussian_the_fit_meets_its_entropy_and_never_beats_it():
    truth, rng = gaussian([0.5, -1.0], [[1.5, 0.9], [0.9, 0.8]]), np.random.default_rng(3)
    flow = RealNVP(2, 2, (8,))
    optimizer = Adam(flow.parameters(), lr=2e-2)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 2e-2 * (1 - step / 400)
        optimizer.zero_grad()
        (-flow.log_prob(Tensor(truth.sample(256, rng))).mean()).backward()
        optimizer.step()
    x = truth.sample(20_000, rng)
    with tinycv.no_grad():
        excess = truth.log_density(x) - flow.log_prob(Tensor(x)).numpy()  # its mean is the KL
    error = excess.std() / len(x) ** 0.5
    kl = excess.mean()
    assert kl > -5 * error
    assert kl < 0.03


# ── layout, devices, checks ──────────────────────────────────────────────────────────────────────


def test_two_couplings_in_a_row_change_every_number():
    for dim in (2, 3, 6, 7):
        assert (flows.alternating_mask(dim, 0) + flows.alternating_mask(dim, 1) == 1).all()
    for side in (3, 4):
        both = flows.checkerboard_mask(side, side, 0) + flows.checkerboard_mask(side, side, 1)
        assert (both == 1).all()
    assert (flows.channel_mask(5, 0) + flows.channel_mask(5, 1) == 1).all()


def test_neighbours_on_a_checkerboard_differ():
    mask = flows.checkerboard_mask(4, 6, 1)[0]
    assert (mask[1:] != mask[:-1]).all() and (mask[:, 1:] != mask[:, :-1]).all()


def test_a_flow_without_weights_can_be_sampled():
    assert Flow([Logit()], (3,)).sample(2).shape == (2, 3)


def test_half_of_the_channels_leave_before_the_coarser_scale():
    rest = perturbed(MultiScale((), halves(flows, 8)))
    one, _ = MultiScale((), (), [rest])(Tensor(x := RNG.normal(size=(1, 1, 4, 4))))
    changed = one.numpy() != x
    # of each square of 2 x 2 pixels, the upper row left, and the lower row went on
    assert not changed[0, 0, ::2].any() and changed[0, 0, 1::2].any()


def test_the_logit_takes_pixels_to_the_line_and_back():
    x = Tensor(np.linspace(0, 1, 11)[None])
    y, _ = Logit(0.05)(x)
    assert y.numpy()[0, 0] == pytest.approx(np.log(0.05 / 0.95))
    assert y.numpy()[0, 5] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(Logit(0.05).inverse(y).numpy(), x.numpy(), atol=1e-12)


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_a_wild_network_keeps_the_scale_finite(scale):
    flow = perturbed(RealNVP(2, 2, (4,)), scale)
    log_det = flow(Tensor(RNG.normal(size=(9, 2))))[1].numpy()
    assert (np.abs(log_det) <= 2 + 1e-9).all()


def test_a_flow_computes_the_same_on_every_device(device):
    flow = perturbed(ImageRealNVP(1, 4, 2, 3)).to("float32")
    x = RNG.uniform(size=(3, 1, 4, 4)).astype(np.float32)
    expected = flow.log_prob(Tensor(x)).numpy()
    flow.to(device)
    found = flow.log_prob(Tensor(x, device=device))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)
    drawn = flow.sample(2)
    assert drawn.device == device and drawn.shape == (2, 1, 4, 4)


def test_samples_are_reproducible_and_have_no_history():
    flow = perturbed(RealNVP(3, 2, (4,)))
    tinycv.manual_seed(3)
    a = flow.sample(4)
    tinycv.manual_seed(3)
    np.testing.assert_array_equal(a.numpy(), flow.sample(4).numpy())
    assert not a.requires_grad and flow.sample(0).shape == (0, 3)


def test_the_masks_are_saved_but_not_learned():
    flow = RealNVP(2, 1, (3,))
    assert "layers.0.mask" in flow.state_dict()
    assert "layers.0.mask" not in dict(flow.named_parameters())


def coupling(mask, network=lambda x: x):
    return AffineCoupling(network, mask)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: RealNVP(1), "RealNVP: dim is 1; it must be at least 2"),
        (lambda: coupling([1, 1]), "mask .* at least one of each"),
        (lambda: coupling([0.5, 1]), "mask .* zeros and ones"),
        (lambda: coupling([0, 1])(np.ones((3, 2))), "network returned .* shape \\(3, 4\\)"),
        (lambda: coupling([0, 1])(np.ones((3, 2, 2))), "x has shape \\(3, 2, 2\\)"),
        (lambda: RealNVP(3)(np.ones((2, 4))), "RealNVP: x has shape .* \\(B, 3\\)"),
        (lambda: RealNVP(3).inverse(np.ones((2, 4))), "RealNVP: z has shape .* \\(B, 3\\)"),
        (lambda: ImageRealNVP(1, 6, 3), "side is 6; it must be a multiple of 4"),
        (lambda: ImageRealNVP(1, 4, 3), "the last scale must have 2 x 2 pixels"),
        (lambda: Logit()(np.array([[0.5, 1.2]])), "values from 0.5 to 1.2"),
        (lambda: Logit()(np.array([[0.5, np.nan]])), "they must be pixel values"),
        (lambda: Flow([], 2), "layers is empty"),
        (lambda: MultiScale()(np.ones((1, 1, 3, 4))), "both must be multiples"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_layer_without_an_inverse_is_refused():
    with pytest.raises(TypeError, match="holds Linear, which has no inverse"):
        Flow([nn.Linear(2, 2)], 2)


def test_what_the_mask_hides_cannot_reach_the_scale_or_the_shift():
    network = nn.Sequential(nn.Linear(4, 8))
    layer = AffineCoupling(network, np.array([1, 0, 1, 0]))
    network[0].bias.data = np.where(np.arange(8) % 4 % 2 == 0, np.nan, 0.5).astype(np.float32)
    x = Tensor(np.array([[1, np.inf, 2, 3]], np.float32))
    y, log_det = layer(x)
    np.testing.assert_array_equal(y.numpy()[:, ::2], x.numpy()[:, ::2])
    assert np.isfinite(log_det.numpy()).all()
