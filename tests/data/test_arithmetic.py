"""Addition, reversal and sorting: the targets are right, and no test question occurs in
training."""

import numpy as np
import pytest

from tinycv.data import addition, reversal, sorting


def texts(pairs):
    return [tuple("".join(side) for side in pairs.texts(i)) for i in range(len(pairs))]


def terms(question):
    return tuple(sorted(map(int, question.split("+"))))


def test_addition_of_two_digits_has_each_of_ten_thousand_sums_once():
    train, test = addition(2)
    asked = texts(train) + texts(test)
    assert (len(train), len(test)) == pytest.approx((9000, 1000), abs=15)
    assert {question for question, _ in asked} == {
        f"{a}+{b}" for a in range(100) for b in range(100)
    }
    assert len(asked) == 10_000
    assert all(sum(terms(question)) == int(answer) for question, answer in asked)


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_no_test_sum_occurs_in_training_in_either_order(digits):
    train, test = addition(digits)
    assert not {terms(q) for q, _ in texts(train)} & {terms(q) for q, _ in texts(test)}


def test_three_digits_make_45000_training_questions_of_every_length():
    train, test = addition(3)
    asked = texts(train)
    assert (len(train), len(test)) == (45_000, 5_000)
    assert len({terms(q) for q, _ in asked}) == 45_000
    assert {len(q) for q, _ in asked} == set(range(3, 8))
    assert all(sum(terms(q)) == int(answer) for q, answer in asked[:500])


def test_targets_are_shorter_than_sources_and_differ_in_length():
    lengths = {(len(question), len(answer)) for question, answer in texts(addition(2)[0])}
    assert lengths == {(3, 1), (3, 2), (4, 2), (4, 3), (5, 2), (5, 3)}


def test_a_reversed_source_is_the_source_backwards():
    plain, backwards = addition(2, seed=3), addition(2, reverse_source=True, seed=3)
    for one, other in zip(plain, backwards, strict=True):
        assert [(q[::-1], a) for q, a in texts(one)] == texts(other)


def test_a_seed_determines_the_split():
    assert texts(addition(2, seed=1)[1]) == texts(addition(2, seed=1)[1])
    assert texts(addition(2, seed=1)[1]) != texts(addition(2, seed=2)[1])


def test_reversal_reverses_strings_of_every_given_length():
    pairs = reversal(range(1, 6), symbols=4, n=100)
    asked = texts(pairs)
    assert all(answer == question[::-1] for question, answer in asked)
    assert np.bincount([len(q) for q, _ in asked]).tolist() == [0, 20, 20, 20, 20, 20]
    assert set("".join(q for q, _ in asked)) == set("abcd")


def test_reversal_accepts_length_0():
    assert texts(reversal([0], n=2)) == [("", ""), ("", "")]


def test_sorting_has_each_of_the_729_strings_once_and_a_quarter_in_the_test():
    train, test = sorting()
    asked = texts(train) + texts(test)
    assert (len(train), len(test)) == (547, 182)
    assert len({q for q, _ in asked}) == 729
    assert all(answer == "".join(sorted(question)) for question, answer in asked)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: addition(0), "addition: digits is 0; .*at least 1"),
        (lambda: reversal([], n=3), "lengths is empty; it must hold at least one"),
        (lambda: reversal([-1], n=3), r"lengths\[0\] is -1"),
        (lambda: reversal([2], symbols=27), "symbols is 27; it must be 1 to 26"),
        (lambda: sorting(0), "length=0"),
        (lambda: sorting(6, symbols=11), "symbols=11"),
        (lambda: sorting(9, symbols=10), "at most a million"),
    ],
)
def test_arguments_that_make_no_task_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
