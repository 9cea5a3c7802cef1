"""Every exercise: its blank fails, its answer passes, and each known mistake is named."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from demos.exercises import ORDER
from demos.exercises.diagnose import check
from demos.exercises.exercise import blank_of, load, source_of

EXERCISES = {name: load(name) for name in ORDER}
PARTS = {
    f"{name}-{part.name}": (exercise, part)
    for name, exercise in EXERCISES.items()
    for part in exercise.parts
}
MISTAKES = {
    f"{key}-{mistake.fault}": (exercise, part, mistake)
    for key, (exercise, part) in PARTS.items()
    for mistake in part.wrong
}


def test_every_file_of_the_folder_is_an_exercise_or_the_framework():
    framework = {"__init__", "exercise", "allowed", "diagnose", "outcomes", "words", "command"}
    folder = Path(__file__).parent.parent.parent / "demos/exercises"
    assert {path.stem for path in folder.glob("*.py")} == {*ORDER, *framework}


@pytest.mark.parametrize("name", ORDER)
def test_an_exercise_does_not_arrive_solved(name):
    verdict = check(EXERCISES[name], EXERCISES[name].blank())
    assert not verdict.solved
    assert f"{EXERCISES[name].parts[0].name} is still blank" in verdict.text


@pytest.mark.parametrize("key", PARTS)
def test_a_single_blank_is_noticed(key):
    exercise, part = PARTS[key]
    source = exercise.solution().replace(source_of(part.function), blank_of(part.function))
    verdict = check(exercise, source)
    assert not verdict.solved and f"{part.name} is still blank" in verdict.text


@pytest.mark.parametrize("name", ORDER)
def test_the_answer_is_accepted(name):
    verdict = check(EXERCISES[name], EXERCISES[name].solution())
    assert verdict.solved, verdict.text


@pytest.mark.parametrize("name", ORDER)
def test_at_least_three_mistakes_are_known(name):
    assert sum(len(part.wrong) for part in EXERCISES[name].parts) >= 3


@pytest.mark.parametrize("key", MISTAKES)
def test_a_known_mistake_is_named(key):
    exercise, part, mistake = MISTAKES[key]
    verdict = check(exercise, exercise.mutant(part, mistake))
    assert not verdict.solved
    assert verdict.faults == [mistake.fault] and mistake.words in " ".join(verdict.text.split())


PERTURBED = {
    "a factor of 1.001": "[y * 1.001 for y in results]",
    "a factor of 1.001 on the last result": "[*results[:-1], results[-1] * 1.001]",
    "an added constant": "[y + 0.001 for y in results]",
    "the other sign": "[-y for y in results]",
    "one more axis": "[y.unsqueeze(0) for y in results]",
}
# ``answered`` is the right answer under another name
WRAPPER = """

answered = {name}


def {name}({arguments}):
    y = answered({arguments})
    if isinstance(y, dict):  # the walk back
        results = list(y.values())
        return dict(zip(y, {change}))
    results = list(y) if isinstance(y, tuple) else [y]
    results = {change}
    return tuple(results) if isinstance(y, tuple) else results[0]
"""


def perturbed(exercise, part, change: str) -> str:
    """The answer with a changed result."""
    arguments = ", ".join(part.parameters)
    return exercise.solution() + WRAPPER.format(name=part.name, arguments=arguments, change=change)


@pytest.mark.parametrize("key", PARTS)
def test_an_answer_in_other_words_is_accepted(key):
    exercise, part = PARTS[key]
    verdict = check(exercise, perturbed(exercise, part, "[y + 0 for y in results]"))
    assert verdict.solved, verdict.text


@pytest.mark.parametrize("change", PERTURBED)
@pytest.mark.parametrize("key", PARTS)
def test_an_answer_that_is_off_by_a_little_is_refused(key, change):
    exercise, part = PARTS[key]
    verdict = check(exercise, perturbed(exercise, part, PERTURBED[change]))
    assert not verdict.solved and f"What is wrong with {part.name}: " in verdict.text


@given(
    key=st.sampled_from(sorted(PARTS)),
    factor=st.floats(-3, 3),
    added=st.floats(-1, 1),
)
@settings(max_examples=25, deadline=None)
def test_no_answer_passes_that_is_scaled_or_shifted(key, factor, added):
    assume(abs(factor - 1) > 1e-6 or abs(added) > 1e-6)
    exercise, part = PARTS[key]
    change = f"[{factor} * y + {added} for y in results]"
    assert not check(exercise, perturbed(exercise, part, change)).solved


@pytest.mark.parametrize("name", ORDER)
def test_the_blank_is_a_short_ascii_file_without_the_answer(name):
    exercise = EXERCISES[name]
    text = exercise.blank()
    assert text.isascii() and max(map(len, text.splitlines())) <= 100
    for part in exercise.parts:
        (definition,) = ast.parse(source_of(part.function)).body
        for line in definition.body[1:]:
            assert ast.unparse(line) not in text
