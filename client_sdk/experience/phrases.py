"""Every phrase in which a decision is told to its person: English here, translatable as a whole.

Rules a reader can check line by line:

1. A phrase is text with named gaps in braces. A translation is another mapping with the same
   keys, and with no gap that the English has not; what it leaves out is said in English.
2. No phrase has a name of code in it. A rule of the app's own, which has no phrase, is told as
   such.
3. The order of `CAUSES` is the order of choice: where several rules left something out, the first
   one here is told; what the person asked for comes before what the shop decided.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CAUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "less-of-this": "you asked for less of it",
        "opt-in": "you have not said yes to the way in which it would reach you",
        "already-bought": "you have it already",
        "offer-active": "you have that offer already",
        "quiet-hours": "it is your quiet time now, or your time of day is not known",
        "cool-down": "you had trouble lately, and we do not want to add to it",
        "fatigue": "you got many messages lately, or closed most of them",
        "cap": "you got enough of these for now",
        "sensitive-topic": "its topic is sensitive",
        "protected-attribute": "it would say something about you that is nobody's business",
        "never": "it is on the list of what is never done",
        "sold-out": "it is sold out",
        "waits-for-approval": "a person has to approve it first",
        "unknown-channel": "it would come by a way that is not allowed here",
        "no-policy": "there are no rules yet that would allow it",
        "no-consent": "you have not said yes to personal suggestions",
        "minimum-confidence": "we were not sure enough that you would like it",
        "": "a rule of this app speaks against it",
    }
)
"""Why something was left out, by the first part of the rule's name; the last is for any other."""

ENGLISH: Final[Mapping[str, str]] = MappingProxyType(
    {
        "chosen": "We suggested {what}.",
        "chosen because": "We suggested {what} because {cause}.",
        "fallback": "We showed {what}, as everybody gets it.",
        "fallback because": "We showed {what}, as everybody gets it: {cause}.",
        "waiting": "We may suggest {what}, but a person has to say yes to it first.",
        "nothing": "We suggested nothing.",
        "nothing because": "We suggested nothing: {cause}.",
        "no consent": "without your yes to personal suggestions nothing about you was read",
        "nothing better": "nothing that we could choose for you was allowed or sure enough",
        "worth": "Of what was allowed it is the most useful, as far as we can tell.",
        "proposed": "The idea came from {rule}.",
        "sure": "We are quite sure that it is for you.",
        "fairly sure": "We are fairly sure that it is for you.",
        "unsure": "We are not very sure that it is for you, and will learn from what you do.",
        "chance": "Chance had a part in it, so that we learn: {percent} for this one.",
        "left out one": "We left out {what}: {cause}.",
        "left out some": "We left out {count} suggestions ({what}): {cause}.",
        "left out unsure": "We left out {count} more: {cause}.",
        "and more": "{what} and {count} more",
        "replayed": "We checked this account: deciding again from what was noted gives the same.",
        "replayed otherwise": "Careful: deciding again from what was noted does NOT give the same. "
        "Please report it.",
        "not noted": "Without your yes nothing of this was noted.",
        **{f"cause {rule}": cause for rule, cause in CAUSES.items()},
    }
)


def gaps(phrase: str) -> frozenset[str]:
    """Give the names of a phrase's gaps.

    >>> sorted(gaps("We left out {count} suggestions ({what})."))
    ['count', 'what']
    """
    return frozenset(name for _, name, _, _ in string.Formatter().parse(phrase) if name is not None)


def check_translation(phrases: Mapping[str, str]) -> None:
    """Refuse a translation with an unknown phrase, or with a gap that nobody fills.

    Raises:
        ValueError: which phrase it is.

    >>> check_translation({"chosen": "Wir haben {what} vorgeschlagen."})
    """
    for key, phrase in phrases.items():
        if key not in ENGLISH:
            raise ValueError(f"phrases: expected one of {sorted(ENGLISH)}; got {key!r}")
        try:
            extra = gaps(phrase) - gaps(ENGLISH[key])
        except ValueError as error:
            raise ValueError(f"phrases: {key!r}: expected text with gaps; {error}") from error
        if extra:
            raise ValueError(
                f"phrases: {key!r}: expected no gap but {sorted(gaps(ENGLISH[key]))}; "
                f"got {sorted(extra)}"
            )
