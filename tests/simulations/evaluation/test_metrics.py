"""Ranks and what they are worth, against hand counts, brute force and Java LensKit."""

from __future__ import annotations

import csv
import gzip
import itertools
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.data.interactions import DEFAULT_KIND, EVENT_KINDS, IntArray, Interactions
from simulations.evaluation.metrics import (
    ScoreArray,
    Standing,
    discounted_gains,
    expected_gains,
    hit_chances,
    measure,
    stand,
    stand_sampled,
    summarise,
    summarise_arms,
)
from simulations.evaluation.split import NO_ITEM, draw_targets, hold_out

SHARED = Path(os.environ.get("HOMEBODY_SHARED", Path(__file__).parents[4] / "shared"))
LENSKIT = SHARED / "data" / "oracles" / "lenskit"


def purchases(rows: list[tuple[int, int, float, int]], *, n_people: int) -> Interactions:
    """Build interactions from (person, item, time, occasion), already in order; 200 items."""
    users, items, times, occasions = zip(*rows, strict=True)
    return Interactions(
        n_people=n_people,
        n_items=200,
        users=np.array(users, np.int32),
        items=np.array(items, np.int32),
        times_s=np.array(times, np.float64),
        quantities=np.ones(len(rows)),
        prices=np.full(len(rows), np.nan),
        kinds=np.full(len(rows), EVENT_KINDS.index(DEFAULT_KIND), np.int8),
        occasions=np.array(occasions, np.int32),
    )


def of(ahead: int, tied: int = 0) -> Standing:
    """One target's standing."""
    return Standing(ahead=np.array([ahead]), tied=np.array([tied]))


@pytest.mark.parametrize(
    ("ahead", "tied", "hit", "gain"),
    [
        (0, 0, 1.0, 1.0),
        (1, 0, 1.0, 1 / np.log2(3)),
        (9, 0, 1.0, 1 / np.log2(11)),
        (10, 0, 0.0, 0.0),
        (0, 1, 1.0, (1 + 1 / np.log2(3)) / 2),
        (9, 1, 0.5, 1 / np.log2(11) / 2),
        (0, 99, 0.1, sum(1 / np.log2(r + 1) for r in range(1, 11)) / 100),
        (500, 1000, 0.0, 0.0),
    ],
)
def test_gains_known_standing_gives_the_hand_count(
    ahead: int, tied: int, hit: float, gain: float
) -> None:
    """First place, the tenth, the eleventh, ties across the cut, and a constant score."""
    assert hit_chances(of(ahead, tied))[0] == pytest.approx(hit)
    assert discounted_gains(of(ahead, tied))[0] == pytest.approx(gain)


@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=6),
    st.integers(1, 4),
    st.data(),
)
def test_gains_any_scores_are_the_mean_over_all_orders_of_ties(
    scores: list[int], k: int, data: st.DataObject
) -> None:
    """Brute force: every order of the items that keeps the scores falling, each as likely."""
    target = data.draw(st.integers(0, len(scores) - 1))
    ranks = [
        order.index(target) + 1
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    standing = stand(np.array([scores], np.float64), np.array([target], np.int32))
    assert hit_chances(standing, k)[0] == pytest.approx(np.mean([r <= k for r in ranks]))
    gains = [1 / np.log2(r + 1) if r <= k else 0.0 for r in ranks]
    assert discounted_gains(standing, k)[0] == pytest.approx(np.mean(gains))


def test_stand_candidates_leave_out_what_is_not_ranked() -> None:
    """`discover` ranks only what the person never had."""
    scores = np.array([[9.0, 8.0, 7.0, 7.0, 1.0]])
    ranked = np.array([[False, True, True, True, True]])
    standing = stand(scores, np.array([2], np.int32), ranked)
    assert (standing.ahead.tolist(), standing.tied.tolist()) == ([1], [1])


def test_stand_minus_infinity_is_last_and_not_a_number_is_refused() -> None:
    """An arm may forbid an item, but not answer nonsense."""
    scores = np.array([[0.0, -np.inf, -np.inf]])
    assert stand(scores, np.array([1], np.int32)).ahead.tolist() == [1]
    with pytest.raises(ValueError, match="not a number"):
        stand(np.array([[0.0, np.nan]]), np.array([0], np.int32))


def test_stand_wrong_shape_is_refused() -> None:
    """A transposed block is a mistake of the arm."""
    with pytest.raises(ValueError, match="scores must be"):
        stand(np.zeros((2, 3)), np.array([0, 1, 2], np.int32))


def test_stand_sampled_missing_negatives_do_not_count() -> None:
    """A small catalogue has fewer than 99: the filler is no candidate."""
    scores = np.array([[5.0, 1.0, 3.0, 4.0]])
    negatives = np.array([[3, 0, NO_ITEM, NO_ITEM]], np.int32)
    standing = stand_sampled(scores, np.array([2], np.int32), negatives)
    assert (standing.ahead.tolist(), standing.tied.tolist()) == ([2], [0])


def test_measure_knows_the_protocols_apart() -> None:
    """An arm that knows only the past finds what is bought again, and nothing new."""
    rows = [(0, 1, 1.0, 0), (0, 1, 2.0, 1), (1, 2, 1.0, 2), (1, 3, 2.0, 3)]
    split = hold_out(purchases(rows, n_people=2))

    def again(people: IntArray) -> ScoreArray:
        scores = np.zeros((len(people), 200))
        scores[np.arange(len(people)), people + 1] = 1.0
        return scores

    measured = measure(again, split, draw_targets(split, seed=0))
    assert measured["next"]["hr@10"] == pytest.approx((1 + 9 / 199) / 2)
    assert measured["discover"]["hr@10"] == pytest.approx(10 / 199)
    assert measured["sampled"]["hr@10"] == pytest.approx((1 + 10 / 100) / 2)


def test_measure_blocks_do_not_change_the_result() -> None:
    """More people than one block holds, each judged once, and progress is told."""
    rows = [
        row
        for p in range(600)
        for row in ((p, p % 50, 1.0, 2 * p), (p, 60 + p % 50, 2.0, 2 * p + 1))
    ]
    split = hold_out(purchases(rows, n_people=600))
    targets = draw_targets(split, seed=0)
    asked: list[int] = []
    ticks: list[int] = []

    def arm(people: IntArray) -> ScoreArray:
        asked.extend(people.tolist())
        return np.tile(np.arange(200.0), (len(people), 1))

    measured = measure(arm, split, targets, tick=lambda: ticks.append(1))
    assert asked == list(range(600))
    assert len(ticks) == 3
    assert measured["next"]["hr@10"] == 0.0


def test_measure_wrong_number_of_scores_is_refused() -> None:
    """An arm for another catalogue is told so."""
    split = hold_out(purchases([(0, 1, 1.0, 0), (0, 2, 2.0, 1)], n_people=1))
    with pytest.raises(ValueError, match="expected scores"):
        measure(lambda people: np.zeros((len(people), 3)), split, draw_targets(split, seed=0))


def test_measure_nobody_to_ask_becomes_null_in_the_summary() -> None:
    """No number is invented for a protocol without people."""
    split = hold_out(purchases([(0, 1, 1.0, 0)], n_people=1))
    measured = measure(
        lambda people: np.zeros((len(people), 200)), split, draw_targets(split, seed=0)
    )
    assert summarise([measured])["next"]["hr@10"] == {"mean": None, "std": None, "seeds": 0}


def test_summarise_gives_mean_sample_deviation_and_count() -> None:
    """Two seeds have a spread, one has none."""
    runs = [{"next": {"hr@10": 0.1}}, {"next": {"hr@10": 0.3}}]
    both = summarise_arms({"arm": runs})["arm"]["next"]["hr@10"]
    assert both == {"mean": pytest.approx(0.2), "std": pytest.approx(0.02**0.5), "seeds": 2}
    assert summarise(runs[:1])["next"]["hr@10"] == {"mean": 0.1, "std": 0.0, "seeds": 1}
    with pytest.raises(ValueError, match="no run"):
        summarise([])


@pytest.mark.skipif(not LENSKIT.is_dir(), reason=f"needs the LensKit oracle in {LENSKIT}")
def test_gains_lenskit_lists_give_the_metrics_of_java_lenskit() -> None:
    """An implementation that nobody here wrote agrees on 100 lists of 100 items.

    Java LensKit discounts by max(1, log2(rank)) and weighs by rating, so its gains are passed in;
    where an item stands and how gains are added up is ours.
    """
    lists: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    with gzip.open(LENSKIT / "topn-java-recs.csv.gz", "rt") as stream:
        for row in csv.DictReader(stream):
            lists[row["Algorithm"], row["user"]][row["item"]] = int(row["rank"])
    truth: dict[str, dict[str, float]] = defaultdict(dict)
    with (LENSKIT / "topn-java-truth.csv").open() as stream:
        for row in csv.DictReader(stream):
            truth[row["user"]][row["item"]] = float(row["rating"])
    java_discount = 1.0 / np.maximum(1.0, np.log2(np.arange(1, 101)))
    compared = 0
    with (LENSKIT / "topn-java-metrics.csv").open() as stream:
        for row in csv.DictReader(stream):
            ranks = lists[row["Algorithm"], row["user"]]
            wanted = truth[row["user"]]
            found = [item for item in wanted if item in ranks]
            column = {item: at for at, item in enumerate(ranks)}
            scores = np.tile([-float(rank) for rank in ranks.values()], (len(found), 1))
            targets = np.array([column[item] for item in found], np.int32)
            standing = stand(scores.reshape(len(found), len(ranks)), targets)
            ratings = np.array([wanted[item] for item in found])
            best = np.sort(list(wanted.values()))[::-1]
            ideal = best @ (1.0 / np.maximum(1.0, np.log2(np.arange(1, len(best) + 1))))
            gain = ratings @ expected_gains(java_discount, standing) / ideal
            first = expected_gains(1.0 / np.arange(1, 101), standing).max(initial=0.0)
            assert gain == pytest.approx(float(row["Java.nDCG"]), abs=1e-9)
            assert first == pytest.approx(float(row["Java.RecipRank"]), abs=1e-9)
            compared += 1
    assert compared == 100
