"""One person's update in numpy, written from the protocol's description: what all must agree with.

Float64 throughout, and a plain loop over steps: this is the judge, not a competitor. It shares no
code with `client_sdk` or the kernel. What the peers run is beside it (`Negatives` is theirs too).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulation.workload import Workload


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """How one person would change the table.

    Attributes:
        items: int64[m], rising.
        rows: float64[m, rank].
    """

    items: NDArray[np.int64]
    rows: NDArray[np.float64]


def negatives_of(
    *, seed: int, step: int, count: int, n_items: int, avoid: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Draw items that the person never had: Philox4x64 keyed by the round, counted by the step."""
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step]))
    rank = generator.integers(0, n_items - len(avoid), size=count)
    gaps = avoid.astype(np.int64) - np.arange(len(avoid))
    drawn: NDArray[np.int64] = rank + np.searchsorted(gaps, rank, side="right")
    return drawn


def change_of(workload: Workload, factors: NDArray[np.float32], person: int, seed: int) -> Change:
    """Compute one person's change of the table, before clipping.

    Args:
        workload: Whose.
        factors: float32[n_items, rank], the table of this round.
        person: By number.
        seed: Of the round's negatives.
    """
    asked = workload.settings
    start, stop = workload.offsets[person], workload.offsets[person + 1]
    items = workload.items[start:stop]
    x = workload.weights[start:stop].astype(np.float64)
    held = factors[items].astype(np.float64)
    gram = held.T @ (x[:, None] * held) + asked.ridge * np.eye(held.shape[1])
    # The private vector leaves the solve as float32, on devices too.
    u = np.linalg.solve(gram, held.T @ x).astype(np.float32).astype(np.float64)
    table = factors.astype(np.float64)
    for step in range(asked.steps):
        drawn = negatives_of(
            seed=seed,
            step=step,
            count=asked.negatives * len(items),
            n_items=len(factors),
            avoid=items,
        )
        weight = np.bincount(drawn, minlength=len(factors)).astype(np.float64)
        weight[items] = 1.0
        label = np.zeros(len(factors))
        label[items] = 1.0
        error = weight * (1.0 / (1.0 + np.exp(-(table @ u))) - label)
        table = table - asked.learning_rate * error[:, None] * u
    change = table - factors
    touched = np.flatnonzero(np.any(change != 0.0, axis=1))
    return Change(items=touched, rows=change[touched])


def clipped_sum(workload: Workload, people: NDArray[np.int64], *, seed: int) -> NDArray[np.float64]:
    """Add up people's clipped changes of the first table, float64[n_items, rank], without noise."""
    total = np.zeros(workload.factors.shape)
    for person in people:
        change = change_of(workload, workload.factors, int(person), seed)
        norm = float(np.sqrt(np.square(change.rows).sum()))
        total[change.items] += change.rows * min(1.0, workload.settings.clip_norm / norm)
    return total
