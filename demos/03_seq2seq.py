"""03 · How much can one vector hold, in sequence-to-sequence (seq2seq) learning?
python demos/03_seq2seq.py      11 min on one core

An encoder LSTM reads a sum such as 23+59 symbol by symbol and passes on one vector, its last state;
a decoder LSTM writes the answer from it. The test uses sums that are in no training pair. The
picture shows two findings. The same sums are learned sooner, from each of three seeds, if the
question is read backwards, as in Sutskever et al. And the vector overflows: the longer the strings
are, the fewer of them the decoder can write in reverse without a mistake. --full trains the strings
from three seeds too, and sums of three digits from one seed.
Read first: tinycv/sequence/seq2seq.py.
Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks".
"""

import numpy as np

import tinycv
from tinycv.data import DataLoader, addition, reversal
from tinycv.optim import Adam, clip_grad_norm_, warmup_cosine
from tinycv.sequence import Seq2Seq, exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import read_loss, say, steps

show = Demo("03_seq2seq", __doc__)
SEEDS = range(show.seed, show.seed + show.choose(quick=2, default=3))
ORDERS = ("read backwards", "read forwards")


# %% Model: the encoder passes only its last state to the decoder: ``hidden`` numbers, and as many
# in the cell
def new(pairs, hidden, seed):
    tinycv.manual_seed(seed)
    return Seq2Seq(
        len(pairs.source_words),
        len(pairs.target_words),
        embedding_dim=32,
        hidden_size=hidden,
    ).to(show.device)


# %% Training: the whole loop
def train(model, pairs, epochs, batch_size, rate, seed, test=None, test_every=4):
    """Returns the share of 1,000 test pairs that is right, by epoch: {4: 0.1, 8: ...}."""
    loader = DataLoader(
        pairs.source, pairs.target, batch_size=batch_size, seed=seed, drop_last=True
    )
    optimizer = Adam(model.parameters(), lr=rate)
    schedule = warmup_cosine(epochs * len(loader), warmup=100)
    curve = {}
    for step, (source, target) in steps(loader, epochs, seed=seed, device=show.device):
        optimizer.param_groups[0]["lr"] = rate * schedule(step)
        optimizer.zero_grad()
        loss = next_symbol_loss(model, source, target)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        epoch, steps_into_next = divmod(step + 1, len(loader))
        is_time = epoch % test_every == 0 or epoch == epochs
        if test is not None and steps_into_next == 0 and is_time:
            curve[epoch] = share_right(model, test[:1000])
            progress = f"loss {read_loss(loss, step):.4g}  right {curve[epoch]:.4g}"
            say(f"epoch {epoch}/{epochs}  {progress}")
    return curve


def share_right(model, pairs):
    """The share of answers without a mistake."""
    with tinycv.no_grad():
        return exact_match(model, pairs).mean()


# %% Sums of two digits, from each seed: the question is read backwards or forwards
def train_sums(order, seed):
    """Returns the model, unseen sums and the share of them that is right, by epoch."""
    pairs, unseen = addition(2, reverse_source=order == "read backwards", seed=seed)
    pairs = pairs[: show.choose(quick=256)]
    unseen = unseen[: show.choose(quick=50)]
    model = new(pairs, hidden=128, seed=seed)
    curve = train(
        model,
        pairs,
        epochs=show.choose(quick=2, default=44),
        batch_size=128,
        rate=3e-3,
        seed=seed,
        test=unseen,
        test_every=show.choose(quick=1, default=4),
    )
    return model, unseen, curve


curves = {order: [] for order in ORDERS}  # a curve for each seed
right = {order: [] for order in ORDERS}  # the share that is right in the end, for each seed
for seed in SEEDS:
    for order in ORDERS:
        print(f"sums, {order}, seed {seed}", flush=True)
        model, unseen, curve = train_sums(order, seed)
        curves[order].append(curve)
        right[order].append(share_right(model, unseen))
        if order == "read backwards":
            adder = model
            questions = unseen

show.measured(
    "unseen sums of 2 digits, read backwards, share right, by seed",
    right["read backwards"],
    "Keras's example: 99 % of characters, not of sums",
    ">= 0.99",
)
show.measured(
    "unseen sums of 2 digits, read forwards, share right, by seed", right["read forwards"]
)
show.measured(
    "sums of 2 digits: share right backwards less share right forwards, by seed",
    list(np.subtract(right["read backwards"], right["read forwards"])),
    "Sutskever et al. 2014, translation: BLEU 30.6 with the source reversed, 25.9 without",
    "> 0",
)

# %% What the decoder writes
for i in range(3):
    question, answer = ("".join(text) for text in questions.texts(i))
    source = tinycv.Tensor(questions.source[i : i + 1], device=show.device)
    written = questions.target_words.decode(adder.translate(source, 6)[0])
    print(f"  {question[::-1]} = {answer}; it writes {''.join(written)}", flush=True)

# %% How much one vector holds: learn to write strings of 1 to 20 letters in reverse, then try
# longer ones too
longest = show.choose(quick=3, default=20)
lengths = show.choose(quick=[2, 4], default=[2, 5, 8, 11, 14, 17, 20, 22, 25, 30, 35, 40])
SIZES = (32, 128)  # how many numbers the vector has


def share_right_by_length(hidden, seed):
    """Train on strings in reverse. Returns the share of unseen strings that is right, by length."""
    print(f"strings in reverse, H = {hidden}, seed {seed}", flush=True)
    count = show.choose(quick=300, default=20_000)
    strings = reversal(range(1, longest + 1), n=count, seed=seed)
    model = new(strings, hidden, seed)
    epochs = show.choose(quick=1, default=6)
    train(model, strings, epochs, batch_size=64, rate=5e-3, seed=seed)
    found = []
    for length in lengths:
        unseen = reversal([length], n=show.choose(quick=20, default=200), seed=100 + seed)
        found.append(share_right(model, unseen))
    return found


by_length = {}
for hidden in SIZES:
    by_length[f"H = {hidden}"] = share_right_by_length(hidden, show.seed)
    metric = f"strings in reverse, H = {hidden}, share right, at lengths"
    show.measured(f"{metric} {', '.join(map(str, lengths))}", by_length[f"H = {hidden}"])

# %% Draw: how soon sums are learned, and how long a string one vector holds
figure = draw.figure("Seq2seq: one vector is all that the decoder knows of the question", 10, 5.2)
learning, holding = figure.subplots(1, 2)


mean_lines = {}
learning.set_ylim(-0.03, 1.05)
for order, colour in zip(ORDERS, (draw.BLUE, draw.RED), strict=True):
    epochs = list(curves[order][0])
    shares = np.array([list(curve.values()) for curve in curves[order]])  # (seeds, epochs)
    mean_lines[order] = (epochs, shares.mean(axis=0))
    for of_one_seed in shares:
        learning.plot(epochs, of_one_seed, color=colour, linewidth=0.8, alpha=0.7)
draw.curves(learning, mean_lines, "epoch", "share of unseen sums that are right")


def when_half_right(order):
    """When half of the sums are right for the first time, in the mean of the seeds."""
    epochs, shares = mean_lines[order]
    reached = np.flatnonzero(shares >= 0.5)
    return f"after {epochs[reached[0]]} epochs" if len(reached) else "never"


learning.set_title(
    f"half of the sums are right: {when_half_right('read backwards')}\n"
    f"read backwards, {when_half_right('read forwards')} read forwards",
    fontsize=12,
)
in_the_end = [np.mean(right[order]) for order in ORDERS]
draw.note(
    learning,
    f"mean of {len(SEEDS)} seeds (thick):\nbackwards {in_the_end[0]:.3f}\n"
    f"forwards {in_the_end[1]:.3f}",
    "lower right",
)


def draw_by_length(ax, lines):
    """The share of strings that are right, by their length; grey: the lengths of training."""
    ax.set_xlim(0, max(lengths) + 1)
    ax.set_ylim(-0.03, 1.05)
    draw.curves(ax, lines, "letters to write in reverse", "share of strings without a mistake")
    ax.axvspan(0, longest, color=draw.PALE, alpha=0.5, zorder=0)
    ax.text(max(lengths), 0.6, "grey: the lengths\nof training", ha="right", fontsize=11)


lines = {name: (lengths, found) for name, found in by_length.items()}
draw_by_length(holding, lines)
holding.set_title("strings in reverse, from one seed:\nthe vector has H numbers", fontsize=12)
show.finish(figure)
