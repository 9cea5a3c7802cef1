"""The frame of every demo: its flags, its recorded figures, and errors without a traceback."""

import json
import re
import sys
from pathlib import Path

import cupy_double
import numpy as np
import pytest

import tinycv
from tinycv import nn
from tinycv.engine import backend
from tinycv.optim import SGD
from tinycv.show.demo import Demo, script_hash
from tinycv.show.demo_flags import WITH_HALF, WITH_PARALLEL, WITH_PRETRAINED, ascii_only


def test_the_record_holds_the_figures_and_everything_they_depend_on(tmp_path, capsys):
    show = Demo(
        "00_none",
        "A title · of one line\nand more",
        ["--seed", "3", "--out", str(tmp_path), "--quick"],
    )
    show.measured("share", 0.5, "paper: 0.4", ">= 0.45")
    show.measured("each", [1, 2.0])
    record = show.finish()
    assert record == json.loads((tmp_path / "00_none.json").read_text())
    assert record["rows"][0] == {
        "metric": "share",
        "value": 0.5,
        "reference": "paper: 0.4",
        "target": ">= 0.45",
    }
    assert record["seed"] == 3 and record["size"] == "quick" and record["versions"]["NumPy"]
    said = capsys.readouterr().out
    assert (
        said.isascii()
        and "A title - of one line" in said
        and "paper: 0.4" in said
        and "and more" not in said
    )


def test_the_hash_of_a_script_changes_with_its_code_and_not_with_its_comments(tmp_path):
    script = tmp_path / "01_script.py"

    def hashed(text):
        script.write_text(text, encoding="utf-8")
        return script_hash(script)

    original = hashed('"""Title."""\n\nTITLE = "a"\n\n\ndef f(x):\n    """Say."""\n    return x\n')
    said = '"""Other\nlines."""\n# why\nTITLE = "a"\ndef f(x):\n    # so\n    return x\n'
    assert hashed(said) == original
    assert hashed(said.replace("return x", "return -x")) != original
    assert hashed(said.replace('"a"', '"b"')) != original


@pytest.mark.parametrize("flags, value", [([], 2), (["--quick"], 1), (["--full"], 3)])
def test_a_value_is_chosen_by_the_size_of_the_run(flags, value, capsys):
    assert Demo("00_none", "x", flags).choose(1, 2, 3) == value


def test_quick_and_full_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        Demo("00_none", "x", ["--quick", "--full"])


def test_a_script_of_demos_full_runs_the_full_size_unless_quick(tmp_path, capsys):
    for flags, value, size in (([], 3, "full"), (["--full"], 3, "full"), (["--quick"], 1, "quick")):
        show = Demo("00_none", "x", [*flags, "--out", str(tmp_path)], full=True)
        assert show.choose(quick=1, full=3) == value
        assert show.finish()["size"] == size
    with pytest.raises(SystemExit):
        Demo("00_none", "x", ["--help"], full=True)
    assert "full/00_none.py" in capsys.readouterr().out


@pytest.mark.parametrize("flags, said", [(["--full", "--seed", "7"], "the page, seed 7"), ([], "")])
def test_full_runs_the_script_in_the_folder_full_beside_the_demo(
    flags, said, tmp_path, monkeypatch, capsys
):
    (tmp_path / "full").mkdir()
    page = tmp_path / "full/00_none.py"
    page.write_text("import sys; print('the page, seed', sys.argv[-1]); assert len(sys.argv) == 4")
    monkeypatch.setattr("sys.argv", [str(tmp_path / "00_none.py"), *flags])
    if said:
        with pytest.raises(SystemExit) as ended:
            Demo("00_none", "x")
        assert not ended.value.code and capsys.readouterr().out == said + "\n"
    else:
        assert not Demo("00_none", "x").full


def test_without_a_script_in_full_the_flag_runs_the_demo_in_its_full_size(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", [str(tmp_path / "00_none.py"), "--full"])
    assert Demo("00_none", "x").full


DEMO = """A demo
and its story.\"\"\"
from tinycv.show.demo import Demo
show = Demo("00_none", __doc__)
EPOCHS = show.choose(quick=1, default=9)
def twice(x):
    return 2 * x
show.measured("its seed", show.seed, "paper: 1", "<= 2")
show.measured("by length", [show.seed, 5])
show.finish()
"""


def test_a_protocol_runs_its_demo_from_every_seed_and_gets_its_figures_and_functions(
    tmp_path, monkeypatch
):
    (tmp_path / "00_none.py").write_text('"""' + DEMO)
    page, out = tmp_path / "full/00_none.py", tmp_path / "out"
    called = [str(page), "--quick", "--out", str(out)]
    monkeypatch.setattr("sys.argv", called)
    show = Demo("00_none", "x", full=True)
    first, second = show.repeat_demo([1, 2])
    assert first.twice(3) == 6 and first.EPOCHS == 1 and second.show.seed == 2
    by_seed, by_length = show.rows
    assert by_seed["metric"] == "its seed, by seed" and by_seed["value"] == [1, 2]
    assert by_seed["reference"] == "paper: 1" and by_seed["target"] == "<= 2"
    assert by_length["metric"] == "by length, mean of all seeds" and by_length["value"] == [1.5, 5]
    show.rows = []
    show.repeat_demo([1])  # from one seed, the figures are noted as they are
    assert [(row["metric"], row["value"]) for row in show.rows] == [
        ("its seed", 1),
        ("by length", [1, 5]),
    ]
    assert sys.argv == called  # the demo's flags are its own
    assert [path.name for path in sorted(out.rglob("*.json"))] == ["00_none.json"] * 2
    with pytest.raises(ValueError, match="repeat_demo: seeds is empty"):
        show.repeat_demo([])
    with pytest.raises(TypeError, match="repeat_demo: seeds is 3; it must be a list"):
        show.repeat_demo(3)
    show.name = "98_missing"
    with pytest.raises(FileNotFoundError, match="repeat_demo: there is no demo .*98_missing.py"):
        show.repeat_demo([1])


@pytest.mark.parametrize("below", ["", "/new", "/new/newer"])
def test_an_output_folder_that_a_file_prevents_is_refused_before_the_run(below, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SystemExit) as left:
        Demo("06_vit", "story?", ["--out", str(tmp_path / "out") + below])
    said = f"nothing can be written there: {tmp_path / 'out'} is a file, not a folder"
    assert left.value.code == 2 and said in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_an_unknown_device_is_refused_in_one_sentence(capsys):
    with pytest.raises(SystemExit) as stop:
        Demo("00_none", "x", ["--device", "tpu"])
    assert stop.value.code == 2 and "tpu" in capsys.readouterr().err


def test_characters_outside_ascii_are_replaced():
    assert ascii_only("a · b → c") == "a - b ? c"


def test_a_demo_can_add_a_flag(capsys):
    assert Demo("00_none", "x", ["--data", "here"], data="a folder").data == "here"
    assert Demo("00_none", "x", [], data="a folder").data is None
    with pytest.raises(SystemExit):
        Demo("00_none", "x", ["--help"], data="a folder")
    assert "a folder" in capsys.readouterr().out


CURES = {
    "package": "pip install",
    "driver": "install the driver",
    "old_driver": 'pip install "cupy-cuda12x[ctk]"',
    "device": "CUDA_VISIBLE_DEVICES",
    "library": "libcublas",
}


@pytest.mark.parametrize("cause", cupy_double.CAUSES)
def test_a_gpu_that_cannot_be_used_is_refused_with_the_reason_and_a_remedy(cause, capsys):
    cupy_double.install(cause)
    backend.forget_probe()
    try:
        with pytest.raises(SystemExit) as ended:
            Demo("00_test", "A story.", ["--device", "gpu"])
        with pytest.warns(RuntimeWarning, match="uses the CPU"):
            assert Demo("00_test", "A story.", ["--device", "auto"]).device == "cpu"
    finally:
        cupy_double.uninstall()
        backend.forget_probe()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and CURES[cause] in said and said.count("\n") == 1


def test_a_demo_without_float16_training_refuses_half_and_names_the_demos_that_have_it(capsys):
    assert Demo("06_vit", "A story.", ["--half"], half=True).half
    assert not Demo("06_vit", "A story.", [], half=True).half
    with pytest.raises(SystemExit) as ended:
        Demo("01_autograd", "A story.", ["--half"])
    assert ended.value.code == 2
    assert (
        "float32 alone; --half is a flag of 06_vit and 17_diffusion_digits"
        in capsys.readouterr().err
    )
    demos = Path(__file__).parent.parent.parent / "demos"
    assert [
        d.stem for d in sorted(demos.glob("*.py")) if "half=True" in d.read_text(encoding="utf-8")
    ] == list(WITH_HALF)


def test_a_demo_that_one_worker_trains_refuses_parallel_and_names_the_demo_that_shares(capsys):
    assert Demo("06_vit", "A story.", [], parallel=True).group is None
    for arguments, can in ((["--parallel", "threads"], False), (["--half"], True)):
        with pytest.raises(SystemExit) as ended:
            Demo(
                "06_vit", "A story.", ["--parallel", "threads", *arguments], half=True, parallel=can
            )
        assert ended.value.code == 2
        assert "--parallel is a flag of 06_vit, in float32" in capsys.readouterr().err
    demos = Path(__file__).parent.parent.parent / "demos"
    assert [
        d.stem for d in sorted(demos.glob("*.py")) if "parallel=True" in d.read_text("utf-8")
    ] == list(WITH_PARALLEL)


def test_the_workers_of_a_demo_share_its_batches_and_the_record_names_them(tmp_path, capsys):
    page = ["--out", str(tmp_path)]
    alone = Demo("06_vit", "A story.", page, parallel=True)
    shared = Demo("06_vit", "A story.", [*page, "--parallel", "threads"], parallel=True)
    weight = tinycv.Parameter(np.ones(3, "f"))
    optimizer = SGD([weight], lr=0.1)
    examples = np.arange(12, dtype="f").reshape(4, 3)
    found = []
    for show in (alone, shared):
        optimizer.zero_grad()
        loss = show.backward(optimizer, lambda x: ((x * weight) ** 2).mean(), examples)
        found.append((loss.item(), weight.grad.numpy()))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-6)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-6)
    assert "workers" not in alone.finish()
    workers = shared.finish()["workers"]
    assert workers == f"{shared.group.size} of parallel.threads"
    assert f"cpu, {workers}\n" in capsys.readouterr().out


def test_without_mpi4py_the_flag_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(SystemExit) as ended:
        Demo("06_vit", "A story.", ["--parallel", "mpi"], parallel=True)
    assert ended.value.code == 2 and "pip install mpi4py mpich" in capsys.readouterr().err


def trained_layer(show, training=lambda: {"seconds": 1.5}):
    """A layer that this demo trains, and what its training returned."""
    layer = nn.Linear(2, 1)
    notes = show.trained(training, {"layer": layer}, {"layer": {"in_features": 2}})
    return layer, notes


def test_a_run_writes_its_weights_with_its_figures_and_pretrained_reads_them(tmp_path, capsys):
    story = "00_none", "A story."
    show = Demo(*story, ["--out", str(tmp_path), "--seed", "3"], pretrained=True)
    layer, notes = trained_layer(show)
    show.measured("share", 0.5)
    show.finish()
    file = tmp_path / "00_none.safetensors"
    flags = ["--pretrained", str(file), "--out", str(tmp_path / "again")]
    again = Demo(*story, flags, pretrained=True)
    refuse = pytest.fail  # it must not be called
    same, same_notes = trained_layer(again, refuse)
    assert (same.weight.numpy() == layer.weight.numpy()).all() and same_notes == notes
    assert again.seed == 3 and again.pretrained.value("share") == 0.5
    assert again.pretrained.config == {"layer": {"in_features": 2}}
    record = again.finish()
    assert record["pretrained"] == file.name and not list(tmp_path.glob("again/*.safetensors"))
    assert "nothing was trained" in capsys.readouterr().out


def test_what_a_demo_measures_is_what_its_file_holds(tmp_path, capsys):
    show = Demo("00_none", "A story.", ["--out", str(tmp_path)], pretrained=True)
    layer, _ = trained_layer(show)
    weight = layer.weight.numpy()
    assert (weight == weight.astype(np.float16)).all()
    # a run that is stopped while it measures has kept its weights
    assert (tmp_path / "00_none.safetensors").is_file()


def test_noise_after_the_weights_is_the_same_whether_they_were_trained_or_read(tmp_path, capsys):
    show = Demo("00_none", "A story.", ["--out", str(tmp_path)], pretrained=True)
    trained_layer(show, lambda: tinycv.randn(5).numpy().tolist())
    first = tinycv.randn(3).numpy()
    flags = ["--pretrained", str(tmp_path / "00_none.safetensors"), "--out", str(tmp_path)]
    trained_layer(Demo("00_none", "A story.", flags, pretrained=True))
    assert (tinycv.randn(3).numpy() == first).all()


@pytest.mark.parametrize("fewer", [False, True])
def test_pretrained_says_that_its_figures_are_of_fewer_examples(fewer, tmp_path, capsys):
    show = Demo("00_none", "A story.", ["--out", str(tmp_path)], pretrained=True)
    trained_layer(show)
    show.finish()
    file = str(tmp_path / "00_none.safetensors")
    read = Demo("00_none", "A story.", ["--pretrained", file], pretrained=True)
    trained_layer(read)
    read.out = tmp_path / "again"
    assert read.choose(1, 500, pretrained=100 if fewer else None) == (100 if fewer else 500)
    capsys.readouterr()
    read.finish()
    assert ("fewer examples" in capsys.readouterr().out) == fewer


def test_what_belongs_to_the_weights_keeps_its_size_in_a_quick_run_with_pretrained(tmp_path):
    show = Demo("00_none", "A story.", ["--out", str(tmp_path)], pretrained=True)
    trained_layer(show)
    file = str(tmp_path / "00_none.safetensors")
    quick = Demo("00_none", "A story.", ["--quick"], pretrained=True)
    both = Demo("00_none", "A story.", ["--quick", "--pretrained", file], pretrained=True)
    read = Demo("00_none", "A story.", ["--pretrained", file], pretrained=True)
    assert [s.as_trained(1, 32) for s in (quick, both, read)] == [1, 32, 32]
    assert [s.choose(1, 500, pretrained=100) for s in (quick, both, read)] == [1, 1, 100]


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--seed", "4"], "--seed 4: the weights of .* are of seed 3"),
        (["--half"], "does not go with --full, --half or --parallel"),
        (["--parallel", "threads"], "does not go with --full, --half or --parallel"),
    ],
)
def test_flags_of_a_training_are_refused_beside_pretrained(flags, said, tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    trained_layer(Demo("00_none", "A story.", [*out, "--seed", "3"], pretrained=True))
    file = str(tmp_path / "00_none.safetensors")
    with pytest.raises(SystemExit) as ended:
        Demo("00_none", "A story.", ["--pretrained", file, *flags], half=True, pretrained=True)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and re.search(said, error) and error.count("\n") == 1


def test_weights_that_cannot_be_used_end_the_run_with_one_line(tmp_path, capsys):
    trained_layer(Demo("00_none", "A story.", ["--out", str(tmp_path)], pretrained=True))
    file = str(tmp_path / "00_none.safetensors")
    for name, given, said in (
        ("98_missing", "", "there are no weights called '98_missing' here"),
        ("98_missing", file, "is of the demo 00_none"),
        ("00_none", str(tmp_path / "no.safetensors"), "cannot be read"),
    ):
        with pytest.raises(SystemExit) as ended:
            Demo(name, "A story.", ["--pretrained", given], pretrained=True)
        error = capsys.readouterr().err
        assert ended.value.code == 2 and said in error and error.count("\n") == 1
    show = Demo("00_none", "A story.", ["--pretrained", file], pretrained=True)
    with pytest.raises(SystemExit) as ended:
        show.trained(pytest.fail, {"layer": nn.Linear(3, 1)})
    assert ended.value.code == 2 and capsys.readouterr().err.startswith(f"--pretrained {file}: ")


def test_a_demo_without_weights_refuses_pretrained_and_names_the_demos_that_have_them(capsys):
    with pytest.raises(SystemExit) as ended:
        Demo("01_autograd", "A story.", ["--pretrained"])
    assert ended.value.code == 2
    assert f"--pretrained is a flag of {', '.join(WITH_PRETRAINED)}" in capsys.readouterr().err
    demos = Path(__file__).parent.parent.parent / "demos"
    assert [
        d.stem for d in sorted(demos.glob("*.py")) if "pretrained=True" in d.read_text("utf-8")
    ] == list(WITH_PRETRAINED)


def test_every_demo_makes_a_demo_and_uses_its_device():
    demos = sorted((Path(__file__).parent.parent.parent / "demos").glob("[0-9][0-9]_*.py"))
    assert demos and all(
        ".device" in text and "Demo(" in text
        for text in (d.read_text(encoding="utf-8") for d in demos)
    )


def test_a_figure_is_one_number_or_more_and_may_be_nan(tmp_path):
    show = Demo("00_none", "A title", ["--out", str(tmp_path), "--quick"])
    for nothing in ([], ()):
        with pytest.raises(ValueError, match="measured: value"):
            show.measured("loss", nothing)
    show.measured("loss", float("nan"))
    assert len(show.rows) == 1


def test_a_wrong_file_of_the_user_ends_the_run_with_one_line_that_names_the_flag(capsys):
    show = Demo("06_vit", "a story", ["--data", "nowhere"], data="your images")
    with pytest.raises(SystemExit) as left, show.reading("data"):
        raise FileNotFoundError("there is no folder 'nowhere'")
    assert left.value.code == 2
    assert capsys.readouterr().err == "--data nowhere: there is no folder 'nowhere'\n"


def test_an_error_that_is_not_about_the_users_file_keeps_its_traceback():
    show = Demo("06_vit", "a story", [], data="your images")
    with pytest.raises(TypeError, match="a bug"), show.reading("data"):
        raise TypeError("a bug")


def test_a_protocol_says_that_it_does_not_take_the_demos_own_flags(capsys):
    with pytest.raises(SystemExit):
        Demo("11_label_to_image", "a story", ["--map", "my.png"], full=True)
    assert "the whole protocol does not take --map my.png" in capsys.readouterr().err


def test_a_word_of_another_script_in_parentheses_is_left_out_where_only_ascii_is_printed():
    assert ascii_only("Style transfer (风格迁移). Faces (a, b).") == "Style transfer. Faces (a, b)."
