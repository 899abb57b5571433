"""The terminal's table: narrow, aligned, and never without the privacy claim."""

from __future__ import annotations

from typing import Any

from simulations.report.text import format_report


def test_format_report_whole_result_fits_eighty_columns(result: dict[str, Any]) -> None:
    """Every line can be read on a small terminal."""
    assert max(map(len, format_report(result).splitlines())) <= 80


def test_format_report_columns_are_aligned(result: dict[str, Any]) -> None:
    """The plus-minus signs of a table stand below each other."""
    rows = [line for line in format_report(result).splitlines() if line.count("±") == 3]
    assert len(rows) == 14
    for metric in (rows[:7], rows[7:]):
        assert len({tuple(i for i, c in enumerate(row) if c == "±") for row in metric}) == 1


def test_format_report_privacy_claim_is_complete(result: dict[str, Any]) -> None:
    """ε with δ, adjacency, trust, the assumption, and what the real people get."""
    text = format_report(result)
    for part in (
        "ε = 7.99 of 8 allowed, δ = 1e-06",
        "noise as if 100,000 people took part",
        "100,000 ASSUMED for the noise, 798 real",
        "adjacency: add-or-remove one person",
        "trust: the aggregator sees",
        "With 798 real devices",
        "702 granted, 96 refused, 21 withdrawn, 668 accepted",
        "21 consent withdrawn, 13 not a finite number",
        "tens held 160 of",
        "Time: 1 min 06 s",
    ):
        assert part in text


def test_format_report_says_what_the_numbers_rest_on(result: dict[str, Any]) -> None:
    """Engine, sample and what was left out; nothing of it where nothing was chosen or left out."""
    text = format_report(result)
    for part in (
        "Engine: kernel (as asked)",
        "Judged on 500 of 798 people",
        "Left out: All data in one place: it does not fit",
    ):
        assert part in text
    result |= {
        "engine": {"name": "devices", "why": ""},
        "left_out": {},
        "evaluated": {"people": 798, "of": 798},
    }
    text = format_report(result)
    assert not any(word in text for word in ("Engine", "Judged", "Left out"))


def test_format_report_missing_numbers_are_a_dash(result: dict[str, Any]) -> None:
    """A protocol with nobody to ask has no value."""
    result["metrics"]["central"]["discover"]["hr@10"] = {"mean": None, "std": None, "seeds": 0}
    line = next(x for x in format_report(result).splitlines() if x.startswith("All data"))
    assert line.split()[5] == "–"


def test_format_report_single_seed_shows_no_spread(result: dict[str, Any]) -> None:
    """A zero that nobody measured is not printed."""
    for arm in result["metrics"].values():
        for protocol in arm.values():
            for value in protocol.values():
                value |= {"seeds": 1, "std": 0.0}
    assert "±" not in format_report(result)


def test_format_report_empty_result_is_still_text() -> None:
    """What is missing is left out."""
    assert "too little data" in format_report({})
