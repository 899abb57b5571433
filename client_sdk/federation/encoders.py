"""The device half of every federated task: from the person's history to one vector.

Rules a reader can check line by line:

1. The registry is closed and part of the SDK: an order names a task, it never brings code.
2. Before any work, an order's parameters and dimension are checked against what its task fixes:
   unknown or missing parameters, or another dimension, are `OrderOutOfBoundsError`.
3. The payload is checked as strictly as the parameters before it is used.
4. An encoder sees the history, the size of the catalogue, the release's model and what came of the
   experiments that are over for this person; it returns a vector and keeps nothing. The guard clips
   it afterwards.
5. An experiment is named by the hash of its definition, so that a device never answers about one
   that it was not in. A person answers it once: `participation_key` is the same for every task that
   asks about it.

| task            | parameters                   | payload                  | dimension    |
|-----------------|------------------------------|--------------------------|--------------|
| item-counts     | none                         | none                     | n_items      |
| item-statistics | top_items = K                | int32[K] catalogue rows  | K (K + 1) / 2 |
| item-training   | rank, learning_rate, steps,  | float32[n_items, rank]   | n_items rank |
|                 | negatives, ridge, seed       | factors                  |              |
| experiment-     | experiment = its definition  | none                     | groups       |
| outcomes        | (SHA-256), groups, metrics   |                          | (1 + 2 metrics) |
| bandit-         | bandit = its name on the     | JSON list of k ids       | k (d (d + 1) |
| statistics      | device, arms = k, features = d |                        | / 2 + d)     |
| propensity-     | propensity = its name,       | float32: centre, scale,  | weights of   |
| training        | features = d, hidden = h,    | weights                  | d and h      |
|                 | learning_rate, memory, passes |                         |              |
| survey          | entries, local noise (0: none) | the survey             | entries      |
| model-          | models = 1 or 2, bytes of the  | ranker tables          | 5 or 9       |
| evaluation      | first                          |                        |              |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from client_sdk.federation.encoding import (
    Encoder,
    EncoderInput,
    OrderOutOfBoundsError,
    Parameters,
    TaskUnavailableError,
    TooLittleDataError,
)
from client_sdk.federation.evaluation import asked_dimension as evaluation_dimension
from client_sdk.federation.evaluation import encode_evaluation
from client_sdk.federation.local_noise import check_promise
from client_sdk.federation.propensity import asked_dimension as propensity_dimension
from client_sdk.federation.propensity import encode_propensity_training
from client_sdk.federation.statistics import asked_dimension as survey_dimension
from client_sdk.federation.statistics import encode_survey
from client_sdk.intelligence.history import statistics_vector
from client_sdk.wire import Order, SparseVector, TaskKind, pack_outer_product, packed_length
from client_sdk.wire.bandit import (
    MAX_FEATURES,
    MAX_ID_CHARS,
    MAX_TASK_ARMS,
    contribution_length,
    read_arms_payload,
)
from client_sdk.wire.outcomes import (
    MAX_GROUPS,
    MAX_METRICS,
    OutcomeLayout,
)
from client_sdk.wire.table import RankerSettings, RankerTable

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderInput",
    "OrderOutOfBoundsError",
    "TaskUnavailableError",
    "TooLittleDataError",
    "expected_dimension",
    "participation_key",
]

MAX_TOP_ITEMS: Final = 4_096
MAX_RANK: Final = 1_024
MAX_STEPS: Final = 100
MAX_NEGATIVES: Final = 100


def expected_dimension(order: Order, *, n_items: int) -> int:
    """Say which dimension an order's task and parameters imply, before its payload is there.

    Raises:
        OrderOutOfBoundsError: a parameter is missing, unknown, or outside its bounds.
    """
    check_promise(order)
    if order.kind in _DIMENSIONS:
        return _DIMENSIONS[order.kind](order)
    parameters = Parameters(order.parameters)
    if order.kind is TaskKind.ITEM_COUNTS:
        parameters.done()
        return n_items
    if order.kind is TaskKind.ITEM_STATISTICS:
        top_items = parameters.whole("top_items", 1, min(n_items, MAX_TOP_ITEMS))
        parameters.done()
        return packed_length(top_items)
    if order.kind is TaskKind.EXPERIMENT_OUTCOMES:
        return _asked_experiment(order)[1].dimension
    if order.kind is TaskKind.BANDIT_STATISTICS:
        asked = _asked_bandit(order)
        return contribution_length(n_arms=asked.arms, n_features=asked.features)
    return n_items * _training(order).rank


def participation_key(order: Order) -> str:
    """Give the name under which taking part is remembered: a second one of a name is refused.

    The task, for what may be asked again in another round. For an experiment its definition, so
    that a person is in its sums once, however many tasks ask.

    Raises:
        OrderOutOfBoundsError: as `expected_dimension`.
    """
    if order.kind is TaskKind.EXPERIMENT_OUTCOMES:
        return f"experiment/{_asked_experiment(order)[0]}"
    return order.task_id


def encode_item_counts(order: Order, given: EncoderInput) -> SparseVector:
    """Give the unit-norm history vector over all catalogue rows.

    Raises:
        TooLittleDataError: an empty history.
        OrderOutOfBoundsError: there is a payload.
    """
    if order.payload:
        raise OrderOutOfBoundsError("item-counts has no payload")
    items, values = statistics_vector(given.history, weighting="binary")
    if not items.size:
        raise TooLittleDataError("the history is empty")
    return SparseVector(
        dimension=given.n_items,
        indices=np.array(items, np.int32),
        values=np.array(values, np.float32),
    )


def encode_item_statistics(order: Order, given: EncoderInput) -> SparseVector:
    """Give x x' of the unit-norm history x over the order's top items, packed isometrically.

    Raises:
        TooLittleDataError: none of the top items is in the history.
        OrderOutOfBoundsError: the payload is not K strictly increasing catalogue rows.
    """
    top_items = int(order.parameters["top_items"])
    if len(order.payload) != 4 * top_items:
        raise OrderOutOfBoundsError(f"expected {4 * top_items} bytes of rows")
    rows = np.frombuffer(order.payload, dtype="<i4").astype(np.int32)
    increasing = bool(np.all(rows[1:] > rows[:-1]))
    if not increasing or rows[0] < 0 or int(rows[-1]) >= given.n_items:
        raise OrderOutOfBoundsError("expected strictly increasing catalogue rows")
    settings = given.settings or RankerSettings()
    positions, values = statistics_vector(
        given.history,
        weighting=settings.weighting,
        half_life_days=settings.half_life_days,
        within=rows,
    )
    if not positions.size:
        raise TooLittleDataError("none of the top items is in the history")
    return pack_outer_product(positions=positions, values=values, size=top_items)


def encode_item_training(order: Order, given: EncoderInput) -> SparseVector:
    """Give the change of the item rows that a few private steps on this history make.

    Raises:
        TooLittleDataError: an empty history.
        TaskUnavailableError: no release with a model is active, or no runtime is installed.
        OrderOutOfBoundsError: the payload is not a finite table, or does not fit the graph.
    """
    from client_sdk.intelligence.item_training import ItemTrainingTask, train_rows
    from client_sdk.intelligence.litert import LiteRtUnavailableError, load_shared

    if given.graph is None or given.settings is None:
        raise TaskUnavailableError("no model is active")
    if not len(given.history):
        raise TooLittleDataError("the history is empty")
    asked = _training(order)
    dimension = given.n_items * asked.rank
    if len(order.payload) != 4 * dimension:
        raise OrderOutOfBoundsError(f"expected {4 * dimension} bytes of factors")
    factors = np.frombuffer(order.payload, dtype="<f4").astype(np.float32)
    if not np.isfinite(factors).all():
        raise OrderOutOfBoundsError("expected finite factors")
    table = RankerTable.from_arrays(
        factors=factors.reshape(given.n_items, asked.rank),
        settings=replace(given.settings, form="ridge", ridge=asked.ridge),
    )
    task = ItemTrainingTask(
        seed=asked.seed,
        steps=asked.steps,
        learning_rate=asked.learning_rate,
        negatives=asked.negatives,
    )
    try:
        model = load_shared(given.graph)
    except LiteRtUnavailableError as error:
        raise TaskUnavailableError("no LiteRT runtime is installed") from error
    if model.input_shapes("train")["rows"].shape[1:] != (asked.rank,):
        raise OrderOutOfBoundsError("the rank is not that of the active model")
    delta = train_rows(model, table, given.history, task)
    flat = delta.items.astype(np.int64)[:, None] * asked.rank + np.arange(asked.rank)
    return SparseVector(
        dimension=dimension,
        indices=flat.ravel().astype(np.int32),
        values=np.ascontiguousarray(delta.rows, np.float32).ravel(),
    )


def encode_experiment_outcomes(order: Order, given: EncoderInput) -> SparseVector:
    """Give the person's group and bounded outcomes, scaled to the order's clip norm.

    Raises:
        TooLittleDataError: the person was not exposed, or the windows are not over.
        OrderOutOfBoundsError: there is a payload, or the experiment has other groups or metrics.
    """
    if order.payload:
        raise OrderOutOfBoundsError("experiment-outcomes has no payload")
    definition, layout = _asked_experiment(order)
    outcome = given.experiments.get(definition)
    if outcome is None:
        raise TooLittleDataError("there is no outcome of this experiment")
    try:
        return layout.pack(outcome)
    except ValueError as error:
        raise OrderOutOfBoundsError(str(error)) from error


def encode_bandit_statistics(order: Order, given: EncoderInput) -> SparseVector:
    """Give what a bandit saw of the order's arms, cut to the order's clip norm as a whole.

    Raises:
        TooLittleDataError: there is no such bandit, or it saw none of the arms.
        TaskUnavailableError: this device's bandit has other features.
        OrderOutOfBoundsError: the payload is not k ids, each once.
    """
    asked = _asked_bandit(order)
    try:
        arms = read_arms_payload(order.payload)
    except ValueError as error:
        raise OrderOutOfBoundsError(str(error)) from error
    if len(arms) != asked.arms:
        raise OrderOutOfBoundsError(f"arms: expected {asked.arms} ids; got {len(arms)}")
    seen = given.bandits.get(asked.bandit)
    if seen is None or not set(arms) & set(seen.arms):
        raise TooLittleDataError("no arm of this bandit was answered")
    if seen.n_features != asked.features:
        raise TaskUnavailableError("the bandit of this device has other features")
    return SparseVector.from_dense(seen.pack(arms, clip_norm=order.clip_norm))


ENCODERS: Final[Mapping[TaskKind, Encoder]] = {
    TaskKind.ITEM_COUNTS: encode_item_counts,
    TaskKind.ITEM_STATISTICS: encode_item_statistics,
    TaskKind.ITEM_TRAINING: encode_item_training,
    TaskKind.EXPERIMENT_OUTCOMES: encode_experiment_outcomes,
    TaskKind.BANDIT_STATISTICS: encode_bandit_statistics,
    TaskKind.PROPENSITY_TRAINING: encode_propensity_training,
    TaskKind.SURVEY: encode_survey,
    TaskKind.MODEL_EVALUATION: encode_evaluation,
}


_DIMENSIONS: Final[Mapping[TaskKind, Callable[[Order], int]]] = {
    TaskKind.PROPENSITY_TRAINING: propensity_dimension,
    TaskKind.SURVEY: survey_dimension,
    TaskKind.MODEL_EVALUATION: evaluation_dimension,
}


@dataclass(frozen=True, kw_only=True)
class _Training:
    rank: int
    learning_rate: float
    steps: int
    negatives: int
    ridge: float
    seed: int


def _training(order: Order) -> _Training:
    parameters = Parameters(order.parameters)
    training = _Training(
        rank=parameters.whole("rank", 1, MAX_RANK),
        learning_rate=parameters.number("learning_rate", 1e3),
        steps=parameters.whole("steps", 1, MAX_STEPS),
        negatives=parameters.whole("negatives", 1, MAX_NEGATIVES),
        ridge=parameters.number("ridge", 1e6),
        seed=parameters.whole("seed", 0, 2**64 - 1),
    )
    parameters.done()
    return training


def _asked_experiment(order: Order) -> tuple[str, OutcomeLayout]:
    parameters = Parameters(order.parameters)
    definition = parameters.sha256("experiment")
    layout = OutcomeLayout(
        groups=parameters.whole("groups", 1, MAX_GROUPS),
        metrics=parameters.whole("metrics", 1, MAX_METRICS),
        clip_norm=order.clip_norm,
    )
    parameters.done()
    return definition, layout


@dataclass(frozen=True, kw_only=True)
class _AskedBandit:
    bandit: str
    arms: int
    features: int


def _asked_bandit(order: Order) -> _AskedBandit:
    parameters = Parameters(order.parameters)
    asked = _AskedBandit(
        bandit=parameters.text("bandit", MAX_ID_CHARS),
        arms=parameters.whole("arms", 1, MAX_TASK_ARMS),
        features=parameters.whole("features", 1, MAX_FEATURES),
    )
    parameters.done()
    return asked
