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


def test_finding_own_title_stands_before_the_comparison(result: dict[str, Any]) -> None:
    """A run that compares nothing, as a round over a SuperLink, brings its own words."""
    assert finding(result | {"title": "One round", "summary": "Fine."}) == ("One round", "Fine.")


def test_on_devices_nothing_rolled_out_says_nothing() -> None:
    """No release, no sentence."""
    assert on_devices({}) == ""
