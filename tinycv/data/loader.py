"""DataLoader and DrawnLoader: batches as from PyTorch's DataLoader, and reproducible bit for bit.

Every random choice depends on (seed, epoch, batch number) alone. So a training that stopped after
batch 17 of epoch 3 continues with ``loader.epoch(3, start=18)`` and gets the same bits as if it had
never stopped.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from tinycv.data import inputs
from tinycv.engine.arguments import NOT_PLAIN, listed, number_kind, shown, size, whole
from tinycv.engine.torch_names import with_hints

Batch = tuple[np.ndarray, ...]
Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
# NumPy's kinds of all dtypes: a loader does not compute with its arrays. (_same_length refuses "O",
# objects, with a message that has the shapes of all arrays.)
ANYTHING = "biufcOSUMmV"
# (number of examples) -> the first row that is wanted of them, and the one after the last
Rows = Callable[[int], tuple[int, int]]
Mix = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


class Loader(Protocol):
    """What a training loop needs of a loader: both classes below have it, and yours may too."""

    def __len__(self) -> int:
        """Batches per epoch."""
        ...

    def epoch(self, number: int, start: int = 0, /) -> Iterator[Batch]:
        """The batches of epoch ``number`` from batch ``start`` on."""
        ...


def parts(loader: Loader, number: int, start: int, rows: Rows) -> Iterator[tuple[int, Batch]]:
    """For each batch of ``loader.epoch(number, start)``: the number of its examples n, and their
    rows from ``rows(n)[0]`` to ``rows(n)[1]``. Where each of several processes computes a part of
    a batch, together they get the examples that one process would get, with the same augmentation.

    A DataLoader without ``transform`` and ``mix`` loads no other rows. Any other loader makes the
    whole batch, which is then cut: a transform draws its random numbers for a whole batch, and mix
    blends examples with each other.
    """
    if isinstance(loader, DataLoader):
        yield from loader.parts(number, start, rows)
        return
    for batch in loader.epoch(number, start):
        count = len(batch[0]) if _is_batch(batch) else 0
        first, end = rows(count)
        # a batch of another kind is left whole: the training loop refuses it
        yield count, tuple(array[first:end] for array in batch) if count else batch


def _is_batch(batch: Any) -> bool:
    """Is it a tuple or list of arrays of one length?"""
    return (
        isinstance(batch, (tuple, list))
        and all(map(_has_rows, batch))
        and len({len(array) for array in batch}) == 1
    )


class DataLoader:
    """Yields batches: tuples with one array per data array, all with the same samples.

    The arrays are (N, ...), with the same N for all. ``transform(x, rng)`` is applied to each batch
    of the first array, and then ``mix(x, y, rng)`` to the batches of the first two arrays, which it
    returns changed (mix.py). ``for x, y in loader`` runs through one epoch: epoch 0 the first time,
    then epoch 1, and so on.
    """

    @with_hints
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
        """The number of batches per epoch."""
        full, rest = divmod(self.samples, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        self.next_epoch += 1
        return self.epoch(self.next_epoch - 1)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from batch ``start`` on; none when ``start`` is
        len(loader)."""
        # _batches is a separate generator, so that a wrong argument raises here and not when the
        # first batch is requested
        checked = _checked_start("DataLoader", number, start, len(self))
        return (batch for _, batch in self._batches(*checked, lambda count: (0, count)))

    def parts(self, number: int, start: int, rows: Rows) -> Iterator[tuple[int, Batch]]:
        """``parts(self, number, start, rows)``, the function above."""
        return self._batches(*_checked_start("DataLoader", number, start, len(self)), rows)

    def _batches(self, epoch: int, start: int, rows: Rows) -> Iterator[tuple[int, Batch]]:
        order = (
            self._rng(epoch).permutation(self.samples) if self.shuffle else np.arange(self.samples)
        )
        for number in range(start, len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            count, (start, end) = len(chosen), rows(len(chosen))
            if self.transform is None and self.mix is None:
                yield count, tuple(array[chosen[start:end]] for array in self.arrays)
                continue
            first, *others = (array[chosen] for array in self.arrays)
            rng = self._rng(epoch, number)
            if self.transform is not None:
                first = _as_many("transform", self.transform(first, rng), len(chosen))
            if self.mix is not None:
                first, others[0] = _pair(self.mix(first, others[0], rng), len(chosen))
            yield count, tuple(array[start:end] for array in (first, *others))

    def _rng(self, *key: int) -> np.random.Generator:
        # The key goes into spawn_key and not into the seed, because default_rng([seed, epoch]) and
        # default_rng([seed, epoch, 0]) are the same stream.
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


class DrawnLoader:
    """Endless data: every batch is freshly drawn by ``draw(batch_size, rng)``, which returns a
    tuple of arrays.

    ``batches`` batches count as one epoch. The seed, the epoch and the batch number decide what is
    drawn, as in DataLoader.
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
        return self._batches(*_checked_start("DrawnLoader", number, start, self.batches))

    def _batches(self, number: int, start: int) -> Iterator[Batch]:
        for batch in range(start, self.batches):
            key = np.random.SeedSequence(self.seed, spawn_key=(number, batch))
            yield _whole_batch(
                self.draw(self.batch_size, np.random.default_rng(key)), self.batch_size
            )


def _same_length(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The arrays, if all have the same number of samples along axis 0; otherwise an error with all
    shapes."""
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


def _checked_start(who: str, number: Any, start: Any, batches: int) -> tuple[int, int]:
    """The epoch and the batch to start with, both counted from 0. start may be the number of
    batches: then no batch is left."""
    number, start = size(number, f"{who}.epoch: number"), size(start, f"{who}.epoch: start")
    if start > batches:
        raise ValueError(
            f"{who}.epoch: start is {shown(start)} in epoch {shown(number)}; it must be from 0 to "
            f"{batches}, the number of batches per epoch"
        )
    return number, start


def _as_many(name: str, changed: Any, count: int) -> Any:
    """What a function of the user returned for ``count`` samples; an error unless it has as many,
    because otherwise the labels would belong to other samples."""
    if not _has_rows(changed):
        raise TypeError(
            f"DataLoader: {name} returned {shown(changed)}; it must return the batch that it made, "
            "an array with samples along axis 0"
        )
    if len(changed) != count:
        raise ValueError(
            f"DataLoader: {name} returned {len(changed)} samples for {count}; it must return as "
            "many, because the other arrays belong to them"
        )
    return changed


def _has_rows(value: Any) -> bool:
    """Is it an array of any library with samples along axis 0? NumPy's object arrays and masked
    arrays do not count."""
    return (
        bool(getattr(value, "shape", ()))
        and not isinstance(value, NOT_PLAIN)
        and (number_kind(value) != "O")
    )


def _whole_batch(drawn: Any, count: int) -> Batch:
    """What ``draw`` returned; an error unless it is a tuple of arrays with ``count`` samples
    each."""
    takes = f"it must return a tuple of arrays, each with {count} samples along axis 0"
    if not isinstance(drawn, (tuple, list)) or not drawn or not all(map(_has_rows, drawn)):
        raise TypeError(f"DrawnLoader: draw returned {shown(drawn)}; {takes}")
    lengths = [len(array) for array in drawn]
    if set(lengths) != {count}:
        raise ValueError(f"DrawnLoader: draw returned arrays of {lengths} samples; {takes}")
    return tuple(drawn)


def _pair(mixed: Any, count: int) -> tuple[Any, Any]:
    """The images and labels that ``mix`` returned; an error unless it returned two."""
    if not isinstance(mixed, (tuple, list)) or len(mixed) != 2:
        raise TypeError(
            f"DataLoader: mix returned {shown(mixed)}; it must return images and labels, a tuple "
            "of two"
        )
    return _as_many("mix", mixed[0], count), _as_many("mix", mixed[1], count)
