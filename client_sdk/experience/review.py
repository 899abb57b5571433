"""What waits for a person's approval, what they said, and what came of a decision.

Rules a reader can check line by line:

1. An outcome counts for a decision if its action was shown, and it came within the window of its
   kind: at the window's end still, after it no more.
2. A label is what a person said: yes or no, who, when, and a note. It is kept as long as its
   decision, and readable.
3. A result that is read back equals the one that was written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from client_sdk.experience.actions import Action, is_code

HOUR_S: Final = 3_600.0
MAX_OUTCOMES: Final = 50
MAX_NOTE_CHARS: Final = 500
MAX_WINDOW_HOURS: Final = 24.0 * 90

_WINDOWS: Final[Mapping[str, float]] = {
    "shown": 24.0,
    "opened": 24.0,
    "clicked": 24.0,
    "dismissed": 24.0,
    "cart": 72.0,
    "purchase": 168.0,
}


@dataclass(frozen=True, kw_only=True)
class OutcomeWindows:
    """For how long an outcome counts for a decision.

    Attributes:
        hours: Kind of outcome to hours, above 0, at most 90 days.
        default_hours: For other kinds.

    >>> OutcomeWindows().within("clicked", 3600.0), OutcomeWindows().within("clicked", 90_000.0)
    (True, False)
    """

    hours: Mapping[str, float] = field(default_factory=lambda: dict(_WINDOWS))
    default_hours: float = 168.0

    def __post_init__(self) -> None:
        for kind, hours in (*self.hours.items(), ("default", self.default_hours)):
            check_kind(kind)
            if not 0.0 < hours <= MAX_WINDOW_HOURS:
                raise ValueError(f"hours: expected above 0, at most {MAX_WINDOW_HOURS:g}")

    def within(self, kind: str, after_s: float) -> bool:
        """Say whether an outcome counts that came so long after the action."""
        return 0.0 <= after_s <= self.hours.get(kind, self.default_hours) * HOUR_S


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of a decision: a kind, when, and what it was worth (0 or less: it did not work)."""

    kind: str
    time_s: float
    value: float = 1.0

    def __post_init__(self) -> None:
        check_kind(self.kind)
        if not (math.isfinite(self.value) and math.isfinite(self.time_s)):
            raise ValueError("outcome: expected a finite value and a time; got another")


@dataclass(frozen=True, kw_only=True, slots=True)
class Attributed:
    """Whether an outcome counts for its decision, and why (not)."""

    attributed: bool
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What a person said of a decision that waited."""

    decision_id: str
    approved: bool
    by: str
    time_s: float
    note: str = ""

    def __post_init__(self) -> None:
        if not self.by.strip() or max(len(self.by), len(self.note)) > MAX_NOTE_CHARS:
            raise ValueError(f"label: expected who, and at most {MAX_NOTE_CHARS} characters a text")


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """One decision that waits: what would be done, since when, until when, and how sure it is."""

    decision_id: str
    action: Action
    reason: str
    confidence: float | None
    since_s: float
    until_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Everything that came of one decision.

    Attributes:
        outcomes: Those that count, in the order in which they came.
        label: What a person said; None where nobody did.
        shown_s: When the action was shown after an approval; None where it was not.
    """

    outcomes: tuple[Outcome, ...] = ()
    label: Label | None = None
    shown_s: float | None = None

    @property
    def worked(self) -> bool:
        """Whether one of the outcomes was worth something."""
        return any(outcome.value > 0.0 for outcome in self.outcomes)

    def with_outcome(self, outcome: Outcome) -> Result:
        """Give this result with one more outcome."""
        return replace(self, outcomes=(*self.outcomes, outcome))

    def to_json(self) -> dict[str, Any]:
        """Give it as plain JSON."""
        said = self.label
        return {
            "outcomes": [[o.kind, o.time_s, o.value] for o in self.outcomes],
            "label": None
            if said is None
            else [said.decision_id, said.approved, said.by, said.time_s, said.note],
            "shown_s": self.shown_s,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Result:
        """Read what `to_json` gave.

        >>> Result.from_json(Result(shown_s=5.0).to_json()).shown_s
        5.0
        """
        said = value["label"]
        label = None
        if said is not None:
            decision_id, approved, by, time_s, note = said
            label = Label(
                decision_id=decision_id, approved=approved, by=by, time_s=time_s, note=note
            )
        return cls(
            outcomes=tuple(
                Outcome(kind=kind, time_s=time_s, value=worth)
                for kind, time_s, worth in value["outcomes"]
            ),
            label=label,
            shown_s=value["shown_s"],
        )


NO_RESULT: Final = Result()


def check_kind(kind: str) -> None:
    """Refuse a kind of outcome that is no name.

    Raises:
        ValueError: it is none.
    """
    if not is_code(kind):
        raise ValueError("kind: expected 1 to 64 of a-z, 0-9, _ and -; got another name")
