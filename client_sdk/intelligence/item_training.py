"""The device half of item training: from a private history to the change of a few rows.

Rules a reader can check line by line:

1. The private vector u is solved here, by ridge on the history's rows, and is never returned.
2. What is returned is the change of the rows that were used, and nothing else. It is not clipped
   or noised here: the task encoder clips it, the aggregator adds noise to the whole table.
3. Negatives are drawn by Philox4x64, a counter-based generator, keyed by the task's seed and
   counted by step: the same task, history and step give the same negatives on every platform.
   The aggregator never sees them; they hide among the rows of the sum.
4. A batch is padded to the model's static size with rows of weight 0; their change is exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.history import History, IndexArray
from client_sdk.intelligence.litert import SignatureModel
from client_sdk.intelligence.ranker import history_vector, ridge_inverse
from client_sdk.wire.table import FloatArray, RankerTable

_SEED_LIMIT: Final = 2**64


@dataclass(frozen=True, kw_only=True)
class ItemTrainingTask:
    """What the task's message asks of every device alike.

    Attributes:
        seed: in [0, 2^64), of the round; keys the negatives.
        steps: gradient steps, >= 1.
        learning_rate: > 0.
        negatives: drawn for each positive, >= 1.
    """

    seed: int
    steps: int = 3
    learning_rate: float = 0.5
    negatives: int = 4

    def __post_init__(self) -> None:
        """Refuse a task that can't be run."""
        if not 0 <= self.seed < _SEED_LIMIT:
            raise ValueError("seed must be in [0, 2^64)")
        if self.steps < 1 or self.negatives < 1 or not 0 < self.learning_rate <= 1e3:
            raise ValueError("steps and negatives must be >= 1, learning_rate in (0, 1000]")


@dataclass(frozen=True, kw_only=True, eq=False)
class RowDelta:
    """The change of the rows that were used.

    Attributes:
        items: int32[m], strictly increasing catalogue indices.
        rows: float32[m, r], new rows minus old rows.
    """

    items: IndexArray
    rows: FloatArray


def train_rows(
    model: SignatureModel, table: RankerTable, history: History, task: ItemTrainingTask
) -> RowDelta:
    """Take a task's gradient steps on the rows of the history and of sampled negatives.

    Args:
        model: the release's graph; its ``train`` signature sets the batch size and the rank.
        table: the release's table, in the ridge form.
        history: what the person did.
        task: what every device does this round.

    Returns:
        The change of the touched rows; empty for an empty history. Where the history has more
        items than the batch has room for, the latest are used.

    Raises:
        ValueError: when the model and the table differ in rank, or the batch has no room.
    """
    shape = model.input_shapes("train")["rows"].shape
    if len(shape) != 2 or shape[1] != table.rank:
        raise ValueError(f"the model's rows are {list(shape)}, the table's rank is {table.rank}")
    positives, u = _latest(table, history, room=shape[0] // (1 + task.negatives))
    if not len(positives):
        return RowDelta(items=np.zeros(0, np.int32), rows=np.zeros((0, table.rank), np.float32))
    drawn = [
        sample_negatives(
            seed=task.seed,
            step=step,
            count=task.negatives * len(positives),
            n_items=table.n_items,
            avoid=history.items,
        )
        for step in range(task.steps)
    ]
    touched = np.unique(np.concatenate([positives, *drawn])).astype(np.int32)
    before = table.factors[touched]
    rows = before.copy()
    for negatives in drawn:
        items, labels, weights = _merge(positives, negatives)
        at = np.searchsorted(touched, items)
        batch = pad_batch(shape[0], rows=rows[at], labels=labels, weights=weights)
        batch["vector"] = u
        batch["learning_rate"] = np.asarray(task.learning_rate, np.float32)
        rows[at] = model.run("train", batch)["rows"][: len(items)]
    return RowDelta(items=touched, rows=rows - before)


def sample_negatives(
    *, seed: int, step: int, count: int, n_items: int, avoid: IndexArray
) -> IndexArray:
    """Draw items that the person never had, uniformly, with replacement.

    Args:
        seed: of the task, in [0, 2^64): the key of Philox4x64 (Salmon et al. 2011).
        step: the block of its counter, >= 0, so that steps don't depend on each other.
        count: how many, >= 0.
        n_items: size of the catalogue.
        avoid: int32[m], strictly increasing items not to draw.

    Returns:
        int32[count], or empty when there is nothing left to draw.
    """
    left = n_items - len(avoid)
    if left <= 0:
        return np.zeros(0, np.int32)
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step]))
    rank = generator.integers(0, left, size=count)
    # The k-th item outside `avoid`: add the number of avoided items before it.
    gaps = avoid.astype(np.int64) - np.arange(len(avoid))
    drawn: IndexArray = (rank + np.searchsorted(gaps, rank, side="right")).astype(np.int32)
    return drawn


def pad_batch(
    size: int,
    *,
    rows: FloatArray,
    labels: npt.NDArray[Any],
    weights: npt.NDArray[Any],
) -> dict[str, FloatArray]:
    """Pad rows, labels and weights to a static batch; what is added has weight 0.

    Raises:
        ValueError: when there are more rows than the batch has.
    """
    used = len(rows)
    if used > size:
        raise ValueError(f"a batch of {size} has no room for {used} rows")
    padded = {
        "rows": np.zeros((size, rows.shape[1]), np.float32),
        "labels": np.zeros(size, np.float32),
        "weights": np.zeros(size, np.float32),
    }
    padded["rows"][:used] = rows
    padded["labels"][:used] = labels
    padded["weights"][:used] = weights
    return padded


def _latest(table: RankerTable, history: History, *, room: int) -> tuple[IndexArray, FloatArray]:
    """Give the latest items that fit, sorted, and u solved on the whole history."""
    if room < 1:
        raise ValueError("the batch has no room for one item and its negatives")
    items, x = history_vector(table, history)
    if not len(items):
        return items, np.zeros(table.rank, np.float32)
    u = (ridge_inverse(table, items, x) @ (x @ table.factors[items])).astype(np.float32)
    latest = np.lexsort((items, -history.last_time_s))[:room]
    return np.sort(items[latest]), u


def _merge(
    positives: IndexArray, negatives: IndexArray
) -> tuple[IndexArray, FloatArray, FloatArray]:
    """Give each item one row: its label, and how often it was drawn as its weight."""
    used = np.concatenate([positives, negatives])
    items, first, counts = np.unique(used, return_index=True, return_counts=True)
    labels = (first < len(positives)).astype(np.float32)
    return items.astype(np.int32), labels, counts.astype(np.float32)
