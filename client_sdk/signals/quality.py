"""What comes in, before it is kept: checked, put right where a rule says how, counted, set aside.

Rules a reader can check line by line:

1. An event is kept as it came, kept with its time set to now, or refused with a reason. Nothing
   else is changed, and nothing is kept in part.
2. A time ahead of the clock by at most ``max_ahead_s`` is a clock that goes wrong: it becomes now,
   and is counted. Further ahead, or older than its kind may be kept, is refused.
3. An event older than the latest one is *out of order*; by more than ``late_after_s`` it is *late*
   as well. Both are kept: what is folded does not depend on the order.
4. What is missing is filled by the plan below, at the place that reads it, and counted here. An
   event is never given a value that nobody sent.
5. A refused event is set aside as JSON of at most ``max_raw_bytes``; a larger one leaves its
   reason alone. Of what is set aside the oldest goes first.
6. Pure: the clock, what is stored and what is known come as arguments, and counts are given back,
   not kept, so that a write that fails counts nothing.

=================  ===========================  ====================================  =============
missing            of                           what is done                          counted as
=================  ===========================  ====================================  =============
price              purchase                     the catalogue's price is used where   price
                                                it is known
quantity           cart, purchase, return       counts as 1                           quantity
item in catalogue  any event with an item       kept; ranked from the release that    unknown_item
                                                has the item
query              search                       a search, but never a repeated one    query
step               checkout_step                a step without a name                 step
field              form_error                   an error of a field without a name    field
event id           an event given as JSON       a random one: it can't be told from   event_id
                                                its repetition
item               product_view, cart,          refused: ``missing``                  (rejected)
                   purchase, return
time               any event given as JSON      refused: ``missing``                  (rejected)
person, device     any                          the person and the device at hand     (not counted)
=================  ===========================  ====================================  =============
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn, Self

from client_sdk.signals.counters import UNKNOWN_ITEM, QualityCounters
from client_sdk.signals.events import Event, EventError, EventKind, RejectReason
from client_sdk.signals.taxonomy import Taxonomy

__all__ = [
    "Checked",
    "Intake",
    "QualityCounters",
    "QualityRules",
    "Quarantined",
    "Rejected",
    "set_aside",
]

_COUNTED: Final = frozenset({EventKind.CART, EventKind.PURCHASE, EventKind.RETURN})
_PROPERTY_OF: Final[Mapping[EventKind | str, str]] = {
    EventKind.SEARCH: "query",
    EventKind.CHECKOUT_STEP: "step",
    EventKind.FORM_ERROR: "field",
}


@dataclass(frozen=True, kw_only=True)
class QualityRules:
    """Where the line is.

    Attributes:
        max_ahead_s: How far ahead of the clock a time may be, 0 or more seconds.
        late_after_s: From how many seconds behind the latest event on an event is late.
        max_quarantined: How many refused events are set aside at most, 0 or more.
        max_raw_bytes: The most bytes of JSON that are set aside of one refused event.

    Raises:
        ValueError: a rule is not as promised.
    """

    max_ahead_s: float = 300.0
    late_after_s: float = 3_600.0
    max_quarantined: int = 200
    max_raw_bytes: int = 4_096

    def __post_init__(self) -> None:
        for rule in dataclasses.fields(self):
            value = getattr(self, rule.name)
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{rule.name}: expected a number, 0 or more; got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A refused event that is set aside, for the developer to look at.

    Attributes:
        reason: One of `RejectReason`.
        field: Which field was wrong.
        message: What was expected and what type came; nothing of a person's data.
        received_s: When it came, seconds since 1970 (UTC).
        raw_json: What came, as JSON; None where it was too large, or no JSON. This is a person's
            data: it belongs into the vault, and is erased with it.
    """

    reason: RejectReason
    field: str
    message: str
    received_s: float
    raw_json: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Give it as plain JSON."""
        return {**dataclasses.asdict(self), "reason": str(self.reason)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave.

        Raises:
            ValueError: a field is missing, unknown or not as promised.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        if not isinstance(value, Mapping) or value.keys() != known:
            raise ValueError(f"quarantined: expected an object with the fields {sorted(known)}")
        raw_json, received_s = value["raw_json"], value["received_s"]
        texts = [value["field"], value["message"], "" if raw_json is None else raw_json]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("quarantined: expected text in field, message and raw_json")
        if not isinstance(received_s, float) or not math.isfinite(received_s):
            raise ValueError("received_s: expected a number of seconds")
        return cls(**{**value, "reason": RejectReason(value["reason"])})


class Rejected(NamedTuple):
    """An event that was refused.

    Attributes:
        position: Its place in what was checked, from 0.
        error: Why.
        raw: What came.
    """

    position: int
    error: EventError
    raw: object

    def quarantined(self, *, received_s: float, rules: QualityRules) -> Quarantined:
        """Give what is set aside of it."""
        return Quarantined(
            reason=self.error.reason,
            field=self.error.field,
            message=str(self.error),
            received_s=received_s,
            raw_json=_raw_json(self.raw, rules.max_raw_bytes),
        )


class Checked(NamedTuple):
    """What became of many events.

    Attributes:
        events: Those that may be kept, in their order.
        rejected: Those that may not.
        counters: How they were; ``accepted`` is 0: whoever keeps them counts them.
    """

    events: list[Event]
    rejected: list[Rejected]
    counters: QualityCounters


class Intake:
    """Checks events; holds rules only.

    Args:
        taxonomy: Which kinds there are.
        rules: Where the line is.
        oldest_s: For a kind, the time before which its events are too old to be kept, in seconds
            since 1970; None: nothing is too old. Asked once a kind for each call of `check_many`.

    >>> intake = Intake(Taxonomy())
    >>> intake.check({"event": "screen", "timestamp": 90.0}, now_s=60.0).time_s
    60.0
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        rules: QualityRules | None = None,
        oldest_s: Callable[[str], float | None] | None = None,
    ) -> None:
        self._taxonomy = taxonomy
        self._rules = rules or QualityRules()
        self._oldest_s = oldest_s

    @property
    def rules(self) -> QualityRules:
        """Where the line is."""
        return self._rules

    def check(
        self, raw: Event | Mapping[str, Any], *, now_s: float, latest_s: float | None = None
    ) -> Event:
        """Check one event.

        Args:
            raw: An event, or its JSON form (see `Event.from_json`).
            now_s: What the clock says.
            latest_s: The latest time of a stored event; None: nothing is stored.

        Returns:
            The event; with ``time_s`` set to now where it was a little ahead.

        Raises:
            EventError: it may not be kept.
        """
        checked = self.check_many((raw,), now_s=now_s, latest_s=latest_s)
        if checked.rejected:
            raise checked.rejected[0].error
        return checked.events[0]

    def check_many(
        self,
        raws: Iterable[Event | Mapping[str, Any]],
        *,
        now_s: float,
        latest_s: float | None = None,
        known_items: Container[str] | None = None,
    ) -> Checked:
        """Check many events, and count how they are.

        Args:
            raws: Events, or their JSON form.
            now_s: What the clock says.
            latest_s: The latest time of a stored event; None: nothing is stored.
            known_items: The ids that the catalogue has; None: items are not counted.

        Returns:
            What may be kept, what may not, and the counts.
        """
        events: list[Event] = []
        rejected: list[Rejected] = []
        tally = _Tally(latest_s=latest_s, late_after_s=self._rules.late_after_s)
        oldest: dict[str, float] = {}
        for position, raw in enumerate(raws):
            try:
                event = raw if isinstance(raw, Event) else Event.from_json(raw)
                kind = event.kind
                if kind.__class__ is not EventKind:
                    self._taxonomy.check(event)
                if event.time_s < (oldest[kind] if kind in oldest else self._ask(kind, oldest)):
                    _refuse_old(kind)
                # The last step, so that what is set to now is kept for certain.
                if event.time_s > now_s:
                    event = self._set_to_now(event, now_s)
                    tally.skewed += 1
            except EventError as error:
                rejected.append(Rejected(position, error, raw))
            else:
                events.append(event)
                tally.add(event, raw, known_items)
        return Checked(events, rejected, tally.counters(rejected))

    def _set_to_now(self, event: Event, now_s: float) -> Event:
        if event.time_s > now_s + self._rules.max_ahead_s:
            raise EventError(
                "time_s",
                RejectReason.TOO_FAR_AHEAD,
                f"expected a time at most {self._rules.max_ahead_s:g} seconds ahead of the clock; "
                "got a later one: check the clock, and that the time is in seconds",
            )
        return dataclasses.replace(event, time_s=now_s)

    def _ask(self, kind: str, oldest: dict[str, float]) -> float:
        answer = None if self._oldest_s is None else self._oldest_s(kind)
        oldest[kind] = found = -math.inf if answer is None else answer
        return found


class _Tally:
    """Counts how the kept events are, one after another."""

    def __init__(self, *, latest_s: float | None, late_after_s: float) -> None:
        self.skewed = 0
        self._latest_s = -math.inf if latest_s is None else latest_s
        self._late_after_s = late_after_s
        self._out_of_order = self._late = 0
        self._missing: dict[str, int] = {}

    def add(
        self, event: Event, raw: Event | Mapping[str, Any], known_items: Container[str] | None
    ) -> None:
        time_s = event.time_s
        if time_s >= self._latest_s:
            self._latest_s = time_s
        else:
            self._out_of_order += 1
            self._late += self._latest_s - time_s > self._late_after_s
        kind = event.kind
        if kind in _COUNTED:
            if event.quantity is None:
                self._miss("quantity")
            if event.price is None and kind is EventKind.PURCHASE:
                self._miss("price")
        elif kind in _PROPERTY_OF and event.properties.get(_PROPERTY_OF[kind]) is None:
            self._miss(_PROPERTY_OF[kind])
        item_id = event.item_id
        if known_items is not None and item_id is not None and item_id not in known_items:
            self._miss(UNKNOWN_ITEM)
        if not isinstance(raw, Event) and raw.get("event_id") is None:
            self._miss("event_id")

    def counters(self, rejected: Iterable[Rejected]) -> QualityCounters:
        return QualityCounters(
            clock_skewed=self.skewed,
            late=self._late,
            out_of_order=self._out_of_order,
            rejected=dict(Counter(str(one.error.reason) for one in rejected)),
            missing=self._missing,
        )

    def _miss(self, name: str) -> None:
        self._missing[name] = self._missing.get(name, 0) + 1


def _refuse_old(kind: str) -> NoReturn:
    raise EventError(
        "time_s",
        RejectReason.TOO_OLD,
        f"expected a time as far back as the kind '{kind}' is kept; got an older one",
    )


def set_aside(
    held: Sequence[Quarantined], more: Iterable[Quarantined], *, limit: int
) -> tuple[list[Quarantined], int]:
    """Put refused events to those that are set aside already; the oldest go first.

    Args:
        held: What is set aside, oldest first.
        more: What comes on top, oldest first.
        limit: How many may be there, 0 or more.

    Returns:
        What is set aside now, and how many were dropped.
    """
    both = [*held, *more]
    dropped = max(len(both) - limit, 0)
    return both[dropped:], dropped


def _raw_json(raw: object, max_bytes: int) -> str | None:
    value = raw.to_json() if isinstance(raw, Event) else raw
    parts: list[str] = []
    size = 0
    try:
        # Bit by bit, so that a hostile giant costs no more than what is set aside of it.
        for part in json.JSONEncoder(separators=(",", ":")).iterencode(value):
            size += len(part)
            if size > max_bytes:
                return None
            parts.append(part)
    except (TypeError, ValueError, RecursionError):
        return None
    return "".join(parts)
