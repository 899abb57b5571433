"""Encoders: what each task sends, and every order that is refused before any work."""

from typing import Any

import numpy as np
import pytest

from client_sdk.federation.encoders import (
    ENCODERS,
    EncoderInput,
    OrderOutOfBoundsError,
    TaskUnavailableError,
    TooLittleDataError,
    expected_dimension,
    participation_key,
)
from client_sdk.intelligence import History, RankerSettings, RankerTable
from client_sdk.intelligence.item_training import ItemTrainingTask, train_rows
from client_sdk.intelligence.litert import LiteRtModel
from client_sdk.testing import FakeAggregator
from client_sdk.wire import Catalogue, Order, Purpose, TaskKind, sha256_hex, unpack_symmetric
from client_sdk.wire.bandit import ArmEvidence, arms_payload, unpack_sum
from client_sdk.wire.outcomes import ExperimentOutcome, OutcomeLayout

HISTORY = History.from_events(items=[1, 3, 3, 6], times_s=[1.0, 2.0, 3.0, 4.0], now_s=5.0)
EXPERIMENT = {"experiment": "ab" * 32, "groups": 3, "metrics": 2}
EMPTY = History.empty(now_s=5.0)
TRAINING = {
    "rank": 4, "learning_rate": 0.5, "steps": 2, "negatives": 2, "ridge": 0.1, "seed": 7,
}  # fmt: skip


def given_input(history: History = HISTORY, **changes: Any) -> EncoderInput:
    """What an encoder sees of eight items."""
    return EncoderInput(history=history, n_items=8, **changes)


def test_every_task_has_an_encoder() -> None:
    """The registry is closed and complete."""
    assert set(ENCODERS) == set(TaskKind)


def test_item_counts_vector_has_unit_norm(aggregator: FakeAggregator, catalogue: Catalogue) -> None:
    """One person weighs one, however much they bought."""
    order = aggregator.order(TaskKind.ITEM_COUNTS, catalogue)
    vector = ENCODERS[TaskKind.ITEM_COUNTS](order, given_input())
    assert vector.indices.tolist() == [1, 3, 6]
    assert vector.dimension == order.dimension == 8
    assert vector.norm() == pytest.approx(1.0, abs=1e-6)
    assert len(set(vector.values.tolist())) == 1  # each item once, however often it was bought


def test_item_statistics_is_the_outer_product_over_the_top_items(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Items outside the list don't count, and what is left has unit norm again."""
    order = aggregator.order(TaskKind.ITEM_STATISTICS, catalogue, top_items=[0, 1, 3])
    vector = ENCODERS[TaskKind.ITEM_STATISTICS](order, given_input())
    matrix = unpack_symmetric(vector.to_dense().astype(np.float64), 3)
    assert np.trace(matrix) == pytest.approx(1.0, abs=1e-6)
    assert matrix[0].tolist() == [0, 0, 0]
    assert matrix[1, 2] ** 2 == pytest.approx(matrix[1, 1] * matrix[2, 2], rel=1e-5)


def test_item_statistics_without_a_top_item_is_too_little(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """A history outside the list gives nothing, and says so."""
    order = aggregator.order(TaskKind.ITEM_STATISTICS, catalogue, top_items=[0, 2])
    with pytest.raises(TooLittleDataError):
        ENCODERS[TaskKind.ITEM_STATISTICS](order, given_input())


@pytest.mark.parametrize("rows", [[3, 1], [1, 1], [-1, 1], [1, 8], [1], [1, 2, 3]])
def test_item_statistics_payload_out_of_order_or_range_is_refused(
    rows: list[int], aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """The list is exactly K strictly increasing rows of the catalogue."""
    payload = np.array(rows, "<i4").tobytes()
    good = aggregator.order(TaskKind.ITEM_STATISTICS, catalogue, top_items=[0, 1])
    fields = {**vars(good), "payload": payload, "payload_sha256": sha256_hex(payload)}
    with pytest.raises(OrderOutOfBoundsError):
        ENCODERS[TaskKind.ITEM_STATISTICS](Order(**fields), given_input())


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (TaskKind.ITEM_COUNTS, {"top_items": 3}),
        (TaskKind.ITEM_STATISTICS, {}),
        (TaskKind.ITEM_STATISTICS, {"top_items": 0}),
        (TaskKind.ITEM_STATISTICS, {"top_items": 9}),
        (TaskKind.ITEM_STATISTICS, {"top_items": 3.0}),
        (TaskKind.ITEM_STATISTICS, {"top_items": True}),
        (TaskKind.ITEM_STATISTICS, {"top_items": 3, "code": "x"}),
        (TaskKind.ITEM_TRAINING, {}),
        (TaskKind.ITEM_TRAINING, {**TRAINING, "steps": 10**9}),
        (TaskKind.ITEM_TRAINING, {**TRAINING, "rank": 0}),
        (TaskKind.ITEM_TRAINING, {**TRAINING, "learning_rate": 0}),
        (TaskKind.ITEM_TRAINING, {**TRAINING, "learning_rate": "1"}),
        (TaskKind.ITEM_TRAINING, {**TRAINING, "ridge": 10**400}),
        (TaskKind.ITEM_TRAINING, {**TRAINING, "seed": -1}),
        (TaskKind.ITEM_TRAINING, {**TRAINING, "optimizer": "adam"}),
        (TaskKind.EXPERIMENT_OUTCOMES, {}),
        (TaskKind.EXPERIMENT_OUTCOMES, {**EXPERIMENT, "experiment": "AB" * 32}),
        (TaskKind.EXPERIMENT_OUTCOMES, {**EXPERIMENT, "experiment": 7}),
        (TaskKind.EXPERIMENT_OUTCOMES, {**EXPERIMENT, "groups": 33}),
        (TaskKind.EXPERIMENT_OUTCOMES, {**EXPERIMENT, "metrics": 0}),
        (TaskKind.EXPERIMENT_OUTCOMES, {**EXPERIMENT, "person": "p"}),
    ],
)
def test_expected_dimension_of_parameters_out_of_bounds_is_refused(
    kind: TaskKind, parameters: dict[str, Any], aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Unknown, missing and unbounded parameters are refused before any work."""
    good = aggregator.order(TaskKind.ITEM_COUNTS, catalogue)
    order = Order(**{**vars(good), "kind": kind, "parameters": parameters})
    with pytest.raises(OrderOutOfBoundsError):
        expected_dimension(order, n_items=8)


def test_expected_dimension_follows_from_the_task(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """The device computes the dimension; the order only repeats it."""
    for kind, parameters in (
        (TaskKind.ITEM_COUNTS, {}),
        (TaskKind.ITEM_STATISTICS, {}),
        (TaskKind.ITEM_TRAINING, TRAINING),
    ):
        order = aggregator.order(kind, catalogue, parameters=parameters)
        assert expected_dimension(order, n_items=8) == order.dimension


def test_empty_history_is_too_little(aggregator: FakeAggregator, catalogue: Catalogue) -> None:
    """Nobody contributes nothing."""
    for kind in (TaskKind.ITEM_COUNTS, TaskKind.ITEM_STATISTICS):
        with pytest.raises(TooLittleDataError):
            ENCODERS[kind](aggregator.order(kind, catalogue), given_input(EMPTY))


def test_item_counts_with_a_payload_is_refused(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """A payload that the task does not have is refused."""
    order = aggregator.order(TaskKind.ITEM_COUNTS, catalogue, payload=b"x")
    with pytest.raises(OrderOutOfBoundsError):
        ENCODERS[TaskKind.ITEM_COUNTS](order, given_input())


def training_order(
    aggregator: FakeAggregator, catalogue: Catalogue, factors: np.ndarray, **changes: Any
) -> Order:
    """An order to train these factors."""
    return aggregator.order(
        TaskKind.ITEM_TRAINING,
        catalogue,
        payload=factors.astype("<f4").tobytes(),
        parameters={**TRAINING, **changes},
    )


def test_item_training_sends_the_change_of_the_touched_rows(
    aggregator: FakeAggregator, catalogue: Catalogue, graph: bytes
) -> None:
    """The flat vector is the encoder's row change, row by row."""
    factors = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    order = training_order(aggregator, catalogue, factors)
    settings = RankerSettings()
    vector = ENCODERS[TaskKind.ITEM_TRAINING](order, given_input(graph=graph, settings=settings))
    table = RankerTable.from_arrays(
        factors=factors, settings=RankerSettings(form="ridge", ridge=0.1)
    )
    task = ItemTrainingTask(seed=7, steps=2, learning_rate=0.5, negatives=2)
    delta = train_rows(LiteRtModel(graph), table, HISTORY, task)
    expected = np.zeros((8, 4), np.float32)
    expected[delta.items] = delta.rows
    assert np.array_equal(vector.to_dense().reshape(8, 4), expected)
    assert np.abs(expected[[1, 3, 6]]).sum() > 0


def test_item_training_without_a_model_is_unavailable(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Before any release with a graph a device can't train."""
    order = training_order(aggregator, catalogue, np.zeros((8, 4)))
    with pytest.raises(TaskUnavailableError):
        ENCODERS[TaskKind.ITEM_TRAINING](order, given_input())


def test_item_training_payload_that_does_not_fit_is_refused(
    aggregator: FakeAggregator, catalogue: Catalogue, graph: bytes
) -> None:
    """Another length, another rank than the graph's, or a NaN is refused."""
    given_model = given_input(graph=graph, settings=RankerSettings())
    nan = np.full((8, 4), np.nan)
    for order in (
        training_order(aggregator, catalogue, np.zeros((7, 4))),
        training_order(aggregator, catalogue, nan),
        training_order(aggregator, catalogue, np.zeros((8, 3)), rank=3),
    ):
        with pytest.raises(OrderOutOfBoundsError):
            ENCODERS[TaskKind.ITEM_TRAINING](order, given_model)


def experiment_order(aggregator: FakeAggregator, catalogue: Catalogue, **changes: Any) -> Order:
    """An order to say what came of an experiment."""
    return aggregator.order(
        TaskKind.EXPERIMENT_OUTCOMES,
        catalogue,
        **{"parameters": EXPERIMENT, "dimension": 15, "clip_norm": 2.0, **changes},
    )


def with_outcome(outcome: ExperimentOutcome) -> EncoderInput:
    """A device where the experiment is over."""
    return given_input(experiments={EXPERIMENT["experiment"]: outcome})


def test_experiment_outcomes_vector_is_the_layout_scaled_to_the_clip_norm(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """One block, and the whole of the norm that the order allows for who reached every bound."""
    order = experiment_order(aggregator, catalogue)
    assert expected_dimension(order, n_items=8) == order.dimension
    given = with_outcome(ExperimentOutcome(group=1, outcomes=(1.0, 1.0)))
    vector = ENCODERS[TaskKind.EXPERIMENT_OUTCOMES](order, given)
    assert vector.norm() == pytest.approx(2.0, abs=1e-6)
    assert vector.indices.tolist() == [5, 6, 8]
    counts, sums, _ = OutcomeLayout(groups=3, metrics=2, clip_norm=2.0).unpack(
        vector.to_dense().astype(np.float64)
    )
    assert counts == pytest.approx([0, 1, 0], abs=1e-6)
    assert sums[1] == pytest.approx([1, 1], abs=1e-6)


def test_experiment_outcomes_of_who_was_not_exposed_is_too_little(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Another definition's outcome is not this one's."""
    other = given_input(experiments={"cd" * 32: ExperimentOutcome(group=0, outcomes=(1.0, 1.0))})
    for given in (given_input(), other):
        with pytest.raises(TooLittleDataError):
            ENCODERS[TaskKind.EXPERIMENT_OUTCOMES](experiment_order(aggregator, catalogue), given)


def test_experiment_outcomes_order_that_does_not_fit_is_refused(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """A payload, or an outcome of other groups or metrics than the order's."""
    encode = ENCODERS[TaskKind.EXPERIMENT_OUTCOMES]
    fits = with_outcome(ExperimentOutcome(group=0, outcomes=(1.0, 1.0)))
    with pytest.raises(OrderOutOfBoundsError):
        encode(experiment_order(aggregator, catalogue, payload=b"x"), fits)
    for outcome in (
        ExperimentOutcome(group=3, outcomes=(1.0, 1.0)),
        ExperimentOutcome(group=0, outcomes=(1.0,)),
    ):
        with pytest.raises(OrderOutOfBoundsError):
            encode(experiment_order(aggregator, catalogue), with_outcome(outcome))


def test_experiment_outcomes_need_consent_to_statistics(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """The purpose is the device's to say."""
    assert experiment_order(aggregator, catalogue).purpose is Purpose.STATISTICS


def test_participation_key_is_one_for_all_tasks_of_an_experiment(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Two tasks about one experiment are one chance to take part; of item counts, two."""
    one, two = (experiment_order(aggregator, catalogue) for _ in range(2))
    assert one.task_id != two.task_id
    assert participation_key(one) == participation_key(two) == "experiment/" + "ab" * 32
    other = {**EXPERIMENT, "experiment": "cd" * 32}
    assert participation_key(experiment_order(aggregator, catalogue, parameters=other)) != (
        participation_key(one)
    )
    first, second = (aggregator.order(TaskKind.ITEM_COUNTS, catalogue) for _ in range(2))
    assert (participation_key(first), participation_key(second)) == (first.task_id, second.task_id)


def letters(**changes: Any) -> EncoderInput:
    """A device whose bandit saw two arms."""
    seen = ArmEvidence(
        arms=("tea", "mug"),
        precision=np.stack([4.0 * np.eye(2), np.eye(2)]),
        response=np.array([[3.0, 0.0], [0.0, 1.0]]),
    )
    return given_input(**{"bandits": {"letter": seen}, **changes})


def bandit_order(
    aggregator: FakeAggregator, catalogue: Catalogue, *arms: str, **changes: Any
) -> Order:
    """An order to say what the bandit saw."""
    return aggregator.order(
        TaskKind.BANDIT_STATISTICS,
        catalogue,
        payload=arms_payload(arms),
        parameters={"bandit": "letter", "arms": len(arms), "features": 2, **changes},
    )


def test_bandit_statistics_are_the_arms_of_the_order_cut_to_its_norm(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """In the order's order, as a whole, at most the clip norm; other arms stay at home."""
    order = bandit_order(aggregator, catalogue, "cup", "tea")
    assert order.purpose is Purpose.TRAIN
    assert expected_dimension(order, n_items=8) == order.dimension == 10
    vector = ENCODERS[TaskKind.BANDIT_STATISTICS](order, letters())
    assert 1.0 - 1e-6 < vector.norm() <= 1.0
    precision, response = unpack_sum(vector.to_dense().astype(np.float64), n_arms=2, n_features=2)
    assert not precision[0].any()
    assert response[1] / precision[1, 0, 0] == pytest.approx([0.75, 0.0])


def test_bandit_statistics_of_nothing_that_was_asked_is_too_little(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """No such bandit, or none of the arms."""
    encode = ENCODERS[TaskKind.BANDIT_STATISTICS]
    for order in (
        bandit_order(aggregator, catalogue, "cup"),
        bandit_order(aggregator, catalogue, "tea", bandit="banner"),
    ):
        with pytest.raises(TooLittleDataError):
            encode(order, letters())


def test_bandit_statistics_order_that_does_not_fit_is_refused(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Other features than the device's, other arms than announced, or no list of ids."""
    encode = ENCODERS[TaskKind.BANDIT_STATISTICS]
    with pytest.raises(TaskUnavailableError):
        encode(bandit_order(aggregator, catalogue, "tea", features=3), letters())
    good = bandit_order(aggregator, catalogue, "tea")
    for payload in (b"", b"{}", b'["tea","tea"]', b'["tea","mug"]', b"[1]", b"\xff"):
        fields = {**vars(good), "payload": payload, "payload_sha256": sha256_hex(payload)}
        with pytest.raises(OrderOutOfBoundsError):
            encode(Order(**fields), letters())


@pytest.mark.parametrize(
    "change",
    [
        {"bandit": ""},
        {"bandit": "x" * 129},
        {"bandit": 7},
        {"arms": 0},
        {"arms": 1_001},
        {"features": 0},
        {"features": 129},
        {"features": 2.0},
        {"person": "p"},
    ],
)
def test_bandit_statistics_parameters_out_of_bounds_are_refused(
    change: dict[str, Any], aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """The dimension is bounded before any payload is there."""
    good = bandit_order(aggregator, catalogue, "tea")
    order = Order(**{**vars(good), "parameters": {**good.parameters, **change}})
    with pytest.raises(OrderOutOfBoundsError):
        expected_dimension(order, n_items=8)
