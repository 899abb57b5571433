"""Features in words: one plain sentence for what is known, addressed to the person.

Rules a reader can check line by line:

1. A sentence says what the number says, not what somebody could conclude from it.
2. What is not known, and a count or share of 0, have no sentence.
3. Every standard feature has an entry in the table; a test holds that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from client_sdk.signals.features.context import DEVICES, REGIONS
from client_sdk.signals.features.standard import MAX_DAYS, MAX_HOURS

_WEEKDAYS: Final = (
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)
_CHEAP: Final = 0.6
_DEAR: Final = 0.4


def in_words(known: Mapping[str, float], favourites: Mapping[str, str]) -> list[str]:
    """Say the standard features in words.

    Args:
        known: The values that are known, by name.
        favourites: The top category under ``"top_category_share"``, the top brand under
            ``"top_brand_share"``, where there is one.

    Returns:
        Sentences, in the order of the table of features.

    >>> in_words({"days_since_last_purchase": 3.2, "events_7_days": 0.0}, {})
    ['You bought something 3 days ago.']
    """
    said = []
    for name, sentence in _SENTENCES.items():
        if name in favourites and name in known:
            said.append(f"{_percent(known[name])} of your interest is in {favourites[name]}.")
        elif name in known:
            said.append(sentence(known[name]))
    return [sentence for sentence in said if sentence]


def _many(value: float, word: str) -> str:
    number = round(value)
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _times(value: float) -> str:
    number = round(value)
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _days_ago(what: str) -> Callable[[float], str]:
    def say(days: float) -> str:
        if days < 1:
            return f"{what} less than a day ago."
        if days >= MAX_DAYS:
            return f"{what} a year ago or longer."
        return f"{what} {_many(int(days), 'day')} ago."

    return say


def _hours_ago(hours: float) -> str:
    if hours < 1:
        return "You looked at an item less than an hour ago."
    if hours >= MAX_HOURS:
        return "You looked at an item a month ago or longer."
    return f"You looked at an item {_many(int(hours), 'hour')} ago."


def _counted(text: str, word: str = "") -> Callable[[float], str]:
    """Make a sentence with one gap, for a number of things (or times); none for 0."""

    def say(value: float) -> str:
        if value < 1:
            return ""
        return text.format(_many(value, word) if word else _times(value))

    return say


def _shared(text: str) -> Callable[[float], str]:
    """Make a sentence with one gap, for a share; none for 0."""
    return lambda value: text.format(_percent(value)) if value else ""


def _kinds_of(what: str) -> Callable[[float], str]:
    def say(value: float) -> str:
        plural = what if value < 2 else {"category": "categories"}.get(what, f"{what}s")
        return f"You are interested in {round(value)} {plural}." if value else ""

    return say


def _price(value: float) -> str:
    if value >= _CHEAP:
        return "You mostly buy the cheaper things of their kind."
    if value <= _DEAR:
        return "You mostly buy the dearer things of their kind."
    return "You mostly buy things that are neither cheap nor dear for their kind."


def _due(value: float) -> str:
    if value < 1:
        return ""
    return "Something that you buy again and again is due."


def _no_sentence(_: float) -> str:
    """For a share whose sentence needs the name of what it is a share of."""
    return ""


_SENTENCES: Final[dict[str, Callable[[float], str]]] = {
    "days_since_last_event": _days_ago("You were last here"),
    "days_since_last_purchase": _days_ago("You bought something"),
    "events_1_day": _counted("You did {} here today.", "thing"),
    "events_7_days": _counted("You did {} here in the last 7 days.", "thing"),
    "events_30_days": _counted("You did {} here in the last 30 days.", "thing"),
    "purchases_30_days": _counted("You made {} in the last 30 days.", "purchase"),
    "purchases_ever": _counted("You made {} in all.", "purchase"),
    "hours_since_last_view": _hours_ago,
    "comparison_views_7_days": _counted(
        "You looked at {} of something on one day, in the last 7 days.", "alternative"
    ),
    "return_policy_views_30_days": _counted(
        "You read how to return things {} in the last 30 days."
    ),
    "top_category_share": _no_sentence,
    "n_categories": _kinds_of("category"),
    "top_brand_share": _no_sentence,
    "n_brands": _kinds_of("brand"),
    "price_sensitivity": _price,
    "discount_sensitivity": _shared("{} of your purchases had a discount."),
    "replenishment_cycle_days": lambda value: (
        f"Something that you buy again and again lasts you about {_many(value, 'day')}."
    ),
    "replenishment_due": _due,
    "repeated_form_errors_7_days": _counted(
        "A form refused the same field again {} in the last 7 days."
    ),
    "stalled_steps_7_days": _counted(
        "You took {} to the checkout without buying that day, in the last 7 days.", "step"
    ),
    "repeated_searches_7_days": _counted(
        "You searched for the same thing again {} in the last 7 days."
    ),
    "messages_7_days": _counted("We showed you {} in the last 7 days.", "message"),
    "days_since_last_offer": _days_ago("We showed you an offer"),
    "dismissed_share_30_days": _shared(
        "You closed {} of the messages that we showed you in the last 30 days."
    ),
    "hour_of_day": lambda value: f"It is between {value:.0f}:00 and {value:.0f}:59 where you are.",
    "weekday": lambda value: f"It is {_WEEKDAYS[int(value)]} where you are.",
    "device_class": lambda value: f"The kind of this device: {DEVICES[int(value)]}.",
    "region": lambda value: f"The part of the world where you are: {REGIONS[int(value)]}.",
}
SAID: Final = frozenset(_SENTENCES)
