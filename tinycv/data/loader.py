"""Batches, named after PyTorch's DataLoader, with one promise more: they can be asked for again.

Everything random is a function of (seed, epoch, batch number) alone. So training that stopped after batch 17
of epoch 3 goes on with ``loader.epoch(3, start=18)`` and sees the same bits as if it had never stopped.
"""

from collections.abc import Callable, Iterator

import numpy as np

Batch = tuple[np.ndarray, ...]
Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Mix = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


class DataLoader:
    """Yield tuples of batches, one entry for each array, all taken at the same samples.

    Arrays are (N, ...) with one N for all. ``transform(x, rng)`` is applied to each batch of the first array,
    and then ``mix(x, y, rng)`` to that of the first two, which it returns: see mix.py.
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
        if batch_size < 1 or seed < 0:
            raise ValueError(f"batch_size={batch_size} must be at least 1 and seed={seed} at least 0")
        if mix is not None and len(self.arrays) < 2:
            raise ValueError("mix blends images and their labels: give the DataLoader both arrays")
        if drop_last and batch_size > self.samples:
            raise ValueError(
                f"batch_size={batch_size} with drop_last=True leaves no batch of {self.samples} samples; "
                "lower it, or keep the last batch"
            )
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.transform, self.mix, self.drop_last = transform, mix, drop_last
        self.next_epoch = 0

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(self.samples, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        self.next_epoch += 1
        return self.epoch(self.next_epoch - 1)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from batch ``start`` on; none when ``start`` is len(loader)."""
        if number < 0 or not 0 <= start <= len(self):
            raise ValueError(
                f"epoch {number} from batch {start}: epochs count from 0, "
                f"and start lies between 0 and {len(self)}, the batches of an epoch"
            )
        return self._batches(number, start)     # apart, so that the error comes now, not at the first batch

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        order = self._rng(epoch).permutation(self.samples) if self.shuffle else np.arange(self.samples)
        for number in range(start, len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            first, *others = (array[chosen] for array in self.arrays)
            rng = self._rng(epoch, number)
            if self.transform is not None:
                first = self.transform(first, rng)
            if self.mix is not None:
                first, others[0] = self.mix(first, others[0], rng)
            yield first, *others

    def _rng(self, *key: int) -> np.random.Generator:
        # spawn_key, not a longer seed: default_rng([s, e]) and default_rng([s, e, 0]) are the same stream.
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


class DrawnLoader:
    """Data without end: every batch is drawn anew by ``draw(batch_size, rng)``, a tuple of arrays, and never seen again.

    ``batches`` of them are called an epoch. Batch and epoch number decide what is drawn, as in DataLoader.
    """

    def __init__(self, draw: Callable[[int, np.random.Generator], Batch], batch_size: int, batches: int, seed: int = 0):
        if batch_size < 1 or batches < 1 or seed < 0:
            raise ValueError(f"batch_size={batch_size} and batches={batches} must be at least 1, seed={seed} at least 0")
        self.draw, self.batch_size, self.batches, self.seed = draw, batch_size, batches, seed
        self.samples = batch_size * batches

    def __len__(self) -> int:
        return self.batches

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from batch ``start`` on."""
        for batch in range(start, self.batches):
            key = np.random.SeedSequence(self.seed, spawn_key=(number, batch))
            yield self.draw(self.batch_size, np.random.default_rng(key))


def _same_length(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The arrays, if samples lie along axis 0 of each and there are equally many; else an error with all shapes."""
    arrays = tuple(np.asarray(array) for array in arrays)
    shapes = ", ".join(str(array.shape) for array in arrays) or "none"
    if any(array.ndim == 0 or array.dtype == object for array in arrays):
        raise TypeError(f"a DataLoader takes arrays with samples along axis 0, got shapes {shapes}")
    if len({len(array) for array in arrays}) != 1 or len(arrays[0]) == 0:
        raise ValueError(f"a DataLoader takes arrays of one length above 0, got shapes {shapes}")
    return arrays
