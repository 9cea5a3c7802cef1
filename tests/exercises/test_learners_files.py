"""What a learner may get wrong besides the mathematics: each gets one sentence that says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demos.exercises import ORDER, command
from demos.exercises.diagnose import check
from demos.exercises.exercise import Exercise, load

ROOT = Path(__file__).parent.parent.parent


def verdict(name: str, source: str | bytes):
    return check(load(name), source, "answer.py")


def tanh(body: str) -> str:
    """An answer to the exercise tanh."""
    return f"def tanh_pull(g, y):\n    {body}\n"


# The answer, and the sentence about it
REFUSED = {
    "does not compile": (tanh("return g * (1 - y * y"), "line 2 is not valid Python"),
    "is not text": (b"\xff\xfe\x00def", "is not valid Python"),
    "stops when it is loaded": ("1 / 0\n", "stops when it is loaded: line 1 raises ZeroDivision"),
    "raises": (tanh("return g * (1 - y @ y)"), "line 2 raises ValueError: matmul"),
    "has an unknown name": (tanh("return g * q"), "line 2: `q` is not a name of this file"),
    "misspells a local name": (tanh("return u * g; u = y"), "line 2 raises UnboundLocalError"),
    "calls itself without end": (tanh("return tanh_pull(g, y)"), "line 2 raises RecursionError"),
    "lacks the function": ("def pull(g, y):\n    return g\n", "has no function tanh_pull"),
    "overwrites the function": ("tanh_pull = 3\n", "has no function tanh_pull"),
    "renames the arguments": (
        "def tanh_pull(g, x):\n    return g\n",
        "keep the line `def tanh_pull",
    ),
    "takes any arguments": (
        "def tanh_pull(*g, y):\n    return g\n",
        "keep the line `def tanh_pull",
    ),
    "takes more by name": (
        "def tanh_pull(g, y, *, k=1):\n    return g * (1 - y * y)\n",
        "keep the line `def tanh_pull",
    ),
    "has the wrong shape": (tanh("return g.reshape(-1)"), "the shape, and the numbers in it"),
    "is right for some shapes": (
        tanh("return g * (1 - y * y) if g.size != 5 else 0 * g"),
        "some cases. It is right in 3 of 4",
    ),
    "fills the memory": (tanh("return [0] * 10**15"), "line 2 raises MemoryError"),
    "returns nothing": (tanh("r = g * (1 - y * y)"), "a line with `return` may be missing."),
    "writes a power as ^": (tanh("return g * (1 - y^2)"), "write y**2, not y^2"),
    "writes a power of a number as ^": (tanh("return g * 2.0^2"), "write y**2, not y^2"),
    "returns a number": (tanh("return 1.0"), "it returns a float, not a Tensor"),
    "returns a list": (tanh("return [g * (1 - y * y)]"), "it returns a list of 1, not a Tensor"),
    "returns the wrong dtype": (
        tanh("return (g * (1 - y * y)).astype('float32')"),
        "its result is float32; it should be float64",
    ),
    "returns float64 always": (
        tanh("return (g * (1 - y * y)).astype('float64')"),
        "for arguments of float32 its result is float64",
    ),
    "changes its argument": (
        tanh("y *= y\n    return g * (1 - y)"),
        "it changes its argument y in place",
    ),
    "prints": (tanh("print('here', g.shape)\n    return g * (1 - y * y)"), "here (5,)"),
    "imports a module": ("import numpy as np\n", "line 1: `import numpy` is not allowed"),
    "imports the answer": (
        "from tinycv import tanh\n",
        "`tinycv.tanh` is the package's own answer",
    ),
    "imports from the table": ("from tinycv.engine.ops import tanh\n", "the package's own answer"),
    "imports autograd": ("from tinycv import grad\n", "`tinycv.grad` is the package's own answer"),
    "imports another function": ("from tinycv import exp\n", "`tinycv.exp` is not allowed here"),
    "uses a method that is the answer": (tanh("return y.tanh()"), "`.tanh` is not among the meth"),
    "leaves the graph": (tanh("return g * (1 - y.numpy() ** 2)"), "`.numpy` is not among"),
    "opens a file": (tanh("return open('x')"), "`open` is not a name of this file"),
    "looks behind the curtain": (tanh("return g.__class__"), "`.__class__` is not among"),
    "defines a class": ("class A:\n    pass\n", "without classes"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_is_refused_in_words(what):
    source, words = REFUSED[what]
    result = verdict("tanh", source)
    assert not result.solved
    assert words in " ".join(result.text.split())


def test_the_words_are_ascii_whatever_the_learner_writes():
    result = verdict("tanh", tanh("raise ValueError('\N{GREEK SMALL LETTER DELTA}')"))
    assert result.text.isascii() and "\\u03b4" in result.text


def test_a_right_answer_that_prints_has_to_lose_its_print():
    result = verdict("tanh", tanh("print(y)\n    return g * (1 - y * y)"))
    assert not result.solved and "Almost: tanh." in result.text
    assert "remove the print" in result.text


# ── answers that are written in other words than the mutants ─────────────────────────────────────


SOLVED = {
    "tanh, multiplied out": ("tanh", tanh("return g - g * y**2")),
    "tanh, as a product": ("tanh", tanh("return g * ((1 - y) * (1 + y))")),
    "matmul, the transpose of a product": (
        "matmul",
        "def matmul_pull_a(g, b):\n"
        "    return (b @ g.swapaxes(-1, -2)).swapaxes(-1, -2)\n"
        "def matmul_pull_b(g, a):\n"
        "    return (g.swapaxes(-1, -2) @ a).swapaxes(-1, -2)\n",
    ),
    "the walk back, one list": (
        "walk_back",
        "def walk_back(last, g, pieces):\n"
        "    grads, todo = {last: g}, [last]\n"
        "    while todo:\n"
        "        todo.sort(key=lambda node: node.seq)\n"
        "        node = todo.pop()\n"
        "        for parent, piece in pieces(node, grads[node]):\n"
        "            if parent in grads:\n"
        "                grads[parent] = grads[parent] + piece\n"
        "            else:\n"
        "                grads[parent] = piece\n"
        "                todo.append(parent)\n"
        "    return grads\n",
    ),
    "softmax, with matrix products": (
        "softmax",
        "def softmax_pull(g, y):\n"
        "    return y * (g - (g[..., None, :] @ y[..., :, None])[..., 0])\n",
    ),
    "attention, with minus infinity": (
        "bahdanau",
        load("bahdanau").solution().replace("-1e9", "-float('inf')"),
    ),
}


@pytest.mark.parametrize("what", SOLVED)
def test_other_ways_to_write_the_answer_are_accepted(what):
    result = verdict(*SOLVED[what])
    assert result.solved, result.text


MISTAKEN = {
    "tanh": (tanh("return g + g * y**2"), "the sign"),
    "tanh ": (tanh("return (1 - y) * (1 + y)"), "the chain rule"),
    "multiply": (
        "def sum_to(g, shape):\n"
        "    for i, n in enumerate(shape):\n"
        "        if n == 1:\n"
        "            g = g.sum(axis=i, keepdims=True)\n"
        "    return g\n",
        "the added axes",
    ),
    "matmul": (
        "def matmul_pull_a(g, b):\n    return (b @ g.swapaxes(-1, -2))\n",
        "a transposed result",
    ),
    "walk_back": (
        "def walk_back(last, g, pieces):\n"
        "    grads, queue = {last: g}, [last]\n"
        "    while queue:\n"
        "        node = queue.pop(0)\n"
        "        for parent, piece in pieces(node, grads[node]):\n"
        "            grads[parent] = grads.get(parent, 0) + piece\n"
        "            queue.append(parent)\n"
        "    return grads\n",
        "one visit per path",
    ),
    "softmax": ("def softmax_pull(g, y):\n    return g * y - g * y**2\n", "the other entries"),
    "softmax ": (
        "def softmax_pull(g, y):\n    return g * y - y * (g * y).sum(-1)\n",
        "keepdims",
    ),
    "layer_norm": (
        "from tinycv import sqrt\n"
        "def layer_norm(x, weight, bias, eps):\n"
        "    variance = x.var(axis=-1, ddof=1, keepdims=True)\n"
        "    return (x - x.mean(axis=-1, keepdims=True)) / sqrt(variance + eps) * weight + bias\n",
        "the unbiased variance",
    ),
    "rnn_step": (
        "from tinycv import tanh\n"
        "def rnn_step(x, h, weight_ih, weight_hh, bias_ih, bias_hh):\n"
        "    return tanh(weight_hh @ h + bias_hh + weight_ih @ x + bias_ih)\n",
        "the order of the products",
    ),
    "bahdanau": (
        load("bahdanau").solution().split("def bahdanau_context")[0]
        + "def bahdanau_context(score, memory, mask):\n"
        "    e = exp(score - score.max(axis=-1, keepdims=True))\n"
        "    weights = e / e.sum(axis=-1, keepdims=True) * mask[:, None]\n"
        "    return weights @ memory, weights\n",
        "the mask after the softmax",
    ),
}


@pytest.mark.parametrize("name", MISTAKEN)
def test_a_mistake_in_other_words_is_named(name):
    source, fault = MISTAKEN[name]
    assert verdict(name.strip(), source).faults == [fault]


def test_two_mistakes_at_once_are_both_named():
    exercise = load("rnn_step")
    (part,) = exercise.parts
    first, second = part.wrong[1], part.wrong[5]
    result = verdict("rnn_step", exercise.mutant(part, first, second))
    assert set(result.faults) == {first.fault, second.fault}


# ── mistakes that no exercise knows ──────────────────────────────────────────────────────────────

IN_GENERAL = {
    "the sign": ("return -g * (1 - y * y)", "the sign. Your result is the right one times -1"),
    "a factor": ("return 3 * g * (1 - y * y)", "a factor. Your result is the right one times 3"),
    "a factor that depends on the shape": (
        "return g * (1 - y * y) / (1 + y.size)",
        "a factor that depends on the shapes",
    ),
    "an added number": (
        "return g * (1 - y * y) + 0.25",
        "an added number. Your result is the right",
    ),
    "an axis too few": ("return (g * (1 - y * y)).sum()", "The shape. Your result has too few"),
    "an axis too many": (
        "return (g * (1 - y * y)).reshape(1, *y.shape)",
        "the shape only. The numbers are right",
    ),
    "a transposed result": ("return (g * (1 - y * y)).T", "a transposed result"),
    "infinity": ("return g * (1 - y * y) / (0 * y)", "NaN or infinity where the right result"),
    "something else": ("return g * y * y * y", "none of the mistakes that this exercise knows"),
}


@pytest.mark.parametrize("what", IN_GENERAL)
def test_a_mistake_that_the_exercise_does_not_know_is_described(what):
    body, words = IN_GENERAL[what]
    result = verdict("tanh", tanh(body))
    assert not result.solved and not result.faults
    assert words.lower() in " ".join(result.text.split()).lower()


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def test_the_list_has_every_exercise(tmp_path, capsys):
    assert command.main(["--out", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert listed.isascii() and all(f" {name} " in listed for name in ORDER)


def test_a_learners_file_is_never_overwritten(tmp_path, capsys):
    assert command.main(["tanh", "--out", str(tmp_path)]) == 0
    (tmp_path / "tanh.py").write_text("my work")
    assert command.main(["tanh", "--out", str(tmp_path)]) == 1
    assert (tmp_path / "tanh.py").read_text() == "my work"
    assert "rename or delete that file" in capsys.readouterr().out


@pytest.mark.parametrize("typed, near", [("tan", "tanh"), ("LayerNorm", "layer_norm")])
def test_a_wrong_name_lists_near_names(typed, near, capsys):
    assert command.main([typed]) == 2
    assert f"near it: {near}" in capsys.readouterr().err


def test_a_name_that_is_near_nothing_lists_all_names(capsys):
    assert command.main(["check", "xyzzy"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in ORDER)


def test_checking_a_file_that_was_not_written_says_how_to_write_it(tmp_path, capsys):
    assert command.main(["check", "tanh", "--out", str(tmp_path)]) == 1
    assert "python -m demos exercise tanh" in capsys.readouterr().out


def test_a_command_that_names_another_folder_can_be_copied(tmp_path, capsys):
    folder = tmp_path / "my answers"
    assert command.main(["check", "tanh", "--out", str(folder)]) == 1
    assert command.main(["tanh", "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.count(f'--out "{folder.as_posix()}"') == 2


def test_a_file_in_place_of_the_folder_is_named(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert command.main(["tanh", "--out", str(tmp_path / "taken")]) == 1
    assert "no folder can be made there" in capsys.readouterr().out


def test_an_error_while_the_blank_is_made_leaves_no_empty_file(tmp_path, monkeypatch):
    monkeypatch.setattr(Exercise, "blank", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command.main(["tanh", "--out", str(tmp_path)])
    assert not (tmp_path / "tanh.py").exists()


def test_a_file_that_hangs_is_stopped(tmp_path, capsys):
    (tmp_path / "tanh.py").write_text(tanh("while True: pass"))
    assert command.check_file("tanh", tmp_path, seconds=3) == 1
    said = capsys.readouterr().out
    assert "did not end within 3 seconds" in said and "computer is busy" in said


def test_the_exit_status_of_a_wrong_answer_is_1(tmp_path, capsys):
    (tmp_path / "tanh.py").write_text(tanh("return g"))
    assert command.check_here("tanh", tmp_path / "tanh.py") == 1
    assert "Not yet: tanh." in capsys.readouterr().out


def test_the_exit_status_of_the_answer_is_0_and_the_next_exercise_is_named(tmp_path):
    check_tanh = [
        sys.executable,
        "-m",
        "demos",
        "exercise",
        "check",
        "tanh",
        "--out",
        str(tmp_path),
    ]
    (tmp_path / "tanh.py").write_text(load("tanh").solution())
    done = subprocess.run(check_tanh, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "order 1" in done.stdout
    assert f"Compare it with {load('tanh').read}" in " ".join(done.stdout.split())
    assert "Next: python -m demos exercise multiply" in done.stdout
