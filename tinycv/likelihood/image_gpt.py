"""Image GPT: a causal Transformer that predicts an image as a sequence of small patches.

    p(x) = Π_t p(w_t | w_1 ... w_(t-1))                          Chen et al. 2020, section 2

The image is cut into patches, and each possible patch is a word: patches of 2 x 2 black and white
pixels give 16 words.  Then an image is a text, and sequence/gpt.py can model it.  A start symbol
comes before the first word.  The Transformer is not given rows and columns, only places in the
sequence; it learns from the data which places are neighbours.

    patch = 1    a word is a pixel: D words, and every pixel is predicted on its own
    patch = 2    a quarter of the words, so attention costs a sixteenth; the pixels of a patch are
                 drawn together, as one of L^4 words

The keys and values of earlier words are kept, so sampling runs each word through the network once
(``cached``).  Without this cache, all words so far would run through it again for each new word,
with the same result.

differs: the paper clusters colours into 512 words; here a word is a patch of few levels.

Read first: pixel_by_pixel.py, sequence/gpt.py.   See at work: demos/22_autoregressive.py.
Shapes: B images, T patches of P x P pixels, L levels, V = L^(P²) words; word V is the start symbol.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine.arguments import flag, shown, size
from tinycv.engine.backend import Array, array_module, constant
from tinycv.engine.ops import where
from tinycv.engine.tensor import ArrayLike, Tensor, bare, no_grad
from tinycv.likelihood.pixel_by_pixel import PixelModel, flat, levels_in, order_of, start_of
from tinycv.nn.distributions import categorical_log_prob, categorical_sample
from tinycv.nn.inputs import Examples
from tinycv.nn.window import Pair, as_pair
from tinycv.sequence.gpt import GPT

MOST_WORDS = 2**16


class ImageGPT(PixelModel):
    """A GPT of the patches of images.

    shape: (H, W), or the side of a square. patch: P. levels: L. order: a permutation of the T
    patches, None for raster order. The other arguments are those of GPT.
    """

    def __init__(
        self,
        shape: Pair,
        patch: int = 1,
        levels: int = 2,
        order: ArrayLike | None = None,
        d_model: int = 64,
        nhead: int = 4,
        num_layers: int = 2,
        dropout: float = 0.0,
    ):
        height, width = as_pair("ImageGPT: shape", shape, 1)
        self.patch, levels = size(patch, "ImageGPT: patch", 1), size(levels, "ImageGPT: levels", 2)
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"ImageGPT: patch is {patch}; it must divide the sides {height} and {width}"
            )
        self.grid = height // self.patch, width // self.patch
        self.words = levels**self.patch**2 if self.patch <= 4 else MOST_WORDS + 1
        if self.words > MOST_WORDS:
            raise ValueError(
                f"ImageGPT: patch is {patch} and levels {levels}; so many possible patches are "
                f"more words than {MOST_WORDS}"
            )
        self.patch_order = order_of(order, self.grid, "ImageGPT")
        super().__init__(shape, levels, self.pixels_of(self.patch_order))
        words_and_start = self.words + 1
        length = len(self.patch_order)
        self.gpt = GPT(words_and_start, length, d_model, nhead, num_layers, dropout)

    def pixels_of(self, patch_order: tuple[int, ...]) -> np.ndarray:
        """The order of the pixels (D,): patch by patch, and row by row within a patch."""
        (rows, columns), p = self.grid, self.patch
        numbers = np.arange(rows * p * columns * p).reshape(rows, p, columns, p)
        by_patch = numbers.transpose(0, 2, 1, 3).reshape(rows * columns, p * p)
        return by_patch[list(patch_order)].ravel()

    def logits(self, x: Tensor) -> Tensor:
        """The scores of each word, given the words before it. x (B, 1, H, W). Returns (B, T, V), in
        the order of the patches."""
        return self.word_logits(self.to_words(bare(x)))

    def word_logits(self, words: Array) -> Tensor:
        """words (B, t). Returns the scores (B, t, V) of each of them, given those before it."""
        xp = array_module(words)
        start = xp.full((len(words), 1), self.words, np.int64)
        before = xp.concatenate([start, words[:, :-1]], axis=1)  # (B, t)
        return self.gpt(Tensor(before))[:, :, : self.words]  # the start is never predicted

    def log_prob(self, x: Examples) -> Tensor:
        """log p(x) in nats, exactly. x (B, 1, H, W). Returns (B,)."""
        return self.word_log_probs(x).sum(axis=-1)

    def word_log_probs(self, x: Examples) -> Tensor:
        """log p(w_t | the words before it), for each patch in the order of the patches: (B, T)."""
        pixels = bare(levels_in(x, self, "ImageGPT: x"))
        words = self.to_words(pixels)
        log_p = categorical_log_prob(words, self.word_logits(words))
        xp = array_module(pixels)
        if xp is np:
            return log_p
        # On a GPU, a pixel that is no level became NaN, and the word of its patch is arbitrary.
        return where(xp.isfinite(flat(pixels)).all(axis=1)[:, None], log_p, np.nan)

    def pixel_log_probs(self, x: Examples) -> Tensor:
        """As in PixelModel; only with patch = 1, since a patch of several pixels is one word."""
        if self.patch > 1:
            raise ValueError(
                f"ImageGPT.pixel_log_probs: patch is {self.patch}; a pixel has a probability of "
                "its own only if patch is 1. word_log_probs has those of patches"
            )
        order = constant(array_module(bare(self.gpt.embed.weight)), np.argsort(self.patch_order))
        return self.word_log_probs(x)[:, order]

    def sample(
        self,
        n: int,
        given: Examples | None = None,
        known: ArrayLike | None = None,
        cached: bool = True,
    ) -> Tensor:
        """n images drawn from p: (n, 1, H, W). given, known: as in PixelModel.sample; whole patches
        must be known. cached: with the cache of keys and values.

        RuntimeError in training mode with dropout, because the words would be drawn from a network
        with randomly missing units.
        """
        cached = flag(cached, "ImageGPT.sample: cached")
        if self.training and self.gpt.dropout:
            raise RuntimeError("ImageGPT.sample: the model is in training mode; call eval() first")
        images, unknown = start_of(self, n, given, known, self.order)
        per_patch = self.patch**2
        if len(unknown) % per_patch:
            raise ValueError(
                f"ImageGPT.sample: known is {shown(known)}; it must hold whole patches of "
                f"{self.patch} x {self.patch} pixels"
            )
        first_unknown = len(self.patch_order) - len(unknown) // per_patch
        words = self.to_words(images)  # (n, T); those of unknown patches are overwritten
        with no_grad():
            if cached:
                words = self.write_cached(words, first_unknown)
            else:
                words = self.write_uncached(words, first_unknown)
        xp, drawn = array_module(images), self.to_images(words)
        # On a GPU, a given pixel that was not a level is NaN, and stays NaN.
        return Tensor(xp.where(xp.isnan(images), images, drawn))

    def write_cached(self, words: Array, first_unknown: int) -> Array:
        """Draw the words (n, T) from ``first_unknown`` on. The cache holds the past, so each step
        takes one word."""
        last = array_module(words).full(len(words), self.words, np.int64)  # the start symbol
        past: list[Any] = [None] * len(self.gpt.blocks.layers)
        for t in range(len(self.patch_order)):
            scores, past = self.gpt.step(Tensor(last), past)  # (n, V + 1)
            if t >= first_unknown:
                words[:, t] = bare(categorical_sample(scores[:, : self.words]))
            last = words[:, t].copy()
        return words

    def write_uncached(self, words: Array, first_unknown: int) -> Array:
        """The same as ``write_cached``, but each step runs all words so far through the network."""
        for t in range(first_unknown, len(self.patch_order)):
            scores = self.word_logits(words[:, : t + 1])[:, t]  # (n, V)
            words[:, t] = bare(categorical_sample(scores))
        return words

    def to_words(self, images: Array) -> Array:
        """Images (B, 1, H, W) as words (B, T), in the order of the patches. A word is a number; its
        digits in base L are the levels of its pixels, beginning with the first pixel."""
        xp = array_module(images)
        in_order = flat(images)[:, constant(xp, np.array(self.order))]
        digits = in_order.astype(np.int64).reshape(
            (len(images), len(self.patch_order), self.patch**2)
        )
        return (digits * constant(xp, self.place_values())).sum(axis=-1)

    def to_images(self, words: Array) -> Array:
        """The inverse of to_words: (B, T) to (B, 1, H, W), in the dtype of the weights."""
        xp = array_module(words)
        digits = words[..., None] // constant(xp, self.place_values()) % self.levels
        pixels = digits.reshape((len(words), len(self.order)))[
            :, constant(xp, np.argsort(self.order))
        ]
        return pixels.reshape((len(words), 1, *self.shape)).astype(self.gpt.embed.weight.dtype)

    def place_values(self) -> np.ndarray:
        """L^(P² - 1), ..., L, 1: what each digit of a word is worth."""
        return self.levels ** np.arange(self.patch**2 - 1, -1, -1)
