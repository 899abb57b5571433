"""The page of a sweep: what it says, nothing from the network, nothing unescaped."""

from __future__ import annotations

import re
from typing import Any

import pytest

from simulations.report.sweep_charts import (
    frontier_chart,
    knob_chart,
    refusal_chart,
    segments_chart,
    training_chart,
)
from simulations.report.sweep_page import format_sweep, render_sweep

HOSTILE = "<script>alert($x$)</script>"
ASSUMED = "simulation: noise as if 100,000 people took part (798 simulated)"


def _measures(value: float) -> dict[str, Any]:
    return {
        "hr@10": {"mean": value, "std": 0.002, "seeds": 3},
        "ndcg@10": {"mean": value / 2, "std": 0.001, "seeds": 3},
    }


def _goal(epsilon: float | None, value: float) -> dict[str, Any]:
    private = epsilon is not None
    return {
        "epsilon": epsilon,
        "population": 100_000 if private else None,
        "assumed": ASSUMED if private else "",
        "of": 2,
        "chosen": {"clip": 0.5, "cohort": 200},
        "validation": value,
        "test": {protocol: _measures(value) for protocol in ("discover", "next", "sampled")},
        "segments": {name: _measures(value) for name in ("new", "light", "heavy")},
        "failed": "",
        "spent": epsilon,
        "course": [{"round": at, "hr@10": value * at} for at in (1, 2)],
        "answers": {"invited": 10, "accepted": 6, "rejected": {"no-consent": 4}},
    }


@pytest.fixture
def sweep() -> dict[str, Any]:
    """Everything that a page can show, made anew for each test."""
    arm = {**_goal(None, 0.02), "arm": "popularity", "trusted": "the central server"}
    return {
        "name": "town",
        "choose_by": "hr@10",
        "seeds": {"validation": 1, "test": 3},
        "people": 798,
        "synthetic": False,
        "knobs": ["clip", "cohort"],
        "goals": [_goal(2.0, 0.05), _goal(8.0, 0.06), _goal(None, 0.07)],
        "arms": [arm, {**arm, **_goal(2.0, 0.03), "arm": "local-dp"}],
        "tried": [
            {
                **_goal(2.0, 0.0),
                "settings": {"clip": clip, "cohort": 200},
                "validation": clip / 10,
                "chosen": clip == 0.5,
            }
            for clip in (0.1, 0.5)
        ],
        "segments": [
            {"name": name, "from": 0, "to": 9, "people": 266} for name in ("new", "light", "heavy")
        ],
    }


def test_render_sweep_says_what_was_chosen_on_what(sweep: dict[str, Any]) -> None:
    """The settings, of how many, on which split; the assumption beside every goal; the price."""
    page = render_sweep(sweep)
    line = (
        "chosen on validation: clip 0.5, cohort 200, of 2 settings (best HR@10 of 1 seed); "
        "reported on test, 3 seeds"
    )
    assert page.count(line) == 3
    assert page.count(ASSUMED) == 2
    assert "noise as if 100,000 people (assumed)" in page
    assert "trying settings spends privacy as well" in page
    assert "trusts the central server" in page
    assert all(f"{name}-" in page for name in ("frontier", "training", "refusals", "segments"))
    said = " ".join(format_sweep(sweep).split())
    assert said.count(line) == 3
    assert "0.0500 ± 0.0020" in said


def test_render_sweep_loads_nothing(sweep: dict[str, Any]) -> None:
    """No address but the names of XML's own languages."""
    page = render_sweep(sweep)
    addresses = set(re.findall(r"https?://[^\"\'<> ]+", page))
    names = ("http://www.w3.org/", "http://purl.org/dc/", "http://creativecommons.org/ns#")
    assert all(each.startswith((*names, "https://matplotlib.org/")) for each in addresses)
    assert not re.search(r"<(script|link|img|image|iframe)\b|@import|url\((?!#)", page)


def test_render_sweep_hostile_names_are_text(sweep: dict[str, Any]) -> None:
    """What comes from a file is never markup."""
    sweep["name"] = HOSTILE
    sweep["arms"][0]["trusted"] = sweep["arms"][0]["arm"] = HOSTILE
    sweep["goals"][0]["assumed"] = sweep["goals"][0]["failed"] = HOSTILE
    sweep["tried"][0]["failed"] = sweep["segments"][0]["name"] = HOSTILE
    sweep["goals"][0]["answers"]["rejected"] = {HOSTILE: 4}
    page = render_sweep(sweep)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_render_sweep_nothing_known_is_still_a_page() -> None:
    """All cells failed, or nothing is there."""
    assert "No budget has a number" in render_sweep({})
    failed = {**_goal(2.0, 0.1), "chosen": None, "test": {}, "segments": {}, "failed": "no quorum"}
    page = render_sweep({"goals": [failed], "people": 5})
    assert "chosen on validation: none, as all 2 settings failed" in page
    assert "no quorum" in page


def test_sweep_charts_without_values_draw_nothing(sweep: dict[str, Any]) -> None:
    """No empty axes; a setting with one value is no line."""
    for chart in (frontier_chart, training_chart, refusal_chart, segments_chart):
        assert chart(sweep).startswith("<svg")
        assert chart({}) == ""
    assert knob_chart(sweep, "clip").startswith("<svg")
    assert knob_chart(sweep, "cohort") == ""


def test_frontier_chart_has_a_line_for_each_population(sweep: dict[str, Any]) -> None:
    """Populations are never mixed in one line, and the assumed ones are called so."""
    real = {**_goal(2.0, 0.04), "population": 798, "assumed": ""}
    chart = frontier_chart({**sweep, "goals": [*sweep["goals"], real]})
    assert "Together, noise for 100,000 people (assumed)" in chart
    assert "Together, noise for 798 people<" in chart
    assert "Noise on each device, noise for 100,000 people (assumed)" in chart
    assert "Together, no noise" in chart
