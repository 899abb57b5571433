"""From events to what is anticipated: what counts as bought, when it is computed, and for whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk import ConsentRequiredError, Homebody
from client_sdk.anticipator import anticipated, purchases_of
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.anticipation_scorer import AnticipationScorer
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.scoring import PriorScorer
from client_sdk.intelligence.anticipation import DAY_S, Anticipation
from client_sdk.signals.events import Event
from client_sdk.testing import START_S, FixedClock, sample_catalogue
from client_sdk.wire import Catalogue, Item

OpenHome = Callable[..., Homebody]
SHOP = sample_catalogue()


def weekly(item: str, n: int = 4, *, until_s: float = START_S, price: float = 2.5) -> list[Event]:
    """One purchase a week, the last one a week ago."""
    return [
        Event(kind="purchase", item_id=item, time_s=until_s - week * 7 * DAY_S, price=price)
        for week in range(n, 0, -1)
    ]


def test_purchases_have_amount_and_category_of_the_event_and_the_catalogue() -> None:
    """Price times quantity; no price, no amount; the catalogue's category before the event's."""
    events = [
        Event(kind="purchase", item_id="mug", time_s=1.0, price=9.0, quantity=2),
        Event(kind="purchase", item_id="mug", time_s=2.0),
        Event(kind="purchase", item_id="ham", time_s=3.0, properties={"category": "meat"}),
        Event(kind="purchase", item_id="egg", time_s=4.0, properties={"category": 7}),
        Event(kind="product_view", item_id="mug", time_s=5.0),
    ]
    found = [(one.item_id, one.category, one.amount) for one in purchases_of(events, SHOP)]
    assert found == [
        ("mug", "kitchen", 18.0),
        ("mug", "kitchen", None),
        ("ham", "meat", None),
        ("egg", "", None),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["purchase", "return", "product_view"]),
            st.sampled_from(["mug", "tea"]),
        ),
        max_size=20,
    )
)
def test_purchases_less_returns_are_what_is_left(done: list[tuple[str, str]]) -> None:
    """A return takes back one earlier purchase of its item, the latest; never another item's."""
    events = [
        Event(kind=kind, item_id=item, time_s=float(at)) for at, (kind, item) in enumerate(done)
    ]
    left: dict[str, list[float]] = {"mug": [], "tea": []}
    for at, (kind, item) in enumerate(done):
        if kind == "purchase":
            left[item].append(float(at))
        elif kind == "return" and left[item]:
            left[item].pop()
    found = purchases_of(reversed(events), SHOP)
    assert sorted(one.time_s for one in found) == sorted(left["mug"] + left["tea"])
    assert [one.time_s for one in found] == sorted(one.time_s for one in found)


def test_anticipated_knows_nothing_of_what_is_later() -> None:
    """What happens after now changes nothing."""
    later = Event(kind="purchase", item_id="oats", time_s=START_S + 1)
    now = anticipated(weekly("oats"), SHOP, now_s=START_S)
    assert [one.kind for one in now] == ["replenishment", "churn"]
    assert now[0].sentence.startswith("You buy Rolled oats about every 7 days")
    assert anticipated([*weekly("oats"), later], SHOP, now_s=START_S) == now


def test_home_anticipates_after_consent_and_computes_once_a_day(
    open_home: OpenHome, clock: FixedClock
) -> None:
    """A new event, another day or a new catalogue is looked at anew; nothing else is."""
    home = open_home()
    with pytest.raises(ConsentRequiredError):
        home.anticipate()
    home.consent.grant("personalise")
    home.track_many(weekly("oats"))
    first = home.anticipate()
    assert first[0].about == "oats"
    assert home.anticipate() is first
    home.track("product_view", item="mug")
    assert home.anticipate() == first
    clock.advance(DAY_S)
    assert home.anticipate()[0].value == first[0].value + 1
    home.track("purchase", item="oats")
    assert [one.kind for one in home.anticipate()] == ["churn"]
    home.consent.withdraw("personalise")
    with pytest.raises(ConsentRequiredError):
        home.anticipate()


def test_decider_with_anticipations_prefers_what_is_due(home: Homebody) -> None:
    """Of two equal tips, the one that is needed now; a guardrail still has the last word."""
    home.track_many(weekly("oats"))
    actions = [Action(action_id=item, item_id=item) for item in ("kettle", "oats")]

    def policy(rest: str) -> GuardrailPolicy:
        return GuardrailPolicy.from_toml(
            f'version = 1\nname = "small"\n[channels.in-app]\nopt_in = false\nper_day = 99\n{rest}'
        )

    scorer = AnticipationScorer(PriorScorer(), home.anticipate)
    decider = home.decider(policy("[exploration]\nepsilon = 0.0\n"), scorer=scorer)
    for seed in range(5):
        chosen = decider.decide(Moment(name="home"), actions, seed=seed)
        assert chosen.action is not None
        assert chosen.action.action_id == "oats"
        assert chosen.model == "AnticipationScorer"
        assert decider.why(chosen.decision_id).same
    decider.change_policy(policy("[bought]\nwithin_days = 30\n"))
    chosen = decider.decide(Moment(name="home"), actions, seed=1)
    assert chosen.action is not None
    assert chosen.action.action_id == "kettle"


def test_scorer_multiplies_what_it_is_about_and_keeps_the_confidence() -> None:
    """Due items, the next category and winning back; spending says nothing of any action."""

    def one(kind: str, about: str, value: float, confidence: float) -> Anticipation:
        return Anticipation(
            kind=kind, about=about, value=value, unit="", confidence=confidence, sentence=""
        )

    from client_sdk.experience.action_table import ActionTable

    table = ActionTable(
        [
            Action(action_id="due", item_id="oats"),
            Action(action_id="next", topic="Kitchen"),
            Action(action_id="back", kind="win-back"),
            Action(action_id="both", item_id="oats", kind="win-back"),
            Action(action_id="spent", topic="tea"),
        ]
    )
    expected = [
        one("replenishment", "oats", 3.0, 0.6),
        one("category", "Kitchen", 0.5, 0.5),
        one("churn", "", 0.9, 0.4),
        one("spend", "tea", 0.2, 0.5),
    ]
    plain = PriorScorer().score(table, table.values)
    scored = AnticipationScorer(PriorScorer(), lambda: expected, win_back=["win-back"]).score(
        table, table.values
    )
    factors = scored.expected / plain.expected
    assert factors.tolist() == pytest.approx([1.6, 1.5, 1.9, 1.9, 1.0])
    assert scored.confidence.tolist() == plain.confidence.tolist()


def test_catalogue_without_names_says_the_id() -> None:
    """An item that nobody named is called by its id."""
    bare = Catalogue(items=(Item(item_id="sku-7"),))
    assert "sku-7" in anticipated(weekly("sku-7"), bare, now_s=START_S)[0].sentence
