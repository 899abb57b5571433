"""The fastest update of one person that we could write in numpy, for the peers to run.

No automatic differentiation, no copy that is not needed, one pass over arrays for each thing to do,
float32. All rows of a person move along the private vector, so that a change is one number for each
touched row: `OnePerson.along`. The raw random words of a round are the same for everybody (the
protocol keys them by round and step) and are drawn once. All of that is favourable to the peers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulation.workload import Settings, Workload


@dataclass(frozen=True, kw_only=True, eq=False)
class OnePerson:
    """A person's change: row ``touched[i]`` moves by ``along[i] * u``.

    Attributes:
        touched: int64[m], rising.
        along: float32[m].
        u: float32[rank].
    """

    touched: NDArray[np.int64]
    along: NDArray[np.float32]
    u: NDArray[np.float32]

    @property
    def rows(self) -> NDArray[np.float32]:
        """float32[m, rank], the change of each touched row."""
        return self.along[:, None] * self.u


class RoundWords:
    """The random words of a round: Philox4x64 as numpy counts it, one stream a step.

    Args:
        seed: Of the round.
        steps: How many streams.
        most: Words that somebody may need of each.
    """

    def __init__(self, *, seed: int, steps: int, most: int) -> None:
        self._seed = seed
        self._words = [
            np.random.Philox(key=seed, counter=[0, 0, 0, step])
            .random_raw((most + 1) // 2)
            .view(np.uint32)
            .astype(np.uint64)
            for step in range(steps)
        ]

    def below(self, limit: int, *, step: int, count: int) -> NDArray[np.int64]:
        """Draw ``count`` numbers in [0, limit), as `numpy.random.Generator.integers` does."""
        products = self._words[step][:count] * np.uint64(limit)
        low = products.astype(np.uint32)
        if low.min(initial=np.uint32(limit)) < limit:
            # About once in two thousand people a word may have to be drawn again (Lemire 2019).
            source = np.random.Philox(key=self._seed, counter=[0, 0, 0, step])
            return np.random.Generator(source).integers(0, limit, size=count)
        products >>= np.uint64(32)
        return products.view(np.int64)


def words_for(workload: Workload, people: NDArray[np.int64], *, seed: int) -> RoundWords:
    """Draw a round's words, as many as its largest person needs."""
    asked = workload.settings
    most = int((workload.offsets[people + 1] - workload.offsets[people]).max())
    return RoundWords(seed=seed, steps=asked.steps, most=asked.negatives * most)


def train(
    factors: NDArray[np.float32],
    items: NDArray[np.int32],
    x: NDArray[np.float32],
    words: RoundWords,
    asked: Settings,
) -> OnePerson:
    """Compute one person's change.

    Args:
        factors: float32[n_items, rank].
        items: int32[m], rising.
        x: float32[m], the unit-norm history vector.
        words: Of the round.
        asked: Of the round.
    """
    n_items, rank = factors.shape
    held = factors[items]
    gram = held.T @ (x[:, None] * held)
    gram.reshape(-1)[:: rank + 1] += np.float32(asked.ridge)
    u = np.linalg.solve(gram, x @ held)
    # At this size one product with the whole table is faster than gathering the touched rows.
    score = factors @ u
    length = u @ u
    rate = np.float32(asked.learning_rate)
    gaps = items - np.arange(len(items), dtype=np.int32)
    along = np.zeros(n_items, np.float32)
    for step in range(asked.steps):
        rank_of = words.below(
            n_items - len(items), step=step, count=asked.negatives * len(items)
        ).astype(np.int32)
        rank_of.sort()
        drawn = rank_of + np.searchsorted(gaps, rank_of, side="right")
        weight = np.bincount(drawn, minlength=n_items).astype(np.float32)
        weight[items] = 1.0
        error = 1.0 / (1.0 + np.exp(-score))
        error[items] -= 1.0
        error *= weight
        error *= rate
        along -= error
        if step + 1 < asked.steps:
            score -= error * length
    touched = np.flatnonzero(along)
    return OnePerson(touched=touched, along=along[touched], u=u)
