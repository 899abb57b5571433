"""How the events that came were: counts, and the counts in words.

Rules a reader can check line by line:

1. Counts only: nothing of a person's data, so that a developer may see them.
2. `QualityCounters.from_json` takes what `QualityCounters.to_json` gave, and refuses anything else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from client_sdk.signals.events import RejectReason

UNKNOWN_ITEM: Final = "unknown_item"


@dataclass(kw_only=True, slots=True)
class QualityCounters:
    """How the events that came were; it holds counts only, nothing of a person's data.

    Attributes:
        accepted: Kept.
        duplicates: Not kept: their id was already here.
        without_consent: Not kept: no consent to personalise.
        paused: Not kept: the person paused.
        clock_skewed: Kept with their time set to now.
        late: Kept; far behind the latest event when they came. They are out of order as well.
        out_of_order: Kept; behind the latest event when they came.
        rejected: Refused, by `RejectReason`.
        missing: Kept without something, by the last column of the table in `quality`.
        quarantined_dropped: Set aside once, and dropped for newer ones.

    >>> counters = QualityCounters(accepted=2)
    >>> counters.add(QualityCounters(accepted=1, missing={"price": 1}))
    >>> counters.accepted, counters.missing
    (3, {'price': 1})
    """

    accepted: int = 0
    duplicates: int = 0
    without_consent: int = 0
    paused: int = 0
    clock_skewed: int = 0
    late: int = 0
    out_of_order: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    quarantined_dropped: int = 0

    def add(self, more: QualityCounters) -> None:
        """Add the counts of another one."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(more, name))
        for mine, theirs in ((self.rejected, more.rejected), (self.missing, more.missing)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count

    def to_json(self) -> dict[str, Any]:
        """Give the counts as plain JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read counts from what `to_json` gave.

        Raises:
            ValueError: a field is unknown, or no whole number of 0 or more.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        if not isinstance(value, Mapping) or not value.keys() <= known:
            raise ValueError(f"counters: expected an object with the fields {sorted(known)}")
        counters = cls()
        for name, count in value.items():
            if name in _COUNTS:
                setattr(counters, name, _count(name, count))
            elif isinstance(count, Mapping):
                setattr(counters, name, {key: _count(name, one) for key, one in count.items()})
            else:
                raise ValueError(f"{name}: expected an object; got {type(count).__name__}")
        return counters

    def sentences(self) -> list[str]:
        """Say the counts in plain words; what never happened is left out.

        >>> QualityCounters(accepted=1, rejected={"too-old": 2}).sentences()
        ['1 event was kept.', '2 events were refused: too old to be kept.']
        """
        said = [
            _said(getattr(self, name), what) for name, what in _SENTENCES if getattr(self, name)
        ]
        said += [
            _said(count, f"refused: {_REASONS.get(reason, reason)}.")
            for reason, count in sorted(self.rejected.items())
            if count
        ]
        said += [
            _said(count, _MISSING.get(name, f"kept without {name}."))
            for name, count in sorted(self.missing.items())
            if count
        ]
        return said


_COUNTS: Final = (
    "accepted",
    "duplicates",
    "without_consent",
    "paused",
    "clock_skewed",
    "late",
    "out_of_order",
    "quarantined_dropped",
)
_SENTENCES: Final = (
    ("accepted", "kept."),
    ("duplicates", "not kept again: it was here already."),
    ("without_consent", "not kept: there was no consent to personalise."),
    ("paused", "not kept: personalisation was paused."),
    ("clock_skewed", "kept with the time at which they came: their own was in the future."),
    ("late", "kept although they came late."),
    ("out_of_order", "kept although a later one came first."),
    ("quarantined_dropped", "dropped from the ones set aside, for newer ones."),
)
_REASONS: Final[Mapping[str, str]] = {
    RejectReason.NOT_AN_OBJECT: "not an object of fields",
    RejectReason.MISSING: "something that is needed was missing",
    RejectReason.WRONG_TYPE: "a field was of the wrong type",
    RejectReason.OUT_OF_RANGE: "a number was out of range",
    RejectReason.EMPTY: "a text was empty",
    RejectReason.TOO_LONG: "a text was too long",
    RejectReason.TOO_LARGE: "too many properties",
    RejectReason.BAD_TEXT: "a text was not Unicode",
    RejectReason.BAD_TIME: "the time was not readable",
    RejectReason.UNKNOWN_FIELD: "a field that no event has",
    RejectReason.UNKNOWN_KIND: "a kind that is not registered",
    RejectReason.SCHEMA: "not as its kind's schema asks",
    RejectReason.TOO_FAR_AHEAD: "too far in the future",
    RejectReason.TOO_OLD: "too old to be kept",
}
_MISSING: Final[Mapping[str, str]] = {
    "price": "kept without a price: the catalogue's counts, where it has one.",
    "quantity": "kept without a quantity: it counts as 1.",
    UNKNOWN_ITEM: "kept although the catalogue does not have the item.",
    "query": "kept without the words that were searched.",
    "step": "kept without the name of the checkout step.",
    "field": "kept without the name of the form's field.",
    "event_id": "kept without an id: it can't be told from its repetition.",
}


def _count(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name}: expected a whole number, 0 or more; got {type(value).__name__}")
    return value


def _said(count: int, what: str) -> str:
    return f"1 event was {what}" if count == 1 else f"{count:,} events were {what}"
