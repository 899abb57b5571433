"""Many people's histories as columns, and what a device would compute from each of them.

Rules a reader can check line by line:

1. Person p has the entries ``[offsets[p], offsets[p + 1])`` of each column, items rising: a
   `client_sdk.intelligence.History` without an object for each person.
2. `weigh` is `statistics_vector` and `latest` is the choice of a device's batch, for all people at
   once: the same formulas in the same precision, but for the order in which a norm is added up.
3. Columns may be memory maps; `of` copies the few people that are asked, nobody else is read.
4. `weighed` keeps what it made for the next round that asks the same person: a history's vector
   does not depend on the task. Only in memory, and only up to `MOST_REMEMBERED`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.history import DAY_S, History
from client_sdk.wire.table import RankerSettings
from simulations.kernel.binding import Rows

# As in `client_sdk.intelligence.history`: nothing is forgotten entirely.
_LOWEST_EXPONENT: Final = -60.0
# Entries whose weights are kept: 128 MB of float32.
MOST_REMEMBERED: Final = 2**25
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
    _weighed: dict[tuple[str, float], _Weighed] = field(
        init=False, repr=False, default_factory=dict
    )

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

    @cached_property
    def longest(self) -> int:
        """The length of the longest history."""
        return int(self.lengths.max(initial=0))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64[people], the number of different items of each person."""
        return np.diff(self.offsets)

    def of(self, people: NDArray[np.int64]) -> HistoryColumns:
        """Copy some people's histories, in the order in which they are named.

        Args:
            people: int64[m], from 0 to ``people - 1``.
        """
        offsets, at = self._entries_of(people)
        return HistoryColumns(
            offsets=offsets,
            items=np.asarray(self.items[at]),
            counts=np.asarray(self.counts[at]),
            last_time_s=np.asarray(self.last_time_s[at]),
            now_s=self.now_s,
        )

    def weighed(self, people: NDArray[np.int64], settings: RankerSettings) -> Rows | None:
        """Give everybody's rows, of which these people's are weighed; others' may be zeros.

        Threads may ask at the same time: what two of them write of one person has the same bits.

        Args:
            people: int64[m], from 0 to ``people - 1``.
            settings: Weighting and half-life.

        Returns:
            The rows that `weigh` gives, or None for memory maps and where there are more than
            `MOST_REMEMBERED` entries: then ``of(people).weigh(settings)`` is the way.
        """
        if isinstance(self.items, np.memmap) or len(self.items) > MOST_REMEMBERED:
            return None
        key = (settings.weighting, settings.half_life_days)
        known = self._weighed.get(key)
        if known is None:
            known = self._weighed.setdefault(key, _Weighed.nobody(self))
        missing = people[~known.done[people]]
        if len(missing):
            made = self.of(missing).weigh(settings)
            known.rows.weights[self._entries_of(missing)[1]] = made.weights
            known.done[missing] = True
        return known.rows

    def _entries_of(self, people: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the offsets of these people's entries once copied, and where they are."""
        starts = np.asarray(self.offsets[people], np.int64)
        lengths = np.asarray(self.offsets[people + 1], np.int64) - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return offsets, np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the columns, and nothing that can be made of them."""
        return {**self.__dict__, "_weighed": {}}

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
        if self.longest <= room:
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Weighed:
    """Everybody's rows, as far as they were asked for: ``done`` says whose are weighed."""

    rows: Rows
    done: NDArray[np.bool_]

    @classmethod
    def nobody(cls, histories: HistoryColumns) -> _Weighed:
        rows = Rows(
            offsets=histories.offsets,
            items=histories.items,
            weights=np.zeros(len(histories.items), np.float32),
        )
        return cls(rows=rows, done=np.zeros(histories.people, bool))


def _offsets_of(person: NDArray[np.int64], people: int) -> NDArray[np.int64]:
    lengths = np.bincount(person, minlength=people)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _joined(parts: Sequence[NDArray[_Scalar]], dtype: type[_Scalar]) -> NDArray[_Scalar]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
