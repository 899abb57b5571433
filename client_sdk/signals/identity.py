"""Who is who on one device: profiles, keyed hashes of accounts, and what a sign-in does.

Everything here is pure; `client_sdk.household` acts on it. Rules a reader can check line by line:

1. An identifier is normalised, then kept only as HMAC-SHA256 under a random key of the household:
   two devices have different hashes of one address, and without the key no list of addresses can
   be tried. An error never holds the identifier.
2. A profile without an account is anonymous, whether it has a name or not.
3. `decide` is the whole precedence of a sign-in; the first row that fits counts:

   | the account is | the current profile is | the plan |
   |---|---|---|
   | the current profile's | signed in | `Action.STAY`: nothing |
   | unknown here | anonymous | `Action.ADOPT`: it becomes the account's; nothing is copied |
   | unknown here | another account's | `Action.CREATE`: a profile of its own |
   | known here | another account's | `Action.SWITCH`: two accounts are never merged |
   | known here | anonymous, and one of the two is paused | `Action.SWITCH`: not in a pause |
   | known here | anonymous, and both agreed to personalise | `Action.MERGE`, with the events |
   | known here | anonymous | `Action.MERGE`, without the events: a yes is missing |

4. Every plan says in words why it is so, and names nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

KEY_BYTES: Final = 32
MAX_NAME_CHARS: Final = 100
MAX_IDENTIFIER_CHARS: Final = 256
TAKEN_BACK: Final = "A consent to personalise was taken back before the events were copied."
"""Why a merge that was begun copied no more."""
_PHONE_DIGITS: Final = range(4, 16)
_PHONE_MARKS: Final = frozenset("+-()./ ")


class IdentifierKind(StrEnum):
    """What an identifier is; one text of two kinds is two identifiers."""

    EMAIL = "email"
    PHONE = "phone"
    ACCOUNT = "account"


def normalised(identifier: str, kind: IdentifierKind | str) -> str:
    """Give the one form of an identifier, so that two spellings of it have one hash.

    Args:
        identifier: At most 256 characters. An e-mail address is trimmed, brought to NFKC and case
            folded, on both sides of its one ``@``. Of a phone number its 4 to 15 digits count
            (``+49 30 …`` and ``0049 30 …`` are two). An account's id is taken as it is.
        kind: One of `IdentifierKind`.

    Raises:
        ValueError: not an identifier of its kind; the message never holds it.

    >>> normalised(" Ada@Example.ORG ", "email"), normalised("+44 (20) 7946-0000", "phone")
    ('ada@example.org', '442079460000')
    """
    try:
        kind = IdentifierKind(kind)
    except ValueError:
        raise ValueError(
            f"kind: expected one of {[known.value for known in IdentifierKind]}; got another word"
        ) from None
    if not isinstance(identifier, str):
        raise ValueError(f"identifier: expected text; got {type(identifier).__name__}")  # noqa: TRY004 - every refusal is a ValueError
    if not 1 <= len(identifier) <= MAX_IDENTIFIER_CHARS or not identifier.strip():
        raise ValueError(f"identifier: expected 1 to {MAX_IDENTIFIER_CHARS} characters")
    if any("\ud800" <= char <= "\udfff" for char in identifier):
        raise ValueError("identifier: expected Unicode text; got half of a surrogate pair")
    if kind is IdentifierKind.EMAIL:
        return _email(identifier)
    if kind is IdentifierKind.PHONE:
        return _phone(identifier)
    return identifier


def account_hash(key: bytes, identifier: str, kind: IdentifierKind | str) -> str:
    """Give the keyed hash under which an account is known: 64 hexadecimal digits.

    Args:
        key: 32 random bytes, kept in the household's vault.
        identifier: See `normalised`.
        kind: One of `IdentifierKind`.

    Raises:
        ValueError: a key of another length, or not an identifier of its kind.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"key: expected {KEY_BYTES} bytes; got {len(key)}")
    form = normalised(identifier, kind)
    message = f"{IdentifierKind(kind).value}\0{form}".encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def checked_name(name: str | None) -> str | None:
    """Give a profile's name back, if it is one: 1 to 100 characters, or None.

    Raises:
        ValueError: something else; the message never holds it.
    """
    if name is None:
        return None
    if not isinstance(name, str):
        raise ValueError(f"name: expected text or None; got {type(name).__name__}")  # noqa: TRY004 - every refusal is a ValueError
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise ValueError(f"name: expected 1 to {MAX_NAME_CHARS} characters, or None")
    return name


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One person, or one role of a person, on this device.

    Attributes:
        profile_id: 32 random hexadecimal digits.
        name: What the app shows, 1 to 100 characters, or None.
        account: The keyed hash of the account, or None for an anonymous profile.
        created_at_s: Seconds since 1970 (UTC).
        last_used_at_s: When it was last made the current one.
    """

    profile_id: str
    name: str | None = None
    account: str | None = None
    created_at_s: float
    last_used_at_s: float

    def __post_init__(self) -> None:
        checked_name(self.name)

    @property
    def anonymous(self) -> bool:
        """Whether no account is signed in to it."""
        return self.account is None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What `decide` has to know of a profile.

    Attributes:
        profile: Which one.
        personalises: Whether its person agreed to personalise, a pause left aside.
        paused: Whether its person's pause lasts.
    """

    profile: Profile
    personalises: bool
    paused: bool


class Action(StrEnum):
    """What a sign-in does."""

    STAY = "stay"
    ADOPT = "adopt"
    CREATE = "create"
    SWITCH = "switch"
    MERGE = "merge"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sign-in will do, whether it copies events, and why, in words."""

    action: Action
    copies: bool = False
    reason: str


def decide(current: Standing, account: Standing | None) -> Plan:
    """Decide what a sign-in does; see the table above.

    Args:
        current: The profile that is in use.
        account: The profile that the account has on this device, or None.
    """
    if account is not None and account.profile.profile_id == current.profile.profile_id:
        return Plan(
            action=Action.STAY, reason="This account is signed in already: nothing changed."
        )
    if not current.profile.anonymous:
        return _beside_another_account(account)
    if account is None:
        return Plan(
            action=Action.ADOPT,
            reason="The account is new here and nobody was signed in: the profile in use became "
            "the account's. Nothing was copied.",
        )
    if current.paused or account.paused:
        return Plan(
            action=Action.SWITCH,
            reason="A pause lasts: nothing was merged; the profile from before the sign-in stays.",
        )
    missing = [
        whose
        for whose, standing in (
            ("the profile from before the sign-in", current),
            ("the account's profile", account),
        )
        if not standing.personalises
    ]
    if missing:
        return Plan(
            action=Action.MERGE,
            reason="No event was copied: there is no consent to personalise in "
            f"{' and '.join(missing)}.",
        )
    return Plan(
        action=Action.MERGE,
        copies=True,
        reason="Nobody was signed in, and both profiles have consent to personalise: the events "
        "from before the sign-in became the account's.",
    )


def _beside_another_account(account: Standing | None) -> Plan:
    if account is None:
        return Plan(
            action=Action.CREATE,
            reason="Another account was signed in, and two accounts are never merged: the account "
            "got a profile of its own.",
        )
    return Plan(
        action=Action.SWITCH,
        reason="Another account was signed in, and two accounts are never merged: only switched.",
    )


@dataclass(frozen=True, kw_only=True)
class Merge:
    """One merge that happened: what, when, and why.

    Attributes:
        time_s: When it was begun, seconds since 1970 (UTC).
        source: Id of the anonymous profile; it was erased.
        target: Id of the account's profile.
        copied: How many events came.
        duplicates: How many were there already, by their event id.
        left_out: How many could not be stored in the account's profile.
        reason: Why so, in words.
    """

    time_s: float
    source: str
    target: str
    copied: int = 0
    duplicates: int = 0
    left_out: int = 0
    reason: str

    def sentence(self) -> str:
        """Say it in plain words."""
        when = datetime.fromtimestamp(self.time_s, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
        counts = f"{self.copied} event(s) copied, {self.duplicates} there already"
        if self.left_out:
            counts += f", {self.left_out} could not be stored"
        return f"{when}: {counts}. {self.reason} The profile from before was erased."


@dataclass(frozen=True, kw_only=True)
class SignedIn:
    """What a sign-in did.

    Attributes:
        profile: The profile that is current now.
        action: One of `Action`.
        merged: The merge, where there was one.
        reason: Why so, in words.
    """

    profile: Profile
    action: Action
    merged: Merge | None = None
    reason: str


def _email(identifier: str) -> str:
    folded = unicodedata.normalize("NFKC", identifier).strip().casefold()
    # Folding can leave what NFKC would change again.
    address = unicodedata.normalize("NFKC", folded)
    before, at, after = address.partition("@")
    if not (before and at and after) or "@" in after:
        raise ValueError("identifier: expected an e-mail address with one '@'; got other text")
    if any(char.isspace() or not char.isprintable() for char in address):
        raise ValueError("identifier: expected an e-mail address without spaces; got one with them")
    return address


def _phone(identifier: str) -> str:
    marks = unicodedata.normalize("NFKC", identifier).strip()
    digits = "".join(char for char in marks if char in "0123456789")
    rest = set(marks) - _PHONE_MARKS - set(digits)
    if rest or len(digits) not in _PHONE_DIGITS:
        raise ValueError("identifier: expected a phone number of 4 to 15 digits; got other text")
    return digits
