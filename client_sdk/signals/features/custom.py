"""Features of the app's own: one property of some kinds, reduced to a number.

Rules a reader can check line by line:

1. Numbers count as they are and truth values as 0 and 1; ``count`` takes any value that is there.
   Text is never a number.
2. The state does not depend on the order of the events: counts add up, the last value is that of
   the latest time (of two at one time the larger), and sums agree to rounding.
3. A window has the days that the standard features have: the ring of 32 days ends with the newest
   day on which the feature got a value.
4. A feature is checked by the policy when it is put into a `FeatureSet`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, get_args

from client_sdk.signals.events import Event
from client_sdk.signals.features.columns import DAY_S
from client_sdk.signals.features.counts import NO_DAY, RING_DAYS
from client_sdk.signals.features.definitions import (
    EVER,
    NOW,
    FeatureDefinition,
    Sensitivity,
)

Reducer = Literal["last", "sum", "count", "mean"]
REDUCERS: Final = get_args(Reducer)


@dataclass(frozen=True, kw_only=True)
class PropertyFeature:
    """One feature that an app declares.

    Attributes:
        name: Like a standard feature's.
        meaning: One plain sentence that a person understands.
        kinds: The kinds of events that carry the property.
        property: Its name in `Event.properties`.
        reducer: ``last``, ``sum``, ``count`` or ``mean``; sums and counts of nothing are 0 and
            known, the last and the mean of nothing are 0 and not known.
        window: ``"ever"`` or ``"7 days"`` (1 to 31).
        bins: The edges of the histogram.
        sensitivity: At least what the word lists say of the names.
        unit: Of the value.

    Raises:
        ValueError: a field is not as promised.
    """

    name: str
    meaning: str
    kinds: tuple[str, ...]
    property: str
    reducer: Reducer
    window: str
    bins: tuple[float, ...]
    sensitivity: Sensitivity = "ordinary"
    unit: str = ""

    def __post_init__(self) -> None:
        if self.reducer not in REDUCERS:
            raise ValueError(f"reducer: expected one of {REDUCERS}; got another word")
        if not self.kinds or not self.property:
            raise ValueError("kinds and property: expected at least one kind, and a name")
        if self.window == NOW:
            raise ValueError(f'window: expected "{EVER}" or days; a property has no "{NOW}"')
        # Checks the rest.
        _ = self.definition

    @cached_property
    def definition(self) -> FeatureDefinition:
        """The feature as others see it."""
        return FeatureDefinition(
            name=self.name,
            meaning=self.meaning,
            sources=tuple(self.kinds),
            window=self.window,
            mode="real-time",
            unit=self.unit,
            bins=self.bins,
            sensitivity=self.sensitivity,
        )


class PropertyState:
    """What one person's events said about one declared feature.

    >>> feature = PropertyFeature(name="rating", meaning="What you gave.", kinds=("support",),
    ...     property="stars", reducer="mean", window="ever", bins=(0.0, 5.0))
    >>> state = PropertyState(feature)
    >>> state.add(Event(kind="support", time_s=0.0, properties={"stars": 4}))
    >>> state.read(today=0)
    4.0
    """

    def __init__(self, feature: PropertyFeature) -> None:
        self.feature = feature
        self._ever: _Sums | None = None
        self._newest = NO_DAY
        self._days: dict[int, _Sums] = {}

    def add(self, event: Event) -> None:
        """Fold one event; of another kind, or without the property, it changes nothing."""
        if event.kind not in self.feature.kinds:
            return
        value = event.properties.get(self.feature.property)
        number = _number(value, any_value=self.feature.reducer == "count")
        if number is None:
            return
        new = _Sums(1, number, event.time_s, number)
        self._ever = new.plus(self._ever)
        day = int(event.time_s // DAY_S)
        if day > self._newest:
            self._newest = day
            self._days = {held: sums for held, sums in self._days.items() if held > day - RING_DAYS}
        if day > self._newest - RING_DAYS:
            self._days[day] = new.plus(self._days.get(day))

    def read(self, *, today: int) -> float:
        """Give the value on a day (days since 1970, UTC); NaN for not known."""
        sums, reducer = self._ever, self.feature.reducer
        window = self.feature.definition.window_days
        if window is not None:
            sums = None
            for day in sorted(self._days):
                if 0 <= today - day < window:
                    sums = self._days[day].plus(sums)
        if sums is None:
            return 0.0 if reducer in ("count", "sum") else math.nan
        if reducer == "count":
            return float(sums.n)
        if reducer == "sum":
            return sums.total
        return sums.total / sums.n if reducer == "mean" else sums.last

    def to_json(self) -> dict[str, Any]:
        """Give the state as plain values; `from_json` is its inverse."""
        return {
            "feature": _declared(self.feature),
            "ever": self._ever,
            "newest": self._newest,
            "days": [[day, self._days[day]] for day in sorted(self._days)],
        }

    @classmethod
    def from_json(cls, feature: PropertyFeature, value: Mapping[str, Any]) -> PropertyState:
        """Read the state of a feature.

        Raises:
            ValueError: of another feature, or not what `to_json` gives.
        """
        state = cls(feature)
        if set(value) != set(state.to_json()) or value["feature"] != _declared(feature):
            raise ValueError("custom features: expected the ones that are declared now")
        newest, ever = value["newest"], value["ever"]
        if type(newest) is not int or (newest < 0 if ever else newest != NO_DAY):
            raise ValueError("custom features: expected a newest day where there are values")
        state._newest = newest
        state._ever = None if ever is None else _Sums.of(ever)
        for day, sums in value["days"]:
            if type(day) is not int or not newest - RING_DAYS < day <= newest:
                raise ValueError("custom features: expected days in the ring")
            state._days[day] = _Sums.of(sums)
        return state


class _Sums(NamedTuple):
    """How many values, their sum, and the latest of them with its time."""

    n: int
    total: float
    time_s: float
    last: float

    def plus(self, other: _Sums | None) -> _Sums:
        """Add up."""
        if other is None:
            return self
        latest = max(self[2:], other[2:])
        return _Sums(self.n + other.n, self.total + other.total, *latest)

    @classmethod
    def of(cls, value: Any) -> _Sums:
        """Read the four numbers."""
        n, *numbers = value
        if type(n) is not int or n < 1 or len(numbers) != 3:
            raise ValueError("custom features: expected a count and three numbers")
        if not all(type(number) is float and math.isfinite(number) for number in numbers):
            raise ValueError("custom features: expected finite numbers")
        return cls(n, *numbers)


def _number(value: object, *, any_value: bool) -> float | None:
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return None
        # A number so large that sums of it are none is no measurement.
        return number if abs(number) <= _LARGEST else None
    return 1.0 if any_value and value is not None else None


def _declared(feature: PropertyFeature) -> list[Any]:
    return [feature.name, list(feature.kinds), feature.property, feature.reducer, feature.window]


_LARGEST: Final = 1e100
