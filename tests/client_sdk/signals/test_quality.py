"""The intake: what is kept, put right, refused and counted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.signals.events import Event, EventError, EventKind, RejectReason
from client_sdk.signals.quality import (
    Intake,
    QualityCounters,
    QualityRules,
    Quarantined,
    Rejected,
    set_aside,
)
from client_sdk.signals.taxonomy import STANDARD, CustomKind, Taxonomy

NOW = 1_000_000.0
RULES = QualityRules(max_ahead_s=300.0, late_after_s=3_600.0)
INTAKE = Intake(STANDARD, RULES)


def screen(time_s: float = NOW, **fields: Any) -> Event:
    """An event that lacks nothing."""
    return Event(kind="screen", time_s=time_s, **fields)


# --- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead_s", "kept_at"),
    [(-5.0, NOW - 5.0), (0.0, NOW), (0.5, NOW), (300.0, NOW), (300.5, None), (86_400.0, None)],
)
def test_intake_time_ahead_of_the_clock_becomes_now_or_is_refused(
    ahead_s: float, kept_at: float | None
) -> None:
    """A little ahead is a wrong clock; far ahead is a wrong event. All else stays as it was."""
    event = screen(NOW + ahead_s, event_id="e", properties={"topic": "home"})
    checked = INTAKE.check_many([event], now_s=NOW)
    if kept_at is None:
        assert [one.error.reason for one in checked.rejected] == [RejectReason.TOO_FAR_AHEAD]
        assert checked.counters.rejected == {"too-far-ahead": 1}
        return
    assert checked.events == [
        Event(kind="screen", time_s=kept_at, event_id="e", properties={"topic": "home"})
    ]
    assert checked.counters.clock_skewed == (ahead_s > 0)


def test_intake_event_older_than_its_kind_is_kept_is_refused() -> None:
    """Each kind has its own line, and it is asked for once."""
    asked: list[str] = []

    def oldest_s(kind: str) -> float | None:
        asked.append(kind)
        return {"screen": 50.0}.get(kind)

    events = [screen(49.9), screen(50.0), Event(kind="search", time_s=0.0), screen(51.0)]
    checked = Intake(STANDARD, oldest_s=oldest_s).check_many(events, now_s=NOW)
    assert checked.events == events[1:]
    assert [(one.position, one.error.reason) for one in checked.rejected] == [
        (0, RejectReason.TOO_OLD)
    ]
    assert asked == ["screen", "search"]


def test_intake_late_and_out_of_order_events_are_kept_and_counted() -> None:
    """Behind the latest is out of order; more than an hour behind it is late as well."""
    times = [1.0, 9_000.0, 9_000.0, 8_000.0, 5_400.0, 5_399.0]
    checked = INTAKE.check_many([screen(time) for time in times], now_s=NOW, latest_s=100.0)
    assert len(checked.events) == 6
    assert (checked.counters.out_of_order, checked.counters.late) == (4, 1)
    assert INTAKE.check_many([screen(0.0)], now_s=NOW).counters.out_of_order == 0


# --- the plan for what is missing ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "missing"),
    [
        ({"kind": "purchase", "item_id": "a"}, {"price": 1, "quantity": 1}),
        ({"kind": "purchase", "item_id": "a", "price": 0.0, "quantity": 1}, {}),
        ({"kind": "cart", "item_id": "a"}, {"quantity": 1}),
        ({"kind": "return", "item_id": "a"}, {"quantity": 1}),
        ({"kind": "product_view", "item_id": "a"}, {}),
        ({"kind": "product_view", "item_id": "b"}, {"unknown_item": 1}),
        ({"kind": "search"}, {"query": 1}),
        ({"kind": "search", "properties": {"query": "tea"}}, {}),
        ({"kind": "checkout_step"}, {"step": 1}),
        ({"kind": "checkout_step", "properties": {"step": 0}}, {}),
        ({"kind": "form_error", "properties": {"field": None}}, {"field": 1}),
        ({"kind": "screen"}, {}),
    ],
)
def test_intake_missing_value_is_counted_and_the_event_stays_as_it_is(
    event: dict[str, Any], missing: dict[str, int]
) -> None:
    """The intake never gives an event a value that nobody sent."""
    made = Event(time_s=1.0, **event)
    checked = INTAKE.check_many([made], now_s=NOW, known_items={"a"})
    assert checked.events == [made]
    assert checked.counters.missing == missing


def test_intake_json_without_an_id_is_counted() -> None:
    """Only the form in which it came tells: the event has a random one."""
    raws: list[Any] = [{"event": "screen", "timestamp": 1}] * 2
    raws.append({"event": "screen", "timestamp": 1, "event_id": "e"})
    checked = INTAKE.check_many(raws, now_s=NOW)
    assert checked.counters.missing == {"event_id": 2}
    assert len({event.event_id for event in checked.events}) == 3


# --- what is refused -----------------------------------------------------------------------------

RAWS: list[Any] = [
    screen(),
    {"event": "purchase", "timestamp": 1.0, "product_id": "a", "event_id": "e"},
    {"event": "purchase", "timestamp": 1.0},
    {"event": "never_registered", "timestamp": 1.0},
    Event(kind="never_registered", time_s=1.0),
    None,
    "secret",
    {"event": "screen", "timestamp": NOW * 2},
]


def test_intake_bad_events_are_told_apart_and_the_good_ones_kept() -> None:
    """Each bad one has its place and its reason; the counts add up."""
    checked = INTAKE.check_many(RAWS, now_s=NOW)
    assert [event.kind for event in checked.events] == [EventKind.SCREEN, EventKind.PURCHASE]
    assert [(one.position, one.error.reason) for one in checked.rejected] == [
        (2, RejectReason.MISSING),
        (3, RejectReason.UNKNOWN_KIND),
        (4, RejectReason.UNKNOWN_KIND),
        (5, RejectReason.NOT_AN_OBJECT),
        (6, RejectReason.NOT_AN_OBJECT),
        (7, RejectReason.TOO_FAR_AHEAD),
    ]
    assert checked.counters.rejected == {
        "missing": 1,
        "unknown-kind": 2,
        "not-an-object": 2,
        "too-far-ahead": 1,
    }
    assert sum(checked.counters.rejected.values()) == len(checked.rejected)


@pytest.mark.parametrize("raw", RAWS)
def test_intake_one_event_gets_the_same_answer_as_in_a_batch(raw: Any) -> None:
    """One code path, one set of rules."""
    assert INTAKE.rules is RULES
    many = INTAKE.check_many([raw], now_s=NOW)
    if many.events:
        assert INTAKE.check(raw, now_s=NOW).to_json().keys() == many.events[0].to_json().keys()
        return
    with pytest.raises(EventError) as caught:
        INTAKE.check(raw, now_s=NOW)
    assert str(caught.value) == str(many.rejected[0].error)


def test_intake_custom_kind_is_checked_against_its_schema() -> None:
    """What is registered is kept if it fits."""
    kind = CustomKind(name="stroll", meaning="You took a stroll.", item="none")
    intake = Intake(Taxonomy([kind]))
    assert intake.check(Event(kind="stroll", time_s=1.0), now_s=NOW).kind == "stroll"
    with pytest.raises(EventError, match="item_id"):
        intake.check(Event(kind="stroll", time_s=1.0, item_id="a"), now_s=NOW)


# --- setting aside -------------------------------------------------------------------------------


def rejected(raw: object) -> Rejected:
    """Something that was refused."""
    return Rejected(0, EventError("price", RejectReason.WRONG_TYPE, "expected; got"), raw)


@pytest.mark.parametrize(
    ("raw", "raw_json"),
    [
        ({"price": "free"}, '{"price":"free"}'),
        ("x" * 4_094, '"' + "x" * 4_094 + '"'),
        ("x" * 4_095, None),
        (["x" * 100] * 100, None),
        ({"a": object()}, None),
        ({(1, 2): 1}, None),
        ("half \ud800", '"half \\ud800"'),
    ],
)
def test_rejected_is_set_aside_up_to_a_size(raw: object, raw_json: str | None) -> None:
    """A giant, or what is no JSON, leaves its reason alone."""
    aside = rejected(raw).quarantined(received_s=5.0, rules=QualityRules())
    assert aside == Quarantined(
        reason=RejectReason.WRONG_TYPE,
        field="price",
        message="price: expected; got",
        received_s=5.0,
        raw_json=raw_json,
    )
    assert Quarantined.from_json(json.loads(json.dumps(aside.to_json()))) == aside


def test_rejected_nested_too_deep_is_set_aside_without_its_json() -> None:
    """Depth is no way to break the intake."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    aside = rejected(deep).quarantined(received_s=5.0, rules=QualityRules(max_raw_bytes=10**9))
    assert aside.raw_json is None


def test_rejected_event_is_set_aside_in_its_json_form() -> None:
    """An event that the app made is shown as it would have sent it."""
    aside = rejected(screen(1.0, event_id="e")).quarantined(received_s=5.0, rules=QualityRules())
    assert aside.raw_json == '{"event":"screen","event_id":"e","timestamp":1.0}'


GOOD_ASIDE = rejected({}).quarantined(received_s=5.0, rules=QualityRules()).to_json()


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {**GOOD_ASIDE, "more": 1},
        {**GOOD_ASIDE, "reason": "because"},
        {**GOOD_ASIDE, "field": 1},
        {**GOOD_ASIDE, "raw_json": {}},
        {**GOOD_ASIDE, "received_s": "now"},
        {**GOOD_ASIDE, "received_s": float("nan")},
    ],
)
def test_quarantined_read_from_something_else_is_refused(value: Any) -> None:
    """Nothing is read in part."""
    with pytest.raises(ValueError, match=r"quarantined|received_s|RejectReason"):
        Quarantined.from_json(value)


def test_set_aside_drops_the_oldest_and_counts_them() -> None:
    """The newest are the ones that a developer looks for."""
    first, second, third = (
        rejected(n).quarantined(received_s=float(n), rules=QualityRules()) for n in range(3)
    )
    assert set_aside([first], [second], limit=2) == ([first, second], 0)
    assert set_aside([first, second], [third], limit=2) == ([second, third], 1)
    assert set_aside([first], [second, third], limit=0) == ([], 3)


# --- counters ------------------------------------------------------------------------------------

COUNTS = st.integers(0, 10**6)
COUNTERS = st.builds(
    QualityCounters,
    accepted=COUNTS,
    duplicates=COUNTS,
    without_consent=COUNTS,
    paused=COUNTS,
    clock_skewed=COUNTS,
    late=COUNTS,
    out_of_order=COUNTS,
    rejected=st.dictionaries(st.sampled_from([str(reason) for reason in RejectReason]), COUNTS),
    missing=st.dictionaries(st.sampled_from(["price", "unknown_item"]), COUNTS),
    quarantined_dropped=COUNTS,
)


@given(counters=COUNTERS)
def test_counters_written_and_read_are_the_same(counters: QualityCounters) -> None:
    """The JSON form is the inverse of reading it."""
    assert QualityCounters.from_json(json.loads(json.dumps(counters.to_json()))) == counters


@given(first=COUNTERS, second=COUNTERS)
def test_counters_added_up_do_not_depend_on_the_order(
    first: QualityCounters, second: QualityCounters
) -> None:
    """Two batches counted apart are as one; what is added is not changed."""
    both, other_way = QualityCounters(), QualityCounters()
    before = second.to_json()
    for counters in (first, second):
        both.add(counters)
    for counters in (second, first):
        other_way.add(counters)
    assert both == other_way
    assert second.to_json() == before
    assert both.accepted == first.accepted + second.accepted
    assert both.missing.keys() == first.missing.keys() | second.missing.keys()


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"accepted": -1},
        {"accepted": 1.0},
        {"accepted": True},
        {"more": 1},
        {"missing": 1},
        {"rejected": {"too-old": "2"}},
    ],
)
def test_counters_read_from_something_else_are_refused(value: Any) -> None:
    """Nothing is read in part; a field that an older version did not have is 0."""
    with pytest.raises(ValueError, match="expected"):
        QualityCounters.from_json(value)
    assert QualityCounters.from_json({"accepted": 3}).accepted == 3


def test_counters_say_in_words_what_happened_and_nothing_else() -> None:
    """Every count has its sentence; what never happened has none."""
    assert QualityCounters().sentences() == []
    counters = QualityCounters(
        accepted=1_234,
        duplicates=1,
        without_consent=2,
        paused=2,
        clock_skewed=2,
        late=2,
        out_of_order=2,
        quarantined_dropped=2,
        rejected={str(reason): 1 for reason in RejectReason},
        missing=dict.fromkeys(
            ("price", "quantity", "unknown_item", "query", "step", "field", "event_id"), 1
        ),
    )
    said = counters.sentences()
    assert said[:2] == [
        "1,234 events were kept.",
        "1 event was not kept again: it was here already.",
    ]
    assert len(said) == len(set(said)) == 8 + len(RejectReason) + 7
    assert not any("-" in sentence for sentence in said)


@pytest.mark.parametrize(
    "changes", [{"max_ahead_s": -1.0}, {"late_after_s": float("nan")}, {"max_quarantined": "many"}]
)
def test_quality_rules_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    """A rule that exists can be kept."""
    with pytest.raises(ValueError, match="expected a number, 0 or more"):
        QualityRules(**changes)
