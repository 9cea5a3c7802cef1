"""What the tests of test_ranks.py run under mpiexec:  mpiexec -n 2 python mpi_script.py NAME FOLDER

Each function below is one program; every rank runs it. The tests also call some of the functions
with a group of threads, to compare.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np

import tinycv
from tinycv import Tensor, nn
from tinycv.adversarial import fit_gan
from tinycv.adversarial.gan import R1, GradientPenalty
from tinycv.data import DataLoader
from tinycv.data.augment import random_shift
from tinycv.engine import shards
from tinycv.nn import functional as F
from tinycv.optim import AdamW
from tinycv.training import parallel
from tinycv.training.loop import fit

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(22, 1, 8, 8)).astype("f")
LABELS = np.arange(22) % 3


class Net(nn.Module):
    """Batch norm, dropout and spectral norm: all that shards have to agree on."""

    def __init__(self, width=4):
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.3)
        self.head = nn.SpectralNorm(nn.Linear(width * 64, 3))

    def forward(self, x):
        hidden = self.drop(F.relu(self.norm(self.conv(x))))
        return self.head(hidden.reshape((len(x), -1)))


def net(seed=0, width=4):
    tinycv.manual_seed(seed)
    return Net(width)


def entropy(model, x, y):
    return F.cross_entropy(model(x), y)


def steps(group, n=7, count=3):
    """Losses, gradients, buffers and scores of a few steps of plain gradient descent."""
    return steps_on(group, "cpu", n, count)


def steps_without_dropout(group, device="cpu"):
    """``steps`` on a device. A GPU would draw other random numbers for dropout."""
    return steps_on(group, device, dropout=False)


def steps_on(group, device, n=7, count=3, dropout=True):
    model, found = net().to(device), []
    if not dropout:
        model.drop = nn.Dropout(0)
    x, y = Tensor(IMAGES[:n], device=device), Tensor(LABELS[:n], device=device)
    for _ in range(count):
        model.zero_grad()
        found.append(group.backward(partial(entropy, model), x, y).numpy())
        for p in model.parameters():
            found.append(p.grad.numpy().copy())
            p.data[...] -= 0.1 * p.grad.data
            p.mark_changed()
    found += [b.numpy().copy() for b in model.buffers()]
    found.append(group.map(model.eval(), x).numpy())
    return found


def penalised(group, steps=2):
    """Losses and gradients of a loss with an R1 penalty, which makes a leaf in each shard."""
    tinycv.manual_seed(0)
    model, found = nn.Sequential(nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 1)), []
    for _ in range(steps):
        model.zero_grad()
        found.append(
            group.backward(
                lambda x: model(x).mean() + R1(1.0)(model, x, x), IMAGES[:7].reshape(7, 64)
            ).numpy()
        )
    return found + [p.grad.numpy() for p in model.parameters()]


def training(group, path=None, stop=None, epochs=3, transform=None, evaluate=None):
    """A training with dropout and batch norm: its history, and the weights at its end. stop: at
    which call of the loss function something happens, and what."""
    model, calls = net(), iter(range(10**6))

    def loss_fn(model, x, y):
        if stop is not None and next(calls) == stop[0]:
            stop[1]()
        return entropy(model, x, y)

    history = fit(
        model,
        AdamW(model.named_parameters(), lr=0.01),
        loss_fn,
        DataLoader(IMAGES, LABELS, batch_size=4, seed=1, transform=transform),
        epochs,
        seed=4,
        checkpoint=path,
        checkpoint_every=2,
        evaluate=evaluate,
        progress=False,
        parallel=group,
    )
    return history, [np.array(history.losses), *(p.numpy().copy() for p in model.parameters())]


# ── the programs ─────────────────────────────────────────────────────────────────────────────────


def equality(folder):
    """Steps with several batch sizes, and trainings."""
    with parallel.mpi() as group:
        save(folder, group, "steps", [a for n in (7, 2, 1) for a in steps(group, n)])
        save(folder, group, "penalised", penalised(group))
        save(folder, group, "training", training(group)[1])
        save(folder, group, "shifted", training(group, transform=random_shift)[1])
    with parallel.mpi(order="any") as group:
        save(folder, group, "any", steps(group))
        save(folder, group, "sent", [np.array(group.messages.sent)])


def evaluation(folder):
    """Each rank measures something else; all note what rank 0 measured, and share the rows."""
    with parallel.mpi() as group:
        scores = []

        def evaluate(model):
            scores.append(group.map(model, IMAGES).numpy())
            return {"rank": group.rank, "size": len(scores[-1])}

        history, _ = training(group, evaluate=evaluate)
        save(folder, group, "metrics", [np.array([m["rank"] for m in history.metrics]), *scores])


def curves(folder):
    """The losses of all trainings of carriers.py, each of 50 steps."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
    import carriers

    with parallel.mpi() as group:
        found = {name: np.array(carriers.curve(name, group)) for name in carriers.TRAININGS}
        save(folder, group, "curves", list(found.values()))


class Rows:
    """A loader of another kind, which notes how many rows a rank was given."""

    batch_size, samples, seed = 4, 8, 0

    def __len__(self):
        return 2

    def epoch(self, number, start=0):
        for i in range(start, 2):
            yield IMAGES[4 * i : 4 * i + 4], LABELS[4 * i : 4 * i + 4]


def rows(folder):
    """How many rows each rank loads and computes."""
    taken = []

    class Counted(np.ndarray):
        def __getitem__(self, chosen):
            if isinstance(chosen, np.ndarray):
                taken.append(len(chosen))
            return np.asarray(super().__getitem__(chosen))

    def loss_fn(model, x, y):
        computed.append(len(x))
        return entropy(model, x, y)

    with parallel.mpi() as group:
        for name, loader in (
            ("own", DataLoader(IMAGES, LABELS, batch_size=8)),
            ("other", Rows()),
        ):
            computed, model = [], net()
            if name == "own":
                loader.arrays = tuple(a.view(Counted) for a in loader.arrays)
            fit(
                model,
                AdamW(model.named_parameters()),
                loss_fn,
                loader,
                1,
                progress=False,
                parallel=group,
            )
            save(folder, group, name, [np.array(computed), np.array(taken)])


def hooks(folder):
    """The steps at which hooks run in each rank; a hook of rank 0 then raises an error."""
    called, error = [], ""

    def hook(step):
        called.append((step.step, step.examples))
        if step.step == 2:
            raise ZeroDivisionError("in a hook")

    with parallel.mpi() as group:
        model, loader = net(), DataLoader(IMAGES, LABELS, batch_size=8)
        optimizer = AdamW(model.named_parameters())
        options = {"progress": False, "parallel": group, "on_step": hook}
        try:
            fit(model, optimizer, entropy, loader, 2, **options)
        except ZeroDivisionError as found:
            error = str(found)
        save(folder, group, "hooks", [np.array(called), np.array(error)])


def sentences(folder):
    """The errors that all ranks raise when one of them does something else; the group works on."""
    texts = []
    with parallel.mpi() as group:
        last = group.rank == group.size - 1

        def attempt(work):
            try:
                work()
                texts.append("no error")
            except Exception as error:
                texts.append(f"{type(error).__name__}: {error}")

        def backward(model, n=6, loss=entropy):
            group.backward(partial(loss, model), IMAGES[:n], LABELS[:n])

        def fails(model, x, y):
            if last:
                raise ZeroDivisionError("in the last shard")
            return entropy(model, x, y)

        def fails_late(model, x, y):
            loss = entropy(model, x, y)
            if last:
                raise ZeroDivisionError("after batch norm")
            return loss

        def disk():
            raise OSError(28, "No space left on device")

        def uneven(x):
            y = x.sum(axis=(1, 2, 3))
            return Tensor(shards.all_reduce(y) if last else y)

        attempt(lambda: backward(net(width=5 if last else 4)))
        attempt(lambda: backward(net(seed=1 if last else 0)))
        model = net(seed=1 if last else 0)
        tinycv.manual_seed(0)
        attempt(lambda: backward(model))
        model = net()
        attempt(lambda: backward(model, 5 if last else 6))
        attempt(lambda: backward(model, loss=fails))
        before = [b.numpy().copy() for b in model.buffers()]
        attempt(lambda: backward(model, loss=fails_late))
        same = all(
            (a == b.numpy()).all() for a, b in zip(before, model.buffers(), strict=True)
        ) and all(p.grad is None for p in model.parameters())
        texts.append(f"as before: {same}")
        attempt(lambda: group.first(disk))
        attempt(lambda: group.map(model, IMAGES) if last else backward(model))
        attempt(lambda: group.map(uneven, IMAGES[:6]))
        attempt(lambda: group.map(lambda x: x.mean(), Tensor(IMAGES[:6])))
        attempt(lambda: group.map(lambda x: group.map(model, x), IMAGES[:6]))
        attempt(lambda: backward(model))
        texts.append(str(group.agree(last)) + str(group.agree(False)))
        if last:
            model.load_state_dict({name: 2 * t.numpy() for name, t in model.state_dict().items()})
        attempt(lambda: backward(model))
        model = net()
        loader = DataLoader(IMAGES, LABELS, batch_size=6, seed=int(last))
        attempt(
            lambda: fit(
                model,
                AdamW(model.named_parameters()),
                entropy,
                loader,
                1,
                parallel=group,
                progress=False,
            )
        )
    (folder / f"texts{group.rank}").write_text("\n".join(t.replace("\n", " ") for t in texts))


def stopped(folder):
    """A training that ends at step 5 with an error in all ranks."""

    def stop():
        raise ZeroDivisionError("stop")

    try:
        with parallel.mpi() as group:
            training(group, folder / "run", (5, stop))
    except ZeroDivisionError:
        return


def gan(group, path=None, stop_at=None, device=None):
    """The history of a GAN training, which is resumed from the file ``path`` if it exists, and the
    weights at its end. stop_at: the call of the penalty that raises an error."""
    tinycv.manual_seed(0)
    generator = nn.Sequential(nn.Linear(3, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64))
    generator.latent, calls = 3, iter(range(10**6))
    discriminator = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    penalty = GradientPenalty(0.1)

    def stopping(*arguments):
        if next(calls) == stop_at:
            raise ZeroDivisionError("stop")
        return penalty(*arguments)

    history = fit_gan(
        generator,
        discriminator,
        AdamW(generator.named_parameters(), lr=0.01),
        AdamW(discriminator.named_parameters(), lr=0.01),
        DataLoader(IMAGES.reshape(22, 64), batch_size=4, seed=1),
        3,
        penalty=stopping,
        critic_steps=2,
        checkpoint=path,
        checkpoint_every=2,
        progress=False,
        device=device,
        parallel=group,
    )
    weights = [p.numpy().copy() for side in (generator, discriminator) for p in side.parameters()]
    return [np.array(history.losses), *weights]


def stopped_gan(folder):
    """A GAN training that ends at step 5 with an error in all ranks."""
    try:
        with parallel.mpi() as group:
            gan(group, folder / "run", 5)
    except ZeroDivisionError:
        return


def whole_gan(folder):
    """A GAN training that resumes, if it can, and ends."""
    arrays = gan("mpi", folder / "run")
    with parallel.mpi() as group:
        save(folder, group, "whole", arrays)


def whole(folder):
    """A training that resumes, if it can, and ends."""
    history, arrays = training("mpi", folder / "run")
    with parallel.mpi() as group:
        save(folder, group, "whole", arrays)


def killed(folder):
    """The last rank is killed at step 5."""
    with parallel.mpi() as group:
        kill = partial(os.kill, os.getpid(), signal.SIGKILL)
        training(group, folder / "run", (5, kill) if group.rank == group.size - 1 else None)


def interrupted(folder):
    """The last rank alone receives Ctrl-C in step 4."""
    with parallel.mpi() as group:
        press = partial(os.kill, os.getpid(), signal.SIGINT)
        training(group, folder / "run", (4, press) if group.rank == group.size - 1 else None)


def endless(folder):
    """A training that lasts until Ctrl-C."""
    with parallel.mpi() as group:

        def ready():
            (folder / f"ready{group.rank}").touch()

        training(group, folder / "run", (3, ready), epochs=10**6)


def full_disk(folder):
    """From step 3 on, rank 0 can write no file of more than 100 bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with parallel.mpi() as group:
        fill = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100, 100))
        training(group, folder / "run", (3, fill) if group.rank == 0 else None)


def uncaught(folder):
    """The last rank fails between two batches, while the others compute the next one."""
    group = parallel.mpi()
    steps(group, count=1)
    if group.rank == group.size - 1:
        raise ZeroDivisionError("between two batches")
    steps(group)


def leaves_early(folder):
    """The last rank ends its program, in peace, while the others compute the next batch."""
    group = parallel.mpi()
    steps(group, count=1)
    if group.rank < group.size - 1:
        steps(group)


def gpus(folder):
    """Steps on the double of CuPy: with a GPU for each rank, and with one GPU for both."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import cupy_double
    from cupy_double.world import WORLD

    cupy_double.install()
    with parallel.mpi() as group:
        WORLD.devices = group.size
        own = group.place("gpu")
        save(folder, group, "own", steps_without_dropout(group, own))
        on_gpus = group.on_gpus
        calls = on_gpus.backend.calls
        save(folder, group, "calls", [np.array(list(calls))])
        history = fit_on_gpu(group)
        save(folder, group, "device", [np.array([own, *history])])
        save(folder, group, "gan", gan(group, device="gpu"))
    WORLD.devices = 1
    with parallel.mpi() as group:
        save(folder, group, "one", steps_without_dropout(group, group.place("gpu")))
        save(folder, group, "staged", [np.array(type(group.on_gpus).__name__)])


def real_gpus(folder):
    """Steps on a real GPU for each rank."""
    with parallel.mpi() as group:
        save(folder, group, "own", steps_without_dropout(group, group.place("gpu")))
        save(folder, group, "nccl", [np.array(type(group.on_gpus).__name__)])


def fit_on_gpu(group):
    """Where the weights of each rank are after a training with device="gpu"."""
    model = net()
    loader = DataLoader(IMAGES, LABELS, batch_size=4)
    optimizer = AdamW(model.named_parameters())
    fit(model, optimizer, entropy, loader, 1, device="gpu", progress=False, parallel=group)
    return [p.device for p in model.parameters()]


def save(folder, group, name, arrays):
    np.savez(folder / f"{name}{group.rank}.npz", *arrays)


def load(folder, name, rank=0):
    with np.load(folder / f"{name}{rank}.npz") as arrays:
        return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
