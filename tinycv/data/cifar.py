"""CIFAR-10 and CIFAR-100, read from your own copy of the binary version.

    CIFAR-10     data_batch_1.bin ... data_batch_5.bin, test_batch.bin
                 each record: 1 byte of label, 3072 bytes of image
    CIFAR-100    train.bin, test.bin
                 each record: 1 byte of coarse label, 1 byte of fine label, 3072 bytes of image

An image is 3 x 32 x 32: the red channel, then green, then blue, each row by row.
Download and format: https://www.cs.toronto.edu/~kriz/cifar.html
Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from pathlib import Path

import numpy as np

from tinycv.data import inputs

IMAGE = 3 * 32 * 32
TRAIN, TEST = [f"data_batch_{i}.bin" for i in range(1, 6)], ["test_batch.bin"]
# number of classes -> (training files, test files, bytes of label per record)
KINDS = {10: (TRAIN, TEST, 1), 100: (["train.bin"], ["test.bin"], 2)}
MOST_ROWS = 50_000  # records in the largest file, train.bin of CIFAR-100
PICKLED = ("data_batch_1", "test_batch", "batches.meta", "train", "test", "meta")
HINT = "name the folder of the binary version (cifar-10-batches-bin, cifar-100-binary), unpacked"


def cifar_folder(folder: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """train_x, train_y, test_x, test_y from a folder with the files of CIFAR-10 or CIFAR-100; the
    file names tell which.

    Images (N, 3, 32, 32) float32 in [0, 1], labels (N,) int64: 10 classes, or the 100 fine classes.
    FileNotFoundError for missing files; ValueError for the pickles of the Python version and for
    damaged files.
    """
    folder = inputs.path(folder, "cifar_folder: folder")
    if folder.is_file():
        raise FileNotFoundError(f"cifar_folder: {folder}: this is a file, not a folder; {HINT}")
    classes = 100 if (folder / "train.bin").exists() or (folder / "test.bin").exists() else 10
    train, test, label_bytes = KINDS[classes]
    missing = [name for name in train + test if not (folder / name).is_file()]
    if missing and any((folder / name).is_file() for name in PICKLED):
        raise ValueError(
            f"cifar_folder: {folder}: this is CIFAR's Python version, whose pickles could run code "
            f"when loaded; {HINT}"
        )
    if missing:
        raise FileNotFoundError(f"cifar_folder: {folder}: no {', '.join(missing)} there; {HINT}")
    return *_read(folder, train, label_bytes, classes), *_read(folder, test, label_bytes, classes)


def _read(
    folder: Path, names: list[str], label_bytes: int, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) float32, 0 to 1, and labels (N,) from all of these files; ValueError
    for a label that is too large."""
    # (N, label_bytes + 3072)
    rows = np.concatenate([_rows(folder / name, label_bytes) for name in names])
    # of the two labels in CIFAR-100, the second is the fine one
    labels = rows[:, label_bytes - 1].astype(np.int64)
    if labels.max() >= classes:
        raise ValueError(
            f"{folder / names[0]}: damaged, or not CIFAR-{classes}: a label is {labels.max()}; "
            "fetch it again"
        )
    images = rows[:, label_bytes:].reshape(-1, 3, 32, 32)
    return np.divide(images, 255, dtype=np.float32), labels


def _rows(path: Path, label_bytes: int) -> np.ndarray:
    """A file as bytes (N, label_bytes + 3072); ValueError, before anything is read, if its length
    cannot be right."""
    row, length = label_bytes + IMAGE, path.stat().st_size
    if not length or length % row:
        raise ValueError(
            f"{path}: cut short or another file: its {length} bytes are not a whole number "
            f"of {row}-byte rows; fetch it again"
        )
    if length > MOST_ROWS * row:
        raise ValueError(
            f"{path}: another file: its {length} bytes are {length // row} rows, and no file of "
            f"CIFAR has more than {MOST_ROWS}"
        )
    return np.fromfile(path, np.uint8).reshape(-1, row)
