"""The closed word lists of the protocol: purposes, tasks, reasons for a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Purpose(StrEnum):
    """What a person can consent to. The default is no, for each of them."""

    PERSONALISE = "personalise"
    TRAIN = "train"
    STATISTICS = "statistics"


class TaskKind(StrEnum):
    """The federated tasks of this version; each is a bounded sum."""

    ITEM_COUNTS = "item-counts"
    ITEM_STATISTICS = "item-statistics"
    ITEM_TRAINING = "item-training"
    EXPERIMENT_OUTCOMES = "experiment-outcomes"
    BANDIT_STATISTICS = "bandit-statistics"
    PROPENSITY_TRAINING = "propensity-training"
    SURVEY = "survey"
    MODEL_EVALUATION = "model-evaluation"


# Fixed on the device, so that a server cannot ask for training under a consent to statistics.
PURPOSE_OF: Final[Mapping[TaskKind, Purpose]] = {
    TaskKind.ITEM_COUNTS: Purpose.STATISTICS,
    TaskKind.ITEM_STATISTICS: Purpose.TRAIN,
    TaskKind.ITEM_TRAINING: Purpose.TRAIN,
    TaskKind.EXPERIMENT_OUTCOMES: Purpose.STATISTICS,
    TaskKind.BANDIT_STATISTICS: Purpose.TRAIN,
    TaskKind.PROPENSITY_TRAINING: Purpose.TRAIN,
    TaskKind.SURVEY: Purpose.STATISTICS,
    TaskKind.MODEL_EVALUATION: Purpose.STATISTICS,
}


class Refusal(StrEnum):
    """Why a contribution was not made, or was not added to the sum; one word in every count."""

    # The device says no.
    NO_CONSENT = "no-consent"
    CONSENT_WITHDRAWN = "consent-withdrawn"
    CONSENT_EXPIRED = "consent-expired"
    TOO_LITTLE_DATA = "too-little-data"
    UNKNOWN_TASK = "unknown-task"
    UNTRUSTED_ORDER = "untrusted-order"
    STALE_CATALOGUE = "stale-catalogue"
    OUT_OF_BOUNDS_ORDER = "out-of-bounds-order"
    ALREADY_CONTRIBUTED = "already-contributed"
    TOO_SOON = "too-soon"
    PARTICIPATIONS_SPENT = "participations-spent"
    PARTICIPATION_UNKNOWN = "participation-unknown"
    CLOCK_ROLLED_BACK = "clock-rolled-back"
    NOT_IDLE = "not-idle"
    NOT_CHARGING = "not-charging"
    METERED = "metered"
    LOW_STORAGE = "low-storage"
    OUTBOUND_GUARD = "outbound-guard"
    DEVICE_ERROR = "device-error"
    # The aggregator says no.
    NO_ANSWER = "no-answer"
    MALFORMED = "malformed"
    UNKNOWN_DEVICE = "unknown-device"
    BAD_SIGNATURE = "bad-signature"
    BAD_RECEIPT = "bad-receipt"
    WRONG_TASK = "wrong-task"
    REPLAYED = "replayed"
    PARTICIPATION_EXCEEDED = "participation-exceeded"
    WRONG_SHAPE = "wrong-shape"
    NOT_FINITE = "not-finite"
    OVERSIZED = "oversized"
    LATE = "late"
