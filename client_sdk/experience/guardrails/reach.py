"""Guardrails on how the person is reached: channels, caps, quiet hours, fatigue.

Rules a reader can check line by line:

1. What is not known is read in the stricter way: a channel that no policy names is refused, and an
   unknown time zone is quiet.
2. A pause closes every channel that needs a yes.
3. A cap looks at what was shown before: one more is refused when the limit is reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.guardrails.rule import listed
from client_sdk.experience.situation import Situation
from client_sdk.signals.features.columns import BoolArray

DAY_MINUTES: Final = 24 * 60

Window = Literal["session", "day", "week"]
_WINDOW_WORDS: Final = {"session": "a session", "day": "any 24 hours", "week": "any 7 days"}


@dataclass(frozen=True, kw_only=True)
class KnownChannel:
    """Refuses a channel that the policy does not name."""

    channels: frozenset[str]
    name: str = "unknown-channel"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:  # noqa: ARG002 - it holds at any time
        """bool[n]: what would reach the person on another channel."""
        return actions.once(self, lambda: ~actions.on_channels(self.channels))

    def looks_at(self, situation: Situation) -> None:
        """Nothing: it holds in any situation."""

    def in_words(self) -> str:
        """Say the channels."""
        return f"Nothing reaches the person but by {listed(self.channels)}."


@dataclass(frozen=True, kw_only=True)
class OptIn:
    """Refuses a channel that the person did not open, and all of these during a pause."""

    channels: frozenset[str]
    name: str = "opt-in"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: what needs a yes that is not there."""
        opened = self.looks_at(situation)
        return actions.on_channels(self.channels - opened)

    def looks_at(self, situation: Situation) -> frozenset[str]:
        """The channels that are open now."""
        return frozenset() if situation.paused else situation.opted_in

    def in_words(self) -> str:
        """Say the channels."""
        return f"Only after a yes to the channel, and not in a pause: {listed(self.channels)}."


@dataclass(frozen=True, kw_only=True)
class Cap:
    """Refuses a channel on which enough was shown."""

    channel: str
    per: Window
    limit: int

    def __post_init__(self) -> None:
        if self.per not in _WINDOW_WORDS or self.limit < 0:
            raise ValueError("cap: expected session, day or week, and a limit of 0 or more")

    @property
    def name(self) -> str:
        """The channel and the window."""
        return f"cap:{self.channel}:{self.per}"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: what is one too many."""
        return actions.on_channels((self.channel,) if self.looks_at(situation) else ())

    def looks_at(self, situation: Situation) -> bool:
        """Whether the limit is reached."""
        reached: int = getattr(situation.count(self.channel), self.per)
        return reached >= self.limit

    def in_words(self) -> str:
        """Say the limit."""
        return f"At most {self.limit} by {self.channel} in {_WINDOW_WORDS[self.per]}."


@dataclass(frozen=True, kw_only=True)
class QuietHours:
    """Refuses channels at night, by the person's clock; minutes after midnight."""

    start_minute: int
    end_minute: int
    channels: frozenset[str]
    name: str = "quiet-hours"

    def __post_init__(self) -> None:
        for minute in (self.start_minute, self.end_minute):
            if not 0 <= minute < DAY_MINUTES:
                raise ValueError("quiet hours: expected times from 00:00 to 23:59; got another")
        if self.start_minute == self.end_minute:
            raise ValueError("quiet hours: expected an end that is not the beginning; got the same")

    def quiet(self, situation: Situation) -> bool:
        """Say whether it is quiet; it is where the person's time zone is not known."""
        if situation.utc_offset_s is None:
            return True
        minute = (situation.now_s + situation.utc_offset_s) // 60 % DAY_MINUTES
        if self.start_minute < self.end_minute:
            return self.start_minute <= minute < self.end_minute
        return minute >= self.start_minute or minute < self.end_minute

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: what would disturb."""
        return actions.on_channels(self.channels if self.quiet(situation) else ())

    def looks_at(self, situation: Situation) -> bool:
        """Whether it is quiet."""
        return self.quiet(situation)

    def in_words(self) -> str:
        """Say the hours."""
        return (
            f"Nothing by {listed(self.channels)} from {_clock(self.start_minute)} to "
            f"{_clock(self.end_minute)} where the person is; where that is not known, never."
        )


@dataclass(frozen=True, kw_only=True)
class Fatigue:
    """Refuses channels after many messages in a week, or where most of them are closed."""

    channels: frozenset[str]
    messages_7_days: int | None = None
    dismissed_share: float | None = None
    name: str = "fatigue"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: what would tire."""
        return actions.on_channels(self.channels if self.looks_at(situation) else ())

    def looks_at(self, situation: Situation) -> bool:
        """Whether the person is tired of messages."""
        share = situation.dismissed_share
        if self.dismissed_share is not None and share is not None and share >= self.dismissed_share:
            return True
        if self.messages_7_days is None:
            return False
        # A message that was decided here is usually an event too: the larger count, not the sum.
        shown = sum([situation.count(channel).week for channel in self.channels])
        return max(shown, situation.messages_7_days) >= self.messages_7_days

    def in_words(self) -> str:
        """Say the limits."""
        limits = []
        if self.messages_7_days is not None:
            limits.append(f"after {self.messages_7_days} messages in 7 days")
        if self.dismissed_share is not None:
            limits.append(f"while {self.dismissed_share:.0%} or more of them are closed")
        return f"Nothing by {listed(self.channels)} {' or '.join(limits)}."


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
