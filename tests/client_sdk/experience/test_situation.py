"""The situation and the ledger: the same after JSON, and windows that agree with counting."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.experience.ledger import DAY_S, WEEK_S, Counts, Ledger, Shown
from client_sdk.experience.situation import Situation

names = st.frozensets(st.text("abc", min_size=1, max_size=3), max_size=3)
situations = st.builds(
    Situation,
    now_s=st.floats(0, 1e10),
    utc_offset_s=st.none() | st.integers(-50_000, 50_000),
    personal=st.booleans(),
    paused=st.booleans(),
    opted_in=names,
    less=names,
    less_items=names,
    sold_out=names,
    bought_s=st.dictionaries(st.text("abc", min_size=1), st.floats(0, 1e10), max_size=3),
    offers=names,
    waiting=names,
    counts=st.dictionaries(
        st.sampled_from(["push", "sms"]),
        st.tuples(*[st.integers(0, 9)] * 3).map(lambda row: Counts(*row)),
    ),
    messages_7_days=st.integers(0, 50),
    dismissed_share=st.none() | st.floats(0, 1),
    last_complaint_s=st.none() | st.floats(0, 1e10),
    last_return_s=st.none() | st.floats(0, 1e10),
)
shows = st.lists(
    st.builds(
        Shown,
        time_s=st.builds(
            lambda hour, second: hour * 3_600.0 + second,
            st.integers(0, 20 * 24),
            st.sampled_from([0.0, 1.0]),
        ),
        channel=st.sampled_from(["push", "sms"]),
        session=st.sampled_from(["", "a", "b"]),
        kind=st.sampled_from(["offer", "message"]),
        action_id=st.sampled_from(["x", "y", "z"]),
        item_id=st.none() | st.just("tea"),
    ),
    max_size=30,
)


@given(situations)
def test_situation_json_round_trip_is_equal(situation: Situation) -> None:
    """A replay sees what the decision saw."""
    assert Situation.from_json(json.loads(json.dumps(situation.to_json()))) == situation


@settings(max_examples=300)
@given(shows, st.integers(0, 28 * 24).map(lambda hour: hour * 3_600.0), st.booleans())
def test_ledger_counts_are_those_of_counting(
    given_: list[Shown], now_s: float, reopened: bool
) -> None:
    """In any order, also after JSON: what is younger than the window counts."""
    ledger = Ledger()
    for shown in given_:
        ledger.add(shown)
    if reopened:
        ledger = Ledger.from_json(json.loads(json.dumps(ledger.to_json(0.0))))
    for session in ("", "a"):
        counts = ledger.counts(session=session, now_s=now_s)
        for channel in ("push", "sms"):
            here = [s for s in given_ if s.channel == channel]
            week = [s for s in here if s.time_s > now_s - WEEK_S]
            expected = (
                sum(s.session == session for s in week),
                sum(s.time_s > now_s - DAY_S for s in here),
                len(week),
            )
            assert counts.get(channel, (0, 0, 0)) == expected
    latest = {}
    for shown in sorted(given_, key=lambda shown: shown.time_s):
        if shown.kind == "offer":
            latest[shown.action_id] = shown.time_s
    recent = {name for name, time_s in latest.items() if time_s > now_s - WEEK_S}
    assert ledger.names_since({"offer"}, now_s - WEEK_S) - {"tea"} == recent


@settings(max_examples=300)
@given(st.lists(st.tuples(shows.map(lambda some: some[:2]), st.integers(0, 21 * 24)), max_size=12))
def test_ledger_names_asked_between_shows_are_those_of_a_ledger_that_was_never_asked(
    steps: list[tuple[list[Shown], int]],
) -> None:
    """The set that grows as things are shown is the one that looking at everything gives."""
    asked, shown, kinds = Ledger(), [], frozenset({"offer"})
    for more, hour in steps:
        shown += more
        for one in more:
            asked.add(one)
        never_asked = Ledger()
        for one in shown:
            never_asked.add(one)
        since_s = hour * 3_600.0 - WEEK_S
        assert asked.names_since(kinds, since_s) == never_asked.names_since(kinds, since_s)


def test_ledger_old_shows_leave_the_memory() -> None:
    """What no window reaches any more is dropped, and the latest time of an action stays."""
    ledger = Ledger()
    for number in range(600):
        time_s = number * DAY_S
        ledger.add(
            Shown(time_s=time_s, channel="push", session=f"{number}", kind="offer", action_id="x")
        )
    kept = ledger.to_json(600 * DAY_S)
    assert len(kept["shown"]) == 6
    assert kept["latest"] == [["offer", "x", 599 * DAY_S, None]]
