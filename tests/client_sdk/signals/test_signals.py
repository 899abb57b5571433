"""The room of events: what is kept, what is refused, what may be read, and what is let go."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from client_sdk import Event, Homebody
from client_sdk.errors import ConsentRequiredError, VaultError
from client_sdk.signals.events import EventError
from client_sdk.signals.kinds import CustomKind, PropertyRule
from client_sdk.signals.quality import QualityRules
from client_sdk.signals.retention import RetentionPolicy
from client_sdk.signals.signals import SNAPSHOT_EVERY, SignalRules
from client_sdk.signals.taxonomy import Taxonomy
from client_sdk.signals.vault import Vault
from client_sdk.testing import START_S, FixedClock, MemoryKeyStore
from client_sdk.wire import Catalogue, Purpose

OpenHome = Callable[..., Homebody]
DAY_S = 86_400.0


def views(count: int, *, start: int = 0) -> list[Event]:
    """Views of the mug, one a minute, the latest now."""
    return [
        Event(
            kind="product_view",
            item_id="mug",
            event_id=f"view-{number}",
            time_s=START_S - 60 * (start + count - number),
        )
        for number in range(start, start + count)
    ]


def test_signals_bad_event_among_many_is_set_aside_with_its_reason(home: Homebody) -> None:
    """With quarantine the good ones are kept; what was refused can be looked at, and is counted."""
    done = home.track_many(
        [
            {"event": "cart", "product_id": "oats", "timestamp": START_S, "event_id": "good"},
            {"event": "cart", "timestamp": START_S},
            {"event": "cart", "product_id": "oats", "timestamp": START_S + 9_999},
        ],
        quarantine=True,
    )
    assert (done.stored, done.rejected, done.duplicates) == (1, 2, 0)
    missing, ahead = home.signals.quarantined()
    assert (missing.field, str(missing.reason)) == ("item_id", "missing")
    assert (ahead.field, str(ahead.reason)) == ("time_s", "too-far-ahead")
    assert json.loads(ahead.raw_json or "")["product_id"] == "oats"
    quality = home.signals.quality()
    assert quality.rejected == {"missing": 1, "too-far-ahead": 1}
    assert quality.accepted == 4
    assert "1 event was refused: too far in the future." in quality.sentences()


def test_signals_quarantine_is_bounded_and_the_oldest_goes_first(open_home: OpenHome) -> None:
    """No flood of bad events fills the store."""
    home = open_home(rules=SignalRules(quality=QualityRules(max_quarantined=2)))
    home.consent.grant("personalise")
    for number in range(4):
        bad = {"event": "cart", "timestamp": START_S, "event_id": f"bad-{number}"}
        home.track_many([bad], quarantine=True)
    kept = [json.loads(one.raw_json or "")["event_id"] for one in home.signals.quarantined()]
    assert kept == ["bad-2", "bad-3"]
    assert home.signals.quality().quarantined_dropped == 2


def test_signals_refused_event_is_named_and_nothing_is_kept(home: Homebody) -> None:
    """The error says which field, what was expected and what came."""
    with pytest.raises(EventError, match="time_s: expected a time at most 300 seconds ahead"):
        home.track("cart", item="mug", time_s=START_S + 301)
    with pytest.raises(EventError, match="as far back as the kind 'search' is kept"):
        home.track("search", time_s=START_S - 91 * DAY_S)
    with pytest.raises(EventError, match="a standard kind or a registered one"):
        home.track("tasting_booked")
    assert home.signals.count == 3


def test_signals_clock_a_little_ahead_is_set_to_now(home: Homebody) -> None:
    """A skew within the rule is put right and counted."""
    home.track("cart", item="mug", time_s=START_S + 299)
    assert [event.time_s for event in home.signals.own_events()][-1] == START_S
    assert home.signals.quality().clock_skewed == 1


def test_signals_custom_kind_is_checked_by_its_schema(open_home: OpenHome) -> None:
    """An app's own kind is kept if it fits what the app declared."""
    tasting = CustomKind(
        name="tasting_booked",
        meaning="A tasting was booked.",
        item="none",
        properties={"guests": PropertyRule(type="integer", required=True, minimum=1, maximum=12)},
    )
    home = open_home(rules=SignalRules(taxonomy=Taxonomy([tasting])))
    home.consent.grant("personalise")
    assert home.track("tasting_booked", guests=4).stored
    with pytest.raises(EventError, match="guests"):
        home.track("tasting_booked", guests=13)
    assert home.signals.count_by_kind() == {"tasting_booked": 1}


def test_signals_every_read_names_its_purpose_and_needs_consent(
    home: Homebody, catalogue: Catalogue
) -> None:
    """A read for a purpose is refused from the call after its withdrawal on."""
    signals, position = home.signals, catalogue.position
    reads: dict[str, Callable[[Purpose], object]] = {
        "history": lambda purpose: signals.history(purpose, position),
        "taste": lambda purpose: signals.taste(purpose, position),
        "features": signals.features,
        "events": signals.events,
    }
    for read in reads.values():
        for purpose in Purpose:
            read(purpose)
    home.consent.withdraw("train")
    for read in reads.values():
        read(Purpose.PERSONALISE)
        read(Purpose.STATISTICS)
        with pytest.raises(ConsentRequiredError, match="'train'"):
            read(Purpose.TRAIN)
    home.consent.withdraw("personalise")
    for read in reads.values():
        for purpose in Purpose:
            with pytest.raises(ConsentRequiredError):
                read(purpose)
    with pytest.raises(ConsentRequiredError):
        home.features()
    assert len(list(signals.own_events())) == 3


def test_signals_pause_stops_learning_and_personal_lists_and_ends_by_itself(
    home: Homebody, clock: FixedClock
) -> None:
    """During a pause the list is everybody's and nothing is kept; after it all is as before."""
    personal = home.rank(k=3)
    home.preferences.pause(for_s=60.0)
    assert not home.track("purchase", item="teapot").stored
    assert {item.reason for item in home.rank(k=3)} == {"From the catalogue."}
    clock.advance(61.0)
    assert home.rank(k=3) == personal


def test_signals_account_name_is_kept_as_a_keyed_hash_only(
    home: Homebody, open_home: OpenHome, tmp_path: Path
) -> None:
    """One name gives one hash in a store, another in another store; the name is in no export."""
    for name in ("ada@example.org", "bob@example.org", "ada@example.org"):
        home.track_many([{"event": "screen", "timestamp": START_S, "user_id": name}])
    ada, bob, again = [event.user_id for event in home.signals.own_events()][-3:]
    assert ada == again != bob
    home.export(tmp_path / "export.jsonl")
    assert "example.org" not in (tmp_path / "export.jsonl").read_text()
    other = open_home("other")
    other.consent.grant("personalise")
    other.import_from(tmp_path / "export.jsonl")
    assert [event.user_id for event in other.signals.own_events()][-1] == ada
    other.track_many([{"event": "screen", "timestamp": START_S, "user_id": "ada@example.org"}])
    assert [event.user_id for event in other.signals.own_events()][-1] != ada


def test_signals_reopened_reads_the_snapshot_and_equals_a_refold(
    open_home: OpenHome, tmp_path: Path, keys: MemoryKeyStore
) -> None:
    """What was folded outlives the process, exactly, with and without a snapshot."""
    home = open_home()
    home.consent.grant("personalise")
    home.track_many(views(SNAPSHOT_EVERY + 10))
    home.track("purchase", item="oats")
    before = home.features()
    home.close()
    for snapshot in ("there", "damaged", "from nowhere"):
        again = open_home()
        assert again.signals.count == SNAPSHOT_EVERY + 11
        assert again.signals.equals_refold()
        assert again.features().values.tolist() == before.values.tolist(), snapshot
        again.close()
        vault = Vault.open(tmp_path / "home", keys)
        (kept,) = vault.records("digest")
        changed = {"digest": "AAAA"} if snapshot == "there" else {"through_page": 10**9}
        vault.write(type(kept)(stream=kept.stream, key=kept.key, value={**kept.value, **changed}))
        vault.close()


def test_signals_snapshot_that_knows_more_than_the_vault_is_dropped(
    open_home: OpenHome, tmp_path: Path, keys: MemoryKeyStore
) -> None:
    """A kill between a removal and the next snapshot leaves nothing of what was removed."""
    home = open_home()
    home.consent.grant("personalise")
    home.track_many(views(20))
    home.track("purchase", item="oats")
    home.close()
    vault = Vault.open(tmp_path / "home", keys)
    vault.remove(lambda event: event.kind == "purchase")
    vault.close()
    again = open_home()
    assert again.signals.count == 1
    assert again.signals.equals_refold()
    assert again.features().get("events_1_day") == 1


def test_signals_full_disk_refuses_what_it_cannot_keep_and_only_that(
    open_home: OpenHome,
) -> None:
    """SQLite's own "database is full": an event that was refused is not there, any other is."""
    home = open_home()
    home.consent.grant("personalise")
    # Each another item, so that the snapshot is large.
    several = [replace(e, item_id=f"item-{n}") for n, e in enumerate(views(SNAPSHOT_EVERY - 5))]
    home.track_many(several)
    with home._vault._file.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    kept, refused = [], 0
    for number in range(200):
        try:
            home.track("purchase", item="oats", event_id=f"buy-{number}")
            kept.append(f"buy-{number}")
        except VaultError:
            refused += 1
    # Events went on after the snapshot's turn, which was too large to be written.
    assert len(kept) > 5
    assert not list(home._vault.records("digest"))
    assert refused > 0
    found = [event.event_id for event in home.signals.own_events() if event.kind == "purchase"]
    assert found == kept
    assert home.signals.equals_refold()
    home.close()
    again = open_home()
    assert again.signals.count == SNAPSHOT_EVERY - 5 + len(kept)
    assert again.signals.equals_refold()


def test_signals_past_their_time_go_when_the_store_opens(
    open_home: OpenHome, clock: FixedClock
) -> None:
    """Retention per kind: what is overdue by a day is gone, and what was folded from it too."""
    home = open_home()
    home.consent.grant("personalise")
    home.track("search", query="teapot")
    home.track("purchase", item="mug")
    home.close()
    clock.advance(92 * DAY_S)
    again = open_home()
    assert again.signals.count_by_kind() == {"purchase": 1}
    assert again.signals.equals_refold()
    again.close()
    clock.advance(700 * DAY_S)
    assert open_home().signals.count == 0


def test_signals_full_store_lets_go_of_what_says_least(open_home: OpenHome) -> None:
    """Over the bound, views go before purchases, the oldest first, down to nine tenths."""
    retention = RetentionPolicy(max_events=100)
    home = open_home(rules=SignalRules(retention=retention))
    home.consent.grant("personalise")
    home.track("purchase", item="oats", time_s=START_S - 5 * DAY_S)
    home.track_many(views(99))
    assert home.signals.count == 100
    home.track("product_view", item="kettle")
    assert home.signals.count_by_kind() == {"product_view": 89, "purchase": 1}
    kept = {event.event_id for event in home.signals.own_events()}
    assert {"view-98", "view-11"} <= kept
    assert "view-9" not in kept
    assert home.signals.equals_refold()


def test_signals_event_of_a_kind_no_longer_registered_is_still_the_persons(
    open_home: OpenHome, tmp_path: Path
) -> None:
    """An app that drops a kind can still show and export what was kept."""
    rules = SignalRules(taxonomy=Taxonomy([CustomKind(name="poll", meaning="A poll.")]))
    home = open_home(rules=rules)
    home.consent.grant("personalise")
    home.track("poll")
    home.close()
    again = open_home()
    again.export(tmp_path / "export.jsonl")
    assert '"event": "poll"' in (tmp_path / "export.jsonl").read_text()
    assert again.signals.equals_refold()
