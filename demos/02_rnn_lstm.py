"""02 · Why does a recurrence forget, and how do gates remember?
python demos/02_rnn_lstm.py      5 min on two cores

A hundred numbers go by, two of them marked; at the end the network is asked for the sum of the two.
Always answering 1 has a mean squared error of 1/6. A plain recurrent network stays there, because
the gradient of its error vanishes on the way back. An LSTM learns to keep the marked numbers; the
picture shows the one of its 64 units that does so most clearly. --full trains from three seeds, and
reads MNIST row by row. From one seed: a GRU, 200 steps, and copying after 30, 50 and 100 steps.
Read first: tinycv/sequence/rnn.py, lstm.py, recurrent.py.
Hochreiter & Schmidhuber 1997, "Long Short-Term Memory".
"""

import numpy as np

import tinycv
from tinycv import nn
from tinycv.data import DrawnLoader, adding
from tinycv.data.memory import ADDING_WITHOUT_MEMORY
from tinycv.engine.backend import Stopwatch
from tinycv.nn.functional import mse_loss
from tinycv.optim import Adam, clip_grad_norm_
from tinycv.sequence import LSTM, RNN, lstm_gates, state_gradients
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import read_loss, say, steps

show = Demo("02_rnn_lstm", __doc__)
LENGTH = show.choose(quick=12, default=100)
BATCHES = show.choose(quick=5, default=200)  # per epoch
EPOCHS = show.choose(quick=3, default=30)
RATE = 2e-3


def here(array):
    return tinycv.Tensor(array, device=show.device)


# %% Data: at each step a value and a mark (1 at two steps, else 0); never the same twice
loader = DrawnLoader(lambda n, rng: adding(n, LENGTH, rng), 32, BATCHES, show.seed)
test_x, test_y = adding(1000, LENGTH, np.random.default_rng(10**6))  # (N, T, 2), (N,)
probe_x, probe_y = adding(100, LENGTH, np.random.default_rng(10**7))


# %% Model: a network that reads, and answers at every step
class Reader(nn.Module):
    def __init__(self, kind, inputs, hidden, outputs):
        self.rnn = kind(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x):
        states, _ = self.rnn(x)  # (B, T, hidden)
        return self.head(states)  # (B, T, outputs)


# %% Measures: the error on unseen sequences, and how strongly the error at the end feels each state
def errors_of(model):
    model.eval()
    with tinycv.no_grad():
        answers = model(here(test_x))[:, -1, 0].numpy()
    model.train()
    return np.abs(answers - test_y)


def gradient_norms(model):
    """|dL/d(state after step t)|, the mean over the probe's sequences: (T,)."""

    def loss(last_state):
        return mse_loss(model.head(last_state)[:, 0], here(probe_y))

    return state_gradients(model.rnn, here(probe_x), loss).numpy().mean(axis=1)


# %% Training: the whole loop. The rate falls to 0 in the last fifth; gradients are no longer than 1
def factor(step, total):
    """Of the learning rate."""
    return min(1.0, 5 * (1 - step / total))


def train(model):
    """Learn to add. Returns the mean squared error on unseen sequences after each epoch."""
    optimizer = Adam(model.parameters(), lr=RATE)
    total = EPOCHS * BATCHES
    curve = []
    for step, (x, y) in steps(loader, EPOCHS, seed=show.seed, device=show.device):
        optimizer.param_groups[0]["lr"] = RATE * factor(step, total)
        optimizer.zero_grad()
        loss = mse_loss(model(x)[:, -1, 0], y)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % BATCHES == 0:
            curve.append((errors_of(model) ** 2).mean())
            said = f"loss {read_loss(loss, step):.4g}  error {curve[-1]:.4g}"
            say(f"epoch {len(curve)}/{EPOCHS}  {said}")
    return curve


# %% An LSTM, and a plain RNN: the same task, the same steps
targets = {
    "LSTM": {"error": "<= 1e-3", "seconds": "<= 120", "gradient": ">= 0.1"},
    "RNN": {"error": ">= 0.15", "seconds": "", "gradient": "<= 1e-6"},
}
published = "Bai et al. 2018, 600 steps: LSTM 0.164, RNN 0.177, GRU 5.3e-5"
readers = {}
curves = {}
gradients = {}  # of both, trained and untrained: the norm at each step
for kind in (LSTM, RNN):
    name = kind.__name__
    tinycv.manual_seed(show.seed)
    model = Reader(kind, inputs=2, hidden=64, outputs=1).to(show.device)
    untrained = gradient_norms(model)
    with Stopwatch(show.device) as watch:
        curve = train(model)
    trained = gradient_norms(model)
    errors = errors_of(model)

    task = f"adding, {LENGTH} steps, {name}"
    target = targets[name]
    show.measured(f"{task}: mean squared error", [(errors**2).mean()], published, target["error"])
    show.measured(f"{task}: share within 0.04", [(errors < 0.04).mean()])
    show.measured(f"{task}: seconds", [watch.seconds], target=target["seconds"])
    ratio = f"gradient at first state / at last, {name}"
    show.measured(f"{ratio}, untrained", [untrained[0] / untrained[-1]])
    show.measured(f"{ratio}, trained", [trained[0] / trained[-1]], target=target["gradient"])
    readers[name] = model
    curves[name] = curve
    gradients[f"{name}, trained"] = trained
    gradients[f"{name}, untrained"] = untrained

# %% What one unit of the LSTM does along one sequence
gates = lstm_gates(readers["LSTM"].rnn, here(probe_x))
gates = {name.replace("_", " "): values.numpy() for name, values in gates.items()}  # (B, T, H)

# the unit that writes most at the marks, beside what it writes elsewhere
marked = probe_x[..., 1] == 1  # (B, T)
written = gates["input gate"] * np.abs(gates["candidate"])
unit = (written[marked].mean(axis=0) / written[~marked].mean(axis=0)).argmax()

# the sequence whose marks lie nearest to 0.3 and 0.7 of its length
marks = np.nonzero(marked)[1].reshape(-1, 2)  # (B, 2)
distance = np.abs(marks - np.array([0.3, 0.7]) * LENGTH).sum(axis=1)
chosen = distance.argmin()

# %% Draw: who learns, where the error is felt, and what the unit does
figure = draw.figure(
    f"An LSTM finds the two numbers among {LENGTH}; to a plain RNN the early ones are lost", 12, 8
)
axes = figure.subplot_mosaic([["learning", "gradients"], ["unit", "unit"]])
places = range(1, LENGTH + 1)

learning = axes["learning"]
learning.axhline(ADDING_WITHOUT_MEMORY, color=draw.INK, linestyle=":", label="1/6: always says 1")
trained_for = BATCHES * np.arange(1, EPOCHS + 1)
lines = {name: (trained_for, curve) for name, curve in curves.items()}
draw.curves(learning, lines, "steps of training", "mean squared error of the sum", log=True)

backward = axes["gradients"]
order = ["LSTM, trained", "RNN, trained", "LSTM, untrained", "RNN, untrained"]
lines = {name: (places, gradients[name]) for name in order}
draw.curves(backward, lines, "step t of the sequence", "|dL/d(state after step t)|", log=True)
backward.set_ylim(1e-12, 1)

below = axes["unit"]
shown = ["input gate", "forget gate", "output gate", "cell"]
lines = {name: (places, gates[name][chosen, :, unit]) for name in shown}
draw.curves(below, lines, "step t of the sequence", "gate (0 shut, 1 open); cell")
low, high = below.get_ylim()
below.vlines(marks[chosen] + 1, low, high, color=draw.LINES[4], linewidth=6, alpha=0.25)
below.set_title(
    "the clearest of 64 units: its input gate opens at the two marks (bars), its forget gate stays "
    "open"
)
show.finish(figure)
