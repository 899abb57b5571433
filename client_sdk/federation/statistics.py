"""The device half of a survey: what this person's features say, in one bounded vector.

Rules a reader can check line by line:

1. Only features that the device declares may be asked for, and only ordinary ones: what is
   sensitive or protected never leaves, also where a policy allows it for use on the device
   (`TaskUnavailableError`).
2. The survey is the signed payload, read as strictly as the parameters; its length is that which
   the invitation named (`OrderOutOfBoundsError`).
3. What is not known counts as unknown, not as the feature's stand-in value. Who would answer no
   question at all sends nothing (`TooLittleDataError`).
4. The vector is scaled for the order's clip norm as a whole (`client_sdk.wire.statistics`), so
   asking more questions never gets more out of one person.
"""

from __future__ import annotations

from client_sdk.federation.encoding import (
    EncoderInput,
    OrderOutOfBoundsError,
    Parameters,
    TaskUnavailableError,
    TooLittleDataError,
)
from client_sdk.federation.local_noise import LOCAL_NOISE, MAX_NOISE_MULTIPLIER
from client_sdk.signals.features.vector import FeatureVector
from client_sdk.wire import Order, SparseVector, WireFormatError
from client_sdk.wire.statistics import MAX_ENTRIES, Survey


def asked_dimension(order: Order) -> int:
    """Say how long the vector is that an order asks for, before its payload is there.

    Raises:
        OrderOutOfBoundsError: a parameter is missing, unknown, or outside its bounds.
    """
    parameters = Parameters(order.parameters)
    entries = parameters.whole("entries", 1, MAX_ENTRIES)
    if LOCAL_NOISE in order.parameters:
        parameters.number(LOCAL_NOISE, MAX_NOISE_MULTIPLIER)
    parameters.done()
    return entries


def encode_survey(order: Order, given: EncoderInput) -> SparseVector:
    """Give this person's answers, of norm at most the order's clip norm.

    Raises:
        TooLittleDataError: there is nothing to answer.
        TaskUnavailableError: the device has no such feature, or must not tell it.
        OrderOutOfBoundsError: the payload is no survey of that length.
    """
    try:
        survey = Survey.from_bytes(order.payload)
    except WireFormatError as error:
        raise OrderOutOfBoundsError(str(error)) from error
    if survey.dimension != asked_dimension(order):
        raise OrderOutOfBoundsError("the survey has another length than the invitation said")
    if given.features is None:
        raise TaskUnavailableError("this device has no features")
    vector = survey.pack(_known(survey, given.features()), clip_norm=order.clip_norm)
    if not vector.indices.size:
        raise TooLittleDataError("no question could be answered")
    return vector


def _known(survey: Survey, features: FeatureVector) -> dict[str, float | None]:
    ordinary = {each.name for each in features.definitions if each.sensitivity == "ordinary"}
    if not survey.features <= ordinary:
        raise TaskUnavailableError("the survey asks for a feature that this device does not tell")
    return {name: features.get(name) for name in sorted(survey.features)}
