"""The household: who is who, what a sign-in copies, and what is erased.

More than 400 lines, because all of it is about one object and its fixtures; what kill -9 and a
clock that fails can't break is in `test_household_killed`.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client_sdk import Event, Homebody, VaultError
from client_sdk.experience.preferences import Preferences
from client_sdk.household import INDEX_FOLDER, PROFILES_FOLDER, Household
from client_sdk.signals.identity import Action
from client_sdk.signals.roster import MAX_PROFILES, MergeIntent
from client_sdk.testing import FixedClock, MemoryKeyStore, sample_catalogue

OpenHousehold = Callable[..., Household]

ADA = "Ada.Lovelace@example.org"


class FailingKeys(MemoryKeyStore):
    """A key store that destroys nothing as long as it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = False

    def destroy(self, name: str) -> None:
        """Fail, or forget the secret."""
        if self.failing:
            raise VaultError("the key store is out of order")
        super().destroy(name)

    def names(self) -> set[str]:
        """The names of all secrets."""
        return set(self._secrets)


@pytest.fixture
def keys() -> FailingKeys:
    """An empty key store, which can be told to fail."""
    return FailingKeys()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the household lies."""
    return tmp_path / "people"


@pytest.fixture
def open_household(path: Path, keys: FailingKeys, clock: FixedClock) -> Iterator[OpenHousehold]:
    """Open the household; everything opened is closed after the test."""
    with ExitStack() as stack:

        def open_(**changes: Any) -> Household:
            given = {
                "key_store": keys,
                "clock": clock,
                "catalogue": sample_catalogue(),
                **changes,
            }
            return stack.enter_context(Household.open(path, **given))

        yield open_


@pytest.fixture
def household(open_household: OpenHousehold) -> Household:
    """A new household."""
    return open_household()


def buy(home: Homebody, *event_ids: str) -> None:
    """Buy something, once for each event id."""
    home.consent.grant("personalise")
    for event_id in event_ids:
        assert home.track("purchase", item="mug", event_id=event_id).stored


def event_ids(home: Homebody) -> list[str]:
    """The ids of all events that are kept, sorted."""
    return sorted(event.event_id for event in home.signals.own_events())


def stores(path: Path) -> set[str]:
    """The profiles that have files."""
    return {folder.name for folder in (path / PROFILES_FOLDER).iterdir()}


def with_account(household: Household, *events: str) -> str:
    """Sign an account in, let it buy, sign it out; gives its profile's id."""
    profile = household.sign_in(ADA, name="Ada").profile
    buy(household.current, *events)
    household.sign_out()
    return profile.profile_id


def test_household_new_has_one_anonymous_profile(household: Household, clock: FixedClock) -> None:
    """Nobody has to sign in to use an app."""
    assert household.profiles() == [household.profile]
    assert household.profile.anonymous
    assert household.profile.created_at_s == clock.now_s()
    assert household.merges() == []
    assert household.current.track("purchase", item="mug").reason == "not stored: no consent"


def test_household_profiles_are_apart(household: Household) -> None:
    """What one does, agrees to and wishes for is nobody else's."""
    buy(household.current, "e1")
    first, second = household.profile, household.add("Kim")
    assert household.profile == first
    old = household.current
    assert household.switch(second.profile_id).name == "Kim"
    assert event_ids(household.current) == []
    assert not household.current.consent.allows("personalise")
    device = household.current.device
    household.switch(first.profile_id)
    assert household.current.device != device
    assert event_ids(household.current) == ["e1"]
    with pytest.raises(VaultError, match="closed"):
        old.track("purchase", item="mug")


def test_household_reopened_is_as_it_was(open_household: OpenHousehold, clock: FixedClock) -> None:
    """Who there is, who is current, and what was merged last."""
    household = open_household()
    with_account(household, "e1")
    buy(household.current, "e2")
    household.sign_in(ADA)
    household.add("Kim")
    profiles, merges, current = household.profiles(), household.merges(), household.profile
    household.close()
    household.close()
    clock.advance(60)
    again = open_household()
    assert again.merges() == merges
    assert again.profile.profile_id == current.profile_id
    assert again.profile.last_used_at_s == current.last_used_at_s + 60
    assert [one.name for one in again.profiles()] == [one.name for one in profiles]


def test_household_open_twice_raises(household: Household, open_household: OpenHousehold) -> None:
    """One opener at a time."""
    with pytest.raises(VaultError, match="already open"):
        open_household()
    assert household.profile.anonymous


def test_sign_in_new_account_adopts_the_anonymous_profile(household: Household) -> None:
    """What somebody did before they had an account is theirs; nothing is copied."""
    buy(household.current, "e1")
    before = household.profile
    signed_in = household.sign_in(ADA, name="Ada")
    assert (signed_in.action, signed_in.merged) == (Action.ADOPT, None)
    assert signed_in.profile.profile_id == before.profile_id
    assert signed_in.profile == household.profile
    assert household.profile.name == "Ada"
    assert not household.profile.anonymous
    assert event_ids(household.current) == ["e1"]


def test_sign_in_same_account_changes_nothing(household: Household) -> None:
    """However the address is spelled; only the name may be another one."""
    first = household.sign_in(ADA, name="Ada").profile
    again = household.sign_in(f" {ADA.upper()} ")
    assert (again.action, again.profile) == (Action.STAY, first)
    assert household.sign_in(ADA, name="Countess").profile.name == "Countess"


def test_sign_in_known_account_merges_events_once(
    household: Household, path: Path, keys: FailingKeys, clock: FixedClock
) -> None:
    """Events come by their id, the anonymous profile goes, and both is written down."""
    account = with_account(household, "e1", "e2")
    buy(household.current, "e2", "e3", "e4")
    anonymous = household.profile
    signed_in = household.sign_in(ADA)
    assert signed_in.action is Action.MERGE
    assert event_ids(household.current) == ["e1", "e2", "e3", "e4"]
    assert household.profile.profile_id == account
    assert household.profile.name == "Ada"
    (merge,) = household.merges()
    assert merge == signed_in.merged
    assert (merge.copied, merge.duplicates, merge.left_out) == (2, 1, 0)
    assert (merge.source, merge.target) == (anonymous.profile_id, account)
    assert merge.time_s == clock.now_s()
    assert "both profiles have consent" in merge.reason
    assert household.profiles() == [household.profile]
    assert stores(path) == {account}
    assert len(keys.names()) == 2


def test_sign_in_known_account_keeps_its_own_consents_and_channels(household: Household) -> None:
    """Consents are not united; wishes for less are, likes fill gaps, channels stay."""
    household.sign_in(ADA)
    buy(household.current)
    household.current.consent.grant("statistics")
    of_account = household.current.preferences
    of_account.more("tea")
    of_account.less("kitchen")
    of_account.allow_channel("push")
    household.sign_out()
    buy(household.current)
    household.current.consent.grant("train")
    of_nobody = household.current.preferences
    of_nobody.less("tea")
    of_nobody.less_item("mug")
    of_nobody.more("kitchen")
    of_nobody.more("pantry")
    of_nobody.allow_channel("email")
    household.sign_in(ADA)
    consent = household.current.consent
    assert [consent.allows(name) for name in ("personalise", "statistics", "train")] == [
        True,
        True,
        False,
    ]
    assert household.current.preferences.current() == Preferences(
        liked=frozenset({"pantry"}),
        less=frozenset({"tea", "kitchen"}),
        less_items=frozenset({"mug"}),
        channels=frozenset({"push"}),
    )


@pytest.mark.parametrize("who", ["anonymous", "account"])
def test_sign_in_without_both_consents_copies_nothing(
    household: Household, path: Path, who: str
) -> None:
    """A yes of one is no yes of both: only wishes for less come along, and the reason says so."""
    account = with_account(household, "e1")
    if who == "account":
        household.switch(account)
        household.current.consent.withdraw("personalise")
        household.sign_out()
    buy(household.current, "e2")
    household.current.preferences.more("tea")
    household.current.preferences.less("oats")
    if who == "anonymous":
        household.current.consent.withdraw("personalise")
    merge = household.sign_in(ADA).merged
    assert merge is not None
    assert (merge.copied, merge.duplicates, merge.left_out) == (0, 0, 0)
    assert "No event was copied" in merge.reason
    assert event_ids(household.current) == ["e1"]
    assert household.current.preferences.current() == Preferences(less=frozenset({"oats"}))
    assert account in stores(path)
    assert merge.source not in stores(path)


def test_sign_in_in_a_pause_only_switches(household: Household) -> None:
    """A pause ends by itself, so nothing is lost for it."""
    account = with_account(household, "e1")
    buy(household.current, "e2")
    anonymous = household.profile.profile_id
    household.current.preferences.pause(for_s=60)
    signed_in = household.sign_in(ADA)
    assert (signed_in.action, signed_in.profile.profile_id) == (Action.SWITCH, account)
    assert "pause" in signed_in.reason
    assert event_ids(household.current) == ["e1"]
    household.switch(anonymous)
    household.current.preferences.resume()
    household.switch(account)
    household.switch(anonymous)
    assert household.sign_in(ADA).action is Action.MERGE
    assert event_ids(household.current) == ["e1", "e2"]


def test_sign_in_beside_another_account_never_merges(household: Household) -> None:
    """Two accounts are two people, whether the second one is new here or not."""
    household.sign_in(ADA)
    buy(household.current, "e1")
    created = household.sign_in("+44 20 7946 0000", kind="phone", name="Bob")
    assert (created.action, created.merged) == (Action.CREATE, None)
    assert household.profile.name == "Bob"
    assert event_ids(household.current) == []
    buy(household.current, "e2")
    switched = household.sign_in(ADA)
    assert (switched.action, switched.merged) == (Action.SWITCH, None)
    assert event_ids(household.current) == ["e1"]
    assert household.sign_in("442079460000", kind="phone").profile.name == "Bob"
    assert household.merges() == []


def test_sign_out_leaves_the_account_sealed(household: Household) -> None:
    """After it nobody is signed in, and nothing of the account is at hand."""
    account = with_account(household, "e1")
    anonymous = household.profile
    assert anonymous.anonymous
    assert event_ids(household.current) == []
    assert household.sign_out() == anonymous
    assert {one.profile_id for one in household.profiles()} == {account, anonymous.profile_id}


def test_sign_in_with_a_bad_identifier_or_name_changes_nothing(household: Household) -> None:
    """The message says what was expected and never what came."""
    with_account(household)
    before = household.profiles()
    for identifier, kind in (("secret", "email"), ("secret", "phone"), ("", "account")):
        with pytest.raises(ValueError, match="identifier: expected") as caught:
            household.sign_in(identifier, kind=kind)
        assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="kind: expected"):
        household.sign_in(ADA, kind="secret")
    with pytest.raises(ValueError, match="name: expected"):
        household.sign_in(ADA, name="")
    with pytest.raises(ValueError, match="name: expected"):
        household.add("x" * 101)
    with pytest.raises(ValueError, match="profile_id: expected"):
        household.switch("secret")
    with pytest.raises(ValueError, match="profile_id: expected"):
        household.remove("secret")
    assert household.profiles() == before


def test_household_files_hold_no_identifier_name_or_hash(path: Path, clock: FixedClock) -> None:
    """Neither in the clear nor as the bare hash that a list of addresses could be tried on."""
    names = ("Ada.Lovelace", "ada.lovelace", "example.org", "+44 20 7946 0000", "442079460000")
    secrets: list[bytes] = [name.encode() for name in (*names, "Kim", "kim@example.org")]
    for text in (ADA, ADA.lower(), "442079460000"):
        digest = hashlib.sha256(text.encode())
        secrets += [digest.digest(), digest.hexdigest().encode()]
    with Household.open(path, clock=clock) as household:
        household.sign_in(ADA, name="Ada.Lovelace")
        buy(household.current, "e1")
        household.sign_out()
        household.sign_in("+44 20 7946 0000", kind="phone")
        household.add("Kim")
        account = household._roster.profiles[0].account
        assert account is not None
        secrets += [account.encode(), bytes.fromhex(account)]
        files = [file for file in path.parent.rglob("*") if file.is_file()]
        everything = b"".join(file.read_bytes() for file in files)
        assert len(files) > 8
        assert [secret for secret in secrets if secret in everything] == []
    everything = b"".join(file.read_bytes() for file in path.parent.rglob("*") if file.is_file())
    assert [secret for secret in secrets if secret in everything] == []


def test_household_hashes_differ_between_devices(tmp_path: Path, clock: FixedClock) -> None:
    """Two devices can't find out that they know the same person."""
    accounts = set()
    for name in ("one", "other"):
        with Household.open(tmp_path / name, key_store=MemoryKeyStore(), clock=clock) as household:
            accounts.add(household.sign_in(ADA).profile.account)
    assert len(accounts) == 2


def test_household_folders_are_the_owners(household: Household, path: Path) -> None:
    """Nobody else may look."""
    household.add("Kim")
    for folder in (path, path / PROFILES_FOLDER, path / INDEX_FOLDER):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_remove_erases_the_profile_and_its_traces(
    household: Household, path: Path, keys: FailingKeys
) -> None:
    """Store, key, name, hash and merges go; the next sign-in of the account is a new one."""
    account = with_account(household, "e1")
    buy(household.current, "e2")
    household.sign_in(ADA)
    assert household.merges()
    household.sign_out()
    other = household.profile.profile_id
    household.remove(account)
    assert [one.profile_id for one in household.profiles()] == [other]
    assert household.merges() == []
    assert stores(path) == {other}
    assert len(keys.names()) == 2
    assert household.sign_in(ADA).action is Action.ADOPT
    assert event_ids(household.current) == []


def test_remove_current_profile_leaves_a_fresh_one(household: Household, path: Path) -> None:
    """There is always somebody current; a profile that was never used has nothing to erase."""
    buy(household.current, "e1")
    removed = household.profile.profile_id
    household.remove(removed)
    assert household.profile.profile_id != removed
    assert event_ids(household.current) == []
    assert stores(path) == {household.profile.profile_id}
    household.remove(household.add("Kim").profile_id)
    assert len(household.profiles()) == 1


def test_remove_that_fails_is_tried_again(
    open_household: OpenHousehold, path: Path, keys: FailingKeys
) -> None:
    """The profile is gone at once; its key goes as soon as the key store lets it."""
    household = open_household()
    account = with_account(household, "e1")
    keys.failing = True
    with pytest.raises(VaultError, match="out of order"):
        household.remove(account)
    assert account not in {one.profile_id for one in household.profiles()}
    with pytest.raises(VaultError, match="out of order"):
        household.add("Kim")
    assert account in stores(path)
    keys.failing = False
    household.add("Kim")
    assert account not in stores(path)
    assert len(keys.names()) == 2


@pytest.mark.parametrize("damage", ["key", "database", "row"])
def test_remove_of_a_store_that_does_not_open_destroys_its_key(
    household: Household, path: Path, keys: FailingKeys, damage: str
) -> None:
    """An erasure that was cut off is finished; a store that is damaged goes with its key."""
    removed = household.profile.profile_id
    buy(household.current, "e1")
    key = household.current._vault.key_name
    household.switch(household.add().profile_id)
    database = path / PROFILES_FOLDER / removed / "vault.db"
    if damage == "key":
        keys.destroy(key)
    elif damage == "database":
        database.unlink()
    else:
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE header SET wrapped = zeroblob(length(wrapped))")
        connection.close()
    household.remove(removed)
    assert removed not in stores(path)
    assert (key in keys.names()) == (damage == "database")


def test_remove_of_a_store_that_is_open_elsewhere_raises(household: Household, path: Path) -> None:
    """Nothing is deleted under somebody's feet; it goes when they are done."""
    removed = household.profile.profile_id
    buy(household.current, "e1")
    household.switch(household.add().profile_id)
    elsewhere = household._stores.open(removed)
    with pytest.raises(VaultError, match="already open"):
        household.remove(removed)
    assert event_ids(elsewhere) == ["e1"]
    elsewhere.close()
    household.add()
    assert removed not in stores(path)


def test_merge_that_cannot_erase_stays_merged(
    open_household: OpenHousehold, path: Path, keys: FailingKeys
) -> None:
    """The copies count, and the anonymous profile is erased by the next open."""
    household = open_household()
    account = with_account(household, "e1")
    buy(household.current, "e2")
    keys.failing = True
    with pytest.raises(VaultError, match="out of order"):
        household.sign_in(ADA)
    assert household.profile.profile_id == account
    assert event_ids(household.current) == ["e1", "e2"]
    household.close()
    keys.failing = False
    again = open_household()
    assert stores(path) == {account}
    assert len(keys.names()) == 2
    assert [merge.copied for merge in again.merges()] == [1]


def test_household_bounds_the_number_of_profiles(household: Household) -> None:
    """Somebody has to go before a 33rd can come; nothing is made half."""
    for _ in range(MAX_PROFILES - 1):
        household.add()
    household.sign_in(ADA)
    for beyond in (household.add, household.sign_out, lambda: household.sign_in("b@example.org")):
        with pytest.raises(ValueError, match="at most 32 profiles"):
            beyond()
    assert len(household.profiles()) == MAX_PROFILES
    household.remove(household.profile.profile_id)
    assert len(household.profiles()) == MAX_PROFILES


def test_erase_leaves_no_key_and_no_file(
    open_household: OpenHousehold, path: Path, keys: FailingKeys
) -> None:
    """Nobody comes back, neither from the files nor from the key store."""
    household = open_household()
    with_account(household, "e1")
    buy(household.current, "e2")
    household.erase()
    assert keys.names() == set()
    assert not path.exists()
    again = open_household()
    assert [one.anonymous for one in again.profiles()] == [True]
    assert event_ids(again.current) == []


def test_erase_that_fails_is_finished_by_the_next_open(
    open_household: OpenHousehold, path: Path, keys: FailingKeys
) -> None:
    """Who asked to be erased is erased, whenever the key store comes back."""
    household = open_household()
    with_account(household, "e1")
    before = keys.names()
    keys.failing = True
    with pytest.raises(VaultError, match="out of order"):
        household.erase()
    household.close()
    with pytest.raises(VaultError, match="out of order"):
        open_household()
    keys.failing = False
    again = open_household()
    assert not before & keys.names()
    assert stores(path) == {again.profile.profile_id}
    assert again.sign_in(ADA).action is Action.ADOPT


def test_merge_leaves_out_and_counts_what_the_account_refuses(
    household: Household, clock: FixedClock
) -> None:
    """What can't be stored there (after a clock was set back) stops nothing and is written down."""
    with_account(household, "e1")
    buy(household.current, "e2")
    clock.advance(3600)
    buy(household.current, "e3")
    clock.advance(-3600)
    merge = household.sign_in(ADA).merged
    assert merge is not None
    assert (merge.copied, merge.duplicates, merge.left_out) == (1, 0, 1)
    assert event_ids(household.current) == ["e1", "e2"]
    assert "1 could not be stored" in merge.sentence()


def test_household_that_cannot_finish_a_merge_does_not_open(
    open_household: OpenHousehold,
) -> None:
    """Nothing is dropped in silence: it opens when the account's store does, and is whole then."""
    household = open_household()
    account = with_account(household, "e1")
    buy(household.current, "e2")
    roster = household._roster
    intent = MergeIntent(
        source=roster.current,
        target=account,
        name="Ada",
        copies=True,
        duplicates=0,
        reason="Why.",
        begun_at_s=0.0,
    )
    household._write(replace(roster, intent=intent))
    elsewhere = household._stores.open(account)
    with pytest.raises(VaultError, match="already open"):
        household.sign_out()
    household.close()
    for _ in range(2):
        with pytest.raises(VaultError, match="already open"):
            open_household()
    elsewhere.close()
    again = open_household()
    assert again.profile.profile_id == account
    assert event_ids(again.current) == ["e1", "e2"]


def test_switch_that_cannot_be_written_changes_nothing(household: Household) -> None:
    """The one that was current stays open and current; the other one is closed again."""
    buy(household.current, "e1")
    other = household.add("Kim").profile_id
    household._vault.close()
    with pytest.raises(VaultError, match="closed"):
        household.switch(other)
    assert event_ids(household.current) == ["e1"]
    household._stores.open(other).close()


def test_merge_copies_more_than_one_batch(household: Household) -> None:
    """However many there are, in the order in which they were stored."""
    with_account(household, "e1")
    household.current.consent.grant("personalise")
    household.current.track_many(
        Event(kind="purchase", item_id="mug", event_id=f"n{n:04}", time_s=1.8e9 - 2500 + n)
        for n in range(2500)
    )
    merge = household.sign_in(ADA).merged
    assert merge is not None
    assert merge.copied == 2500
    stored = [event.event_id for event in household.current.signals.own_events()]
    assert stored == ["e1", *(f"n{n:04}" for n in range(2500))]
