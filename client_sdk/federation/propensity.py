"""The device half of learning a propensity together: how its own cases would move shared weights.

Rules a reader can check line by line:

1. The cases are those that the app's own model was given on this device, and that it was told to
   keep (`client_sdk.intelligence.propensity`); nothing is read from the person's history.
2. The steps are the release's graph's, on the order's weights and scale; no code comes with it.
3. What is returned is the difference of the weights; the guard clips it. The device's own model
   does not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from client_sdk.federation.encoding import (
    EncoderInput,
    OrderOutOfBoundsError,
    Parameters,
    TaskUnavailableError,
    TooLittleDataError,
)
from client_sdk.wire import Order, SparseVector
from client_sdk.wire.bandit import MAX_ID_CHARS
from client_sdk.wire.propensity import (
    MAX_FEATURES,
    MAX_HIDDEN,
    MAX_PASSES,
    PropensityWeights,
    parameter_count,
)

MAX_LEARNING_RATE: Final = 10.0
MAX_MEMORY: Final = 1e3


@dataclass(frozen=True, kw_only=True)
class AskedPropensity:
    """What an order asks of a propensity.

    Attributes:
        propensity: Its name on the device.
        features: d of its graph.
        hidden: h of its graph.
        learning_rate: Of the local steps.
        memory: What each weight's memory starts with.
        passes: Over the cases.
    """

    propensity: str
    features: int
    hidden: int
    learning_rate: float
    memory: float
    passes: int


def asked_of(order: Order) -> AskedPropensity:
    """Read the parameters.

    Raises:
        OrderOutOfBoundsError: one is missing, unknown, or outside its bounds.
    """
    parameters = Parameters(order.parameters)
    asked = AskedPropensity(
        propensity=parameters.text("propensity", MAX_ID_CHARS),
        features=parameters.whole("features", 1, MAX_FEATURES),
        hidden=parameters.whole("hidden", 0, MAX_HIDDEN),
        learning_rate=parameters.number("learning_rate", MAX_LEARNING_RATE),
        memory=parameters.number("memory", MAX_MEMORY),
        passes=parameters.whole("passes", 1, MAX_PASSES),
    )
    parameters.done()
    return asked


def asked_dimension(order: Order) -> int:
    """Say how long the vector is, from the parameters alone; errors as `asked_of`."""
    asked = asked_of(order)
    return parameter_count(asked.features, asked.hidden)


def asked_weights(order: Order) -> PropensityWeights:
    """Read the weights of the round.

    Raises:
        OrderOutOfBoundsError: another length, or a number that is not finite or too large.
    """
    asked = asked_of(order)
    try:
        return PropensityWeights.from_payload(
            order.payload, features=asked.features, hidden=asked.hidden
        )
    except ValueError as error:
        raise OrderOutOfBoundsError(str(error)) from error


def encode_propensity_training(order: Order, given: EncoderInput) -> SparseVector:
    """Give the change of the weights that a few steps on this device's cases make.

    Raises:
        TooLittleDataError: there is no such propensity, or it kept no case that counts.
        TaskUnavailableError: this device's graph has other features or units.
        OrderOutOfBoundsError: the payload is no weights of the announced sizes.
    """
    asked, start = asked_of(order), asked_weights(order)
    held = given.propensities.get(asked.propensity)
    if held is None or held.batch.weights is None or not held.batch.weights.any():
        raise TooLittleDataError("no case of this propensity was kept")
    if held.sizes != (asked.features, asked.hidden):
        raise TaskUnavailableError("the propensity of this device has other sizes")
    change = held.change_from(
        start, learning_rate=asked.learning_rate, memory=asked.memory, passes=asked.passes
    )
    return SparseVector.from_dense(change)
