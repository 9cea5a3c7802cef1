"""05 · How does a Transformer translate a date?
python demos/05_transformer.py      5 min on two cores

An encoder reads a date in Chinese, a decoder writes it in English, and with every letter looks back
at all that was read. It is asked for days that it has never seen. Beside it minGPT's task, to sort
six digits, for both a Transformer and a GPT. The picture shows where it looked, what each head of
each block looks at, and how loss and learning rate went. --full trains from three seeds: sorting,
and dates to English. Cut to one seed: dates to English with label smoothing, dates to ISO,
addition, and reversal, then asked of strings longer than any that it was shown.
Read first: tinycv/sequence/transformer.py, encoder_decoder.py.
Vaswani et al. 2017, "Attention Is All You Need".
"""

import numpy as np

import tinycv
from tinycv.data import PAD, DataLoader, dates, sorting
from tinycv.optim import EMA, AdamW, clip_grad_norm_, warmup_inverse_sqrt
from tinycv.sequence import GPT, Transformer, exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import read_loss, say, steps

show = Demo("05_transformer", __doc__)
PEAK = 3e-3  # the greatest learning rate, at the end of the warm-up


# %% Models: a Transformer reads and writes; a GPT reads question and answer as one text
def translator(pairs, dropout=0.0):
    return Transformer(
        len(pairs.source_words),
        len(pairs.target_words),
        d_model=64,
        nhead=4,
        num_encoder_layers=2,
        num_decoder_layers=2,
        dim_feedforward=128,
        dropout=dropout,
        norm_first=True,
    )


def continuer(pairs):
    return GPT(len(pairs.target_words), pairs.source.shape[1] + pairs.target.shape[1])


def text_loss(model, source, target):
    """The GPT is asked for the answer alone."""

    def answers(s, t):
        return model(tinycv.concatenate([s, t], axis=1))[:, s.shape[1] :]

    return next_symbol_loss(answers, source, target)


# %% Training: the whole loop. The paper's Adam, learning rate (5.3) and averaged weights (6.1); the
# weights of the GPT alone decay, as minGPT's
def train(model, pairs, epochs, loss_fn=next_symbol_loss):
    """Returns the losses and the learning rates of all steps."""
    loader = DataLoader(pairs.source, pairs.target, batch_size=64, seed=show.seed, drop_last=True)
    schedule = warmup_inverse_sqrt(1 + epochs * len(loader) // 10)
    ema = EMA(model, decay=0.99)
    decay = 0.1 if isinstance(model, GPT) else 0.0
    optimizer = AdamW(model.parameters(), PEAK, betas=(0.9, 0.98), eps=1e-9, weight_decay=decay)
    losses = []
    rates = []
    for step, (source, target) in steps(loader, epochs, seed=show.seed, device=show.device):
        rates.append(PEAK * schedule(step))
        optimizer.param_groups[0]["lr"] = rates[-1]
        optimizer.zero_grad()
        loss = loss_fn(model, source, target)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update()
        losses.append(loss.detach())
        if (step + 1) % len(loader) == 0:
            epoch = (step + 1) // len(loader)
            say(f"epoch {epoch}/{epochs}  loss {read_loss(loss, step):.4g}")
    model.eval().load_state_dict(ema.state_dict())
    return [loss.item() for loss in losses], rates


def measure(model, test, name, target):
    right = exact_match(model, test).mean()
    metric = f"{name}: share of {len(test)} unseen answers without mistake"
    show.measured(metric, right, target=target)


# %% Sort six digits: there are 729 such questions, each is asked once
few = show.choose(quick=64)
asked = show.choose(quick=8)
pairs, test = sorting(seed=show.seed)
pairs, test = pairs[:few], test[:asked]

tinycv.manual_seed(show.seed)
sorter = translator(pairs, dropout=0.1).to(show.device)
print("sort, Transformer")
train(sorter, pairs, epochs=show.choose(quick=1, default=150))
measure(sorter, test, "sort, Transformer", target="1")

tinycv.manual_seed(show.seed)
sorter = continuer(pairs).to(show.device)
print("sort, GPT")
train(sorter, pairs, epochs=show.choose(quick=1, default=300), loss_fn=text_loss)
measure(sorter, test, "sort, GPT", target="1")

# %% Translate dates
pairs, unseen = dates(show.seed, "english")
pairs = pairs[:few]
tinycv.manual_seed(show.seed)
model = translator(pairs).to(show.device)
print("dates to English")
losses, rates = train(model, pairs, epochs=show.choose(quick=1, default=5))
measure(model, unseen[:asked], "dates to English", target=">= 0.995")

# %% Where it looked while it wrote a date that it has never seen: a short one with a weekday
with_weekday = [i for i in range(len(unseen)) if unseen.texts(i)[1].count(",") == 2]
chosen = min(with_weekday, key=lambda i: len(unseen.texts(i)[1]))
source = unseen.source[chosen]
target = unseen.target[chosen]
source = source[None, : (source != PAD).sum()]
target = target[None, : (target != PAD).sum()]
texts = unseen.texts(chosen)
read = [*texts[0], "end"]
written = [*texts[1], "end"]


def here(array):
    return tinycv.Tensor(array, device=show.device)


maps = {}  # (blocks, heads, T, S)
for name, blocks in model.attention_maps(here(source), here(target[:, :-1])).items():
    maps[name] = np.stack([block.numpy()[0] for block in blocks])

# %% Draw: the cross-attention on the left, every head on the right, the training below
figure = draw.figure(
    "A Transformer translates a date: to write a letter, it looks at what the letter is made of",
    15,
    15,
)
left, right = figure.subfigures(1, 2, width_ratios=(1, 2))
whole, below = left.subfigures(2, 1, height_ratios=(1.4, 1))
mean = maps["cross"].mean(axis=(0, 1))
draw.alignment(whole.subplots(), mean, read, written, "cross-attention, mean of all heads")

cross, encoder, decoder = right.subfigures(3, 1, height_ratios=(1.3, 1, 1.3))
cross.suptitle("cross-attention: what is written looks at what was read", fontsize=12)
draw.heads(cross, maps["cross"], read, written)
encoder.suptitle("encoder: what was read looks at itself", fontsize=12)
draw.heads(encoder, maps["encoder"], read, read)
decoder.suptitle("decoder: what is written looks back at itself", fontsize=12)
draw.heads(decoder, maps["decoder"], ["start", *written[:-1]], written)

upper, lower = below.subplots(2, 1)
draw.curves(upper, {"": (range(len(losses)), losses)}, "step", "nats a letter", log=True)
draw.curves(lower, {"": (range(len(rates)), rates)}, "step", "learning rate")
show.finish(figure)
