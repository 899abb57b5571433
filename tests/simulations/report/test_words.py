"""The headline is true whichever way a run ends."""

from __future__ import annotations

from typing import Any

import pytest

from simulations.report.words import arm_label, budget_of, finding, in_order, on_devices


def test_in_order_arms_go_from_the_simplest_to_the_ceiling(result: dict[str, Any]) -> None:
    """More budget stands later; the real population's arm beside its own budget."""
    assert in_order(result["metrics"]) == [
        "popularity",
        "device-alone",
        "together-eps-2",
        "together-eps-8",
        "together-eps-8-as-is",
        "together-no-noise",
        "central",
    ]


@pytest.mark.parametrize(
    "arm", ["central", "together-eps-", "together-eps-x", "together-eps-1.2.3"]
)
def test_budget_of_other_arm_is_none(arm: str) -> None:
    """A name without a number has no budget."""
    assert budget_of(arm) is None


def test_arm_label_unknown_arm_keeps_its_name() -> None:
    """A new arm is shown rather than hidden."""
    assert arm_label("my-arm") == "my-arm"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (0.053, "finds 2.2 times as many new favourites as best sellers"),
        (0.025, "is as good as the list of best sellers"),
        (0.010, "finds fewer new favourites than best sellers"),
    ],
)
def test_finding_headline_follows_the_numbers(
    result: dict[str, Any], found: float, words: str
) -> None:
    """Better, within the spread, and worse are said as such."""
    result["metrics"]["together-eps-8"]["discover"]["hr@10"]["mean"] = found
    assert words in finding(result)[0]


def test_finding_assumed_population_is_always_said(result: dict[str, Any]) -> None:
    """Nobody may take the assumption for the data."""
    assert "as if 100,000 people took part (assumed); the data has 798" in finding(result)[1]
    result["privacy"]["population"]["assumed"] = 798
    assert "assumed" not in finding(result)[1]


@pytest.mark.parametrize("empty", [{}, {"metrics": {}}, {"metrics": {"popularity": {}}}])
def test_finding_without_numbers_says_so(empty: dict[str, Any]) -> None:
    """Too little data is an answer, not an error."""
    assert "too little data" in finding(empty)[1]


def test_finding_single_seed_is_said(result: dict[str, Any]) -> None:
    """One run is an anecdote, and the reader is told."""
    for arm in result["metrics"].values():
        for protocol in arm.values():
            protocol["hr@10"]["seeds"] = protocol["ndcg@10"]["seeds"] = 1
    assert finding(result)[1].endswith("This is a single seed: the spread is not known.")


@pytest.mark.parametrize(
    ("counted", "equal", "headline", "words"),
    [
        (True, True, "nobody moved the sum", "counted as expected, and the noisy sum equals"),
        (True, False, "did not go as it should", "the noisy sum DIFFERS from"),
        (False, True, "did not go as it should", "counted NOT as expected"),
    ],
)
def test_finding_superlink_round_is_told_as_it_went(
    counted: bool, equal: bool, headline: str, words: str
) -> None:
    """A round that failed its check must not read like one that passed."""
    superlink = {
        "devices": 32,
        "counted_as_expected": counted,
        "sum_equals_honest_sum": equal,
    }
    consent = {"accepted": 27, "rejected": {"not-finite": 1, "no-answer": 4}}
    found = finding({"superlink": superlink, "consent": consent})
    assert headline in found[0]
    assert words in found[1]
    assert "27 were added, 5 were not" in found[1]


def test_on_devices_nothing_rolled_out_says_nothing() -> None:
    """No release, no sentence."""
    assert on_devices({}) == ""
