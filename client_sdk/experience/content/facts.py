"""Facts: the numbers, amounts and names of a text, and whether the brief has them.

Rules a reader can check line by line:

1. An amount needs an amount of the same currency in the brief, a share (``20 %``) a share, a number
   a number. A price is no discount: 20 in the brief does not allow ``20 % off``.
2. Numbers in words count: as their value, or, such as ``half``, as a word of the brief.
3. A word with a capital inside a sentence is a name and needs to be in the brief. At the start of a
   sentence it needs that too, unless it is one of the common words below.
4. What stands in the approved template is a fact: somebody approved it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from client_sdk.experience.content.folding import folded

_CURRENCIES: Final = {
    "£": "gbp", "gbp": "gbp", "pound": "gbp", "pounds": "gbp", "$": "usd", "usd": "usd",
    "dollar": "usd", "dollars": "usd", "€": "eur", "eur": "eur", "euro": "eur", "euros": "eur",
    "¥": "jpy", "jpy": "jpy", "yen": "jpy", "chf": "chf", "francs": "chf", "₹": "inr",
}  # fmt: skip
_UNIT: Final = "|".join(re.escape(name) for name in sorted(_CURRENCIES, key=len, reverse=True))
_AMOUNT: Final = re.compile(
    rf"(?P<before>{_UNIT})?\s?(?P<number>\d[\d.,]*)(?:\s?(?P<after>{_UNIT})(?![a-z]))?"
    r"(?:\s?(?P<share>%|per ?cent\b|pct\b))?(?P<tail>[a-z]*)"
)
_VALUES: Final = {
    "zero": 0.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0, "six": 6.0, "seven": 7.0,
    "eight": 8.0, "nine": 9.0, "ten": 10.0, "eleven": 11.0, "twelve": 12.0, "thirteen": 13.0,
    "fourteen": 14.0, "fifteen": 15.0, "sixteen": 16.0, "seventeen": 17.0, "eighteen": 18.0,
    "nineteen": 19.0, "twenty": 20.0, "thirty": 30.0, "forty": 40.0, "fifty": 50.0, "sixty": 60.0,
    "seventy": 70.0, "eighty": 80.0, "ninety": 90.0, "hundred": 100.0, "thousand": 1000.0,
}  # fmt: skip
_MEASURES: Final = frozenset(
    {
        "half", "twice", "double", "triple", "quadruple", "dozen", "quarter", "hundreds", "couple",
        "thousands", "million", "millions", "billion", "percent", "tenfold", "twofold", "thrice",
    }
)  # fmt: skip
_STARTS: Final = """
a about after all also an and any are as ask at back because before but by call can check choose
come complete continue discover do each even every explore find finish for from get go good great
have hello help here hi how i if in is it its just keep later let look made maybe more need new no
not nothing now of off on once one only open or our pick please pop read ready remember right save
see select share shop should simply so some soon start still stop take tap thank thanks that the
their then there these they this those to today tomorrow tonight try until use view visit want was
we welcome what when where which while who why will with would yes you your yours
"""
COMMON_STARTS: Final = frozenset(_STARTS.split())
"""Words that may begin a sentence without being a name."""

_SENTENCE: Final = re.compile(
    r"(?:^|[.!?:;\u2026]\s+|\n\s*)[\"'(\u2018\u201c]*([^\W\d_][\w'\u2019-]*)"
)
_WORD: Final = re.compile(r"[^\W\d_][\w'\u2019-]*")


class Amount(NamedTuple):
    """One number of a text, and what it measures: a currency, ``share``, or nothing."""

    measure: str
    value: float


def amounts(text: str) -> Iterator[Amount]:
    """Give every number that is written with digits.

    >>> list(amounts("Now £39.00, 1,299 euros, 20 % and 3"))[:3]
    [Amount(measure='gbp', value=39.0), Amount(measure='eur', value=1299.0), \
Amount(measure='share', value=20.0)]
    """
    for found in _AMOUNT.finditer(folded(text)):
        unit = found["before"] or found["after"]
        measure = _CURRENCIES[unit] if unit else "share" if found["share"] else ""
        # "5k" is no 5: an unknown unit makes the number one that no brief has.
        yield Amount(measure, _value(found["number"]) if not found["tail"] else float("nan"))


def wrong_numbers(text: str, allowed: Iterable[Amount], texts: Iterable[str]) -> int:
    """Count the numbers of a text that are in none of the allowed ones.

    Args:
        text: What somebody wrote.
        allowed: The numbers of the facts.
        texts: The texts of the facts: a number in words, or with a unit, may stand there as it is.
    """
    known = set(allowed)
    known_words = {word for fact in texts for word in re.findall(r"\w+", folded(fact))}
    wrong = 0
    for found, amount in zip(_AMOUNT.finditer(folded(text)), amounts(text), strict=True):
        whole = found["number"] + found["tail"]
        wrong += amount not in known and not (found["tail"] and whole in known_words)
    for word in re.findall(r"[a-z]+", folded(text)):
        if word in known_words:
            continue
        if word in _MEASURES:
            wrong += 1
        elif word in _VALUES:
            wrong += Amount("", _VALUES[word]) not in known
    return wrong


def unknown_names(text: str, texts: Iterable[str], known_words: Iterable[str] = ()) -> int:
    """Count the words that are written as names and stand in no fact.

    >>> unknown_names("Your Riva shirt is here. Nike too.", ["Riva shirt"])
    1
    """
    known = {_bare(word) for fact in texts for word in _WORD.findall(fact)}
    known |= {_bare(word) for word in known_words} | {"i"}
    starts = {found.start(1) for found in _SENTENCE.finditer(text)}
    wrong = 0
    for found in _WORD.finditer(text):
        word = found[0]
        if not any(char.isupper() for char in word):
            continue
        bare = _bare(word)
        if bare in known or all(_bare(part) in known for part in word.split("-")):
            continue
        if found.start() in starts and bare in COMMON_STARTS and not word.isupper():
            continue
        wrong += 1
    return wrong


def _bare(word: str) -> str:
    plain = folded(word)
    # "you'll", "it's", "Ada's": what is before the apostrophe.
    return plain.split("'", 1)[0]


def _value(number: str) -> float:
    number = number.rstrip(".,")
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", number):
        return float(number.replace(",", ""))
    if (
        re.fullmatch(r"\d{1,3}(\.\d{3})+(,\d+)?", number)
        and number.count(".") + ("," in number) > 1
    ):
        return float(number.replace(".", "").replace(",", "."))
    if re.fullmatch(r"\d+(\.\d+)?", number):
        return float(number)
    if re.fullmatch(r"\d+,\d{1,2}", number):
        return float(number.replace(",", "."))
    return float("nan")
