"""tinycv.summary: its counts are closed forms, the bytes are those that the graph keeps, and the
model is as before."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import tinycv
from tinycv import Parameter, Tensor, likelihood, nn, sequence, vision
from tinycv.engine import rng
from tinycv.engine.fused import PAIRS, fused
from tinycv.engine.record import op
from tinycv.nn.spectral_norm import SpectralNorm
from tinycv.show import costs
from tinycv.show.summary import tensors_in
from tinycv.show.summary_table import memory

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from test_state import LAYERS  # every layer of the package, with inputs

RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def in_float32(inputs):
    return [x.astype(np.float32) if x.dtype.kind == "f" else x for x in inputs]


def row(found, name):
    return next(row for row in found.rows if row.name == name)


# ── every layer ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", LAYERS)
def test_a_summary_counts_every_parameter_once_and_leaves_no_trace(name):
    make, *inputs = LAYERS[name]
    model = make()
    attributes = [set(vars(m)) for m in model.modules()]
    before = {path: t.numpy().copy() for path, t in model.named_tensors()}
    tinycv.manual_seed(3)
    noise = rng.get_rng_state()
    found = tinycv.summary(model, *in_float32(inputs))
    assert found.parameters == model.num_parameters()
    assert found.rows[0].shapes and not found.uncounted
    assert rng.get_rng_state() == noise
    assert [set(vars(m)) for m in model.modules()] == attributes
    assert all(p.grad is None for p in model.parameters())
    after = dict(model.named_tensors())
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[path], after[path].numpy()) for path in before)


# ── the tree ─────────────────────────────────────────────────────────────────────────────────────


class Backwards(nn.Module):
    """Runs its parts in another order than that in which they were made, and one of them twice."""

    def __init__(self):
        self.last = nn.Linear(4, 2)
        self.first = nn.Linear(4, 4)
        self.unused = nn.Linear(3, 3)
        self.alias = self.first

    def forward(self, x, scale=1.0):
        x = self.first(self.first(x)) * scale
        return self.last(x), {"middle": x}


def test_rows_are_in_the_order_in_which_the_layers_run():
    found = tinycv.summary(Backwards(), array(5, 4))
    assert [row.name for row in found.rows] == ["", "first", "last", "unused"]


def test_a_layer_that_is_called_twice_has_one_row_with_the_sum_of_its_calls():
    first = row(tinycv.summary(Backwards(), array(5, 4)), "first")
    assert (first.calls, first.parameters, first.multiply_adds) == (2, 20, 2 * 5 * 4 * 4)


def test_a_layer_that_does_not_run_is_listed_with_its_parameters():
    found = tinycv.summary(Backwards(), array(5, 4))
    assert row(found, "unused").calls == 0 and row(found, "unused").parameters == 12
    assert "was not called" in str(found)


def test_results_in_a_tuple_and_a_dict_are_listed_with_their_shapes():
    assert tinycv.summary(Backwards(), array(5, 4)).rows[0].shapes == ["(5, 2), (5, 4)"]


def test_inputs_may_be_given_by_name():
    found = tinycv.summary(Backwards(), x=array(5, 4), scale=2.0)
    assert found.rows[0].shapes == ["(5, 2), (5, 4)"]


def test_a_shape_gives_the_same_counts_as_an_array_of_that_shape():
    model = vision.ViT(8, 4, 3, dim=8, depth=1, heads=2)
    assert str(tinycv.summary(model, (2, 1, 8, 8))) == str(tinycv.summary(model, array(2, 1, 8, 8)))


def test_a_tied_weight_is_counted_once_and_the_second_row_says_so():
    class Tied(nn.Module):
        def __init__(self):
            self.encoder = nn.Linear(4, 4, bias=False)
            self.decoder = nn.Linear(4, 4, bias=False)
            self.decoder.weight = self.encoder.weight

        def forward(self, x):
            return self.decoder(self.encoder(x))

    found = tinycv.summary(Tied(), (2, 4))
    assert found.parameters == 16
    assert row(found, "decoder").shared == ["weight"] and "0 (shared)" in str(found)


def test_frozen_parameters_are_counted_apart_from_those_that_learn():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    found = tinycv.summary(model, (2, 4))
    assert (found.parameters, found.trainable) == (23, 8)
    assert "15 (frozen)" in str(found)


def test_a_frozen_model_has_its_multiply_adds_and_saves_nothing():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).requires_grad_(False)
    found = tinycv.summary(model, (2, 4))
    assert (found.multiply_adds, found.saved) == (2 * 4 * 3, 0)


def test_a_method_of_a_model_can_be_summarised():
    found = tinycv.summary(likelihood.VAE(6, 2, hidden=(5,)).decode, array(3, 2))
    assert found.rows[0].shapes == ["(3, 6)"] and found.multiply_adds == 3 * (2 * 5 + 5 * 6)


def test_the_mode_stays_and_running_statistics_do_not_move():
    model = nn.Sequential(nn.BatchNorm1d(4), SpectralNorm(nn.Linear(4, 3)), nn.Dropout(0.5)).eval()
    model[0].train()
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    tinycv.summary(model, array(5, 4) + 7)
    assert [m.training for m in model] == [True, False, False]
    assert all(np.array_equal(before[n], t.numpy()) for n, t in model.state_dict().items())


def test_a_gradient_that_was_there_stays():
    model = nn.Linear(4, 3)
    model(Tensor(array(2, 4))).sum().backward()
    before = model.weight.grad
    tinycv.summary(model, (2, 4))
    assert model.weight.grad is before


def test_an_error_in_the_model_leaves_no_trace_either():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="linear"):
        tinycv.summary(model, array(5, 4))
    assert not model[0].running_mean.numpy().any()
    assert all("forward" not in vars(m) for m in model.modules())
    assert model[0](Tensor(array(5, 4))).shape == (5, 4)


def test_it_works_inside_no_grad_and_leaves_that_mode():
    with tinycv.no_grad():
        found = tinycv.summary(nn.Sequential(nn.Linear(4, 3), nn.Tanh()), (2, 4))
        assert not nn.Linear(4, 3)(Tensor(array(2, 4))).requires_grad
    assert found.saved == 2 * 3 * 4


def test_a_summary_counts_on_the_gpu_what_it_counts_on_the_cpu(double):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    on_cpu = tinycv.summary(model, (2, 1, 8, 8))
    on_gpu = tinycv.summary(model.to("gpu"), (2, 1, 8, 8))
    assert on_gpu.flops == on_cpu.flops and on_gpu.parameters == on_cpu.parameters


# ── FLOPs ────────────────────────────────────────────────────────────────────────────────────────

N, T, H = 3, 5, 8
CLOSED_FORMS = {
    "linear": (nn.Linear(6, 4), (N, T, 6), N * T * 6 * 4, N * T * 4),
    "conv": (nn.Conv2d(4, 6, 3, stride=2, groups=2), (N, 4, 9, 9), N * 6 * 16 * 2 * 9, N * 6 * 16),
    "transposed conv": (
        nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False),
        (N, 4, 5, 5),
        N * 4 * 25 * 6 * 4,
        0,
    ),
    "LSTM": (
        sequence.LSTM(6, H, num_layers=2),
        (T, N, 6),
        T * N * 4 * H * (6 + H) + T * N * 4 * H * 2 * H,
        2 * T * N * H * 21,
    ),
    "relu": (nn.ReLU(), (N, T), 0, N * T),
    "reshape": (nn.Flatten(), (N, T, H), 0, 0),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_flops_are_the_closed_form(name):
    model, shape, multiply_adds, other = CLOSED_FORMS[name]
    found = tinycv.summary(model, shape)
    assert (found.multiply_adds, found.other) == (multiply_adds, other)
    assert found.flops == 2 * multiply_adds + other


def test_attention_counts_its_projections_and_both_products_of_the_scores():
    found = tinycv.summary(sequence.MultiheadAttention(H, 2), *[(N, T, H)] * 3)
    assert found.multiply_adds == 4 * N * T * H * H + 2 * N * T * T * H


def test_einsum_counts_all_combinations_of_its_letters():
    class Scores(nn.Module):
        def forward(self, q, k):
            return tinycv.einsum("bthd,bshd->bhts", q, k)

    found = tinycv.summary(Scores(), (N, T, 2, 4), (N, 6, 2, 4))
    assert found.multiply_adds == N * 2 * T * 6 * 4


# inputs of each pair that has a rule
CASES = {
    "linear": (array(3, 5), array(4, 5), array(4)),
    "conv2d": (array(2, 4, 6, 6), array(6, 2, 3, 3), array(6), 2, 1, 1, 2),
    "conv_transpose2d": (array(2, 4, 3, 3), array(4, 2, 3, 3), array(2), 2, 1, 1, 1, 1),
    "scaled_dot_product_attention": (
        array(2, 2, 3, 4),
        array(2, 2, 5, 4),
        array(2, 2, 5, 6),
        None,
        False,
    ),
    "lstm": (
        array(4, 2, 3),
        array(2, 5),
        array(2, 5),
        array(20, 3),
        array(20, 5),
        array(20),
        array(20),
        None,
    ),
}


def test_every_pair_with_a_rule_has_a_case():
    assert CASES.keys() == costs.RULES.keys() & PAIRS.keys()


@pytest.mark.parametrize("name", CASES)
def test_a_rule_has_as_many_multiply_adds_as_the_definition(name):
    args = tuple(Tensor(a) if isinstance(a, np.ndarray) else a for a in CASES[name])
    pair = PAIRS[name]
    rule, unknown = costs.cost(pair, args, {}, pair(*args))
    definition = costs.cost_of_definition(pair, args)
    assert unknown is None and rule.multiply_adds == definition.multiply_adds > 0
    if "conv" not in name:  # where the definition adds up the taps, one by one
        assert rule.other == definition.other


def test_a_pair_without_a_rule_is_counted_by_its_definition():
    found = tinycv.summary(nn.Softmax(), (N, T))
    # a maximum, a difference, an exponential, a sum, a division
    assert (found.multiply_adds, found.other) == (0, 5 * N * T)


def test_a_pair_of_a_user_is_counted_by_its_definition_too():
    @fused
    def cost_of_a_user(x):
        return x @ x

    @cost_of_a_user.kernel
    def _(xp, x):
        return x @ x, lambda g: g

    class Squared(nn.Module):
        def forward(self, x):
            return cost_of_a_user(x)

    try:
        found = tinycv.summary(Squared(), (4, 4))
    finally:
        del PAIRS["cost_of_a_user"]
    assert found.multiply_adds == 64 and not found.uncounted


def test_an_op_of_a_user_is_counted_per_element_and_named():
    cube = op(lambda xp, x: x * x * x, x=lambda g, x: 3 * g * x * x)
    cube.row.name = "cube"

    class Cubed(nn.Module):
        def forward(self, x):
            return cube(x)

    found = tinycv.summary(Cubed(), (N, T))
    assert found.other == N * T and found.uncounted == ["cube"]
    assert "no rule counts cube" in str(found)


def test_the_flops_of_a_vit_are_those_of_the_benchmarks():
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    from benchmarks.tasks import Vit

    task = Vit(2, image=8, patch=4, width=8, heads=2, layers=2, classes=3)
    found = tinycv.summary(vision.ViT(8, 4, 3, dim=8, depth=2, heads=2), (2, 1, 8, 8))
    assert 2 * found.multiply_adds == task.flops(False)


# ── activation memory ────────────────────────────────────────────────────────────────────────────


def test_a_linear_layer_saves_its_input_and_tanh_its_result():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    found = tinycv.summary(model, (5, 4))
    # tanh's result is the second layer's input: it is saved once
    assert [row.saved for row in found.rows] == [0, 0, 5 * 3 * 4, 0]
    assert found.input_bytes == 5 * 4 * 4


def test_a_checkpointed_block_saves_its_input_alone():
    class Block(nn.Module):
        def __init__(self):
            self.before = nn.Linear(4, 4)
            self.inside = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 4))

        def forward(self, x):
            return nn.checkpoint(self.inside)(self.before(x))

    found = tinycv.summary(Block(), (5, 4))
    assert found.saved == 5 * 4 * 4 and row(found, "inside.0").multiply_adds == 5 * 4 * 64


@pytest.mark.parametrize(
    "model, shape",
    [
        (nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 64)), (512, 64)),
        (vision.ViT(28, 7, 10, dim=32, depth=2, heads=2), (64, 1, 28, 28)),
        (sequence.LSTM(16, 64, num_layers=2), (20, 32, 16)),
        (nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU()), (32, 3, 16, 16)),
    ],
    ids=["MLP", "ViT", "LSTM", "conv"],
)
def test_the_saved_bytes_are_the_memory_that_the_graph_holds(model, shape):
    x = Tensor(array(*shape))
    found = tinycv.summary(model, x)
    model(x)  # whatever is created once exists now
    gc.collect()
    tracemalloc.start()
    try:
        result = list(tensors_in(model(x)))
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # the results are alive too, and may be saved; Nodes and Tensors are small objects
    results = sum(t.data.nbytes for t in result)
    assert found.saved > 100_000
    assert 0.97 * found.saved <= held <= 1.03 * (found.saved + results) + 60_000


# ── what it shows and refuses ────────────────────────────────────────────────────────────────────


def test_the_table_is_ascii_and_its_columns_are_aligned():
    text = str(tinycv.summary(Backwards(), array(5, 4)))
    head, first = text.splitlines()[1], text.splitlines()[4]
    assert text.isascii()
    assert head.startswith("layer") and "first: Linear (x 2)" in first
    assert first.index("20") + 2 == head.index("parameters") + len("parameters")


def test_the_html_escapes_names():
    class Named(nn.Module):
        def __init__(self):
            self.parts = {"<b>": nn.Linear(2, 2)}

        def forward(self, x):
            return self.parts["<b>"](x)

    page = tinycv.summary(Named(), (1, 2))._repr_html_()
    assert "parts.&lt;b&gt;: Linear" in page and "<b>" not in page


def test_bytes_are_shown_in_units_of_1000():
    assert [memory(n) for n in (0, 999, 1000, 999_960, 1_500_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.0 MB",
        "1.5 GB",
    ]


@pytest.mark.parametrize("model", [None, 3, nn.Linear, np.ones(3), print])
def test_anything_but_a_module_is_refused_in_one_sentence(model):
    with pytest.raises(TypeError, match="summary: model is .*; it must be a Module"):
        tinycv.summary(model, (1, 2))


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match=r"summary: input 0\[0\] is -1; it must be a whole number"):
        tinycv.summary(nn.Linear(2, 2), (-1, 2))


def test_random_numbers_in_place_of_token_ids_are_explained():
    with pytest.raises((TypeError, IndexError), match="give it arrays if it needs other values"):
        tinycv.summary(nn.Embedding(5, 3), (2, 4))


def test_a_parameter_of_the_model_itself_is_in_its_first_row():
    class Scale(nn.Module):
        def __init__(self):
            self.weight = Parameter(np.ones(3, np.float32))

        def forward(self, x):
            return x * self.weight

    found = tinycv.summary(Scale(), (2, 3))
    assert found.rows[0].parameters == 3 and found.other == 6
