from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinycv.data import DataLoader, DrawnLoader, random_affine
from tinycv.data.loader import parts


def noisy(x, rng):
    return x + rng.random(x.shape)


def bits(batches):
    return [tuple(array.tobytes() for array in batch) for batch in batches]


def seen(batches):
    return [int(sample) for batch in batches for sample in batch[0]]


@given(
    samples=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 2**64),
    epoch=st.integers(0, 9),
)
def test_every_sample_comes_exactly_once_per_epoch(samples, batch_size, seed, epoch):
    loader = DataLoader(np.arange(samples), batch_size=batch_size, seed=seed)
    batches = list(loader.epoch(epoch))
    assert sorted(seen(batches)) == list(range(samples))
    assert len(batches) == len(loader)


@given(samples=st.integers(1, 40), batch_size=st.integers(1, 40))
def test_drop_last_leaves_only_whole_batches(samples, batch_size):
    if batch_size > samples:
        return
    loader = DataLoader(np.arange(samples), batch_size=batch_size, drop_last=True)
    batches = list(loader)
    assert len(batches) == len(loader) == samples // batch_size
    assert all(len(x) == batch_size for (x,) in batches)


@given(start=st.integers(0, 7), epoch=st.integers(0, 5))
def test_training_resumes_in_mid_epoch_with_the_same_bits(start, epoch):
    x = np.random.default_rng(0).random((50, 1, 6, 6), np.float32)
    make = partial(DataLoader, x, np.arange(50), batch_size=8, seed=7, transform=random_affine)
    first, restarted = make(), make()
    assert bits(restarted.epoch(epoch, start)) == bits(first.epoch(epoch))[start:]


def test_iterating_gives_one_epoch_after_another():
    loader = DataLoader(np.arange(10), batch_size=3, transform=noisy)
    assert [bits(loader) for _ in range(3)] == [bits(loader.epoch(number)) for number in range(3)]


def test_leaving_an_epoch_early_does_not_repeat_it():
    loader = DataLoader(np.arange(10), batch_size=3)
    for _ in loader:
        break
    assert bits(loader) == bits(loader.epoch(1))


def test_epoch_does_not_change_which_epoch_comes_next():
    loader = DataLoader(np.arange(10), batch_size=3)
    list(loader.epoch(5))
    assert bits(loader) == bits(loader.epoch(0))


def test_epochs_and_seeds_differ_in_their_order():
    orders = [
        seen(DataLoader(np.arange(30), batch_size=9, seed=seed).epoch(epoch))
        for seed in range(3)
        for epoch in range(3)
    ]
    assert len({tuple(order) for order in orders}) == 9


def test_no_two_random_streams_of_a_training_are_the_same():
    drawn = []
    for seed in range(3):
        loader = DataLoader(np.zeros((6, 1)), batch_size=2, seed=seed, transform=noisy)
        drawn += [bits([batch]) for epoch in range(3) for batch in loader.epoch(epoch)]
        # the shuffles' own
        drawn += [[loader._rng(epoch).random((2, 1)).tobytes()] for epoch in range(3)]
    assert len({str(item) for item in drawn}) == 3 * (3 * 3 + 3)


def test_without_shuffling_samples_come_in_order():
    loader = DataLoader(np.arange(7), batch_size=3, shuffle=False)
    assert seen(loader) == seen(loader) == list(range(7))


def test_arrays_stay_aligned_and_only_the_first_is_transformed():
    x = np.arange(20.0)
    for changed, y, z in DataLoader(
        x, x * 2, x * 3, batch_size=6, transform=lambda x, rng: x + 100
    ):
        assert (changed == y / 2 + 100).all()
        assert (z == y / 2 * 3).all()


def test_batches_may_be_changed_without_changing_the_data():
    data = np.zeros(8)
    for (x,) in DataLoader(data, batch_size=8, shuffle=False):
        x += 1
    assert (data == 0).all()


def test_a_transform_takes_its_own_arguments_through_partial():
    x = np.random.default_rng(0).random((4, 1, 6, 6), np.float32)
    still = partial(random_affine, degrees=0, translate=0, scale=(1, 1))
    (same,) = next(iter(DataLoader(x, batch_size=4, shuffle=False, transform=still)))
    assert (same == x).all()


@pytest.mark.parametrize(
    "arrays, message",
    [
        ((), "one length above 0, got shapes none"),
        ((np.zeros((0, 3)),), r"one length above 0, got shapes \(0, 3\)"),
        ((np.zeros((4, 3)), np.zeros(5)), r"one length above 0, got shapes \(4, 3\), \(5,\)"),
    ],
)
def test_arrays_of_no_or_different_length_are_refused_with_their_shapes(arrays, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(*arrays, batch_size=2)


@pytest.mark.parametrize("labels", [None, 3, ["a", None]])
def test_arguments_that_are_no_array_of_samples_are_refused(labels):
    with pytest.raises(TypeError, match="takes arrays with samples along axis 0"):
        DataLoader(np.zeros((2, 3)), labels, batch_size=2)


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_batch_size_is_refused(size):
    with pytest.raises(ValueError, match=f"DataLoader: batch_size is {size}; .* at least 1"):
        DataLoader(np.zeros(3), batch_size=size)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="DataLoader: seed is -1; .* at least 0"):
        DataLoader(np.zeros(3), batch_size=1, seed=-1)


def test_drop_last_that_leaves_nothing_is_refused():
    with pytest.raises(
        ValueError, match="batch_size=4 with drop_last=True leaves no batch of 3 samples"
    ):
        DataLoader(np.zeros(3), batch_size=4, drop_last=True)


@pytest.mark.parametrize(
    "epoch, start, words",
    [
        (0, -1, "start is -1"),
        (-1, 0, "number is -1"),
        (0, 5, "start is 5 in epoch 0; .* from 0 to 4"),
    ],
)
def test_an_epoch_or_start_out_of_range_is_refused_at_once(epoch, start, words):
    with pytest.raises(ValueError, match=f"DataLoader.*{words}"):
        DataLoader(np.zeros(10), batch_size=3).epoch(epoch, start)


def test_training_can_resume_at_the_end_of_an_epoch():
    loader = DataLoader(np.zeros(10), batch_size=3)
    assert list(loader.epoch(0, start=len(loader))) == []


ROWS = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize(
    "answer",
    [
        "ab",
        3,
        [],
        None,
        np.float32(2),
        [ROWS[:2]],
        np.array([None, None]),
        np.ma.masked_array(ROWS[:2], ROWS[:2] > 1),
        np.matrix(ROWS[:2]),
    ],
    ids=["text", "number", "empty list", "None", "0-d", "list", "objects", "masked", "matrix"],
)
def test_a_users_function_that_returns_no_array_is_refused(answer):
    takes = "an array with samples along axis 0"
    with pytest.raises(TypeError, match=f"(?s)DataLoader: transform returned .*{takes}"):
        next(iter(DataLoader(ROWS, batch_size=2, transform=lambda x, rng: answer)))
    for mixed in ((answer, ROWS[:2]), (ROWS[:2], answer)):
        with pytest.raises(TypeError, match=f"(?s)DataLoader: mix returned .*{takes}"):
            next(
                iter(DataLoader(ROWS, ROWS, batch_size=2, mix=lambda x, y, rng, mixed=mixed: mixed))
            )
    for drawn in (answer, (ROWS[:2], answer)):
        if isinstance(drawn, list) and drawn:
            # a list of arrays is a batch
            continue
        with pytest.raises(
            TypeError,
            match="(?s)DrawnLoader: draw returned .*a tuple of arrays, each with 2 samples",
        ):
            next(DrawnLoader(lambda n, rng, drawn=drawn: drawn, 2, 2).epoch(0))


def test_a_drawn_batch_of_another_size_is_refused():
    for drawn in ((ROWS[:3],), (ROWS[:2], ROWS[:1]), (ROWS[:1], ROWS[:2])):
        with pytest.raises(
            ValueError, match="DrawnLoader: draw returned arrays of .* each with 2 samples"
        ):
            next(DrawnLoader(lambda n, rng, drawn=drawn: drawn, 2, 2).epoch(0))
    assert next(DrawnLoader(lambda n, rng: [ROWS[:n], ROWS[:n, 0]], 2, 2).epoch(0))[1].tolist() == [
        0,
        2,
    ]


# ── the rows of one of several workers ──


PAIRS = np.arange(22.0).reshape(11, 2)


def thirds(rank):
    return lambda n: (rank * n // 3, (rank + 1) * n // 3)


def shifted(x, rng):
    return x + rng.normal(size=(len(x), 1))


def blended(x, y, rng):
    return x[rng.permutation(len(x))], y


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(PAIRS, PAIRS, batch_size=4),
        DataLoader(PAIRS, PAIRS, batch_size=4, transform=shifted),
        DataLoader(PAIRS, PAIRS, batch_size=4, transform=shifted, mix=blended),
        DrawnLoader(lambda n, rng: (rng.normal(size=(n, 2)), np.arange(n)), 5, 3),
    ],
    ids=["plain", "transform", "mix", "drawn"],
)
def test_the_rows_of_all_workers_are_the_batches_of_one(loader):
    workers = [list(parts(loader, 2, 1, thirds(rank))) for rank in range(3)]
    whole = list(loader.epoch(2, 1))
    assert len(whole) == len(loader) - 1
    for batch, *of_workers in zip(whole, *workers, strict=True):
        assert {count for count, _ in of_workers} == {len(batch[0])}
        for i, array in enumerate(batch):
            joined = np.concatenate([part[i] for _, part in of_workers])
            np.testing.assert_array_equal(joined, array)


def test_a_transform_is_given_the_whole_batch_and_a_plain_loader_reads_its_own_rows_alone():
    sizes = []

    def noted(x, rng):
        sizes.append(len(x))
        return x

    list(parts(DataLoader(PAIRS, batch_size=4, transform=noted), 0, 0, thirds(0)))
    assert sizes[0] == 4
    _, (own,) = next(parts(DataLoader(PAIRS, batch_size=4, shuffle=False), 0, 0, thirds(2)))
    np.testing.assert_array_equal(own, PAIRS[2:4])
