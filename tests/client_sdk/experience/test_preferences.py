"""Preferences: what the person set counts at once, lasts, is bounded, and can be taken along."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk import VaultError
from client_sdk.experience.preferences import (
    MAX_CHANGES,
    MAX_ITEMS,
    MAX_TOPICS,
    NO_PREFERENCES,
    PreferenceCentre,
    Preferences,
    united,
)
from client_sdk.signals.vault import Record, Vault
from client_sdk.testing import FixedClock, MemoryKeyStore

LOCK: AbstractContextManager[None] = nullcontext()

words = st.frozensets(st.text("abcdeßÄ", min_size=1, max_size=4), max_size=5)


@st.composite
def preferences(draw: st.DrawFn) -> Preferences:
    """Anything that a person may have set."""
    less = frozenset(text.casefold() for text in draw(words))
    return Preferences(
        liked=frozenset(text.casefold() for text in draw(words)) - less,
        less=less,
        less_items=draw(words),
        channels=draw(words),
        permissions=draw(words | st.just(frozenset({"location"}))),
        paused_until_s=draw(st.none() | st.floats(0, 1e9)),
    )


@pytest.fixture
def vault(tmp_path: Path, keys: MemoryKeyStore) -> Any:
    """A new vault, closed after the test."""
    opened = Vault.open(tmp_path / "vault", keys)
    yield opened
    opened.close()


@pytest.fixture
def centre(vault: Vault, clock: FixedClock) -> PreferenceCentre:
    """A preference centre in which nothing was set."""
    return PreferenceCentre(vault=vault, clock=clock, lock=LOCK)


def test_centre_nothing_set_has_nothing_on(centre: PreferenceCentre) -> None:
    """No topic, no channel, no pause: nothing is on by default."""
    assert centre.current() == NO_PREFERENCES == Preferences()
    assert not centre.paused()
    assert centre.history() == ()
    assert centre.in_words() == ["No channel is open: no message may be sent."]


def test_centre_later_word_about_a_topic_counts(centre: PreferenceCentre) -> None:
    """A topic is never in both lists."""
    centre.more("Tea")
    centre.less("TEA")
    assert centre.current() == Preferences(less=frozenset({"tea"}))
    centre.more("tea")
    assert centre.current() == Preferences(liked=frozenset({"tea"}))


def test_centre_forgets_topics_and_items(centre: PreferenceCentre) -> None:
    """A wish can be taken back; items keep their spelling."""
    centre.more("Tea")
    centre.less("oats")
    centre.less_item("SKU-9")
    centre.forget("sku-9")
    assert centre.current().less_items == {"SKU-9"}
    for said in ("tea", "Oats", "SKU-9", "never said"):
        centre.forget(said)
    assert centre.current() == NO_PREFERENCES


def test_centre_channels_are_opened_and_closed_one_by_one(centre: PreferenceCentre) -> None:
    """Only what the person opened is open."""
    centre.allow_channel("Email")
    centre.allow_channel("push")
    centre.refuse_channel("EMAIL")
    assert centre.current().channels == {"push"}


def test_centre_pause_ends_by_itself(centre: PreferenceCentre, clock: FixedClock) -> None:
    """It lasts up to its end, and not at its end."""
    centre.pause(for_s=60)
    clock.advance(59.9)
    assert centre.paused()
    assert "Paused until 2027-01-15 08:01 UTC" in centre.in_words()[-1]
    centre.allow_channel("push")
    centre.more("tea")
    assert centre.in_words()[:2] == ["Show more of: tea.", "Messages may come by: push."]
    clock.advance(0.1)
    assert not centre.paused()
    assert not any("Paused" in said for said in centre.in_words())


def test_centre_pause_is_ended_by_resume_or_replaced(
    centre: PreferenceCentre, clock: FixedClock
) -> None:
    """The person's last word counts, also where it makes the pause shorter."""
    centre.pause(until_s=clock.now_s() + 1000)
    centre.pause(for_s=10)
    assert centre.current().paused_until_s == clock.now_s() + 10
    centre.resume()
    assert centre.current().paused_until_s is None


@pytest.mark.parametrize(
    "given_",
    [
        {},
        {"until_s": 2e9, "for_s": 5.0},
        {"until_s": 1.0},
        {"for_s": 0.0},
        {"for_s": -5.0},
        {"for_s": float("nan")},
        {"until_s": float("inf")},
        {"until_s": 10**400},
        {"for_s": True},
        {"until_s": "tomorrow"},
    ],
)
def test_centre_pause_without_an_end_in_the_future_raises(
    centre: PreferenceCentre, given_: dict[str, Any]
) -> None:
    """A pause has one end, and it is a time to come."""
    with pytest.raises(ValueError, match="expected"):
        centre.pause(**given_)
    assert centre.current() == NO_PREFERENCES


def test_centre_reopened_has_everything(
    vault: Vault, centre: PreferenceCentre, clock: FixedClock
) -> None:
    """What was set lasts, with its history."""
    centre.more("tea")
    clock.advance(5)
    centre.less_item("SKU-9")
    centre.allow_channel("push")
    centre.pause(for_s=60)
    again = PreferenceCentre(vault=vault, clock=clock, lock=LOCK)
    assert again.current() == centre.current()
    assert again.history() == centre.history()
    assert [(entry.change, entry.about) for entry in again.history()] == [
        ("more", "tea"),
        ("less item", "SKU-9"),
        ("allow channel", "push"),
        ("pause", ""),
    ]
    assert again.history()[1].time_s == again.history()[0].time_s + 5


def test_centre_that_cannot_write_changes_nothing(vault: Vault, centre: PreferenceCentre) -> None:
    """A change counts when it is durable, not before."""
    centre.more("tea")
    vault.close()
    changes: list[Callable[[], None]] = [
        lambda: centre.less("tea"),
        lambda: centre.pause(for_s=5),
        lambda: centre.unite(Preferences(less=frozenset({"oats"}))),
    ]
    for change in changes:
        with pytest.raises(VaultError):
            change()
    assert centre.current() == Preferences(liked=frozenset({"tea"}))
    assert len(centre.history()) == 1


def test_centre_repeated_wish_is_no_change(centre: PreferenceCentre) -> None:
    """Saying it twice is saying it once."""
    centre.more("tea")
    centre.more("Tea")
    centre.resume()
    assert len(centre.history()) == 1


def test_centre_history_keeps_the_latest_changes(centre: PreferenceCentre) -> None:
    """However often somebody changes their mind, the record stays small."""
    for n in range(MAX_CHANGES + 5):
        (centre.more if n % 2 else centre.less)("tea")
    assert len(centre.history()) == MAX_CHANGES
    assert centre.history()[-1].change == "less"


@pytest.mark.parametrize("text", ["", "   ", "x" * 129, "\ud800", 5, None, "ŉ" * 100])
def test_centre_text_out_of_bounds_raises_without_the_text(
    centre: PreferenceCentre, text: Any
) -> None:
    """Each door checks its text; the message says the size, never the text."""
    doors: list[Callable[[Any], None]] = [
        centre.more,
        centre.less,
        centre.allow_channel,
        centre.refuse_channel,
        centre.allow_permission,
        centre.refuse_permission,
        centre.forget,
    ]
    for door in doors:
        with pytest.raises(ValueError, match="expected") as caught:
            door(text)
        assert "xxx" not in str(caught.value)
    assert centre.current() == NO_PREFERENCES


def test_preferences_have_bounded_sizes() -> None:
    """At most 500 topics, liked or not, 500 items and 20 channels."""
    names = frozenset(f"t{n}" for n in range(MAX_TOPICS))
    full = Preferences(liked=names, less_items=frozenset(f"i{n}" for n in range(MAX_ITEMS)))
    assert len(full.liked) == MAX_TOPICS
    tests: tuple[dict[str, Any], ...] = (
        {"liked": names, "less": frozenset({"one"})},
        {"less_items": names | {"one"}},
        {"channels": names},
        {"permissions": names},
        {"channels": frozenset({"Location"})},
        {"liked": "tea"},
        {"liked": frozenset({"tea"}), "less": frozenset({"Tea"})},
    )
    for beyond in tests:
        with pytest.raises(ValueError, match="expected"):
            Preferences(**beyond)


@given(preferences())
def test_preferences_json_is_read_back(value: Preferences) -> None:
    """Export and import are inverse."""
    assert Preferences.from_json(value.to_json()) == value


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"liked": None},
        {"liked": "tea"},
        {"liked": ["tea", "oats"]},
        {"liked": ["tea", "tea"]},
        {"liked": ["Tea"]},
        {"liked": [5]},
        {"liked": ["tea"], "less": ["tea"]},
        {"less_items": [""]},
        {"paused_until_s": "soon"},
        {"paused_until_s": True},
        {"paused_until_s": -1},
        {"paused_until_s": float("nan")},
    ],
)
def test_preferences_json_that_was_not_written_raises(change: dict[str, Any]) -> None:
    """Nothing but what `to_json` writes comes in."""
    with pytest.raises(ValueError, match="expected"):
        Preferences.from_json({**NO_PREFERENCES.to_json(), **change})


def test_preferences_json_that_lacks_a_field_raises() -> None:
    """Neither does a part of it, or something else."""
    with pytest.raises(ValueError, match="fields"):
        Preferences.from_json({"liked": []})
    with pytest.raises(ValueError, match="fields"):
        Preferences.from_json([])  # type: ignore[arg-type]


def test_location_is_a_permission_and_no_channel(centre: PreferenceCentre) -> None:
    """It is off by default, given and taken back by its own words, and never opened to send."""
    with pytest.raises(ValueError, match="got a source: allow_permission"):
        centre.allow_channel("location")
    assert centre.current() == NO_PREFERENCES
    centre.allow_permission("Location")
    assert centre.current() == Preferences(permissions=frozenset({"location"}))
    assert "May be used: location." in centre.in_words()
    assert "No channel is open: no message may be sent." in centre.in_words()
    centre.refuse_permission("location")
    assert centre.current() == NO_PREFERENCES
    assert [one.change for one in centre.history()] == ["allow permission", "refuse permission"]


def test_location_opened_as_a_channel_in_an_old_store_is_a_permission(
    vault: Vault, clock: FixedClock
) -> None:
    """The person's yes is kept, moved to where it belongs, and written so with the next change."""
    old = {**Preferences(channels=frozenset({"push"})).to_json(), "channels": ["location", "push"]}
    del old["permissions"]
    vault.write(Record(stream="preferences", key="current", value={"set": old, "changes": []}))
    centre = PreferenceCentre(vault=vault, clock=clock, lock=LOCK)
    wanted = Preferences(channels=frozenset({"push"}), permissions=frozenset({"location"}))
    assert centre.current() == wanted
    centre.more("tea")
    again = PreferenceCentre(vault=vault, clock=clock, lock=LOCK)
    assert again.current().permissions == {"location"}


@given(preferences(), preferences())
def test_united_keeps_every_restriction_and_opens_nothing(
    own: Preferences, other: Preferences
) -> None:
    """Nobody's wish for less is lost, and nothing comes on that was not on here, but likes."""
    both = united(own, other)
    assert both.less == own.less | other.less
    assert both.less_items == own.less_items | other.less_items
    assert both.channels == own.channels
    assert both.permissions == own.permissions
    assert both.liked == (own.liked | other.liked) - both.less
    assert (both.paused_until_s or 0) == max(own.paused_until_s or 0, other.paused_until_s or 0)
    assert united(both, other) == both
    assert united(own, other, likes=False).liked == own.liked - both.less


def test_united_full_keeps_restrictions_first() -> None:
    """Where the bounds leave no room, likes go first, and one's own stay before the other's."""
    own = Preferences(liked=frozenset(f"a{n}" for n in range(MAX_TOPICS)))
    other = Preferences(less=frozenset(f"b{n}" for n in range(MAX_TOPICS - 1)))
    both = united(own, other)
    assert both.less == other.less
    assert both.liked == {"a0"}
    assert united(other, Preferences(less=frozenset({"c", "d"}))).less == other.less | {"c"}
