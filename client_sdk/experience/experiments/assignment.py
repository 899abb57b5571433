"""Who is in which group: decided on the device, by a keyed hash and nothing else.

Rules a reader can check line by line:

1. A place is ``HMAC-SHA256(key, purpose, name)``, its first 53 bits as a number in [0, 1). The key
   is the device's secret, so nobody else can tell or choose who is where.
2. Each question has its own place: the holdout (one for all experiments), the layer (one for each
   layer), the share and the arm (one for each experiment). So they are independent of each other.
3. A person is in the share if their place is below it. Raising the share, or the holdout, only adds
   people to it. The arm does not depend on the share, so nobody moves between arms.
4. Asked in this order, the first no counts: the time, the holdout, the layer, the share, and a
   guard that stopped it.
5. Who was exposed keeps the group of the log; who was not by the end of the exposure window is out.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final

from client_sdk.experience.experiments.experiment import Arm, Experiment
from client_sdk.experience.experiments.log import ExperimentLog

MIN_KEY_BYTES: Final = 16


class Standing(StrEnum):
    """Where a person stands in an experiment; only ``in`` is shown an arm."""

    IN = "in"
    HOLDOUT = "holdout"
    NOT_STARTED = "not started"
    ENDED = "ended"
    OTHER_EXPERIMENT = "another segment of the layer"
    OUTSIDE_SHARE = "outside of the share"
    TOO_LATE = "the exposure window is over"
    STOPPED = "stopped by a guard"
    NO_CONSENT = "no consent to personalise"


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What an experiment says to one person now.

    Attributes:
        standing: Where the person stands.
        arm: The arm to show; None for anything but ``in``: do what is done without the experiment.
        group: The place to tell of an exposure, also for the holdout, which would have been shown
            something at this point; None for everyone else.
    """

    standing: Standing
    arm: str | None = None
    group: int | None = None


def assign(
    experiment: Experiment, *, key: bytes, now_s: float, log: ExperimentLog | None = None
) -> Assignment:
    """Say which arm of an experiment the person is to see now.

    Args:
        experiment: The definition.
        key: The device's secret for this person, at least 16 random bytes; kept by the caller.
        now_s: The time, seconds since 1970 (UTC).
        log: What happened to the person in it so far; None for nothing.

    Raises:
        ValueError: the key is too short, or the log is another experiment's.

    >>> from client_sdk.experience.experiments.metrics import Metric
    >>> experiment = Experiment(
    ...     name="linen-first", arms=(Arm(name="control"), Arm(name="linen")), start_s=0.0,
    ...     metrics=(Metric(name="bought", event="purchase", window_s=3_600.0),), end_s=9_000.0)
    >>> found = assign(experiment, key=bytes(32), now_s=10.0)
    >>> found.arm, found.group
    ('control', 0)
    >>> log = ExperimentLog.empty(experiment).exposed(experiment, group=found.group, time_s=10.0)
    >>> assign(experiment, key=bytes(32), now_s=20.0, log=log) == found
    True
    """
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(
            f"key: expected at least {MIN_KEY_BYTES} bytes; got {len(key)}; "
            "draw them once from the operating system and keep them"
        )
    if log is None:
        log = ExperimentLog.empty(experiment)
    log.check(experiment)
    standing = _standing(experiment, key, now_s, log)
    holdout = len(experiment.arms)
    if standing is Standing.HOLDOUT:
        return Assignment(standing=standing, group=holdout)
    if standing is not Standing.IN:
        return Assignment(standing=standing)
    group = log.group
    if group is None:
        group = _arm_at(experiment.arms, _place(key, "arm", experiment.name))
    if group == holdout:
        # The log says holdout, the key says otherwise: the key is new. Nothing may be shown.
        return Assignment(standing=Standing.HOLDOUT, group=group)
    return Assignment(standing=standing, arm=experiment.arms[group].name, group=group)


def _standing(experiment: Experiment, key: bytes, now_s: float, log: ExperimentLog) -> Standing:
    layer = experiment.layer
    refusals = (
        (Standing.NOT_STARTED, now_s < experiment.start_s),
        (Standing.ENDED, now_s >= experiment.end_s),
        (Standing.TOO_LATE, log.group is None and now_s >= experiment.exposure_end_s),
        (Standing.HOLDOUT, _place(key, "holdout", "") < experiment.holdout),
        (
            Standing.OTHER_EXPERIMENT,
            (layer is not None and not layer.start <= _place(key, "layer", layer.name) < layer.end),
        ),
        (Standing.OUTSIDE_SHARE, _place(key, "share", experiment.name) >= experiment.share),
        (Standing.STOPPED, log.stopped),
    )
    return next((standing for standing, yes in refusals if yes), Standing.IN)


def _place(key: bytes, purpose: str, name: str) -> float:
    # Names hold no zero byte, so different questions are different messages.
    message = f"homebody experiment 1\0{purpose}\0{name}".encode()
    digest = hmac.digest(key, message, "sha256")
    return float(int.from_bytes(digest[:8], "big") >> 11) / 2.0**53


def _arm_at(arms: tuple[Arm, ...], place: float) -> int:
    edges = list(accumulate(arm.weight for arm in arms))
    for group, edge in enumerate(edges[:-1]):
        if place * edges[-1] < edge:
            return group
    return len(arms) - 1
