"""The stores of a household's profiles: open one, read it for a merge, erase it for certain.

Rules a reader can check line by line:

1. A store is erased by its own ``erase``: its key first, then its files, then its folder.
2. Where a store does not open, every key that it asked for is destroyed, then its folder. One that
   asks for none (open elsewhere, or no vault any more) is left, and the error is the vault's.
3. Erasing what is not there does nothing, so that an erasure that was cut off can be repeated.
4. A copy is an event that is stored in another profile under its own id; it may be repeated.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from client_sdk.errors import VaultError
from client_sdk.federation.consent import ConsentState
from client_sdk.home import Homebody
from client_sdk.ports import KeyStore
from client_sdk.signals.identity import Profile, Standing
from client_sdk.wire import Purpose

BATCH_EVENTS: Final = 1000


@dataclass(frozen=True, kw_only=True)
class ProfileStores:
    """One folder a profile.

    Attributes:
        folder: Where they lie.
        key_store: Holds their keys.
        open_home: Opens one, given its folder and the key store.
    """

    folder: Path
    key_store: KeyStore
    open_home: Callable[[Path, KeyStore], Homebody]

    def open(self, profile_id: str) -> Homebody:
        """Open a profile's store, or make a new one.

        Raises:
            VaultError: already open, its key is lost, or it is damaged.
        """
        return self.open_home(self.folder / profile_id, self.key_store)

    def erase(self, profile_ids: Iterable[str]) -> None:
        """Destroy the keys of stores that are closed, then their files (rules 1 to 3).

        Raises:
            VaultError: open elsewhere, no vault, or the key store failed; some may be erased.
        """
        for profile_id in profile_ids:
            erase_store(self.folder / profile_id, self.key_store, self.open_home)


class Erasable(Protocol):
    """A store that is open: a `Homebody`, or a `Vault`."""

    def erase(self) -> None:
        """Destroy the key, then the files."""
        ...

    def close(self) -> None:
        """Let go of it; closing twice is fine."""
        ...


def erase_store(
    place: Path, key_store: KeyStore, open_store: Callable[[Path, KeyStore], Erasable]
) -> None:
    """Destroy the key of a store that is closed, then its files, then its folder (rules 1 to 3).

    Raises:
        VaultError: open elsewhere, no vault, or the key store failed.
    """
    if not place.exists():
        return
    asked = _AskedKeys(keys=key_store)
    try:
        store = open_store(place, asked)
        try:
            store.erase()
        finally:
            store.close()
    except VaultError:
        if not asked.names:
            raise
        for name in asked.names:
            key_store.destroy(name)
    shutil.rmtree(place)


def standing_of(profile: Profile, home: Homebody) -> Standing:
    """Say what the decision about a sign-in has to know of a profile."""
    return Standing(
        profile=profile,
        personalises=agree_to_personalise(home),
        paused=home.preferences.paused(),
    )


def agree_to_personalise(*homes: Homebody) -> bool:
    """Say whether everybody agreed to personalise; a pause takes no yes back."""
    yes = (ConsentState.GRANTED, ConsentState.PAUSED)
    return all(home.consent.state(Purpose.PERSONALISE) in yes for home in homes)


def event_ids(home: Homebody) -> frozenset[str]:
    """The ids of a profile's events."""
    return frozenset(event.event_id for event in home.signals.own_events())


def copy_events(source: Homebody, target: Homebody) -> None:
    """Store every event of one profile in another; one that is refused there is left out.

    Raises:
        VaultError: they could not be written; what was copied before stays.
    """
    events = source.signals.own_events()
    while batch := list(islice(events, BATCH_EVENTS)):
        try:
            target.track_many(batch)
        except ValueError:
            for event in batch:
                with suppress(ValueError):
                    target.track_many((event,))


@dataclass(frozen=True, kw_only=True)
class _AskedKeys:
    """A key store that remembers which keys a vault asked for, to destroy them with it."""

    keys: KeyStore
    names: set[str] = field(default_factory=set)

    def load(self, name: str) -> bytes | None:
        self.names.add(name)
        return self.keys.load(name)

    def store(self, name: str, secret: bytes) -> None:
        self.names.add(name)
        self.keys.store(name, secret)

    def destroy(self, name: str) -> None:
        self.keys.destroy(name)
