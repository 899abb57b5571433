"""Propensity on the device: learns, keeps its state, and refuses what it can't use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.intelligence.calibration import fit_platt, reliability
from client_sdk.intelligence.litert import LiteRtModel, ModelRunError, TensorShape
from client_sdk.intelligence.propensity import (
    FARTHEST,
    LabelledBatch,
    PropensityModel,
    PropensitySettings,
)
from client_sdk.intelligence.state import LearnedState, LearnedStateError

FEATURES, BATCH = 4, 16
ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("HOMEBODY_SHARED", ROOT.parent / "shared")) / "data"


def _graph(hidden: int) -> LiteRtModel:
    exporter = pytest.importorskip("models.propensity_graph", exc_type=ImportError)
    return LiteRtModel(exporter.export_propensity(features=FEATURES, hidden=hidden, batch=BATCH)[0])


@pytest.fixture(scope="module")
def logistic() -> LiteRtModel:
    """The exported logistic graph."""
    return _graph(0)


@pytest.fixture(scope="module")
def layered() -> LiteRtModel:
    """The exported graph with a layer of 6 units."""
    return _graph(6)


class FailingGraph:
    """The logistic graph, with its labels noted; its steps fail after some."""

    def __init__(self, graph: LiteRtModel, *, good_steps: int) -> None:
        self.graph = graph
        self.left = good_steps
        self.labels: list[list[float]] = []

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Run, or fail."""
        if signature == "train":
            self.left -= 1
            self.labels.append(inputs["labels"].tolist())
            if self.left < 0:
                raise ModelRunError("output 'parameters' of 'train' overflowed")
        return self.graph.run(signature, inputs)

    def input_shapes(self, signature: str) -> dict[str, TensorShape]:
        """Give the graph's shapes."""
        return self.graph.input_shapes(signature)


def _cases(n: int = 600, seed: int = 0) -> tuple[LabelledBatch, np.ndarray]:
    """Give cases of a logistic world whose features have odd sizes, and their true chances."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, FEATURES))
    chances = 1 / (1 + np.exp(-(z @ [1.5, -1.0, 0.5, 0.0] - 0.5)))
    features = z * [1.0, 100.0, 1e-3, 1e4] + [0.0, 500.0, 2.0, -1e5]
    return LabelledBatch(features=features, labels=rng.random(n) < chances), chances


def _auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Count pairs, one by one: the definition."""
    gaps = scores[labels > 0][:, None].astype(np.float64) - scores[labels == 0][None, :]
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))


def test_fit_logistic_world_finds_its_chances(logistic: LiteRtModel) -> None:
    """Features of any size and place are learned from alike."""
    batch, _ = _cases(2_000)
    model = PropensityModel(logistic)
    first = model.fit(batch, epochs=1)
    last = model.fit(batch, epochs=10)
    test, chances = _cases(1_000, seed=1)
    assert last < first < 0.7
    assert np.abs(model.predict(test.features) - chances).mean() < 0.04


def test_fit_layer_learns_what_no_line_can(logistic: LiteRtModel, layered: LiteRtModel) -> None:
    """An exclusive or needs the layer; the logistic graph stays at a coin's toss."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2_000, FEATURES))
    batch = LabelledBatch(features=x, labels=(x[:, 0] > 0) != (x[:, 1] > 0))
    aucs = []
    for graph in (logistic, layered):
        model = PropensityModel(graph, PropensitySettings(seed=2))
        model.fit(batch, epochs=60)
        aucs.append(_auc(model.predict(x), np.asarray(batch.labels)))
    assert aucs[0] < 0.6
    assert aucs[1] > 0.95


def test_train_one_case_at_a_time_gives_the_moments_of_all(logistic: LiteRtModel) -> None:
    """The running mean and deviation are those of everything seen, in any portions."""
    batch, _ = _cases(50)
    whole, single = PropensityModel(logistic), PropensityModel(logistic)
    whole.train(batch)
    for at in range(50):
        single.train(LabelledBatch(features=batch.features[[at]], labels=batch.labels[[at]]))
    one, two = (LearnedState.from_bytes(m.to_bytes(), model="propensity") for m in (whole, single))
    wide = np.asarray(batch.features, np.float64)
    for state in (one, two):
        assert np.allclose(state.arrays["mean"], wide.mean(axis=0), rtol=1e-9)
        assert np.allclose(state.arrays["squares"] / 50, wide.var(axis=0), rtol=1e-7)
    assert (single.n_seen, single.steps) == (50, 50)


@pytest.mark.parametrize("hidden", ["logistic", "layered"])
def test_model_same_seed_and_batches_is_the_same_to_the_last_bit(
    hidden: str, request: pytest.FixtureRequest
) -> None:
    """Two runs agree; another seed does not, once there is an order to draw."""
    graph = request.getfixturevalue(hidden)
    batch, _ = _cases(100)
    states = []
    for seed in (3, 3, 4):
        model = PropensityModel(graph, PropensitySettings(seed=seed))
        model.fit(batch, epochs=2)
        states.append(model.to_bytes())
    assert states[0] == states[1] != states[2]


def test_from_bytes_goes_on_where_it_stopped(layered: LiteRtModel) -> None:
    """A restart in the middle changes nothing."""
    batch, _ = _cases(100)
    through = PropensityModel(layered)
    through.fit(batch, epochs=1)
    resumed = PropensityModel.from_bytes(through.to_bytes(), layered)
    for model in (through, resumed):
        model.fit(batch, epochs=1)
    assert through.to_bytes() == resumed.to_bytes()
    assert np.array_equal(through.predict(batch.features), resumed.predict(batch.features))


def test_predict_in_any_portions_is_the_same(logistic: LiteRtModel) -> None:
    """Padding does not reach a prediction; none gives none."""
    batch, _ = _cases(40)
    model = PropensityModel(logistic)
    model.train(batch)
    together = model.predict(batch.features)
    assert together.dtype == np.float32
    assert np.array_equal(
        together, np.concatenate([model.predict(r[None]) for r in batch.features])
    )
    assert len(model.predict(np.zeros((0, FEATURES)))) == 0


def test_predict_before_any_case_is_one_half(logistic: LiteRtModel) -> None:
    """Who knows nothing says so, whatever the features are."""
    assert PropensityModel(logistic).predict(np.full((1, FEATURES), 1e30)).tolist() == [0.5]


def test_predict_wild_feature_is_cut(logistic: LiteRtModel) -> None:
    """One number of 1e30 counts as `FARTHEST` deviations, and never as infinity."""
    batch, _ = _cases(200)
    model = PropensityModel(logistic)
    model.train(batch)
    wide = np.asarray(batch.features, np.float64)
    typical = wide.mean(axis=0)
    wild, cut = typical.copy(), typical.copy()
    wild[0], cut[0] = 1e30, typical[0] + FARTHEST * wide[:, 0].std()
    assert np.allclose(model.predict(wild[None]), model.predict(cut[None]), atol=1e-5)


def test_train_constant_feature_counts_as_nothing(logistic: LiteRtModel) -> None:
    """A feature that never varied has no say, also when it varies at last."""
    batch, _ = _cases(100)
    features = np.asarray(batch.features).copy()
    features[:, 3] = 12_345.678
    model = PropensityModel(logistic)
    model.train(LabelledBatch(features=features, labels=batch.labels))
    other = features.copy()
    other[:, 3] = -1.0
    assert np.array_equal(model.predict(features), model.predict(other))


def test_train_weights_count_as_cases(logistic: LiteRtModel) -> None:
    """Cases of weight 0 leave the weights and the loss alone."""
    batch, _ = _cases(BATCH)
    weights = np.ones(BATCH)
    weights[8:] = 0.0
    kept = LabelledBatch(features=batch.features, labels=batch.labels, weights=weights)
    turned = np.where(weights > 0, batch.labels, 1 - np.asarray(batch.labels))
    other = LabelledBatch(features=batch.features, labels=turned, weights=weights)
    one, two = PropensityModel(logistic), PropensityModel(logistic)
    assert one.train(kept) == two.train(other)
    assert one.to_bytes() == two.to_bytes()


def test_train_first_loss_is_that_of_a_coin(logistic: LiteRtModel) -> None:
    """The loss is the mean one before each step: log 2 for the first batch."""
    batch, _ = _cases(BATCH)
    assert PropensityModel(logistic).train(batch) == pytest.approx(np.log(2))


def test_fit_goes_over_all_cases_in_ever_other_orders(logistic: LiteRtModel) -> None:
    """Each pass sees each case once; neither a second pass nor a second fit repeats an order."""
    labels = np.arange(BATCH) / BATCH
    graph = FailingGraph(logistic, good_steps=9)
    model = PropensityModel(graph)
    for _ in range(2):
        model.fit(LabelledBatch(features=np.zeros((BATCH, FEATURES)), labels=labels), epochs=2)
    assert all(sorted(order) == labels.tolist() for order in graph.labels)
    assert len({tuple(order) for order in [*graph.labels, labels.tolist()]}) == 5


@pytest.mark.parametrize("method", ["train", "fit"])
def test_train_step_that_fails_leaves_everything_as_it_was(
    logistic: LiteRtModel, method: str
) -> None:
    """Half a pass is none: neither the weights nor the moments moved."""
    batch, _ = _cases(100)
    model = PropensityModel(FailingGraph(logistic, good_steps=10))
    model.train(batch)
    before = model.to_bytes()
    with pytest.raises(ModelRunError):
        model.train(batch) if method == "train" else model.fit(batch, epochs=2)
    assert model.to_bytes() == before


def test_from_bytes_other_graph_or_damage_is_refused(
    logistic: LiteRtModel, layered: LiteRtModel
) -> None:
    """A state of another graph, cut, changed or of another model is not used."""
    model = PropensityModel(logistic)
    model.train(_cases(20)[0])
    data = model.to_bytes()
    state = LearnedState.from_bytes(data, model="propensity")
    for graph, wrong in (
        (layered, data),
        (logistic, data[:-1]),
        (logistic, data + b"\0"),
        (logistic, b""),
        (logistic, data[:60] + bytes([data[60] ^ 1]) + data[61:]),
        (logistic, data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]),
        (logistic, LearnedState(**{**vars(state), "model": "bandit"}).to_bytes()),
    ):
        with pytest.raises(LearnedStateError):
            PropensityModel.from_bytes(wrong, graph)


@pytest.mark.parametrize(
    "change",
    [
        {"squares": np.full(FEATURES, -1.0)},
        {"memory": np.full(FEATURES + 1, -1.0)},
        {"parameters": np.full(FEATURES + 1, 1e39)},
        {"more": np.zeros(1)},
    ],
)
def test_from_bytes_numbers_that_no_model_has_are_refused(
    logistic: LiteRtModel, change: dict[str, np.ndarray]
) -> None:
    """A right hash over wrong numbers is not enough."""
    model = PropensityModel(logistic)
    state = LearnedState.from_bytes(model.to_bytes(), model="propensity")
    forged = LearnedState(
        model="propensity", facts=state.facts, arrays={**state.arrays, **change}
    ).to_bytes()
    with pytest.raises(LearnedStateError):
        PropensityModel.from_bytes(forged, logistic)


@pytest.mark.parametrize("facts", [{"count": -1, "steps": 0}, {"count": True, "steps": 0}, {}])
def test_from_bytes_facts_that_no_model_has_are_refused(
    logistic: LiteRtModel, facts: dict[str, Any]
) -> None:
    """Counts are whole numbers of 0 or more, and all are there."""
    state = LearnedState.from_bytes(PropensityModel(logistic).to_bytes(), model="propensity")
    forged = LearnedState(model="propensity", facts=facts, arrays=state.arrays).to_bytes()
    with pytest.raises(LearnedStateError):
        PropensityModel.from_bytes(forged, logistic)


@given(data=st.binary(max_size=200))
def test_learned_state_any_bytes_are_refused_by_one_error(data: bytes) -> None:
    """Reading is total."""
    for start in (b"", b"HBLS\x01"):
        with pytest.raises(LearnedStateError):
            LearnedState.from_bytes(start + data, model="propensity")


@given(
    facts=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=6),
)
def test_learned_state_round_trip_is_the_same(facts: dict[str, Any], values: list[float]) -> None:
    """What was written is read, and written again it is the same bytes."""
    state = LearnedState(model="m", facts=facts, arrays={"a": np.array(values), "b": np.eye(2)})
    again = LearnedState.from_bytes(state.to_bytes(), model="m")
    assert again.facts == facts
    assert again.arrays["a"].tolist() == values
    assert again.to_bytes() == state.to_bytes()


def test_learned_state_not_finite_is_not_written() -> None:
    """A model that went wrong is not kept."""
    with pytest.raises(ValueError, match="finite"):
        LearnedState(model="m", facts={}, arrays={"a": np.array([np.nan])}).to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.zeros(3)},
        {"features": np.full((2, FEATURES), np.nan)},
        {"features": np.full((2, FEATURES), 1e39)},
        {"labels": np.array([0.0, 2.0])},
        {"labels": np.array([0.0, np.nan])},
        {"labels": np.zeros(3)},
        {"weights": np.array([1.0, -1.0])},
        {"weights": np.array([1.0, np.inf])},
    ],
)
def test_labelled_batch_that_is_none_is_refused(change: dict[str, np.ndarray]) -> None:
    """Shapes, ranges and finiteness are checked when it is made."""
    with pytest.raises(ValueError, match="expected"):
        LabelledBatch(**{"features": np.zeros((2, FEATURES)), "labels": np.zeros(2), **change})


def test_model_other_width_or_graph_is_refused(logistic: LiteRtModel, small_graph: bytes) -> None:
    """A caller's mistakes are named before the runtime sees them."""
    model = PropensityModel(logistic)
    other = LabelledBatch(features=np.zeros((2, 3)), labels=np.zeros(2))
    for call in (lambda: model.train(other), lambda: model.predict(other.features)):
        with pytest.raises(ValueError, match="expected 4"):
            call()
    with pytest.raises(ValueError, match="epochs"):
        model.fit(_cases(4)[0], epochs=0)
    with pytest.raises(ValueError, match="propensity_graph"):
        PropensityModel(LiteRtModel(small_graph))


@pytest.mark.parametrize(
    "change", [{"learning_rate": 0.0}, {"l2": -1.0}, {"l2": np.nan}, {"seed": -1}, {"seed": 2**64}]
)
def test_propensity_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    """Each is named."""
    with pytest.raises(ValueError, match=next(iter(change))):
        PropensitySettings(**change)


def _newton(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Solve logistic regression with a squared penalty of 1/2, as a central server would."""
    x = np.column_stack([np.ones(len(x)), x])
    penalty = np.diag([0.0] + [1.0] * (x.shape[1] - 1))
    w = np.zeros(x.shape[1])
    for _ in range(25):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -500, 500)))
        bend = (x * (p * (1 - p))[:, None]).T @ x + penalty + 1e-9 * np.eye(x.shape[1])
        w -= np.linalg.solve(bend, x.T @ (p - y) + penalty @ w)
    return w


@pytest.mark.slow
@pytest.mark.parametrize("page_values", [False, True])
def test_propensity_online_shoppers_is_as_good_as_central_training(page_values: bool) -> None:
    """AUC within 0.01 of the exact solution on the same split, calibration error below 0.03."""
    if not (DATA / "online-shoppers").is_dir():
        pytest.skip("Online Shoppers is not on this machine")
    from benchmarks.experiments import area_under_roc, load_shoppers, split

    exporter = pytest.importorskip("models.propensity_graph", exc_type=ImportError)
    cases = load_shoppers(DATA, page_values=page_values)
    width = cases.features.shape[1]
    graph = LiteRtModel(exporter.export_propensity(features=width, hidden=0, batch=64)[0])
    for seed in range(3):
        learn, held_out, test = split(cases, seed=seed, shares=(0.6, 0.2, 0.2))
        model = PropensityModel(graph, PropensitySettings(seed=seed, l2=1e-3))
        model.fit(LabelledBatch(features=learn.features, labels=learn.labels), epochs=15)
        platt = fit_platt(model.logits(held_out.features), held_out.labels)
        logits = model.logits(test.features)
        table = reliability(platt.apply(logits), test.labels)
        mean, deviation = learn.features.mean(axis=0), learn.features.std(axis=0)
        scale = np.where(deviation > 0, deviation, 1.0)
        w = _newton((learn.features - mean) / scale, learn.labels)
        central = (test.features - mean) / scale @ w[1:] + w[0]
        ours, theirs = (area_under_roc(s, test.labels) for s in (logits, central))
        assert ours == pytest.approx(_auc(logits, test.labels), abs=1e-9)
        assert ours > theirs - 0.01
        assert table.expected_calibration_error < 0.03
