"""The roster of a household: who there is, who is current, what was merged, what is to be done.

One frozen value; every change makes another one, and `client_sdk.household` keeps it as one record.

>>> roster = Roster.new(now_s=0.0)
>>> roster.profile(roster.current).anonymous, roster.doomed
(True, ())
>>> Roster.from_json(roster.to_json()) == roster
True
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from client_sdk.signals.identity import KEY_BYTES, Merge, Profile

MAX_PROFILES: Final = 32
MAX_MERGES: Final = 100


def new_profile(name: str | None, *, now_s: float) -> Profile:
    """Make an anonymous profile with a random id.

    Raises:
        ValueError: a name that is none.
    """
    return Profile(
        profile_id=secrets.token_hex(16), name=name, created_at_s=now_s, last_used_at_s=now_s
    )


@dataclass(frozen=True, kw_only=True)
class MergeIntent:
    """A merge that was begun and is to be finished.

    Attributes:
        source: Id of the anonymous profile.
        target: Id of the account's profile.
        name: What the account's profile will be called, or None.
        copies: Whether events are copied.
        duplicates: How many of them were in the account's profile before it was begun.
        reason: Why so, in words.
        begun_at_s: Seconds since 1970 (UTC).
    """

    source: str
    target: str
    name: str | None
    copies: bool
    duplicates: int
    reason: str
    begun_at_s: float


@dataclass(frozen=True, kw_only=True)
class Roster:
    """All that a household knows: one value, kept as one record, so that a change is whole or none.

    Attributes:
        key: The key of the account hashes.
        current: Id of the profile in use.
        profiles: Who there is.
        merges: What was merged, oldest first.
        intent: A merge that was begun, or None.
        doomed: Ids of stores that are still to be erased; nobody is in them any more.
        erasing: Whether the household itself is to be erased after them.
    """

    key: bytes
    current: str
    profiles: tuple[Profile, ...]
    merges: tuple[Merge, ...] = ()
    intent: MergeIntent | None = None
    doomed: tuple[str, ...] = ()
    erasing: bool = False

    @classmethod
    def new(cls, *, now_s: float) -> Roster:
        """Make a roster with a random key and one anonymous profile, which is current."""
        first = new_profile(None, now_s=now_s)
        key = secrets.token_bytes(KEY_BYTES)
        return cls(key=key, current=first.profile_id, profiles=(first,))

    def has(self, profile_id: str) -> bool:
        """Whether there is a profile of this id."""
        return any(profile.profile_id == profile_id for profile in self.profiles)

    def profile(self, profile_id: str) -> Profile:
        """Give one profile by its id.

        Raises:
            ValueError: there is none.
        """
        for profile in self.profiles:
            if profile.profile_id == profile_id:
                return profile
        raise ValueError("profile_id: expected one of profiles(); got another one")

    def of_account(self, account: str) -> Profile | None:
        """Give the profile of an account by its keyed hash, or None."""
        return next((profile for profile in self.profiles if profile.account == account), None)

    def having(self, profile: Profile) -> Roster:
        """Give the same with a profile in place of an older one of its id, or added.

        Raises:
            ValueError: there are 32 others.
        """
        profiles = {kept.profile_id: kept for kept in self.profiles}
        profiles[profile.profile_id] = profile
        if len(profiles) > MAX_PROFILES:
            raise ValueError(f"expected at most {MAX_PROFILES} profiles; got more: remove one")
        return replace(self, profiles=tuple(profiles.values()))

    def entering(self, profile: Profile, *, now_s: float) -> Roster:
        """Give the same with a profile that is the current one from now on.

        Raises:
            ValueError: as `having`.
        """
        used = self.having(replace(profile, last_used_at_s=now_s))
        return replace(used, current=profile.profile_id)

    def dooming(self, profile_id: str) -> Roster:
        """Give the same without a profile and its merges; its store is to be erased."""
        return replace(
            self,
            profiles=tuple(one for one in self.profiles if one.profile_id != profile_id),
            merges=tuple(one for one in self.merges if profile_id not in (one.source, one.target)),
            doomed=(*self.doomed, profile_id),
        )

    def dooming_all(self) -> Roster:
        """Give an empty one: every store is to be erased, and the household after them."""
        everybody = tuple(profile.profile_id for profile in self.profiles)
        return replace(
            self,
            profiles=(),
            merges=(),
            intent=None,
            doomed=(*self.doomed, *everybody),
            erasing=True,
        )

    def merged(self, merge: Merge) -> Roster:
        """Give the same after a merge: it is in the log, and its source is doomed."""
        after = self.dooming(merge.source)
        return replace(after, merges=(*after.merges, merge)[-MAX_MERGES:], intent=None)

    def to_json(self) -> dict[str, Any]:
        """Give everything as plain JSON, for the household's vault."""
        return {
            **vars(self),
            "key": self.key.hex(),
            "profiles": [vars(profile) for profile in self.profiles],
            "merges": [vars(merge) for merge in self.merges],
            "intent": None if self.intent is None else vars(self.intent),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Roster:
        """Read what `to_json` wrote; the vault has checked that nobody changed it."""
        intent = value["intent"]
        return cls(
            key=bytes.fromhex(value["key"]),
            current=value["current"],
            profiles=tuple(Profile(**profile) for profile in value["profiles"]),
            merges=tuple(Merge(**merge) for merge in value["merges"]),
            intent=None if intent is None else MergeIntent(**intent),
            doomed=tuple(value["doomed"]),
            erasing=value["erasing"],
        )
