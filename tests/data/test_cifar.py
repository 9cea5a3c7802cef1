import numpy as np
import pytest

from tinycv.data import cifar_folder

RNG = np.random.default_rng(0)
TEN = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]


def write(path, labels, pixels):
    """Records in the documented format: the labels, then 1024 bytes each of red, green and blue."""
    path.write_bytes(
        b"".join(
            bytes(label) + image.tobytes() for label, image in zip(labels, pixels, strict=True)
        )
    )


@pytest.fixture
def ten(tmp_path):
    pixels = RNG.integers(0, 256, (6, 4, 3, 32, 32), dtype=np.uint8)
    for i, name in enumerate(TEN):
        write(tmp_path / name, [[i], [9], [0], [5]], pixels[i])
    return tmp_path, pixels


@pytest.fixture
def hundred(tmp_path):
    pixels = RNG.integers(0, 256, (2, 3, 3, 32, 32), dtype=np.uint8)
    write(tmp_path / "train.bin", [[19, 99], [0, 7], [5, 50]], pixels[0])
    write(tmp_path / "test.bin", [[1, 2], [3, 4], [0, 0]], pixels[1])
    return tmp_path, pixels


def test_the_batches_of_cifar_10_are_joined_in_order_without_the_test_batch(ten):
    folder, pixels = ten
    train_x, train_y, test_x, test_y = cifar_folder(str(folder))
    assert (train_x.shape, train_x.dtype, train_y.dtype) == ((20, 3, 32, 32), "f4", "i8")
    np.testing.assert_array_equal(train_x, pixels[:5].reshape(20, 3, 32, 32) / np.float32(255))
    np.testing.assert_array_equal(test_x, pixels[5] / np.float32(255))
    assert train_y.reshape(5, 4).tolist() == [
        [i, 9, 0, 5] for i in range(5)
    ] and test_y.tolist() == [5, 9, 0, 5]


def test_the_labels_of_cifar_100_are_the_fine_ones(hundred):
    folder, pixels = hundred
    train_x, train_y, test_x, test_y = cifar_folder(folder)
    np.testing.assert_array_equal(train_x, pixels[0] / np.float32(255))
    np.testing.assert_array_equal(test_x, pixels[1] / np.float32(255))
    assert train_y.tolist() == [99, 7, 50] and test_y.tolist() == [2, 4, 0]


def test_missing_files_are_named(ten):
    folder, _ = ten
    (folder / TEN[2]).unlink()
    (folder / TEN[5]).unlink()
    with pytest.raises(
        FileNotFoundError,
        match="no data_batch_3.bin, test_batch.bin there; name the folder of the binary",
    ):
        cifar_folder(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no data_batch_1.bin"):
        cifar_folder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "names", [["data_batch_1", "test_batch", "batches.meta"], ["train", "test", "meta"]]
)
def test_the_python_version_is_refused_and_the_binary_version_is_named(names, tmp_path):
    for name in names:
        (tmp_path / name).write_bytes(b"\x80\x02}.")
    with pytest.raises(
        ValueError, match=r"Python version, whose pickles could run code .*cifar-10-batches-bin"
    ):
        cifar_folder(tmp_path)


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b""]
)
def test_a_file_with_an_incomplete_record_is_refused_by_name(change, ten):
    folder, _ = ten
    path = folder / TEN[3]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(
        ValueError,
        match=r"data_batch_4.bin: cut short or another file: .* of 3073-byte rows; fetch",
    ):
        cifar_folder(folder)


def test_a_label_without_a_class_is_refused(ten):
    folder, pixels = ten
    write(folder / TEN[1], [[10]] * 4, pixels[0])
    with pytest.raises(ValueError, match="damaged, or not CIFAR-10: a label is 10"):
        cifar_folder(folder)
