"""Several people on one device: each has a store and a key of their own; one is current.

>>> import tempfile
>>> from client_sdk.testing import FixedClock, MemoryKeyStore, sample_catalogue
>>> folder = tempfile.TemporaryDirectory()
>>> household = Household.open(Path(folder.name) / "people", key_store=MemoryKeyStore(),
...                            clock=FixedClock(), catalogue=sample_catalogue())
>>> household.current.consent.grant("personalise")
>>> household.current.track("purchase", item="green-tea").stored
True
>>> household.sign_in("ada@example.org").action
<Action.ADOPT: 'adopt'>
>>> household.sign_out().anonymous, len(household.profiles())
(True, 2)
>>> household.close(); folder.cleanup()

Rules a reader can check line by line:

1. ``path/profiles/<random id>`` holds a profile, a `Homebody` with its own key; ``path/household``
   is a vault with one record: who there is, who is current, the key of the account hashes, the
   merges. Names and hashes are sealed in it; an account's identifier is nowhere.
2. What a sign-in does is decided in `client_sdk.signals.identity.decide`, and nowhere else.
3. A merge copies events (one event id counts once) only while both profiles agree to personalise.
   The account's consents, name and channels win; wishes for less unite (`preferences.united`), and
   without both consents nothing else comes. Then the anonymous profile is erased.
4. Killed at any moment, a merge is not begun or is finished by the next `Household.open`: an intent
   is written first, each step may be repeated, the copies are durable before the one write that
   makes the account current and the anonymous profile doomed, and what is doomed is erased last.
5. One that fails keeps its intent: the next change, or the next open, tries it again first.
6. Erasing a profile destroys its key first, then its files, and drops its entries in the merge log.
7. One opener at a time (the vault's rule); one lock: an object may be shared by threads. A
   `Homebody` that is no longer current is closed.

Not promised: that an aggregator takes an anonymous profile and the account's for one device.
"""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from client_sdk.clock import SystemClock
from client_sdk.home import Homebody
from client_sdk.keys import FileKeyStore
from client_sdk.ports import Clock, KeyStore
from client_sdk.profile_stores import (
    ProfileStores,
    agree_to_personalise,
    copy_events,
    erase_store,
    event_ids,
    standing_of,
)
from client_sdk.signals.identity import (
    TAKEN_BACK,
    Action,
    IdentifierKind,
    Merge,
    Profile,
    SignedIn,
    account_hash,
    checked_name,
    decide,
)
from client_sdk.signals.roster import MergeIntent, Roster, new_profile
from client_sdk.signals.vault import Record, Vault

PROFILES_FOLDER: Final = "profiles"
INDEX_FOLDER: Final = "household"
_ROSTER: Final = ("household", "roster")


class Household:
    """The people of one device; make one with `Household.open`."""

    def __init__(
        self,
        *,
        folder: Path,
        vault: Vault,
        stores: ProfileStores,
        clock: Clock,
        roster: Roster | None,
    ) -> None:
        self._folder = folder
        self._vault = vault
        self._stores = stores
        self._clock = clock
        self._lock = threading.RLock()
        self._roster = roster or Roster.new(now_s=clock.now_s())
        if roster is None:
            self._write(self._roster)
        self._sweep()
        self._home = stores.open(self._roster.current)
        try:
            self._carry_out()
            self._write(self._roster.entering(self.profile, now_s=clock.now_s()), durable=False)
        except BaseException:
            self._home.close()
            raise

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        key_store: KeyStore | None = None,
        clock: Clock | None = None,
        **home: Any,
    ) -> Self:
        """Open the household of a device, or make a new one with one anonymous profile.

        Args:
            path: A directory of its own; made where it does not exist, for the owner only.
            key_store: Where all keys lie. By default files in ``<path>.keys``, beside the stores.
            clock: By default the operating system's.
            home: What else `Homebody.open` takes; every profile is opened with it.

        Raises:
            VaultError: already open, a key is lost, or a store that is needed now is damaged.
            ValueError: as `Homebody.open`.
        """
        folder = Path(path)
        keys = key_store or FileKeyStore(folder.with_name(f"{folder.name}.keys"))
        now = clock or SystemClock()
        stores = folder / PROFILES_FOLDER
        if not stores.exists():
            # What is left of a household that was being erased; nothing where there was none.
            erase_store(folder / INDEX_FOLDER, keys, Vault.open)
        stores.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)

        def open_home(place: Path, key_store: KeyStore) -> Homebody:
            return Homebody.open(place, key_store=key_store, clock=now, **home)

        profiles = ProfileStores(folder=stores, key_store=keys, open_home=open_home)
        vault = Vault.open(folder / INDEX_FOLDER, keys)
        try:
            kept = vault.read(*_ROSTER)
            roster = None if kept is None else Roster.from_json(kept)
            if roster is None or not roster.erasing:
                return cls(folder=folder, vault=vault, stores=profiles, clock=now, roster=roster)
            _erase(folder, profiles, roster, vault)
            return cls.open(path, key_store=keys, clock=now, **home)
        except BaseException:
            vault.close()
            raise

    @property
    def current(self) -> Homebody:
        """The store of the current profile. Ask again after a change: the old one is closed."""
        with self._lock:
            return self._home

    @property
    def profile(self) -> Profile:
        """The current profile."""
        with self._lock:
            return self._roster.profile(self._roster.current)

    def profiles(self) -> list[Profile]:
        """Everybody on this device, in the order in which they came."""
        with self._lock:
            return list(self._roster.profiles)

    def merges(self) -> list[Merge]:
        """What was merged, when and why, oldest first; the latest 100."""
        with self._lock:
            return list(self._roster.merges)

    def add(self, name: str | None = None) -> Profile:
        """Add an anonymous profile, without switching to it.

        Raises:
            ValueError: a name that is none, or there are 32 profiles.
            VaultError: it could not be written; nothing was added.
        """
        with self._lock:
            self._carry_out()
            added = new_profile(name, now_s=self._clock.now_s())
            self._write(self._roster.having(added))
            return added

    def switch(self, profile_id: str) -> Profile:
        """Make another profile the current one.

        Raises:
            ValueError: nobody here has this id.
            VaultError: its store could not be opened; the current one stays.
        """
        with self._lock:
            self._carry_out()
            wanted = self._roster.profile(profile_id)
            if profile_id != self._roster.current:
                self._enter(self._roster, wanted)
            return self.profile

    def sign_in(
        self,
        identifier: str,
        *,
        kind: IdentifierKind | str = IdentifierKind.EMAIL,
        name: str | None = None,
    ) -> SignedIn:
        """Sign an account in; `client_sdk.signals.identity` has the table of what that does.

        Args:
            identifier: The account's e-mail address, phone number or id. Only its keyed hash is
                kept. That the person owns it is for the app to have checked.
            kind: One of `IdentifierKind`.
            name: What the app shows; the name that was there by default.

        Raises:
            ValueError: not an identifier of its kind, a name that is none, or too many profiles.
            VaultError: a store could not be opened or written; what was begun is tried again.
        """
        with self._lock:
            self._carry_out()
            account = account_hash(self._roster.key, identifier, kind)
            checked_name(name)
            current, known = self.profile, self._roster.of_account(account)
            if known is not None and known != current:
                return self._meet(known, name)
            here = standing_of(current, self._home)
            plan = decide(here, None if known is None else here)
            if plan.action is Action.CREATE:
                added = new_profile(name, now_s=self._clock.now_s())
                self._enter(self._roster, replace(added, account=account))
            else:
                named = replace(current, account=account, name=name or current.name)
                if named != current:
                    self._write(self._roster.having(named))
            return SignedIn(profile=self.profile, action=plan.action, reason=plan.reason)

    def sign_out(self) -> Profile:
        """Leave the account: a fresh anonymous profile is current, the account's stays, sealed.

        Returns:
            The current profile; unchanged where nobody was signed in.

        Raises:
            ValueError: there are 32 profiles already.
            VaultError: the new store could not be made; the account stays current.
        """
        with self._lock:
            self._carry_out()
            if not self.profile.anonymous:
                self._enter(self._roster, new_profile(None, now_s=self._clock.now_s()))
            return self.profile

    def remove(self, profile_id: str) -> None:
        """Erase a profile and all that is known of it; of the current one, a fresh one takes over.

        Raises:
            ValueError: nobody here has this id.
            VaultError: it could not be erased now; the next change or `open` tries again.
        """
        with self._lock:
            self._carry_out()
            self._roster.profile(profile_id)
            left = self._roster.dooming(profile_id)
            if profile_id == left.current:
                self._enter(left, new_profile(None, now_s=self._clock.now_s()))
            else:
                self._write(left)
            self._sweep()

    def erase(self) -> None:
        """Erase everybody, then the household itself, and close: nothing can be restored.

        Raises:
            VaultError: something could not be erased now; all is closed, the next `open` goes on.
        """
        with self._lock:
            self._write(self._roster.dooming_all())
            try:
                self._home.close()
                _erase(self._folder, self._stores, self._roster, self._vault)
            finally:
                self._vault.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Close all stores; closing twice is fine."""
        with self._lock:
            self._home.close()
            self._vault.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _meet(self, known: Profile, name: str | None) -> SignedIn:
        """Sign in to a profile that is on this device, and is not the current one."""
        current, target, merged = self.profile, self._stores.open(known.profile_id), None
        try:
            plan = decide(standing_of(current, self._home), standing_of(known, target))
            if plan.action is Action.SWITCH:
                self._enter(self._roster, replace(known, name=name or known.name), target)
            else:
                common = event_ids(self._home) & event_ids(target) if plan.copies else ()
                intent = MergeIntent(
                    source=current.profile_id,
                    target=known.profile_id,
                    name=name or known.name or current.name,
                    copies=plan.copies,
                    duplicates=len(common),
                    reason=plan.reason,
                    begun_at_s=self._clock.now_s(),
                )
                self._write(replace(self._roster, intent=intent))
                merged = self._merge(intent, target)
        finally:
            if target is not self._home:
                target.close()
        return SignedIn(profile=self.profile, action=plan.action, merged=merged, reason=plan.reason)

    def _carry_out(self) -> None:
        """Finish what was begun; every change does so first."""
        self._sweep()
        if (intent := self._roster.intent) is None:
            return
        target = self._stores.open(intent.target)
        try:
            self._merge(intent, target)
        finally:
            if target is not self._home:
                target.close()

    def _merge(self, intent: MergeIntent, target: Homebody) -> Merge:
        copied = left_out = 0
        agreed = intent.copies and agree_to_personalise(self._home, target)
        if agreed:
            copy_events(self._home, target)
        if intent.copies:
            wanted = event_ids(self._home)
            there = len(wanted & event_ids(target))
            copied, left_out = there - intent.duplicates, len(wanted) - there
        # Durable, and after the events in the same file: it makes them durable as well.
        target.preferences.unite(self._home.preferences.current(), likes=agreed)
        merge = Merge(
            time_s=intent.begun_at_s,
            source=intent.source,
            target=intent.target,
            copied=copied,
            duplicates=intent.duplicates,
            left_out=left_out,
            reason=intent.reason if agreed or not intent.copies else TAKEN_BACK,
        )
        named = replace(self._roster.profile(intent.target), name=intent.name)
        self._enter(self._roster.merged(merge), named, target)
        self._sweep()
        return merge

    def _enter(self, roster: Roster, profile: Profile, home: Homebody | None = None) -> None:
        """Make a profile current: its store opens, then the roster says so, the old one closes."""
        roster = roster.entering(profile, now_s=self._clock.now_s())
        if not self._roster.has(profile.profile_id):
            # Doomed until it is current, so that a store that was made half is erased.
            self._write(self._roster.dooming(profile.profile_id))
        entered = home or self._stores.open(profile.profile_id)
        try:
            self._write(roster)
            before, self._home = self._home, entered
            before.close()
        finally:
            if entered is not self._home:
                entered.close()

    def _sweep(self) -> None:
        """Erase the stores that are doomed."""
        if self._roster.doomed:
            self._stores.erase(self._roster.doomed)
            self._write(replace(self._roster, doomed=()))

    def _write(self, roster: Roster, *, durable: bool = True) -> None:
        stream, key = _ROSTER
        self._vault.write(Record(stream=stream, key=key, value=roster.to_json()), durable=durable)
        self._roster = roster


def _erase(folder: Path, stores: ProfileStores, roster: Roster, vault: Vault) -> None:
    """Erase the profiles, then their folder, by which `open` knows, then the roster."""
    stores.erase(roster.doomed)
    shutil.rmtree(folder / PROFILES_FOLDER, ignore_errors=True)
    vault.erase()
