"""Diagrams, simulation and the store."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from client_sdk.experience.journeys import (
    Journey,
    JourneyStore,
    Runner,
    StaleJourneyError,
    simulate,
)
from client_sdk.signals.events import Event
from client_sdk.signals.vault import Record, Vault
from client_sdk.testing import MemoryKeyStore, sample_catalogue

DAY_S = 86_400.0
LOCK: AbstractContextManager[None] = nullcontext()


@pytest.fixture
def vault(tmp_path: Path, keys: MemoryKeyStore) -> Iterator[Vault]:
    """A new vault, closed after the test."""
    opened = Vault.open(tmp_path / "vault", keys)
    yield opened
    opened.close()


def test_mermaid_has_every_state_and_transition(cart: Journey) -> None:
    """The text that a page renders."""
    lines = cart.diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert "    [*] --> new" in lines
    assert "    bought --> [*]" in lines
    assert sum(" --> " in line for line in lines) == len(cart.transitions) + 2


def test_svg_is_whole_has_every_state_and_nothing_active(cart_text: str) -> None:
    """Parsed as XML: a box a state, an arrow a transition, a number for each; text escaped."""
    journey = Journey.from_toml(cart_text.replace("A cart", "A <script>x</script> & cart"))
    root = ET.fromstring(journey.svg())  # noqa: S314 - made above
    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert set(journey.states) <= set(texts)
    assert names.count("circle") == 2 * len(journey.transitions)
    arrows = [one for one in root.iter() if one.get("class") == "e"]
    assert len(arrows) == len(journey.transitions)
    assert "script" not in names
    assert "A <script>x</script> & cart" in texts
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for box in (one for one in root.iter() if one.tag.endswith("text")):
        assert float(box.get("y", 0)) <= height
        assert float(box.get("x", 0)) <= width


def person(*rows: tuple[str, float]) -> list[Event]:
    """Somebody's events, by kind and day."""
    return [Event(kind=kind, time_s=day * DAY_S, item_id="mug") for kind, day in rows]


def test_simulate_counts_people_states_messages_and_weeks(cart: Journey) -> None:
    """Counted by hand: one looks, one buys, one is reminded, one is nobody."""
    done: list[int] = []
    report = simulate(
        cart,
        [
            person(("product_view", 0)),
            person(("cart", 0), ("purchase", 1)),
            person(("cart", 0), ("cart", 1)),
            [],
        ],
        catalogue=sample_catalogue(),
        opt_ins=["sms"],
        tail_s=14 * DAY_S,
        progress=done.append,
    )
    assert (report.people, report.entered, report.finished) == (3, 2, 1)
    assert report.reached == {"new": 3, "carted": 2, "reminded": 1, "bought": 1}
    assert report.messages == {"web": 4, "sms": 1}
    assert report.busiest_week == 3
    assert report.person_weeks == pytest.approx((14 + 15 + 15) / 7)
    assert report.messages_per_person_week == pytest.approx(5 / (44 / 7))
    assert done == [1, 2, 3, 4]
    assert report.to_json()["messages"] == {"web": 4, "sms": 1}
    assert "2 of 3 people leave the start; 1 finish." in report.in_words()


def test_simulate_without_opt_in_sends_nothing_and_says_why(cart: Journey) -> None:
    """Who opened nothing gets nothing."""
    report = simulate(cart, [person(("cart", 0))], catalogue=sample_catalogue())
    assert report.messages["sms"] == 0
    assert any("did not opt in" in reason for reason in report.withheld)


def test_simulate_reads_features_where_a_condition_asks(cart_text: str) -> None:
    """The third view of a week moves; two do not."""
    views_a_week = 'on = "product_view"\nwhen = [{ feature = "events_7_days", at_least = 3 }]'
    text = cart_text.replace('on = "cart"', views_a_week, 1)
    views = [person(*[("product_view", day) for day in range(n)]) for n in (2, 3)]
    report = simulate(Journey.from_toml(text), views, catalogue=sample_catalogue())
    assert report.reached["carted"] == 1


def test_simulate_events_out_of_order_are_a_mistake(cart: Journey) -> None:
    """The clock does not run backwards."""
    with pytest.raises(ValueError, match="oldest first"):
        simulate(cart, [person(("cart", 3), ("cart", 1))], catalogue=sample_catalogue())
    with pytest.raises(ValueError, match="above 0"):
        simulate(cart, [], catalogue=sample_catalogue(), tick_s=0)


def test_store_keeps_a_state_over_an_opening(
    tmp_path: Path, keys: MemoryKeyStore, cart: Journey
) -> None:
    """Written, closed, opened, read; forgotten."""
    state = Runner(cart).begin(7.0)
    vault = Vault.open(tmp_path / "store", keys)
    JourneyStore(vault=vault, lock=LOCK).write(state)
    vault.close()
    vault = Vault.open(tmp_path / "store", keys)
    store = JourneyStore(vault=vault, lock=LOCK)
    assert store.read("cart") == state
    assert store.read("other") is None
    assert store.forget("cart") == 1
    assert store.read("cart") is None
    vault.close()


def test_store_damaged_state_is_refused(vault: Vault) -> None:
    """What another version wrote is not taken for a state."""
    vault.write(Record(stream="journeys", key="cart", value={"at": "new"}))
    with pytest.raises(StaleJourneyError):
        JourneyStore(vault=vault, lock=LOCK).read("cart")
