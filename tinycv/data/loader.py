"""Batches, named after PyTorch's DataLoader, with one promise more: they can be asked for again.

Everything random is a function of (seed, epoch, batch number) alone. So training that stopped after
batch 17 of epoch 3 goes on with ``loader.epoch(3, start=18)`` and sees the same bits as if it had
never stopped.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from tinycv.data import inputs
from tinycv.engine.arguments import NOT_PLAIN, listed, number_kind, shown, size, whole

Batch = tuple[np.ndarray, ...]
Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
# a loader does not count with them; objects are refused with all shapes
ANYTHING = "biufcOSUMmV"
Mix = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


class Loader(Protocol):
    """What a training takes its batches from: either class below, or another with these two."""

    def __len__(self) -> int:
        """Batches per epoch."""
        ...

    def epoch(self, number: int, start: int = 0, /) -> Iterator[Batch]:
        """The batches of epoch ``number`` from batch ``start`` on."""
        ...


class DataLoader:
    """Yield tuples of batches, one entry for each array, all taken at the same samples.

    Arrays are (N, ...) with one N for all. ``transform(x, rng)`` is applied to each batch of the
    first array, and then ``mix(x, y, rng)`` to that of the first two, which it returns: see mix.py.
    ``for x, y in loader`` runs through one epoch: epoch 0 the first time, 1 the next, and so on.
    """

    def __init__(
        self,
        *arrays: np.ndarray,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        transform: Transform | None = None,
        mix: Mix | None = None,
        drop_last: bool = False,
    ):
        self.arrays = _same_length(arrays)
        self.samples = len(self.arrays[0])
        batch_size, seed = (
            size(batch_size, "DataLoader: batch_size", 1),
            whole(seed, "DataLoader: seed"),
        )
        shuffle, drop_last = (
            inputs.flag(shuffle, "DataLoader: shuffle"),
            inputs.flag(drop_last, "DataLoader: drop_last"),
        )
        inputs.function(transform, "DataLoader: transform", "of a batch and a generator")
        inputs.function(mix, "DataLoader: mix", "of two batches and a generator")
        if mix is not None and len(self.arrays) < 2:
            raise ValueError(
                "DataLoader: mix blends images and their labels: give the DataLoader both arrays"
            )
        if drop_last and batch_size > self.samples:
            raise ValueError(
                f"DataLoader: batch_size={batch_size} with drop_last=True leaves no batch of "
                f"{self.samples} samples; lower it, or keep the last batch"
            )
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.transform, self.mix, self.drop_last = transform, mix, drop_last
        self.next_epoch = 0

    def __len__(self) -> int:
        """Batches an epoch."""
        full, rest = divmod(self.samples, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        self.next_epoch += 1
        return self.epoch(self.next_epoch - 1)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from batch ``start`` on; none when ``start`` is
        len(loader)."""
        # _batches is a generator of its own, so that an error comes now, and not at the first
        # batch.
        return self._batches(*_place("DataLoader", number, start, len(self)))

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        order = (
            self._rng(epoch).permutation(self.samples) if self.shuffle else np.arange(self.samples)
        )
        for number in range(start, len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            first, *others = (array[chosen] for array in self.arrays)
            rng = self._rng(epoch, number)
            if self.transform is not None:
                first = _as_many("transform", self.transform(first, rng), len(chosen))
            if self.mix is not None:
                first, others[0] = _pair(self.mix(first, others[0], rng), len(chosen))
            yield first, *others

    def _rng(self, *key: int) -> np.random.Generator:
        # spawn_key, not a longer seed: default_rng([s, e]) and default_rng([s, e, 0]) are the same
        # stream.
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


class DrawnLoader:
    """Data without end: every batch is drawn anew by ``draw(batch_size, rng)``, a tuple of arrays,
    and never seen again.

    ``batches`` of them are called an epoch. Batch and epoch number decide what is drawn, as in
    DataLoader.
    """

    def __init__(
        self,
        draw: Callable[[int, np.random.Generator], Batch],
        batch_size: int,
        batches: int,
        seed: int = 0,
    ):
        if not callable(draw):
            raise TypeError(
                f"DrawnLoader: draw is {shown(draw)}; it must be a function of a batch size and a "
                "generator"
            )
        self.draw, self.seed = draw, whole(seed, "DrawnLoader: seed")
        self.batch_size = inputs.whole(batch_size, "DrawnLoader: batch_size", 1)
        self.batches = inputs.whole(batches, "DrawnLoader: batches", 1)
        self.samples = self.batch_size * self.batches

    def __len__(self) -> int:
        return self.batches

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from batch ``start`` on; none when ``start`` is
        len(loader)."""
        return self._batches(*_place("DrawnLoader", number, start, self.batches))

    def _batches(self, number: int, start: int) -> Iterator[Batch]:
        for batch in range(start, self.batches):
            key = np.random.SeedSequence(self.seed, spawn_key=(number, batch))
            yield _whole_batch(
                self.draw(self.batch_size, np.random.default_rng(key)), self.batch_size
            )


def _same_length(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The arrays, if samples lie along axis 0 of each and there are equally many; else an error
    with all shapes."""
    arrays = tuple(
        inputs.array(a, f"DataLoader: array {i}", "an array with samples along axis 0", ANYTHING)
        for i, a in enumerate(arrays)
    )
    shapes = listed(array.shape for array in arrays) or "none"
    if any(array.ndim == 0 or array.dtype == object for array in arrays):
        raise TypeError(f"a DataLoader takes arrays with samples along axis 0, got shapes {shapes}")
    if len({len(array) for array in arrays}) != 1 or len(arrays[0]) == 0:
        raise ValueError(f"a DataLoader takes arrays of one length above 0, got shapes {shapes}")
    return arrays


def _place(who: str, number: Any, start: Any, batches: int) -> tuple[int, int]:
    """Epoch and batch to begin with, from 0 on; the end of an epoch is a place too."""
    number, start = size(number, f"{who}.epoch: number"), size(start, f"{who}.epoch: start")
    if start > batches:
        raise ValueError(
            f"{who}.epoch: epoch {shown(number)} from batch {shown(start)}: start lies between 0 "
            f"and {batches}, the batches of an epoch"
        )
    return number, start


def _as_many(name: str, changed: Any, count: int) -> Any:
    """What a function of the user made of ``count`` samples, if it is as many: else labels would
    fall to other samples."""
    if not _has_rows(changed):
        raise TypeError(
            f"DataLoader: {name} returned {shown(changed)}; it must return the batch that it made, "
            "an array with samples along axis 0"
        )
    if len(changed) != count:
        raise ValueError(
            f"DataLoader: {name} made {len(changed)} samples of {count}; the other arrays "
            "would no longer belong to them"
        )
    return changed


def _has_rows(value: Any) -> bool:
    """Is it an array of any library, with samples along axis 0? NumPy's objects and masked arrays
    are none."""
    return (
        bool(getattr(value, "shape", ()))
        and not isinstance(value, NOT_PLAIN)
        and (number_kind(value) != "O")
    )


def _whole_batch(drawn: Any, count: int) -> Batch:
    """What ``draw`` returned, if it is a tuple of arrays with ``count`` samples each."""
    takes = f"it must return a tuple of arrays, each with {count} samples along axis 0"
    if not isinstance(drawn, (tuple, list)) or not drawn or not all(map(_has_rows, drawn)):
        raise TypeError(f"DrawnLoader: draw returned {shown(drawn)}; {takes}")
    lengths = [len(array) for array in drawn]
    if set(lengths) != {count}:
        raise ValueError(f"DrawnLoader: draw returned arrays of {lengths} samples; {takes}")
    return tuple(drawn)


def _pair(mixed: Any, count: int) -> tuple[Any, Any]:
    """Images and labels, as ``mix`` returned them."""
    if not isinstance(mixed, (tuple, list)) or len(mixed) != 2:
        raise TypeError(
            f"DataLoader: mix returned {shown(mixed)}; it must return images and labels, a tuple "
            "of two"
        )
    return _as_many("mix", mixed[0], count), _as_many("mix", mixed[1], count)
