"""What one person did, as the ranker sees it: items, counts and last times.

Rules a reader can check line by line:

1. A `History` is a value: sorted unique items, positive finite weights, and the clock
   is passed in as ``now_s``. Nothing here reads a clock or the disk.
2. `statistics_vector` is the only form of a history that a task may send on: it has
   L2 norm 1 (or is empty), so ``x x^T`` has Frobenius norm at most 1.
3. A time after ``now_s`` (a skewed clock) counts as now: no weight ever exceeds its count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.wire.table import WEIGHTINGS, FloatArray, Weighting

IndexArray = npt.NDArray[np.int32]
TimeArray = npt.NDArray[np.float64]

DAY_S: Final = 86_400.0


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """One person's items, each once, with how often and how lately.

    Attributes:
        items: int32[m], strictly increasing catalogue indices, >= 0.
        counts: float32[m], finite and > 0; fractions are welcome (a view may weigh less than 1).
        last_time_s: float64[m], seconds since the epoch of the latest event of each item.
        now_s: the moment at which recency is measured, seconds since the epoch.

    Raises:
        ValueError: when shapes differ, items are not sorted and unique, or a value is not finite.

    Example:
        >>> history = History.from_events(items=[5, 2, 5], times_s=[10.0, 20.0, 30.0], now_s=30.0)
        >>> history.items.tolist(), history.counts.tolist()
        ([2, 5], [1.0, 2.0])
    """

    items: IndexArray
    counts: FloatArray
    last_time_s: TimeArray
    now_s: float

    def __post_init__(self) -> None:
        """Check the promise above once, so that nobody downstream has to."""
        items = _frozen(self.items, np.int32, "items")
        counts = _frozen(self.counts, np.float32, "counts")
        last_time_s = _frozen(self.last_time_s, np.float64, "last_time_s")
        if not len(items) == len(counts) == len(last_time_s):
            raise ValueError(
                "items, counts and last_time_s must have one length, "
                f"got {len(items)}, {len(counts)}, {len(last_time_s)}"
            )
        if len(items) and (items[0] < 0 or bool(np.any(items[1:] <= items[:-1]))):
            raise ValueError("items must be >= 0 and strictly increasing; use History.from_events")
        if not np.all(np.isfinite(counts)) or bool(np.any(counts <= 0)):
            raise ValueError("counts must be finite and > 0")
        if not np.all(np.isfinite(last_time_s)) or not np.isfinite(self.now_s):
            raise ValueError("last_time_s and now_s must be finite seconds since the epoch")
        object.__setattr__(self, "items", items)
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "last_time_s", last_time_s)
        object.__setattr__(self, "now_s", float(self.now_s))
        # Every decision asks for the same few vectors of the same history.
        object.__setattr__(self, "_known", {})

    def __len__(self) -> int:
        """The number of different items."""
        return len(self.items)

    @classmethod
    def empty(cls, *, now_s: float) -> History:
        """The history of somebody new."""
        return cls(
            items=np.zeros(0, np.int32),
            counts=np.zeros(0, np.float32),
            last_time_s=np.zeros(0, np.float64),
            now_s=now_s,
        )

    @classmethod
    def from_events(
        cls,
        *,
        items: Sequence[int] | npt.NDArray[Any],
        times_s: Sequence[float] | npt.NDArray[Any],
        now_s: float,
        weights: Sequence[float] | npt.NDArray[Any] | None = None,
    ) -> History:
        """Fold raw events, in any order, into one row an item.

        Args:
            items: int[e], the item of each event.
            times_s: float[e], the time of each event, seconds since the epoch.
            now_s: the moment at which recency is measured.
            weights: float[e] > 0, how much each event counts; 1 each when left out.

        Returns:
            The history: weights summed, times maximised per item.
        """
        raw = np.asarray(items, np.int64)
        times = np.asarray(times_s, np.float64)
        if raw.ndim != 1 or raw.shape != times.shape:
            raise ValueError(
                f"items and times_s must be one length, got {raw.shape}, {times.shape}"
            )
        if len(raw) and (raw.min() < 0 or raw.max() > np.iinfo(np.int32).max):
            raise ValueError("items must be catalogue indices from 0 to 2^31 - 1")
        weight = np.ones(len(raw)) if weights is None else np.asarray(weights, np.float64)
        if weight.shape != raw.shape:
            raise ValueError(f"weights must have the shape of items, got {weight.shape}")
        unique, inverse = np.unique(raw, return_inverse=True)
        last = np.full(len(unique), -np.inf)
        np.maximum.at(last, inverse, times)
        counts = np.bincount(inverse, weights=weight, minlength=len(unique))
        return cls(
            items=unique.astype(np.int32),
            counts=counts.astype(np.float32),
            last_time_s=last,
            now_s=now_s,
        )


def recency(history: History, half_life_days: float) -> TimeArray:
    """Give each item's weight of recency, 2^(-age / half-life).

    Args:
        history: the person's items.
        half_life_days: days after which a weight has halved, > 0; infinity switches recency off.

    Returns:
        float64[m] in (0, 1]; never so small that it is lost (floored at 2^-60).
    """
    if not half_life_days > 0:
        raise ValueError(f"half_life_days must be > 0, got {half_life_days}")
    age_days = np.maximum(history.now_s - history.last_time_s, 0.0) / DAY_S
    weight: TimeArray = np.exp2(-np.minimum(age_days / half_life_days, 60.0))
    return weight


def statistics_vector(
    history: History,
    *,
    weighting: Weighting = "log",
    half_life_days: float = np.inf,
    within: IndexArray | None = None,
) -> tuple[IndexArray, FloatArray]:
    """Give the unit-norm history vector x, sparse: what statistics and the ranker use.

    Args:
        history: the person's items.
        weighting: what a count is worth, see `Weighting`.
        half_life_days: see `recency`.
        within: int32[K], strictly increasing; when given, only these items count, the norm is taken
            over them alone, and the answer holds positions in this list instead of item indices.

    Returns:
        int32[m] strictly increasing items (or positions) and float32[m] values > 0 with L2 norm 1
        (up to float32), or two empty arrays.

    Example:
        >>> history = History.from_events(items=[1, 4], times_s=[0.0, 0.0], now_s=0.0)
        >>> [round(float(v), 3) for v in statistics_vector(history)[1]]
        [0.707, 0.707]
    """
    if within is None:
        return history.items, _whole_vector(history, weighting, half_life_days)
    weight = _count_weight(history, weighting) * recency(history, half_life_days)
    positions, rows = _positions_in(within, history.items)
    return positions, _unit(weight[rows])


def own_frequency(history: History, *, half_life_days: float) -> FloatArray:
    """Give the person's own taste for each item: log(1 + count), halved every half-life, unit norm.

    Args:
        history: the person's items.
        half_life_days: see `recency`.

    Returns:
        float32[m] aligned with ``history.items``, L2 norm 1 (or empty).
    """
    return _whole_vector(history, "log", half_life_days)


def _whole_vector(history: History, weighting: Weighting, half_life_days: float) -> FloatArray:
    """Give the unit-norm vector over all items of the history, computed once for each setting."""
    known: dict[tuple[Weighting, float], FloatArray] = history.__dict__["_known"]
    key = (weighting, half_life_days)
    if key not in known:
        vector = _unit(_count_weight(history, weighting) * recency(history, half_life_days))
        vector.setflags(write=False)
        known[key] = vector
    return known[key]


def _count_weight(history: History, weighting: Weighting) -> TimeArray:
    """Turn counts into weights by the named rule."""
    if weighting == "binary":
        return np.ones(len(history), np.float64)
    if weighting == "log":
        return np.log1p(history.counts.astype(np.float64))
    raise ValueError(f"weighting must be one of {WEIGHTINGS}, got {weighting!r}")


def _positions_in(within: IndexArray, items: IndexArray) -> tuple[IndexArray, npt.NDArray[np.intp]]:
    """Find the sorted items in a sorted list: their positions there, and their rows here."""
    if not len(within):
        return np.zeros(0, np.int32), np.zeros(0, np.intp)
    positions = np.minimum(np.searchsorted(within, items), len(within) - 1)
    rows = np.flatnonzero(within[positions] == items)
    return positions[rows].astype(np.int32), rows


def _unit(weight: TimeArray) -> FloatArray:
    """Scale to L2 norm 1, computed in float64; an empty vector stays empty."""
    if not len(weight):
        return np.zeros(0, np.float32)
    # Dividing by the largest first keeps tiny weights from vanishing when squared.
    weight = weight / weight.max()
    unit: FloatArray = (weight / np.sqrt(np.sum(weight * weight))).astype(np.float32)
    return unit


def _frozen(array: npt.NDArray[Any], dtype: type[np.generic], name: str) -> npt.NDArray[Any]:
    """Copy to the promised dtype, refuse other kinds and shapes, and make it read-only."""
    value = np.asarray(array)
    if value.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {value.shape}")
    if np.issubdtype(dtype, np.integer) and not np.issubdtype(value.dtype, np.integer):
        raise ValueError(f"{name} must hold whole numbers, got {value.dtype}")
    if value.dtype == dtype and not value.flags.writeable:
        return value
    copy = np.array(value, dtype=dtype)
    if np.issubdtype(dtype, np.integer) and not np.array_equal(copy, value):
        raise ValueError(f"{name} must fit {np.dtype(dtype).name}")
    copy.setflags(write=False)
    return copy
