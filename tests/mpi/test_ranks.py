"""parallel.mpi with 2 and 3 ranks on this machine: the bits of threads; errors, kills and Ctrl-C
end all ranks and leave a checkpoint that resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

import carriers
import mpi_script

from tinycv.data.augment import random_shift
from tinycv.training import checkpoint, parallel

ROOT = Path(__file__).parents[2]
# s; a program takes about 2, and one that hangs takes forever
LIMIT = 100


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}


def command(ranks, name, folder):
    script = str(Path(__file__).with_name("mpi_script.py"))
    return ["mpiexec", "-n", str(ranks), sys.executable, script, name, str(folder)]


def run(ranks, name, folder):
    """Run a program of mpi_script.py. Its result; TimeoutExpired if a rank hangs."""
    return subprocess.run(
        command(ranks, name, folder),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment(),
        start_new_session=True,
    )


def run_well(ranks, name, folder):
    done = run(ranks, name, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module", params=[2, 3])
def equality(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("equality")
    run_well(request.param, "equality", folder)
    return request.param, folder


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentences")
    run_well(2, "sentences", folder)
    return [(folder / f"texts{rank}").read_text().splitlines() for rank in range(2)]


def same_bits(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)


# ── the same results ──


def test_gradients_buffers_and_scores_have_the_bits_of_threads_in_all_ranks(equality):
    ranks, folder = equality
    with parallel.threads(ranks) as group:
        expected = [a for n in (7, 2, 1) for a in mpi_script.steps(group, n)]
    for rank in range(ranks):
        same_bits(mpi_script.load(folder, "steps", rank), expected)


def test_a_loss_with_leaves_of_its_own_has_the_bits_of_threads(equality):
    ranks, folder = equality
    with parallel.threads(ranks) as group:
        expected = mpi_script.penalised(group)
    for rank in range(ranks):
        same_bits(mpi_script.load(folder, "penalised", rank), expected)


@pytest.mark.parametrize("name, transform", [("training", None), ("shifted", random_shift)])
def test_a_training_with_dropout_and_augmentation_has_the_bits_of_threads(
    equality, name, transform
):
    ranks, folder = equality
    with parallel.threads(ranks) as group:
        expected = mpi_script.training(group, transform=transform)[1]
    for rank in range(ranks):
        same_bits(mpi_script.load(folder, name, rank), expected)


def test_allreduce_gives_the_same_gradients_to_rounding_and_equal_ones_in_all_ranks(equality):
    ranks, folder = equality
    found = mpi_script.load(folder, "any")
    for a, b in zip(found, mpi_script.load(folder, "steps"), strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    for rank in range(1, ranks):
        same_bits(mpi_script.load(folder, "any", rank), found)


def test_evaluation_notes_the_metrics_of_rank_0_and_map_returns_all_rows(tmp_path):
    run_well(2, "evaluation", tmp_path)
    for rank in range(2):
        ranks, *scores = mpi_script.load(tmp_path, "metrics", rank)
        assert ranks.tolist() == [0, 0, 0] and all(len(s) == 22 for s in scores)


def test_hooks_run_in_rank_0_alone_and_their_error_reaches_all_ranks(tmp_path):
    run_well(2, "hooks", tmp_path)
    called, error = mpi_script.load(tmp_path, "hooks", 0)
    # batches of 8, 8 and 6 examples
    assert called.tolist() == [[0, 8], [1, 8], [2, 6]] and "in a hook" in str(error)
    not_called, error = mpi_script.load(tmp_path, "hooks", 1)
    assert not not_called.size and "in a hook" in str(error)


def test_a_rank_loads_and_computes_its_own_rows_alone(tmp_path):
    run_well(3, "rows", tmp_path)
    computed, loaded = zip(*(mpi_script.load(tmp_path, "own", r) for r in range(3)), strict=True)
    # batches of 8, 8 and 6 examples
    assert [a.tolist() for a in computed] == [[2, 2, 2], [3, 3, 2], [3, 3, 2]]
    assert [a[::2].tolist() for a in loaded] == [a.tolist() for a in computed]
    others = [mpi_script.load(tmp_path, "other", r)[0].tolist() for r in range(3)]
    assert others == [[1, 1], [1, 1], [2, 2]]


def test_without_mpiexec_there_is_one_rank(tmp_path):
    script = str(Path(__file__).with_name("mpi_script.py"))
    subprocess.run(
        [sys.executable, script, "equality", str(tmp_path)],
        check=True,
        timeout=LIMIT,
        env=environment(),
    )
    with parallel.threads(1) as group:
        same_bits(mpi_script.load(tmp_path, "training"), mpi_script.training(group)[1])


def test_two_ranks_repeat_all_training_curves_with_the_bits_of_threads(tmp_path):
    run_well(2, "curves", tmp_path)
    found = mpi_script.load(tmp_path, "curves")
    same_bits(mpi_script.load(tmp_path, "curves", 1), found)
    with parallel.threads(2) as group:
        same_bits(found, [np.array(carriers.curve(name, group)) for name in carriers.TRAININGS])
    for name, curve in zip(carriers.TRAININGS, found, strict=True):
        assert len(curve) >= 40
        np.testing.assert_allclose(curve, carriers.curve(name), rtol=1e-5, atol=0, err_msg=name)


# ── GPUs, on the double of CuPy ──


@pytest.fixture(scope="module")
def gpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpus")
    run_well(2, "gpus", folder)
    return folder


@pytest.mark.parametrize("name", ["own", "one"])
def test_steps_on_gpus_are_those_of_threads_to_rounding_and_equal_in_both_ranks(gpus, name):
    with parallel.threads(2) as group:
        expected = mpi_script.steps_without_dropout(group)
    found = mpi_script.load(gpus, name)
    same_bits(mpi_script.load(gpus, name, 1), found)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_step_sends_the_gradients_through_nccl_in_one_message(gpus):
    ((calls),) = mpi_script.load(gpus, "calls")
    weights = sum(p.size for p in mpi_script.net().parameters())
    large = [size for _, size in calls if int(size) >= 4 * weights]
    assert len(large) == 3 and {name for name, _ in calls} == {"all_reduce", "broadcast"}


def test_ranks_that_share_a_gpu_send_through_the_host(gpus):
    assert mpi_script.load(gpus, "staged")[0] == "Staged"


def test_fit_trains_on_the_gpu_with_the_number_of_the_rank(gpus):
    for rank in range(2):
        assert set(mpi_script.load(gpus, "device", rank)[0]) == {f"gpu:{rank}"}


def test_a_gan_on_gpus_has_the_same_weights_in_both_ranks(gpus):
    losses, *weights = mpi_script.load(gpus, "gan")
    assert np.isfinite(losses).all() and len(losses) == 18
    same_bits(mpi_script.load(gpus, "gan", 1), [losses, *weights])


# ── errors that all ranks raise ──


@pytest.mark.parametrize(
    "number, words",
    [
        (0, "RuntimeError: all_reduce: the ranks have different models or batches"),
        (1, "RuntimeError: backward: the ranks have different random seeds, (0, 1) in rank 0"),
        (2, "RuntimeError: backward: the weights of rank 1 are not those of rank 0: call"),
        (
            3,
            "RuntimeError: backward: the ranks have different models or batches: [3, 3] in rank 0, "
            "[2, 3] in rank 1",
        ),
        (4, "ZeroDivisionError: in the last shard"),
        (5, "ZeroDivisionError: after batch norm"),
        (6, "as before: True"),
        (7, "OSError: [Errno 28] No space left on device"),
        (8, "RuntimeError: the ranks made different calls at the same time: rank 0 all_reduce"),
        (9, "RuntimeError: the ranks made different calls at the same time: rank 0 map, rank 1"),
        (10, "TypeError: Group.map: of 3 examples the function made a Tensor of shape ()"),
        (11, "RuntimeError: inside a shard the batch cannot be split again"),
        (12, "no error"),
        (13, "TrueFalse"),
        (14, "RuntimeError: backward: the weights of rank 1 are no longer those of rank 0"),
        (
            15,
            'RuntimeError: fit: the ranks have different models or batches: ("loader\'s seed", 0) '
            'in rank 0, ("loader\'s seed", 1) in rank 1',
        ),
    ],
)
def test_an_error_of_one_rank_is_raised_in_all_and_the_group_works_on(sentences, number, words):
    for texts in sentences:
        assert texts[number].startswith(words), texts[number]


# ── ends ──


def ended(done, folder):
    """Assert that the program failed; returns the step of the checkpoint that it left."""
    assert done.returncode != 0
    return checkpoint.load(folder / "run")[1]["step"]


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_killed_rank_ends_all_and_leaves_a_checkpoint_that_resumes(ranks, tmp_path):
    start = time.monotonic()
    assert ended(run(ranks, "killed", tmp_path), tmp_path) == 4
    assert time.monotonic() - start < LIMIT / 2
    run_well(2, "whole", tmp_path)
    assert len(mpi_script.load(tmp_path, "whole")[0]) == 18


def test_a_full_disk_of_rank_0_ends_all_and_leaves_the_older_checkpoint(tmp_path):
    done = run(2, "full_disk", tmp_path)
    assert ended(done, tmp_path) == 2 and "File too large" in done.stderr
    run_well(3, "whole", tmp_path)
    assert len(mpi_script.load(tmp_path, "whole")[0]) == 18


def test_ctrl_c_in_one_rank_stops_all_after_the_same_step(tmp_path):
    done = run(2, "interrupted", tmp_path)
    assert ended(done, tmp_path) == 5 and "stopped after step 5 of 18, saved to" in done.stderr


def test_ctrl_c_at_mpiexec_saves_and_ends(tmp_path):
    with subprocess.Popen(
        command(2, "endless", tmp_path),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    ) as program:
        deadline = time.monotonic() + LIMIT
        while not all((tmp_path / f"ready{rank}").exists() for rank in range(2)):
            assert time.monotonic() < deadline and program.poll() is None
            time.sleep(0.05)
        program.send_signal(signal.SIGINT)
        said = "".join(program.communicate(timeout=LIMIT))
    assert program.returncode != 0 and "stopped after step" in said
    assert checkpoint.load(tmp_path / "run")[1]["step"] >= 3


@pytest.mark.parametrize(
    "name, words",
    [
        ("uncaught", "ZeroDivisionError: between two batches"),
        ("leaves_early", "rank 1 the end of the program"),
    ],
)
def test_a_rank_that_fails_or_ends_between_two_batches_ends_all(name, words, tmp_path):
    done = run(2, name, tmp_path)
    assert done.returncode != 0 and words in done.stderr


# ── resuming ──


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """A checkpoint that two ranks wrote at step 4."""
    folder = tmp_path_factory.mktemp("unfinished")
    run_well(2, "stopped", folder)
    assert checkpoint.load(folder / "run")[1]["step"] == 4
    return (folder / "run").read_bytes()


def test_two_threads_finish_the_training_of_two_ranks_with_the_same_bits(unfinished, tmp_path):
    (tmp_path / "run").write_bytes(unfinished)
    with parallel.threads(2) as group:
        same_bits(mpi_script.training(group, tmp_path / "run")[1], mpi_script.training(group)[1])


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_training_resumes_with_another_number_of_ranks(unfinished, ranks, tmp_path):
    (tmp_path / "run").write_bytes(unfinished)
    run_well(ranks, "whole", tmp_path)
    assert len(mpi_script.load(tmp_path, "whole")[0]) == 18


def test_two_ranks_finish_the_training_of_two_threads_with_the_same_bits(tmp_path):
    def stop():
        raise ZeroDivisionError("stop")

    with parallel.threads(2) as group:
        expected = mpi_script.training(group)[1]
        with pytest.raises(ZeroDivisionError):
            mpi_script.training(group, tmp_path / "run", (9, stop))
    run_well(2, "whole", tmp_path)
    same_bits(mpi_script.load(tmp_path, "whole"), expected)


def test_two_ranks_finish_the_gan_of_two_threads_and_the_other_way_round(tmp_path):
    with parallel.threads(2) as group:
        expected = mpi_script.gan(group)
        with pytest.raises(ZeroDivisionError):
            mpi_script.gan(group, tmp_path / "run", 8)
        run_well(2, "whole_gan", tmp_path)
        for rank in range(2):
            same_bits(mpi_script.load(tmp_path, "whole", rank), expected)
        (tmp_path / "run").unlink()
        run_well(2, "stopped_gan", tmp_path)
        assert checkpoint.load(tmp_path / "run")[1]["step"] == 4
        same_bits(mpi_script.gan(group, tmp_path / "run"), expected)
