"""What is anticipated on the bundled Online Retail sample, and how often it comes true."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.experiments import area_under_roc
from client_sdk import ConsentRequiredError, Homebody
from client_sdk.anticipator import anticipated
from client_sdk.intelligence.anticipation import DAY_S, MIN_PURCHASE_DAYS
from client_sdk.signals.events import Event
from client_sdk.testing import FixedClock, MemoryKeyStore
from simulations.data.bundled import load_bundled
from simulations.data.interactions import EVENT_KINDS, LoadedData

CUT_S = 1_314_835_200.0  # 1 September 2011, UTC
AHEAD_DAYS = 28


@cache
def sample() -> LoadedData:
    """Load it once."""
    return load_bundled()


def events_of(person: int) -> list[Event]:
    """Give what one customer did, as an app would track it."""
    loaded = sample()
    own = loaded.interactions.of_person(person)
    return [
        Event(
            kind=EVENT_KINDS[own.kinds[row]],
            item_id=loaded.catalogue.items[own.items[row]].item_id,
            time_s=float(own.times_s[row]),
            quantity=float(own.quantities[row]) or None,
            price=None if math.isnan(own.prices[row]) else float(own.prices[row]),
            event_id=f"line-{row}",
        )
        for row in range(len(own))
    ]


@cache
def regulars() -> list[tuple[list[Event], list[Event]]]:
    """Give each customer's events before the cut and after; those who bought on enough days."""
    found = []
    for person in range(sample().interactions.n_people):
        events = events_of(person)
        before = [event for event in events if event.time_s < CUT_S]
        if len({event.time_s // DAY_S for event in before}) >= MIN_PURCHASE_DAYS:
            found.append((before, [event for event in events if event.time_s >= CUT_S]))
    return found


def test_home_anticipates_for_a_customer_of_the_sample(tmp_path: Path) -> None:
    """A home that heard a year of invoices says what is due, in the shop's words."""
    loaded = sample()
    before = loaded.interactions.times_s < CUT_S
    person = int(np.bincount(loaded.interactions.users[before]).argmax())
    events = [event for event in events_of(person) if event.time_s < CUT_S]
    with Homebody.open(
        tmp_path / "home",
        catalogue=loaded.catalogue,
        key_store=MemoryKeyStore(),
        clock=FixedClock(CUT_S),
    ) as home:
        with pytest.raises(ConsentRequiredError):
            home.anticipate()
        home.consent.grant("personalise")
        assert home.anticipate() == ()
        home.track_many(events)
        found = home.anticipate()
        assert {one.kind for one in found} >= {"replenishment", "churn", "spend"}
        assert found == anticipated(events, loaded.catalogue, now_s=CUT_S)
        assert home.anticipate() is found
        due = [one for one in found if one.kind == "replenishment"]
        names = {item.item_id: item.name for item in loaded.catalogue.items}
        assert all(names[one.about] in one.sentence for one in due)
        assert "In July you spent" not in " ".join(one.sentence for one in found)
        assert any(one.sentence.startswith("In August you spent") for one in found)
        home.consent.withdraw("personalise")
        with pytest.raises(ConsentRequiredError):
            home.anticipate()


def test_items_that_are_due_are_bought_more_often_than_other_regular_items() -> None:
    """Of items bought on three days or more: those called due come sooner than the others."""
    bought: dict[bool, list[bool]] = {True: [], False: []}
    for before, after in regulars():
        found = anticipated(before, sample().catalogue, now_s=CUT_S)
        due = {one.about for one in found if one.kind == "replenishment"}
        days: dict[str, set[float]] = {}
        for event in before:
            days.setdefault(str(event.item_id), set()).add(event.time_s // DAY_S)
        soon = {e.item_id for e in after if e.time_s < CUT_S + AHEAD_DAYS * DAY_S}
        for item, on in days.items():
            if len(on) >= MIN_PURCHASE_DAYS:
                bought[item in due].append(item in soon)
    rates = {which: float(np.mean(happened)) for which, happened in bought.items()}
    assert min(len(happened) for happened in bought.values()) > 300
    assert rates[True] > 1.2 * rates[False]


def test_churn_risk_orders_customers_by_whether_they_come_back() -> None:
    """The area under the curve for no further purchase in the data is above 0.6."""
    risks, gone = [], []
    for before, after in regulars():
        [risk] = [
            one.value
            for one in anticipated(before, sample().catalogue, now_s=CUT_S)
            if one.kind == "churn"
        ]
        risks.append(risk)
        gone.append(float(not after))
    assert area_under_roc(np.array(risks), np.array(gone)) > 0.6


def test_next_category_is_right_more_often_than_one_of_their_categories_at_random() -> None:
    """Where one is named, the next invoice has it more often than it has an average category."""
    catalogue = sample().catalogue
    hits, chance = [], []
    for before, after in regulars():
        named = [
            one.about
            for one in anticipated(before, catalogue, now_s=CUT_S)
            if one.kind == "category"
        ]
        if not named or not after:
            continue
        first_s = after[0].time_s
        there = {
            catalogue.items[catalogue.position[str(event.item_id)]].category
            for event in after
            if event.time_s == first_s
        } - {""}
        before_all = {
            catalogue.items[catalogue.position[str(event.item_id)]].category for event in before
        } - {""}
        hits.append(named[0] in there)
        chance.append(len(there & before_all) / len(before_all))
    assert np.mean(hits) > np.mean(chance)
