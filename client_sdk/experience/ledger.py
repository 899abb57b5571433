"""What was shown, counted for caps: per channel and session, in the last day and the last week.

Rules a reader can check line by line:

1. A window is rolling: a day is the last 24 hours, a week the last 7 days. What was shown exactly a
   window ago has left it. What lies in the future, because a clock was set back, counts.
2. A session counts what was shown in it in the last 7 days; what has no session is one session.
3. Adding and counting cost O(log n); nothing scans a history. The names shown since a time are
   kept as a set that grows with what is added, and is made anew only when one of them leaves it.
4. Of each kind and action the latest time is kept, for `MAX_LATEST` of them; the oldest go first.
5. `Ledger.from_json` of `Ledger.to_json` counts alike.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

DAY_S: Final = 86_400.0
WEEK_S: Final = 7 * DAY_S
MAX_LATEST: Final = 10_000
_TIDY_EVERY: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One action that reached the person: when, where, and what it was."""

    time_s: float
    channel: str
    session: str
    kind: str
    action_id: str
    item_id: str | None = None


class Counts(NamedTuple):
    """How much was shown on one channel: in the session, the last day, the last week."""

    session: int
    day: int
    week: int


@dataclass(slots=True)
class _Names:
    """What `Ledger.names_since` gave last; right for any time from ``since_s`` to ``oldest_s``."""

    kinds: Collection[str]
    since_s: float
    oldest_s: float
    names: frozenset[str]


class Ledger:
    """The counts of what was shown.

    >>> ledger = Ledger()
    >>> ledger.add(Shown(time_s=0.0, channel="push", session="s", kind="offer", action_id="a"))
    >>> ledger.counts(session="s", now_s=DAY_S)
    {'push': Counts(session=1, day=0, week=1)}
    """

    def __init__(self) -> None:
        self._channels: dict[str, list[float]] = {}
        self._sessions: dict[tuple[str, str], list[float]] = {}
        self._latest: dict[str, dict[str, tuple[float, str | None]]] = {}
        self._added = 0
        self._names: _Names | None = None

    def add(self, shown: Shown) -> None:
        """Count one more, in any order."""
        insort(self._channels.setdefault(shown.channel, []), shown.time_s)
        insort(self._sessions.setdefault((shown.channel, shown.session), []), shown.time_s)
        self._note(shown.kind, shown.action_id, shown.time_s, shown.item_id)
        self._added += 1
        if self._added % _TIDY_EVERY == 0:
            self._tidy(shown.time_s)

    def counts(self, *, session: str, now_s: float) -> dict[str, Counts]:
        """Give the counts of every channel on which something was shown this week."""
        found = {}
        for channel, times in self._channels.items():
            week = _since(times, now_s - WEEK_S)
            if week:
                day = _since(times, now_s - DAY_S)
                in_session = self._sessions.get((channel, session), ())
                found[channel] = Counts(_since(in_session, now_s - WEEK_S), day, week)
        return found

    def names_since(self, kinds: Collection[str], since_s: float) -> frozenset[str]:
        """Give the ids of actions of these kinds that were shown after a time, and their items."""
        known = self._names
        if known is not None and known.since_s <= since_s < known.oldest_s and known.kinds == kinds:
            return known.names
        names: set[str] = set()
        oldest_s = math.inf
        for kind in kinds:
            for action_id, (time_s, item_id) in self._latest.get(kind, {}).items():
                if time_s > since_s:
                    names.update(_names(action_id, item_id))
                    oldest_s = min(oldest_s, time_s)
        found = frozenset(names)
        self._names = _Names(kinds=kinds, since_s=since_s, oldest_s=oldest_s, names=found)
        return found

    def to_json(self, now_s: float) -> dict[str, Any]:
        """Give what still counts as plain JSON."""
        self._tidy(now_s)
        return {
            "shown": [[*place, times] for place, times in sorted(self._sessions.items())],
            "latest": [
                [kind, action_id, *latest]
                for kind, actions in sorted(self._latest.items())
                for action_id, latest in sorted(actions.items())
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Ledger:
        """Read what `to_json` gave."""
        ledger = cls()
        for channel, session, times in value["shown"]:
            ledger._sessions[channel, session] = list(times)
            ledger._channels.setdefault(channel, []).extend(times)
        for times in ledger._channels.values():
            times.sort()
        for kind, action_id, time_s, item_id in value["latest"]:
            ledger._note(kind, action_id, time_s, item_id)
        return ledger

    def _note(self, kind: str, action_id: str, time_s: float, item_id: str | None) -> None:
        latest = self._latest.setdefault(kind, {})
        before = latest.get(action_id)
        if before is not None and time_s < before[0]:
            return
        latest[action_id] = (time_s, item_id)
        known = self._names
        if known is None or kind not in known.kinds or time_s <= known.since_s:
            return
        if before is None or before[0] <= known.since_s:
            known.names = known.names.union(_names(action_id, item_id))
            known.oldest_s = min(known.oldest_s, time_s)
        elif before[1] != item_id:
            # The item that it was about before is not of the latest time any more.
            self._names = None

    def _tidy(self, now_s: float) -> None:
        oldest_s = now_s - WEEK_S
        for name in list(self._channels):
            times = self._channels[name]
            del times[: bisect_right(times, oldest_s)]
            if not times:
                del self._channels[name]
        for place in list(self._sessions):
            times = self._sessions[place]
            del times[: bisect_right(times, oldest_s)]
            if not times:
                del self._sessions[place]
        beyond = sum(map(len, self._latest.values())) - MAX_LATEST
        if beyond <= 0:
            return
        every = sorted(
            (latest[0], kind, action_id)
            for kind, actions in self._latest.items()
            for action_id, latest in actions.items()
        )
        for _, kind, action_id in every[:beyond]:
            del self._latest[kind][action_id]
            self._names = None


def _names(action_id: str, item_id: str | None) -> tuple[str, ...]:
    return (action_id,) if item_id is None else (action_id, item_id)


def _since(times: Sequence[float], after_s: float) -> int:
    return len(times) - bisect_right(times, after_s)
