"""The desk of journeys on a real home: proposed, judged, said, kept; and what goes back."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from client_sdk import Homebody
from client_sdk.errors import ConsentRequiredError, VaultError
from client_sdk.experience.content import Brief, CopyDesk, CopyGuard, Tone
from client_sdk.experience.decisions import Status
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.journeys import (
    InvalidJourneyError,
    JourneyDesk,
    JourneyStep,
    JourneyStore,
    Programme,
)
from client_sdk.experience.toml_file import FileMistakeError
from client_sdk.signals.events import Event
from client_sdk.signals.records import Record
from client_sdk.testing import FixedClock
from tests.client_sdk.experience.journeys.conftest import CART
from tests.client_sdk.experience.test_lives import MemoryVault

OpenHome = Callable[..., Homebody]
DAY_S = 86_400.0
CONTENT = """
[messages.noted]
safe = "plain"
[[messages.noted.variants]]
id = "plain"
text = "It is in your cart."
[[messages.noted.variants]]
id = "area"
text = "It is in your cart, with other things for {area}."
[messages.remind]
safe = "plain"
[[messages.remind.variants]]
id = "plain"
text = "Something waits in your cart."
[[messages.remind.variants]]
id = "town"
text = "Something waits in your cart, and in our shop in {town}."
"""
REMIND = 'channel = "sms"\ncontent = "remind"\nslots = ["town"]\nwhen'
SAID = CART.replace('channel = "sms"\nwhen', REMIND)
WAITS = SAID.replace(REMIND, f"high_impact = true\nonce = true\n{REMIND}")
POLICY = """
version = 1
[channels.web]
opt_in = false
per_day = 9
[channels.sms]
per_week = {sms}
"""


@pytest.fixture
def home(open_home: OpenHome) -> Homebody:
    """A home with one journey, guardrails, and a yes to personalise."""
    home = open_home()
    home.decider(GuardrailPolicy.from_toml(POLICY.format(sms=3)))
    home.journeys.use(Programme.from_toml(SAID, CONTENT))
    home.consent.grant("personalise")
    return home


def put_in_cart(home: Homebody, clock: FixedClock, **options: Any) -> JourneyStep:
    """Let the person put something in the cart, and the journey see it."""
    event = Event(kind="cart", time_s=clock.now_s(), item_id="mug")
    home.track_many([event])
    return home.journeys.step("cart", event, **options)


def wait_two_days(home: Homebody, clock: FixedClock) -> JourneyStep:
    """Let the timer of the cart be due."""
    clock.advance(2 * DAY_S)
    return home.journeys.step("cart", facts={"town": "Ulm"})


def test_step_proposal_is_one_decision_in_the_log_with_its_text(
    home: Homebody, clock: FixedClock
) -> None:
    """The journey's reason, the decider's, an id that replays, and words about it."""
    step = put_in_cart(home, clock)
    (message,) = step.messages
    assert step.moved
    assert message.shown
    assert message.text == "It is in your cart, with other things for kitchen."
    assert message.proposal.reason == "Because you put something in the cart."
    assert [one.decision_id for one in home.decider().decisions()] == [message.decision.decision_id]
    assert home.decider().why(message.decision.decision_id).same
    assert "Proposed by cart." in message.in_words()
    assert home.journeys.state("cart") == step.state
    assert home.journeys.next_due_s("cart") == clock.now_s() + 2 * DAY_S


def test_step_what_the_decider_refuses_is_taken_back(home: Homebody, clock: FixedClock) -> None:
    """It counts for no cap of the journey, has no text, and comes when the guardrails allow it."""
    home.preferences.allow_channel("sms")
    home.decider(GuardrailPolicy.from_toml(POLICY.format(sms=0)))
    put_in_cart(home, clock)
    left, refused = wait_two_days(home, clock).messages
    assert left.shown
    assert (refused.decision.status, refused.text) == (Status.NOTHING, "")
    assert "cap:sms:week" in refused.decision.reason
    state = home.journeys.state("cart")
    assert state is not None
    assert state.sent_s["sms"] == ()
    assert len(state.sent_s["web"]) == 2


def test_step_home_without_guardrails_says_nothing(open_home: OpenHome, clock: FixedClock) -> None:
    """No policy refuses everything, a journey's proposals too."""
    home = open_home()
    home.journeys.use(Programme.from_toml(SAID, CONTENT))
    home.consent.grant("personalise")
    (message,) = put_in_cart(home, clock).messages
    assert not message.shown
    assert "no-policy" in message.decision.reason


def test_step_without_consent_nothing_moves_and_nothing_is_noted(
    home: Homebody, clock: FixedClock
) -> None:
    """Not even that the journey began; after a withdrawal the person stays where they were."""
    home.consent.withdraw("personalise")
    assert put_in_cart(home, clock).messages == ()
    assert home.journeys.state("cart") is None
    home.consent.grant("personalise")
    before = put_in_cart(home, clock).state
    home.consent.withdraw("personalise")
    assert wait_two_days(home, clock).messages == ()
    assert home.journeys.state("cart") == before


@pytest.mark.parametrize("permitted", [True, False])
def test_step_fact_is_used_with_its_permission_only(
    home: Homebody, clock: FixedClock, permitted: bool
) -> None:
    """The app says the town in both cases."""
    home.preferences.allow_channel("sms")
    if permitted:
        home.preferences.allow_permission("location")
    put_in_cart(home, clock)
    text = wait_two_days(home, clock).messages[1].text
    assert text.endswith("in Ulm." if permitted else "in your cart.")


def test_outcome_goes_back_to_the_decision(home: Homebody, clock: FixedClock) -> None:
    """It counts for what was shown, and not after consent is withdrawn."""
    (message,) = put_in_cart(home, clock).messages
    assert home.journeys.outcome(message, "clicked").attributed
    (outcome,) = home.decider().outcomes(message.decision.decision_id)
    assert outcome.kind == "clicked"
    home.consent.withdraw("personalise")
    assert not home.journeys.outcome(message, "clicked").attributed


def waiting(home: Homebody, clock: FixedClock) -> str:
    """Let a reminder of high impact wait; give its decision's id."""
    home.journeys.use(Programme.from_toml(WAITS, CONTENT))
    home.preferences.allow_channel("sms")
    home.preferences.allow_permission("location")
    put_in_cart(home, clock)
    message = wait_two_days(home, clock).messages[1]
    assert message.waits
    assert not message.shown
    assert message.text == ""
    return message.decision.decision_id


def test_approve_says_it_with_what_may_be_used_by_then(home: Homebody, clock: FixedClock) -> None:
    """It counts from the approval on, and only once."""
    decision_id = waiting(home, clock)
    home.preferences.refuse_permission("location")
    clock.advance(3_600.0)
    message = home.journeys.approve(decision_id, by="ann", facts={"town": "Ulm"})
    assert message.text == "Something waits in your cart."
    assert message.proposal.reason.startswith("Because ")
    state = home.journeys.state("cart")
    assert state is not None
    assert state.sent_s["sms"] == (clock.now_s(),)
    assert state.done >= {"cart/reminded/remind"}
    with pytest.raises(ValueError, match="that waits; got another"):
        home.journeys.approve(decision_id, by="ann")


def test_approve_what_is_not_allowed_any_more_is_refused(home: Homebody, clock: FixedClock) -> None:
    """By the channel, by consent, and where the journey is gone; nothing is said."""
    decision_id = waiting(home, clock)
    home.preferences.refuse_channel("sms")
    with pytest.raises(ValueError, match="'sms' is not open"):
        home.journeys.approve(decision_id, by="ann")
    home.preferences.allow_channel("sms")
    home.consent.withdraw("personalise")
    with pytest.raises(ConsentRequiredError):
        home.journeys.approve(decision_id, by="ann")
    home.consent.grant("personalise")
    home.journeys.use()
    with pytest.raises(ValueError, match="of a journey in use"):
        home.journeys.approve(decision_id, by="ann")
    home.journeys.use(Programme.from_toml(WAITS, CONTENT))
    home.decider(GuardrailPolicy.from_toml(POLICY.format(sms=0)))
    refused = home.journeys.approve(decision_id, by="ann")
    assert (refused.shown, refused.text) == (False, "")


def test_copy_desk_writes_named_messages_and_is_read_first(
    home: Homebody, clock: FixedClock
) -> None:
    """A promise is not said; a message that it may not write is the template's."""
    asked: list[str] = []

    def write(brief: Brief) -> str:
        asked.append(brief.message)
        return "Approval is guaranteed!"

    guard = CopyGuard(tones=[Tone(name="plain")])
    (message,) = put_in_cart(
        home, clock, copy_desk=CopyDesk(guard=guard, copywriter=write)
    ).messages
    assert message.copy is not None
    assert (message.copy.source, asked) == ("template", ["noted"])
    assert message.copy.objections
    home.journeys.forget("cart")
    desk = CopyDesk(guard=guard, copywriter=write, messages=frozenset({"remind"}))
    (message,) = put_in_cart(home, clock, copy_desk=desk).messages
    assert message.copy is not None
    assert message.copy.objections == ()
    assert asked == ["noted"]


class FullVault(MemoryVault):
    """A vault in which journeys find no room."""

    def write(self, *records: Record, durable: bool = False) -> None:
        """Refuse states of journeys."""
        if any(record.stream == "journeys" for record in records):
            raise VaultError("no room")
        super().write(*records, durable=durable)


def test_step_state_that_cannot_be_kept_gives_nothing_out(
    home: Homebody, clock: FixedClock
) -> None:
    """The error comes before any message, and the person stays where they were."""
    desk = JourneyDesk(
        store=JourneyStore(vault=FullVault(), lock=nullcontext()),
        consent=home.consent,
        clock=clock,
        lock=nullcontext(),
        features=home.features,
        preferences=home.preferences.current,
        decider=home.decider,
        item={}.get,
        key="ada",
    )
    desk.use(Programme.from_toml(SAID, CONTENT))
    event = Event(kind="cart", time_s=clock.now_s(), item_id="mug")
    with pytest.raises(VaultError):
        desk.step("cart", event)
    assert desk.state("cart") is None


def test_export_says_where_the_person_is(
    home: Homebody, open_home: OpenHome, clock: FixedClock, tmp_path: Path
) -> None:
    """It is about the person, so they get it; another device begins the journey anew."""
    state = put_in_cart(home, clock).state
    home.export(tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    (journey,) = [line for line in lines if line["type"] == "journey"]
    assert journey == {"type": "journey", **state.to_json()}
    other = open_home("other")
    other.consent.grant("personalise")
    assert other.import_from(tmp_path / "out.jsonl").left_behind["journey"] == 1


def test_desk_unknown_or_doubled_journey_is_a_mistake(home: Homebody) -> None:
    """The error names those that there are."""
    with pytest.raises(ValueError, match=r"one of \['cart'\]"):
        home.journeys.step("kart")
    one = Programme.from_toml(SAID, CONTENT)
    with pytest.raises(ValueError, match="each journey once"):
        home.journeys.use(one, one)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('content = "noted"', 'content = "note"', 31, "write 'noted'"),
        ('slots = ["area"]\n', "", 28, "got none of ['area']"),
        ('content = "noted"', 'content = "noted"\ncompliance = "financial"', 32, "got others"),
    ],
)
def test_programme_text_that_cannot_be_said_is_one_error_with_its_line(
    old: str, new: str, line: int, said: str
) -> None:
    """A journey and its content are checked against each other before anybody is in it."""
    assert old in SAID
    with pytest.raises(FileMistakeError) as caught:
        Programme.from_toml(SAID.replace(old, new, 1), CONTENT)
    assert f"journey, line {line}: states.carted.enter #1" in str(caught.value)
    assert said in str(caught.value)


def test_programme_made_of_parts_that_do_not_fit_is_refused() -> None:
    """In code as in files."""
    fitting = Programme.from_toml(SAID, CONTENT)
    other = Programme.from_toml(CART, CONTENT).content
    assert Programme(journey=fitting.journey, content=other).name == "cart"
    with pytest.raises(InvalidJourneyError):
        Programme(
            journey=fitting.journey,
            content=type(other)({"x": other.messages["noted"]}, {"x": "plain"}),
        )
