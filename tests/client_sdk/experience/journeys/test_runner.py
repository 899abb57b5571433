"""The runner: pure, deterministic, capped; silent without consent, in a pause, at the end."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.experience.content import Usable
from client_sdk.experience.journeys import (
    Journey,
    JourneyState,
    Runner,
    StaleJourneyError,
    Step,
    migrate,
)
from client_sdk.experience.journeys.migrate import fits
from client_sdk.signals.events import Event

DAY_S = 86_400.0
YES = frozenset({"personalise"})
ALL = Usable(consents=YES, opt_ins=frozenset({"sms", "location"}))
KINDS = ("cart", "purchase", "screen", "product_view")


def did(kind: str, time_s: float = 0.0, item: str = "tea") -> Event:
    """One event."""
    return Event(kind=kind, time_s=time_s, item_id=item)


@pytest.fixture(scope="session")
def runner(cart: Journey) -> Runner:
    """A runner of the small journey."""
    return Runner(cart)


def carted(runner: Runner, now_s: float = 0.0) -> Step:
    """Somebody who put something in the cart."""
    return runner.step(runner.begin(now_s), did("cart"), ALL, now_s)


def test_step_event_moves_and_proposes_with_a_reason(runner: Runner) -> None:
    """The action says which journey, which item, which channel; the reason is a sentence."""
    step = carted(runner, 5.0)
    (proposal,) = step.proposals
    assert step.state.at == "carted"
    assert proposal.action.action_id == "cart/carted/noted"
    assert proposal.action.item_id == "tea"
    assert proposal.action.rule == "cart"
    assert proposal.reason == "Because you put something in the cart."
    assert set(proposal.slots) == {"area"}


def test_step_other_event_moves_nothing(runner: Runner) -> None:
    """An event that no transition waits for leaves the state as it is."""
    state = runner.begin(0.0)
    assert runner.step(state, did("purchase"), ALL, 1.0).state == state


@pytest.mark.parametrize(
    ("last_cart_s", "now_s", "at"),
    [
        (None, 2 * DAY_S - 1, "carted"),
        (None, 2 * DAY_S, "reminded"),
        (DAY_S, 2 * DAY_S, "carted"),
        (DAY_S, 3 * DAY_S - 1, "carted"),
        (DAY_S, 3 * DAY_S, "reminded"),
    ],
)
def test_step_timer_fires_after_the_time_without_the_events(
    runner: Runner, last_cart_s: float | None, now_s: float, at: str
) -> None:
    """The time begins anew with an event that the timer names."""
    state = carted(runner).state
    if last_cart_s is not None:
        state = runner.step(state, did("cart"), ALL, last_cart_s).state
    assert runner.next_due_s(state) == (last_cart_s or 0.0) + 2 * DAY_S
    assert runner.step(state, None, ALL, now_s).state.at == at


def test_step_who_comes_back_is_not_reminded_of_having_been_away(runner: Runner) -> None:
    """An event that the timer waits for is looked at before the timer, even days late."""
    state = carted(runner).state
    step = runner.step(state, did("screen"), ALL, 9 * DAY_S)
    assert step.state.at == "carted"
    assert step.proposals == ()


@pytest.mark.parametrize(
    ("usable", "reason"),
    [
        (dataclasses.replace(ALL, consents=frozenset()), "No yes to personalise"),
        (dataclasses.replace(ALL, consents=frozenset({"train"})), "No yes to personalise"),
        (dataclasses.replace(ALL, paused=True), "pause"),
    ],
)
def test_step_without_consent_or_in_a_pause_nothing_happens(
    runner: Runner, usable: Usable, reason: str
) -> None:
    """Nothing moves, nothing is noted, nothing is proposed."""
    for state in (runner.begin(0.0), carted(runner).state):
        for event in (None, did("cart"), did("purchase")):
            step = runner.step(state, event, usable, 30 * DAY_S)
            assert step.state == state
            assert step.proposals == step.withheld == ()
            assert reason in step.reasons[0]


def test_step_channel_not_open_withholds_and_says_so(runner: Runner) -> None:
    """The move happens; the message does not."""
    step = runner.step(carted(runner).state, None, Usable(consents=YES), 2 * DAY_S)
    assert step.state.at == "reminded"
    assert [one.action.channel for one in step.proposals] == ["web"]
    assert "did not opt in" in step.withheld[0].reason


def test_step_cap_withholds_until_its_window_is_over(runner: Runner) -> None:
    """One SMS in seven days, however often the timer fires; then one again."""
    state, sent = carted(runner).state, []
    for day in range(2, 30, 3):
        step = runner.step(state, None, ALL, day * DAY_S)
        sent += [day for one in step.proposals if one.action.channel == "sms"]
        state = runner.step(step.state, did("cart"), ALL, day * DAY_S + 1).state
    assert sent == [2, 11, 20, 29]


def test_step_once_comes_only_once(runner: Runner) -> None:
    """The exit action of the cart is done on the first way out."""
    state, said = carted(runner).state, []
    for day in (2, 5, 8):
        step = runner.step(state, None, ALL, day * DAY_S)
        said += [one.action.action_id for one in step.proposals]
        state = runner.step(step.state, did("cart"), ALL, day * DAY_S + 1).state
    assert said.count("cart/carted/left") == 1


def test_step_fact_without_its_opt_in_is_hidden(runner: Runner) -> None:
    """The app says the town; without the opt-in no condition and no text sees it."""
    state = runner.step(carted(runner).state, None, ALL, 2 * DAY_S).state
    told = dataclasses.replace(ALL, facts={"town": "ulm", "undeclared": 1.0})
    seen = runner.step(state, did("screen"), told, 3 * DAY_S)
    assert seen.state.at == "new"
    assert seen.seen.facts == {"town": "ulm"}
    hidden = dataclasses.replace(told, opt_ins=frozenset({"sms"}))
    step = runner.step(state, did("screen"), hidden, 3 * DAY_S)
    assert step.state.at == "reminded"
    assert step.seen.facts == {}


def test_step_fact_without_its_own_consent_is_hidden(cart_text: str) -> None:
    """A yes to personalise is no yes to what a fact asks for besides."""
    head, meaning, rest = cart_text.partition('meaning = "The town that the person is in."')
    text = head + meaning + rest.replace('"personalise"', '"statistics"', 1)
    runner = Runner(Journey.from_toml(text))
    told = dataclasses.replace(ALL, facts={"town": "Ulm"})
    assert runner.step(runner.begin(0.0), None, told, 0.0).seen.facts == {}
    both = dataclasses.replace(told, consents=YES | {"statistics"})
    assert runner.step(runner.begin(0.0), None, both, 0.0).seen.facts == {"town": "Ulm"}


def test_step_at_the_end_nothing_happens_any_more(runner: Runner) -> None:
    """A terminal state stays."""
    state = runner.step(carted(runner).state, did("purchase"), ALL, 1.0).state
    assert state.at == "bought"
    assert runner.next_due_s(state) is None
    assert runner.step(state, did("cart"), ALL, 2.0).reasons == ("The journey is over.",)


def test_step_state_of_another_version_is_refused(runner: Runner) -> None:
    """A stale state is a domain error that says what to do."""
    state = dataclasses.replace(runner.begin(0.0), version=2)
    with pytest.raises(StaleJourneyError, match="migrate it first"):
        runner.step(state, None, ALL, 0.0)
    with pytest.raises(StaleJourneyError, match="begin the journey anew"):
        runner.step(dataclasses.replace(runner.begin(0.0), at="gone"), None, ALL, 0.0)


moves = st.lists(
    st.tuples(
        st.sampled_from([*KINDS, None]),
        st.floats(0.0, 5 * DAY_S),
        st.sets(st.sampled_from(["sms", "location"])),
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(moves=moves)
def test_runner_any_order_keeps_caps_opt_ins_and_consent(cart: Journey, moves: list[Any]) -> None:
    """Whatever comes: no cap exceeded, nothing unasked, the same again, and JSON in between."""
    runner, now_s = Runner(cart), 0.0
    state = runner.begin(now_s)
    sent: dict[str, list[float]] = {name: [] for name in cart.channels}
    for kind, wait_s, opt_ins, yes, paused in moves:
        now_s += wait_s
        usable = Usable(
            consents=YES if yes else frozenset(), opt_ins=frozenset(opt_ins), paused=paused
        )
        event = None if kind is None else did(kind, now_s)
        step = runner.step(state, event, usable, now_s)
        assert runner.step(state, event, usable, now_s) == step
        if not yes or paused:
            assert not step.proposals
        for proposal in step.proposals:
            channel = cart.channels[proposal.action.channel]
            assert not channel.opt_in or channel.name in opt_ins
            sent[channel.name].append(now_s)
            recent = [time_s for time_s in sent[channel.name] if time_s > now_s - channel.per_s]
            assert len(recent) <= channel.cap
        state = JourneyState.from_json(json.loads(json.dumps(step.state.to_json())))
        assert state == step.state


@pytest.mark.parametrize(
    "change",
    [
        {"at": 3},
        {"version": True},
        {"version": 0},
        {"entered_s": "0"},
        {"entered_s": float("nan")},
        {"seen_s": []},
        {"sent_s": {"sms": [0.0] * 65}},
        {"sent_s": {"sms": 3}},
        {"done": [3]},
        {"item_id": 3},
        {"more": 1},
    ],
)
def test_state_damaged_json_is_refused(runner: Runner, change: dict[str, object]) -> None:
    """What is stored may be old or damaged; it never becomes a state."""
    good = carted(runner).state.to_json()
    with pytest.raises(StaleJourneyError, match="begin the journey anew"):
        JourneyState.from_json({**good, **change})
    with pytest.raises(StaleJourneyError):
        JourneyState.from_json(None)


def test_migrate_keeps_a_state_that_is_still_there(cart: Journey, cart_text: str) -> None:
    """Time, sends and what came once stay, so no cap is loosened."""
    runner = Runner(cart)
    state = runner.step(carted(runner).state, None, ALL, 2 * DAY_S).state
    new = Journey.from_toml(cart_text.replace("version = 1", "version = 2"))
    moved = migrate(state, new, now_s=3 * DAY_S)
    assert moved == dataclasses.replace(state, version=2)
    assert Runner(new).step(moved, None, ALL, 3 * DAY_S).state == moved


def test_migrate_state_that_is_gone_goes_to_the_fallback(cart: Journey, cart_text: str) -> None:
    """Entered now; what was sent still counts."""
    runner = Runner(cart)
    state = runner.step(carted(runner).state, None, ALL, 2 * DAY_S).state
    new = Journey.from_toml(
        cart_text.replace("version = 1", "version = 3").replace("reminded", "nudged")
    )
    moved = migrate(state, new, now_s=9.0)
    assert (moved.at, moved.entered_s, moved.sent_s) == ("new", 9.0, state.sent_s)


def test_migrate_to_an_older_version_keeps_what_was_sent(cart: Journey, cart_text: str) -> None:
    """A release that is rolled back brings it; the caps of the newer one's sends still hold."""
    newer = Journey.from_toml(cart_text.replace("version = 1", "version = 2"))
    state = carted(Runner(newer)).state
    back = migrate(state, cart, now_s=1.0)
    assert back == dataclasses.replace(state, version=1)
    assert fits(back, cart)
    assert not fits(state, cart)


def test_migrate_to_another_journey_is_a_mistake(cart: Journey, cart_text: str) -> None:
    """Nobody is moved by accident."""
    other = Journey.from_toml(cart_text.replace('journey = "cart"', 'journey = "basket"'))
    with pytest.raises(ValueError, match="expected one of 'basket'"):
        migrate(Runner(cart).begin(0.0), other, now_s=0.0)
