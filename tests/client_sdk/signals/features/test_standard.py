"""The standard features mean what their table says, and the README shows that table."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from client_sdk.signals.digest import Digest
from client_sdk.signals.events import Event, EventKind
from client_sdk.signals.features import MAPS, STANDARD, Context
from client_sdk.signals.features.standard import UNKNOWN_CODE
from client_sdk.signals.features.subkinds import SUBKIND_OF_KIND
from client_sdk.signals.features.words import SAID
from tests.client_sdk.signals.features import oracle

README = Path(__file__).parents[4] / "client_sdk/signals/features/README.md"
DAY_S = 86_400.0
NOW_S = 20_050 * DAY_S + 43_200.0


@given(
    life=oracle.lives,
    now_s=st.floats(oracle.FIRST_DAY * DAY_S, (oracle.FIRST_DAY + oracle.N_DAYS + 9) * DAY_S),
    context=oracle.contexts,
    size=st.sampled_from([1, 48, 1000]),
)
@example(life=[], now_s=0.0, context=Context(), size=1)
def test_standard_features_of_any_life_are_those_of_the_oracle(
    life: list[Event], now_s: float, context: Context, size: int
) -> None:
    """Each feature equals its definition, written once more without any state."""
    digest = Digest()
    for start in range(0, len(life), size):
        digest.add(life[start : start + size])
    vector = digest.features(oracle.CATALOGUE, now_s=now_s, context=context)
    expected = oracle.standard(life, now_s=now_s, context=context)
    assert list(expected) == [definition.name for definition in STANDARD]
    for name, value in expected.items():
        assert vector.get(name) == (None if value is None else pytest.approx(value, abs=1e-9)), name
    assert np.isfinite(vector.values).all()


def test_standard_features_of_nobody_are_their_unknown_values() -> None:
    """No number for "never" or "not known" comes as a surprise."""
    vector = Digest().features(oracle.CATALOGUE, now_s=NOW_S)
    for definition, value, known in zip(STANDARD, vector.values, vector.known, strict=True):
        assert value == (0.0 if known else definition.unknown), definition.name
    assert vector.get("events_7_days") == 0.0
    assert vector.get("days_since_last_purchase") is None
    assert dict(zip(vector.names, vector.values, strict=True))["weekday"] == UNKNOWN_CODE


def test_standard_definitions_name_each_other_once_and_known_kinds() -> None:
    """Names are unique, sources are kinds that exist."""
    names = [definition.name for definition in STANDARD]
    assert len(set(names)) == len(names)
    kinds = {kind.value for kind in EventKind}
    assert set(SUBKIND_OF_KIND) == kinds
    assert {source for definition in STANDARD for source in definition.sources} <= kinds


@pytest.mark.parametrize("definition", STANDARD, ids=lambda definition: definition.name)
def test_standard_codes_and_unknown_values_have_a_bin(definition: object) -> None:
    """A list of codes has one bin each, and every window is one that the ring can answer."""
    found = next(each for each in STANDARD if each is definition)
    if found.codes:
        assert len(found.bins) == len(found.codes) + 1
    assert found.window_days is None or found.window_days <= 31


def test_words_every_standard_feature_has_its_sentence() -> None:
    """What is known can be said."""
    assert {definition.name for definition in STANDARD} == SAID


def test_readme_table_is_the_definitions() -> None:
    """The README's rows are printed from the code; this is how they look."""
    text = README.read_text(encoding="utf-8")
    for definition in STANDARD:
        sources = ", ".join(definition.sources) if len(definition.sources) < 9 else "all kinds"
        row = (
            f"| `{definition.name}` | {definition.meaning} | {sources or 'the moment'} "
            f"| {definition.window} | {definition.mode} | {definition.sensitivity} "
            f"| {definition.unit} | {definition.unknown:g} |"
        )
        assert row in text, row
    for name, meaning in MAPS.items():
        assert f"| `{name}` | {meaning} |" in text
    assert text.count("\n| `") == len(STANDARD) + len(MAPS)


def test_standard_late_event_lands_on_its_day_and_an_old_one_in_totals_only() -> None:
    """A late event is in the windows that hold its day; one older than the ring is in no window."""
    digest = Digest()
    for days_ago in (0, 5, 31, 40):
        digest.add([Event(kind="purchase", item_id="mug", time_s=NOW_S - days_ago * DAY_S)])
    vector = digest.features(oracle.CATALOGUE, now_s=NOW_S)
    assert vector.get("events_7_days") == 2.0
    assert vector.get("purchases_30_days") == 2.0
    assert vector.get("purchases_ever") == 4.0


def test_standard_alternatives_of_one_category_count_as_comparison() -> None:
    """Two teas on one day are compared; a tea and a mug, or one tea twice, are not."""
    compared = [
        [("green", 0), ("black", 0), ("mint", 0)],
        [("green", 0), ("mug", 0), ("green", 0)],
        [("green", 0), ("black", 1)],
    ]
    found = []
    for views in compared:
        digest = Digest()
        digest.add(
            [
                Event(kind="product_view", item_id=item, time_s=NOW_S - days_ago * DAY_S)
                for item, days_ago in views
            ]
        )
        found.append(digest.features(oracle.CATALOGUE, now_s=NOW_S).get("comparison_views_7_days"))
    assert found == [2.0, 0.0, 0.0]


def test_standard_habit_that_ended_is_not_due() -> None:
    """Above three cycles the item is left out, else it would be "most due" for ever."""
    digest = Digest()
    digest.add(
        [
            Event(kind="purchase", item_id=item, time_s=NOW_S - days_ago * DAY_S)
            for item, ago in (("mug", (40, 39, 38)), ("green", (36, 24, 12)))
            for days_ago in ago
        ]
    )
    at_the_end = digest.features(oracle.CATALOGUE, now_s=NOW_S - 35 * DAY_S)
    assert at_the_end.map("replenishment_due") == {"green": 0.0, "mug": 3.0}
    vector = digest.features(oracle.CATALOGUE, now_s=NOW_S)
    assert vector.get("replenishment_due") == 1.0
    assert vector.get("replenishment_cycle_days") == 12.0
    assert vector.map("replenishment_cycle_days") == {"green": 12.0}
    assert vector.map("replenishment_last_day") == {"green": 20_038.0}
    assert "Something that you buy again and again is due." in vector.in_words()


def test_standard_prices_of_the_cheapest_and_the_dearest_are_the_ends() -> None:
    """Who buys below everything has 1, who pays more than for anything 0."""
    for price, expected in ((0.5, 1.0), (99.0, 0.0), (4.0, 1 - 1 / 3)):
        digest = Digest()
        digest.add([Event(kind="purchase", item_id="green", time_s=NOW_S, price=price)])
        found = digest.features(oracle.CATALOGUE, now_s=NOW_S).get("price_sensitivity")
        assert found == pytest.approx(expected)
