"""What one person did, as the ranker sees it: items, counts and last times.

Rules a reader can check line by line:

1. A `History` is a value: sorted unique items, positive finite weights, and the clock
   is passed in as ``now_s``. Nothing here reads a clock or the disk.
2. `statistics_vector` is the only form of a history that a task may send on: it has
   L2 norm 1 (or is empty), so ``x x^T`` has Frobenius norm at most 1.
3. A time after ``now_s`` (a skewed clock) counts as now: no weight ever exceeds its count.
4. Age is measured from the latest event, or from ``now_s`` where that is earlier: a vector of norm
   1 is the same from either, and from the latest event it keeps its bits while time passes. What
   was computed of a history once holds until the next event or the end of a session
   (`same_taste`).
5. A session is what happened without a gap of `SESSION_GAP_S`; it is over once such a gap has
   passed. While it lasts, its items weigh `SESSION_WEIGHT` times as much in `taste_weights`, and
   only there: what a task sends on (rule 2) knows no sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.wire.table import WEIGHTINGS, FloatArray, Weighting

IndexArray = npt.NDArray[np.int32]
TimeArray = npt.NDArray[np.float64]
WeightArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]

DAY_S: Final = 86_400.0
SESSION_GAP_S: Final = 1_800.0
# The smallest of powers of two (they leave all other bits of a weight as they are) within one
# standard deviation of the best on validation: `python -m benchmarks.sessions --validation`.
SESSION_WEIGHT: Final = 32.0
# Nothing is forgotten entirely, however long ago it was.
_LOWEST_EXPONENT: Final = -60.0


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

    @cached_property
    def latest_s(self) -> float:
        """The time of the latest event, seconds since the epoch; minus infinity for none."""
        return float(self.last_time_s.max(initial=-np.inf))

    @property
    def in_session(self) -> bool:
        """Whether the latest session lasts; not for an empty history."""
        return self.now_s - self.latest_s < SESSION_GAP_S

    def at(self, now_s: float) -> History:
        """Give the same history at another moment; what was computed of it is kept where it holds.

        Args:
            now_s: The moment, seconds since the epoch.

        Example:
            >>> early = History.from_events(items=[3], times_s=[10.0], now_s=10.0)
            >>> late = early.at(99.0)
            >>> late.now_s, late.items is early.items, same_taste(early, late)
            (99.0, True, True)
        """
        if not np.isfinite(now_s):
            raise ValueError("now_s must be finite seconds since the epoch")
        moved = object.__new__(History)
        # The arrays were checked when this history was made.
        moved.__dict__.update(self.__dict__, now_s=float(now_s), latest_s=self.latest_s)
        if not same_taste(self, moved):
            moved.__dict__["_known"] = {}
        return moved

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


def same_taste(one: History, other: History) -> bool:
    """Say whether two are one history at moments that make no difference; see rule 4.

    It looks at what the arrays are, not at what they hold: two equal histories that were made
    apart may count as different.
    """
    return (
        one.items is other.items
        and one.counts is other.counts
        and one.last_time_s is other.last_time_s
        and (
            one.now_s == other.now_s
            or (min(one.now_s, other.now_s) >= one.latest_s and one.in_session is other.in_session)
        )
    )


def recency(history: History, half_life_days: float) -> TimeArray:
    """Give each item's weight of recency, 2^(-age / half-life).

    Args:
        history: the person's items.
        half_life_days: days after which a weight has halved, > 0; infinity switches recency off.

    Returns:
        float64[m] in (0, 1]; never so small that it is lost (floored at 2^-60).
    """
    return _recency(history, half_life_days, as_of_s=history.now_s)


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
    weight = _relative_weight(history, weighting, half_life_days)
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


def taste_weights(history: History, *, half_life_days: float) -> TimeArray:
    """Give what each item counts for the person's taste in words and categories.

    It is `own_frequency` before the norm is taken, with the session's items raised (rule 5): by
    itself, a session of few items would be lost in a long history. The unit changes once every
    half-life and not with every event, so that the weight of an item of which nothing new is known
    keeps its bits: what was summed with it can be kept.

    Args:
        history: the person's items.
        half_life_days: see `recency`.

    Returns:
        float64[m] > 0, aligned with ``history.items``; outside a session at most 2 log(1 + count).
    """
    _check_half_life(half_life_days)
    known: dict[object, TimeArray] = history.__dict__["_known"]
    key = ("taste", half_life_days)
    if key not in known:
        half_life_s, as_of_s = half_life_days * DAY_S, _as_of_s(history)
        # The remainder is exact: everything within one half-life counts from the same start.
        start_s = as_of_s - float(np.fmod(as_of_s, half_life_s))
        times_s = np.minimum(history.last_time_s, as_of_s)
        weight = np.log1p(history.counts.astype(np.float64))
        weight *= np.exp2(np.maximum((times_s - start_s) / half_life_s, _LOWEST_EXPONENT))
        if history.in_session:
            weight[_session(times_s)] *= SESSION_WEIGHT
        weight.setflags(write=False)
        known[key] = weight
    return known[key]


def _session(times_s: TimeArray) -> npt.NDArray[np.bool_]:
    """Say which items belong to the latest session, by the latest time of each: bool[m]."""
    times = np.sort(times_s)
    gaps = np.flatnonzero(np.diff(times) >= SESSION_GAP_S)
    session: npt.NDArray[np.bool_] = times_s >= (times[gaps[-1] + 1] if len(gaps) else times[0])
    return session


def _whole_vector(history: History, weighting: Weighting, half_life_days: float) -> FloatArray:
    """Give the unit-norm vector over all items of the history, computed once for each setting."""
    known: dict[tuple[Weighting, float], FloatArray] = history.__dict__["_known"]
    key = (weighting, half_life_days)
    if key not in known:
        vector = _unit(_relative_weight(history, weighting, half_life_days))
        vector.setflags(write=False)
        known[key] = vector
    return known[key]


def _relative_weight(history: History, weighting: Weighting, half_life_days: float) -> TimeArray:
    """Weigh counts and age, up to a factor that a norm takes out again."""
    weight = _recency(history, half_life_days, as_of_s=_as_of_s(history))
    return _count_weight(history, weighting) * weight


def _as_of_s(history: History) -> float:
    """Give the moment from which age is measured; see rule 4."""
    return min(history.now_s, history.latest_s) if len(history) else history.now_s


def _recency(history: History, half_life_days: float, *, as_of_s: float) -> TimeArray:
    _check_half_life(half_life_days)
    age_days = np.maximum(as_of_s - history.last_time_s, 0.0) / DAY_S
    weight: TimeArray = np.exp2(-np.minimum(age_days / half_life_days, -_LOWEST_EXPONENT))
    return weight


def _check_half_life(half_life_days: float) -> None:
    if not half_life_days > 0:
        raise ValueError(f"half_life_days must be > 0, got {half_life_days}")


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
