"""What others call the parts of a ViT: a row a part, a column a library.

    #                   the number of a block, from 0; indented rows are within a block
    *                   "weight", and "bias", whose shape is the first of the weight's sizes
    {query,key,value}   three tensors, which lie one under the other in ours
    shape               of theirs, in letters: D width, C channels, P patch side, N patches and CLS,
                        M middle of the MLP, K classes

Two things change besides names.  Their patch projection is a convolution of stride P, (D, C, P, P),
ours a Linear of flattened patches, (D, C P P): the same numbers in the same order (vit.patchify).
And Hugging Face keeps the projections to queries, keys and values apart.

Names: timm's vision_transformer.py, torchvision's models/vision_transformer.py, transformers'
models/vit/modeling_vit.py. Read next: weights.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase

import numpy as np

TABLE: str = """
ours                  shape   timm               torchvision                     huggingface
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
# torchvision 0.12's names, which it still reads
OLDER = {"mlp.linear_1.": "mlp.0.", "mlp.linear_2.": "mlp.3."}

HEADER, *ROWS = TABLE.strip().splitlines()
COLUMNS: Sequence[str] = HEADER.split()
LAYOUTS = list(COLUMNS[2:])
BLOCK = next(line.split() for line in ROWS if "#" in line)


def rows(layout: str, depth: int) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """(our name, shape in letters, their names) of each tensor of a ViT with so many blocks."""
    column = COLUMNS.index(layout)
    for line in ROWS:
        if "#" in line:
            continue
        cells = line.split()
        inside, shape = line.startswith(" "), tuple(cells[1].split(","))
        for number in range(depth) if inside else [0]:
            before = [cell.replace("#", str(number)) if inside else "" for cell in BLOCK]
            ours, theirs = before[0] + cells[0], before[column] + cells[column]
            if "*" not in ours:
                yield ours, shape, [theirs]
            else:
                for part, size in (("weight", shape), ("bias", shape[:1])):
                    yield ours.replace("*", part), size, apart(theirs.replace("*", part))


def apart(name: str) -> list[str]:
    """ "a.{b,c}.d" to ["a.b.d", "a.c.d"]."""
    before, brace, rest = name.partition("{")
    choices, _, after = rest.partition("}")
    return [before + choice + after for choice in choices.split(",")] if brace else [name]


def amount(text: str, sizes: Mapping[str, int]) -> int | str:
    """ "3D" to 3 times what D is; "?" where nothing has told yet."""
    times = text.rstrip(ascii_uppercase)
    letter = text[len(times) :]
    if letter and letter not in sizes:
        return "?"
    return int(times or 1) * (sizes[letter] if letter else 1)


def layout_of(names: Mapping[str, object]) -> str | None:
    """The library whose name for the patch projection is there."""
    for layout in LAYOUTS:
        patches = next(
            theirs for ours, _, (theirs, *_) in rows(layout, 0) if ours == "patch_embed.weight"
        )
        if patches in names:
            return layout
    return None


def depth_of(layout: str, names: Mapping[str, object]) -> int:
    """How many blocks the names speak of, at least 1."""
    block = re.escape(BLOCK[COLUMNS.index(layout)]).replace(r"\#", "([0-9]{1,6})")
    return len({found[1] for name in names if (found := re.match(block, name))}) or 1


def to_ours(layout: str, depth: int, theirs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Their tensors, all of which must be there, under our names and in our shapes."""
    ours = {}
    for name, _, parts in rows(layout, depth):
        whole = (
            theirs[parts[0]]
            if len(parts) == 1
            else np.concatenate([theirs[part] for part in parts])
        )
        # (D, C P P)
        ours[name] = whole.reshape(len(whole), -1) if name == "patch_embed.weight" else whole
    return ours


def to_theirs(
    layout: str, depth: int, ours: Mapping[str, np.ndarray], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Our tensors under their names and in their shapes. sizes: what each letter stands for."""
    theirs = {}
    for name, shape, parts in rows(layout, depth):
        whole = ours[name].reshape([int(amount(text, sizes)) for text in shape])
        theirs.update(zip(parts, np.split(whole, len(parts)), strict=True))
    return theirs
