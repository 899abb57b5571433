"""The three protocols on the bundled sample give the numbers that were measured elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from simulations.arms import simple as arms
from simulations.data.bundled import load_bundled
from simulations.evaluation.metrics import measure, summarise
from simulations.evaluation.split import Split, draw_targets, hold_out

SEEDS = range(5)


@pytest.fixture(scope="module")
def split() -> Split:
    """The sample, split for the test."""
    return hold_out(load_bundled().interactions)


def test_hold_out_sample_has_a_target_for_everyone(split: Split) -> None:
    """798 people, all with at least two invoices; almost all took something new."""
    targets = draw_targets(split, seed=0)
    assert len(targets.next_people) == 798
    assert len(targets.discover_people) == 703


@pytest.mark.parametrize(
    ("arm", "protocol", "expected", "tolerance"),
    [
        ("popularity", "next", 0.036, 0.008),
        ("popularity", "discover", 0.024, 0.006),
        ("popularity", "sampled", 0.310, 0.030),
        ("own_frequency", "next", 0.186, 0.012),
        ("own_frequency", "sampled", 0.519, 0.015),
    ],
)
def test_measure_simple_arms_reach_the_published_numbers(
    split: Split, arm: str, protocol: str, expected: float, tolerance: float
) -> None:
    """hr@10, mean of five seeds; the tolerance is about twice the deviation of such a mean."""
    scorer = getattr(arms, arm)(split.train)
    runs = [measure(scorer, split, draw_targets(split, seed=seed)) for seed in SEEDS]
    mean = summarise(runs)[protocol]["hr@10"]["mean"]
    assert mean == pytest.approx(expected, abs=tolerance)


def test_popularity_counts_people_not_rows(split: Split) -> None:
    """Someone who buys the same thing every week does not make it popular."""
    scores = arms.popularity(split.train)(np.array([0, 5], np.int32))
    assert scores.shape == (2, 1604)
    assert scores.max() <= 798
    assert (scores[0] == scores[1]).all()


def test_own_frequency_counts_occasions_not_rows(split: Split) -> None:
    """An item twice on one invoice was bought once."""
    people = np.arange(60, dtype=np.int32)
    scores = arms.own_frequency(split.train)(people)
    repeated = 0
    for person in people:
        rows = split.train.of_person(person)
        repeated += len(rows) - int(scores[person].sum())
        for item in np.unique(rows.items):
            assert scores[person, item] == len(np.unique(rows.occasions[rows.items == item]))
        assert (scores[person] > 0).sum() == len(np.unique(rows.items))
    assert repeated > 0
