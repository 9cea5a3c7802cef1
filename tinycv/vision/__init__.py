"""Chapter 2, images read as sentences: vit.py; stem.py, convolutions in place of its patches;
inside.py, what can be seen inside; convnet.py, the other way, to compare.
recipe.py: how both are trained from few images.

weights.py, layouts.py: weights of others, in and out. python -m tinycv.vision.classify photo.jpg:
what is on it?
"""

from tinycv.vision.convnet import ConvNet
from tinycv.vision.inside import (
    attention_distance,
    attention_rollout,
    cls_attention,
    deletion_curve,
    enrichment,
    nearness_learned,
    patch_distance,
    patch_filters,
    patch_rollout,
    position_similarity,
    spearman,
)
from tinycv.vision.recipe import accuracy, probabilities, train_classifier
from tinycv.vision.stem import ConvStem
from tinycv.vision.vit import ViT, patchify, unpatchify
from tinycv.vision.weights import load_vit, save_vit

__all__ = [
    "ConvNet",
    "ConvStem",
    "ViT",
    "accuracy",
    "attention_distance",
    "attention_rollout",
    "cls_attention",
    "deletion_curve",
    "enrichment",
    "load_vit",
    "nearness_learned",
    "patch_distance",
    "patch_filters",
    "patch_rollout",
    "patchify",
    "position_similarity",
    "probabilities",
    "save_vit",
    "spearman",
    "train_classifier",
    "unpatchify",
]
