"""The guard: reads what a copywriter wrote, and says what is wrong with it.

Rules a reader can check line by line:

1. Text passes only if no rule objects. A tone that is not approved, or none, is an objection.
2. Claims are searched in every reading of the text (`folding`), offers only outside of the brief.
3. Every number, price and name is in the brief (`facts`); every address on a host that is allowed.
4. A template needs no guard to be said, but an app's tests may ask the guard about it too.
5. An objection names the rule, never the text: a text may hold what is known of the person.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from client_sdk.experience.content.claims import BANNED, OFFERS, Claim
from client_sdk.experience.content.facts import Amount, amounts, unknown_names, wrong_numbers
from client_sdk.experience.content.folding import disguised, folded, readings
from client_sdk.experience.content.usable import Scalar

MAX_CHARS: Final = 320
_ADDRESS: Final = re.compile(
    r"\b[a-z][a-z0-9+.-]*://([^\s/?#]*)|\b(www\.[^\s/]+)|[\w.+-]+@([\w-]+(?:\.[\w-]+)+)"
    r"|\b((?:[a-z0-9-]+\.)+[a-z]{2,24})\b|\b(?:mailto|tel|javascript|data):()",
    re.IGNORECASE,
)
_HIDDEN_ADDRESS: Final = re.compile(
    r"\bh(?:xx|tt)ps?\b|\[\.?\]|\(dot\)|\[dot\]|\bdot (?:com|net|org|io|co|app|shop)\b"
)
_OPEN_SLOT: Final = re.compile(r"[{}<>]|\[\w*\]|%\w|\$\w|__\w+|\bx{3,}\b|\b(?:tbd|todo|lorem)\b")


@dataclass(frozen=True, kw_only=True)
class Tone:
    """One approved way to speak.

    Attributes:
        name: Such as ``"warm"``.
        avoid: Words and phrases that it never uses.
        needs_one_of: Words of which one has to be there; empty for no such rule.
        max_exclamations: How many exclamation marks at most.
    """

    name: str
    avoid: tuple[str, ...] = ()
    needs_one_of: tuple[str, ...] = ()
    max_exclamations: int = 0

    def objections(self, text: str) -> Iterator[Objection]:
        """Say what is not in this tone."""
        heard = readings(text)
        if any(_has(reading, word) for reading in heard for word in self.avoid):
            yield Objection(rule="tone", detail=f"a word that {self.name!r} avoids")
        if self.needs_one_of and not any(_has(heard[0], word) for word in self.needs_one_of):
            yield Objection(rule="tone", detail=f"none of the words that {self.name!r} needs")
        if text.count("!") > self.max_exclamations:
            yield Objection(rule="tone", detail="too many exclamation marks")


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What a copywriter is told: all of it may be in the text, and nothing else.

    Attributes:
        message: What is to be said.
        template: The approved text, filled; it is said where the copywriter's is refused.
        facts: Names, prices and the like, of the catalogue's item and the filled slots.
        stage: Of the journey.
        tone: One of the guard's.
        category: What it is about.
        compliance: The rules it has to keep.
        channel: Where it will be read.
        max_chars: The longest text, if shorter than the guard's own limit.
        currency: Of a fact that is a number and named ``price``, such as ``"GBP"``.
    """

    message: str
    template: str
    facts: Mapping[str, Scalar]
    tone: str
    stage: str = ""
    category: str = ""
    compliance: str = ""
    channel: str = ""
    max_chars: int = MAX_CHARS
    currency: str = ""

    def texts(self) -> list[str]:
        """The template and every fact that is text."""
        said = [value for value in self.facts.values() if isinstance(value, str)]
        return [self.template, self.category, *said]

    def numbers(self) -> set[Amount]:
        """Every number that may be in the text, with what it measures."""
        known = {amount for text in self.texts() for amount in amounts(text)}
        for name, value in self.facts.items():
            if isinstance(value, str | bool):
                continue
            is_price = name.endswith("price") and self.currency
            measure = self.currency.casefold() if is_price else ""
            known.add(Amount("share" if name.endswith("percent") else measure, float(value)))
        return known


@dataclass(frozen=True, kw_only=True)
class Objection:
    """Why a text is not said: the rule, and what it found, without the text."""

    rule: str
    detail: str


class CopyGuard:
    """Reads a text against the brief.

    Args:
        tones: The approved ones; without any, everything is refused.
        banned: Claims that no text may make; by default all of `claims.BANNED`.
        max_chars: The longest text.
        allowed_hosts: Hosts that an address may have, with their subdomains; none by default.
        known_words: Further words that may be written as names, such as the app's own name.

    >>> guard = CopyGuard(tones=[Tone(name="plain")])
    >>> brief = Brief(message="cart", template="Your shirt is in the cart.", tone="plain",
    ...               facts={"name": "Riva shirt", "price": 39.0}, currency="GBP")
    >>> guard.objections("The Riva shirt is still £39.", brief)
    ()
    >>> [found.rule for found in guard.objections("The Riva shirt is now £29.", brief)]
    ['facts']
    """

    def __init__(
        self,
        *,
        tones: Iterable[Tone],
        banned: Iterable[Claim] = BANNED,
        max_chars: int = MAX_CHARS,
        allowed_hosts: Iterable[str] = (),
        known_words: Iterable[str] = (),
    ) -> None:
        if max_chars < 1:
            raise ValueError("max_chars: expected 1 or more; got less")
        self._tones = {tone.name: tone for tone in tones}
        self._banned = tuple(banned)
        self._max_chars = max_chars
        self._hosts = tuple(host.casefold().lstrip(".") for host in allowed_hosts)
        self._known_words = tuple(known_words)

    def objections(self, text: object, brief: Brief) -> tuple[Objection, ...]:
        """Say everything that is wrong with a text; empty where it may be said."""
        if not isinstance(text, str) or not text.strip():
            return (Objection(rule="text", detail="expected text; got none"),)
        if len(text) > min(self._max_chars, brief.max_chars):
            return (Objection(rule="length", detail="longer than allowed"),)
        if disguised(text):
            return (Objection(rule="disguise", detail="hidden or look-alike characters"),)
        return tuple(self._found(text, brief))

    def _found(self, text: str, brief: Brief) -> Iterator[Objection]:
        heard = readings(text)
        for claim in self._banned:
            if any(claim.found(reading) for reading in heard):
                yield Objection(rule="claim", detail=claim.name)
        allowed = " ".join(folded(fact) for fact in brief.texts())
        offered = {found for reading in heard for found in re.findall(OFFERS.pattern, reading)}
        if any(not _has(allowed, offer) for offer in offered):
            yield Objection(rule="offer", detail="an offer that is not in the brief")
        tone = self._tones.get(brief.tone)
        if tone is None:
            yield Objection(rule="tone", detail="a tone that is not approved")
        else:
            yield from tone.objections(text)
        if _shouts(text, brief):
            yield Objection(rule="tone", detail="words in capitals")
        if _OPEN_SLOT.search(folded(text)):
            yield Objection(rule="slots", detail="a slot or a place holder is left")
        yield from self._addresses(text)
        without = _ADDRESS.sub(" ", text)
        if wrong_numbers(without, brief.numbers(), brief.texts()):
            yield Objection(rule="facts", detail="a number that is not in the brief")
        if unknown_names(without, brief.texts(), self._known_words):
            yield Objection(rule="facts", detail="a name that is not in the brief")

    def _addresses(self, text: str) -> Iterator[Objection]:
        for found in _ADDRESS.finditer(text):
            host = next((part for part in found.groups() if part), "").casefold()
            host = host.rpartition("@")[2].partition(":")[0].rstrip(".,)")
            if not any(host == known or host.endswith(f".{known}") for known in self._hosts):
                yield Objection(rule="address", detail="an address that is not allowed")
                return
        if _HIDDEN_ADDRESS.search(_ADDRESS.sub(" ", folded(text))):
            yield Objection(rule="address", detail="a hidden address")


def _has(heard: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(folded(word))}(?!\w)", heard) is not None


def _shouts(text: str, brief: Brief) -> bool:
    known = {word for fact in brief.texts() for word in re.findall(r"\w+", fact)}
    loud = [word for word in re.findall(r"[^\W\d_]{3,}", text) if word.isupper()]
    return any(word not in known for word in loud)
