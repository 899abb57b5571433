"""The facade: consent, ranking, similar items, updates, export, erasure, threads."""

import gc
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from client_sdk import Event, Homebody, ReleaseRejectedError, VaultError
from client_sdk.catalogue_updates import CatalogueUpdates
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.review import OutcomeWindows
from client_sdk.keys import FileKeyStore
from client_sdk.shelf import ShelfMemory
from client_sdk.testing import START_S, FakeAggregator, FakeReleases, FixedClock, MemoryKeyStore
from client_sdk.wire import Catalogue, Declined, Item, TaskKind, read_answer, read_frame

OpenHome = Callable[..., Homebody]


def test_home_without_consent_stores_nothing(open_home: OpenHome, tmp_path: Path) -> None:
    """Events are dropped and counted, and the list is everybody's."""
    home = open_home()
    assert home.track("purchase", item="mug").reason == "not stored: no consent"
    assert home.track_many([Event(kind="screen", time_s=0.0)]).without_consent == 1
    assert home.signals.quality().without_consent == 2
    assert home.rank(k=1)[0].item_id == "green-tea"
    home.export(tmp_path / "export.jsonl")
    lines = (tmp_path / "export.jsonl").read_text().splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["device", "preferences"]


def test_home_ranks_what_was_bought_first_and_says_why(home: Homebody) -> None:
    """The last purchase counts in the next call, with a true sentence."""
    home.track("purchase", item="oats")
    home.track("purchase", item="oats")
    home.track("product_view", item="teapot")
    shelf = home.rank(k=8)
    assert shelf[0].item_id == "oats"
    reasons = {item.item_id: item.reason for item in shelf}
    assert reasons["oats"] == "You bought it 2 times."
    assert reasons["teapot"] == "You looked at it."
    assert [item.score for item in shelf] == sorted((i.score for i in shelf), reverse=True)


def test_home_after_withdrawal_ranks_for_nobody_in_the_same_call(home: Homebody) -> None:
    """No trace of the person is in the list, nor in its reasons, from the next call on."""
    everybody = ["green-tea", "black-tea", "teapot"]
    assert [item.item_id for item in home.rank(k=3)] != everybody
    home.consent.withdraw("personalise")
    shelf = home.rank(k=3, include_owned=False)
    assert [item.item_id for item in shelf] == everybody
    assert {item.reason for item in shelf} == {"From the catalogue."}
    home.consent.grant("personalise")
    assert [item.item_id for item in home.rank(k=3)] != everybody


def _remembered() -> int:
    """Count what is kept of anybody's shelf in this process: bytes of scores, and answers."""
    found = [thing for thing in gc.get_objects() if type(thing) is ShelfMemory]
    return sum(memory.cache.n_bytes + (memory.last is not None) for memory in found)


def test_home_drops_what_it_computed_of_the_person_with_the_withdrawal(home: Homebody) -> None:
    """The scores and the last list are gone when `withdraw` returns, before any other call."""
    home.rank()
    assert _remembered() > 0
    home.consent.withdraw("personalise")
    assert _remembered() == 0
    home.rank()
    assert _remembered() == 0
    home.consent.grant("personalise")
    home.rank()
    assert _remembered() > 0


@pytest.mark.parametrize("end", ["erase", "close"])
def test_home_drops_what_it_computed_of_the_person_at_its_end(home: Homebody, end: str) -> None:
    """Erased or closed, as a sign-out does, nothing of the person's shelf stays in memory."""
    home.rank()
    assert _remembered() > 0
    getattr(home, end)()
    assert _remembered() == 0


def test_home_drops_what_it_computed_of_the_person_when_a_pause_shows(home: Homebody) -> None:
    """A pause is no withdrawal: the next list is everybody's, and drops what was kept."""
    personal = home.rank(k=3)
    home.preferences.pause(for_s=60.0)
    assert home.rank(k=3) != personal
    assert _remembered() == 0
    home.preferences.resume()
    assert home.rank(k=3) == personal


def test_home_same_question_again_is_answered_for_what_changed_between(home: Homebody) -> None:
    """An event, a wish, a sold-out item, a pause of the question: each counts in the next call."""
    first = home.rank(k=3)
    again = home.rank(k=3)
    assert again == first
    assert again is not first
    again.clear()
    assert home.rank(k=3) == first
    for _ in range(5):
        home.track("purchase", item="kettle")
    assert home.rank(k=3)[0].item_id == "kettle"
    assert home.rank(k=3)[0].reason == "You bought it 5 times."
    home.track("purchase", item="kettle")
    assert home.rank(k=3)[0].reason == "You bought it 6 times."
    home.preferences.less_item("kettle")
    assert "kettle" not in {item.item_id for item in home.rank(k=3)}
    home.preferences.forget("kettle")
    home.update_catalogue(CatalogueUpdates(stock={"kettle": 0}))
    assert "kettle" not in {item.item_id for item in home.rank(k=3)}
    assert home.rank(k=3, in_stock_only=False)[0].item_id == "kettle"
    assert home.rank(["kettle", "mug"], k=3, in_stock_only=False)[0].item_id == "kettle"


def test_home_candidates_unknown_or_repeated_count_once_or_not(home: Homebody) -> None:
    """Only what the catalogue has is ranked, each once, and k bounds the answer."""
    shelf = home.rank(["kettle", "mug", "mug", "no-such"], k=5)
    assert [item.item_id for item in shelf] == ["mug", "kettle"]
    assert home.rank([], k=5) == []
    assert home.rank(k=0) == []
    with pytest.raises(ValueError, match="k must be"):
        home.rank(k=-1)
    with pytest.raises(ValueError, match="slot"):
        home.rank(slot="")


def test_home_owned_items_can_be_left_out(home: Homebody) -> None:
    """What was bought and kept is left out; what was returned is not owned."""
    home.track("return", item="honey")
    for candidates in (None, ["mug", "honey", "oats"]):
        left = {item.item_id for item in home.rank(candidates, k=8, include_owned=False)}
        assert "mug" not in left
        assert "honey" in left


def test_home_item_outside_the_catalogue_is_stored_and_not_ranked(home: Homebody) -> None:
    """The app may know more items than the catalogue."""
    assert home.track("purchase", item="elsewhere").stored
    assert "elsewhere" not in {item.item_id for item in home.rank(k=100)}


def test_home_without_catalogue_or_release_gives_an_empty_list(open_home: OpenHome) -> None:
    """Before anything is known there is nothing to show, and no error."""
    home = open_home(catalogue=None, releases=None)
    home.consent.grant("personalise")
    home.track("purchase", item="mug")
    assert home.rank() == []
    assert home.similar("mug") == []
    assert home.version == 0
    with pytest.raises(ValueError, match="server_url"):
        home.update()


def test_home_similar_before_a_model_is_the_category(home: Homebody) -> None:
    """Without a model, the same category in catalogue order."""
    assert [item.item_id for item in home.similar("mug", 5)] == ["teapot", "kettle"]
    assert home.similar("mug", 1)[0].reason == "Also in kitchen."
    assert home.similar("no-such") == []
    with pytest.raises(ValueError, match="k must be"):
        home.similar("mug", -1)


def test_home_duplicate_event_is_not_stored(home: Homebody) -> None:
    """One event id is one event, in one call and across calls."""
    assert home.track("cart", item="mug", event_id="e").stored
    assert home.track("cart", item="mug", event_id="e").reason.endswith("already here")
    done = home.track_many(
        [{"event": "screen", "event_id": i, "timestamp": START_S} for i in "aab"]
    )
    assert (done.stored, done.duplicates) == (2, 1)


def test_home_many_events_with_a_bad_one_are_not_stored(home: Homebody) -> None:
    """All or none: a bad event is found before anything is written."""
    before = home.rank(k=8)
    with pytest.raises(ValueError, match="kind"):
        home.track_many(
            [
                {"event": "cart", "product_id": "oats", "timestamp": 1},
                {"event": "x", "timestamp": 1},
            ]
        )
    assert home.rank(k=8) == before


def test_home_reopened_remembers_person_and_pseudonym(open_home: OpenHome, home: Homebody) -> None:
    """History, consent and the device's key outlive the process."""
    shelf, device = home.rank(k=8), home.device
    home.close()
    home.close()
    again = open_home()
    assert (again.rank(k=8), again.device) == (shelf, device)


def test_home_update_takes_the_new_release(
    open_home: OpenHome, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """A release brings its catalogue; events from before are ranked with it."""
    more = Catalogue(items=(*catalogue.items, Item(item_id="elsewhere", name="Elsewhere")))
    releases = FakeReleases(aggregator.release(more))
    home = open_home(releases=releases)
    home.consent.grant("personalise")
    home.track("purchase", item="elsewhere")
    result = home.update()
    assert (result.updated, result.version, home.version) == (True, 1, 1)
    assert home.rank(k=1)[0].name == "Elsewhere"
    assert not home.update().updated


def test_home_update_for_a_newer_sdk_is_rejected(
    open_home: OpenHome, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """An app that is too old keeps its last good release."""
    releases = FakeReleases(
        aggregator.release(catalogue, version=2, minimum_sdk_version="99.0.0"),
        active=aggregator.release(catalogue),
    )
    home = open_home(releases=releases)
    with pytest.raises(ReleaseRejectedError, match=r"needs SDK 99\.0\.0"):
        home.update()
    assert home.version == 1
    home.close()
    assert open_home(releases=releases).version == 0


def test_home_export_has_everything_for_its_owner_only(
    home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue, tmp_path: Path
) -> None:
    """Events, consent and what left, one JSON object a line, in a file of mode 0600."""
    home.answer(aggregator.ask(aggregator.order(TaskKind.ITEM_COUNTS, catalogue)))
    home.consent.withdraw("train")
    path = tmp_path / "export.jsonl"
    path.write_text("old")
    count = home.export(path)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert count == len(lines)
    kinds = [line["type"] for line in lines]
    assert (kinds.count("event"), kinds.count("consent"), kinds.count("sent")) == (3, 4, 1)
    first = next(line for line in lines if line["type"] == "event")
    assert Event.from_json({k: v for k, v in first.items() if k != "type"}).item_id == "green-tea"
    assert "sent one bounded summary" in lines[-1]["in_words"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.partial"))


def test_home_export_that_fails_leaves_the_old_file(home: Homebody, tmp_path: Path) -> None:
    """A directory in the way is an error, and nothing half-written stays."""
    (tmp_path / "there").mkdir()
    with pytest.raises(OSError, match="there"):
        home.export(tmp_path / "there")
    assert not list(tmp_path.glob("*.partial"))


def test_home_erased_is_gone_and_starts_anew(
    open_home: OpenHome, home: Homebody, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """After erasure nothing is remembered, nothing is stored, and nothing leaves."""
    device = home.device
    home.erase()
    with pytest.raises(VaultError, match="erased"):
        home.track("purchase", item="mug")
    assert home.rank(k=1)[0].item_id == "green-tea"
    order = aggregator.order(TaskKind.ITEM_COUNTS, catalogue)
    assert isinstance(read_answer(read_frame(home.answer(aggregator.ask(order)))), Declined)
    again = open_home()
    assert again.device != device
    assert not again.consent.allows("personalise")
    assert again.rank(k=1)[0].reason == "From the catalogue."


def test_home_default_keys_lie_beside_the_store(tmp_path: Path, clock: FixedClock) -> None:
    """A copy of the store's directory does not have its key."""
    with Homebody.open(tmp_path / "home", clock=clock) as home:
        home.consent.grant("personalise")
    assert (tmp_path / "home.keys").is_dir()
    assert not list((tmp_path / "home").rglob("*vault-*[0-9a-f]"))
    with pytest.raises(VaultError):
        Homebody.open(tmp_path / "home", key_store=FileKeyStore(tmp_path / "elsewhere"))


def test_home_that_cannot_open_lets_go_of_the_store(tmp_path: Path, keys: MemoryKeyStore) -> None:
    """After a failed open the store is not locked."""
    with pytest.raises(ValueError, match="belong together"):
        Homebody.open(tmp_path / "home", key_store=keys, server_url="https://example.org")

    class Broken(FakeReleases):
        def active(self) -> None:
            """Fail."""
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        Homebody.open(tmp_path / "home", key_store=keys, releases=Broken())
    Homebody.open(tmp_path / "home", key_store=keys).close()


def test_home_shared_by_threads_keeps_every_event(home: Homebody) -> None:
    """Tracking, ranking, answering and changing consent at once lose and break nothing."""
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for n in range(30):
                home.track("product_view", item="mug", event_id=f"{number}-{n}")
                home.rank(k=3)
                home.answer(b"x")
                home.consent.grant("statistics")
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert home.rank(["mug"])[0].reason == "You bought it."
    assert home.transparency()[0].times == 120
    assert len(home.consent.history()) == 3 + 120


def test_home_has_one_decider_whose_caps_hold_and_end_with_the_store(home: Homebody) -> None:
    """A second call changes the guardrails, and counts what was shown before; erasing forgets."""
    once = GuardrailPolicy.from_toml(
        'version = 1\nname = "once"\n[channels.in-app]\nopt_in = false\nper_day = 1\n'
    )
    tip, moment = Action(action_id="tip"), Moment(name="home")
    decider = home.decider(once)
    assert decider.decide(moment, [tip], seed=1).action == tip
    again = home.decider(once)
    assert again is decider
    assert again.decide(moment, [tip], seed=2).action is None
    assert home.decider(GuardrailPolicy()).decide(moment, [tip], seed=3).action is None
    with pytest.raises(ValueError, match="only its policy"):
        home.decider(once, windows=OutcomeWindows())
    home.erase()
    assert decider.decisions() == ()
