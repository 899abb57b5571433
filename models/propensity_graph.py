"""How likely something is, as a TensorFlow module: predict and train, logistic or with a layer.

The host owns the parameters and the optimiser's memory as two flat vectors and passes them in, so
the graph holds no variable: nothing is read after it was assigned, one model serves many threads,
and the parity gate sees everything that is computed. Batches are static; shorter ones are padded
with rows of weight 0.

With h hidden units the parameters are ``[W d*h, a h, v h, c]``, the logit v tanh(W'x + a) + c;
with none they are ``[v d, c]``, the logit v x + c. A step is Adagrad (Duchi, Hazan, Singer
2011) on the mean weighted logistic loss plus l2/2 of the squared weights (biases are free). Its
memory is carried as the root of the summed squares, so that every input is allowed.

Importing this file loads TensorFlow.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# As in models.export: TensorFlow's notes about this machine are nobody's progress.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from client_sdk.wire.propensity import STEP_FLOOR, parameter_count
from models.card import ParityReport
from models.export import export_module
from models.parity import ALLOWED_OPERATORS, check_parity

SIGNATURES: Final = ("predict", "train")
PROPENSITY_OPERATORS: Final = ALLOWED_OPERATORS | {
    "ABS", "CONCATENATION", "DIV", "MAXIMUM", "SLICE", "SQRT", "STRIDED_SLICE", "SUM", "TANH",
}  # fmt: skip

_Formula = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]


class PropensityGraph(tf.Module):  # type: ignore[misc]
    """Predict and train a logistic model, or one with a layer of tanh units.

    Args:
        features: d, what is known of one case, >= 1.
        hidden: h, units of the layer; 0 for logistic regression.
        batch: B, the rows of a call, >= 1.
    """

    def __init__(self, *, features: int, hidden: int, batch: int) -> None:
        if features < 1 or hidden < 0 or batch < 1:
            raise ValueError(
                f"features and batch must be >= 1, hidden >= 0, got {features}, {batch}, {hidden}"
            )
        super().__init__(name="propensity")
        self.features = features
        self.hidden = hidden
        self.batch = batch

    def signatures(self) -> dict[str, Any]:
        """Give the concrete functions by signature name, for export."""

        def spec(name: str, *shape: int) -> Any:
            return tf.TensorSpec(list(shape), tf.float32, name=name)

        size = parameter_count(self.features, self.hidden)
        rows = spec("features", self.batch, self.features)
        parameters = spec("parameters", size)
        return {
            "predict": tf.function(self.predict).get_concrete_function(
                features=rows, parameters=parameters
            ),
            "train": tf.function(self.train).get_concrete_function(
                features=rows,
                labels=spec("labels", self.batch),
                weights=spec("weights", self.batch),
                parameters=parameters,
                memory=spec("memory", size),
                learning_rate=spec("learning_rate"),
                l2=spec("l2"),
            ),
        }

    def predict(self, features: Any, parameters: Any) -> dict[str, Any]:
        """Give the logits and their probabilities: float32[B] each."""
        logits = self._forward(features, parameters)[0]
        return {"logits": logits, "probabilities": tf.sigmoid(logits)}

    def train(  # noqa: PLR0917 -- the exporter binds a signature's inputs by these names
        self,
        features: Any,
        labels: Any,
        weights: Any,
        parameters: Any,
        memory: Any,
        learning_rate: Any,
        l2: Any,
    ) -> dict[str, Any]:
        """Take one step; give the logits before it, the parameters and the memory after it.

        The gradient is written out: it needs no op that the runtime lacks. Rows of weight 0 add
        exactly nothing to it.
        """
        logits, units = self._forward(features, parameters)
        error = weights * (tf.sigmoid(logits) - labels)
        # A batch of padding alone has no mean; the floor stops 0 / 0.
        total = tf.maximum(tf.reduce_sum(tf.abs(weights)), 1.0)
        error = error / total
        if self.hidden:
            last = tf.linalg.matvec(units, error, transpose_a=True)
            top = parameters[self._top : self._top + self.hidden]
            back = tf.expand_dims(error, 1) * tf.expand_dims(top, 0) * (1.0 - units * units)
            first = tf.matmul(features, back, transpose_a=True)
            parts = [tf.reshape(first, [-1]), tf.reduce_sum(back, axis=0), last]
        else:
            parts = [tf.linalg.matvec(features, error, transpose_a=True)]
        gradient = tf.concat([*parts, tf.reshape(tf.reduce_sum(error), [1])], axis=0)
        gradient += l2 * parameters * tf.constant(penalised(self.features, self.hidden))
        root = tf.sqrt(memory * memory + gradient * gradient)
        return {
            "logits": logits,
            "parameters": parameters - learning_rate * gradient / (root + STEP_FLOOR),
            "memory": root,
        }

    @property
    def _top(self) -> int:
        """Where the last layer begins among the parameters."""
        return self.hidden * (self.features + 1)

    def _forward(self, features: Any, parameters: Any) -> tuple[Any, Any]:
        """Give the logits, and the layer under them."""
        bias = parameters[-1:]
        if not self.hidden:
            return tf.linalg.matvec(features, parameters[: self.features]) + bias, features
        width = self.features * self.hidden
        first = tf.reshape(parameters[:width], [self.features, self.hidden])
        units = tf.tanh(tf.matmul(features, first) + parameters[width : width + self.hidden])
        top = parameters[self._top : self._top + self.hidden]
        return tf.linalg.matvec(units, top) + bias, units


def penalised(features: int, hidden: int) -> NDArray[np.float32]:
    """Give 1 for each parameter that is a weight, 0 for each that is a bias."""
    if not hidden:
        return np.append(np.ones(features, np.float32), np.float32(0))
    kinds = ((1, features * hidden), (0, hidden), (1, hidden), (0, 1))
    return np.concatenate([np.full(size, kind, np.float32) for kind, size in kinds])


def propensity_formulas(features: int, hidden: int) -> dict[str, _Formula]:
    """Give both signatures in numpy (float64), for the parity gate.

    They are written apart from the graph, unit by unit, so that one mistake is not made twice.
    """

    def forward(a: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        x, p = a["features"], a["parameters"]
        if not hidden:
            return x @ p[:-1] + p[-1], []
        first = p[: features * hidden].reshape(features, hidden)
        shift = p[features * hidden : (features + 1) * hidden]
        units = [np.tanh(x @ first[:, k] + shift[k]) for k in range(hidden)]
        top = p[(features + 1) * hidden : -1]
        logits = p[-1] + np.sum([v * unit for v, unit in zip(top, units, strict=True)], axis=0)
        return logits, units

    def sigmoid(z: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))

    def predict(a: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        logits = forward(a)[0]
        return {"logits": logits, "probabilities": sigmoid(logits)}

    def train(a: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        x, p = a["features"], a["parameters"]
        logits, units = forward(a)
        error = a["weights"] * (sigmoid(logits) - a["labels"])
        error = error / max(float(np.abs(a["weights"]).sum()), 1.0)
        if hidden:
            top = p[(features + 1) * hidden : -1]
            back = [error * v * (1.0 - unit**2) for v, unit in zip(top, units, strict=True)]
            first = np.stack([x.T @ of_unit for of_unit in back], axis=1).ravel()
            shift = [of_unit.sum() for of_unit in back]
            gradient = np.concatenate([first, shift, [unit @ error for unit in units]])
        else:
            gradient = x.T @ error
        gradient = np.append(gradient, error.sum()) + a["l2"] * p * penalised(features, hidden)
        root = np.hypot(a["memory"], gradient)
        step = a["learning_rate"] * gradient / (root + STEP_FLOOR)
        return {"logits": logits, "parameters": p - step, "memory": root}

    return {"predict": predict, "train": train}


def export_propensity(*, features: int, hidden: int, batch: int) -> tuple[bytes, ParityReport]:
    """Export a propensity model that passed the parity gate.

    Args:
        features: what is known of one case, >= 1.
        hidden: units of the layer; 0 for logistic regression.
        batch: rows of a call, >= 1; callers pad to it.

    Returns:
        ``.tflite`` bytes with the signatures ``predict`` and ``train``, and what was checked.

    Raises:
        models.parity.ParityError: the runtime computes something else; publish nothing.
    """
    graph = PropensityGraph(features=features, hidden=hidden, batch=batch)
    data = export_module(graph, graph.signatures())
    report = check_parity(
        data,
        graph,
        formulas=propensity_formulas(features, hidden),
        allowed_operators=PROPENSITY_OPERATORS,
    )
    return data, report


def main(words: Sequence[str] | None = None) -> int:
    """Export one graph that passed the parity gate to a file."""
    parser = argparse.ArgumentParser(
        prog="python -m models.propensity_graph",
        description="Export a propensity graph, put it through the parity gate, write it.",
    )
    parser.add_argument("--features", type=int, required=True, help="what is known of one case")
    parser.add_argument("--hidden", type=int, default=0, help="units of the layer; 0: logistic")
    parser.add_argument("--batch", type=int, default=64, help="rows of a call")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(words)
    if options.features < 1 or options.hidden < 0 or options.batch < 1:
        parser.error("features and batch must be at least 1, hidden at least 0")
    data, report = export_propensity(
        features=options.features, hidden=options.hidden, batch=options.batch
    )
    try:
        options.out.write_bytes(data)
    except OSError as error:
        parser.error(f"cannot write {options.out} ({error.strerror})")
    print(f"{options.out}: {len(data)} bytes, {report.cases} cases within {report.tolerance:g}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
