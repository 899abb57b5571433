"""What an experiment measures of one person: outcomes, and guards that stop it on the device.

Rules a reader can check line by line:

1. An event counts from the moment of the exposure, that moment included, to the end of the window,
   that moment excluded.
2. A metric's total never goes above its bound, so no person weighs more than one who reached it.
3. A guard stops the experiment on this device once its total is above its limit.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from client_sdk.signals.events import CUSTOM_KIND, Event

Value = Literal["happened", "count", "amount"]
VALUES: Final = get_args(Value)
MAX_BOUND: Final = 1e9
MAX_WINDOW_S: Final = 366 * 86_400.0
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_KIND: Final = re.compile(CUSTOM_KIND)


class FieldError(ValueError):
    """A field is not as promised.

    Args:
        field: Its name.
        message: What was expected, what came, what to write.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One outcome.

    Attributes:
        name: 1 to 64 of a-z, 0-9, _ and -, a letter first.
        event: The kind of event that it counts.
        value: ``"happened"``: 1 from the first event on; ``"count"``: the number of events;
            ``"amount"``: price times quantity, where the event has a price.
        bound: The largest outcome of one person, above 0; 1 for ``"happened"``.
        window_s: How long after the exposure an event counts, up to 366 days.

    Raises:
        FieldError: a field is not as promised.

    >>> spent = Metric(name="spent", event="purchase", value="amount", bound=20.0, window_s=86_400)
    >>> mugs = Event(kind="purchase", item_id="mug", price=9.0, quantity=2.0, time_s=0.0)
    >>> spent.added(0.0, mugs), spent.added(18.0, mugs)
    (18.0, 20.0)
    """

    name: str
    event: str
    value: Value = "happened"
    bound: float = 1.0
    window_s: float

    def __post_init__(self) -> None:
        _check(self.name, self.event, self.value, self.window_s)
        if not (math.isfinite(self.bound) and 0 < self.bound <= MAX_BOUND):
            raise FieldError(
                "bound", f"expected a number above 0, at most {MAX_BOUND:g}; got {self.bound}; "
                "write the largest outcome that one person may have"
            )  # fmt: skip
        if self.value == "happened" and self.bound != 1.0:
            raise FieldError(
                "bound",
                f'expected 1 for the value "happened"; got {self.bound}; write bound = 1',
            )

    def added(self, total: float, event: Event) -> float:
        """Add an event to a person's total."""
        return min(self.bound, total + _worth(self.value, event))


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What must not happen too often: more than ``limit`` stops the experiment on this device.

    Attributes:
        name: As a metric's.
        event: The kind of event that it counts.
        value: As a metric's.
        limit: The largest total at which the experiment goes on, 0 or more.
        window_s: How long after the exposure an event counts, up to 366 days.

    Raises:
        FieldError: a field is not as promised.
    """

    name: str
    event: str
    value: Value = "count"
    limit: float
    window_s: float

    def __post_init__(self) -> None:
        _check(self.name, self.event, self.value, self.window_s)
        if not (math.isfinite(self.limit) and 0 <= self.limit <= MAX_BOUND):
            raise FieldError(
                "limit", f"expected a number from 0 to {MAX_BOUND:g}; got {self.limit}; "
                "write the largest total at which the experiment may go on"
            )  # fmt: skip
        if self.value == "happened" and self.limit >= 1:
            raise FieldError(
                "limit",
                f'expected a number below 1 for the value "happened"; got {self.limit}; '
                'write limit = 0, or value = "count"',
            )

    def added(self, total: float, event: Event) -> float:
        """Add an event to the total."""
        return min(2.0 * MAX_BOUND, total + _worth(self.value, event))


def check_name(field: str, name: object) -> None:
    """Refuse what is no name.

    Raises:
        FieldError: it is not 1 to 64 of a-z, 0-9, _ and -, a letter first.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FieldError(
            field, "expected 1 to 64 of a-z, 0-9, _ and -, a letter first; got another name; "
            f'write for example {field} = "linen-first"'
        )  # fmt: skip


def _check(name: str, event: str, value: str, window_s: float) -> None:
    check_name("name", name)
    if not isinstance(event, str) or not _KIND.fullmatch(event):
        raise FieldError(
            "event",
            'expected the name of a kind of event; got another; write such as event = "purchase"',
        )
    if value not in VALUES:
        raise FieldError(
            "value", f'expected one of {list(VALUES)}; got another; write value = "count"'
        )
    if not (math.isfinite(window_s) and 0 < window_s <= MAX_WINDOW_S):
        raise FieldError(
            "window",
            'expected a duration above 0, at most 366 days; got another; write window = "7 days"',
        )


def _worth(value: Value, event: Event) -> float:
    if value != "amount":
        return 1.0
    return (event.price or 0.0) * (1.0 if event.quantity is None else event.quantity)
