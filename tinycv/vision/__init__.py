"""Chapter 2, vision: the Vision Transformer (ViT), what is inside it, and pretrained weights; style
transfer.

The files, in reading order:

    stem.py      convolutional stem: small convolutions instead of patches (optional)
    vit.py       Vision Transformer: patches, CLS, positions, encoder blocks, class scores
    tubelets.py  videos cut into spacetime patches, and put together again
    convnet.py   a small convolutional network, for comparison
    clip.py      CLIP: images and texts in one space; reranking of samples
    recipe.py    how both are trained on few images
    attributes.py  attribute classifier: several yes-or-no questions about one image
    segment.py   a class for each pixel: a small fully convolutional network, and mean IoU
    inside.py    attention rollout, attention distance, position similarity, deletion
    layouts.py   how timm, torchvision and Hugging Face name and shape the parts of a ViT
    weights.py   loading and saving pretrained ViT weights
    resize.py    bicubic interpolation of the positions, for another image size
    classify.py  a command: python -m tinycv.vision.classify seven.png reads a handwritten digit;
                 with --weights model.safetensors it classifies a photo
    inputs.py    argument checks, which raise the errors of this chapter

Style transfer:

    style.py            Gram matrices, content loss, total variation: pixels that are optimised
    style_filters.py    random filters at several scales, whose responses describe a texture
    vgg.py              VGG-19 features in their place, from a weight file that you have
    adain.py            AdaIN: one forward pass for a style never seen, with a trained decoder

Symbols and names, with their shapes:

    B, C, H, W   number of images, channels, height and width in pixels (images are (B, C, H, W))
    P            side of a patch in pixels
    N            number of patches, (H / P) (W / P); in layouts.py and weights.py, patches and CLS
    D            width of a token
    CLS          the learned token in front of the patches, from which the class is read
    T            number of tokens, N + 1, with CLS first
    L, H         in inside.py: number of blocks, number of heads
    maps         attention weights, one Tensor (B, H, T, T) per block
    K            number of classes; scores are (B, K)
"""

from tinycv.vision.adain import AdaINTransfer, adain_loss
from tinycv.vision.attributes import attribute_probabilities, train_attributes
from tinycv.vision.clip import CLIP, perfect_ranker, rerank
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
from tinycv.vision.segment import (
    Segmenter,
    iou_by_class,
    mean_iou,
    pixel_cross_entropy,
    segment,
)
from tinycv.vision.stem import ConvStem
from tinycv.vision.style import (
    Canvas,
    StyleObjective,
    content_loss,
    gram_matrix,
    luminance,
    match_luminance,
    style_loss,
    total_variation,
)
from tinycv.vision.style_filters import RandomFilters
from tinycv.vision.tubelets import patchify_video, tubelet_grid, unpatchify_video
from tinycv.vision.vgg import VGG19Features
from tinycv.vision.vit import ViT, patchify, unpatchify
from tinycv.vision.weights import load_vit, save_vit

__all__ = [
    "AdaINTransfer",
    "CLIP",
    "Canvas",
    "ConvNet",
    "ConvStem",
    "RandomFilters",
    "Segmenter",
    "StyleObjective",
    "VGG19Features",
    "ViT",
    "accuracy",
    "adain_loss",
    "attention_distance",
    "attention_rollout",
    "attribute_probabilities",
    "cls_attention",
    "content_loss",
    "deletion_curve",
    "enrichment",
    "gram_matrix",
    "iou_by_class",
    "load_vit",
    "luminance",
    "match_luminance",
    "mean_iou",
    "nearness_learned",
    "patch_distance",
    "patch_filters",
    "patch_rollout",
    "patchify",
    "patchify_video",
    "pixel_cross_entropy",
    "perfect_ranker",
    "position_similarity",
    "probabilities",
    "rerank",
    "save_vit",
    "segment",
    "spearman",
    "style_loss",
    "total_variation",
    "train_attributes",
    "train_classifier",
    "tubelet_grid",
    "unpatchify",
    "unpatchify_video",
]
