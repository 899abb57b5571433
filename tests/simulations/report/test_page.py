"""The page is one file, escaped, complete, and the same each time."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from simulations.report.charts import answer_chart, course_chart, segment_chart
from simulations.report.page import render_page
from simulations.report.plots import arm_colours, bars, funnel

VOID = {"meta", "path", "br", "use", "link", "img"}


class Outline(HTMLParser):
    """Collects ids, addresses and the text; checks that elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that opens."""
        if tag not in VOID:
            self.open.append(tag)
        self._note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element without content."""
        self._note(attrs)

    def handle_endtag(self, tag: str) -> None:
        """An element closes the last one that is open."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect what a person reads."""
        if not self.open or self.open[-1] != "style":
            self.text += data

    def _note(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"src", "href", "xlink:href", "action", "data"}:
                self.addresses.append(value or "")


def outline(result: dict[str, Any]) -> Outline:
    """Read the page of a result."""
    parser = Outline()
    parser.feed(render_page(result))
    parser.close()
    assert parser.open == []
    return parser


def test_render_page_loads_nothing_from_elsewhere(result: dict[str, Any]) -> None:
    """No address leaves the page: no script, no style sheet, no picture, no import."""
    page = render_page(result)
    assert all(address.startswith("#") for address in outline(result).addresses)
    assert not re.search(r"<script|<link|<img|@import|@font-face|url\((?!#)", page)


def test_render_page_ids_are_unique_across_plots(result: dict[str, Any]) -> None:
    """Clip paths of one plot must not cut another."""
    ids = outline(result).ids
    assert len(ids) > 10
    assert len(ids) == len(set(ids))


def test_render_page_shows_every_section(result: dict[str, Any]) -> None:
    """Numbers, claim, consent, the example, the data and the time."""
    text = " ".join(outline(result).text.split())
    for part in (
        "Learning together finds 2.2 times",
        "0.053 ± 0.002",
        "Mean ± standard deviation over 3 seeds",
        "spent 7.99 of 8, δ = 10⁻⁶",
        "noise as if 100,000 people took part",
        "noise for 100,000 people (assumed); 798 people in the data",
        "With 798 real devices",
        "add-or-remove one person",
        "not added: not a finite number",
        "Their own top tens held 160 of 798",
        "The device knew: TEAPOT",
        "CUPtaken next",
        "because · kitchen",
        "2010-12-01",
        "1 min 06 s",
        "The lists were judged on 500 of 798 people.",
        "Left out: All data in one place, because it does not fit.",
        "new: 1 to 9 items",
        "Seen from the train side: the latest item. 400 people, the first seed.",
        "Task by task, Together, ε = 8:",
        "not added: was in a round too recently",
        "item-training, 2",
        "Engine: kernel (as asked).",
    ):
        assert part in text


def test_render_page_hostile_text_is_escaped(result: dict[str, Any]) -> None:
    """Item names and arm names come from anyone's file."""
    evil = "<script>alert(1)</script>"
    result["example"]["after"][0]["name"] = evil
    result["metrics"][evil] = result["metrics"].pop("central")
    result["consent"]["rejected"][evil] = 3
    result["engine"]["why"] = result["left_out"][evil] = result["convergence"]["what"] = evil
    result["segments"]["groups"][0]["name"] = evil
    result["convergence"]["arms"][evil] = result["convergence"]["arms"]["together-no-noise"]
    result["tasks"]["together-eps-8"][0] |= {"task": evil, "rejected": {evil: 1, "_": 1}}
    page = render_page(result)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 10


def test_render_page_dollar_signs_in_names_are_no_formula(result: dict[str, Any]) -> None:
    """Plots must not read an arm's name as mathematics."""
    result["metrics"]["$\\frac$"] = result["metrics"].pop("central")
    result["convergence"]["arms"]["$\\sqrt$"] = result["convergence"]["arms"]["together-no-noise"]
    result["tasks"]["together-eps-8"][0]["rejected"] = {"$\\sum$": 1}
    text = outline(result).text
    assert all(f"$\\{word}$" in text for word in ("frac", "sqrt", "sum"))


def test_render_page_same_result_same_bytes(result: dict[str, Any]) -> None:
    """A report can be compared with another."""
    assert render_page(result) == render_page(result)


@pytest.mark.parametrize(
    "left_out",
    [
        *("metrics", "privacy", "consent", "example", "seconds", "settings", "data"),
        *("engine", "left_out", "evaluated", "segments", "convergence", "tasks"),
    ],
)
def test_render_page_missing_part_is_left_out(result: dict[str, Any], left_out: str) -> None:
    """A page is made of what there is."""
    del result[left_out]
    assert "Homebody" in outline(result).text


def test_render_page_empty_result_is_still_a_page() -> None:
    """Nothing known, nothing shown, nothing broken."""
    assert "too little data" in outline({}).text


def test_render_page_synthetic_people_are_called_so(result: dict[str, Any]) -> None:
    """Nobody takes made-up people for real ones."""
    assert "synthetic" not in outline(result).text
    result["privacy"]["population"]["synthetic"] = True
    text = outline(result).text
    assert "798 synthetic people in the data" in text
    assert "These people are synthetic" in text


def test_answer_chart_draws_shares_of_the_invited(result: dict[str, Any]) -> None:
    """Many tasks are areas, few are bars; nobody invited is no picture."""
    tasks = result["tasks"]["together-eps-8"]
    assert answer_chart([]) == answer_chart([{**tasks[0], "invited": 0}]) == ""
    few, many = answer_chart(tasks), answer_chart(tasks * 100)
    assert "100 invited" in few
    assert "tasks, in order" in many
    assert len(many) < 10 * len(few)


def test_course_chart_one_look_draws_nothing(result: dict[str, Any]) -> None:
    """A single point is no course."""
    looks = result["convergence"]["arms"]
    assert course_chart({"arms": {"central": looks["together-eps-8"][:1]}}, {}) == ""
    assert course_chart({}, {}) == ""


def test_segment_chart_shows_what_was_measured(result: dict[str, Any]) -> None:
    """A segment that nobody was asked of has a dash; without any there is no picture."""
    segments = result["segments"]
    assert "–" not in segment_chart(segments, result["metrics"])
    for arm in segments["metrics"].values():
        arm["new"]["hr@10"]["mean"] = None
    assert "–" in segment_chart(segments, result["metrics"])
    assert segment_chart({"groups": segments["groups"], "metrics": {}}, {}) == ""


def test_bars_nothing_measured_draws_nothing() -> None:
    """No empty axes on the page."""
    assert bars({"central": {}}, "next", "hr@10", title="") == ""


def test_funnel_without_counts_draws_nothing() -> None:
    """No consent was asked: no picture."""
    assert funnel({}) == ""


def test_arm_colours_more_budget_is_a_deeper_green() -> None:
    """Both arms of one budget share a colour, two budgets do not."""
    colours = arm_colours(["together-eps-2", "together-eps-8", "together-eps-8-as-is", "central"])
    assert colours["together-eps-8"] == colours["together-eps-8-as-is"]
    brightness = {arm: int(colours[arm][1:3], 16) for arm in colours}
    assert brightness["together-eps-2"] > brightness["together-eps-8"]
