"""The parity gate passes the right file and refuses every wrong one that was thought of."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from client_sdk.intelligence import RankerTable, score_items, solve_private_vector
from client_sdk.intelligence.history import History, statistics_vector
from client_sdk.intelligence.litert import LiteRtModel
from models.card import ParityReport
from models.parity import ALLOWED_OPERATORS, RANKER_FORMULAS, ParityError, check_parity

tf = pytest.importorskip("tensorflow")

from models.export import export_module, export_ranker  # noqa: E402
from models.ranker_graph import SIGNATURES, RankerGraph  # noqa: E402

RANK, BATCH = 4, 8


class SignChanged(RankerGraph):
    """The self weight is added where it should be taken off."""

    def score(  # noqa: PLR0917 -- as in RankerGraph
        self, vector: Any, rows: Any, own: Any, self_weight: Any, scale: Any, bias: Any
    ) -> dict[str, Any]:
        """Give c (u f + x s) + b."""
        return {"scores": scale * (tf.linalg.matvec(rows, vector) + own * self_weight) + bias}


class ActivationDropped(RankerGraph):
    """The sigmoid is missing, as a faulty converter would leave it out."""

    def train(
        self, rows: Any, vector: Any, labels: Any, weights: Any, learning_rate: Any
    ) -> dict[str, Any]:
        """Step along the raw logit."""
        error = weights * (tf.linalg.matvec(rows, vector) - labels)
        step = tf.expand_dims(error, 1) * tf.expand_dims(vector, 0)
        return {"rows": rows - learning_rate * step}


class OneConstantOff(RankerGraph):
    """One factor of one row counts a ten-thousandth more."""

    def project(self, rows: Any, values: Any) -> dict[str, Any]:
        """Give x F, a little wrong."""
        off = np.ones((self.batch, self.rank), np.float32)
        off[3, 1] += 1e-4
        return super().project(rows * off, values)


class OtherOutputName(RankerGraph):
    """The output has another name than the host reads."""

    def project(self, rows: Any, values: Any) -> dict[str, Any]:
        """Give x F under a wrong name."""
        return {"u": super().project(rows, values)["vector"]}


class StrangeOperator(RankerGraph):
    """The same numbers by an operator that nobody allowed."""

    def project(self, rows: Any, values: Any) -> dict[str, Any]:
        """Give x F through a maximum with minus infinity."""
        return {"vector": tf.maximum(super().project(rows, values)["vector"], -3.4e38)}


def _export(kind: type[RankerGraph], *, leave_out: str = "", rank: int = RANK) -> bytes:
    graph = kind(rank=rank, batch=BATCH)
    return export_module(graph, {k: v for k, v in graph.signatures().items() if k != leave_out})


@pytest.fixture(scope="module")
def reference() -> RankerGraph:
    """The definition that every file is compared with."""
    return RankerGraph(rank=RANK, batch=BATCH)


@pytest.fixture(scope="module")
def good() -> bytes:
    """The right file."""
    return export_ranker(RANK, BATCH)


def test_check_parity_right_file_passes_with_a_report(good: bytes, reference: RankerGraph) -> None:
    """The report names signatures, operators, cases and how near they are."""
    report = check_parity(good, reference)
    assert isinstance(report, ParityReport)
    assert report.signatures == SIGNATURES
    assert set(report.operators) <= ALLOWED_OPERATORS
    assert report.cases >= 10
    assert 0 <= max(report.largest_difference.values()) <= report.tolerance == 1e-5
    assert set(report.largest_difference) == set(SIGNATURES)
    assert len(report.model_sha256) == 64
    assert report.runtime.startswith("ai-edge-litert")


@pytest.mark.parametrize("rank", [1, 32, 128])
def test_check_parity_holds_for_every_size_that_ships(rank: int) -> None:
    """The tolerance fits the ranks of real releases."""
    check_parity(export_ranker(rank, 256), RankerGraph(rank=rank, batch=256))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _export(SignChanged), "'scores' of 'score'"),
        (lambda: _export(ActivationDropped), "'rows' of 'train'"),
        (lambda: _export(OneConstantOff), "'vector' of 'project'"),
        (lambda: _export(OtherOutputName), "signature 'project' must have"),
        (lambda: _export(StrangeOperator), r"not allowed: \['MAXIMUM'\]"),
        (lambda: _export(RankerGraph, leave_out="train"), "signatures must be"),
        (lambda: _export(RankerGraph, rank=RANK + 1), "must have"),
        (lambda: b"", "cannot load"),
        (lambda: b"\x1c\x00\x00\x00TFL3" + bytes(200), "cannot load|cannot be read"),
    ],
    ids=[
        "sign changed",
        "activation dropped",
        "one constant off",
        "output renamed",
        "operator not allowed",
        "signature missing",
        "other rank",
        "empty",
        "no model",
    ],
)
def test_check_parity_wrong_file_is_refused(
    reference: RankerGraph, make: Callable[[], bytes], message: str
) -> None:
    """Each way to be wrong raises, and the message says what is wrong."""
    with pytest.raises(ParityError, match=message):
        check_parity(make(), reference)


def test_check_parity_cut_or_zeroed_file_is_refused(good: bytes, reference: RankerGraph) -> None:
    """Damage is found by the runtime's verifier or by the comparison."""
    for data in (good[: len(good) // 2], good[:40] + bytes(len(good) - 40)):
        with pytest.raises(ParityError):
            check_parity(data, reference)


def test_check_parity_definition_that_left_the_formula_is_refused() -> None:
    """File and definition agree with each other and are both wrong: numpy says so."""
    with pytest.raises(ParityError, match="the formula and TensorFlow differ"):
        check_parity(_export(SignChanged), SignChanged(rank=RANK, batch=BATCH))


def test_check_parity_without_seeds_is_refused(good: bytes, reference: RankerGraph) -> None:
    """A gate that checks nothing must not pass."""
    with pytest.raises(ValueError, match="at least one seed"):
        check_parity(good, reference, seeds=())


def test_check_parity_tighter_than_float32_is_refused(good: bytes, reference: RankerGraph) -> None:
    """The tolerance is really compared: float32 can't keep 1e-12."""
    with pytest.raises(ParityError, match="allowed 1e-12"):
        check_parity(good, reference, tolerance=1e-12)


def test_formulas_cover_every_signature() -> None:
    """No signature goes without its numpy reading."""
    assert set(RANKER_FORMULAS) == set(SIGNATURES)


def test_train_signature_is_the_gradient_of_the_logistic_loss(reference: RankerGraph) -> None:
    """The written-out gradient is what TensorFlow's tape finds."""
    rng = np.random.default_rng(3)
    rows = tf.constant(rng.standard_normal((BATCH, RANK)), tf.float32)
    vector = tf.constant(rng.standard_normal(RANK), tf.float32)
    labels = tf.constant(rng.integers(0, 2, BATCH), tf.float32)
    weights = tf.constant(rng.random(BATCH), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = tf.reduce_sum(
            weights
            * tf.nn.sigmoid_cross_entropy_with_logits(labels, tf.linalg.matvec(rows, vector))
        )
    stepped = reference.train(rows, vector, labels, weights, tf.constant(0.3))["rows"]
    expected = rows - 0.3 * tape.gradient(loss, rows)
    assert np.abs(stepped.numpy() - expected.numpy()).max() < 1e-6


def test_train_padding_rows_stay_as_they_are(good: bytes) -> None:
    """A row of weight 0 doesn't move, to the last bit."""
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((BATCH, RANK)).astype(np.float32)
    weights = np.ones(BATCH, np.float32)
    weights[5:] = 0.0
    stepped = LiteRtModel(good).run(
        "train",
        {
            "rows": rows,
            "vector": rng.standard_normal(RANK).astype(np.float32),
            "labels": np.zeros(BATCH, np.float32),
            "weights": weights,
            "learning_rate": np.asarray(0.5, np.float32),
        },
    )["rows"]
    assert np.array_equal(stepped[5:], rows[5:])
    assert not np.array_equal(stepped[:5], rows[:5])


def test_score_and_project_equal_the_device_ranker(good: bytes) -> None:
    """The graph and the numpy ranker on the device give the same u and the same scores."""
    rng = np.random.default_rng(5)
    factors = rng.standard_normal((BATCH, RANK)) * 0.3
    self_weight = (factors**2).sum(axis=1) / 4
    table = RankerTable.from_arrays(
        factors=factors,
        self_weight=self_weight,
        scale=1 / (1 - self_weight),
        bias=rng.standard_normal(BATCH),
    )
    history = History.from_events(items=[1, 4, 6], times_s=[0.0, 5.0, 9.0], now_s=9.0)
    settings = type(table.settings)(own_weight=0.0)
    items, x = statistics_vector(
        history,
        weighting=table.settings.weighting,
        half_life_days=table.settings.half_life_days,
    )
    values = np.zeros(BATCH, np.float32)
    values[items] = x
    model = LiteRtModel(good)
    vector = model.run("project", {"rows": table.factors, "values": values})["vector"]
    u = solve_private_vector(table, history)
    assert np.abs(vector - u).max() < 1e-6
    scores = model.run(
        "score",
        {
            "vector": vector,
            "rows": table.factors,
            "own": values,
            "self_weight": table.self_weight,
            "scale": table.scale,
            "bias": table.bias,
        },
    )["scores"]
    device = score_items(table, settings, u, history, np.arange(BATCH))
    assert np.abs(scores - device).max() < 1e-5


@pytest.mark.parametrize(("rank", "batch"), [(0, 1), (1, 0)])
def test_ranker_graph_without_size_is_refused(rank: int, batch: int) -> None:
    """A graph has at least one row and one factor."""
    with pytest.raises(ValueError, match="rank and batch"):
        RankerGraph(rank=rank, batch=batch)
