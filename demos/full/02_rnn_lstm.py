"""02, the whole protocol: an LSTM, an RNN and a GRU add, copy, and read digits row by row.

Adding over 100 steps, LSTM and RNN: three seeds. With one seed: a GRU, 200 steps, and copying after
30, 50 and 100 steps. MNIST row by row: three seeds. A seed's training is that of the demo, made by
``fit``.          python demos/02_rnn_lstm.py --full
"""

from functools import partial

import numpy as np

import tinycv
from tinycv import nn
from tinycv.data import DataLoader, DrawnLoader, adding, copying, mnist_5k
from tinycv.data.memory import copying_without_memory
from tinycv.nn.functional import cross_entropy, mse_loss
from tinycv.optim import Adam
from tinycv.sequence import GRU, LSTM, RNN, chrono_start, state_gradients
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.loop import fit

show = Demo("02_rnn_lstm", __doc__, full=True)
SEEDS = range(show.choose(quick=2, full=3))
BATCHES = show.choose(quick=2, full=200)  # per epoch
EPOCHS = show.choose(quick=1, full=30)
PUBLISHED = "Bai et al. 2018, 600 steps: LSTM 0.164, RNN 0.177, GRU 5.3e-5"
here = partial(tinycv.Tensor, device=show.device)


# %% The network of the demo, and one way of learning for all tasks
class Reader(nn.Module):
    def __init__(self, kind, inputs, hidden, outputs):
        self.rnn = kind(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.head(states)  # (B, T, outputs)


def new(kind, inputs, hidden, outputs, seed):
    """A Reader whose first weights are a function of the seed."""
    tinycv.manual_seed(seed)
    return Reader(kind, inputs, hidden, outputs).to(show.device)


def train(model, loss, loader, epochs, seed, lr=2e-3, evaluate=None):
    """Adam, its rate falling to 0 in the last fifth; gradients no longer than 1."""
    total = epochs * len(loader)
    return fit(
        model,
        Adam(model.parameters(), lr=lr),
        loss,
        loader,
        epochs,
        clip=1.0,
        seed=seed,
        schedule=lambda step: min(1.0, 5 * (1 - step / total)),
        evaluate=evaluate,
    )


# %% Adding two marked numbers
def sum_loss(model, x, y):
    return mse_loss(model(x)[:, -1, 0], y)


def train_to_add(model, length, epochs, seed):
    """Returns the history; its metrics are those of 1,000 unseen sequences."""
    x, y = adding(1000, length, np.random.default_rng(10**6))

    def evaluate(model):
        errors = np.abs(model(here(x))[:, -1, 0].numpy() - y)
        return {"error": (errors**2).mean(), "share": (errors < 0.04).mean()}

    loader = DrawnLoader(lambda n, rng: adding(n, length, rng), 32, BATCHES, seed)
    return train(model, sum_loss, loader, epochs, seed, evaluate=evaluate)


def gradient_ratio(model, length):
    """|dL/d(first state)| / |dL/d(last state)|, of the means over 100 sequences."""
    x, y = adding(100, length, np.random.default_rng(10**7))

    def loss(last_state):
        return mse_loss(model.head(last_state)[:, 0], here(y))

    norms = state_gradients(model.rnn, here(x), loss).numpy().mean(axis=1)
    return norms[0] / norms[-1]


def measure_adding(kind, length, epochs, seeds, target="", gradient_target=None):
    """Train a network for each seed and note its figures. Returns the histories.

    gradient_target: note the ratio of gradients too, with this target; None: do not.
    """
    histories = []
    untrained = []
    trained = []
    for seed in seeds:
        model = new(kind, 2, 64, 1, seed)
        untrained.append(gradient_ratio(model, LENGTH))
        histories.append(train_to_add(model, length, epochs, seed))
        trained.append(gradient_ratio(model, LENGTH))
    name = kind.__name__
    task = f"adding, {length} steps, {name}"
    errors = [history.metrics[-1]["error"] for history in histories]
    shares = [history.metrics[-1]["share"] for history in histories]
    show.measured(f"{task}: mean squared error", errors, PUBLISHED, target)
    show.measured(f"{task}: share within 0.04", shares)
    if gradient_target is not None:
        ratio = f"gradient at first state / at last, {name}"
        show.measured(f"{ratio}, untrained", untrained)
        show.measured(f"{ratio}, trained", trained, target=gradient_target)
    return histories


LENGTH = show.choose(quick=12, full=100)
LONG = show.choose(quick=20, full=200)
lstm = measure_adding(LSTM, LENGTH, EPOCHS, SEEDS, "<= 1e-3", gradient_target=">= 0.1")
rnn = measure_adding(RNN, LENGTH, EPOCHS, SEEDS, ">= 0.15", gradient_target="<= 1e-6")
gru = measure_adding(GRU, LENGTH, EPOCHS, SEEDS[:1])
measure_adding(LSTM, LONG, show.choose(quick=1, full=55), SEEDS[:1], "<= 2e-3")


# %% Copying: ten symbols again after a while
def symbol_loss(model, x, y):
    return cross_entropy(model(x).reshape((-1, 10)), y.reshape((-1,)))


def measure_copying(wait, chrono, target=""):
    """chrono: the longest time that the gates begin with; 0: the plain start."""

    def drawn(n, rng):
        symbols, answers = copying(n, wait, rng)
        return np.eye(10, dtype=np.float32)[symbols], answers

    model = new(LSTM, 10, 128, 10, show.seed)
    if chrono:
        chrono_start(model.rnn, chrono)
    loader = DrawnLoader(drawn, 32, BATCHES, show.seed)
    train(model, symbol_loss, loader, show.choose(quick=1, full=40), show.seed, lr=5e-3)
    x, y = drawn(500, np.random.default_rng(10**6))
    start = "chrono" if chrono else "plain"
    show.measured(
        f"copying after {wait} steps, LSTM, {start} start: nats / no memory's",
        symbol_loss(model, here(x), here(y)).item() / copying_without_memory(wait),
        "Bai et al. 2018, 1,000 steps: LSTM at that of no memory",
        target,
    )


measure_copying(wait=30, chrono=40, target="<= 0.1")
measure_copying(wait=50, chrono=60, target="<= 0.1")
measure_copying(wait=100, chrono=110)
measure_copying(wait=50, chrono=0)


# %% MNIST row by row: 28 steps of 28 pixels
def label_loss(model, x, y):
    return cross_entropy(model(x)[:, -1], y)


scores = []
for seed in SEEDS:
    images, labels, test, answers = mnist_5k(seed=seed)  # images (N, 1, 28, 28)
    few = show.choose(quick=128, full=len(images))
    loader = DataLoader(images[:few, 0], labels[:few], batch_size=64, seed=seed)
    model = new(LSTM, 28, 128, 10, seed)
    train(model, label_loss, loader, EPOCHS, seed)
    guesses = model(here(test[:, 0]))[:, -1].numpy().argmax(axis=1)
    scores.append((guesses == answers).mean())
metric = "MNIST's 5,000 row by row, LSTM: accuracy on 1,000 unseen"
show.measured(metric, scores, target=">= 0.95")

# %% Draw: the error of every seed
figure = draw.figure(f"Adding over {LENGTH} steps, seed by seed", 9, 5)
lines = {}
for name, histories in {"LSTM": lstm, "RNN": rnn, "GRU": gru}.items():
    for seed, history in enumerate(histories):
        trained_for = [BATCHES * row["epoch"] for row in history.metrics]
        errors = [row["error"] for row in history.metrics]
        lines[f"{name}, seed {seed}"] = (trained_for, errors)
draw.curves(figure.subplots(), lines, "steps of training", "mean squared error", log=True)
show.finish(figure)
