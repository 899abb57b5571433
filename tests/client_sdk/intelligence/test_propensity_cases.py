"""Cases that a propensity keeps, and the shared weights that one starts from."""

from __future__ import annotations

import numpy as np
import pytest

from client_sdk.intelligence.litert import LiteRtModel
from client_sdk.intelligence.propensity import (
    MAX_KEPT_CASES,
    LabelledBatch,
    PropensityModel,
    PropensitySettings,
)
from client_sdk.intelligence.state import LearnedState, LearnedStateError
from client_sdk.wire.propensity import PropensityWeights

KEEP = PropensitySettings(keep_cases=5)
START = PropensityWeights(
    hidden=0,
    centre=np.array([1.0, 0.0], np.float32),
    scale=np.array([2.0, 1.0], np.float32),
    parameters=np.array([0.5, -1.0, 0.25], np.float32),
)


@pytest.fixture(scope="module")
def graph() -> LiteRtModel:
    """A logistic graph of two features."""
    exporter = pytest.importorskip("models.propensity_graph", exc_type=ImportError)
    return LiteRtModel(exporter.export_propensity(features=2, hidden=0, batch=4)[0])


def batch(first: int, n: int) -> LabelledBatch:
    """Cases that can be told apart by their first feature."""
    features = np.column_stack([np.arange(first, first + n), np.ones(n)])
    return LabelledBatch(features=features, labels=np.arange(n) % 2, weights=np.full(n, 0.5))


def test_cases_are_kept_only_when_asked_and_only_the_newest(graph: LiteRtModel) -> None:
    """By default none; else as many as the settings say, in the order in which they came."""
    silent = PropensityModel(graph)
    silent.train(batch(0, 3))
    assert len(silent.cases().batch) == 0
    model = PropensityModel(graph, KEEP)
    model.train(batch(0, 3))
    model.fit(batch(3, 4), epochs=2)
    kept = model.cases().batch
    assert kept.features[:, 0].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert kept.labels.tolist() == [0.0, 0.0, 1.0, 0.0, 1.0]
    assert np.asarray(kept.weights).tolist() == [0.5] * 5
    kept.features[:] = 9.0
    assert model.cases().batch.features[0, 0] == 2.0


def test_state_with_cases_goes_on_and_fewer_or_none_are_dropped(graph: LiteRtModel) -> None:
    """What was kept is there after a restart; settings that keep less, keep less."""
    model = PropensityModel(graph, KEEP)
    model.train(batch(0, 4))
    data = model.to_bytes()
    again = PropensityModel.from_bytes(data, graph, KEEP)
    assert again.to_bytes() == data
    fewer = PropensityModel.from_bytes(data, graph, PropensitySettings(keep_cases=1))
    assert fewer.cases().batch.features[:, 0].tolist() == [3.0]
    none = PropensityModel.from_bytes(data, graph)
    assert len(none.cases().batch) == 0
    state = LearnedState.from_bytes(none.to_bytes(), model="propensity")
    assert "cases" not in state.arrays


@pytest.mark.parametrize(
    ("facts", "arrays"),
    [
        ({"cases": 3}, {}),
        ({"cases": -1}, {}),
        ({}, {"cases": np.full((4, 4), 2.0)}),
        ({}, {"cases": np.full((4, 4), -1.0)}),
        ({}, {"centre": np.zeros(2)}),
        ({}, {"centre": np.zeros(3), "scale": np.ones(3)}),
    ],
)
def test_state_with_cases_that_are_none_is_refused(
    facts: dict[str, int], arrays: dict[str, np.ndarray], graph: LiteRtModel
) -> None:
    """Damage is one error, and never a model."""
    model = PropensityModel(graph, KEEP)
    model.train(batch(0, 4))
    state = LearnedState.from_bytes(model.to_bytes(), model="propensity")
    changed = LearnedState(
        model="propensity", facts={**state.facts, **facts}, arrays={**state.arrays, **arrays}
    )
    with pytest.raises(LearnedStateError):
        PropensityModel.from_bytes(changed.to_bytes(), graph, KEEP)


def test_model_from_shared_weights_predicts_with_them_and_stays_on_their_scale(
    graph: LiteRtModel,
) -> None:
    """New or restarted, what was seen here doesn't move the scale that the weights are on."""
    x = np.array([[1.5, 2.0], [0.0, 0.0]])
    expected = [0.5 * 1.0 - 1.0 * 2.0 + 0.25, 0.5 * -2.0 + 0.25]
    model = PropensityModel(graph, PropensitySettings(l2=0.0), start=START)
    assert model.logits(x) == pytest.approx(expected)
    model.train(LabelledBatch(features=x + 100.0, labels=[0.5, 0.5], weights=[0.0, 0.0]))
    assert model.logits(x) == pytest.approx(expected)
    again = PropensityModel.from_bytes(model.to_bytes(), graph)
    assert np.array_equal(again.logits(x), model.logits(x))
    assert START.parameters.tolist() == [0.5, -1.0, 0.25]


def test_start_of_other_sizes_or_keeping_too_many_is_refused(graph: LiteRtModel) -> None:
    """The caller's mistake, before anything is learned."""
    other = PropensityWeights(
        hidden=0,
        centre=np.zeros(3, np.float32),
        scale=np.ones(3, np.float32),
        parameters=np.zeros(4, np.float32),
    )
    with pytest.raises(ValueError, match="sizes"):
        PropensityModel(graph, start=other)
    with pytest.raises(ValueError, match="sizes"):
        PropensityModel(graph, KEEP).cases().change_from(
            other, learning_rate=0.1, memory=1.0, passes=1
        )
    for wrong in (-1, MAX_KEPT_CASES + 1):
        with pytest.raises(ValueError, match="keep_cases"):
            PropensitySettings(keep_cases=wrong)
