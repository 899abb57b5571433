"""Anticipation: right where enough is known, silent where it is not."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.intelligence.anticipation import (
    CDNOW,
    DAY_S,
    ChurnParameters,
    Purchase,
    chance_alive,
    churn_risk,
    next_category,
    replenishment_due,
    spend_insight,
)
from client_sdk.signals.digest import Digest
from client_sdk.signals.events import Event
from client_sdk.testing import sample_catalogue


def _bought(days: list[int], item_id: str = "oats") -> list[Purchase]:
    return [Purchase(time_s=day * DAY_S + 3_600, item_id=item_id) for day in days]


def test_replenishment_regular_item_is_due_when_its_time_has_come() -> None:
    """Every 7 days: nothing said on the day before, due on the day, overdue after."""
    bought = _bought([0, 7, 14, 21])
    assert replenishment_due(bought, now_s=27 * DAY_S) == ()
    (due,) = replenishment_due(bought, now_s=30 * DAY_S, names={"oats": "rolled oats"})
    assert (due.kind, due.about, due.value, due.unit) == (
        "replenishment",
        "oats",
        2.0,
        "days overdue",
    )
    assert due.confidence == pytest.approx(4 / 5)
    assert due.sentence == (
        "You buy rolled oats about every 7 days, and last bought it 9 days ago: you may need it "
        "again."
    )


def test_replenishment_confidence_is_the_share_of_shorter_gaps() -> None:
    """Gaps 2, 4, 10 and 5 days gone: two of three were shorter, so (2 + 1) / (3 + 2)."""
    (due,) = replenishment_due(_bought([0, 2, 6, 16]), now_s=21.5 * DAY_S)
    assert due.confidence == pytest.approx(3 / 5)
    assert due.value == 5 - 4
    assert replenishment_due(_bought([0, 2, 6, 16]), now_s=21.5 * DAY_S, least=0.61) == ()


@pytest.mark.parametrize(
    ("days", "now"),
    [
        ([], 30),
        ([0, 7], 30),
        ([0, 0, 7, 7], 30),
        ([0, 7, 14], 14 + 22),
        ([0, 7, 40], 30),
    ],
    ids=["nothing", "two days", "two days, four times", "habit ended", "third not yet"],
)
def test_replenishment_too_little_known_is_silence(days: list[int], now: int) -> None:
    """Less than three days of purchase, or a habit that ended."""
    assert replenishment_due(_bought(days), now_s=now * DAY_S) == ()


def test_replenishment_agrees_with_the_features() -> None:
    """Cycle and last day are those of the person's feature vector, for the items in both."""
    rng = np.random.default_rng(3)
    catalogue = sample_catalogue()
    events = [
        Event(kind="purchase", item_id=item.item_id, time_s=day * DAY_S)
        for item in catalogue.items
        for day in np.cumsum(rng.integers(1, 9, 6)).tolist()
    ]
    digest, now_s = Digest(), 40.5 * DAY_S
    digest.add(sorted(events, key=lambda event: event.time_s))
    vector = digest.features(catalogue, now_s=now_s)
    cycles = vector.map("replenishment_cycle_days")
    last = vector.map("replenishment_last_day")
    bought = [Purchase(time_s=e.time_s, item_id=str(e.item_id)) for e in events]
    found = {due.about: due for due in replenishment_due(bought, now_s=now_s, least=0.0)}
    assert set(found) == set(cycles)
    assert len(found) >= 3
    for item_id, due in found.items():
        assert due.value == pytest.approx(40 - last[item_id] - cycles[item_id])


def _alive_by_integration(x: int, t: float, weeks: float, p: ChurnParameters) -> float:
    """Weigh both ways to have bought so, over all rates and chances of leaving: no closed form."""
    rates = np.exp(np.linspace(-14, 4, 4_000))[:, None]
    leave = (np.arange(2_000) + 0.5)[None, :] / 2_000
    prior = rates ** (p.r - 1) * np.exp(-p.alpha * rates) * rates
    prior = prior * leave ** (p.a - 1) * (1 - leave) ** (p.b - 1)
    stayed = (1 - leave) ** x * rates**x * np.exp(-rates * weeks)
    left = leave * (1 - leave) ** (x - 1) * rates**x * np.exp(-rates * t)
    return float((prior * stayed).sum() / (prior * (stayed + left)).sum())


@pytest.mark.parametrize(
    ("x", "t", "weeks"), [(1, 2.0, 10.0), (2, 30.43, 38.86), (5, 20.0, 20.0), (9, 12.0, 40.0)]
)
@pytest.mark.parametrize("parameters", [CDNOW, ChurnParameters(r=1.5, alpha=3.0, a=2.0, b=4.0)])
def test_chance_alive_agrees_with_numerical_integration(
    x: int, t: float, weeks: float, parameters: ChurnParameters
) -> None:
    """The closed form is the model's, computed without it."""
    closed = chance_alive(repeats=x, last_week=t, weeks=weeks, parameters=parameters)
    assert closed == pytest.approx(_alive_by_integration(x, t, weeks, parameters), abs=2e-3)


@given(st.integers(1, 200), st.floats(0, 500), st.floats(0, 500), st.floats(0, 500))
def test_chance_alive_falls_with_silence(x: int, t: float, first: float, more: float) -> None:
    """A chance, and longer silence never raises it."""
    early = chance_alive(repeats=x, last_week=t, weeks=t + first)
    late = chance_alive(repeats=x, last_week=t, weeks=t + first + more)
    assert 0 <= late <= early <= 1


def test_chance_alive_without_repeats_is_1_and_nonsense_is_refused() -> None:
    """The model has nothing to go by before a second purchase."""
    assert chance_alive(repeats=0, last_week=0.0, weeks=100.0) == 1.0
    for x, t, weeks in ((-1, 0.0, 1.0), (1, 2.0, 1.0), (1, -1.0, 1.0), (1, 0.0, math.inf)):
        with pytest.raises(ValueError, match="expected"):
            chance_alive(repeats=x, last_week=t, weeks=weeks)
    with pytest.raises(ValueError, match="alpha"):
        ChurnParameters(alpha=0.0)


def test_churn_risk_says_what_it_rests_on() -> None:
    """Risk, evidence and a sentence without a guess in it; several lines of a day count once."""
    bought = _bought([0, 0, 10, 20, 30]) + _bought([10, 500], "tea")
    found = churn_risk(bought, now_s=100 * DAY_S)
    assert found is not None
    alive = chance_alive(repeats=3, last_week=30 / 7, weeks=100 / 7)
    assert found.value == pytest.approx(1 - alive)
    assert found.confidence == pytest.approx(3 / 5)
    assert found.sentence == "You used to buy about every 10 days, and last did 70 days ago."
    sooner = churn_risk(bought, now_s=40 * DAY_S)
    assert sooner is not None
    assert sooner.value < found.value
    assert churn_risk(_bought([0, 0, 10]), now_s=100 * DAY_S) is None


def test_next_category_by_hand() -> None:
    """Tea led to mugs 3 times and to oats once; of the changes not into tea 4 of 5 were mugs'."""
    visits = ["tea", "mugs", "tea", "mugs", "tea", "oats", "mugs", "tea", "mugs", "tea"]
    found = next_category(visits, smoothing=2.0)
    assert found is not None
    assert found.about == "mugs"
    share = 4 / 5
    assert found.value == pytest.approx((3 + 2 * share) / (4 + 2))
    assert found.confidence == found.value


@pytest.mark.parametrize(
    "visits",
    [
        [],
        ["tea"] * 20,
        ["tea", "mugs", "tea", "mugs", "tea"],
        ["tea", "mugs"] * 5 + ["oats"],
        ["tea", "mugs", "tea", "oats", "tea", "mugs", "tea", "oats", "tea"],
    ],
    ids=["nothing", "no change", "four changes", "last never left", "a tie"],
)
def test_next_category_too_little_known_is_silence(visits: list[str]) -> None:
    """No habit, no guess."""
    assert next_category(visits) is None


def test_next_category_repeats_and_unknown_ones_do_not_count() -> None:
    """Two of one category in a row are no change, and neither is one without a name."""
    plain = next_category(["tea", "mugs"] * 4 + ["tea"])
    noisy = next_category(["tea", "", "tea", "mugs", "mugs"] + ["tea", "mugs", ""] * 3 + ["tea"])
    assert plain == noisy is not None


def _time_s(month: int, day: int, hour: int = 12) -> float:
    return dt.datetime(2025, month, day, hour, tzinfo=dt.UTC).timestamp()


def _spent(*lines: tuple[int, int, float | None]) -> list[Purchase]:
    return [
        Purchase(time_s=_time_s(month, day), item_id="x", category="tea", amount=amount)
        for month, day, amount in lines
    ]


ENOUGH = ((3, 9, 1.0), (4, 2, 20.0), (4, 20, 30.0), (5, 3, 29.0), (5, 30, 30.0))


def test_spend_insight_compares_two_whole_months() -> None:
    """50 in April, 59 in May: 18 % more, said in June."""
    other = Purchase(time_s=_time_s(5, 8), item_id="y", category="mugs", amount=99.0)
    found = spend_insight([*_spent(*ENOUGH), other], category="tea", now_s=_time_s(6, 2))
    assert found is not None
    assert found.value == pytest.approx(0.18)
    assert found.confidence == 0.5
    assert found.sentence == "In May you spent 18 % more on tea than in April."


def test_spend_insight_less_is_said_as_less_across_the_year() -> None:
    """December is before January."""
    lines = [
        Purchase(
            time_s=_time_s(m, d) - 365 * DAY_S * (m > 6), item_id="x", category="tea", amount=a
        )
        for m, d, a in ((11, 5, 1.0), (12, 5, 40.0), (12, 9, 40.0), (1, 5, 30.0), (1, 9, 30.0))
    ]
    found = spend_insight(lines, category="tea", now_s=_time_s(2, 1))
    assert found is not None
    assert found.sentence == "In January you spent 25 % less on tea than in December."


@pytest.mark.parametrize(
    "lines",
    [
        ENOUGH[1:],
        ENOUGH[:2] + ENOUGH[3:],
        ENOUGH[:4],
        (*ENOUGH, (5, 8, None)),
        (*ENOUGH, (4, 8, 8.0)),
        ((3, 9, 1.0), (4, 2, 0.0), (4, 20, 0.0), (5, 3, 29.0), (5, 30, 30.0)),
    ],
    ids=[
        "April may not be whole",
        "one purchase in April",
        "one in May",
        "an amount unknown",
        "too small a change",
        "nothing to compare with",
    ],
)
def test_spend_insight_too_little_known_is_silence(
    lines: tuple[tuple[int, int, float | None], ...],
) -> None:
    """Each rule of the docstring, one purchase short."""
    assert spend_insight(_spent(*lines), category="tea", now_s=_time_s(6, 2)) is None


def test_spend_insight_months_begin_where_the_person_is() -> None:
    """Late on 31 May in UTC is June in Tokyo: then May has one purchase, and nothing is said."""
    late = Purchase(time_s=_time_s(5, 31, hour=20), item_id="x", category="tea", amount=30.0)
    lines = [*_spent(*ENOUGH[:4]), late]
    now_s = _time_s(6, 2)
    assert spend_insight(lines, category="tea", now_s=now_s) is not None
    assert spend_insight(lines, category="tea", now_s=now_s, utc_offset_s=9 * 3600) is None
    with pytest.raises(ValueError, match="utc_offset_s"):
        spend_insight(lines, category="tea", now_s=now_s, utc_offset_s=10**6)


@given(
    st.lists(
        st.builds(
            Purchase,
            time_s=st.floats(0, 253_402_300_799),
            item_id=st.sampled_from("abc"),
            category=st.sampled_from(["", "tea", "mugs"]),
            amount=st.none() | st.floats(0, 1e12),
        ),
        max_size=30,
    ),
    st.floats(0, 253_402_300_799),
    st.integers(-54_000, 54_000),
)
def test_anticipation_any_life_gives_finite_numbers_or_silence(
    life: list[Purchase], now_s: float, offset_s: int
) -> None:
    """Confidences are from 0 to 1 and sentences end, at any time on any clock."""
    found = [
        *replenishment_due(life, now_s=now_s, least=0.0),
        churn_risk(life, now_s=now_s),
        next_category([bought.category for bought in life]),
        spend_insight(life, category="tea", now_s=now_s, utc_offset_s=offset_s),
    ]
    for one in found:
        if one is not None:
            assert 0 <= one.confidence <= 1
            assert math.isfinite(one.value)
            assert one.sentence.endswith(".")


@pytest.mark.parametrize(
    "change",
    [
        {"time_s": -1.0},
        {"time_s": math.nan},
        {"item_id": ""},
        {"amount": -1.0},
        {"amount": math.inf},
    ],
)
def test_purchase_that_is_none_is_refused(change: dict[str, Any]) -> None:
    """Each field is named."""
    with pytest.raises(ValueError, match=next(iter(change))):
        Purchase(**{"time_s": 0.0, "item_id": "x", **change})


@pytest.mark.parametrize("call", [lambda: next_category([], smoothing=0.0)])
def test_next_category_smoothing_that_is_none_is_refused(call: Callable[[], object]) -> None:
    """Without smoothing one change would be a certainty."""
    with pytest.raises(ValueError, match="smoothing"):
        call()
