"""Conditions: what has to hold before something moves or is said.

Rules a reader can check line by line:

1. What is not known fails every test, ``is_not`` too. Consents and opt-ins are always known: no yes
   is a no.
2. Text is compared case folded. A truth value is no number, and a number no text.
3. `exclude` says that two sets of conditions can never hold together, and only where that is
   certain: it is asked before two triggers are called in conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from client_sdk.experience.content.usable import Scalar, Usable
from client_sdk.experience.journeys.tables import SUBJECTS, TESTS
from client_sdk.signals.events import Event

EVENT_FIELDS: Final = ("item", "price", "quantity")
_YES: Final = ("consent", "opt_in")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One test of one thing.

    Attributes:
        subject: ``feature``, ``favourite``, ``event``, ``fact``, ``consent`` or ``opt_in``.
        name: Of the feature, the map, the property, the fact, the purpose, the channel or source.
        test: ``is``, ``is_not``, ``at_least`` or ``at_most``.
        value: What it is compared with.

    Raises:
        ValueError: the test does not fit the subject or the value.

    >>> often = Condition(subject="feature", name="events_7_days", test="at_least", value=3.0)
    >>> often.holds(Usable(features={"events_7_days": 4.0})), often.holds(Usable())
    (True, False)
    """

    subject: str
    name: str
    test: str
    value: Scalar

    def __post_init__(self) -> None:
        if self.subject not in SUBJECTS or self.test not in TESTS:
            raise ValueError(f"expected one of {list(SUBJECTS)} and one of {list(TESTS)}")
        if self.subject in _YES and not (self.test == "is" and isinstance(self.value, bool)):
            raise ValueError(f"{self.subject}: expected 'is' with true or false; got another test")
        number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if self.test in ("at_least", "at_most") and not number:
            raise ValueError(
                f"{self.test}: expected a number; got something else: write it as 3, without quotes"
            )

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read a condition from a TOML table that has the declared keys.

        Raises:
            ValueError: not exactly one test.
        """
        subject = next(name for name in SUBJECTS if name in table)
        tests = [name for name in TESTS if name in table]
        if not tests and subject in _YES:
            return cls(subject=subject, name=table[subject], test="is", value=True)
        if len(tests) != 1:
            raise ValueError(
                f"expected exactly one of {list(TESTS)}; got {tests or 'none'}: a condition is "
                "one test; write two of them for two"
            )
        value = table[tests[0]]
        return cls(
            subject=subject,
            name=table[subject],
            test=tests[0],
            value=float(value) if type(value) is int else value,
        )

    def holds(self, usable: Usable, event: Event | None = None) -> bool:
        """Say whether it holds now."""
        found = self._found(usable, event)
        if found is None:
            return False
        if self.test in ("is", "is_not"):
            return _same(found, self.value) == (self.test == "is")
        if isinstance(found, str | bool):
            return False
        return _reaches(found, self.test, self.value)

    def in_words(self) -> str:
        """Say it in plain words.

        >>> Condition(subject="opt_in", name="sms", test="is", value=True).in_words()
        "'sms' is open"
        """
        if self.subject == "opt_in":
            return f"'{self.name}' is {'open' if self.value else 'not open'}"
        if self.subject == "consent":
            return f"there is {'a' if self.value else 'no'} yes to '{self.name}'"
        what = f"the {self.subject} '{self.name}'"
        if self.subject == "event":
            what = f"the event's '{self.name}'"
        said = str(self.value).lower() if isinstance(self.value, bool) else f"{self.value}"
        if isinstance(self.value, float):
            said = f"{self.value:g}"
        words = {"is": "is", "is_not": "is not", "at_least": "is at least", "at_most": "is at most"}
        return f"{what} {words[self.test]} {said}"

    def _found(self, usable: Usable, event: Event | None) -> Scalar | None:
        if self.subject in _YES:
            return self.name in (usable.consents if self.subject == "consent" else usable.opt_ins)
        known: dict[str, Mapping[str, Scalar]] = {
            "feature": usable.features,
            "favourite": usable.favourites,
            "fact": usable.facts,
        }
        if self.subject in known:
            return known[self.subject].get(self.name)
        if event is None:
            return None
        own = {"item": event.item_id, "price": event.price, "quantity": event.quantity}
        return own[self.name] if self.name in own else event.properties.get(self.name)


def all_hold(conditions: Iterable[Condition], usable: Usable, event: Event | None = None) -> bool:
    """Say whether all of them hold; none is fine."""
    return all(condition.holds(usable, event) for condition in conditions)


def exclude(one: Iterable[Condition], other: Iterable[Condition]) -> bool:
    """Say whether two sets of conditions can surely never hold together.

    >>> few = Condition(subject="fact", name="n", test="at_most", value=2.0)
    >>> many = Condition(subject="fact", name="n", test="at_least", value=3.0)
    >>> exclude([few], [many]), exclude([few], [])
    (True, False)
    """
    others = list(other)
    return any(
        (first.subject, first.name) == (second.subject, second.name) and _contradict(first, second)
        for first in one
        for second in others
    )


def _contradict(first: Condition, second: Condition) -> bool:
    tests = {first.test, second.test}
    if tests == {"is"}:
        return not _same(first.value, second.value)
    if tests == {"is", "is_not"}:
        return _same(first.value, second.value)
    if "is" in tests:
        fixed, ranged = (first, second) if first.test == "is" else (second, first)
        if isinstance(fixed.value, str | bool):
            return True
        return not _reaches(fixed.value, ranged.test, ranged.value)
    if tests == {"at_least", "at_most"}:
        least, most = (first, second) if first.test == "at_least" else (second, first)
        return float(least.value) > float(most.value)
    return False


def _reaches(found: float, test: str, bound: Scalar) -> bool:
    return found >= float(bound) if test == "at_least" else found <= float(bound)


def _same(found: Scalar, value: Scalar) -> bool:
    if isinstance(found, str) and isinstance(value, str):
        return found.casefold() == value.casefold()
    if isinstance(found, str) or isinstance(value, str):
        return False
    return isinstance(found, bool) == isinstance(value, bool) and found == value
