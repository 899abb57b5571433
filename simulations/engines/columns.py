"""Many people's histories as columns, and what a device would compute from each of them.

Rules a reader can check line by line:

1. Person p has the entries ``[offsets[p], offsets[p + 1])`` of each column, items rising: a
   `client_sdk.intelligence.History` without an object for each person.
2. `weigh` is `statistics_vector` and `latest` is the choice of a device's batch, for all people at
   once: the same formulas in the same precision, but for the order in which a norm is added up.
3. Columns may be memory maps; `of` copies the few people that are asked, nobody else is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.history import DAY_S, History
from client_sdk.wire.table import RankerSettings
from simulations.kernel.binding import Rows

# As in `client_sdk.intelligence.history`: nothing is forgotten entirely.
_LOWEST_EXPONENT: Final = -60.0
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, kw_only=True, eq=False)
class HistoryColumns:
    """People's histories.

    Attributes:
        offsets: int64[people + 1].
        items: int32[entries], strictly rising for each person.
        counts: float32[entries], > 0.
        last_time_s: float64[entries], seconds since 1970 (UTC).
        now_s: When recency is measured.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    counts: NDArray[np.float32]
    last_time_s: NDArray[np.float64]
    now_s: float

    def __post_init__(self) -> None:
        entries = len(self.items)
        if not len(self.offsets) or self.offsets[0] != 0 or self.offsets[-1] != entries:
            raise ValueError(f"offsets must run from 0 to {entries}")
        if not len(self.counts) == len(self.last_time_s) == entries:
            raise ValueError("items, counts and last_time_s must have one length")

    @classmethod
    def from_histories(cls, histories: Sequence[History], *, now_s: float) -> HistoryColumns:
        """Lay out histories one after the other."""
        lengths = [len(each) for each in histories]
        return cls(
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            items=_joined([each.items for each in histories], np.int32),
            counts=_joined([each.counts for each in histories], np.float32),
            last_time_s=_joined([each.last_time_s for each in histories], np.float64),
            now_s=now_s,
        )

    @property
    def people(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64[people], the number of different items of each person."""
        return np.diff(self.offsets)

    def of(self, people: NDArray[np.int64]) -> HistoryColumns:
        """Copy some people's histories, in the order in which they are named.

        Args:
            people: int64[m], from 0 to ``people - 1``.
        """
        starts = np.asarray(self.offsets[people], np.int64)
        lengths = np.asarray(self.offsets[people + 1], np.int64) - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return HistoryColumns(
            offsets=offsets,
            items=np.asarray(self.items[at]),
            counts=np.asarray(self.counts[at]),
            last_time_s=np.asarray(self.last_time_s[at]),
            now_s=self.now_s,
        )

    def history(self, person: int) -> History:
        """Give one person's history as their device would hold it."""
        start, stop = int(self.offsets[person]), int(self.offsets[person + 1])
        return History(
            items=self.items[start:stop],
            counts=self.counts[start:stop],
            last_time_s=self.last_time_s[start:stop],
            now_s=self.now_s,
        )

    def weigh(self, settings: RankerSettings, *, within: NDArray[np.int32] | None = None) -> Rows:
        """Give each person's unit-norm history vector, as `statistics_vector` does.

        Args:
            settings: Weighting and half-life.
            within: int32[K], strictly rising; when given, only these items count, and rows hold
                positions among them.
        """
        person = np.repeat(np.arange(self.people), self.lengths)
        as_of_s = np.full(self.people, self.now_s)
        latest_s = np.full(self.people, -np.inf)
        np.maximum.at(latest_s, person, self.last_time_s)
        as_of_s = np.minimum(as_of_s, latest_s)
        age_days = np.maximum(as_of_s[person] - self.last_time_s, 0.0) / DAY_S
        weight = np.exp2(-np.minimum(age_days / settings.half_life_days, -_LOWEST_EXPONENT))
        if settings.weighting == "log":
            weight *= np.log1p(self.counts.astype(np.float64))
        items = self.items
        if within is not None:
            positions = np.minimum(np.searchsorted(within, items), max(len(within) - 1, 0))
            kept = within[positions] == items if len(within) else np.zeros(len(items), bool)
            items, weight, person = positions[kept].astype(np.int32), weight[kept], person[kept]
        largest = np.zeros(self.people)
        np.maximum.at(largest, person, weight)
        weight /= largest[person]
        squares = np.bincount(person, weights=weight * weight, minlength=self.people)
        weight /= np.sqrt(squares[person])
        return Rows(
            offsets=_offsets_of(person, self.people),
            items=np.ascontiguousarray(items),
            weights=weight.astype(np.float32),
        )

    def latest(self, *, room: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Give each person's latest items that fit a device's batch, sorted.

        Args:
            room: How many fit, at least 1.

        Returns:
            int64[people + 1] offsets and int32[...] items.
        """
        if room < 1:
            raise ValueError(f"the batch needs room for at least one item; got {room}")
        lengths = self.lengths
        if not len(self.items) or int(lengths.max()) <= room:
            return self.offsets, self.items
        kept = np.ones(len(self.items), bool)
        # Person by person: sorting a few entries many times is faster than all entries once.
        for person in np.flatnonzero(lengths > room):
            start, stop = int(self.offsets[person]), int(self.offsets[person + 1])
            # Among items of one moment the lower ones come first.
            order = np.argsort(-self.last_time_s[start:stop], kind="stable")
            kept[start + order[room:]] = False
        offsets = np.concatenate([[0], np.cumsum(np.minimum(lengths, room))]).astype(np.int64)
        return offsets, np.ascontiguousarray(self.items[kept])


def _offsets_of(person: NDArray[np.int64], people: int) -> NDArray[np.int64]:
    lengths = np.bincount(person, minlength=people)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _joined(parts: Sequence[NDArray[_Scalar]], dtype: type[_Scalar]) -> NDArray[_Scalar]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
