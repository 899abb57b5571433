"""What statistics decide, what they merge or suppress, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from client_sdk.wire.statistics import Binning, Measure, MeasureForm, Question, Survey
from models.experiment_outcomes import GroupOutcome, Interval
from models.statistics import (
    DriftKind,
    NoisyHistogram,
    Verdict,
    combine,
    decode_evaluation,
    decode_survey,
    fairness_gaps,
    measure_drift,
    quantile,
)

BINS = Binning(feature="x", edges=(0.0, 1.0, 2.0, 3.0))


def histogram(*counts: float, noise_std: float = 0.0) -> NoisyHistogram:
    """Make a histogram over six cells."""
    return NoisyHistogram.independent(BINS, np.array(counts, np.float64), noise_std)


def around(value: float, error: float) -> Interval:
    """Make an interval."""
    return Interval(
        value=value, standard_error=error, low=value - 2 * error, high=value + 2 * error
    )


def group(name: str, mean: Interval | None) -> GroupOutcome:
    """Make a group with one mean, or a suppressed one."""
    return GroupOutcome(
        group=name, persons=around(100.0, 1.0), means={} if mean is None else {"rate": mean}
    )


EVEN = (0.0, 1000.0, 1000.0, 1000.0, 0.0, 0.0)
TILTED = (0.0, 2000.0, 700.0, 300.0, 0.0, 0.0)


class TestDrift:
    """Decisions about drift."""

    @pytest.mark.parametrize("kind", DriftKind)
    def test_drift_is_what_the_formula_says_without_noise(self, kind: DriftKind) -> None:
        """By the textbook's sums, over a hundred million people."""
        p, q = np.array(EVEN[1:4]) / 3000, np.array(TILTED[1:4]) / 3000
        many = [NoisyHistogram.independent(BINS, np.array(c) * 1e5, 0.0) for c in (EVEN, TILTED)]
        if kind is DriftKind.PSI:
            expected = float(((p - q) * np.log(p / q)).sum())
        else:
            m = (p + q) / 2
            expected = float((p * np.log(p / m) + q * np.log(q / m)).sum() / 2)
        found = measure_drift(*many, kind=kind)
        assert found.divergence.value == pytest.approx(expected, rel=1e-4)
        assert found.divergence.holds(expected)
        assert found.cells == 3

    def test_verdict_needs_the_whole_interval(self) -> None:
        """Clear drift, clearly none, and too few people to tell."""
        assert measure_drift(histogram(*EVEN), histogram(*TILTED)).verdict(0.1) is Verdict.ABOVE
        assert measure_drift(histogram(*EVEN), histogram(*EVEN)).verdict(0.1) is Verdict.WITHIN
        few = [NoisyHistogram.independent(BINS, np.array(EVEN) / 40, 3.0) for _ in range(2)]
        assert measure_drift(*few).verdict(0.1) is Verdict.UNDECIDED

    def test_noise_alone_never_triggers_a_retraining(self) -> None:
        """PSI of noisy counts of the same people is often above 0.05; the verdict is not."""
        rng = np.random.default_rng(4)
        naive, above = [], 0
        for _ in range(200):
            both = [
                NoisyHistogram.independent(BINS, np.full(6, 120.0) + rng.normal(0, 19, 6), 19.0)
                for _ in range(2)
            ]
            found = measure_drift(*both)
            naive.append(found.naive)
            above += found.verdict(0.05) is Verdict.ABOVE
        assert np.mean(np.array(naive) > 0.05) > 0.1
        assert above <= 0.05 * 200

    def test_cells_that_noise_hides_are_merged(self) -> None:
        """Four cells of which two are noise: two are left."""
        before = histogram(5.0, 500.0, 8.0, 600.0, -3.0, 2.0, noise_std=10.0)
        after = histogram(-2.0, 600.0, 4.0, 500.0, 7.0, 0.0, noise_std=10.0)
        assert measure_drift(before, after).cells == 2

    def test_nothing_but_noise_is_no_estimate(self) -> None:
        """And no verdict."""
        hidden = histogram(1.0, 2.0, 3.0, 1.0, 0.0, 0.0, noise_std=10.0)
        found = measure_drift(hidden, hidden)
        assert found.divergence.value is None
        assert found.verdict(0.1) is Verdict.UNDECIDED

    def test_other_bins_are_refused(self) -> None:
        """Drift is between two weeks of one question."""
        other = NoisyHistogram.independent(
            Binning(feature="y", edges=(0.0, 1.0, 2.0, 3.0)), np.ones(6), 1.0
        )
        with pytest.raises(ValueError, match="same bins"):
            measure_drift(histogram(*EVEN), other)


class TestFairness:
    """Decisions about gaps."""

    def test_gaps_are_of_every_two_groups_largest_first_and_hold_jointly(self) -> None:
        """Three groups, three gaps, each wider than it would be alone."""
        groups = [group(name, around(rate, 0.01)) for name, rate in (("a", 0.1), ("b", 0.2))]
        groups.append(group("c", around(0.5, 0.01)))
        joint = fairness_gaps(groups, "rate")
        alone = fairness_gaps(groups, "rate", joint=False)
        assert [(gap.first, gap.second) for gap in joint.gaps] == [
            ("a", "c"),
            ("b", "c"),
            ("a", "b"),
        ]
        assert joint.gaps[0].difference.value == pytest.approx(0.4)
        assert joint.gaps[0].difference.low < alone.gaps[0].difference.low
        assert joint.gaps[0].difference.standard_error == pytest.approx(0.01 * math.sqrt(2))

    def test_gap_verdict_is_of_its_size_in_either_direction(self) -> None:
        """Above, within, and neither."""
        groups = [group("a", around(0.5, 0.01)), group("b", around(0.2, 0.01))]
        gap = fairness_gaps(groups, "rate").gaps[0]
        assert gap.verdict(0.1) is Verdict.ABOVE
        assert gap.verdict(0.5) is Verdict.WITHIN
        assert gap.verdict(0.3) is Verdict.UNDECIDED
        with pytest.raises(ValueError, match="tolerance"):
            gap.verdict(-0.1)

    def test_suppressed_groups_are_named_and_in_no_gap(self) -> None:
        """Silence is no fairness."""
        hidden = Interval(value=None, standard_error=math.inf, low=0.0, high=1.0)
        groups = [group("a", around(0.1, 0.01)), group("b", None), group("c", hidden)]
        found = fairness_gaps(groups, "rate")
        assert (found.gaps, found.suppressed) == ((), ("b", "c"))

    def test_measure_that_was_not_asked_is_refused(self) -> None:
        """A typing mistake is not "nothing to see"."""
        with pytest.raises(ValueError, match="measure"):
            fairness_gaps([group("a", around(0.1, 0.01))], "rat")


class TestHistogram:
    """What is told of a histogram."""

    def test_shares_that_noise_hides_are_the_whole_of_what_is_possible(self) -> None:
        """No estimate out of noise."""
        shares = histogram(1.0, 2.0, 3.0, 1.0, 0.0, 0.0, noise_std=10.0).shares()
        assert [(s.value, s.low, s.high) for s in shares] == [(None, 0.0, 1.0)] * 6

    def test_empty_cell_still_has_an_interval(self) -> None:
        """Nobody of twenty is not nobody ever."""
        empty = histogram(0.0, 20.0, 0.0, 0.0, 0.0, 0.0).shares()[0]
        assert (empty.value, empty.low) == (0.0, 0.0)
        assert 0.05 < empty.high < 0.2

    @pytest.mark.parametrize("q", [0.0, 1.0, math.nan])
    def test_quantile_out_of_range_is_refused(self, q: float) -> None:
        """A median is at 0.5."""
        with pytest.raises(ValueError, match="between 0 and 1"):
            quantile(histogram(*EVEN), q)

    def test_quantile_beyond_the_edges_is_open_at_that_end(self) -> None:
        """Most people are below the first edge: nothing says how far."""
        found = quantile(histogram(900.0, 50.0, 50.0, 0.0, 0.0, 0.0), 0.5)
        assert (found.value, found.low) == (None, -math.inf)
        above = quantile(histogram(0.0, 50.0, 50.0, 0.0, 900.0, 0.0), 0.5)
        assert (above.value, above.high) == (None, math.inf)

    def test_quantile_of_noise_is_everything(self) -> None:
        """No estimate out of noise."""
        found = quantile(histogram(1.0, 2.0, 3.0, 1.0, 0.0, 0.0, noise_std=10.0), 0.5)
        assert (found.value, found.low, found.high) == (None, -math.inf, math.inf)

    def test_quantile_leaves_the_unknown_out(self) -> None:
        """Who has no value has no place in the order."""
        without = quantile(histogram(0.0, 100.0, 100.0, 100.0, 0.0, 0.0), 0.5).value
        beside = quantile(histogram(0.0, 100.0, 100.0, 100.0, 0.0, 900.0), 0.5).value
        assert without == beside == pytest.approx(1.5)

    def test_combine_of_other_bins_or_without_noise_is_refused(self) -> None:
        """Levels nest, and each has noise."""
        coarse = Binning(feature="x", edges=(1.5,))
        odd = NoisyHistogram.independent(coarse, np.ones(3), 1.0)
        with pytest.raises(ValueError, match="coarser bins"):
            combine(histogram(*EVEN, noise_std=1.0), [odd])
        with pytest.raises(ValueError, match="noise on every cell"):
            combine(histogram(*EVEN), [])

    @pytest.mark.parametrize("bad", [-1.0, math.nan])
    def test_noise_that_is_none_is_refused(self, bad: float) -> None:
        """A deviation is finite and 0 or more."""
        with pytest.raises(ValueError, match="noise_std"):
            histogram(*EVEN, noise_std=bad)


def test_decode_survey_gives_ranges_back_in_their_unit_and_suppresses_small_groups() -> None:
    """Forty people in one segment, five in another."""
    survey = Survey(
        name="s",
        questions=(
            Question(
                name="q",
                by=Binning(feature="segment", edges=(0.0, 1.0, 2.0)),
                measures=(
                    Measure(feature="age", low=20.0, high=60.0),
                    Measure(feature="age", low=0.0, high=29.0, form=MeasureForm.SHARE),
                ),
            ),
            Question(name="people"),
        ),
    )
    total = 40 * survey.pack({"segment": 0.5, "age": 30.0}, clip_norm=1.0).to_dense().astype(float)
    total += 5 * survey.pack({"segment": 1.5, "age": 50.0}, clip_norm=1.0).to_dense()
    found = decode_survey(total, survey, clip_norm=1.0, noise_std=0.0)
    large, small = found.groups["q"][1], found.groups["q"][2]
    assert large.means["age"].value == pytest.approx(30.0, abs=1e-4)
    assert large.means["age"].low <= 30.0 <= large.means["age"].high
    assert large.means["share of age in 0 to 29"].value == pytest.approx(0.0, abs=1e-6)
    assert small.persons.value == pytest.approx(5.0, abs=1e-4)
    assert small.means == {}
    assert found.groups["people"][0].persons.value == pytest.approx(45.0, abs=1e-3)
    told = decode_survey(total, survey, clip_norm=1.0, noise_std=0.0, least_persons=5.0)
    assert told.groups["q"][2].means == {}
    told = decode_survey(total, survey, clip_norm=1.0, noise_std=0.0, least_persons=4.0)
    assert told.groups["q"][2].means["age"].value == pytest.approx(50.0, abs=1e-3)


def test_decode_of_what_does_not_fit_is_refused() -> None:
    """A sum and its settings have to belong together."""
    survey = Survey(name="s", questions=(Question(name="q", by=BINS),))
    for bad in ({"noise_std": -1.0}, {"noise_std": math.inf}, {"confidence": 1.0}):
        with pytest.raises(ValueError, match="expected"):
            decode_survey(np.ones(6), survey, clip_norm=1.0, **{"noise_std": 1.0, **bad})
    with pytest.raises(ValueError, match="expected"):
        decode_evaluation(np.ones(6), models=1, clip_norm=1.0, noise_std=1.0)
