"""05 · How does a Transformer translate a date?
python demos/05_transformer.py      3 min on one core

The encoder of a Transformer reads a date in Chinese. The decoder writes it in English, and for
every letter it attends to all that was read (cross-attention) and to what it has written so far.
The test uses days that are in no training pair. The demo also solves minGPT's task, sorting six
digits, with a Transformer and with a GPT. The picture shows four of the 24 attention heads: those
that look most at the digit that is copied, at the weekday while its name is written, at the signs
for year, month and day, and at the word that is being written. --full trains from three seeds:
sorting, and dates to English. From one seed it trains on dates to English with label smoothing, on
dates to ISO, on addition, and on reversal, which it then tests on longer strings than in training.
--pretrained trains nothing: it uses the weights that ship.
Read first: tinycv/sequence/transformer.py, encoder_decoder.py.
Vaswani et al. 2017, "Attention Is All You Need".
"""

import numpy as np

import tinycv
from tinycv.data import DataLoader, dates, sorting
from tinycv.data.alignment import copies
from tinycv.optim import EMA, AdamW, clip_grad_norm_, warmup_inverse_sqrt
from tinycv.sequence import GPT, Transformer, exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import read_loss, say, steps

show = Demo("05_transformer", __doc__, pretrained=True)
PEAK = 3e-3  # the highest learning rate, reached at the end of the warm-up


# %% Models: the Transformer has an encoder and a decoder; the GPT reads question and answer as one
# text
def translator_sizes(pairs, dropout=0.0):
    return {
        "source_words": len(pairs.source_words),
        "target_words": len(pairs.target_words),
        "d_model": 64,
        "nhead": 4,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "dim_feedforward": 128,
        "dropout": dropout,
        "norm_first": True,
    }


def translator(pairs, dropout=0.0):
    return Transformer(**translator_sizes(pairs, dropout))


def gpt_sizes(pairs):
    length = pairs.source.shape[1] + pairs.target.shape[1]
    return {"words": len(pairs.target_words), "max_length": length}


def text_loss(model, source, target):
    """The loss of a GPT on the answer alone: it need not predict the question."""

    def answers(question, answer):
        text = tinycv.concatenate([question, answer], axis=1)
        return model(text)[:, question.shape[1] :]

    return next_symbol_loss(answers, source, target)


# %% Training: the whole loop, with the paper's Adam and learning rate (section 5.3) and averaged
# weights (6.1). Only the GPT has weight decay, as in minGPT
def train(model, pairs, epochs, loss_fn=next_symbol_loss):
    """Leaves the model in ``eval`` mode, with its averaged weights."""
    loader = DataLoader(pairs.source, pairs.target, batch_size=64, seed=show.seed, drop_last=True)
    schedule = warmup_inverse_sqrt(1 + epochs * len(loader) // 10)
    ema = EMA(model, decay=0.99)
    decay = 0.1 if isinstance(model, GPT) else 0.0
    optimizer = AdamW(model.parameters(), PEAK, betas=(0.9, 0.98), eps=1e-9, weight_decay=decay)
    for step, (source, target) in steps(loader, epochs, seed=show.seed, device=show.device):
        optimizer.param_groups[0]["lr"] = PEAK * schedule(step)
        optimizer.zero_grad()
        loss = loss_fn(model, source, target)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update()
        if (step + 1) % len(loader) == 0:
            epoch = (step + 1) // len(loader)
            say(f"epoch {epoch}/{epochs}  loss {read_loss(loss, step):.4g}")
    model.eval().load_state_dict(ema.state_dict())


def measure(model, test, name, target):
    right = exact_match(model, test).mean()
    metric = f"{name}: share of {len(test)} unseen answers without a mistake"
    show.measured(metric, right, target=target)
    return right


# %% Data: there are 729 ways to sort six digits, and each is used once; and dates
train_size = show.choose(quick=64)
test_size = show.choose(quick=8)
questions, unseen_questions = sorting(seed=show.seed)
questions = questions[:train_size]
pairs, unseen = dates(show.seed, "english")
pairs = pairs[:train_size]

# %% Three models, one training each. --pretrained: the weights that a run of this page has written
SIZES = {
    "sorter": translator_sizes(questions, dropout=0.1),
    "gpt": gpt_sizes(questions),
    "dates": translator_sizes(pairs),
}
tinycv.manual_seed(show.seed)
sorter = Transformer(**SIZES["sorter"]).to(show.device)
gpt = GPT(**SIZES["gpt"]).to(show.device)
model = Transformer(**SIZES["dates"]).to(show.device)


def train_all():
    print("sort, Transformer")
    train(sorter, questions, epochs=show.choose(quick=1, default=150))
    print("sort, GPT")
    train(gpt, questions, epochs=show.choose(quick=1, default=300), loss_fn=text_loss)
    print("dates to English")
    train(model, pairs, epochs=show.choose(quick=1, default=5))


show.trained(train_all, {"sorter": sorter, "gpt": gpt, "dates": model}, SIZES)

# %% Measure: answers that no model has seen
measure(sorter, unseen_questions[:test_size], "sort, Transformer", target="1")
measure(gpt, unseen_questions[:test_size], "sort, GPT", target="1")
right = measure(model, unseen[:test_size], "dates to English", target=">= 0.995")

# %% Where the model looks while it writes one unseen date: a short one with its weekday, as in
# 2055年5月9日星期日
chosen = 0
shortest = 100
for i in range(len(unseen)):
    read, written = unseen.texts(i)
    has_all_parts = all(sign in read for sign in "年月日星") and written.count(",") == 2
    if has_all_parts and len(read) + len(written) < shortest:
        shortest = len(read) + len(written)
        chosen = i
read, written = unseen.texts(chosen)
read = [*read, "end"]
written = [*written, "end"]
source = tinycv.Tensor(unseen.source[chosen : chosen + 1, : len(read)], device=show.device)
target = tinycv.Tensor(unseen.target[chosen : chosen + 1, : len(written)], device=show.device)

maps = {}  # by name: (blocks, heads, T, S)
for name, blocks in model.attention_maps(source, target).items():
    maps[name] = np.stack([block.numpy()[0] for block in blocks])

# %% Four sets of cells (written, read) in which a head may have most of its attention
copied, _ = copies("".join(read[:-1]), "".join(written[:-1]))

weekday = []
for row in range(written.index(",")):
    weekday += [(row, read.index("星") + i) for i in range(3)]

units = []
for row in range(len(read)):
    units += [(row, read.index(unit)) for unit in "年月日"]

just_read = ["start", *written[:-1]]  # the decoder reads what it wrote
word_number = np.cumsum([symbol == " " for symbol in just_read])
own_word = []
for row in range(len(written)):
    own_word += [(row, i) for i in range(row + 1) if word_number[i] == word_number[row]]


def best_head(name, cells):
    """The block and the head with most of their attention in ``cells``, and their share, which is
    the mean over the rows that have cells."""
    rows, columns = np.transpose(list(cells))
    shares = maps[name][:, :, rows, columns].sum(axis=-1) / len(np.unique(rows))
    block, head = np.unravel_index(shares.argmax(), shares.shape)
    return block, head, shares[block, head]


# %% Draw: the best head for each of these sets
_, _, on_copied = best_head("cross", copied)
figure = draw.figure(
    f"Transformer: {100 * right:.2f} % of unseen dates right. One of its heads has\n"
    f"{100 * on_copied:.0f} % of its attention on the digit that is copied",
    11,
    12.5,
)
figure.supxlabel("Four of its 24 heads. Orange: the cells that the caption names", fontsize=13)
(first, second), (third, fourth) = figure.subplots(2, 2)
meanings = []  # of the Chinese characters
for symbol in read[: read.index("星")]:
    meanings.append(({"年": "year", "月": "mon", "日": "day"}.get(symbol, ""), 1))
meanings.append(("weekday", 3))


def draw_head(ax, name, cells, looks_at, columns=read, rows=written):
    block, head, share = best_head(name, cells)
    kind = {"cross": "cross-attention"}.get(name, f"self-attention of the {name}")
    caption = f"{kind}, block {block + 1}, head {head + 1}:\n{100 * share:.0f} % on {looks_at}"
    draw.alignment(ax, maps[name][block, head], columns, rows, caption, size=12)
    if columns is read:
        draw.glosses(ax, meanings)
    y, x = np.transpose(list(cells))
    ax.scatter(x, y, 90, marker="s", facecolors="none", edgecolors=draw.ORANGE, linewidths=1.5)


draw_head(first, "cross", copied, "the digit that is copied")
draw_head(second, "cross", weekday, "the weekday, while it is written")
draw_head(third, "encoder", units, "the signs for year, month and day", rows=read)
draw_head(fourth, "decoder", own_word, "the word that is being written", columns=just_read)
third.set_ylabel("read, and looking")
fourth.set_xlabel("written before")
show.finish(figure)
