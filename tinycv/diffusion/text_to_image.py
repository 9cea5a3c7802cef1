"""Text to image by diffusion (DALL-E 2, Imagen, Stable Diffusion): draws what a prompt describes,
and edits or inpaints pictures by a prompt.

    loss      E |F(c_in x, c_noise, text) - target|²,  one text in ten replaced by "no text"
    sample    from noise to σ = 0 along D̃(x, σ, text) = (1 + w) D(x, σ, text) - w D(x, σ)
    inpaint   the same, and the known pixels are put back at every σ                   (inpaint.py)
    edit      the same, but from the old picture with noise σ_0 instead of pure noise
                                                                      Meng et al. 2022 ("SDEdit")

The parts have files of their own: the tokenizer (data/tokenizer.py), the text encoder
(sequence/text_encoder.py), the network that reads its tokens (cross_attention.py), EDM (edm.py) and
classifier-free guidance (guidance.py).  ``TextToImage`` holds them together.

F is the network with its scaled input and target, and D the picture that it predicts in x, all as
in edm.py; w is the strength of guidance.

The noise levels of training.  ln σ ~ N(0.3, 1.5²), where EDM has N(-1.2, 1.2²) for photographs.  In
these drawings a few large areas of one colour carry the meaning.  They remain visible under strong
noise, so the place and colour of a thing are decided at noise levels that EDM's default rarely
trains.  (Chen 2023 and Hoogeboom et al. 2023 find for the same reason that larger images need more
noise.)

The background.  D = c_skip x + c_out F shrinks x towards 0 (edm.py).  If most pixels are black, and
black is -1, then F has to restore them, by an amount that differs at every σ.  So the network gets
x - centre, where centre is the black of the background: then F only has to add the things.  EDM
adds noise without scaling the picture, so this shift is exact: D(x) = centre + D'(x - centre),
where D' is the denoiser of the shifted pictures.

σ_0 sets how far an edit goes.  Little noise keeps the picture and can change only details; strong
noise leaves only the prompt.

differs: Imagen and DALL-E 2 enlarge a small picture by further diffusion models, and Stable
Diffusion works on the codes of a VAE (latent.py).  Here the pictures are small, and the network
predicts their pixels directly.

Read first: edm.py, guidance.py, cross_attention.py.   Demo: demos/24_text_to_image.py.
Shapes: B pictures (B, C, H, W) with pixels from -1 to 1; texts: B strings, or ids (B, T).
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from functools import partial
from typing import Protocol

import numpy as np

from tinycv.data.text import PAD
from tinycv.diffusion.cross_attention import TextDenoiser
from tinycv.diffusion.denoising import clipped
from tinycv.diffusion.edm import (
    EDM,
    edm_denoiser,
    edm_loss,
    heun_step,
    noise_levels,
    preconditioning,
)
from tinycv.diffusion.guidance import guided, without_some
from tinycv.diffusion.inpaint import inpainting
from tinycv.diffusion.samplers import Step, ddim_step, sample
from tinycv.diffusion.schedule import Times, made_for
from tinycv.diffusion.tweedie import Denoiser
from tinycv.engine import ops
from tinycv.engine.arguments import choice, number, number_kind, shown, size
from tinycv.engine.create import randn_like
from tinycv.engine.tensor import Tensor
from tinycv.nn.inputs import Examples, finite
from tinycv.nn.module import Module
from tinycv.sequence.inputs import Ids, check_ids

Texts = str | Sequence[str] | Ids
SAMPLERS = "heun", "ddim"


class Tokenizer(Protocol):
    """What TextToImage needs of a tokenizer; data/tokenizer.py has one."""

    def encode(self, texts: list[str], length: int) -> np.ndarray: ...


class TextToImage(Module):
    """A network that reads prompts, with the tokenizer of its prompts.

    network: TextDiT or TextUNet. centre: the pixel value that the network gets as 0, such as -1 for
    drawings on black. sigma_data: the root mean square of pixel - centre; pixels go from -1 to 1.
    mean, std: of ln σ in training. sigma_min, sigma_max: the noise levels of sampling.
    The state_dict holds weights alone: keep the words of the tokenizer, in their order, beside it.

        tokenizer = WordTokenizer(["a", "red", "blue", "circle"])
        network = TextDiT(16, 4, 3, len(tokenizer), 6)  # 16 x 16 pixels in 3 channels, 6 words
        model = TextToImage(network, tokenizer)
        images = tinycv.rand(2, 3, 16, 16) * 2 - 1  # your pictures, with pixels from -1 to 1
        loss = model.loss(images, ["a red circle", "a blue circle"])
        loss.backward()
        pictures = model.sample("a red circle", tinycv.randn(1, 3, 16, 16))  # (1, 3, 16, 16)
    """

    def __init__(
        self,
        network: TextDenoiser,
        tokenizer: Tokenizer,
        sigma_data: float = 0.5,
        mean: float = 0.3,
        std: float = 1.5,
        sigma_min: float = 0.02,
        sigma_max: float = 80.0,
        centre: float = 0.0,
    ):
        if not isinstance(network, TextDenoiser):
            raise TypeError(
                f"TextToImage: network is {shown(network)}; it must be a TextDiT or a TextUNet"
            )
        if not callable(getattr(tokenizer, "encode", None)):
            raise TypeError(
                f"TextToImage: tokenizer is {shown(tokenizer)}; it must have a method encode("
                "texts, length), as a WordTokenizer"
            )
        if isinstance(tokenizer, Sized) and len(tokenizer) != network.words:
            raise ValueError(
                f"TextToImage: tokenizer has {len(tokenizer)} numbers and network {network.words}; "
                "build the network with words=len(tokenizer)"
            )
        self.network, self.tokenizer = network, tokenizer
        self.sigma_data = finite(sigma_data, "TextToImage: sigma_data", above=0)
        self.mean, self.std = (
            finite(mean, "TextToImage: mean"),
            finite(std, "TextToImage: std", low=0),
        )
        self.schedule = EDM(sigma_min, sigma_max)
        self.centre = finite(centre, "TextToImage: centre", low=-1, high=1)

    def ids_of(self, texts: Texts) -> Tensor:
        """The word numbers of one prompt or of a list of prompts, (B, T), on the device of the
        network. Ids (B, T) are returned as they are. The tokenizer refuses words that it does not
        know."""
        return self._ids(texts, "TextToImage.ids_of")

    def loss(self, images: Examples, texts: Texts, drop: float = 0.1) -> Tensor:
        """EDM's loss on images (B, C, H, W), with pixels from -1 to 1, and their texts: B strings,
        or ids (B, T). A share ``drop`` of the texts is replaced by "no text", which guidance
        needs."""
        ids = self._checked(texts, images, "TextToImage.loss", "images")
        centred = images - self.centre
        dropped = without_some(ids, PAD, number(drop, "TextToImage.loss: drop", 0, 1))
        return edm_loss(
            self.network, centred, dropped, sigma_data=self.sigma_data, mean=self.mean, std=self.std
        )

    def denoiser(self, texts: Texts, w: float = 2.0) -> Denoiser:
        """D̃(x, σ), the guided prediction of the picture in x for these texts, clipped to -1 ... 1.
        w: the strength of guidance."""
        ids, w = self._ids(texts, "TextToImage.denoiser"), finite(w, "TextToImage.denoiser: w")
        denoise_centred = edm_denoiser(self.network, self.sigma_data)

        def denoise(x: Examples, sigma: Times, ids: Ids) -> Examples:
            return self.centre + denoise_centred(x - self.centre, sigma, ids)

        guided_denoise = guided(made_for(denoise, self.schedule), ids, PAD, w)
        return clipped(guided_denoise, -1.0, 1.0)

    def step(self, texts: Texts, w: float = 2.0, sampler: str = "heun") -> Step:
        """One step of a sampler, "heun" or "ddim", for ``samplers.sample`` or ``trajectory``."""
        choice(sampler, "TextToImage.step: sampler", SAMPLERS)
        denoise = self.denoiser(texts, w)
        if sampler == "heun":
            return partial(heun_step, denoise)
        return partial(ddim_step, denoise, self.schedule)

    def sample(
        self,
        texts: Texts,
        noise: Examples,
        w: float = 2.0,
        steps: int = 20,
        sampler: str = "heun",
    ) -> Examples:
        """One picture per text: (B, C, H, W). noise: the start, from N(0, I), in this shape."""
        who = "TextToImage.sample"
        ids = self._checked(texts, noise, who, "noise")
        w, steps = finite(w, f"{who}: w"), size(steps, f"{who}: steps", 2)
        choice(sampler, f"{who}: sampler", SAMPLERS)
        start = self.centre + self.schedule.last * noise
        return sample(self.step(ids, w, sampler), start, self.schedule.times(steps))

    def inpaint(
        self,
        texts: Texts,
        images: Examples,
        known: Examples,
        w: float = 2.0,
        steps: int = 20,
        repeats: int = 3,
    ) -> Examples:
        """Pictures (B, C, H, W) that equal ``images`` where ``known`` (bool, of the same shape) is
        True; the rest is painted so that the whole fits its text. repeats: of each step, as in
        inpaint.py."""
        who = "TextToImage.inpaint"
        ids = self._checked(texts, images, who, "images")
        if number_kind(known) != "b" or tuple(known.shape) != tuple(images.shape):
            raise (ValueError if number_kind(known) == "b" else TypeError)(
                f"{who}: known is {shown(known)}; it must be bools in the shape of images, "
                f"{tuple(images.shape)}, True where the picture is known"
            )
        w, steps = finite(w, f"{who}: w"), size(steps, f"{who}: steps", 2)
        repeats = size(repeats, f"{who}: repeats", 1)
        step = inpainting(self.step(ids, w, "ddim"), self.schedule, images, known, repeats)
        start = self.centre + self.schedule.last * randn_like(Tensor(images))
        return sample(step, start, self.schedule.times(steps))

    def edit(
        self,
        texts: Texts,
        images: Examples,
        sigma: float,
        w: float = 2.0,
        steps: int = 20,
        sampler: str = "heun",
    ) -> Examples:
        """The pictures ``images`` (B, C, H, W), changed towards their texts: noise of level
        ``sigma`` is added, and sampling starts there (SDEdit)."""
        who = "TextToImage.edit"
        ids = self._checked(texts, images, who, "images")
        sigma = finite(sigma, f"{who}: sigma", above=self.schedule.sigma_min)
        w, steps = finite(w, f"{who}: w"), size(steps, f"{who}: steps", 2)
        choice(sampler, f"{who}: sampler", SAMPLERS)
        start = self.schedule.perturb(images, sigma, randn_like(Tensor(images)))
        times = EDM(self.schedule.sigma_min, sigma, self.schedule.rho).times(steps)
        return sample(self.step(ids, w, sampler), start, times)

    def attention_maps(self, texts: Texts, x: Examples, sigma: Times) -> list[Tensor]:
        """How much each place of the noised pictures x (B, C, H, W) attends to each word: one
        (B, heads, N, T) for each cross-attention of the network. sigma: the noise level of x."""
        ids = self._checked(texts, x, "TextToImage.attention_maps", "x")
        level, column = noise_levels(sigma, x, "TextToImage.attention_maps")
        _, _, c_in = preconditioning(column, self.sigma_data)
        c_noise = ops.log(Tensor(level)) / 4
        return self.network.attention_maps(c_in * (x - self.centre), c_noise, ids)

    def _ids(self, texts: Texts, who: str) -> Tensor:
        """``ids_of``, for the function ``who``, which an error names."""
        device = next(self.network.parameters()).device
        if isinstance(texts, (str, list, tuple)):
            rows = [texts] if isinstance(texts, str) else list(texts)
            return Tensor(self.tokenizer.encode(rows, self.network.length), device=device)
        check_ids(texts, f"{who}: texts")
        ids = texts if isinstance(texts, Tensor) else Tensor(texts, device=device)
        if ids.shape[1] > self.network.length:
            raise ValueError(
                f"{who}: texts has shape {tuple(ids.shape)}; a text of this network has at most "
                f"{self.network.length} words"
            )
        return ids

    def _checked(self, texts: Texts, images: Examples, who: str, name: str) -> Tensor:
        """The ids of the texts, if there is one text for each of ``images`` (B, C, H, W), and the
        network takes images of this shape. who, name: the function and argument of an error."""
        ids = self._ids(texts, who)
        self.network.check_images(images, f"{who}: {name}")
        if len(ids) != len(images):
            raise ValueError(
                f"{who}: there are {len(ids)} texts, but {name} has shape {tuple(images.shape)}; "
                f"there must be one text for each of {name}"
            )
        return ids
