"""Recorded utility: what is read, and how it is read between the points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.wire import TaskKind
from privacy.utility_curves import CURVES_FILE, UtilityCurve, curve_for, load_curves


def curve(**changes: Any) -> UtilityCurve:
    """A curve from 0.10 without noise to 0.05, and 0.04 without learning."""
    values: dict[str, Any] = {
        "name": "small",
        "task": TaskKind.ITEM_TRAINING,
        "data": "made up",
        "metric": "HR@10",
        "command": "none",
        "people": 10,
        "dimension": 100,
        "seeds": 1,
        "without_learning": 0.04,
        "without_noise": 0.10,
        "points": ((0.01, 0.09), (0.1, 0.07), (1.0, 0.05)),
    }
    return UtilityCurve(**{**values, **changes})


class TestPredict:
    """The table in `privacy.utility_curves`."""

    @pytest.mark.parametrize(
        ("noise", "utility", "outside"),
        [
            (0.0, 0.10, False),
            (0.005, 0.095, False),
            (0.01, 0.09, False),
            (0.1, 0.07, False),
            (0.1 * 10**0.5, 0.06, False),
            (1.0, 0.05, False),
            (50.0, 0.05, True),
        ],
    )
    def test_predict_is_on_the_lines_between_the_points(
        self, noise: float, utility: float, outside: bool
    ) -> None:
        """Over log(noise) from the first point on, over noise before it."""
        found = curve().predict(noise=noise)
        assert found.utility == pytest.approx(utility)
        assert found.gain_kept == pytest.approx((utility - 0.04) / 0.06)
        assert found.outside is outside

    def test_predict_for_another_dimension_scales_the_noise_by_its_root(self) -> None:
        """What drowns a table is the norm of its noise."""
        assert curve().predict(noise=0.01, dimension=10_000).utility == pytest.approx(0.07)
        free = curve(dimension=None)
        assert free.predict(noise=0.01, dimension=10_000).utility == pytest.approx(0.09)

    @given(noises=st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 100.0)))
    def test_predict_of_more_noise_is_never_better(self, noises: tuple[float, float]) -> None:
        """Also where a point was measured above one with less noise, by chance."""
        lucky = curve(points=((0.01, 0.08), (0.1, 0.12), (1.0, 0.05)))
        less, more = (lucky.predict(noise=each) for each in sorted(noises))
        assert more.utility <= less.utility + 1e-12
        assert 0.0 <= more.gain_kept <= less.gain_kept + 1e-12 <= 1.0 + 1e-12

    @pytest.mark.parametrize(
        "changes",
        [
            {"points": ()},
            {"points": ((0.0, 0.1),)},
            {"points": ((0.1, 0.1), (0.1, 0.05))},
            {"points": ((0.2, 0.1), (0.1, 0.05))},
            {"without_noise": 0.04},
        ],
    )
    def test_curve_that_predicts_nothing_is_refused(self, changes: dict[str, Any]) -> None:
        """Rather than divide by nothing."""
        with pytest.raises(ValueError, match="curve 'small'"):
            curve(**changes)


class TestRecorded:
    """The file that ships."""

    def test_every_recorded_curve_says_where_it_is_from(self) -> None:
        """Data, metric and the command that prints it."""
        for each in load_curves():
            assert each.data
            assert each.metric
            assert each.command.startswith("python ")
            assert each.seeds >= 1

    def test_recorded_curves_put_the_known_reach_where_it_was_measured(self) -> None:
        """MovieLens-1M at ε 1 and 8, 6,040 people; a tenth of ρ for the counts."""
        found = curve_for(load_curves(), TaskKind.ITEM_STATISTICS)
        assert found is not None
        assert found.name == "movielens-1m"
        assert found.predict(noise=7.373e-4).utility == pytest.approx(0.0749, abs=1e-4)
        assert found.predict(noise=1.1395e-4).utility == pytest.approx(0.0914, abs=1e-4)

    def test_quoted_curve_is_the_one_of_the_benchmark(self) -> None:
        """The numbers of MovieLens stand in one place; the axis follows from ε and the people."""
        from benchmarks.utility_curves import movielens_curve

        stored = json.loads(CURVES_FILE.read_bytes())["curves"]
        (quoted,) = [each for each in stored if each["name"] == "movielens-1m"]
        made = movielens_curve()
        assert [each["noise"] for each in quoted.pop("points")] == pytest.approx(
            [each["noise"] for each in made.pop("points")], rel=1e-9
        )
        assert quoted == made

    @pytest.mark.parametrize(
        "stored",
        [
            "",
            "[]",
            "{}",
            '{"version": 2, "curves": []}',
            '{"version": 1, "curves": [{"name": "x"}]}',
            '{"version": 1, "curves": 7}',
        ],
    )
    def test_file_of_something_else_is_refused(self, stored: str, tmp_path: Path) -> None:
        """A prediction from nowhere is worse than none."""
        path = tmp_path / "curves.json"
        path.write_text(stored)
        with pytest.raises(ValueError, match=r"curves\.json"):
            load_curves(path)

    def test_curve_for_a_task_prefers_the_name_then_most_people(self) -> None:
        """And has none for a task that nobody measured."""
        few, many = curve(), curve(name="big", people=1_000)
        assert curve_for([few, many], TaskKind.ITEM_TRAINING) is many
        assert curve_for([few, many], TaskKind.ITEM_TRAINING, name="small") is few
        assert curve_for([few, many], TaskKind.ITEM_COUNTS) is None
        with pytest.raises(ValueError, match="there are small, big"):
            curve_for([few, many], TaskKind.ITEM_TRAINING, name="huge")

    def test_recorded_file_is_plain_json_without_surprises(self) -> None:
        """Diffable, and the same bytes each time."""
        stored = CURVES_FILE.read_text(encoding="utf-8")
        assert stored == json.dumps(json.loads(stored), indent=2) + "\n"
