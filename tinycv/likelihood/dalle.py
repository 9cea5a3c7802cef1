"""DALL-E: one GPT over the words of a caption followed by the codes of its image.

    p(x, c) = Π_t p(s_t | s_1 ... s_(t-1)),   s = words, then codes         Ramesh et al. 2021
    log p(codes | words) = Σ_t over the codes only

The image x has become N codes (vq_vae.py), and its caption c is T words, so text and image are one
sequence of T + N symbols s_t, and the GPT of sequence/gpt.py can predict it from left to right.
Given a caption, it continues with codes, one after another, and the decoder of the discrete VAE
draws them.

    "text first"     words, then codes: text to image
    "image first"    codes, then words: the same class describes an image

A model of images given texts can also caption an image: by Bayes' rule, the best of several
captions that are equally likely a priori is the one with the largest log p(codes | words).  For new
combinations this can be better than "image first", which may write a familiar caption instead of
the one that the image shows.

Words and codes share one vocabulary: the words are 0 ... W - 1, the codes W ... W + K - 1, and
W + K is a start symbol.  At the place of a word only words have a probability, and at the place of
a code only codes.  A caption is padded to T words with PAD.  PAD is predicted like a word.  Since
each place has its own position vector, the model can tell one PAD from another (the paper learns a
separate PAD for each place).

Both parts are predicted in training.  The loss is a weighted sum of the mean cross-entropy of the
words and that of the codes, with the weights 1/8 and 7/8 of the paper, because images are what the
model is for.  With the image first it is the other way round.

    temperature    logits / temperature: below 1, likely symbols become likelier
    top_k          only the k likeliest symbols can be drawn; top_k = 1 is greedy

Positions.  The position vector of a code is the sum of one vector for its row and one for its
column (as in the paper), so that codes of one row, or of one column, have something in common.

Start.  ``start_at_codebook`` gives codes that look alike similar vectors, so that a red edge and an
orange edge do not begin as two unrelated symbols.

differs: in the paper all vectors start at random, and its 64 layers save time by sparse attention,
along rows, along columns or within a window; here every symbol attends to all symbols before it.

Read first: vq_vae.py, sequence/gpt.py.
Shapes: B examples, T words of W, N codes of K, S = T + N symbols, E width.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine.arguments import choice, flag, shown
from tinycv.engine.backend import Array, array_module, from_host, host_generator
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import where
from tinycv.engine.tensor import ArrayLike, Tensor, bare, no_grad
from tinycv.likelihood.vq_vae import numbers_in
from tinycv.nn import init
from tinycv.nn.distributions import categorical_log_prob, categorical_sample
from tinycv.nn.inputs import batch, finite, whole
from tinycv.nn.linear import linear
from tinycv.nn.losses import cross_entropy
from tinycv.nn.module import Module
from tinycv.sequence.gpt import GPT

ORDERS = ("text first", "image first")
START = 0.1  # the standard deviation of the first vectors of places and of the codes


class TextAndGridPositions(Module):
    """Adds a learned vector for each place: one per word, and for each code the sum of one per row
    and one per column of its grid. It takes the place of LearnedPositions in a GPT.

    They start from N(0, 0.1²). With the 0.02 of GPT, attention would need a few hundred steps to
    find the neighbours of a code, which is too many for a training as short as that of demo 24.

    The input at place t is symbol t - 1, and the GPT predicts symbol t from it. The positions are
    those of the predicted symbols.
    """

    def __init__(self, text_length: int, grid: tuple[int, int], dim: int, image_first: bool):
        self.text_length, self.grid, self.image_first = text_length, grid, image_first
        self.word = init.normal((text_length, dim), std=START)
        self.row = init.normal((grid[0], 1, dim), std=START)
        self.column = init.normal((1, grid[1], dim), std=START)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (B, t, E); its first symbol is at place ``start``. Returns (B, t, E)."""
        codes = (self.row + self.column).reshape((-1, self.word.shape[1]))  # (N, E)
        parts = [codes, self.word] if self.image_first else [self.word, codes]
        return x + concatenate(parts, axis=0)[start : start + x.shape[1]]


class DALLE(Module):
    """A GPT over words and codes.

    words: W, including PAD, which is 0. text_length: T. codes: K. image_tokens: N, or (rows,
    columns) if the grid of codes is not square. dim, heads, layers, dropout: those of the GPT.
    order: "text first" or "image first".
    """

    def __init__(
        self,
        words: int,
        text_length: int,
        codes: int,
        image_tokens: int | tuple[int, int],
        dim: int = 64,
        heads: int = 4,
        layers: int = 3,
        order: str = "text first",
        dropout: float = 0.0,
    ):
        words, text_length, codes = whole(
            "DALLE", 1, words=words, text_length=text_length, codes=codes
        )
        dim, heads, layers = whole("DALLE", 1, dim=dim, heads=heads, layers=layers)
        self.words, self.codes, self.text_length = words, codes, text_length
        self.grid = grid_of(image_tokens)
        self.image_tokens = self.grid[0] * self.grid[1]
        self.image_first = choice(order, "DALLE: order", ORDERS) == "image first"
        self.start = words + codes  # the start symbol
        length = text_length + self.image_tokens
        self.gpt = GPT(words + codes + 1, length, dim, heads, layers, dropout)
        self.gpt.position = TextAndGridPositions(text_length, self.grid, dim, self.image_first)

    def start_at_codebook(self, codebook: ArrayLike, std: float = START) -> None:
        """Start the vectors of the codes at a random projection of what the codes look like,
        ``codebook`` (K, ...), such as ImageCodes.codebook(). Codes that look alike then start with
        similar vectors, so what the model learns about one of them also holds for the others. std:
        the standard deviation of the new vectors."""
        std = finite(std, "DALLE.start_at_codebook: std", above=0, below=1e6)
        values = batch(codebook, "DALLE.start_at_codebook: codebook")
        looks = Tensor(bare(values)).numpy().astype(np.float64)
        if looks.ndim < 2 or len(looks) != self.codes or not looks.size:
            raise ValueError(
                f"DALLE.start_at_codebook: codebook has shape {looks.shape}; it must be "
                f"({self.codes}, ...), one row per code"
            )
        if not (np.abs(looks) < 1e30).all():
            raise ValueError(
                "DALLE.start_at_codebook: codebook holds NaN, infinity or numbers above 1e30; it "
                "must hold pixels"
            )
        looks = looks.reshape((self.codes, -1))
        looks = looks - looks.mean(axis=0)
        projection = host_generator().normal(size=(looks.shape[1], self.gpt.embed.weight.shape[1]))
        vectors = looks @ projection
        vectors *= std / max(vectors.std(), 1e-12)
        weight = bare(self.gpt.embed.weight).copy()
        xp = array_module(weight)
        weight[self.words : self.start] = from_host(xp, vectors.astype(weight.dtype))
        self.gpt.embed.weight.data = weight

    def forward(self, ids: ArrayLike, codes: ArrayLike) -> Tensor:
        """The same as ``log_prob``."""
        return self.log_prob(ids, codes)

    def loss(self, ids: ArrayLike, codes: ArrayLike, given_weight: float = 1 / 8) -> Tensor:
        """given_weight · the mean cross-entropy of the part that comes first, plus (1 -
        given_weight) · that of the part that comes second: a number. ids (B, T), codes (B, N)."""
        given_weight = finite(given_weight, "DALLE.loss: given_weight", low=0, high=1)
        words, image = self.checked(ids, codes, "DALLE.loss")
        of_words, of_codes = self.logits(words, image)
        text = cross_entropy(of_words.reshape((-1, self.words)), words.reshape(-1))
        picture = cross_entropy(of_codes.reshape((-1, self.codes)), image.reshape(-1))
        first, second = (picture, text) if self.image_first else (text, picture)
        return given_weight * first + (1 - given_weight) * second

    def log_prob(self, ids: ArrayLike, codes: ArrayLike) -> Tensor:
        """log p(second part | first part) in nats, exactly: that of the codes given the words, or
        with the image first that of the words, PAD included, given the codes. Returns (B,)."""
        words, image = self.checked(ids, codes, "DALLE.log_prob")
        of_words, of_codes = self.logits(words, image)
        if self.image_first:
            return categorical_log_prob(words, of_words).sum(axis=1)
        return categorical_log_prob(image, of_codes).sum(axis=1)

    def logits(self, words: Array, image: Array) -> tuple[Tensor, Tensor]:
        """The scores of each word (B, T, W) and of each code (B, N, K), given all symbols before
        it."""
        sequence = self.sequence_of(words, image)  # (B, S)
        xp = array_module(sequence)
        start = xp.full((len(sequence), 1), self.start, np.int64)
        before = xp.concatenate([start, sequence[:, :-1]], axis=1)
        gpt = self.gpt
        hidden = gpt.blocks(gpt.embed_with_positions(Tensor(before)), is_causal=True)  # (B, S, E)
        first = self.image_tokens if self.image_first else self.text_length
        parts = hidden[:, :first], hidden[:, first:]
        of_words, of_codes = parts[::-1] if self.image_first else parts
        return self.scores(of_words, "word"), self.scores(of_codes, "code")

    def scores(self, hidden: Tensor, kind: str) -> Tensor:
        """The scores (..., W) of the words, or (..., K) of the codes: hidden (..., E)."""
        table = self.gpt.embed.weight
        low, high = (0, self.words) if kind == "word" else (self.words, self.start)
        return linear(hidden, table[low:high])

    def sequence_of(self, words: Array, image: Array) -> Array:
        """Words (B, T) and codes (B, N) as numbers of the common vocabulary, (B, S)."""
        parts = [words, image + self.words]
        return array_module(words).concatenate(parts[::-1] if self.image_first else parts, axis=1)

    def sample(
        self,
        given: ArrayLike,
        temperature: float = 1.0,
        top_k: int | None = None,
        cached: bool = True,
    ) -> Array:
        """Draw the second part, given the first: codes (B, N) for words (B, T), or with the image
        first words (B, T) for codes (B, N). Returns a bare array of int64.

        temperature, top_k: see the top of this file. cached: keep the keys and values of earlier
        symbols; without this cache the whole sequence runs through the network again for each
        symbol, with the same result.
        """
        temperature = finite(temperature, "DALLE.sample: temperature", above=0)
        if top_k is not None:
            (top_k,) = whole("DALLE.sample", 1, top_k=top_k)
        cached = flag(cached, "DALLE.sample: cached")
        if self.training and self.gpt.dropout:
            raise RuntimeError("DALLE.sample: the model is in training mode; call eval() first")
        if self.image_first:
            first = self.numbers(given, "DALLE.sample: given", self.codes, self.image_tokens)
            first, kind, offset = first + self.words, "word", 0
            count = self.text_length
        else:
            first = self.numbers(given, "DALLE.sample: given", self.words, self.text_length)
            kind, offset, count = "code", self.words, self.image_tokens
        xp = array_module(first)
        sequence = xp.concatenate([xp.full((len(first), 1), self.start, np.int64), first], axis=1)
        drawn = []
        with no_grad():
            past: list[Any] = [None] * len(self.gpt.blocks.layers)
            new = sequence  # the symbols that the network has not read yet
            for _ in range(count):
                if cached:
                    place = sequence.shape[1] - new.shape[1]
                    x = self.gpt.embed_with_positions(Tensor(new), place)
                    hidden, past = self.gpt.blocks.step(x, past)
                else:
                    x = self.gpt.embed_with_positions(Tensor(sequence))
                    hidden = self.gpt.blocks(x, is_causal=True)
                scores = self.scores(hidden[:, -1], kind) / temperature  # (B, K or W)
                symbol = bare(categorical_sample(likeliest(scores, top_k)))  # (B,)
                drawn.append(symbol.astype(np.int64))
                new = drawn[-1][:, None] + offset
                sequence = xp.concatenate([sequence, new], axis=1)
        return xp.stack(drawn, axis=1)

    def checked(self, ids: Any, codes: Any, who: str) -> tuple[Array, Array]:
        """Words (B, T) and codes (B, N) as bare arrays on the device of the weights."""
        words = self.numbers(ids, f"{who}: ids", self.words, self.text_length)
        image = self.numbers(codes, f"{who}: codes", self.codes, self.image_tokens)
        if len(words) != len(image):
            raise ValueError(
                f"{who}: ids has {len(words)} rows and codes {len(image)}; each image needs its "
                "caption"
            )
        return words, image

    def numbers(self, values: Any, what: str, count: int, length: int) -> Array:
        """Whole numbers (B, length) below ``count``, on the device of the weights. A number out of
        range is an error on the host. On a GPU it becomes a number that is outside the embedding
        table, so that the result is NaN."""
        array = numbers_in(values, what, count, length)
        xp = array_module(bare(self.gpt.embed.weight))
        array = from_host(xp, array).astype(np.int64)
        if xp is np:
            return array
        return xp.where((array >= 0) & (array < count), array, -(2**40))


def likeliest(scores: Tensor, top_k: int | None) -> Tensor:
    """scores (B, K) with -inf in place of all but the ``top_k`` largest of each row. None keeps all
    of them."""
    if top_k is None or top_k >= scores.shape[-1]:
        return scores
    numbers = bare(scores)
    smallest = array_module(numbers).sort(numbers, axis=-1)[:, -top_k][:, None]
    return where(numbers < smallest, -np.inf, scores)  # NaN stays NaN


def grid_of(image_tokens: Any) -> tuple[int, int]:
    """(rows, columns) of a grid of codes: two numbers, or the number of codes in a square."""
    if isinstance(image_tokens, (tuple, list)) and len(image_tokens) == 2:
        rows, columns = whole(
            "DALLE", 1, **{"image_tokens[0]": image_tokens[0], "image_tokens[1]": image_tokens[1]}
        )
        return rows, columns
    (count,) = whole("DALLE", 1, image_tokens=image_tokens)
    side = round(count**0.5)
    if side * side != count:
        raise ValueError(
            f"DALLE: image_tokens is {shown(image_tokens)}; it must be a square, or (rows, columns)"
        )
    return side, side
