"""How likely something is for this person: churn, a purchase, an answer; learned on the device.

Rules a reader can check line by line:

1. The graph of the release computes every prediction and every step (`models.propensity_graph`:
   logistic, or one layer of tanh units, Adagrad). Here is what surrounds it: standardising,
   padding, and the state.
2. Features are standardised by the mean and deviation of what was seen so far (Chan, Golub, LeVeque
   1979) and cut at `FARTHEST` deviations, so that one wild number can't carry a step away. A
   feature that never varied counts as 0.
3. A batch is padded to the graph's size with rows of weight 0; they add exactly nothing.
4. Everything is deterministic: the same graph, settings, seed and batches give the same state, to
   the last bit, on one machine. Nothing reads a clock or draws at will.
5. A step that isn't finite changes nothing: `ModelRunError`, and the state stays as it was.
6. One model, one thread at a time: the caller locks.

A probability is a model's estimate. Say it to a person, or set a threshold on it, only after
`client_sdk.intelligence.calibration` measured it on cases that were held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.litert import SignatureModel
from client_sdk.intelligence.state import LearnedState, LearnedStateError

FARTHEST: Final = 8.0
"""Standardised features are cut at this many deviations."""

_MODEL: Final = "propensity"
_SEED_LIMIT: Final = 2**64
_SMALLEST_DEVIATION: Final = 1e-9

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]


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
        rows = _rows(self.features)
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


@dataclass(frozen=True, kw_only=True)
class PropensitySettings:
    """How a model learns.

    Attributes:
        learning_rate: Of Adagrad, in (0, 10].
        l2: Of the squared weights, in [0, 10].
        seed: In [0, 2^64); of the first weights of a layer and of the order of `fit`.
    """

    learning_rate: float = 0.1
    l2: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate <= 10:
            raise ValueError("learning_rate: expected more than 0, at most 10; got another")
        if not 0 <= self.l2 <= 10:
            raise ValueError("l2: expected 0 to 10; got another")
        if not 0 <= self.seed < _SEED_LIMIT:
            raise ValueError("seed: expected 0 or more, below 2^64; got another")


class PropensityModel:
    """One propensity: the release's graph, and what this device learned.

    Args:
        graph: The release's, with the signatures ``predict`` and ``train``; may be shared.
        settings: How to learn.

    Raises:
        ValueError: the graph is not one of `models.propensity_graph`.
    """

    def __init__(self, graph: SignatureModel, settings: PropensitySettings | None = None) -> None:
        self._graph = graph
        self._settings = PropensitySettings() if settings is None else settings
        shapes = {name: found.shape for name, found in graph.input_shapes("train").items()}
        if not {"features", "labels", "memory", "parameters"} <= set(shapes):
            raise ValueError("graph: expected one of models.propensity_graph; got another")
        self._batch, self._n_features = shapes["features"]
        (self._n_parameters,) = shapes["parameters"]
        self._count = 0
        self._steps = 0
        self._mean: Float64Array = np.zeros(self._n_features)
        self._squares: Float64Array = np.zeros(self._n_features)
        self._memory: Float32Array = np.zeros(self._n_parameters, np.float32)
        self._parameters = self._initial()

    @property
    def n_features(self) -> int:
        """How many features a case has."""
        return self._n_features

    @property
    def n_seen(self) -> int:
        """How many cases the mean and the deviation rest on."""
        return self._count

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return self._steps

    def train(self, batch: LabelledBatch) -> float:
        """Take in new cases: their moments, then one step for each of the graph's batches.

        Args:
            batch: New cases, in the order in which they are learned from.

        Returns:
            The mean weighted logistic loss that the model had on each case before its step.

        Raises:
            ValueError: the cases have another number of features.
            ModelRunError: a step is not finite; nothing was learned.
        """
        self._fits(batch.features)
        before = self._count, self._mean, self._squares
        self._observe(batch.features)
        try:
            return self._pass(batch, np.arange(len(batch)))
        except RuntimeError:
            self._count, self._mean, self._squares = before
            raise

    def fit(self, batch: LabelledBatch, *, epochs: int) -> float:
        """Learn from the same cases several times, in an order drawn from the settings' seed.

        Args:
            batch: New cases; their moments count once.
            epochs: Passes, 1 or more.

        Returns:
            The loss of the last pass, as `train` gives it.

        Raises:
            ValueError: as `train`, or less than one pass.
            ModelRunError: a step is not finite; nothing was learned.
        """
        if epochs < 1:
            raise ValueError("epochs: expected 1 or more; got less")
        self._fits(batch.features)
        before = dict(vars(self))
        self._observe(batch.features)
        order = _generator(self._settings.seed, 1 + self._steps)
        loss = 0.0
        try:
            for _ in range(epochs):
                loss = self._pass(batch, order.permutation(len(batch)))
        except RuntimeError:
            vars(self).update(before)
            raise
        return loss

    def predict(self, features: NDArray[Any]) -> Float32Array:
        """Estimate how likely each case is.

        Args:
            features: float[n, d], finite.

        Returns:
            float32[n], from 0 to 1.
        """
        return self._predict(features, "probabilities")

    def logits(self, features: NDArray[Any]) -> Float32Array:
        """Give what calibration takes, the log odds: float32[n]."""
        return self._predict(features, "logits")

    def to_bytes(self) -> bytes:
        """Write what was learned; the graph and the settings are the release's."""
        return LearnedState(
            model=_MODEL,
            facts={"count": self._count, "steps": self._steps},
            arrays={
                "mean": self._mean,
                "memory": self._memory.astype(np.float64),
                "parameters": self._parameters.astype(np.float64),
                "squares": self._squares,
            },
        ).to_bytes()

    @classmethod
    def from_bytes(
        cls, data: bytes, graph: SignatureModel, settings: PropensitySettings | None = None
    ) -> PropensityModel:
        """Go on from what `to_bytes` wrote.

        Raises:
            LearnedStateError: the bytes are damaged, or of a graph of other sizes.
        """
        state = LearnedState.from_bytes(data, model=_MODEL)
        if set(state.arrays) != {"mean", "memory", "parameters", "squares"}:
            raise LearnedStateError("expected mean, memory, parameters and squares in the state")
        if set(state.facts) != {"count", "steps"}:
            raise LearnedStateError("expected count and steps in the state; got other facts")
        model = cls(graph, settings)
        model._count, model._steps = state.whole("count"), state.whole("steps")
        model._mean = state.array("mean", (model._n_features,))
        model._squares = state.array("squares", (model._n_features,))
        model._memory = _float32(state.array("memory", (model._n_parameters,)))
        model._parameters = _float32(state.array("parameters", (model._n_parameters,)))
        if (model._squares < 0).any() or (model._memory < 0).any():
            raise LearnedStateError("expected sums of squares of 0 or more in the state")
        return model

    def _initial(self) -> Float32Array:
        """Start at zero, but a layer's own weights at random: equal units would stay equal."""
        first: Float32Array = np.zeros(self._n_parameters, np.float32)
        hidden = (self._n_parameters - 1) // (self._n_features + 2)
        if self._n_parameters == self._n_features + 1:
            return first
        width = self._n_features * hidden
        draw = _generator(self._settings.seed, 0)
        first[:width] = draw.standard_normal(width) / np.sqrt(self._n_features)
        return first

    def _observe(self, features: Float32Array) -> None:
        """Merge a batch's moments into the running ones."""
        new = len(features)
        if not new:
            return
        wide = features.astype(np.float64)
        mean = wide.mean(axis=0)
        total, gap = self._count + new, mean - self._mean
        squares = ((wide - mean) ** 2).sum(axis=0)
        self._squares = self._squares + squares + gap**2 * (self._count * new / total)
        self._mean = self._mean + gap * (new / total)
        self._count = total

    def _standardised(self, features: Float32Array) -> Float32Array:
        deviation = np.sqrt(self._squares / max(self._count, 1))
        varies = deviation > _SMALLEST_DEVIATION * np.maximum(np.abs(self._mean), 1.0)
        scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
        return np.asarray(np.clip((features - self._mean) * scale, -FARTHEST, FARTHEST), np.float32)

    def _pass(self, batch: LabelledBatch, order: NDArray[np.intp]) -> float:
        """Go over the cases once, in an order; keep the result only if all steps are finite."""
        rows, labels = self._standardised(batch.features), np.asarray(batch.labels)
        weights = np.asarray(batch.weights)
        parameters, memory, steps = self._parameters, self._memory, self._steps
        losses, total = 0.0, float(weights.sum())
        for start in range(0, len(order), self._batch):
            at = order[start : start + self._batch]
            given = self._padded(features=rows[at], labels=labels[at], weights=weights[at])
            out = self._graph.run(
                "train",
                {
                    **given,
                    "parameters": parameters,
                    "memory": memory,
                    "learning_rate": np.asarray(self._settings.learning_rate, np.float32),
                    "l2": np.asarray(self._settings.l2, np.float32),
                },
            )
            losses += float(weights[at] @ _losses(out["logits"][: len(at)], labels[at]))
            parameters, memory, steps = out["parameters"], out["memory"], steps + 1
        self._parameters, self._memory, self._steps = parameters, memory, steps
        return losses / total if total else 0.0

    def _predict(self, features: NDArray[Any], output: str) -> Float32Array:
        rows = _rows(features)
        self._fits(rows)
        rows = self._standardised(rows)
        out = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), self._batch):
            part = rows[start : start + self._batch]
            given = {**self._padded(features=part), "parameters": self._parameters}
            out[start : start + len(part)] = self._graph.run("predict", given)[output][: len(part)]
        return out

    def _padded(self, **columns: Float32Array) -> dict[str, Float32Array]:
        """Fill up to the graph's batch with zeros."""
        padded = {}
        for name, column in columns.items():
            padded[name] = np.zeros((self._batch, *column.shape[1:]), np.float32)
            padded[name][: len(column)] = column
        return padded

    def _fits(self, features: NDArray[Any]) -> None:
        if features.shape[1] != self._n_features:
            raise ValueError(
                f"features: expected {self._n_features} for each case; got {features.shape[1]}"
            )


def _rows(features: NDArray[Any]) -> Float32Array:
    # A number beyond float32 becomes infinite, and is refused below.
    with np.errstate(over="ignore"):
        rows = np.asarray(features, np.float32)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError("features: expected float[n, d], all finite; got others")
    return rows


def _float32(values: Float64Array) -> Float32Array:
    if np.abs(values).max(initial=0.0) >= np.finfo(np.float32).max:
        raise LearnedStateError("expected numbers that float32 can hold in the state")
    return values.astype(np.float32)


def _losses(logits: Float32Array, labels: Float32Array) -> Float32Array:
    """Give -log p of each label, written so that nothing overflows."""
    losses: Float32Array = np.logaddexp(np.float32(0), logits) - labels * logits
    return losses


def _generator(seed: int, stream: int) -> np.random.Generator:
    """Draw by a counter-based generator; each stream has a key of its own."""
    return np.random.Generator(np.random.Philox(key=seed | stream << 64))
