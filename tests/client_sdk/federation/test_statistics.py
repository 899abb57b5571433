"""Surveys and evaluations on a device: what is sent and refused, and the device's own noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from client_sdk.federation.encoders import (
    ENCODERS,
    EncoderInput,
    OrderOutOfBoundsError,
    TaskUnavailableError,
    TooLittleDataError,
    expected_dimension,
)
from client_sdk.federation.evaluation import measure_ranker
from client_sdk.federation.local_noise import (
    LOCAL_NOISE,
    add_local_noise,
    message_norm,
    standard_normals,
)
from client_sdk.intelligence import History, RankerTable
from client_sdk.signals.features import FeatureDefinition, FeatureVector
from client_sdk.testing import FakeAggregator
from client_sdk.wire import Catalogue, Order, SparseVector, TaskKind
from client_sdk.wire.evaluation import difference_of, layout_of
from client_sdk.wire.statistics import Binning, Measure, Question, Survey
from privacy.local import LocalGaussian
from simulations.evaluation.metrics import discounted_gains, hit_chances, stand

HISTORY = History.from_events(items=[1, 3, 6], times_s=[1.0, 2.0, 3.0], now_s=5.0)


def definition(name: str, sensitivity: str = "ordinary") -> FeatureDefinition:
    """Declare a feature."""
    return FeatureDefinition(
        name=name,
        meaning="A number.",
        sources=(),
        window="now",
        mode="batch",
        unit="",
        bins=(0.0, 1.0),
        sensitivity=sensitivity,  # type: ignore[arg-type]
    )


FEATURES = FeatureVector(
    definitions=(definition("visits"), definition("price"), definition("age_group", "protected")),
    values=np.array([3.0, 0.0, 4.0]),
    known=np.array([True, False, True]),
    maps={},
)


def survey_of(*questions: Question) -> Survey:
    """Make a survey."""
    return Survey(name="s", questions=questions)


VISITS = survey_of(Question(name="v", by=Binning(feature="visits", edges=(0.0, 5.0))))


def survey_order(
    aggregator: FakeAggregator, catalogue: Catalogue, survey: Survey, **changes: Any
) -> Order:
    """Order a survey."""
    fields: dict[str, Any] = {
        "payload": survey.to_bytes(),
        "parameters": {"entries": survey.dimension},
        "dimension": survey.dimension,
        **changes,
    }
    return aggregator.order(TaskKind.SURVEY, catalogue, **fields)


def given_input(**changes: Any) -> EncoderInput:
    """What an encoder sees of eight items."""
    return EncoderInput(
        **{"history": HISTORY, "n_items": 8, "features": lambda: FEATURES, **changes}
    )


def encode(order: Order, found: EncoderInput | None = None) -> SparseVector:
    """Encode an order."""
    return ENCODERS[order.kind](order, found or given_input())


class TestSurvey:
    """What a device says of its person."""

    def test_survey_gives_the_cell_of_the_person(
        self, aggregator: FakeAggregator, catalogue: Catalogue
    ) -> None:
        """One entry for one question."""
        order = survey_order(aggregator, catalogue, VISITS)
        assert expected_dimension(order, n_items=8) == 4
        assert encode(order).to_dense().tolist() == [0.0, 1.0, 0.0, 0.0]

    def test_survey_unknown_value_is_unknown_and_not_its_stand_in(
        self, aggregator: FakeAggregator, catalogue: Catalogue
    ) -> None:
        """The price is 0 because nothing is known of it; that is no price."""
        asked = survey_of(Question(name="p", by=Binning(feature="price", edges=(0.0, 5.0))))
        vector = encode(survey_order(aggregator, catalogue, asked))
        assert vector.to_dense().tolist() == [0.0, 0.0, 0.0, 1.0]

    def test_survey_that_nobody_could_answer_is_too_little(
        self, aggregator: FakeAggregator, catalogue: Catalogue
    ) -> None:
        """A mean of what is not known is no answer, and no zero either."""
        asked = survey_of(
            Question(name="p", measures=(Measure(feature="price", low=0.0, high=9.0),))
        )
        with pytest.raises(TooLittleDataError):
            encode(survey_order(aggregator, catalogue, asked))

    @pytest.mark.parametrize("feature", ["age_group", "diagnosis"])
    def test_survey_of_a_feature_that_must_not_leave_is_refused(
        self, feature: str, aggregator: FakeAggregator, catalogue: Catalogue
    ) -> None:
        """Protected, though used on the device; or not there at all."""
        asked = survey_of(Question(name="p", by=Binning(feature=feature, edges=(0.0, 5.0))))
        with pytest.raises(TaskUnavailableError):
            encode(survey_order(aggregator, catalogue, asked))

    def test_survey_on_a_device_without_features_is_refused(
        self, aggregator: FakeAggregator, catalogue: Catalogue
    ) -> None:
        """Not answered with zeros."""
        with pytest.raises(TaskUnavailableError):
            encode(survey_order(aggregator, catalogue, VISITS), given_input(features=None))

    @pytest.mark.parametrize(
        "changes",
        [
            {"parameters": {"entries": 0}},
            {"parameters": {"entries": 4, "person": "p"}},
            {"parameters": {"entries": 4, LOCAL_NOISE: 0.0}},
            {"parameters": {"entries": 4, LOCAL_NOISE: math.inf}},
            {"parameters": {"entries": 4, LOCAL_NOISE: "1"}},
            {"promise": {"epsilon": 1.0, "trusted": "nobody: each device adds its own noise"}},
        ],
    )
    def test_survey_parameters_out_of_bounds_are_refused_before_any_work(
        self, changes: dict[str, Any], aggregator: FakeAggregator, catalogue: Catalogue
    ) -> None:
        """Also a promise to trust nobody that asks for no noise here."""
        order = survey_order(aggregator, catalogue, VISITS, **changes)
        with pytest.raises(OrderOutOfBoundsError):
            expected_dimension(order, n_items=8)

    def test_survey_payload_of_another_length_is_refused(
        self, aggregator: FakeAggregator, catalogue: Catalogue
    ) -> None:
        """The invitation said how long the vector is."""
        for changes in ({"parameters": {"entries": 9}}, {"payload": b"{}"}):
            with pytest.raises(OrderOutOfBoundsError):
                encode(survey_order(aggregator, catalogue, VISITS, **changes))


class TestEvaluation:
    """How a ranker does for one person."""

    @given(seed=st.integers(0, 200), own=st.floats(-1.0, 1.0))
    def test_measure_ranker_agrees_with_the_simulators_metrics(self, seed: int, own: float) -> None:
        """Ranks, ties and gains by the simulator's own code, over the same scores."""
        rng = np.random.default_rng(seed)
        table = random_table(rng, n_items=40)
        items = rng.choice(40, size=6, replace=False)
        times = rng.permutation(6).astype(float)
        history = History.from_events(items=items, times_s=times, now_s=9.0)
        target = int(items[times.argmax()])
        rest = History.from_events(
            items=items[items != target], times_s=times[items != target], now_s=9.0
        )
        from client_sdk.intelligence.ranker import score_all, solve_private_vector

        scores = score_all(table, table.settings, solve_private_vector(table, rest), rest)
        candidates = np.ones((1, 40), np.bool_)
        candidates[0, rest.items] = False
        place = stand(scores[None, :], np.array([target], np.int32), candidates)
        expected = float(hit_chances(place)[0]), float(discounted_gains(place)[0])
        assert measure_ranker(table, history) == pytest.approx(expected)

    def test_evaluation_of_two_rankers_sends_the_first_and_the_differences(
        self, aggregator: FakeAggregator, catalogue: Catalogue
    ) -> None:
        """A paired comparison, within the clip norm."""
        rng = np.random.default_rng(1)
        tables = [random_table(rng, n_items=8), RankerTable.without_model(8)]
        parts = [table.to_bytes() for table in tables]
        order = aggregator.order(
            TaskKind.MODEL_EVALUATION,
            catalogue,
            payload=b"".join(parts),
            parameters={"models": 2, "first_bytes": len(parts[0])},
            dimension=9,
        )
        assert expected_dimension(order, n_items=8) == 9
        vector = encode(order)
        assert vector.norm() <= 1.0
        layout = layout_of(2, clip_norm=1.0)
        count, sums, _ = layout.unpack(vector.to_dense().astype(np.float64))
        first, second = (measure_ranker(table, HISTORY) for table in tables)
        assert count.tolist() == pytest.approx([1.0])
        assert sums[0, :2] == pytest.approx(first, abs=1e-6)
        told = [difference_of(float(part)) for part in sums[0, 2:]]
        assert told == pytest.approx([b - a for a, b in zip(first, second, strict=True)], abs=1e-6)

    def test_evaluation_payload_that_is_no_ranker_is_refused(
        self, aggregator: FakeAggregator, catalogue: Catalogue
    ) -> None:
        """Garbage, another catalogue, a table too few or too many."""
        good = RankerTable.without_model(8).to_bytes()
        other = RankerTable.without_model(9).to_bytes()
        for models, payload, first in (
            (1, b"garbage", 7),
            (1, other, len(other)),
            (2, good, len(good)),
            (1, good + good, len(good)),
            (1, good, len(good) + 1),
        ):
            order = aggregator.order(
                TaskKind.MODEL_EVALUATION,
                catalogue,
                payload=payload,
                parameters={"models": models, "first_bytes": first},
            )
            with pytest.raises(OrderOutOfBoundsError):
                encode(order)

    def test_evaluation_of_a_short_history_is_too_little(
        self, aggregator: FakeAggregator, catalogue: Catalogue
    ) -> None:
        """One item cannot be held out of one."""
        good = RankerTable.without_model(8).to_bytes()
        order = aggregator.order(
            TaskKind.MODEL_EVALUATION,
            catalogue,
            payload=good,
            parameters={"models": 1, "first_bytes": len(good)},
        )
        short = History.from_events(items=[1], times_s=[1.0], now_s=5.0)
        with pytest.raises(TooLittleDataError):
            encode(order, given_input(history=short))


def random_table(rng: np.random.Generator, *, n_items: int) -> RankerTable:
    """A ranker with random factors."""
    return RankerTable.from_arrays(factors=rng.normal(size=(n_items, 4)).astype(np.float32))


class TestLocalNoise:
    """The device's half of local privacy."""

    def test_noise_is_standard_normal_and_five_percent_off_is_rejected(self) -> None:
        """Scale by chi-square, shape by Kolmogorov and Smirnov, at a level of 1e-6."""
        values = standard_normals(60_000, key=bytes(range(32)))
        low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], df=values.size)
        square = float(np.square(values).sum())
        assert low < square < high
        for wrong in (1.05, 0.95):
            assert not low < square / wrong**2 < high
        assert stats.kstest(values, "norm").pvalue > 1e-6
        assert stats.kstest(values * 1.05, "norm").pvalue < 1e-6
        halves = np.corrcoef(values[:30_000], values[30_000:])[0, 1]
        assert abs(float(halves)) < 6 / math.sqrt(30_000)

    def test_noise_has_the_scale_that_the_server_accounts_for(self) -> None:
        """The device's deviation is the event's: multiplier · 2 · clip norm."""
        nothing = SparseVector.from_dense(np.zeros(60_000, np.float32))
        sent = add_local_noise(
            nothing, clip_norm=0.5, noise_multiplier=3.0, new_key=lambda: bytes(range(32))
        )
        claimed = LocalGaussian(clip_norm=0.5, noise_multiplier=3.0).noise_std
        assert float(sent.to_dense().std()) == pytest.approx(claimed, rel=0.02)

    def test_message_is_the_clipped_vector_plus_noise_under_a_fresh_key(self) -> None:
        """The same key twice differs by the vector; two messages differ by the key."""
        vector = SparseVector.from_dense(np.array([0.6, -0.8, 0.0], np.float32))
        empty = SparseVector.from_dense(np.zeros(3, np.float32))
        same: dict[str, Any] = {"clip_norm": 1.0, "noise_multiplier": 2.0}
        fixed = lambda: bytes(range(32))  # noqa: E731 - a key for one comparison
        one, two = (add_local_noise(each, new_key=fixed, **same) for each in (vector, empty))
        moved = one.to_dense().astype(np.float64) - two.to_dense()
        np.testing.assert_allclose(moved, [0.6, -0.8, 0.0], atol=1e-5)
        first, second = (add_local_noise(vector, **same).to_dense() for _ in range(2))
        assert not np.array_equal(first, second)
        assert np.all(first != 0.0)

    def test_vector_without_local_noise_passes_bit_for_bit(self) -> None:
        """Central tasks are as they were."""
        vector = SparseVector.from_dense(np.array([0.6, -0.8, 0.0], np.float32))
        assert add_local_noise(vector, clip_norm=1.0, noise_multiplier=0.0) is vector

    @pytest.mark.parametrize("values", [[1.1, 0.0], [math.nan, 0.0], [math.inf, 1.0]])
    def test_vector_that_was_not_clipped_is_refused(self, values: list[float]) -> None:
        """Noise is calibrated to the clip norm: nothing longer may get it."""
        vector = SparseVector.from_dense(np.array(values, np.float32))
        with pytest.raises(ValueError, match="clipped"):
            add_local_noise(vector, clip_norm=1.0, noise_multiplier=1.0)

    @pytest.mark.parametrize("dimension", [1, 10, 1000])
    def test_message_norm_is_the_servers(self, dimension: int) -> None:
        """What the transparency log names as the bound is what the aggregator clips to."""
        server = LocalGaussian(clip_norm=0.7, noise_multiplier=3.0)
        told = message_norm(clip_norm=0.7, noise_multiplier=3.0, dimension=dimension)
        assert told == pytest.approx(server.message_norm(dimension=dimension), rel=1e-12)
