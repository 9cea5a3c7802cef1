"""L-BFGS: the two-loop recursion against the dense BFGS matrix, known minima, wrong closures, and
resuming with the same bits."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinycv
from tinycv import nn
from tinycv.adversarial import fit_gan
from tinycv.data import DataLoader
from tinycv.engine import capturing
from tinycv.engine.backend import to_device, to_numpy
from tinycv.engine.tensor import Parameter, Tensor
from tinycv.optim import LBFGS, SGD, Adam
from tinycv.optim.lbfgs import secant_pair, two_loop
from tinycv.optim.line_search import Point, Wolfe
from tinycv.optim.objective import Objective
from tinycv.training import fit, parallel
from tinycv.training.half import Half
from tinycv.training.loop import Run

SEARCHES = [None, "strong_wolfe"]


class Problem:
    """Parameters that start at ``start``, a loss of them, and all losses that were computed."""

    def __init__(self, loss, *starts, device="cpu", dtype=np.float64):
        arrays = [np.array(start, dtype) for start in starts]
        self.params = [Parameter(to_device(array, device)) for array in arrays]
        self.loss, self.losses, self.points = loss, [], []

    def closure(self):
        for p in self.params:
            p.grad = None
        loss = self.loss(*self.params)
        loss.backward()
        self.losses.append(loss.item())
        self.points.append(self.values())
        return loss

    def values(self):
        return [to_numpy(p._data).copy() for p in self.params]

    def solve(self, steps=1, **options):
        optimizer = LBFGS(self.params, **options)
        for _ in range(steps):
            optimizer.step(self.closure)
        return optimizer


def rosenbrock(p):
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def bowl(n=10, condition=1e4):
    """A quadratic whose curvatures lie between 1 and ``condition``; its minimum is 0, at 0."""
    curvature = np.geomspace(1, condition, n)
    return lambda p: 0.5 * (Tensor(curvature.astype(p.dtype), device=p.device) * p * p).sum()


def same(a, b):
    return len(a) == len(b) and all((x == y).all() for x, y in zip(a, b, strict=True))


# ── The recursion ──


def random_pairs(n, m, seed=0):
    """Pairs of a random quadratic, y = A s, as a minimisation would collect them."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((n, n))
    hessian = root @ root.T + np.eye(n)
    steps = rng.standard_normal((m, n))
    return [secant_pair(s, hessian @ s) for s in steps], hessian


def bfgs_matrix(pairs):
    """H by the update formula, Nocedal & Wright, eq. 6.17, starting from gamma I."""
    last, identity = pairs[-1], np.eye(len(pairs[-1].s))
    h = (last.s @ last.y) / (last.y @ last.y) * identity
    for s, y, *_ in pairs:
        rho = 1 / (y @ s)
        left = identity - rho * np.outer(s, y)
        h = left @ h @ left.T + rho * np.outer(s, s)
    return h


@pytest.mark.parametrize("m", [1, 2, 5, 20])
def test_the_recursion_equals_the_matrix_that_the_update_formula_builds(m):
    pairs, _ = random_pairs(8, m)
    g = np.random.default_rng(1).standard_normal(8)
    expected = bfgs_matrix(pairs) @ g
    np.testing.assert_allclose(two_loop(g, pairs), expected, rtol=1e-10, atol=1e-10)


@given(m=st.integers(1, 10), seed=st.integers(0, 99))
def test_the_newest_pair_satisfies_the_secant_equation_and_h_is_positive_definite(m, seed):
    pairs, _ = random_pairs(5, m, seed)
    newest = pairs[-1]
    np.testing.assert_allclose(two_loop(newest.y, pairs), newest.s, rtol=1e-8, atol=1e-10)
    g = np.random.default_rng([seed, 1]).standard_normal(5)
    assert g @ two_loop(g, pairs) > 0


def test_on_a_quadratic_n_exact_line_searches_suffice_and_the_directions_are_conjugate():
    n = 7
    _, hessian = random_pairs(n, 1)
    x, pairs, directions = np.ones(n), [], []
    for _ in range(n):
        g = hessian @ x
        d = -two_loop(g, pairs)
        s = -(g @ d) / (d @ hessian @ d) * d
        pairs.append(secant_pair(s, hessian @ s))
        x = x + s
        directions.append(d / np.sqrt(d @ hessian @ d))
    products = np.array(directions) @ hessian @ np.array(directions).T
    np.testing.assert_allclose(products, np.eye(n), atol=1e-8)
    assert np.abs(hessian @ x).max() < 1e-8
    # after n conjugate steps, H is the inverse of the Hessian
    np.testing.assert_allclose(bfgs_matrix(pairs) @ hessian, np.eye(n), atol=1e-7)


@pytest.mark.parametrize("y", [[-1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [np.nan, 0.0]])
def test_a_pair_without_a_positive_product_is_no_pair(y):
    assert secant_pair(np.array([1.0, 0.0]), np.array(y)) is None


def test_where_the_loss_curves_downwards_pairs_are_left_out_and_the_loss_still_falls():
    def well(p):
        return -(-(p * p) / 2).exp().sum()  # its second derivative is negative beyond 1

    problem = Problem(well, [2.0])
    optimizer = problem.solve(lr=0.3, max_iter=3)
    assert not optimizer.pairs and problem.losses == sorted(problem.losses, reverse=True)
    assert problem.values()[0] > 1.2
    optimizer = problem.solve(line_search_fn="strong_wolfe")
    assert optimizer.pairs and abs(problem.values()[0]) < 1e-4


def test_a_small_loss_keeps_its_pairs():
    problem = Problem(lambda p: 1e-15 * bowl()(p), np.ones(10))
    optimizer = problem.solve(
        max_iter=10,
        max_eval=99,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )
    assert len(optimizer.pairs) == 9


# ── Minima ──


def test_rosenbrock_is_solved_in_sixty_evaluations():
    problem = Problem(rosenbrock, [-1.2, 1.0])
    problem.solve(max_iter=100, max_eval=60, line_search_fn="strong_wolfe", tolerance_change=0)
    assert len(problem.losses) <= 85  # 60, and at most one line search of 25 beyond
    assert min(problem.losses[:60]) < 1e-8
    np.testing.assert_allclose(problem.values()[0], 1, atol=1e-3)


def test_an_ill_conditioned_bowl_is_solved_where_sgd_and_adam_are_far_from_it():
    start = np.linspace(0.5, 1.5, 10)
    problem = Problem(bowl(), start)
    problem.solve(max_iter=100, line_search_fn="strong_wolfe", tolerance_change=0)
    assert min(problem.losses[:80]) < 1e-10
    others = [(SGD, {"lr": lr, "momentum": m}) for lr in (1e-5, 1e-4, 1.9e-4) for m in (0, 0.9)]
    others += [(Adam, {"lr": lr}) for lr in (1e-3, 1e-2, 0.1, 1.0)]
    for kind, options in others:
        other = Problem(bowl(), start)
        optimizer = kind(other.params, **options)
        for _ in range(80):
            optimizer.step(other.closure)
        assert min(other.losses) > 1e-6, (kind, options)


@pytest.mark.parametrize("search", SEARCHES)
def test_history_size_limits_the_pairs(search):
    problem = Problem(bowl(condition=100.0), np.ones(10))
    optimizer = problem.solve(history_size=3, max_iter=60, max_eval=99, line_search_fn=search)
    assert len(optimizer.pairs) == 3 and problem.losses[-1] < 1e-6 * problem.losses[0]


@given(
    weights=st.lists(st.floats(-2, 2), min_size=6, max_size=6),
    start=st.lists(st.floats(-3, 3), min_size=2, max_size=2),
)
def test_the_wolfe_conditions_hold_at_every_accepted_iteration(weights, start):
    """The loss: ridges and valleys in three directions, on a bowl."""
    w = np.array(weights).reshape(3, 2)
    heights = Tensor(np.array([1.0, -1.0, -3.0]))

    def loss(p):
        along = p @ Tensor(w.T)
        return 0.1 * (p * p).sum() + (heights * (-along * along).exp()).sum()

    accepted = []

    class Watched(LBFGS):
        def _complete_pair(self, x, g, history_size):
            accepted.append((x, g))
            super()._complete_pair(x, g, history_size)

    problem = Problem(loss, start)
    Watched(problem.params, tolerance_change=1e-8, line_search_fn="strong_wolfe").step(
        problem.closure
    )
    for (x, g), (new_x, new_g) in zip(accepted, accepted[1:], strict=False):
        s = new_x - x  # the direction, with t = 1
        value, new_value = (loss(Tensor(a)).item() for a in (x, new_x))
        wolfe = Wolfe(Point(0.0, value, g @ s), c1=0.99e-4, c2=0.9001)  # room for rounding
        end = Point(1.0, new_value, new_g @ s)
        assert wolfe.curvature(end) and (wolfe.decrease(end) or abs(new_value - value) < 1e-14)


def test_the_number_of_evaluations_has_its_limits():
    # without a line search one per iteration, and none after the last
    for options, most in (({"max_iter": 7}, 7), ({"max_iter": 7, "max_eval": 4}, 4)):
        problem = Problem(rosenbrock, [-1.2, 1.0])
        problem.solve(lr=0.1, **options)
        assert len(problem.losses) == most


def test_at_a_minimum_one_evaluation_suffices_and_nothing_moves():
    problem = Problem(rosenbrock, [1.0, 1.0])
    problem.solve()
    assert problem.losses == [0.0] and (problem.values()[0] == 1).all()


@pytest.mark.parametrize(
    "options", [{"tolerance_change": 0.1}, {"tolerance_grad": 1.0}], ids=lambda o: [*o][0]
)
def test_a_tolerance_ends_the_step_early(options):
    strict, loose = Problem(bowl(), np.ones(10)), Problem(bowl(), np.ones(10))
    strict.solve(max_iter=50, line_search_fn="strong_wolfe")
    loose.solve(max_iter=50, line_search_fn="strong_wolfe", **options)
    assert len(loose.losses) < len(strict.losses)


def test_a_step_ends_where_no_weight_moves_though_the_loss_still_falls():
    problem = Problem(lambda p: 1e6 * p.sum(), [0.0])
    problem.solve(lr=1e-8, tolerance_change=1e-7)
    assert len(problem.losses) == 2 and abs(problem.losses[1] - problem.losses[0]) > 1e-3


def test_a_step_ends_where_the_loss_stays_though_the_weights_still_move():
    problem = Problem(lambda p: 1e-6 * p.sum(), [0.0])
    problem.solve(lr=0.1, tolerance_grad=0, tolerance_change=5e-13)
    assert len(problem.losses) == 2 and abs(problem.points[1][0][0]) > 1e-8


def test_steps_at_a_minimum_add_no_pairs():
    problem = Problem(bowl(), np.ones(10))
    options = {"tolerance_grad": 0, "tolerance_change": 1e-8}
    optimizer = problem.solve(5, line_search_fn="strong_wolfe", **options)
    counts = []
    for _ in range(2):
        optimizer.step(problem.closure)
        counts.append(len(optimizer.pairs))
    assert counts[0] == counts[1] > 0 and optimizer.last is None


@pytest.mark.parametrize("search", SEARCHES)
def test_step_returns_the_first_loss(search):
    problem = Problem(rosenbrock, [-1.2, 1.0])
    loss = LBFGS(problem.params, lr=0.1, line_search_fn=search).step(problem.closure)
    assert isinstance(loss, Tensor) and loss.item() == problem.losses[0] == pytest.approx(24.2)


def test_after_a_search_the_weights_are_those_of_the_accepted_trial():
    problem = Problem(rosenbrock, [-1.2, 1.0])
    problem.solve(max_iter=5, line_search_fn="strong_wolfe")
    last = rosenbrock(Tensor(problem.values()[0])).item()
    assert last == min(problem.losses)


def test_a_change_of_the_weights_between_two_steps_belongs_to_the_pair():
    hessian = np.geomspace(1, 100, 10)
    problem = Problem(bowl(condition=100.0), np.ones(10))
    optimizer = LBFGS(problem.params, lr=0.5, max_iter=2)
    for _ in range(4):
        optimizer.step(problem.closure)
        problem.params[0].data[...] += 0.1
    assert len(optimizer.pairs) == 3
    for pair in optimizer.pairs:
        np.testing.assert_allclose(pair.y, hessian * pair.s, atol=1e-12)


# ── Devices, dtypes, several parameters ──


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 1e-3)])
def test_cpu_and_gpu_take_the_same_path(search, dtype, rtol, device):
    def loss(a, b):
        return (a * a).sum() + ((a.sum() - b) ** 4).mean() + (b - 1).abs().sum() ** 2

    ends = []
    for where in ("cpu", device):
        problem = Problem(loss, np.ones((2, 3)), np.arange(4) / 4, device=where, dtype=dtype)
        problem.solve(lr=0.1 if search is None else 1.0, max_iter=6, line_search_fn=search)
        assert {p.device for p in problem.params} == {where}
        ends.append((problem.losses[-1], len(problem.losses)))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=rtol) and ends[0][1] == ends[1][1]
    assert ends[0][0] < 0.9 * problem.losses[0]


def test_the_history_follows_parameters_that_are_moved(device):
    problem = Problem(bowl(condition=100.0), np.ones(10))
    optimizer = problem.solve(max_iter=10, line_search_fn="strong_wolfe")
    for where, dtype in ((device, "float64"), (device, "float32"), ("cpu", "float64")):
        problem.params[0].data = to_device(to_numpy(problem.params[0]._data).astype(dtype), where)
        optimizer.step(problem.closure)
        assert len(optimizer.pairs) > 4
        assert {str(pair.s.dtype) for pair in optimizer.pairs} == {dtype}
    assert problem.losses[-1] < 1e-6


def test_a_parameter_without_gradient_stays_and_the_others_are_minimised():
    problem = Problem(lambda a, b: bowl()(a), np.ones(10), np.ones(3))
    problem.solve(max_iter=100, line_search_fn="strong_wolfe")
    a, b = problem.values()
    assert np.abs(a).max() < 1e-3 and (b == 1).all()


def test_a_parameter_that_is_not_contiguous_is_updated_in_place():
    array = np.zeros((4, 6))[:, ::2]
    p = Parameter(array)
    problem = Problem(lambda a: ((a - 3) ** 2).sum(), 0.0)
    problem.params = [p]
    problem.solve(line_search_fn="strong_wolfe")
    assert p._data is array or p._data.base is array.base
    np.testing.assert_allclose(p.numpy(), 3, atol=1e-6)


# ── Closures that go wrong ──


def good_then(bad, calls):
    """A closure of Rosenbrock that at call number ``calls`` does what ``bad`` does."""
    problem = Problem(rosenbrock, [-1.2, 1.0])

    def closure():
        loss = problem.closure()
        if len(problem.losses) == calls:
            return bad(problem, loss)
        return loss

    return problem, closure


def interrupt(problem, loss):
    raise KeyboardInterrupt


def complain(problem, loss):
    raise OSError("the disk is full")


def change(problem, loss):
    problem.params[0].data[...] += 1
    return loss


def lose_gradient(problem, loss):
    problem.params[0].grad = None
    return loss


def reshape_gradient(problem, loss):
    problem.params[0].grad = Tensor(np.ones(3))
    return loss


def break_gradient(problem, loss):
    problem.params[0].grad.data[...] = np.nan
    return loss


BAD = {
    "None": (lambda problem, loss: None, TypeError, "LBFGS.step: closure returned None"),
    "a float": (lambda problem, loss: 1.0, TypeError, "it must return the loss, a Tensor of one"),
    "two numbers": (lambda problem, loss: Tensor([1.0, 2.0]), TypeError, r"shape \(2,\)"),
    "a whole number": (lambda problem, loss: Tensor(1), TypeError, "a Tensor of one float"),
    "NaN": (lambda problem, loss: loss * np.nan, FloatingPointError, "the loss is nan"),
    "infinity": (lambda problem, loss: loss * np.inf, FloatingPointError, "the loss is inf"),
    "a gradient of NaN": (break_gradient, FloatingPointError, "the largest gradient nan"),
    "a gradient of another shape": (
        reshape_gradient,
        ValueError,
        r"LBFGS.step: parameter 0 of shape \(2,\) .* its gradient has shape \(3,\)",
    ),
    "no gradient": (lose_gradient, RuntimeError, "computed no gradient of any parameter"),
    "a change": (change, RuntimeError, "closure changed the parameters"),
    "an error": (complain, OSError, "the disk is full"),
    "Ctrl-C": (interrupt, KeyboardInterrupt, None),
}


@pytest.mark.parametrize("calls", [1, 5])
@pytest.mark.parametrize("name", BAD)
def test_a_closure_that_goes_wrong_leaves_the_last_completed_iteration(name, calls):
    bad, error, words = BAD[name]
    problem, closure = good_then(bad, calls)
    optimizer = LBFGS(problem.params, lr=0.1)
    with pytest.raises(error, match=words):
        optimizer.step(closure)
    # without a line search the trial of call 5 follows the completed iteration of call 4
    assert same(problem.values(), problem.points[max(0, calls - 2)])
    optimizer.step(problem.closure)  # it can go on from there
    assert problem.losses[-1] < problem.losses[0]


@pytest.mark.parametrize("name", ["NaN", "infinity", "a gradient of NaN"])
def test_a_line_search_survives_a_trial_that_is_not_finite(name):
    problem, closure = good_then(BAD[name][0], 5)
    optimizer = LBFGS(problem.params, max_iter=100, line_search_fn="strong_wolfe")
    optimizer.step(closure)
    assert len(problem.losses) > 5 and problem.losses[-1] < 1e-8


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_first_trial_that_overflows_is_shortened_without_a_warning(dtype):
    problem = Problem(lambda p: (p.exp() - 2 * p).sum(), [0.0, 1.0], dtype=dtype)
    problem.solve(lr=1e4, line_search_fn="strong_wolfe", max_iter=40, max_eval=200)
    assert not np.isfinite(problem.losses[1])
    np.testing.assert_allclose(problem.values()[0], np.log(2), atol=1e-3)


def test_a_search_that_finds_nothing_lower_leaves_the_weights_and_forgets_the_pairs():
    problem = Problem(bowl(), np.ones(10))
    optimizer = problem.solve(max_iter=5, line_search_fn="strong_wolfe")
    before, start = problem.values(), problem.losses[-1]

    def rising():  # every evaluation after the first is higher than the one before
        loss = problem.closure()
        return loss * 0 + start + len(problem.losses)

    optimizer.step(rising)
    assert same(before, problem.values()) and not optimizer.pairs
    optimizer.step(problem.closure)
    assert problem.losses[-1] < start


def test_a_wide_tolerance_ends_a_search_that_finds_nothing_sooner():
    calls = []
    for tolerance in (1e-12, 1e-2):
        problem = Problem(bowl(), np.ones(10))

        def rising(problem=problem):
            return problem.closure() * 0 + len(problem.losses)

        LBFGS(problem.params, line_search_fn="strong_wolfe", tolerance_change=tolerance).step(
            rising
        )
        calls.append(len(problem.losses))
    assert calls[1] < calls[0] <= 26


def test_pairs_that_do_not_point_downhill_are_forgotten():
    problem = Problem(bowl(), np.ones(10))
    optimizer = problem.solve(max_iter=5, line_search_fn="strong_wolfe")
    optimizer.pairs = [pair._replace(gamma=-pair.gamma) for pair in optimizer.pairs]
    optimizer.last = None
    optimizer.step(problem.closure)
    assert not optimizer.pairs
    before = problem.losses[-1]
    optimizer.step(problem.closure)
    assert problem.losses[-1] < before


def test_gradients_that_the_closure_does_not_clear_do_not_add_up():
    problem, forgetful = Problem(bowl(), np.ones(10)), Problem(bowl(), np.ones(10))
    problem.solve()

    def closure():
        loss = forgetful.loss(*forgetful.params)
        loss.backward()
        return loss

    forgetful.params[0].grad = Tensor(np.ones(10))
    LBFGS(forgetful.params).step(closure)
    assert same(problem.values(), forgetful.values())


def test_the_closure_is_recorded_inside_no_grad():
    problem = Problem(bowl(), np.ones(10))
    with tinycv.no_grad():
        problem.solve(line_search_fn="strong_wolfe", max_iter=50)
    assert problem.losses[-1] < 1e-6


def test_threads_may_compute_the_gradients():
    tinycv.manual_seed(1)
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = LBFGS(model.parameters(), line_search_fn="strong_wolfe")
    with parallel.threads(2) as group:

        def closure():
            optimizer.zero_grad()
            return group.backward(lambda x: ((model(x) - x.sum(-1, keepdims=True)) ** 2).mean(), x)

        first = optimizer.step(closure).item()
        assert optimizer.step(closure).item() < 0.01 * first


def test_backward_through_the_old_weights_is_refused_after_a_step():
    problem = Problem(bowl(), np.ones(10))
    loss = bowl()(problem.params[0])
    problem.solve(max_iter=2)
    with pytest.raises(RuntimeError, match="changed"):
        loss.backward()


# ── Calls that are refused ──


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0}, "LBFGS: lr is 0; it must be above 0"),
        ({"lr": np.inf}, "LBFGS: lr is inf; it must be a finite number"),
        ({"lr": np.nan}, "LBFGS: lr is nan"),
        ({"max_iter": 0}, "LBFGS: max_iter is 0; it must be a whole number, at least 1"),
        ({"max_eval": 0}, "LBFGS: max_eval is 0"),
        ({"history_size": 0}, "LBFGS: history_size is 0; it must be a whole number, at least 1"),
        ({"tolerance_grad": -1}, "LBFGS: tolerance_grad is -1"),
        ({"tolerance_change": np.nan}, "LBFGS: tolerance_change is nan"),
        ({"line_search_fn": "wolfe"}, "line_search_fn is 'wolfe'; .* one of None, 'strong_wolfe'"),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused_at_once_and_when_set_later(options, words):
    problem = Problem(rosenbrock, [-1.2, 1.0])
    with pytest.raises(ValueError, match=words):
        LBFGS(problem.params, **options)
    optimizer = LBFGS(problem.params)
    optimizer.param_groups[0].update(options)
    with pytest.raises(ValueError, match=words):
        optimizer.step(problem.closure)
    assert not problem.losses


def test_max_eval_is_five_quarters_of_max_iter_by_default():
    assert LBFGS([Parameter(np.ones(2))], max_iter=40).param_groups[0]["max_eval"] == 50


def test_parameters_that_cannot_form_one_vector_are_refused(double):
    a, b = Parameter(np.ones(2, np.float32)), Parameter(np.ones(2))
    with pytest.raises(ValueError, match="LBFGS: the parameters are float32 on cpu and float64 on"):
        LBFGS([a, b])
    with pytest.raises(ValueError, match="the parameters are float16 on cpu; they must all be"):
        LBFGS([Parameter(np.ones(2, np.float16))])
    with pytest.raises(ValueError, match="float64 on cpu and float64 on gpu:0"):
        LBFGS([b, Parameter(to_device(np.ones(2), "gpu:0"))])
    with pytest.raises(ValueError, match="LBFGS: .* it takes one group of parameters"):
        LBFGS([{"params": [a]}, {"params": [Parameter(np.ones(2, np.float32))]}])
    with pytest.raises(ValueError, match="it takes one group of parameters"):
        LBFGS([a]).add_param_group({"params": [Parameter(np.ones(2, np.float32))]})


def test_a_step_without_a_closure_says_what_a_closure_is():
    with pytest.raises(TypeError, match="LBFGS.step: closure is missing; it must be a function"):
        LBFGS([Parameter(np.ones(2))]).step()


def test_fit_refuses_it_before_the_first_batch():
    model = nn.Linear(3, 2)
    loader = DataLoader(np.ones((4, 3), np.float32), batch_size=2)
    with pytest.raises(TypeError, match="fit: optimizer is LBFGS, .* optimizer.step.closure."):
        fit(model, LBFGS(model.parameters()), lambda m, x: m(x).sum(), loader, epochs=1)


def test_half_refuses_it():
    with pytest.raises(TypeError, match="Half: make returned a LBFGS, .* train in float32"):
        Half(nn.Linear(3, 2), LBFGS)


def test_a_loop_that_steps_without_a_closure_gets_the_same_sentence():
    generator, discriminator = nn.Linear(2, 2), nn.Linear(2, 1)
    generator.latent = 2
    loader = DataLoader(np.ones((4, 2), np.float32), batch_size=4)
    optimizers = [LBFGS(side.parameters()) for side in (generator, discriminator)]
    with pytest.raises(TypeError, match="LBFGS.step: closure is missing"):
        fit_gan(generator, discriminator, *optimizers, loader, epochs=1)


def test_a_recorded_step_refuses_it():
    problem = Problem(rosenbrock, [-1.2, 1.0])
    optimizer = LBFGS(problem.params)
    with (
        pytest.raises(RuntimeError, match="LBFGS.step, .* tinycv.captured"),
        capturing.by(object()),
    ):
        optimizer.step(problem.closure)


# ── Saving and loading ──


def saved(optimizer, params, search):
    again = LBFGS(params, line_search_fn=search)
    again.load_state_dict(optimizer.state_dict())
    return again


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("how", ["saved", "pickled", "copied"])
def test_a_resumed_minimisation_ends_with_the_same_bits(how, search):
    def make():
        rng = np.random.default_rng(0)
        return Problem(
            lambda a, b: rosenbrock(a) + ((a.sum() - b) ** 4).sum() + bowl(3)(b),
            [-1.2, 1.0],
            rng.normal(size=3),
        )

    options = {"lr": 0.05 if search is None else 1.0, "max_iter": 4, "history_size": 5}
    straight = make()
    straight.solve(6, line_search_fn=search, **options)
    problem = make()
    optimizer = problem.solve(3, line_search_fn=search, **options)
    if how == "saved":
        optimizer = saved(optimizer, problem.params, search)
    else:
        both = (problem.params, optimizer)
        problem.params, optimizer = (
            copy.deepcopy(both) if how == "copied" else pickle.loads(pickle.dumps(both))
        )
    for _ in range(3):
        optimizer.step(problem.closure)
    assert same(problem.values(), straight.values()) and problem.losses == straight.losses


def test_a_pickle_holds_the_history_once():
    problem = Problem(bowl(1000), np.ones(1000))
    optimizer = problem.solve(2, history_size=10, line_search_fn="strong_wolfe")
    assert len(optimizer.pairs) == 10
    assert len(pickle.dumps(optimizer)) < 1.5 * 8 * 1000 * (2 * 10 + 3)  # and x, last x, last g


def test_a_state_after_a_search_that_found_nothing_is_loaded_too():
    problem = Problem(bowl(), np.ones(10))
    optimizer = problem.solve(max_iter=3, line_search_fn="strong_wolfe")
    optimizer.pairs, optimizer.last = [], None
    again = saved(optimizer, problem.params, "strong_wolfe")
    assert again.pairs == [] and again.last is None and again.steps == 1


def test_a_checkpoint_of_a_run_holds_the_history(tmp_path):
    """Run saves and resumes any optimiser; a learn function of one's own passes the closure."""

    def trained(epochs, path):
        tinycv.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = LBFGS(model.named_parameters(), lr=0.5, max_iter=2)
        x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
        loader = DataLoader(x, batch_size=8)
        run = Run(model, {"optimizer": optimizer}, loader, 0, None, path)

        def learn(batch):
            def closure():
                loss = ((model(batch[0]) - 1) ** 4).mean()
                loss.backward()
                return loss

            return optimizer.step(closure)._data

        run.through(learn, epochs, progress=False)
        return [p.numpy() for p in model.parameters()]

    straight = trained(6, None)
    trained(3, tmp_path / "run")
    assert same(trained(6, tmp_path / "run"), straight)


WRONG_STATES = {
    "another number of pairs": lambda entry: entry | {"s": entry["s"][1:]},
    "no pairs for one": lambda entry: {"step": 0},
    "NaN": lambda entry: entry | {"y": entry["y"] * np.nan},
    "y reversed": lambda entry: entry | {"y": -entry["y"]},
    "no last weights": lambda entry: {k: v for k, v in entry.items() if k[:4] != "last"},
    "half a last iteration": lambda entry: {k: v for k, v in entry.items() if k != "last_g"},
    "PyTorch's names": lambda entry: {"step": 1, "old_dirs": [], "old_stps": []},
    "another shape": lambda entry: entry | {"last_x": entry["last_x"][1:]},
    "one number": lambda entry: entry | {"s": np.float64(1)},
    "a word": lambda entry: entry | {"s": "s"},
}


@pytest.mark.parametrize("name", WRONG_STATES)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(name):
    problem = Problem(lambda a, b: bowl(3)(a) + bowl(2)(b), np.ones(3), np.ones(2))
    optimizer = problem.solve(max_iter=4, lr=0.1)
    state = optimizer.state_dict()
    state["state"]["0"] = WRONG_STATES[name](state["state"]["0"])
    if name == "y reversed":
        state["state"]["1"] = WRONG_STATES[name](state["state"]["1"])
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="load_state_dict: LBFGS was left unchanged; "):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert before["param_groups"] == after["param_groups"]
    for key, entry in before["state"].items():
        assert same(list(entry.values())[1:], list(after["state"][key].values())[1:])


# ── The vector of all weights ──


def test_the_vector_holds_the_parameters_in_their_order():
    problem = Problem(lambda a, b: a.sum() * b.sum(), [[1.0, 2.0]], [3.0, 4.0, 5.0])
    objective = Objective(LBFGS(problem.params), problem.closure)
    assert objective.x.tolist() == [1, 2, 3, 4, 5]
    loss, g = objective.evaluate()
    assert loss.item() == 36 and g.tolist() == [12, 12, 3, 3, 3]
    moved = objective.move(np.array([1.0, 0, 0, 0, -2]), 0.5)
    assert moved == 1 and [v.tolist() for v in problem.values()] == [[[1.5, 2]], [3, 4, 4]]
