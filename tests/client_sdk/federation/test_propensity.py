"""Propensity training on a device: what is sent, what bounds it, and what is refused."""

from __future__ import annotations

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
)
from client_sdk.federation.guard import guard
from client_sdk.intelligence import History
from client_sdk.intelligence.litert import LiteRtModel
from client_sdk.intelligence.propensity_steps import LabelledBatch, PropensityCases
from client_sdk.testing import FakeAggregator
from client_sdk.wire import Catalogue, Order, Purpose, TaskKind, sha256_hex
from client_sdk.wire.propensity import PropensityWeights, parameter_count

FEATURES, BATCH = 3, 4
KIND = TaskKind.PROPENSITY_TRAINING
ENCODE = ENCODERS[KIND]


@pytest.fixture(scope="module", params=[0, 2], ids=["logistic", "layer"])
def graph(request: pytest.FixtureRequest) -> LiteRtModel:
    """The exported graph, of both shapes."""
    exporter = pytest.importorskip("models.propensity_graph", exc_type=ImportError)
    data, _ = exporter.export_propensity(features=FEATURES, hidden=request.param, batch=BATCH)
    return LiteRtModel(data)


def cases_of(graph: LiteRtModel, n: int = 6, **changes: Any) -> PropensityCases:
    """Cases that fill one call of the graph and half of another."""
    rng = np.random.default_rng(3)
    fields = {
        "features": rng.standard_normal((n, FEATURES)) * [1.0, 10.0, 1e9],
        "labels": (rng.random(n) < 0.5).astype(np.float32),
        "weights": np.linspace(0.0, 2.0, n),
    }
    return PropensityCases(graph=graph, batch=LabelledBatch(**{**fields, **changes}))


def given_cases(cases: PropensityCases | None) -> EncoderInput:
    """A device that kept them under one name."""
    history = History.from_events(items=[1], times_s=[1.0], now_s=2.0)
    kept = {} if cases is None else {"buys": cases}
    return EncoderInput(history=history, n_items=8, propensities=kept)


def weights_for(graph: LiteRtModel) -> PropensityWeights:
    """Weights of the graph's sizes, drawn."""
    features, hidden = PropensityCases(graph=graph, batch=cases_of(graph).batch).sizes
    draw = np.random.default_rng(5).standard_normal(parameter_count(features, hidden))
    return PropensityWeights(
        hidden=hidden,
        centre=np.array([0.2, -1.0, 0.0], np.float32),
        scale=np.array([1.0, 0.1, 1.0], np.float32),
        parameters=draw.astype(np.float32),
    )


def order_for(
    aggregator: FakeAggregator,
    catalogue: Catalogue,
    start: PropensityWeights,
    *,
    payload: bytes | None = None,
    **changes: Any,
) -> Order:
    """An order to learn from one's own cases."""
    parameters = {
        "propensity": "buys", "features": start.n_features, "hidden": start.hidden,
        "learning_rate": 0.5, "memory": 0.4, "passes": 2, **changes,
    }  # fmt: skip
    sent = start.to_payload() if payload is None else payload
    return aggregator.order(KIND, catalogue, parameters=parameters, payload=sent)


def test_change_is_that_of_the_formulas(
    graph: LiteRtModel, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Two passes of two batches, beside numpy in float64, written apart from the graph."""
    from models.propensity_graph import propensity_formulas

    start, cases = weights_for(graph), cases_of(graph)
    order = order_for(aggregator, catalogue, start)
    assert order.purpose is Purpose.TRAIN
    assert expected_dimension(order, n_items=8) == order.dimension == start.parameters.size
    step = propensity_formulas(FEATURES, start.hidden)["train"]
    moved = (cases.batch.features.astype(np.float64) - start.centre) * start.scale
    rows, parameters = np.clip(moved, -8.0, 8.0), start.parameters.astype(np.float64)
    memory = np.full(parameters.shape, 0.4)
    for _ in range(2):
        for part in (slice(0, BATCH), slice(BATCH, 2 * BATCH)):
            given = {
                "features": rows[part], "labels": cases.batch.labels[part],
                "weights": np.asarray(cases.batch.weights)[part], "parameters": parameters,
                "memory": memory, "learning_rate": 0.5, "l2": 0.0,
            }  # fmt: skip
            out = step(given)
            parameters, memory = out["parameters"], out["memory"]
    expected = parameters - start.parameters
    vector = ENCODE(order, given_cases(cases)).to_dense()
    assert np.linalg.norm(vector - expected) <= 1e-5 * np.linalg.norm(expected)
    assert np.array_equal(ENCODE(order, given_cases(cases)).to_dense(), vector)


@pytest.mark.parametrize("clip_norm", [0.01, 1e-9])
def test_change_of_wild_cases_leaves_within_the_clip_norm(
    clip_norm: float, graph: LiteRtModel, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Whoever a person is, adding them moves the sum by the clip norm at most, exactly."""
    wild = cases_of(graph, features=np.full((6, FEATURES), 3e38), weights=np.full(6, 1e30))
    order = order_for(aggregator, catalogue, weights_for(graph), learning_rate=10.0, passes=100)
    sent = guard(ENCODE(order, given_cases(wild)), dimension=order.dimension, clip_norm=clip_norm)
    assert 0.99 * clip_norm < sent.norm() <= clip_norm


def test_device_without_cases_that_count_is_too_little(
    graph: LiteRtModel, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """No such propensity, another's name, none kept, or all of weight 0."""
    start = weights_for(graph)
    order = order_for(aggregator, catalogue, start)
    empty = cases_of(
        graph, features=np.zeros((0, FEATURES)), labels=np.zeros(0), weights=np.zeros(0)
    )
    for held in (None, empty, cases_of(graph, weights=np.zeros(6))):
        with pytest.raises(TooLittleDataError):
            ENCODE(order, given_cases(held))
    with pytest.raises(TooLittleDataError):
        ENCODE(
            order_for(aggregator, catalogue, start, propensity="leaves"),
            given_cases(cases_of(graph)),
        )


def test_order_of_other_sizes_or_no_weights_is_refused(
    graph: LiteRtModel, aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """Another graph is not this device's; bytes that are no weights are nobody's."""
    start, held = weights_for(graph), given_cases(cases_of(graph))
    other = PropensityWeights(
        hidden=0,
        centre=np.zeros(FEATURES + 1, np.float32),
        scale=np.ones(FEATURES + 1, np.float32),
        parameters=np.zeros(FEATURES + 2, np.float32),
    )
    with pytest.raises(TaskUnavailableError):
        ENCODE(order_for(aggregator, catalogue, other), held)
    good = start.to_payload()
    nan = np.full(len(good) // 4, np.nan, "<f4").tobytes()
    for payload in (b"", good[:-4], good + bytes(4), nan, b"x"):
        with pytest.raises(OrderOutOfBoundsError):
            ENCODE(order_for(aggregator, catalogue, start, payload=payload), held)


@pytest.mark.parametrize(
    "change",
    [
        {"propensity": ""}, {"propensity": 7}, {"propensity": "x" * 129}, {"features": 0},
        {"features": 513}, {"features": 2.0}, {"hidden": -1}, {"hidden": 65}, {"hidden": True},
        {"learning_rate": 0}, {"learning_rate": 11.0}, {"learning_rate": float("nan")},
        {"memory": 0.0}, {"memory": 1e4}, {"memory": "1"}, {"passes": 0}, {"passes": 101},
        {"person": "p"},
    ],
    ids=str,
)  # fmt: skip
def test_parameters_out_of_bounds_are_refused_before_the_payload(
    change: dict[str, Any], aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """The dimension and the work are bounded before any payload is there."""
    parameters = {
        "propensity": "buys", "features": 1, "hidden": 0, "learning_rate": 0.5, "memory": 1.0,
        "passes": 1,
    }  # fmt: skip
    good = aggregator.order(KIND, catalogue, parameters=parameters)
    order = Order(
        **{**vars(good), "parameters": {**parameters, **change}, "payload_sha256": sha256_hex(b"")}
    )
    with pytest.raises(OrderOutOfBoundsError):
        expected_dimension(order, n_items=8)
    missing = {name: value for name, value in parameters.items() if name not in change}
    if missing != parameters:
        with pytest.raises(OrderOutOfBoundsError):
            expected_dimension(Order(**{**vars(good), "parameters": missing}), n_items=8)
