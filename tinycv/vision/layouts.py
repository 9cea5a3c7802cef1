"""Weight layouts of ViT: how timm, torchvision and Hugging Face name and shape its tensors, as a
table with one row per tensor and one column per library.

    #                   the number of a block, from 0; indented rows belong to a block
    *                   "weight" or "bias"; a bias has the first of the sizes of the weight
    {query,key,value}   three tensors, which are stacked along the first axis in tinycv
    shape               in the library, in letters: D width, C channels, P patch side, N patches and
                        CLS, M hidden width of the MLP, K classes

Two things differ besides the names.  The patch projection of the libraries is a convolution of
stride P, (D, C, P, P); in tinycv it is a Linear of flattened patches, (D, C P P), with the same
numbers in the same order (vit.patchify).  And Hugging Face has separate projections for queries,
keys and values.

Sources of the names: vision_transformer.py in timm, models/vision_transformer.py in torchvision,
models/vit/modeling_vit.py in transformers.   Read next: weights.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase

import numpy as np

TABLE: str = """
tinycv                shape   timm               torchvision                     huggingface
cls_token             1,1,D   cls_token          class_token                     vit.embeddings.cls_token
pos_embed             1,N,D   pos_embed          encoder.pos_embedding           vit.embeddings.position_embeddings
patch_embed.*         D,C,P,P patch_embed.proj.* conv_proj.*                     vit.embeddings.patch_embeddings.projection.*
blocks.#.             -       blocks.#.          encoder.layers.encoder_layer_#. vit.encoder.layer.#.
 norm1.*              D       norm1.*            ln_1.*                          layernorm_before.*
 self_attn.in_proj_*  3D,D    attn.qkv.*         self_attention.in_proj_*        attention.attention.{query,key,value}.*
 self_attn.out_proj.* D,D     attn.proj.*        self_attention.out_proj.*       attention.output.dense.*
 norm2.*              D       norm2.*            ln_2.*                          layernorm_after.*
 linear1.*            M,D     mlp.fc1.*          mlp.0.*                         intermediate.dense.*
 linear2.*            D,M     mlp.fc2.*          mlp.3.*                         output.dense.*
norm.*                D       norm.*             encoder.ln.*                    vit.layernorm.*
head.*                K,D     head.*             heads.head.*                    classifier.*
"""
# Names of torchvision 0.12, which newer versions still read.
OLD_NAMES = {"mlp.linear_1.": "mlp.0.", "mlp.linear_2.": "mlp.3."}

HEADER, *ROWS = TABLE.strip().splitlines()
COLUMNS: Sequence[str] = HEADER.split()
LAYOUTS = list(COLUMNS[2:])
BLOCK = next(line.split() for line in ROWS if "#" in line)


def rows(layout: str, depth: int) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """(name in tinycv, shape in letters, names in the library) of each tensor of a ViT with
    ``depth`` blocks."""
    column = COLUMNS.index(layout)
    for line in ROWS:
        if "#" in line:
            continue
        cells = line.split()
        in_block = line.startswith(" ")
        shape = tuple(cells[1].split(","))
        for number in range(depth) if in_block else [0]:
            prefixes = [cell.replace("#", str(number)) if in_block else "" for cell in BLOCK]
            tinycv_name = prefixes[0] + cells[0]
            library_name = prefixes[column] + cells[column]
            if "*" not in tinycv_name:
                yield tinycv_name, shape, [library_name]
                continue
            for part, part_shape in (("weight", shape), ("bias", shape[:1])):
                library_names = expand_braces(library_name.replace("*", part))
                yield tinycv_name.replace("*", part), part_shape, library_names


def expand_braces(name: str) -> list[str]:
    """ "a.{b,c}.d" to ["a.b.d", "a.c.d"]."""
    before, brace, rest = name.partition("{")
    choices, _, after = rest.partition("}")
    return [before + choice + after for choice in choices.split(",")] if brace else [name]


def amount(text: str, sizes: Mapping[str, int]) -> int | str:
    """The number that a cell such as "3D" means: 3 times the size D. "?" if the size of the letter
    is not known yet."""
    factor = text.rstrip(ascii_uppercase)
    letter = text[len(factor) :]
    if letter and letter not in sizes:
        return "?"
    return int(factor or 1) * (sizes[letter] if letter else 1)


def layout_of(names: Mapping[str, object]) -> str | None:
    """The library in whose layout the names are, recognised by its name for the patch
    projection; None if there is none."""
    for layout in LAYOUTS:
        for tinycv_name, _, library_names in rows(layout, 0):
            if tinycv_name == "patch_embed.weight" and library_names[0] in names:
                return layout
    return None


def depth_of(layout: str, names: Mapping[str, object]) -> int:
    """The number of blocks that occur in the names, at least 1."""
    block = re.escape(BLOCK[COLUMNS.index(layout)]).replace(r"\#", "([0-9]{1,6})")
    matches = [re.match(block, name) for name in names]
    return len({match[1] for match in matches if match}) or 1


def to_tinycv(layout: str, depth: int, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a library, all of which must be there, under the names and in the shapes of
    tinycv."""
    converted = {}
    for name, _, library_names in rows(layout, depth):
        parts = [tensors[library_name] for library_name in library_names]
        tensor = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if name == "patch_embed.weight":
            tensor = tensor.reshape(len(tensor), -1)  # (D, C P P)
        converted[name] = tensor
    return converted


def to_library(
    layout: str, depth: int, tensors: Mapping[str, np.ndarray], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """The tensors of tinycv under the names and in the shapes of a library. sizes: the number that
    each letter means."""
    converted = {}
    for name, shape, library_names in rows(layout, depth):
        tensor = tensors[name].reshape([int(amount(text, sizes)) for text in shape])
        parts = np.split(tensor, len(library_names))
        converted.update(zip(library_names, parts, strict=True))
    return converted
