"""The propensity graph: its gradient, its parity gate, and the command that exports it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from client_sdk.intelligence.litert import LiteRtModel  # noqa: E402
from models.export import export_module  # noqa: E402
from models.parity import ParityError, check_parity  # noqa: E402
from models.propensity_graph import (  # noqa: E402
    PROPENSITY_OPERATORS,
    SIGNATURES,
    PropensityGraph,
    export_propensity,
    main,
    parameter_count,
    penalised,
    propensity_formulas,
)

FEATURES, BATCH = 5, 8


def _inputs(hidden: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    size = parameter_count(FEATURES, hidden)
    return {
        "features": rng.standard_normal((BATCH, FEATURES)).astype(np.float32),
        "labels": rng.integers(0, 2, BATCH).astype(np.float32),
        "weights": rng.random(BATCH).astype(np.float32),
        "parameters": rng.standard_normal(size).astype(np.float32),
        "memory": rng.random(size).astype(np.float32),
        "learning_rate": np.asarray(0.3, np.float32),
        "l2": np.asarray(0.05, np.float32),
    }


class ActivationDropped(PropensityGraph):
    """The layer's tanh is missing, as a faulty converter would leave it out."""

    def _forward(self, features: Any, parameters: Any) -> tuple[Any, Any]:
        width = self.features * self.hidden
        first = tf.reshape(parameters[:width], [self.features, self.hidden])
        units = tf.matmul(features, first) + parameters[width : width + self.hidden]
        top = parameters[self._top : self._top + self.hidden]
        return tf.linalg.matvec(units, top) + parameters[-1:], units


class PaddingCounted(PropensityGraph):
    """Rows count whatever their weight is."""

    def train(  # noqa: PLR0917 -- as in PropensityGraph
        self,
        features: Any,
        labels: Any,
        weights: Any,
        parameters: Any,
        memory: Any,
        learning_rate: Any,
        l2: Any,
    ) -> dict[str, Any]:
        """Use weights of 1, near enough for the weights to stay an input."""
        ones = 1.0 + 0.0 * weights
        return super().train(features, labels, ones, parameters, memory, learning_rate, l2)


@pytest.mark.parametrize(("features", "hidden", "batch"), [(1, 0, 1), (30, 0, 64), (30, 16, 64)])
def test_export_propensity_sizes_that_ship_pass_the_gate(
    features: int, hidden: int, batch: int
) -> None:
    """Logistic or with a layer, runtime, TensorFlow and numpy agree, by builtin ops alone."""
    data, report = export_propensity(features=features, hidden=hidden, batch=batch)
    assert report.signatures == SIGNATURES == LiteRtModel(data).signatures
    assert set(report.operators) <= PROPENSITY_OPERATORS
    assert max(report.largest_difference.values()) <= 1e-5


@pytest.mark.parametrize("wrong", [ActivationDropped, PaddingCounted])
def test_check_parity_wrong_propensity_graph_is_refused(wrong: type[PropensityGraph]) -> None:
    """File and definition agree and are both wrong: the formula says so."""
    graph = wrong(features=FEATURES, hidden=3, batch=BATCH)
    with pytest.raises(ParityError):
        check_parity(
            export_module(graph, graph.signatures()),
            graph,
            formulas=propensity_formulas(FEATURES, 3),
            allowed_operators=PROPENSITY_OPERATORS,
        )


@pytest.mark.parametrize("hidden", [0, 3])
def test_train_step_is_adagrad_along_the_gradient_that_the_tape_finds(hidden: int) -> None:
    """The gradient that is written out is that of the weighted logistic loss with its penalty."""
    graph = PropensityGraph(features=FEATURES, hidden=hidden, batch=BATCH)
    given = {name: tf.constant(value) for name, value in _inputs(hidden).items()}
    with tf.GradientTape() as tape:
        tape.watch(given["parameters"])
        logits = graph.predict(given["features"], given["parameters"])["logits"]
        each = tf.nn.sigmoid_cross_entropy_with_logits(given["labels"], logits)
        mean = tf.reduce_sum(given["weights"] * each) / tf.reduce_sum(given["weights"])
        weights = given["parameters"] * penalised(FEATURES, hidden)
        loss = mean + given["l2"] / 2 * tf.reduce_sum(weights**2)
    gradient = tape.gradient(loss, given["parameters"]).numpy()
    out = graph.train(**given)
    root = np.sqrt(_inputs(hidden)["memory"] ** 2 + gradient**2)
    stepped = _inputs(hidden)["parameters"] - 0.3 * gradient / (root + 1e-6)
    assert np.abs(out["memory"].numpy() - root).max() < 1e-6
    assert np.abs(out["parameters"].numpy() - stepped).max() < 1e-5
    assert np.array_equal(out["logits"].numpy(), logits.numpy())


def test_penalised_weights_are_and_biases_are_not() -> None:
    """In the order of the parameters: W of 2 x 3, three biases, three weights, one bias."""
    assert penalised(2, 3).tolist() == [1.0] * 6 + [0.0] * 3 + [1.0] * 3 + [0.0]
    assert penalised(2, 0).tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("hidden", [0, 3])
def test_train_rows_of_weight_0_change_nothing(hidden: int) -> None:
    """What is in the padding doesn't matter, to the last bit."""
    model = LiteRtModel(export_propensity(features=FEATURES, hidden=hidden, batch=BATCH)[0])
    given = _inputs(hidden)
    given["weights"][5:] = 0.0
    other = {name: value.copy() for name, value in given.items()}
    other["features"][5:] = 7.0
    other["labels"][5:] = 1.0
    one, two = model.run("train", given), model.run("train", other)
    assert np.array_equal(one["parameters"], two["parameters"])
    assert np.array_equal(one["memory"], two["memory"])
    assert not np.array_equal(one["parameters"], given["parameters"])


@pytest.mark.parametrize(("features", "hidden", "batch"), [(0, 0, 1), (1, -1, 1), (1, 0, 0)])
def test_propensity_graph_without_size_is_refused(features: int, hidden: int, batch: int) -> None:
    """A graph has at least one row and one feature."""
    with pytest.raises(ValueError, match="features and batch"):
        PropensityGraph(features=features, hidden=hidden, batch=batch)


def test_export_command_writes_a_checked_graph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is written loads on a device and has the promised signatures."""
    out = tmp_path / "graph.tflite"
    assert main(["--features", "3", "--hidden", "2", "--batch", "4", "--out", str(out)]) == 0
    assert LiteRtModel(out.read_bytes()).signatures == SIGNATURES
    assert "within" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["--features", "0", "--out", "x.tflite"],
        ["--features", "3", "--hidden", "-1", "--out", "x.tflite"],
        ["--features", "3", "--out", "/nowhere/x.tflite"],
        [],
    ],
)
def test_export_command_mistakes_end_with_exit_code_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nonsense is named and nothing is written."""
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert "error:" in capsys.readouterr().err
