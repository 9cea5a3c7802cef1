"""03 · Can one vector hold a sentence?
python demos/03_seq2seq.py      4 min on two cores

An encoder reads a sum such as 23+59, symbol by symbol, and leaves one vector; from it a decoder
writes the answer. Both are LSTMs, and they are tested on sums that they have never seen. The
picture shows that the same sums are learnt sooner when the question is read backwards, and that a
vector overflows: long strings do not come out in reverse. --full trains from three seeds, and
adds numbers of three digits too, from one.
Read first: tinycv/sequence/seq2seq.py.
Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks".
"""

import tinycv
from tinycv.data import DataLoader, addition, reversal
from tinycv.optim import Adam, clip_grad_norm_, warmup_cosine
from tinycv.sequence import Seq2Seq, exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import read_loss, say, steps

show = Demo("03_seq2seq", __doc__)
WAYS = ("read backwards", "read forwards")


# %% Model: an LSTM reads, an LSTM writes; all that passes between them is a state of ``hidden``
# numbers, and as many in the cell
def new(pairs, hidden):
    tinycv.manual_seed(show.seed)
    return Seq2Seq(
        len(pairs.source_words),
        len(pairs.target_words),
        embedding_dim=32,
        hidden_size=hidden,
    ).to(show.device)


# %% Training: the whole loop
def train(model, pairs, epochs, batch_size, rate, test=None, test_every=4):
    """Returns the share of 1,000 test pairs that is right, by epoch: {4: 0.1, 8: ...}."""
    loader = DataLoader(
        pairs.source, pairs.target, batch_size=batch_size, seed=show.seed, drop_last=True
    )
    optimizer = Adam(model.parameters(), lr=rate)
    schedule = warmup_cosine(epochs * len(loader), warmup=100)
    curve = {}
    for step, (source, target) in steps(loader, epochs, seed=show.seed, device=show.device):
        optimizer.param_groups[0]["lr"] = rate * schedule(step)
        optimizer.zero_grad()
        loss = next_symbol_loss(model, source, target)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        epoch, rest = divmod(step + 1, len(loader))
        if test is not None and rest == 0 and (epoch % test_every == 0 or epoch == epochs):
            curve[epoch] = share_right(model, test[:1000])
            said = f"loss {read_loss(loss, step):.4g}  right {curve[epoch]:.4g}"
            say(f"epoch {epoch}/{epochs}  {said}")
    return curve


def share_right(model, pairs):
    """The share of answers without a mistake."""
    with tinycv.no_grad():
        return exact_match(model, pairs).mean()


# %% Sums of two digits, each question read backwards and forwards
right = {}
curves = {}
for way in WAYS:
    pairs, unseen = addition(2, reverse_source=way == "read backwards", seed=show.seed)
    pairs = pairs[: show.choose(quick=256)]
    unseen = unseen[: show.choose(quick=50)]
    model = new(pairs, hidden=128)
    curves[way] = train(
        model,
        pairs,
        epochs=show.choose(quick=2, default=80),
        batch_size=128,
        rate=3e-3,
        test=unseen,
        test_every=show.choose(quick=1, default=4),
    )
    right[way] = share_right(model, unseen)
    if way == "read backwards":
        adder, test = model, unseen

show.measured(
    "unseen sums of 2 digits, read backwards, share right",
    [right["read backwards"]],
    "Keras's example: 99 % of characters, not of sums",
    ">= 0.99",
)
show.measured("unseen sums of 2 digits, read forwards, share right", [right["read forwards"]])
show.measured(
    "two digits: backwards less forwards",
    [right["read backwards"] - right["read forwards"]],
    "Sutskever et al. 2014, translation: BLEU 30.6 with the source reversed, 25.9 without",
    "> 0",
)

# %% What it writes
for i in range(3):
    question, answer = ("".join(text) for text in test.texts(i))
    source = tinycv.Tensor(test.source[i : i + 1], device=show.device)
    written = test.target_words.decode(adder.translate(source, 6)[0])
    print(f"  {question[::-1]} = {answer}; it writes {''.join(written)}", flush=True)

# %% How much a vector holds: strings of 1 to 20 letters to be written in reverse, then longer ones
longest = show.choose(quick=3, default=20)
lengths = show.choose(quick=[2, 4], default=[2, 5, 8, 11, 14, 17, 20, 22, 25, 30, 35, 40])
count = show.choose(quick=300, default=20_000)
asked = show.choose(quick=20, default=200)
by_length = {}
for hidden in (32, 128):
    strings = reversal(range(1, longest + 1), n=count, seed=show.seed)
    model = new(strings, hidden)
    train(model, strings, epochs=show.choose(quick=1, default=8), batch_size=64, rate=5e-3)
    found = []
    for length in lengths:
        unseen = reversal([length], n=asked, seed=100 + show.seed)
        found.append(share_right(model, unseen))
    by_length[f"H = {hidden}"] = found
    metric = f"strings in reverse, H = {hidden}, share right at lengths"
    show.measured(f"{metric} {', '.join(map(str, lengths))}", found)


# %% Draw: how soon sums are learnt, and how long a string a vector holds
def draw_by_length(ax, lines):
    """The share of strings that are right, by their length; grey: the lengths of training."""
    draw.curves(ax, lines, "letters to write in reverse", "share of strings without a mistake")
    ax.axvspan(0, longest, color=draw.PALE, alpha=0.5, zorder=0)
    ax.set_xlim(0, max(lengths) + 1)
    ax.set_ylim(-0.02, 1.05)


figure = draw.figure("One vector holds a short sentence, and not a long one", 12, 4.8)
learning, holding = figure.subplots(1, 2)

lines = {f"2 digits, {way}": (list(curves[way]), list(curves[way].values())) for way in WAYS}
draw.curves(learning, lines, "epoch", "share of unseen sums that are right")
learning.set_title("Sums: sooner when the question is read backwards", fontsize=11)
said = ", ".join(f"{right[way]:.3f} {way}" for way in WAYS)
draw.note(learning, f"two digits: {said}", "lower right")

lines = {name: (lengths, found) for name, found in by_length.items()}
draw_by_length(holding, lines)
holding.set_title("Strings in reverse: grey, the lengths it was trained on", fontsize=11)
show.finish(figure)
