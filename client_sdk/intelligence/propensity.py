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

7. Cases are kept only where the settings say how many, the newest; the state then holds them, and a
   federated task may learn from them (`PropensityCases`). Nothing else leaves this file.
8. Who starts from weights that all share (`client_sdk.wire.propensity`) stays on their scale: rule
   2's moments are counted, and not used. The state remembers the scale it was learned on.

A probability is a model's estimate. Say it to a person, or set a threshold on it, only after
`client_sdk.intelligence.calibration` measured it on cases that were held out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.litert import SignatureModel
from client_sdk.intelligence.propensity_steps import (
    LabelledBatch,
    PropensityCases,
    finite_rows,
    padded,
    shapes_of,
    sizes_of,
    take_steps,
)
from client_sdk.intelligence.state import LearnedState, LearnedStateError
from client_sdk.wire.propensity import FARTHEST, PropensityWeights, standardise

__all__ = [
    "FARTHEST",
    "LabelledBatch",
    "PropensityCases",
    "PropensityModel",
    "PropensitySettings",
]

MAX_KEPT_CASES: Final = 4_096

_MODEL: Final = "propensity"
_SEED_LIMIT: Final = 2**64
_SMALLEST_DEVIATION: Final = 1e-9
_ARRAYS: Final = frozenset({"mean", "memory", "parameters", "squares"})
_SCALE: Final = frozenset({"centre", "scale"})

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PropensitySettings:
    """How a model learns.

    Attributes:
        learning_rate: Of Adagrad, in (0, 10].
        l2: Of the squared weights, in [0, 10].
        seed: In [0, 2^64); of the first weights of a layer and of the order of `fit`.
        keep_cases: How many of the newest cases to keep on the device, for learning together; 0
            keeps none.
    """

    learning_rate: float = 0.1
    l2: float = 1e-4
    seed: int = 0
    keep_cases: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate <= 10:
            raise ValueError("learning_rate: expected more than 0, at most 10; got another")
        if not 0 <= self.l2 <= 10:
            raise ValueError("l2: expected 0 to 10; got another")
        if not 0 <= self.seed < _SEED_LIMIT:
            raise ValueError("seed: expected 0 or more, below 2^64; got another")
        if not 0 <= self.keep_cases <= MAX_KEPT_CASES:
            raise ValueError(f"keep_cases: expected 0 to {MAX_KEPT_CASES}; got another")


class PropensityModel:
    """One propensity: the release's graph, and what this device learned.

    Args:
        graph: The release's, with the signatures ``predict`` and ``train``; may be shared.
        settings: How to learn.
        start: Where to start, and on which scale; at zero, on this device's own, when left out.

    Raises:
        ValueError: the graph is not one of `models.propensity_graph`, or of other sizes than
            ``start``.
    """

    def __init__(
        self,
        graph: SignatureModel,
        settings: PropensitySettings | None = None,
        *,
        start: PropensityWeights | None = None,
    ) -> None:
        self._graph = graph
        self._settings = PropensitySettings() if settings is None else settings
        self._batch, self._n_features, self._n_parameters = shapes_of(graph)
        if start is not None and (start.n_features, start.hidden) != sizes_of(graph):
            raise ValueError("start: expected weights of the graph's sizes; got others")
        self._count = 0
        self._steps = 0
        self._mean: Float64Array = np.zeros(self._n_features)
        self._squares: Float64Array = np.zeros(self._n_features)
        self._memory: Float32Array = np.zeros(self._n_parameters, np.float32)
        self._parameters = self._initial() if start is None else start.parameters.copy()
        self._scale = None if start is None else (start.centre, start.scale)
        self._kept: Float32Array = np.zeros((0, self._n_features + 2), np.float32)

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
            loss = self._pass(batch, np.arange(len(batch)))
        except RuntimeError:
            self._count, self._mean, self._squares = before
            raise
        self._keep(batch)
        return loss

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
        self._keep(batch)
        return loss

    def cases(self) -> PropensityCases:
        """Give the cases that are kept, as copies: what a federated task may learn from."""
        features, labels, weights = np.split(self._kept.copy(), [self._n_features, -1], axis=1)
        batch = LabelledBatch(features=features, labels=labels[:, 0], weights=weights[:, 0])
        return PropensityCases(graph=self._graph, batch=batch)

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
        facts = {"count": self._count, "steps": self._steps}
        arrays = {
            "mean": self._mean,
            "memory": self._memory.astype(np.float64),
            "parameters": self._parameters.astype(np.float64),
            "squares": self._squares,
        }
        if self._scale is not None:
            centre, scale = self._scale
            arrays |= {"centre": centre.astype(np.float64), "scale": scale.astype(np.float64)}
        if len(self._kept):
            facts["cases"] = len(self._kept)
            arrays["cases"] = self._kept.astype(np.float64)
        return LearnedState(model=_MODEL, facts=facts, arrays=arrays).to_bytes()

    @classmethod
    def from_bytes(
        cls, data: bytes, graph: SignatureModel, settings: PropensitySettings | None = None
    ) -> PropensityModel:
        """Go on from what `to_bytes` wrote.

        Raises:
            LearnedStateError: the bytes are damaged, or of a graph of other sizes.
        """
        state = LearnedState.from_bytes(data, model=_MODEL)
        has_cases, has_scale = "cases" in state.facts, "scale" in state.arrays
        if set(state.arrays) != (
            _ARRAYS | (_SCALE if has_scale else set()) | ({"cases"} if has_cases else set())
        ):
            raise LearnedStateError("expected mean, memory, parameters and squares in the state")
        if set(state.facts) != {"count", "steps"} | ({"cases"} if has_cases else set()):
            raise LearnedStateError("expected count and steps in the state; got other facts")
        model = cls(graph, settings)
        model._count, model._steps = state.whole("count"), state.whole("steps")
        model._mean = state.array("mean", (model._n_features,))
        model._squares = state.array("squares", (model._n_features,))
        model._memory = _float32(state.array("memory", (model._n_parameters,)))
        model._parameters = _float32(state.array("parameters", (model._n_parameters,)))
        if (model._squares < 0).any() or (model._memory < 0).any():
            raise LearnedStateError("expected sums of squares of 0 or more in the state")
        try:
            if has_scale:
                model._scale = (
                    _float32(state.array("centre", (model._n_features,))),
                    _float32(state.array("scale", (model._n_features,))),
                )
            if has_cases:
                shape = (state.whole("cases"), model._n_features + 2)
                kept = _float32(state.array("cases", shape))
                LabelledBatch(features=kept[:, :-2], labels=kept[:, -2], weights=kept[:, -1])
                model._kept = kept[len(kept) - min(len(kept), model._settings.keep_cases) :]
        except ValueError as error:
            raise LearnedStateError("the state holds cases that are none") from error
        return model

    def _keep(self, batch: LabelledBatch) -> None:
        """Keep the newest cases, as many as the settings say."""
        if self._settings.keep_cases:
            columns = (batch.features, np.asarray(batch.labels), np.asarray(batch.weights))
            rows = np.column_stack(columns).astype(np.float32)
            self._kept = np.concatenate([self._kept, rows])[-self._settings.keep_cases :]

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
        if self._scale is not None:
            centre, shared = self._scale
            return standardise(features, centre=centre, scale=shared)
        deviation = np.sqrt(self._squares / max(self._count, 1))
        varies = deviation > _SMALLEST_DEVIATION * np.maximum(np.abs(self._mean), 1.0)
        scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
        return np.asarray(np.clip((features - self._mean) * scale, -FARTHEST, FARTHEST), np.float32)

    def _pass(self, batch: LabelledBatch, order: NDArray[np.intp]) -> float:
        """Go over the cases once, in an order; keep the result only if all steps are finite."""
        done = take_steps(
            self._graph,
            replace(batch, features=self._standardised(batch.features)),
            order,
            parameters=self._parameters,
            memory=self._memory,
            learning_rate=self._settings.learning_rate,
            l2=self._settings.l2,
        )
        self._parameters, self._memory = done.parameters, done.memory
        self._steps += done.steps
        return done.loss

    def _predict(self, features: NDArray[Any], output: str) -> Float32Array:
        rows = finite_rows(features)
        self._fits(rows)
        rows = self._standardised(rows)
        out = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), self._batch):
            part = rows[start : start + self._batch]
            given = {**padded(self._batch, features=part), "parameters": self._parameters}
            out[start : start + len(part)] = self._graph.run("predict", given)[output][: len(part)]
        return out

    def _fits(self, features: NDArray[Any]) -> None:
        if features.shape[1] != self._n_features:
            raise ValueError(
                f"features: expected {self._n_features} for each case; got {features.shape[1]}"
            )


def _float32(values: Float64Array) -> Float32Array:
    if np.abs(values).max(initial=0.0) >= np.finfo(np.float32).max:
        raise LearnedStateError("expected numbers that float32 can hold in the state")
    return values.astype(np.float32)


def _generator(seed: int, stream: int) -> np.random.Generator:
    """Draw by a counter-based generator; each stream has a key of its own."""
    return np.random.Generator(np.random.Philox(key=seed | stream << 64))
