"""02, the whole protocol: an LSTM, an RNN and a GRU add, copy, and read digits row by row.

The demo from three seeds: the adding problem over 100 steps, LSTM and RNN. From one seed: a GRU,
200 steps, and the copying problem after 30, 50 and 100 steps. MNIST row by row: three seeds.
python demos/02_rnn_lstm.py --full
"""

import numpy as np

import tinycv
from tinycv.data import DataLoader, DrawnLoader, adding, copying, mnist_5k
from tinycv.data.memory import ADDING_WITHOUT_MEMORY, copying_without_memory
from tinycv.nn.functional import cross_entropy, mse_loss
from tinycv.optim import Adam
from tinycv.sequence import GRU, LSTM, chrono_start
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.loop import fit

show = Demo("02_rnn_lstm", __doc__, full=True)
SEEDS = range(show.choose(quick=1, full=3))

# %% The demo from each seed
runs = show.repeat_demo(SEEDS)
demo = runs[0]


# %% The demo's network and settings, for other tasks
def new(kind, inputs, hidden, outputs, seed):
    """A Reader whose initial weights depend on the seed only."""
    tinycv.manual_seed(seed)
    return demo.Reader(kind, inputs, hidden, outputs).to(show.device)


def train(model, loss, loader, epochs, seed, lr=demo.RATE, evaluate=None):
    """Adam. The learning rate falls to 0 over the last fifth; gradients are clipped to length 1."""
    total = epochs * len(loader)

    def schedule(step):
        return demo.factor(step, total)

    return fit(
        model,
        Adam(model.parameters(), lr=lr),
        loss,
        loader,
        epochs,
        clip=1.0,
        seed=seed,
        schedule=schedule,
        evaluate=evaluate,
    )


# %% Adding two marked numbers: a GRU, and twice as many steps
def sum_loss(model, x, sums):
    return mse_loss(demo.final_sums(model, x), sums)


def measure_adding(kind, length, epochs, target=""):
    """Train one network and record its errors on 1,000 unseen sequences. Returns the history."""
    x, sums = adding(1000, length, np.random.default_rng(10**6))

    def draw_batch(count, rng):
        return adding(count, length, rng)

    def evaluate(model):
        errors = np.abs(demo.final_sums(model, demo.here(x)).numpy() - sums)
        return {"error": (errors**2).mean(), "share": (errors < 0.04).mean()}

    seed = SEEDS[0]
    model = new(kind, 2, 64, 1, seed)
    loader = DrawnLoader(draw_batch, 32, demo.BATCHES, seed)
    history = train(model, sum_loss, loader, epochs, seed, evaluate=evaluate)
    task = f"adding, {length} steps, {kind.__name__}"
    end = history.metrics[-1]
    show.measured(f"{task}: mean squared error", end["error"], demo.published, target)
    show.measured(f"{task}: share within 0.04", end["share"])
    return history


gru = measure_adding(GRU, demo.LENGTH, demo.EPOCHS)
length = show.choose(quick=20, full=200)
measure_adding(LSTM, length, show.choose(quick=1, full=55), target="<= 2e-3")


# %% The copying problem: write ten symbols again after a wait
def symbol_loss(model, x, y):
    return cross_entropy(model(x).reshape((-1, 10)), y.reshape((-1,)))


def measure_copying(wait, chrono, target=""):
    """chrono: the longest memory, in steps, that the initial forget gates allow; 0: PyTorch's
    initialisation."""

    def draw_batch(count, rng):
        symbols, answers = copying(count, wait, rng)
        return np.eye(10, dtype=np.float32)[symbols], answers

    model = new(LSTM, 10, 128, 10, show.seed)
    if chrono:
        chrono_start(model.rnn, chrono)
    loader = DrawnLoader(draw_batch, 32, demo.BATCHES, show.seed)
    train(model, symbol_loss, loader, show.choose(quick=1, full=40), show.seed, lr=5e-3)
    x, y = draw_batch(500, np.random.default_rng(10**6))
    start = "chrono" if chrono else "plain"
    show.measured(
        f"copying after {wait} steps, LSTM, {start} start: nats / no memory's",
        symbol_loss(model, demo.here(x), demo.here(y)).item() / copying_without_memory(wait),
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
    train_size = show.choose(quick=128, full=len(images))
    loader = DataLoader(images[:train_size, 0], labels[:train_size], batch_size=64, seed=seed)
    model = new(LSTM, 28, 128, 10, seed)
    train(model, label_loss, loader, demo.EPOCHS, seed)
    guesses = model(demo.here(test[:, 0]))[:, -1].numpy().argmax(axis=1)
    scores.append((guesses == answers).mean())
metric = "MNIST row by row, LSTM: accuracy on 1,000 unseen digits, by seed"
show.measured(metric, scores, target=">= 0.95")

# %% Draw: the error of every seed
figure = draw.figure(f"The adding problem over {demo.LENGTH} steps: every seed", 9, 5)
ax = figure.subplots()
ax.set_yscale("log")
training_steps = demo.BATCHES * np.arange(1, demo.EPOCHS + 1)
for name, colour in (("LSTM", draw.BLUE), ("RNN", draw.RED)):
    for run in runs[1:]:
        ax.plot(training_steps, run.curves[name], color=colour, linewidth=1.6)
lines = {
    "LSTM": (training_steps, runs[0].curves["LSTM"]),
    "RNN": (training_steps, runs[0].curves["RNN"]),
    "GRU (one seed)": (training_steps, [row["error"] for row in gru.metrics]),
}
always_1 = {"color": draw.INK, "linestyle": "--", "linewidth": 1.2, "zorder": 3}
ax.axhline(ADDING_WITHOUT_MEMORY, label="1/6: always 1", **always_1)
draw.curves(ax, lines, "training steps", "mean squared error of the sum", log=True)
show.finish(figure)
