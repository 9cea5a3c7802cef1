"""02 · Why do RNNs forget (vanishing gradients), and how do the gates of an LSTM remember?
python demos/02_rnn_lstm.py      6 min on one core

The adding problem: the network reads a hundred numbers, two of them marked, and after the last one
it answers with the sum of the two. Always answering 1 has a mean squared error of 1/6. A plain
recurrent network (RNN) stays there, because the gradient of its error vanishes on the way back to
the marked numbers. An untrained LSTM forgets just as an RNN does: its forget gates are half open,
so each step halves the memory. Training opens them, and the gradient survives all hundred steps.
The picture shows both errors, both gradients before and after training, and the LSTM unit that
stores the marked numbers most clearly. --full trains from three seeds and reads MNIST row by row.
From one seed it also trains a GRU, adds over 200 steps, and copies after 30, 50 and 100 steps.
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
    """The array as a Tensor on the device of this run."""
    return tinycv.Tensor(array, device=show.device)


# %% Data: each step has a value and a mark (1 at two of the steps, else 0). Every batch is new
def draw_batch(count, rng):
    return adding(count, LENGTH, rng)


loader = DrawnLoader(draw_batch, 32, BATCHES, show.seed)
test_x, test_sums = adding(1000, LENGTH, np.random.default_rng(10**6))  # (N, T, 2), (N,)
probe_x, probe_sums = adding(100, LENGTH, np.random.default_rng(10**7))


# %% Model: a recurrent network reads, and a linear layer turns each of its states into an answer
class Reader(nn.Module):
    def __init__(self, kind, inputs, hidden, outputs):
        self.rnn = kind(inputs, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x):
        """x (B, T, inputs). Returns an answer after every step, (B, T, outputs)."""
        states, _ = self.rnn(x)  # (B, T, hidden)
        return self.head(states)


def final_sums(model, x):
    """What the model answers after the last step: (B,)."""
    return model(x)[:, -1, 0]


# %% Measures: the errors on unseen sequences, and the gradient that reaches each step
def errors_of(model):
    model.eval()
    with tinycv.no_grad():
        answers = final_sums(model, here(test_x)).numpy()
    model.train()
    return np.abs(answers - test_sums)


def gradient_norms(model):
    """|dL/d(state after step t)|, the mean over the probe's sequences: (T,)."""

    def loss(last_state):
        return mse_loss(model.head(last_state)[:, 0], here(probe_sums))

    return state_gradients(model.rnn, here(probe_x), loss).numpy().mean(axis=1)


# %% Training: the whole loop. Gradients longer than 1 are clipped
def factor(step, total):
    """The factor of the learning rate: 1, then falling to 0 over the last fifth of the steps."""
    return min(1.0, 5 * (1 - step / total))


def train(model):
    """Learn to add. Returns the mean squared error on unseen sequences after each epoch."""
    optimizer = Adam(model.parameters(), lr=RATE)
    total = EPOCHS * BATCHES
    curve = []
    for step, (x, sums) in steps(loader, EPOCHS, seed=show.seed, device=show.device):
        optimizer.param_groups[0]["lr"] = RATE * factor(step, total)
        optimizer.zero_grad()
        loss = mse_loss(final_sums(model, x), sums)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % BATCHES == 0:
            curve.append((errors_of(model) ** 2).mean())
            progress = f"loss {read_loss(loss, step):.4g}  error {curve[-1]:.4g}"
            say(f"epoch {len(curve)}/{EPOCHS}  {progress}")
    return curve


# %% An LSTM and a plain RNN learn the same task in as many steps
targets = {
    "LSTM": {"error": "<= 1e-3", "seconds": "<= 120", "gradient": ">= 0.1"},
    "RNN": {"error": ">= 0.15", "seconds": "", "gradient": "<= 1e-6"},
}
published = "Bai et al. 2018, 600 steps: LSTM 0.164, RNN 0.177, GRU 5.3e-5"
readers = {}  # the trained networks, by name
curves = {}  # their errors after each epoch
final_errors = {}  # their mean squared errors in the end
gradients = {}  # the gradient's norm at each step, of both networks, trained and untrained
for kind in (LSTM, RNN):
    name = kind.__name__
    tinycv.manual_seed(show.seed)
    model = Reader(kind, inputs=2, hidden=64, outputs=1).to(show.device)
    gradients[f"{name}, untrained"] = gradient_norms(model)
    with Stopwatch(show.device) as watch:
        curves[name] = train(model)
    gradients[f"{name}, trained"] = gradient_norms(model)
    errors = errors_of(model)
    final_errors[name] = (errors**2).mean()
    readers[name] = model

    task = f"adding, {LENGTH} steps, {name}"
    target = targets[name]
    metric = f"{task}: mean squared error"
    show.measured(metric, final_errors[name], published, target["error"])
    show.measured(f"{task}: share within 0.04", (errors < 0.04).mean())
    show.measured(f"{task}: seconds", watch.seconds, target=target["seconds"])


def first_over_last(state):
    """How much of the gradient at the last step reaches the first: 1 is all of it."""
    return gradients[state][0] / gradients[state][-1]


for name in ("LSTM", "RNN"):
    metric = f"gradient at first state / at last, {name}"
    untrained = first_over_last(f"{name}, untrained")
    trained = first_over_last(f"{name}, trained")
    show.measured(f"{metric}, untrained", untrained)
    show.measured(f"{metric}, trained", trained, target=targets[name]["gradient"])

# %% What one unit of the LSTM does along one sequence
gates = {}  # by name: (B, T, H)
for name, values in lstm_gates(readers["LSTM"].rnn, here(probe_x)).items():
    gates[name.replace("_", " ")] = values.numpy()

# The clearest unit writes much at the marks and little elsewhere.
is_marked = probe_x[..., 1] == 1  # (B, T)
writing = gates["input gate"] * np.abs(gates["candidate"])
at_marks = writing[is_marked].mean(axis=0)  # (H,)
elsewhere = writing[~is_marked].mean(axis=0)
unit = (at_marks / elsewhere).argmax()

# The sequence whose marks lie nearest to 0.3 and 0.7 of its length.
_, steps_marked = np.nonzero(is_marked)
marks = steps_marked.reshape(-1, 2)  # (B, 2)
distance = np.abs(marks - np.array([0.3, 0.7]) * LENGTH).sum(axis=1)
chosen = distance.argmin()

# %% Draw: who learns, which steps the gradient reaches, and what the unit does
lstm_error = final_errors["LSTM"]
rnn_error = final_errors["RNN"]
figure = draw.figure(
    f"Adding two of {LENGTH} numbers: error {lstm_error:.2g} with an LSTM, {rnn_error:.2g} with a "
    "plain RNN",
    10,
    8.5,
)
axes = figure.subplot_mosaic([["learning", "gradients"], ["unit", "unit"]])
sequence_steps = range(1, LENGTH + 1)

learning = axes["learning"]
learning.set_title("error on unseen sequences", fontsize=12)
always_1 = {"color": draw.INK, "linestyle": "--", "linewidth": 1.2, "zorder": 3}
learning.axhline(ADDING_WITHOUT_MEMORY, label="1/6: always 1", **always_1)
training_steps = BATCHES * np.arange(1, EPOCHS + 1)
lines = {}
for name in ("LSTM", "RNN"):
    lines[name] = (training_steps, curves[name])
draw.curves(learning, lines, "training steps", "mean squared error of the sum", log=True)

backward = axes["gradients"]
backward.set_title("gradient that reaches each step", fontsize=12)
backward.set_ylim(1e-12, 1)
lines = {}
for state in ("LSTM, trained", "RNN, trained", "LSTM, untrained", "RNN, untrained"):
    lines[state] = (sequence_steps, gradients[state])
draw.curves(backward, lines, "step t of the sequence", "|dL/d(state after step t)|", log=True)
trained = [first_over_last(f"{name}, trained") for name in ("LSTM", "RNN")]
draw.note(
    backward,
    f"first step / last, trained:\nLSTM {trained[0]:.2g}, RNN {trained[1]:.2g}",
)

below = axes["unit"]
marked_steps = is_marked[chosen]
input_gate = gates["input gate"][chosen, :, unit]
forget_gate = gates["forget gate"][chosen, :, unit]
below.set_title(
    f"the clearest unit of the LSTM's 64: its input gate is {input_gate[marked_steps].mean():.2f} "
    f"at the two marks (grey)\nand {input_gate[~marked_steps].mean():.2f} elsewhere; its forget "
    f"gate is {forget_gate.mean():.2f} on average",
    fontsize=12,
)
below.vlines(marks[chosen] + 1, 0, 1, color=draw.PALE, linewidth=12, zorder=0)
lines = {}
for name in ("input gate", "forget gate", "output gate", "cell"):
    lines[name] = (sequence_steps, gates[name][chosen, :, unit])
draw.curves(below, lines, "step t of the sequence", "gate (0 shut, 1 open); cell's value")
show.finish(figure)
