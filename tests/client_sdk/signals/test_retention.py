"""Retention: how long each kind is kept, which events go first, and policies from a file."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk import Event, EventKind
from client_sdk.signals.retention import (
    CUSTOM,
    DAY_S,
    EVICTION_ORDER,
    KEEP_ALL,
    STANDARD_DAYS,
    RetentionPolicy,
    choose_evicted,
)

NOW_S = 1_800_000_000.0


def an_event(kind: str, time_s: float = 0.0, event_id: str = "e") -> Event:
    """An event with an item."""
    return Event(kind=kind, time_s=time_s, event_id=event_id, item_id="tea")


def test_retention_has_a_time_and_a_turn_for_every_standard_kind() -> None:
    """A new standard kind can't be forgotten here."""
    assert set(STANDARD_DAYS) == {str(kind) for kind in EventKind}
    assert set(EVICTION_ORDER) == set(STANDARD_DAYS) | {CUSTOM}
    assert len(set(EVICTION_ORDER)) == len(EVICTION_ORDER)


@pytest.mark.parametrize(
    ("kind", "days"), [("purchase", 730), ("cart", 365), ("screen", 90), ("tasting_booked", 365)]
)
def test_retention_event_expires_after_its_kind_s_days(kind: str, days: int) -> None:
    """Up to the last moment it is kept; an event from the future is."""
    policy = RetentionPolicy()
    assert policy.oldest_s(kind, NOW_S) == NOW_S - days * DAY_S
    assert not policy.expired(an_event(kind, NOW_S - days * DAY_S), NOW_S)
    assert policy.expired(an_event(kind, NOW_S - days * DAY_S - 1), NOW_S)
    assert not policy.expired(an_event(kind, NOW_S + 1), NOW_S)


def test_retention_given_days_come_before_the_defaults() -> None:
    """An app says what it wants for some kinds; the others keep theirs."""
    policy = RetentionPolicy(days={"purchase": 10, "tasting_booked": 20}, default_days=30)
    kinds = ("purchase", "tasting_booked", "other", "search")
    assert [policy.days_of(kind) for kind in kinds] == [10, 20, 30, 90]


@given(
    events=st.lists(
        st.tuples(st.sampled_from([*STANDARD_DAYS, "my_kind"]), st.integers(0, 9)),
        min_size=10,
        max_size=60,
    ),
    max_events=st.integers(1, 15),
    keep_share=st.floats(0.01, 1.0),
)
def test_evicted_are_the_least_telling_and_the_oldest(
    events: list[tuple[str, int]], max_events: int, keep_share: float
) -> None:
    """Exactly as many as the policy says, and nobody goes while a lesser one stays."""
    stored = [an_event(kind, float(time), str(n)) for n, (kind, time) in enumerate(events)]
    policy = RetentionPolicy(max_events=max_events, keep_share=keep_share)
    evicted = choose_evicted(stored, policy)
    if len(stored) <= max_events:
        assert evicted == frozenset()
        return
    assert len(stored) - len(evicted) == max(1, int(max_events * keep_share))

    def worth(event: Event) -> tuple[int, float, int]:
        kind = str(event.kind)
        turn = EVICTION_ORDER.index(kind if kind in EVICTION_ORDER else CUSTOM)
        return turn, event.time_s, int(event.event_id)

    gone = [worth(event) for event in stored if event.event_id in evicted]
    stay = [worth(event) for event in stored if event.event_id not in evicted]
    assert max(gone) < min(stay)


def test_retention_that_keeps_all_keeps_all() -> None:
    """For tools that only look: no kind expires."""
    for kind in (*STANDARD_DAYS, "tasting_booked"):
        assert not KEEP_ALL.expired(an_event(kind, 0.0), NOW_S)


def test_evicted_in_the_stated_order_of_kinds() -> None:
    """One event of each kind, and one place: all go but the last of the order."""
    kinds = [kind if kind != CUSTOM else "my_kind" for kind in EVICTION_ORDER]
    stored = [an_event(kind, event_id=kind) for kind in reversed(kinds)]
    for left in range(1, len(kinds)):
        evicted = choose_evicted(stored, RetentionPolicy(max_events=left, keep_share=1))
        assert evicted == set(kinds[: len(kinds) - left])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"days": []}, "days: expected kinds with days; got list"),
        ({"days": {"Not A Kind": 3}}, "days: expected kinds as"),
        ({"days": {"search": 0}}, "days.search: expected a whole number from 1 to 36500; got 0"),
        ({"days": {"search": True}}, "days.search: expected a whole number"),
        ({"days": {"search": 1.5}}, "days.search: .* got float"),
        ({"default_days": 36_501}, "default_days: .* got 36501"),
        ({"max_events": 0}, "max_events: .* got 0"),
        ({"max_events": "many"}, "max_events: .* got str"),
        ({"keep_share": 0}, "keep_share: expected a number above 0, at most 1; got 0"),
        ({"keep_share": float("nan")}, "keep_share"),
        ({"keep_share": True}, "keep_share"),
        ({"keep_share": "half"}, "keep_share"),
        ({"day": {}}, "expected the keys .*'days'.*; got .'day'. as well: check the spelling"),
    ],
)
def test_retention_policy_that_is_wrong_says_where(given: dict[str, Any], message: str) -> None:
    """The message names the field, what was expected and what came."""
    with pytest.raises(ValueError, match=message):
        RetentionPolicy.from_mapping(given)


def test_retention_policy_is_read_from_a_file(tmp_path: Path) -> None:
    """The same fields in TOML; a mistake names the file, and the line where TOML has one."""
    path = tmp_path / "retention.toml"
    path.write_text("max_events = 10\n[days]\nsearch = 7\n", encoding="utf-8")
    assert RetentionPolicy.from_toml(path) == RetentionPolicy(days={"search": 7}, max_events=10)
    for content, message in (
        (b"max_events = \n", r"retention\.toml: .*line 1"),
        (b"default_days = 0", r"retention\.toml: default_days: expected"),
        (b"keep = 1", r"retention\.toml: expected the keys"),
        (b"\xff", r"retention\.toml: .*utf-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            RetentionPolicy.from_toml(path)
    with pytest.raises(ValueError, match="retention: default_days"):
        RetentionPolicy.from_toml("default_days = 0")
