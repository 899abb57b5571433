"""Steps of a propensity's graph over cases: batches, padding, and what cases say to shared weights.

Rules a reader can check line by line:

1. A batch is padded to the graph's size with rows of weight 0; they add exactly nothing.
2. `take_steps` changes nothing: it gives the parameters after the steps, or raises.
3. `PropensityCases.change_from` is all that a federated task learns from: deterministic, a function
   of the cases, the weights that all share, and the order's three numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.litert import SignatureModel
from client_sdk.wire.propensity import PropensityWeights

Float32Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledBatch:
    """Cases and what came of them.

    Attributes:
        features: float[n, d], finite.
        labels: float[n], from 0 (it did not happen) to 1 (it did).
        weights: float[n], 0 or more; all 1 when left out.

    Raises:
        ValueError: another shape, or a number out of range.
    """

    features: NDArray[Any]
    labels: NDArray[Any]
    weights: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        rows = finite_rows(self.features)
        labels = np.asarray(self.labels, np.float32)
        weights = (
            np.ones(len(rows), np.float32)
            if self.weights is None
            else np.asarray(self.weights, np.float32)
        )
        if labels.shape != (len(rows),) or not np.all((labels >= 0) & (labels <= 1)):
            raise ValueError("labels: expected one from 0 to 1 for each row; got others")
        if weights.shape != labels.shape or not np.all((weights >= 0) & np.isfinite(weights)):
            raise ValueError("weights: expected one of 0 or more for each row; got others")
        object.__setattr__(self, "features", rows)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "weights", weights)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class StepsTaken:
    """What steps made.

    Attributes:
        parameters: float32[P] after them.
        memory: float32[P] after them.
        steps: How many.
        loss: The mean weighted logistic loss of each case before its step.
    """

    parameters: Float32Array
    memory: Float32Array
    steps: int
    loss: float


@dataclass(frozen=True, kw_only=True, eq=False)
class PropensityCases:
    """What one propensity of this device could learn from, together with others.

    Attributes:
        graph: The release's.
        batch: The newest cases, as they came; possibly none.
    """

    graph: SignatureModel
    batch: LabelledBatch

    @property
    def sizes(self) -> tuple[int, int]:
        """How many features and hidden units the graph has."""
        return sizes_of(self.graph)

    def change_from(
        self, start: PropensityWeights, *, learning_rate: float, memory: float, passes: int
    ) -> Float32Array:
        """Say how these cases would move weights that all share: nothing is kept of it.

        Args:
            start: The weights, of the graph's sizes.
            learning_rate: Of Adagrad.
            memory: What every weight's memory starts with, above 0: the larger, the more a step is
                plain gradient descent at ``learning_rate / memory``.
            passes: Over the cases, oldest first, in batches of the graph.

        Returns:
            float32[`client_sdk.wire.propensity.parameter_count`], the weights after minus before.

        Raises:
            ValueError: weights of other sizes.
            ModelRunError: a step is not finite.
        """
        if (start.n_features, start.hidden) != self.sizes:
            raise ValueError("start: expected weights of the graph's sizes; got others")
        batch = replace(self.batch, features=start.standardised(self.batch.features))
        parameters = start.parameters
        roots = np.full(parameters.shape, memory, np.float32)
        for _ in range(passes):
            done = take_steps(
                self.graph,
                batch,
                np.arange(len(batch)),
                parameters=parameters,
                memory=roots,
                learning_rate=learning_rate,
            )
            parameters, roots = done.parameters, done.memory
        return parameters - start.parameters


def take_steps(
    graph: SignatureModel,
    batch: LabelledBatch,
    order: NDArray[np.intp],
    *,
    parameters: Float32Array,
    memory: Float32Array,
    learning_rate: float,
    l2: float = 0.0,
) -> StepsTaken:
    """Go over cases once: one step for each of the graph's batches.

    Args:
        graph: One of `models.propensity_graph`.
        batch: The cases, standardised.
        order: int[n], in which order.
        parameters: float32[P] before.
        memory: float32[P] before, of Adagrad.
        learning_rate: Of Adagrad.
        l2: Of the squared weights.

    Raises:
        ModelRunError: a step is not finite.
    """
    size = shapes_of(graph)[0]
    rows, labels, weights = batch.features, np.asarray(batch.labels), np.asarray(batch.weights)
    losses, total, steps = 0.0, float(weights.sum()), 0
    for start in range(0, len(order), size):
        at = order[start : start + size]
        out = graph.run(
            "train",
            {
                **padded(size, features=rows[at], labels=labels[at], weights=weights[at]),
                "parameters": parameters,
                "memory": memory,
                "learning_rate": np.asarray(learning_rate, np.float32),
                "l2": np.asarray(l2, np.float32),
            },
        )
        losses += float(weights[at] @ _losses(out["logits"][: len(at)], labels[at]))
        parameters, memory, steps = out["parameters"], out["memory"], steps + 1
    return StepsTaken(
        parameters=parameters,
        memory=memory,
        steps=steps,
        loss=losses / total if total else 0.0,
    )


def padded(size: int, **columns: Float32Array) -> dict[str, Float32Array]:
    """Fill columns up to so many rows with zeros."""
    filled = {}
    for name, column in columns.items():
        filled[name] = np.zeros((size, *column.shape[1:]), np.float32)
        filled[name][: len(column)] = column
    return filled


def shapes_of(graph: SignatureModel) -> tuple[int, int, int]:
    """Give rows of a call, features, and parameters."""
    shapes = {name: found.shape for name, found in graph.input_shapes("train").items()}
    if not {"features", "labels", "memory", "parameters"} <= set(shapes):
        raise ValueError("graph: expected one of models.propensity_graph; got another")
    (rows, features), (parameters,) = shapes["features"], shapes["parameters"]
    return rows, features, parameters


def sizes_of(graph: SignatureModel) -> tuple[int, int]:
    """Give features and hidden units."""
    _, features, parameters = shapes_of(graph)
    layer = parameters != features + 1
    return features, (parameters - 1) // (features + 2) if layer else 0


def finite_rows(features: NDArray[Any]) -> Float32Array:
    """Give cases as float32[n, d]; ValueError where one is not finite."""
    # A number beyond float32 becomes infinite, and is refused below.
    with np.errstate(over="ignore"):
        rows = np.asarray(features, np.float32)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError("features: expected float[n, d], all finite; got others")
    return rows


def _losses(logits: Float32Array, labels: Float32Array) -> Float32Array:
    """Give -log p of each label, written so that nothing overflows."""
    losses: Float32Array = np.logaddexp(np.float32(0), logits) - labels * logits
    return losses
