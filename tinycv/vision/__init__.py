"""Chapter 2, images read as sentences: vit.py; convnet.py, the other way, for comparison."""

from tinycv.vision.convnet import ConvNet
from tinycv.vision.vit import ViT, patchify

__all__ = ["ConvNet", "ViT", "patchify"]
