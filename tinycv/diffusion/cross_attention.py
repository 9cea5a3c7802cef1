"""Cross-attention to a prompt, in a DiT and in a U-Net: the denoisers of text-to-image diffusion.

    tokens = TextEncoder(ids)                                one vector per word
    z = z + Attention(Q = W_q LN(z), K = W_k tokens, V = W_v tokens) W_o

                          Rombach et al. 2022 ("Stable Diffusion"): in a U-Net
                          Chen et al. 2023 ("PixArt-α"): in a DiT, between self-attention and MLP

LN is layer norm without parameters.  Each place z of the picture makes a query, which is compared
with the keys of all words; the result is a mean of their values, weighted by the match.  The
weights show where in the picture a word has its effect (``attention_maps``).  Cross-attention takes
prompts of any length, and a place can read "small", "green" and "triangle" in different heads.

There is a second path.  The embedding of the time and the mean of the tokens are added.  Their sum
sets the scales, shifts and gates of a DiT block (adaLN-Zero, dit.py), or is added in every residual
block of the U-Net (unet.py).  So a network also sees the prompt as a whole.  The output projection
of cross-attention starts at 0, so a DiT block still starts as the identity.

differs: PixArt-α shares one modulation among all blocks and gives it the time alone; here each
block has its own, as in DiT, and it takes the prompt as well.  PixArt-α has no norm before
cross-attention.  The U-Net of Stable Diffusion has cross-attention on the way down as well.  The
text encoder is small and is trained together with the network.

Read first: sequence/text_encoder.py, dit.py, unet.py.   Read next: guidance.py, text_to_image.py.
Shapes: B images, C channels, N places (patches or pixels), D width, T words, H heads.
"""

from __future__ import annotations

from tinycv.data.text import PAD
from tinycv.diffusion.dit import modulated, zero_linear
from tinycv.diffusion.embedding import TimeAndLabel, check_time_and_label
from tinycv.diffusion.unet import PixelAttention, ResBlock, channels_of_four, group_norm_of
from tinycv.engine.arguments import sizes
from tinycv.engine.backend import Array, array_module
from tinycv.engine.methods import concatenate, split
from tinycv.engine.tensor import Tensor, bare, no_grad
from tinycv.nn import init
from tinycv.nn.activation import gelu, silu
from tinycv.nn.conv import Conv2d, ConvTranspose2d
from tinycv.nn.inputs import Examples, batch, depth_of, times_in, whole
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.norm import layer_norm
from tinycv.sequence.attention import MultiheadAttention
from tinycv.sequence.inputs import Ids, check_ids, check_tokens
from tinycv.sequence.text_encoder import TextEncoder
from tinycv.vision.vit import patchify, unpatchify


class CrossAttention(Module):
    """Cross-attention from places z (B, N, D) to the tokens of a prompt (B, T, D). Its output
    starts as 0."""

    def __init__(self, dim: int, heads: int):
        dim, heads = whole("CrossAttention", 1, dim=dim, heads=heads)
        self.attention = MultiheadAttention(dim, heads)
        self.attention.out_proj = zero_linear(dim, dim)

    def forward(
        self, z: Tensor, tokens: Tensor, mask: Array, maps: list[Tensor] | None = None
    ) -> Tensor:
        """mask (B, 1, 1, T), as TextEncoder.mask_of returns it. Returns (B, N, D). If ``maps`` is a
        list, the weights (B, H, N, T) are appended to it."""
        check_tokens("CrossAttention", z=z, tokens=tokens)
        query = layer_norm(z, eps=1e-6)
        if maps is not None:
            maps.append(self.attention.weights(query, tokens, mask))
        return self.attention(query, tokens, tokens, mask)


class TextDiTBlock(Module):
    """A DiT block with cross-attention between self-attention and MLP."""

    def __init__(self, dim: int, heads: int):
        dim, heads = whole("TextDiTBlock", 1, dim=dim, heads=heads)
        self.modulation = zero_linear(dim, 6 * dim)
        self.attention = MultiheadAttention(dim, heads)
        self.cross = CrossAttention(dim, heads)
        self.linear1, self.linear2 = Linear(dim, 4 * dim), Linear(4 * dim, dim)

    def forward(
        self,
        z: Tensor,
        e: Tensor,
        tokens: Tensor,
        mask: Array,
        maps: list[Tensor] | None = None,
    ) -> Tensor:
        """z (B, N, D); e (B, D), the embedding of time and prompt after its SiLU; tokens (B, T, D)
        and mask (B, 1, 1, T). Returns (B, N, D)."""
        modulation = self.modulation(e)[:, None]  # (B, 1, 6 D)
        shift1, scale1, gate1, shift2, scale2, gate2 = split(modulation, 6, axis=-1)
        z = z + gate1 * self.attention(modulated(z, shift1, scale1))
        z = z + self.cross(z, tokens, mask, maps)
        return z + gate2 * self.linear2(gelu(self.linear1(modulated(z, shift2, scale2)), "tanh"))


# EDM's time, ln σ / 4, stays within ±1.6. The sines of the embedding separate times that differ by
# about 1, so times are multiplied by this number first. Without it, training is slower.
TIME_SCALE = 20.0


class TimeAndText(Module):
    """Embeds the times (B,) and the prompts (B, T).

    Returns the tokens (B, T, D), their mask (B, 1, 1, T), and (B, E): the embedding of the time
    plus the mean of the tokens, mapped to E numbers.
    """

    def __init__(
        self, words: int, length: int, dim: int, embed_dim: int, heads: int, text_depth: int
    ):
        self.text = TextEncoder(words, length, dim, heads, text_depth)
        self.time = TimeAndLabel(embed_dim)
        self.prompt = Linear(dim, embed_dim)

    def forward(self, t: Examples, ids: Ids) -> tuple[Tensor, Array, Tensor]:
        tokens, mask = self.text(ids), self.text.mask_of(ids)
        if times_in(t, "TimeAndText: t").shape != (len(tokens),):
            raise ValueError(
                f"TimeAndText: t has shape {tuple(t.shape)} and ids {tuple(ids.shape)}; there must "
                "be one time per text"
            )
        time = self.time(TIME_SCALE * t)
        return tokens, mask, time + self.prompt(self.text.pooled(tokens, ids))


class TextDenoiser(Module):
    """The base class of TextDiT and TextUNet, which take images (B, C, H, W), times (B,) and
    prompts (B, T)."""

    channels: int
    embed: TimeAndText

    @property
    def length(self) -> int:
        """How many words a prompt may have."""
        return self.embed.text.length

    @property
    def words(self) -> int:
        """How many word numbers there are."""
        return self.embed.text.words

    def forward(self, x: Examples, t: Examples, ids: Ids | None = None) -> Tensor:
        """x (B, C, H, W), t (B,), ids (B, T) or None for "no text". Returns (B, C, H, W)."""
        return self.run(x, t, ids)

    def attention_maps(self, x: Examples, t: Examples, ids: Ids | None = None) -> list[Tensor]:
        """The weights of each cross-attention, (B, H, N, T) each: how much each place reads each
        word. They sum to 1 over the words, and are 0 at PAD."""
        maps: list[Tensor] = []
        with no_grad():
            self.run(x, t, ids, maps)
        return maps

    def run(
        self, x: Examples, t: Examples, ids: Ids | None, maps: list[Tensor] | None = None
    ) -> Tensor:
        raise NotImplementedError

    def check_images(self, x: Examples, what: str) -> None:
        """Raises unless x is a batch of images (B, C, H, W) with the channels of this network.
        what: the argument that an error names. TextDiT and TextUNet also check the sides."""
        if batch(x, what, 4).shape[1] != self.channels:
            raise ValueError(
                f"{what} has shape {tuple(x.shape)}; this network takes images with "
                f"{self.channels} channels"
            )

    def embedded(self, x: Examples, t: Examples, ids: Ids | None) -> tuple[Tensor, Array, Tensor]:
        """What TimeAndText returns, after checks of x, t and ids; the embedding after its SiLU."""
        name = type(self).__name__
        self.check_images(x, f"{name}: x")
        check_time_and_label(name, x, t, None, 0)
        texts = array_module(bare(x)).full((len(x), 1), PAD) if ids is None else ids
        check_ids(texts, f"{name}: ids")
        if len(texts) != len(x):
            raise ValueError(
                f"{name}: x has shape {tuple(x.shape)} and ids {tuple(texts.shape)}; there must be "
                "one text per image"
            )
        tokens, mask, e = self.embed(t, texts)
        return tokens, mask, silu(e)


class TextDiT(TextDenoiser):
    """A DiT that reads a prompt: predicts ε, x_0, v or EDM's F from noised images (B, C, H, W),
    their times (B,) and prompts (B, T).

    image_size, patch_size: side lengths in pixels. words, length: of the prompts, as in
    TextEncoder. dim: the width D of a patch and of a word. depth: the number of blocks. text_depth:
    the number of blocks of the text encoder.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        channels: int,
        words: int,
        length: int,
        dim: int = 96,
        depth: int = 4,
        heads: int = 4,
        text_depth: int = 1,
    ):
        image_size, patch_size, channels, dim, heads = whole(
            "TextDiT",
            1,
            image_size=image_size,
            patch_size=patch_size,
            channels=channels,
            dim=dim,
            heads=heads,
        )
        depth = depth_of(depth, "TextDiT", 1)
        if image_size % patch_size:
            raise ValueError(
                f"TextDiT: image_size {image_size} does not divide into patches of patch_size "
                f"{patch_size}"
            )
        self.channels, self.image_size, self.patch_size = channels, image_size, patch_size
        patch = channels * patch_size**2
        self.embed = TimeAndText(words, length, dim, dim, heads, text_depth)
        self.patch_embed = Linear(patch, dim)
        # As large as the embedded patches (ViT and GPT start at 0.02): at high noise a patch is
        # almost pure noise, in which smaller positions would drown.
        self.pos_embed = init.normal((1, (image_size // patch_size) ** 2, dim), std=0.5)
        self.blocks = [TextDiTBlock(dim, heads) for _ in range(depth)]
        self.modulation = zero_linear(dim, 2 * dim)
        self.head = zero_linear(dim, patch)

    def check_images(self, x: Examples, what: str) -> None:
        super().check_images(x, what)
        if tuple(x.shape[2:]) != (self.image_size, self.image_size):
            raise ValueError(
                f"{what} has shape {tuple(x.shape)}; this network takes images of "
                f"{self.image_size} x {self.image_size} pixels"
            )

    def run(
        self, x: Examples, t: Examples, ids: Ids | None, maps: list[Tensor] | None = None
    ) -> Tensor:
        tokens, mask, e = self.embedded(x, t, ids)
        z = self.patch_embed(patchify(x, self.patch_size)) + self.pos_embed  # (B, N, D)
        for block in self.blocks:
            z = block(z, e, tokens, mask, maps)
        shift, scale = split(self.modulation(e)[:, None], 2, axis=-1)
        return unpatchify(self.head(modulated(z, shift, scale)), self.patch_size, x.shape)


class PixelCrossAttention(Module):
    """Cross-attention of all pixels (B, C, H, W) to the tokens (B, T, D) of a prompt. It starts as
    the identity."""

    def __init__(self, channels: int, dim: int, heads: int):
        channels = channels_of_four(channels, "PixelCrossAttention: channels")
        dim, heads = whole("PixelCrossAttention", 1, dim=dim, heads=heads)
        self.project = Linear(dim, channels)
        self.cross = CrossAttention(channels, heads)

    def forward(
        self, x: Tensor, tokens: Tensor, mask: Array, maps: list[Tensor] | None = None
    ) -> Tensor:
        """x (B, C, H, W), tokens (B, T, D), mask (B, 1, 1, T). Returns (B, C, H, W)."""
        b, c, h, w = batch(x, "PixelCrossAttention: x", 4).shape
        pixels = x.reshape((b, c, h * w)).swapaxes(1, 2)  # (B, H W, C)
        read = self.cross(pixels, self.project(tokens), mask, maps)
        return x + read.swapaxes(1, 2).reshape(x.shape)


class TextUNet(TextDenoiser):
    """A U-Net (unet.py) that reads a prompt. Cross-attention from all pixels to the words follows
    the attention in the middle and each block on the way up.

    widths: the channels at each level, multiples of 4 and of heads. The image is cut into patches
    of patch_size and halved between levels. dim: the width D of a word. words, length, text_depth:
    as in TextDiT.
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        words: int,
        length: int,
        patch_size: int = 2,
        dim: int = 64,
        heads: int = 4,
        text_depth: int = 1,
        embed_dim: int = 128,
    ):
        channels, patch_size, dim, heads, embed_dim = whole(
            "TextUNet",
            1,
            channels=channels,
            patch_size=patch_size,
            dim=dim,
            heads=heads,
            embed_dim=embed_dim,
        )
        widths = tuple(
            channels_of_four(width, "TextUNet: widths")
            for width in sizes(widths, "TextUNet: widths")
        )
        if not widths or any(width % heads for width in widths):
            raise ValueError(
                f"TextUNet: widths are {widths} and heads {heads}; there must be at least one "
                "width, and each must divide evenly among the heads"
            )
        self.channels = channels
        levels = list(zip(widths, widths[1:], strict=False))  # (above, below)
        self.unit = patch_size * 2 ** len(levels)
        self.embed = TimeAndText(words, length, dim, embed_dim, heads, text_depth)
        self.stem = Conv2d(channels, widths[0], patch_size, stride=patch_size)
        self.down = [ResBlock(width, width, embed_dim) for width in widths]
        self.halve = [Conv2d(above, below, 2, stride=2) for above, below in levels]
        self.middle = [ResBlock(widths[-1], widths[-1], embed_dim) for _ in range(2)]
        self.attention = PixelAttention(widths[-1], heads)
        self.read_middle = PixelCrossAttention(widths[-1], dim, heads)
        self.up = [ResBlock(2 * width, width, embed_dim) for width in widths]
        self.read = [PixelCrossAttention(width, dim, heads) for width in widths]
        self.double = [ConvTranspose2d(below, above, 2, stride=2) for above, below in levels]
        self.norm = group_norm_of(widths[0])
        self.head = ConvTranspose2d(widths[0], channels, patch_size, stride=patch_size)
        self.head.weight = init.zeros(self.head.weight.shape)
        self.head.bias = init.zeros((channels,))

    def check_images(self, x: Examples, what: str) -> None:
        super().check_images(x, what)
        if x.shape[2] % self.unit or x.shape[3] % self.unit:
            raise ValueError(
                f"{what} has shape {tuple(x.shape)}; this network divides both sides by "
                f"{self.unit}, so they must be multiples of {self.unit}"
            )

    def run(
        self, x: Examples, t: Examples, ids: Ids | None, maps: list[Tensor] | None = None
    ) -> Tensor:
        tokens, mask, e = self.embedded(x, t, ids)
        x = self.down[0](self.stem(x), e)  # (B, widths[0], H / patch, W / patch)
        skips = [x]  # one per level, from the highest resolution to the lowest
        for halve, block in zip(self.halve, self.down[1:], strict=True):
            x = block(halve(x), e)
            skips.append(x)
        x = self.attention(self.middle[0](x, e))
        x = self.middle[1](self.read_middle(x, tokens, mask, maps), e)
        for level in reversed(range(len(self.up))):
            x = self.up[level](concatenate([x, skips.pop()], axis=1), e)
            x = self.read[level](x, tokens, mask, maps)
            if level:
                x = self.double[level - 1](x)
        return self.head(silu(self.norm(x)))
