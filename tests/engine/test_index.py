"""Indices in every spelling: the values are those of NumPy, and the gradients of entries that occur
twice are added."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wrong_calls import Odd

from tinycv import Tensor, grad, tensor

SPELLINGS = [
    list,
    tuple,
    np.array,
    lambda ids: Tensor(np.array(ids)),
    lambda ids: np.array(ids, np.uint8),
    lambda ids: [np.int64(i) for i in ids],
    lambda ids: [Tensor(i) for i in ids],
]
PLACES = [
    lambda ids: ids,
    lambda ids: (ids,),
    lambda ids: (slice(None), ids),
    lambda ids: (ids, 0),
    lambda ids: (1, ids),
    lambda ids: (ids, ids),
    lambda ids: (None, ids),
    lambda ids: (..., ids),
    lambda ids: (slice(1, 3), ids),
]


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=5),
    st.sampled_from(SPELLINGS),
    st.sampled_from(PLACES),
)
def test_repeated_entries_count_in_every_spelling_and_position_of_an_index(ids, spell, place):
    values = np.arange(9.0).reshape(3, 3) + 1
    index, known = spell(ids), place(np.array(ids))
    if isinstance(index, tuple) and place is PLACES[0]:
        # x[1, 2] is an index along two axes, as in NumPy.
        index = (index,)
    x = Tensor(values, requires_grad=True)
    y = x[place(index)]
    np.testing.assert_array_equal(y.numpy(), values[known])
    (slope,) = grad((y**3).sum(), x, create_graph=True)
    expected = np.zeros((3, 3))
    np.add.at(expected, known, 3 * values[known] ** 2)
    np.testing.assert_allclose(slope.numpy(), expected)
    (second,) = grad((slope * slope).sum(), x)
    counts = np.zeros((3, 3))
    np.add.at(counts, known, 1.0)
    np.testing.assert_allclose(second.numpy(), counts**2 * 36 * values**3)


@given(st.integers(-3, 2), st.integers(-3, 2))
def test_ranges_slices_and_masks_work_as_in_numpy(a, b):
    values = np.arange(9.0).reshape(3, 3)
    x = Tensor(values)
    for index in (
        range(3),
        slice(a, b),
        [True, False, True],
        (slice(None), [False, True, True]),
        [],
        (a, b),
        values > 4,
        Tensor(values > 4),
        (Tensor(a), slice(None)),
        [[0, 1], [1, 2]],
        True,
        None,
    ):
        known = np.asarray(index) if isinstance(index, range) else index
        known = np.zeros(0, int) if isinstance(index, list) and not index else known
        known = (
            tuple(k.numpy() if isinstance(k, Tensor) else k for k in known)
            if isinstance(known, tuple)
            else known
        )
        known = known.numpy() if isinstance(known, Tensor) else known
        np.testing.assert_array_equal(x[index].numpy(), values[known])


@pytest.mark.parametrize(
    "index",
    [1.0, "a", [0.5], np.array([1.0]), (0, 1.5), {}, Odd(), Tensor([1.0]), [[0], [0, 1]]],
    ids=str,
)
def test_anything_but_an_index_is_refused_with_a_clear_error(index, device):
    x = Tensor(np.zeros((3, 3)), device=device)
    for call in (lambda: x[index], lambda: x.__setitem__(index, 0.0)):
        with pytest.raises(IndexError, match="index"):
            call()


@pytest.mark.parametrize("part", [0.5, "a", 1.0, Odd(), [1], np.float32(1)], ids=str)
@pytest.mark.parametrize(
    "place", [lambda s: s, lambda s: (slice(None), s), lambda s: (0, s), lambda s: (..., s)]
)
def test_the_parts_of_a_slice_must_be_whole_numbers(part, place, device):
    x = Tensor(np.zeros((3, 3)), device=device)
    for wrong in (slice(part, None), slice(None, part), slice(None, None, part)):
        for call in (
            lambda wrong=wrong: x[place(wrong)],
            lambda wrong=wrong: x.__setitem__(place(wrong), 1.0),
        ):
            with pytest.raises(IndexError, match="the parts of a slice must be whole numbers"):
                call()
    for call in (
        lambda: x[place(slice(None, None, 0))],
        lambda: x.__setitem__(place(slice(None, None, 0)), 1.0),
    ):
        with pytest.raises(ValueError, match="has a step of 0"):
            call()
    assert (
        x[place(slice(np.int8(1), Tensor(2), True))].shape == x[place(slice(1, 2))].shape
        and not x.numpy().any()
    )


@pytest.mark.parametrize("index", [3, [3], (0, -4), [0, 5]])
def test_an_index_out_of_range_is_an_index_error(index):
    x = tensor(np.zeros((3, 3)))
    for call in (lambda: x[index], lambda: x.__setitem__(index, 0.0)):
        with pytest.raises(IndexError, match="out of"):
            call()


def test_values_are_written_where_the_index_says_in_every_spelling(device):
    for index in ([0, 2], (slice(None), (0, 2)), range(2), [True, False, True]):
        x, known = Tensor(np.zeros((3, 3)), device=device), np.zeros((3, 3))
        x[index] = 1.5
        known[np.asarray(index) if isinstance(index, range) else index] = 1.5
        np.testing.assert_array_equal(x.numpy(), known)


def test_a_refused_write_says_what_does_not_fit_and_changes_nothing():
    x = Tensor(np.zeros((2, 3), np.int64))
    for change in (
        lambda: x.__setitem__(0, np.zeros(2)),
        lambda: x.__iadd__(np.zeros(4)),
        lambda: x.__iadd__(0.5),
    ):
        with pytest.raises(
            (TypeError, ValueError), match=r"x.* value: x is int64 of shape \(2, 3\)"
        ):
            change()
    assert not x.numpy().any()


@pytest.mark.parametrize(
    "change",
    [lambda x: x.__setitem__(0, 5), lambda x: x.__iadd__(1), lambda x: x.__imul__(np.full(3, 2.0))],
)
@pytest.mark.parametrize(
    "x",
    [Tensor(2.0).expand((3,)), Tensor(np.broadcast_to(np.float32(1), (3,)))],
    ids=["op", "array"],
)
def test_a_write_into_read_only_memory_raises_a_clear_error(change, x):
    with pytest.raises(ValueError, match="its memory is read-only"):
        change(x)


def test_a_value_on_another_device_is_refused_and_a_list_is_accepted(double):
    x = Tensor(np.zeros(3), device="gpu")
    for value in (np.ones(3), Tensor(np.ones(3))):
        for change in (x.__setitem__, lambda _, value: x.__iadd__(value)):
            with pytest.raises(
                (TypeError, ValueError), match=r"x is on gpu:0, the value on cpu: move it"
            ):
                change(slice(None), value)
    x[:] = [1.0, 2.0, 3.0]
    assert x.tolist() == [1, 2, 3]


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "bool"])
def test_no_gradient_passes_through_a_conversion_to_integers_or_bools(dtype, device):
    x = Tensor(np.array([1.7, 2.3]), device=device, requires_grad=True)
    for y in (x.astype(dtype), x.to(dtype)):
        assert not y.requires_grad and y.dtype == dtype
    (x * x.astype(dtype)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), x.numpy().astype(dtype))
