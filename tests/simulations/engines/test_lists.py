"""Lists of many people at once are the devices': scores, taste, and where targets stand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client_sdk.intelligence import History, ItemCategories, ItemWords, RankerTable, score_all
from client_sdk.intelligence.history import SESSION_GAP_S
from client_sdk.intelligence.history import taste_weights as taste_of_one
from client_sdk.intelligence.ranker import solve_private_vector
from client_sdk.wire.table import RankerSettings
from simulations.arms import Arms
from simulations.data.bundled import load_bundled
from simulations.engines.columns import HistoryColumns
from simulations.engines.evaluation import draw_negatives, evaluate_lists, targets_of
from simulations.engines.lists import Ranker, place_targets, score_block, taste_weights
from simulations.evaluation.metrics import discounted_gains, hit_chances, measure, stand
from simulations.evaluation.split import NO_ITEM, Split, draw_targets, hold_out
from simulations.population import SIMULATED_NOW_S, histories_of

PEOPLE = 500
SOLVE = RankerSettings(form="ridge", ridge=0.3, weighting="log", half_life_days=30.0)
PROJECT = RankerSettings(category_weight=0.4, word_weight=0.3, popularity_weight=0.05)


@pytest.fixture(scope="module")
def shop() -> tuple[Arms, Split]:
    """The bundled customers, their training part, and what they can be shown."""
    data = load_bundled()
    split = hold_out(data.interactions)
    histories = histories_of(split, data.catalogue)
    return Arms(train=split.train, histories=histories, catalogue=data.catalogue), split


def table_of(n_items: int, settings: RankerSettings, *, rank: int = 12) -> RankerTable:
    """A table with self weights, popularity, rows of zeros and rows that are twins."""
    rng = np.random.default_rng(4)
    factors = (rng.standard_normal((n_items, rank)) * 0.2).astype(np.float32)
    factors[::5] = 0.0
    factors[1::5] = factors[1]
    squares = np.minimum(np.einsum("nr,nr->n", factors, factors), 0.8)
    return RankerTable.from_arrays(
        factors=factors,
        self_weight=squares,
        scale=1.0 / (1.0 - squares),
        popularity=np.floor(rng.random(n_items) * 4) / 4,
        settings=settings,
    )


def ranker_of(arms: Arms, settings: RankerSettings) -> Ranker:
    """That table, and what is said of the items."""
    items = arms.catalogue.items
    return Ranker(
        table=table_of(len(items), settings),
        categories=ItemCategories.from_names([each.category for each in items]),
        words=ItemWords.from_items(items),
    )


def score_of_device(ranker: Ranker, history: History) -> np.ndarray:
    """One person's list, by the code on their device."""
    table = ranker.table
    u = solve_private_vector(table, history)
    return score_all(table, table.settings, u, history, ranker.categories, words=ranker.words)


@pytest.mark.parametrize("settings", [SOLVE, PROJECT], ids=["solve", "project"])
def test_score_block_equals_the_device_within_its_rounding(
    shop: tuple[Arms, Split], settings: RankerSettings
) -> None:
    """Everybody's scores are the device's, a tenth of the stated rounding apart at most."""
    arms = shop[0]
    histories = [History.empty(now_s=SIMULATED_NOW_S), *arms.histories[: PEOPLE // 2]]
    ranker = ranker_of(arms, settings)
    found = score_block(
        HistoryColumns.from_histories(histories, now_s=SIMULATED_NOW_S), ranker=ranker
    )
    for row, history in enumerate(histories):
        theirs = score_of_device(ranker, history)
        apart = float(np.abs(found.values[row] - theirs).max())
        assert apart <= 0.1 * found.rounding[row], row
        assert found.rounding[row] <= 1e-3 * float(np.ptp(theirs)), "few are in doubt"


@pytest.mark.parametrize("settings", [SOLVE, PROJECT], ids=["solve", "project"])
def test_evaluate_lists_equals_the_metrics_of_the_arms(
    shop: tuple[Arms, Split], settings: RankerSettings
) -> None:
    """All protocols, on real customers, with ties: what an arm of the same scores gets, to 1e-9."""
    arms, split = shop
    ranker = ranker_of(arms, settings)
    targets = draw_targets(split, seed=5)
    kept = targets.next_people < PEOPLE
    targets = replace(
        targets,
        next_people=targets.next_people[kept],
        next_items=targets.next_items[kept],
        negatives=targets.negatives[kept],
        discover_people=targets.discover_people[targets.discover_people < PEOPLE],
        discover_items=targets.discover_items[targets.discover_people < PEOPLE],
    )

    def arm(people: np.ndarray) -> np.ndarray:
        return np.stack([score_of_device(ranker, arms.histories[person]) for person in people])

    columns = HistoryColumns.from_histories(arms.histories, now_s=SIMULATED_NOW_S)
    ours = evaluate_lists(columns, targets, ranker=ranker)
    theirs = measure(arm, split, targets)
    for protocol, metrics in theirs.items():
        assert ours[protocol] == pytest.approx(metrics, abs=1e-9), protocol
        assert metrics["hr@10"] > 0.0


def test_place_targets_twins_are_settled_as_on_the_device() -> None:
    """Where twins of the target are in the list, rounding has no say: each person as the device."""
    rng = np.random.default_rng(8)
    factors = rng.standard_normal((40, 6)).astype(np.float32)
    factors[10:30] = factors[10]
    table = RankerTable.from_arrays(factors=factors, settings=SOLVE)
    histories, targets = [], np.zeros(120, np.int32)
    for person in range(120):
        items = rng.choice(40, 5, replace=False)
        histories.append(History.from_events(items=items, times_s=items.astype(float), now_s=50.0))
        targets[person] = rng.choice(np.setdiff1d(np.arange(10, 30), items))
    found = place_targets(
        HistoryColumns.from_histories(histories, now_s=50.0), targets, ranker=Ranker(table=table)
    )
    tied = 0
    for person, history in enumerate(histories):
        scores = score_all(table, SOLVE, solve_private_vector(table, history), history)
        new = ~np.isin(np.arange(40), history.items)
        theirs = stand(scores[None], targets[person : person + 1], new[None])
        if theirs.ahead[0] < 10:
            assert (found.ahead[person], found.tied[person]) == (theirs.ahead[0], theirs.tied[0])
        tied += int(theirs.tied[0] > 0)
    assert tied > 100


def test_taste_weights_equal_the_device_in_and_out_of_a_session() -> None:
    """Sessions that last, that are over, of one item, and clocks that are ahead."""
    rng = np.random.default_rng(1)
    now_s, histories = 1e9, [History.empty(now_s=1e9)]
    for person in range(200):
        count = int(rng.integers(1, 12))
        ages = rng.exponential(SESSION_GAP_S / 2, count).cumsum() + (person % 3) * SESSION_GAP_S / 2
        ages[-1] -= 5e5 * (person % 5 == 0)
        items = rng.choice(60, count, replace=False)
        histories.append(History.from_events(items=items, times_s=now_s - ages, now_s=now_s))
    columns = HistoryColumns.from_histories(histories, now_s=now_s)
    ours = taste_weights(columns, half_life_days=3.0)
    theirs = np.concatenate([taste_of_one(each, half_life_days=3.0) for each in histories])
    np.testing.assert_array_equal(ours, theirs)
    assert 20 < sum(each.in_session for each in histories) < 190


def test_draw_negatives_follow_the_person_and_not_the_block() -> None:
    """Ninety-nine never had, none twice, none the target, whoever else is asked; else the rest."""
    rng = np.random.default_rng(2)
    histories = [
        History.from_events(items=rng.choice(300, size, replace=False), times_s=np.arange(size),
                            now_s=400.0)
        for size in (1, 40, 150, 290, 0)
    ]  # fmt: skip
    columns = HistoryColumns.from_histories(histories, now_s=400.0)
    wanted = np.array([np.setdiff1d(np.arange(300), each.items)[0] for each in histories], np.int32)
    everyone = np.arange(5)
    drawn = draw_negatives(columns, wanted, everyone, n_items=300, seed=7)
    for person, history in enumerate(histories):
        mine = drawn[person][drawn[person] != NO_ITEM]
        free = np.setdiff1d(np.arange(300), [*history.items, wanted[person]])
        assert len(set(mine.tolist())) == len(mine) == min(99, len(free))
        assert set(mine.tolist()) <= set(free.tolist())
    few = np.array([3, 1])
    again = draw_negatives(columns, wanted[few], few, n_items=300, seed=7)
    np.testing.assert_array_equal(again, drawn[few])
    other = draw_negatives(columns, wanted, everyone, n_items=300, seed=8)
    assert not np.array_equal(other, drawn)
    # The rule, with Python's own whole numbers, for one person.
    keys = {item: mix(mix(7 + 1) + item) for item in range(300)}
    free = sorted(set(range(300)) - {*histories[1].items.tolist(), int(wanted[1])}, key=keys.get)
    assert drawn[1].tolist() == free[:99]
    with pytest.raises(ValueError, match="seed"):
        draw_negatives(columns, wanted, everyone, n_items=300, seed=-1)


def mix(value: int) -> int:
    """SplitMix64's finaliser, as published."""
    mask = 2**64 - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def test_targets_of_one_negative_less_changes_the_sampled_metric() -> None:
    """The protocols are told apart, and one negative less may be another result, a better one."""
    rng = np.random.default_rng(3)
    table = table_of(200, replace(SOLVE, own_weight=0.0), rank=6)
    histories = [
        History.from_events(items=rng.choice(200, 8, replace=False), times_s=np.arange(8.0),
                            now_s=9.0)
        for _ in range(60)
    ]  # fmt: skip
    columns = HistoryColumns.from_histories(histories, now_s=9.0)
    wanted = np.array(
        [rng.choice(np.setdiff1d(np.arange(200), each.items)) for each in histories], np.int32
    )
    targets = targets_of(columns, wanted, np.arange(60), n_items=200, seed=1)
    ranker = Ranker(table=table)
    found = evaluate_lists(columns, targets, ranker=ranker)
    assert found["sampled"]["hr@10"] > found["discover"]["hr@10"] >= found["next"]["hr@10"]
    places = place_targets(columns, wanted, ranker=ranker)
    assert found["discover"]["hr@10"] == pytest.approx(float(hit_chances(places).mean()))
    assert found["discover"]["ndcg@10"] == pytest.approx(float(discounted_gains(places).mean()))
    others = []
    for column in range(99):
        fewer = targets.negatives.copy()
        fewer[:, column] = NO_ITEM
        others.append(evaluate_lists(columns, replace(targets, negatives=fewer), ranker=ranker))
    assert all(other["next"] == found["next"] for other in others)
    better = [other["sampled"]["ndcg@10"] > found["sampled"]["ndcg@10"] for other in others]
    assert any(better)
    assert all(other["sampled"]["hr@10"] >= found["sampled"]["hr@10"] for other in others)
