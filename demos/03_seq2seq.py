"""03 · Can one vector hold a sentence?          python demos/03_seq2seq.py       4 min on two cores

An encoder reads a sum such as 23+59, symbol by symbol, and leaves one vector; from it a decoder
writes the answer. Both are LSTMs, and are asked for sums that they have never seen. The picture
shows that the same sums are learnt sooner when the question is read backwards, and that a vector
overflows: strings to be repeated in reverse, by their length. --full trains from three seeds, and
adds numbers of three digits too, from one.
Read first: tinycv/sequence/seq2seq.py.
Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks".
"""

import numpy as np

import tinycv
from tinycv.data import DataLoader, addition, reversal
from tinycv.optim import Adam, warmup_cosine
from tinycv.sequence import Seq2Seq, exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.loop import fit

show = Demo("03_seq2seq", __doc__)
SEEDS = range(3) if show.full else [show.seed]
WAYS = {True: "read backwards", False: "read forwards"}

# %% the pieces: the model, and how it learns


def learn(pairs, epochs, seed, test=None, every=4, hidden=128, batch=128, rate=3e-3):
    """An LSTM reads, an LSTM writes, and only a state of ``hidden`` numbers (and as many in the
    cell) passes between."""
    tinycv.manual_seed(seed)
    model = Seq2Seq(
        len(pairs.source_words), len(pairs.target_words), embedding_dim=32, hidden_size=hidden
    ).to(show.device)
    loader = DataLoader(pairs.source, pairs.target, batch_size=batch, seed=seed, drop_last=True)
    evaluate = (
        None if test is None else lambda model: {"right": exact_match(model, test[:1000]).mean()}
    )
    history = fit(
        model,
        Adam(model.parameters(), lr=rate),
        next_symbol_loss,
        loader,
        epochs,
        clip=1.0,
        seed=seed,
        schedule=warmup_cosine(epochs * len(loader), warmup=100),
        evaluate=evaluate,
        evaluate_every=every,
    )
    return model.eval(), history


# %% sums of two digits (--full: of three as well), each question read forwards and backwards
sums, curves = {}, {}
for digits in (2, 3) if show.full else (2,):
    for backwards in WAYS:
        right = []
        for seed in SEEDS if digits == 2 else SEEDS[:1]:
            train, test = addition(digits, reverse_source=backwards, seed=seed)
            train, test = (train[:256], test[:50]) if show.quick else (train, test)
            model, history = learn(
                train, show.choose(2, 80 if digits == 2 else 28), seed, test, show.choose(1, 4)
            )
            right.append(exact_match(model, test).mean())
            curves[digits, backwards] = history.metrics
            if digits == 2 and backwards and seed == SEEDS[0]:
                best = model, test
        sums[digits, backwards] = right
for (digits, backwards), right in sums.items():
    show.measured(
        f"unseen sums of {digits} digits, {WAYS[backwards]}, share right"
        + ", by seed" * (len(right) > 1),
        right,
        "Keras's example: 99 % of characters, not of sums" if backwards else "",
        ">= 0.99" if (digits, backwards) == (2, True) else "",
    )
show.measured(
    "two digits: backwards less forwards" + ", by seed" * show.full,
    list(np.subtract(sums[2, True], sums[2, False])),
    "Sutskever et al. 2014, translation: BLEU 30.6 with the source reversed, 25.9 without",
    "> 0",
)
model, test = best
for i in range(3):
    question, answer = ("".join(text) for text in test.texts(i))
    written = test.target_words.decode(
        model.translate(tinycv.Tensor(test.source[i : i + 1], device=show.device), 6)[0]
    )
    print(f"  {question[::-1]} = {answer}; it writes {''.join(written)}", flush=True)

# %% how much a vector holds: strings of 1 to 20 letters to be written in reverse, then longer ones
lengths, by_length = show.choose([2, 4], [2, 5, 8, 11, 14, 17, 20, 22, 25, 30, 35, 40]), {}
for hidden in (32, 128):
    right = []
    for seed in SEEDS:
        strings = reversal(range(1, show.choose(4, 21)), n=show.choose(300, 20_000), seed=seed)
        model, _ = learn(strings, show.choose(1, 8), seed, hidden=hidden, batch=64, rate=5e-3)
        right.append(
            [
                exact_match(
                    model, reversal([length], n=show.choose(20, 200), seed=100 + seed)
                ).mean()
                for length in lengths
            ]
        )
    by_length[hidden] = np.mean(right, axis=0)
    show.measured(
        f"strings in reverse, H = {hidden}, share right at lengths {', '.join(map(str, lengths))}",
        list(by_length[hidden]),
    )

# %% draw
figure = draw.figure("One vector holds a short sentence, and not a long one", 12, 4.8)
learning, length = figure.subplots(1, 2)
shown = {
    f"{digits} digits, {WAYS[backwards]}": (
        [m["epoch"] for m in metrics],
        [m["right"] for m in metrics],
    )
    for (digits, backwards), metrics in curves.items()
}
draw.curves(learning, shown, "epoch", "share of unseen sums that are right")
learning.set_title("Sums: sooner when the question is read backwards", fontsize=11)
draw.note(
    learning,
    "two digits: "
    + ", ".join(f"{np.mean(sums[2, ways]):.3f} {name}" for ways, name in WAYS.items()),
    "lower right",
)
draw.curves(
    length,
    {f"H = {hidden}": (lengths, right) for hidden, right in by_length.items()},
    "letters to write in reverse",
    "share of strings without a mistake",
)
length.axvspan(0, show.choose(3, 20), color=draw.PALE, alpha=0.5, zorder=0)
length.set_xlim(0, max(lengths) + 1)
length.set_ylim(-0.02, 1.05)
length.set_title("Strings in reverse: grey, the lengths it was trained on", fontsize=11)
show.finish(figure)
