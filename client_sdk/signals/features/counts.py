"""Counts by subkind: a ring of 32 days, the last time, and the total; for one person or many.

Rules a reader can check line by line:

1. An event changes one day's count, one last time and one total: O(1).
2. The state does not depend on the order of the events. The ring holds the 32 calendar days (UTC)
   that end with the person's newest day; an event of an older day still counts in totals and last
   times, and never in a window. Days that leave the ring are gone in every order.
3. A repetition is a second search or form error of one day with the same key. Keys live as long as
   their day is in the ring.
4. `Counts.add` is `Counts.fold` of one event; a test holds them equal bit for bit.
5. A time far in the future would push the ring ahead of the present, so intake refuses it: that is
   the rule of clock skew, not of this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.signals.features.columns import (
    DAY_S,
    NO_KEY,
    BoolArray,
    EventColumns,
    FloatArray,
    IntArray,
)
from client_sdk.signals.features.subkinds import N_COUNTS, N_SUBKINDS, REPEATED

RING_DAYS: Final = 32
NEVER_S: Final = -1.0
NO_DAY: Final = -1
_RING: Final = np.arange(RING_DAYS)


class Counts:
    """How often, how lately and on which of the last days P people did what.

    Attributes:
        newest: int64[P], the newest day of each person; -1 before any event.
        daily: int32[P, 32, N_COUNTS], counts by place in the ring (day modulo 32) and subkind,
            then the repeated searches and repeated form errors.
        last_s: float64[P, N_SUBKINDS], the latest time; -1 for never.
        totals: int64[P, N_SUBKINDS], how often ever.

    >>> counts = Counts(1)
    >>> counts.add(subkind=5, time_s=100.0)
    >>> int(counts.totals[0, 5]), float(counts.last_s[0, 5])
    (1, 100.0)
    """

    def __init__(self, n_people: int) -> None:
        self.newest: IntArray = np.full(n_people, NO_DAY, np.int64)
        self.daily: npt.NDArray[np.int32] = np.zeros((n_people, RING_DAYS, N_COUNTS), np.int32)
        self.last_s: FloatArray = np.full((n_people, N_SUBKINDS), NEVER_S)
        self.totals: IntArray = np.zeros((n_people, N_SUBKINDS), np.int64)
        # person -> day -> keys
        self._seen: dict[int, dict[int, set[int]]] = {}

    def add(self, *, subkind: int, time_s: float, key: int = NO_KEY, person: int = 0) -> None:
        """Count one event; see `EventColumns` for the arguments."""
        day = int(time_s // DAY_S)
        newest = int(self.newest[person])
        if day > newest:
            self._advance(np.array([person]), np.array([day]))
            newest = day
        self.totals[person, subkind] += 1
        self.last_s[person, subkind] = max(time_s, self.last_s[person, subkind])
        if day <= newest - RING_DAYS:
            return
        self.daily[person, day % RING_DAYS, subkind] += 1
        if key != NO_KEY and self._repeats(person, day, key):
            self.daily[person, day % RING_DAYS, REPEATED[subkind]] += 1

    def fold(self, columns: EventColumns) -> None:
        """Count many events of many people; the order does not matter."""
        people, subkinds, days = columns.people, columns.subkinds, columns.days
        newest = self.newest.copy()
        np.maximum.at(newest, people, days)
        ahead = np.flatnonzero(newest > self.newest)
        if len(ahead):
            self._advance(ahead, newest[ahead])
        place = people * N_SUBKINDS + subkinds
        self.totals += np.bincount(place, minlength=self.totals.size).reshape(self.totals.shape)
        np.maximum.at(self.last_s.reshape(-1), place, columns.times_s)
        inside = days > newest[people] - RING_DAYS
        cell = (people * RING_DAYS + days % RING_DAYS) * N_COUNTS
        counted = (cell + subkinds)[inside]
        self.daily += np.bincount(counted, minlength=self.daily.size).reshape(self.daily.shape)
        flat = self.daily.reshape(-1)
        for row in np.flatnonzero(inside & (columns.keys != NO_KEY)).tolist():
            if self._repeats(int(people[row]), int(days[row]), int(columns.keys[row])):
                flat[cell[row] + REPEATED[int(subkinds[row])]] += 1

    def in_window(self, days: int, today: IntArray) -> BoolArray:
        """Say which places of the ring are among the last days.

        Args:
            days: The length of the window, 1 to 31; today is one of them.
            today: int64[P], the day on which each person is asked.

        Returns:
            bool[P, 32].
        """
        held = _days_held(self.newest)
        inside: BoolArray = (held <= today[:, None]) & (held > today[:, None] - days)
        return inside

    def to_parts(self) -> tuple[dict[str, Any], list[npt.NDArray[Any]]]:
        """Give one person's counts: plain values, and arrays; `from_parts` is its inverse."""
        seen = {str(day): sorted(keys) for day, keys in sorted(self._seen.get(0, {}).items())}
        return {"newest": int(self.newest[0]), "seen": seen}, [
            self.daily[0],
            self.last_s[0],
            self.totals[0],
        ]

    @classmethod
    def from_parts(cls, plain: Mapping[str, Any], arrays: list[npt.NDArray[Any]]) -> Counts:
        """Read one person's counts.

        Args:
            plain: ``newest`` and ``seen``, as `to_parts` gave them.
            arrays: The three arrays, in the promised shapes and types.

        Raises:
            ValueError: not what `to_parts` gives.
        """
        counts = cls(1)
        newest, seen = plain["newest"], plain["seen"]
        if type(newest) is not int or newest < NO_DAY or not isinstance(seen, dict):
            raise ValueError("counts: expected the newest day and its keys")
        daily, last_s, totals = arrays
        finite = bool((last_s < np.inf).all()) and bool((last_s >= NEVER_S).all())
        if daily.min() < 0 or totals.min() < 0 or not finite:
            raise ValueError("counts: expected numbers of 0 or more, and times")
        counts.newest[0] = newest
        counts.daily[0], counts.last_s[0], counts.totals[0] = daily, last_s, totals
        if bool((newest == NO_DAY) != (totals.sum() == 0)):
            raise ValueError("counts: expected a newest day where there are events, and only there")
        days = range(max(newest - RING_DAYS + 1, 0), newest + 1)
        for name, keys in seen.items():
            counts._seen.setdefault(0, {})[_day(name, days)] = _keys(keys)
        return counts

    def _repeats(self, person: int, day: int, key: int) -> bool:
        keys = self._seen.setdefault(person, {}).setdefault(day, set())
        if key in keys:
            return True
        keys.add(key)
        return False

    def _advance(self, people: IntArray, newest: IntArray) -> None:
        """Let days pass: what the ring held of days that leave it becomes 0."""
        gone = _days_held(newest) != _days_held(self.newest[people])
        self.daily[people] *= ~gone[:, :, None]
        self.newest[people] = newest
        if not self._seen:
            return
        for person, day in zip(people.tolist(), newest.tolist(), strict=True):
            seen = self._seen.get(person)
            if seen:
                self._seen[person] = {
                    held: keys for held, keys in seen.items() if held > day - RING_DAYS
                }


def _day(name: str, days: range) -> int:
    day = next((day for day in days if str(day) == name), None)
    if day is None:
        raise ValueError("counts: expected keys of days in the ring")
    return day


def _keys(keys: object) -> set[int]:
    if not isinstance(keys, list) or any(type(key) is not int for key in keys):
        raise ValueError("counts: expected a list of keys")
    if not keys or sorted(set(keys)) != keys or keys[0] <= NO_KEY or keys[-1] >= 1 << 63:
        raise ValueError("counts: expected different keys of 63 bits, sorted")
    return set(keys)


def _days_held(newest: IntArray) -> IntArray:
    """int64[P, 32]: the day that each place of the ring stands for."""
    return newest[:, None] - (newest[:, None] - _RING) % RING_DAYS
