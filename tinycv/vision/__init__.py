"""Chapter 2, images read as sentences: vit.py."""

from tinycv.vision.vit import ViT, patchify

__all__ = ["ViT", "patchify"]
