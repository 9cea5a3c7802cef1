"""Every public function and class of the training files answers a wrong call in words: found by
introspection.
"""

import inspect

import numpy as np
import pytest
from wrong_calls import riddles

import tinycv
from tinycv import nn, optim
from tinycv.data import DataLoader, atomic
from tinycv.engine.tensor import Parameter, Tensor
from tinycv.optim import SGD, Adam, AdamW, optimizer
from tinycv.optim import averaged as ema
from tinycv.optim.averaged import EMA
from tinycv.training import checkpoint, half, pretrained, torch_file
from tinycv.training import loop as run
from tinycv.training import loop as train
from tinycv.training.half import Half
from tinycv.training.loop import Run

MODULES = [atomic, checkpoint, ema, half, optim, optimizer, pretrained, run, torch_file, train]
X, Y = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)


def parameter():
    p = Parameter(np.ones((2, 3), np.float32))
    p.grad = Tensor(np.ones((2, 3), np.float32))
    return p


def model():
    return nn.Linear(3, 2)


def loss_of(model, x, y):
    return ((model(x) - y) ** 2).mean()


def stopping(function):
    """The function, made to stop after twenty calls: fit for 10 ** 30 epochs is a valid call."""
    calls = iter(range(20))

    def limited(*args):
        if next(calls, None) is None:
            raise RuntimeError("fit and Run.through were stopped")
        return function(*args)

    return limited if callable(function) else function


def one(model):
    return {"one": 1}


def fit(**change):
    network = model()
    good = {
        "model": network,
        "optimizer": SGD(network.parameters()),
        "loss_fn": loss_of,
        "schedule": None,
        "loader": DataLoader(X, Y, batch_size=2),
        "epochs": 1,
        "clip": 1.0,
        "ema": EMA(network),
        "evaluate": None,
        "evaluate_every": 1,
        "checkpoint": None,
        "checkpoint_every": 1,
        "seed": 0,
        "device": "cpu",
        "progress": False,
        "log_every": 1,
        "parallel": None,
    }
    arguments = {**good, **change}
    return train.fit(**{**arguments, "loss_fn": stopping(arguments["loss_fn"])})


def new_run(**change):
    network = model()
    good = {
        "model": network,
        "optimizers": {"optimizer": SGD(network.parameters())},
        "loader": DataLoader(X, Y, batch_size=2),
        "seed": 0,
        "ema": EMA(network),
        "path": None,
        "group": None,
    }
    return Run(**{**good, **change})


def learn(batch):
    return np.float32(1)


def through(**change):
    good = {
        "epochs": 1,
        "learn": learn,
        "evaluate": None,
        "evaluate_every": 1,
        "checkpoint_every": 1,
        "progress": False,
        "log_every": 1,
    }
    arguments = {**good, **change}
    return new_run().through(**{**arguments, "learn": stopping(arguments["learn"])})


def added(param_group):
    return SGD([parameter()]).add_param_group(param_group)


def loaded(kind):
    def load(state):
        network = model()
        made = (
            EMA(network)
            if kind is EMA
            else Half(network, SGD)
            if kind is Half
            else SGD(network.parameters())
        )
        return made.load_state_dict(state)

    return load


def group_changed(name):
    """A function that sets an option of the group and takes a step."""

    def step(value):
        optimiser = (SGD if name in ("momentum", "dampening", "nesterov") else AdamW)([parameter()])
        optimiser.param_groups[0][name] = value
        optimiser.step()

    return step


def with_gradient(grad):
    p = parameter()
    p.grad = grad
    SGD([p]).step()


def clipped(grad):
    p = parameter()
    p.grad = grad
    optim.clip_grad_norm_([p], 1.0)


def calls(tmp_path):
    """{name: (function, good arguments, names that an error may use for the function)}."""
    file = tmp_path / "a"
    checkpoint.save(file, {"weight": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)})
    arrays = {"weight": np.ones((2, 3), np.float32)}
    names = ("save: ", "load: ", "CheckpointError", str(tmp_path), "cannot be read", "'")
    decaying = {"total": 10, "warmup": 2, "final": 0.0}
    options = {"params": [parameter()], "lr": 0.1}
    return {
        "save": (
            checkpoint.save,
            {"path": file, "tensors": arrays, "state": {"a": 1}},
            ("save: ",),
        ),
        "load": (checkpoint.load, {"path": file}, names),
        "save_model": (
            checkpoint.save_model,
            {"path": file, "model": model()},
            ("save: ", "save_model: "),
        ),
        "load_model": (
            checkpoint.load_model,
            {"path": file, "model": model()},
            (*names, "load_model: "),
        ),
        "find": (
            pretrained.find,
            {"name": "06_vit"},
            ("pretrained.find: name", "no weights called"),
        ),
        "read": (
            pretrained.read,
            {"name_or_path": "06_vit"},
            ("pretrained.read: name_or_path", "no weights called", "pretrained.find: name"),
        ),
        "round_to_half": (pretrained.round_to_half, {"model": model()}, ("round_to_half: model",)),
        "arrays_of": (pretrained.arrays_of, {"models": {"a": model()}}, ("arrays_of: models",)),
        "read_torch": (torch_file.read_torch, {"path": file}, ("read_torch: ", "damaged")),
        "EMA": (EMA, {"model": model(), "decay": 0.9}, ("EMA",)),
        "Half": (Half, {"model": model(), "make": SGD, "scale": 2.0, "interval": 2}, ("Half",)),
        "SGD": (
            SGD,
            {**options, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.1, "nesterov": True},
            ("SGD",),
        ),
        "Adam": (
            Adam,
            {**options, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1},
            ("Adam",),
        ),
        "AdamW": (
            AdamW,
            {**options, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1},
            ("AdamW",),
        ),
        "LBFGS": (
            optim.LBFGS,
            {
                **options,
                "max_iter": 2,
                "max_eval": 3,
                "tolerance_grad": 1e-7,
                "tolerance_change": 1e-9,
                "history_size": 3,
                "line_search_fn": None,
            },
            ("LBFGS",),
        ),
        "Optimizer": (
            optimizer.Optimizer,
            {"params": [parameter()], "defaults": {"lr": 0.1}},
            ("Optimizer",),
        ),
        "constant": (optim.constant, {"warmup": 3}, ("constant",)),
        "warmup_cosine": (optim.warmup_cosine, decaying, ("warmup_cosine",)),
        "warmup_linear": (optim.warmup_linear, decaying, ("warmup_linear",)),
        "warmup_inverse_sqrt": (optim.warmup_inverse_sqrt, {"warmup": 3}, ("warmup_inverse_sqrt",)),
        "clip_grad_norm_": (
            optim.clip_grad_norm_,
            {"parameters": [parameter()], "max_norm": 1.0, "norm_type": 2.0},
            ("clip_grad_norm_",),
        ),
        "clip_grad_value_": (
            optim.clip_grad_value_,
            {"parameters": [parameter()], "clip_value": 1.0},
            ("clip_grad_value_",),
        ),
        "fit": (
            fit,
            {
                "model": model(),
                "optimizer": None,
                "loss_fn": loss_of,
                "schedule": optim.constant(),
                "loader": DataLoader(X, Y, batch_size=2),
                "epochs": 1,
                "clip": 1.0,
                "ema": None,
                "evaluate": one,
                "evaluate_every": 1,
                "checkpoint": file,
                "checkpoint_every": 1,
                "seed": 0,
                "device": "cpu",
                "log_every": 1,
                "on_step": print,
                "threads": 1,
            },
            ("fit", "schedule(", "evaluate must"),
        ),
        "Run": (
            new_run,
            {
                "model": model(),
                "optimizers": {},
                "loader": None,
                "seed": 0,
                "ema": None,
                "path": file,
            },
            ("Run",),
        ),
        "Run.through": (
            through,
            {
                "epochs": 1,
                "learn": learn,
                "evaluate": one,
                "evaluate_every": 1,
                "checkpoint_every": 1,
                "log_every": 1,
            },
            ("Run.through", "evaluate must"),
        ),
        "History": (run.History, {"losses": []}, ("History",)),
        "add_param_group": (added, {"param_group": {"params": [parameter()]}}, ("SGD",)),
        "step": (SGD([parameter()]).step, {"closure": lambda: Tensor(1.0)}, ("SGD.step: closure",)),
        "step of LBFGS": (
            optim.LBFGS([parameter()]).step,
            {"closure": lambda: Tensor(1.0)},
            ("LBFGS.step: closure",),
        ),
        "step of a Half": (
            Half(model(), SGD).step,
            {"closure": lambda: Tensor(1.0)},
            ("Half.step: closure",),
        ),
        "file_path": (atomic.file_path, {"path": file, "what": "file_path"}, ("file_path",)),
    }


# Parts of other functions, which are called with checked arguments; and sgd, adam and adamw, which
# are definitions to be read.
INNER = {
    "sgd",
    "adam",
    "adamw",
    "adam_kernel",
    "CheckpointError",
    "Weights",
    "CtrlC",
    "Progress",
    "Machine",
    "Refused",
    "Schedule",
    "partial",
    "set_learning_rates",
    "cast",
    "write",
    "Slab",
    "step_counter",
    "loss_of",
    "Storages",
    "LimitedFile",
    "tensors_of",
    "from_bfloat16",
    "positive",
    "with_nan",
    "obstacle",
    "refuse_unspeakable",
}


def public(module):
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and getattr(value, "__module__", "") == module.__name__
    }


def test_every_public_name_is_tested_with_wrong_calls(tmp_path):
    known = calls(tmp_path).keys() | INNER
    missing = {
        f"{module.__name__}.{name}"
        for module in MODULES
        for name in public(module)
        if name not in known
    }
    assert not missing
    assert all(hasattr(module, "__doc__") and inspect.getdoc(module) for module in MODULES)


NAMES = [
    "save",
    "load",
    "save_model",
    "load_model",
    "read_torch",
    "EMA",
    "Half",
    "SGD",
    "Adam",
    "AdamW",
    "LBFGS",
    "Optimizer",
    "constant",
    "warmup_cosine",
    "warmup_linear",
    "warmup_inverse_sqrt",
    "clip_grad_norm_",
    "clip_grad_value_",
    "fit",
    "Run",
    "Run.through",
    "add_param_group",
    "step",
    "step of LBFGS",
    "step of a Half",
    "file_path",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_call_gets_a_sentence(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    function, good, names = calls(tmp_path)[name]
    assert not riddles(function, good, *names)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [SGD, EMA, Half])
def test_a_wrong_state_gets_a_clear_error(kind):
    assert not riddles(
        loaded(kind), {"state": {"state": {}, "param_groups": []}}, "load_state_dict: "
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["lr", "momentum", "dampening", "nesterov", "weight_decay", "betas", "eps"]
)
def test_a_wrong_option_set_between_steps_gets_a_clear_error(name):
    assert not riddles(
        group_changed(name), {"value": (0.9, 0.99) if name == "betas" else 0.1}, f": {name}"
    )


@pytest.mark.filterwarnings("ignore")
def test_a_wrong_gradient_gets_a_clear_error():
    good = {"grad": Tensor(np.ones((2, 3), np.float32))}
    assert not riddles(with_gradient, good, "SGD.step: parameter 0")
    assert not riddles(clipped, good, "clip_grad_norm_")


@pytest.mark.parametrize("value", ["0.1", -0.1, float("nan"), float("inf"), None, [0.1], True])
def test_a_learning_rate_schedule_that_returns_a_wrong_value_is_named(value):
    with pytest.raises((TypeError, ValueError), match=r"schedule\(0\) is"):
        fit(schedule=lambda step: value)


def test_an_optimiser_or_ema_of_another_model_is_refused():
    with pytest.raises(ValueError, match="fit: optimizer has none of the model's parameters"):
        fit(optimizer=SGD(model().parameters()))
    with pytest.raises(ValueError, match="fit: ema is of another Linear"):
        fit(ema=EMA(model()))


def test_a_numpy_integer_is_accepted_as_a_size_everywhere():
    fit(
        epochs=np.int64(1),
        evaluate_every=np.int32(1),
        log_every=np.uint8(1),
        seed=np.int64(3),
    )
    assert optim.warmup_cosine(np.int64(10), np.int16(2))(0) == pytest.approx(1 / 3)
    tinycv.manual_seed(0)


class Batches:
    """A loader with one batch, which may be anything."""

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return 1

    def epoch(self, number, start=0):
        return iter([self.batch][start:])


@pytest.mark.parametrize("batch", [None, [], (), np.ones((4, 3)), 3, "xy", {"x": X}], ids=str)
def test_a_batch_that_is_not_a_tuple_of_arrays_gets_a_clear_error(batch):
    with pytest.raises(
        TypeError, match="(?s)loader: epoch.* gave .* for a batch; it must give tuples of arrays"
    ):
        fit(loader=Batches(batch))
    fit(loader=Batches([X, Y]))


@pytest.mark.parametrize("value", ["False", 0, 1, None, np.array([True, False])], ids=str)
def test_set_to_none_is_a_flag(value):
    for optimiser in (SGD([parameter()]), Half(model(), SGD)):
        with pytest.raises(
            TypeError,
            match=f"{type(optimiser).__name__}.zero_grad: set_to_none is .* True or False",
        ):
            optimiser.zero_grad(set_to_none=value)


@pytest.mark.parametrize(
    "change",
    [{"losses": 1j}, {"losses": "a"}, {"metrics": None}, {"seconds": "a"}, {"seconds": -1}],
    ids=str,
)
def test_a_history_needs_lists(change):
    with pytest.raises((TypeError, ValueError), match=f"History: {[*change][0]} is"):
        run.History(**change)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("huge", [1e39, 1e300])
def test_a_number_beyond_float32_is_refused_as_an_option_and_no_limit_when_clipping(huge):
    for option in ("lr", "eps", "weight_decay"):
        with pytest.raises(ValueError, match=f"AdamW: {option} is .*, which float32 holds"):
            AdamW([parameter()], **{option: huge})
    for clip in (optim.clip_grad_norm_, optim.clip_grad_value_):
        p = parameter()
        clip(p, huge)
        assert (p.grad.numpy() == 1).all()
    assert optim.clip_grad_norm_(parameter(), 9.0, norm_type=huge) == 1
    for schedule in (
        optim.warmup_cosine(10, 2),
        optim.warmup_linear(10, 2),
        optim.warmup_inverse_sqrt(3),
    ):
        assert schedule(10**400) == pytest.approx(0) and schedule(huge) == pytest.approx(0)


def test_read_only_memory_is_refused():
    array = np.ones((2, 3), np.float32)
    array.flags.writeable = False
    with pytest.raises(ValueError, match="SGD: .* of shape .2, 3., is in read-only memory"):
        SGD([Parameter(array)])
    p = parameter()
    p.grad = Tensor(array)
    for clip in (optim.clip_grad_norm_, optim.clip_grad_value_):
        with pytest.raises(ValueError, match=f"{clip.__name__}: .* a gradient in read-only memory"):
            clip(p, 1.0)
