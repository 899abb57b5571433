"""What would be if: numbers that go the right way, and a picture of them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from privacy.gaussian import epsilon_of
from privacy.plan_request import Request
from privacy.planner import plans_for
from privacy.utility_curves import load_curves
from privacy.what_if import draw, numbers

REQUEST = Request(
    population=20_000, report_goal=400, rounds=100, epsilon=2.0, delta=1e-6, poisson=True
)
CURVES = load_curves()
PLANS = plans_for(REQUEST, curves=CURVES)


class TestNumbers:
    """Each line."""

    def test_epsilon_against_rounds_rises_and_passes_through_the_plan(self) -> None:
        """At the planned number of rounds it is the planned ε."""
        found = numbers(REQUEST, PLANS, curves=CURVES)["epsilon_against_rounds"]
        assert set(found) == {"independent-rounds", "tree", "banded-toeplitz", "blt"}
        for name, points in found.items():
            planned = {point["rounds"]: point["epsilon"] for point in points}
            assert planned[100] == pytest.approx(2.0, rel=1e-6)
            if name != "tree":
                assert all(a["epsilon"] <= b["epsilon"] + 1e-9 for a, b in pairwise(points))
            assert points[0]["epsilon"] < 2.0 < points[-1]["epsilon"]

    def test_epsilon_against_people_falls_and_passes_through_the_plan(self) -> None:
        """More people are each in fewer rounds."""
        found = numbers(REQUEST, PLANS, curves=CURVES)["epsilon_against_people"]
        assert set(found) == {*("gaussian", "independent-rounds", "tree", "banded-toeplitz", "blt")}
        for points in found.values():
            planned = {point["people"]: point["epsilon"] for point in points}
            assert planned[20_000] == pytest.approx(2.0, rel=1e-6)
            assert all(a["epsilon"] >= b["epsilon"] - 1e-9 for a, b in pairwise(points))

    def test_one_release_of_ten_times_the_people_may_have_ten_times_the_noise(self) -> None:
        """The mean is as noisy as before."""
        found = numbers(REQUEST, PLANS, curves=CURVES)["epsilon_against_people"]["gaussian"]
        sigma = PLANS[0].noise_multiplier
        expected = epsilon_of(delta=1e-6, noise_multiplier=10 * sigma)
        assert found[-1] == {"people": 200_000, "epsilon": expected}

    def test_utility_rises_with_epsilon_and_with_people(self) -> None:
        """And keeps within nothing and everything."""
        found = numbers(REQUEST, PLANS, curves=CURVES)["utility_against_epsilon"]
        for lines in found.values():
            assert list(lines) == ["20000", "200000", "2000000"]
            for points in lines.values():
                kept = [point["gain_kept"] for point in points]
                assert kept == sorted(kept)
                assert 0.0 <= kept[0] <= kept[-1] <= 1.0
            few, many = lines["20000"], lines["2000000"]
            assert all(a["gain_kept"] <= b["gain_kept"] for a, b in zip(few, many, strict=True))

    def test_without_curves_the_relative_error_is_told(self) -> None:
        """No utility is made up."""
        found = numbers(REQUEST, plans_for(REQUEST), curves=())["utility_against_epsilon"]["blt"]
        errors = [point["relative_error"] for point in found["20000"]]
        assert errors == sorted(errors, reverse=True)
        assert all("gain_kept" not in point for point in found["20000"])


class TestDraw:
    """The files."""

    @pytest.mark.parametrize("suffix", [".svg", ".png"])
    def test_draw_writes_the_picture_and_its_numbers(self, suffix: str, tmp_path: Path) -> None:
        """The same bytes each time."""
        pytest.importorskip("matplotlib", reason="the extra 'simulation' is not installed")
        to = tmp_path / f"plan{suffix}"
        written = draw(REQUEST, PLANS, curves=CURVES, to=to)
        assert written == [to, tmp_path / "plan.json"]
        head = to.read_bytes()[:400]
        assert head.startswith(b"\x89PNG") if suffix == ".png" else b"<svg" in to.read_bytes()
        stored = json.loads((tmp_path / "plan.json").read_text())
        assert stored == json.loads(json.dumps(numbers(REQUEST, PLANS, curves=CURVES)))
        before = to.read_bytes()
        draw(REQUEST, PLANS, curves=CURVES, to=to)
        assert to.read_bytes() == before

    def test_draw_names_every_mechanism_in_words(self, tmp_path: Path) -> None:
        """Text stays text."""
        pytest.importorskip("matplotlib", reason="the extra 'simulation' is not installed")
        to = tmp_path / "plan.svg"
        draw(REQUEST, PLANS, curves=CURVES, to=to)
        text = to.read_text(encoding="utf-8")
        for name in ("gaussian", "tree", "banded-toeplitz", "blt", "gain kept"):
            assert name in text
