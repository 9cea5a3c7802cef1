"""02 · Why does a recurrence forget, and how do gates remember?        python demos/02_rnn_lstm.py        5 min on two cores

A hundred numbers go by, two of them marked; at the end the network is asked for the sum of the two.
To say 1, always, is wrong by 1/6 in the mean square. A plain recurrent network stays there: the
gradient of its error dies out on the way back. An LSTM learns to keep the marked numbers; of its 64
units the picture shows the one that does so most clearly. --full trains three seeds, and MNIST row
by row. With one seed only: a GRU, 200 steps, copying after 30, 50 and 100 steps.
Read first: tinycv/sequence/rnn.py, lstm.py, recurrent.py.
Hochreiter & Schmidhuber 1997, "Long Short-Term Memory".
"""

from functools import partial

import numpy as np

import tinycv
from tinycv import nn
from tinycv.data import DataLoader, DrawnLoader, adding, copying, mnist_5k
from tinycv.data.memory import ADDING_WITHOUT_MEMORY, copying_without_memory
from tinycv.nn.functional import cross_entropy, mse_loss
from tinycv.optim import Adam
from tinycv.sequence import GRU, LSTM, RNN, chrono_start, lstm_gates, state_gradients
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.loop import fit

show = Demo("02_rnn_lstm", __doc__)
SEEDS = range(3) if show.full else [show.seed]
STEPS, EACH, EPOCHS = show.choose(12, 100), show.choose(5, 200), show.choose(3, 30)
here = partial(tinycv.Tensor, device=show.device)

# %% the pieces: a network that reads and answers at every step, and one protocol of learning for
# all


class Reader(nn.Module):
    def __init__(self, kind, inputs, hidden, outputs):
        self.rnn, self.head = kind(inputs, hidden, batch_first=True), nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.head(self.rnn(x)[0])  # (B, T, outputs)


def learn(kind, sizes, loss, loader, epochs, seed, evaluate=None, lr=2e-3, chrono=0):
    """Adam, its rate falling to 0 in the last fifth; gradients no longer than 1."""
    tinycv.manual_seed(seed)
    model, steps = Reader(kind, *sizes).to(show.device), epochs * len(loader)
    if chrono:
        chrono_start(model.rnn, chrono)
    return model, fit(
        model,
        Adam(model.parameters(), lr=lr),
        loss,
        loader,
        epochs,
        clip=1.0,
        seed=seed,
        schedule=lambda step: min(1.0, 5 * (1 - step / steps)),
        evaluate=evaluate,
    )


def learn_to_add(kind, steps, epochs, seed):
    x, y = adding(1000, steps, np.random.default_rng(10**6))

    def judge(model):
        error = np.abs(model(here(x))[:, -1, 0].numpy() - y)
        return {"mean squared error": (error**2).mean(), "share within 0.04": (error < 0.04).mean()}

    return learn(
        kind,
        (2, 64, 1),
        lambda model, x, y: mse_loss(model(x)[:, -1, 0], y),
        DrawnLoader(lambda n, rng: adding(n, steps, rng), 32, EACH, seed),
        epochs,
        seed,
        judge,
    )


# %% adding, and how strongly the error at the end feels each state, before and after
(x, y), first, felt = (
    adding(100, STEPS, np.random.default_rng(10**7)),
    {},
    {"trained": {}, "untrained": {}},
)
tasks = [
    (LSTM, STEPS, EPOCHS, "<= 1e-3", "<= 120", ">= 0.1"),
    (RNN, STEPS, EPOCHS, ">= 0.15", "", "<= 1e-6"),
    (GRU, STEPS, EPOCHS, "", "", ""),
    (LSTM, 200, 55, "<= 2e-3", "", ""),
]
for kind, steps, epochs, error, limit, ratio in tasks if show.full else tasks[:2]:
    runs, name = (
        [learn_to_add(kind, steps, epochs, seed) for seed in (SEEDS if ratio else SEEDS[:1])],
        kind.__name__,
    )
    first.setdefault(name, runs[0])
    for metric, target in (
        ("mean squared error", error),
        ("share within 0.04", ""),
        ("seconds", limit),
    )[: 3 - show.full]:
        show.measured(
            f"adding, {steps} steps, {name}: {metric}",
            [history.metrics[-1].get(metric, history.seconds) for _, history in runs],
            "Bai et al. 2018, 600 steps: LSTM 0.164, RNN 0.177, GRU 5.3e-5"
            if "error" in metric
            else "",
            target,
        )
    if ratio:
        untrained = [learn_to_add(kind, steps, 0, seed) for seed in SEEDS]
        for when, readers, target in (("untrained", untrained, ""), ("trained", runs, ratio)):
            norms = [
                state_gradients(
                    reader.rnn, here(x), lambda h, r=reader: mse_loss(r.head(h)[:, 0], here(y))
                )
                .numpy()
                .mean(axis=1)
                for reader, _ in readers
            ]  # (T,) each
            felt[when][name] = norms[0]
            show.measured(
                f"gradient at first state / at last, {name}, {when}",
                [n[0] / n[-1] for n in norms],
                "",
                target,
            )

# %% --full: ten symbols again after a while, and MNIST's digits read row by row
if show.full:

    def surprise(model, x, y):
        return cross_entropy(model(x).reshape((-1, 10)), y.reshape((-1,)))

    for wait, chrono, target in (
        (30, 40, "<= 0.1"),
        (50, 60, "<= 0.1"),
        (100, 110, ""),
        (50, 0, ""),
    ):

        def drawn(n, rng, wait=wait):
            symbols, answers = copying(n, wait, rng)
            return np.eye(10, dtype=np.float32)[symbols], answers

        test = [here(part) for part in drawn(500, np.random.default_rng(10**6))]
        loader = DrawnLoader(drawn, 32, EACH, show.seed)
        reader, _ = learn(LSTM, (10, 128, 10), surprise, loader, 40, show.seed, None, 5e-3, chrono)
        show.measured(
            f"copying after {wait} steps, LSTM, {'chrono' if chrono else 'plain'} start: nats / no "
            "memory's",
            surprise(reader, *test).item() / copying_without_memory(wait),
            "Bai et al. 2018, 1,000 steps: LSTM at that of no memory",
            target,
        )
    right = []
    for seed in SEEDS:
        # (N, 1, 28, 28): 28 steps of 28 pixels
        images, labels, test, answers = mnist_5k(seed=seed)
        reader, _ = learn(
            LSTM,
            (28, 128, 10),
            lambda model, x, y: cross_entropy(model(x)[:, -1], y),
            DataLoader(images[:, 0], labels, batch_size=64, seed=seed),
            30,
            seed,
        )
        right.append((reader(here(test[:, 0]))[:, -1].numpy().argmax(axis=1) == answers).mean())
    show.measured("MNIST's 5,000 row by row, LSTM: accuracy on 1,000 unseen", right, "", ">= 0.95")

# %% draw: who learns, where the error is felt, and what one unit does along one sequence
figure = draw.figure(
    f"An LSTM finds the two numbers among {STEPS}; to a plain RNN the early ones are lost", 12, 8
)
axes, along = figure.subplot_mosaic([["who", "felt"], ["unit", "unit"]]), range(1, STEPS + 1)
axes["who"].axhline(
    ADDING_WITHOUT_MEMORY, color=draw.INK, linestyle=":", label="1/6: always says 1"
)
draw.curves(
    axes["who"],
    {
        name: ([EACH * m["epoch"] for m in h.metrics], [m["mean squared error"] for m in h.metrics])
        for name, (_, h) in first.items()
    },
    "steps of training",
    "mean squared error of the sum",
    log=True,
)
draw.curves(
    axes["felt"],
    {f"{name}, {when}": (along, felt[when][name]) for when in felt for name in felt[when]},
    "step t of the sequence",
    "|dL/d(state after step t)|",
    log=True,
)
axes["felt"].set_ylim(1e-12, 1)
does = {
    name.replace("_", " "): part.numpy()
    for name, part in lstm_gates(first["LSTM"][0].rnn, here(x)).items()
}
# (B, T), (B, T, H)
marked, wrote = x[..., 1] == 1, does["input gate"] * np.abs(does["candidate"])
unit = (wrote[marked].mean(axis=0) / wrote[~marked].mean(axis=0)).argmax()
# (B, 2): of 100 sequences, show a well-spaced one
at = np.nonzero(marked)[1].reshape(-1, 2)
one = np.abs(at - np.array([0.3, 0.7]) * STEPS).sum(axis=1).argmin()
draw.curves(
    axes["unit"],
    {
        name: (along, does[name][one, :, unit])
        for name in ("input gate", "forget gate", "output gate", "cell")
    },
    "step t of the sequence",
    "gate (0 shut, 1 open); cell",
)
axes["unit"].vlines(
    at[one] + 1, *axes["unit"].get_ylim(), color=draw.LINES[4], linewidth=6, alpha=0.25
)
axes["unit"].set_title(
    "the clearest of 64 units: its input gate opens at the two marks (bars), its forget gate stays "
    "open"
)
show.finish(figure)
