"""The benchmarked models for tinycv and PyTorch, written once, because both libraries use the same
names.

``lib`` is one of the two libraries, under the common names of libraries.py. Weights and examples
are the same numbers in both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any

from benchmarks import tasks

Lib = Any  # a SimpleNamespace from libraries.py


def build(lib: Lib, task: tasks.Task) -> Any:
    """The network of a task, with its weights loaded."""
    model = NETWORKS[type(task)](lib, task)
    shapes = tuple((name, tuple(p.shape)) for name, p in model.named_parameters())
    start = weights_of(task, shapes)
    lib.load(model, start)
    return model


def shapes_of(task: tasks.Task) -> dict[str, tuple]:
    """The names and shapes of the parameters, for libraries without modules."""
    from benchmarks.libraries import tinycv_parts

    model = NETWORKS[type(task)](tinycv_parts(), task)
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


@lru_cache(maxsize=1)
def weights_of(task: tasks.Task, shapes: tuple[tuple[str, tuple], ...]) -> dict[str, Any]:
    """The weights of the last network are cached: the next row often has the same network, and
    drawing 86 million numbers takes a second."""
    return task.weights(dict(shapes))


def mlp(lib: Lib, task: tasks.Mlp) -> Any:
    layers: list[Any] = []
    for a, b in pairwise(task.widths):
        layers += [lib.nn.Linear(a, b), lib.nn.ReLU()]
    return lib.nn.Sequential(*layers[:-1])


def lstm(lib: Lib, task: tasks.Lstm) -> Any:
    class Reader(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = lib.LSTM(task.inputs, task.hidden, batch_first=True)
            self.head = lib.nn.Linear(task.hidden, task.classes)

        def forward(self, x: Any) -> Any:
            _, (h, _) = self.lstm(x)  # (1, B, H)
            return self.head(h[-1])

    return Reader()


def transformer(lib: Lib, task: tasks.Transformer) -> Any:
    class Writer(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = lib.nn.Embedding(task.words, task.width)
            self.position = lib.parameter((1, task.tokens, task.width))
            self.blocks = lib.modules(
                [lib.block(task.width, task.heads, task.mlp) for _ in range(task.layers)]
            )
            self.head = lib.nn.Linear(task.width, task.words)

        def forward(self, ids: Any) -> Any:
            x = self.embed(ids) + self.position  # (B, T, D)
            for block in self.blocks:
                x = lib.causal(block, x)
            return self.head(x)  # (B, T, words)

    return Writer()


def vit(lib: Lib, task: tasks.Vit) -> Any:
    return lib.vit(
        task.image, task.patch, task.classes, dim=task.width, depth=task.layers, heads=task.heads
    )


def lenet(lib: Lib, task: tasks.LeNet) -> Any:
    F, (a, b) = lib.F, task.channels

    class LeNet(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = lib.nn.Conv2d(1, a, 5), lib.nn.Conv2d(a, b, 5)
            self.fc1 = lib.nn.Linear(16 * b, 120)
            self.fc2, self.fc3 = lib.nn.Linear(120, 84), lib.nn.Linear(84, 10)

        def forward(self, x: Any) -> Any:
            x = F.avg_pool2d(F.relu(self.conv1(x)), 2)  # (B, a, 12, 12)
            x = F.avg_pool2d(F.relu(self.conv2(x)), 2)  # (B, b, 4, 4)
            x = F.relu(self.fc1(x.reshape(x.shape[0], 16 * b)))
            return self.fc3(F.relu(self.fc2(x)))

    return LeNet()


def gan(lib: Lib, task: tasks.Gan) -> Any:
    nn, c = lib.nn, task.channels

    def up(inputs: int, outputs: int, stride: int, padding: int) -> list:
        return [
            nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]

    def down(inputs: int, outputs: int) -> list:
        return [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.generator = nn.Sequential(
                *up(task.latent, 4 * c, 1, 0),
                *up(4 * c, 2 * c, 2, 1),
                *up(2 * c, c, 2, 1),
                nn.ConvTranspose2d(c, 1, 4, 2, 1),
                nn.Tanh(),
            )  # sides 4, 8, 16, 32
            self.discriminator = nn.Sequential(
                *down(1, c), *down(c, 2 * c), *down(2 * c, 4 * c), nn.Conv2d(4 * c, 1, 4)
            )

        def forward(self, z: Any) -> Any:
            return self.generator(z)  # (B, 1, 32, 32)

    return Pair()


def unet(lib: Lib, task: tasks.UNet) -> Any:
    nn, c = lib.nn, task.channels

    def stage(layer: Any, channels: int) -> Any:
        return nn.Sequential(layer, nn.GroupNorm(8, channels), nn.SiLU())

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter = stage(nn.Conv2d(1, c, 3, padding=1), c)
            self.fine = stage(nn.Conv2d(c, c, 3, padding=1), c)
            self.down = stage(nn.Conv2d(c, 2 * c, 3, stride=2, padding=1), 2 * c)
            self.coarse = stage(nn.Conv2d(2 * c, 2 * c, 3, padding=1), 2 * c)
            self.up = stage(nn.ConvTranspose2d(2 * c, c, 2, stride=2), c)
            self.join = stage(nn.Conv2d(2 * c, c, 3, padding=1), c)
            self.leave = nn.Conv2d(c, 1, 3, padding=1)

        def forward(self, x: Any) -> Any:
            fine = self.fine(self.enter(x))  # (B, c, S, S)
            coarse = self.coarse(self.down(fine))  # (B, 2 c, S/2, S/2)
            return self.leave(self.join(lib.join([self.up(coarse), fine], 1)))

    return UNet()


def score(lib: Lib, task: tasks.Score) -> Any:
    nn, h = lib.nn, task.hidden
    return nn.Sequential(
        nn.Linear(2, h), nn.Softplus(), nn.Linear(h, h), nn.Softplus(), nn.Linear(h, 2)
    )


NETWORKS: dict[type, Callable[[Lib, Any], Any]] = {
    tasks.Mlp: mlp,
    tasks.Lstm: lstm,
    tasks.Transformer: transformer,
    tasks.Vit: vit,
    tasks.LeNet: lenet,
    tasks.Gan: gan,
    tasks.UNet: unet,
    tasks.Score: score,
}


# ── Losses: each is a mean over a batch ───────────────────────────────────────────────────────────


def classify(lib: Lib, model: Any, x: Any, labels: Any) -> Any:
    return lib.F.cross_entropy(model(x), labels)


def predict_next(lib: Lib, model: Any, ids: Any, following: Any) -> Any:
    scores = model(ids)
    return lib.F.cross_entropy(scores.reshape(-1, scores.shape[-1]), following.reshape(-1))


def denoise(lib: Lib, model: Any, noisy: Any, clean: Any) -> Any:
    return lib.F.mse_loss(model(noisy), clean)


def match_score(lib: Lib, model: Any, x: Any) -> Any:
    x = lib.leaf(x)
    scores = model(x)  # (B, 2)
    trace = sum(lib.grad(scores[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2))
    return ((scores * scores).sum(-1) / 2 + trace).mean()


def loss_of(task: tasks.Task) -> Callable[..., Any]:
    losses = {tasks.Transformer: predict_next, tasks.UNet: denoise, tasks.Score: match_score}
    return losses.get(type(task), classify)


# ── Training steps ────────────────────────────────────────────────────────────────────────────────


def train_step(
    named: list[tuple[str, Any]], optimizer: Any, backward: Callable[[], Any]
) -> Callable[[], dict[str, Any]]:
    """The Work of a training step. backward() computes and returns the loss, and leaves the
    gradients in the parameters. named: the parameters whose gradients are compared."""

    def work() -> dict[str, Any]:
        optimizer.zero_grad()
        loss = backward()
        optimizer.step()
        return {"loss": loss, **gradients(named)}

    return work


def gan_step(
    lib: Lib,
    pair: Any,
    adam: Callable[[Any], Any],
    backward: Callable[..., Any],
    noise: Any,
    images: Any,
    more_noise: Any,
) -> Callable[[], dict[str, Any]]:
    """A step of a GAN (Goodfellow et al. 2014, algorithm 1): the discriminator learns from images
    and fakes; then the generator learns from fakes of new noise, with the discriminator frozen.
    ``backward(loss_of, *batch)`` returns the loss."""
    generator, discriminator = pair.generator, pair.discriminator
    softplus = lib.F.softplus
    generator_adam = adam(generator.parameters())
    discriminator_adam = adam(discriminator.parameters())
    named = list(pair.named_parameters())

    def discriminator_loss(noise: Any, images: Any) -> Any:  # -log D(x) - log(1 - D(G(z)))
        with lib.no_grad():
            fakes = generator(noise)
        on_real = softplus(-discriminator(images)).mean()
        return on_real + softplus(discriminator(fakes)).mean()

    def generator_loss(noise: Any) -> Any:  # -log D(G(z))
        return softplus(-discriminator(generator(noise))).mean()

    def work() -> dict[str, Any]:
        generator_adam.zero_grad()
        discriminator_adam.zero_grad()
        d_loss = backward(discriminator_loss, noise, images)
        discriminator_adam.step()
        discriminator.requires_grad_(False)
        g_loss = backward(generator_loss, more_noise)
        discriminator.requires_grad_(True)
        generator_adam.step()
        losses = {"loss of the discriminator": d_loss, "loss of the generator": g_loss}
        return losses | gradients(named)

    return work


def gradients(named: list[tuple[str, Any]]) -> dict[str, Any]:
    return {f"gradient of {name}": p.grad for name, p in named}
