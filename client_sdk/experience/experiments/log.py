"""What one person was shown in one experiment, and what came of it: state in, state out.

Rules a reader can check line by line:

1. An exposure counts only within the experiment's exposure window. The first one that is told
   stands; later ones change nothing.
2. An event counts for a metric or a guard by its own time, within the window after the exposure
   (`metrics`), however late it is told; for a metric up to `ExperimentLog.due_s`. From then on the
   outcome stands still: what is sent is what stays. Told before the exposure, it does not count.
3. A guard above its limit stops the experiment on this device for good. The outcomes still count: a
   person whom an arm drove away must not fall out of its figures. The holdout has no guard, for
   nothing is done to it.
4. The caller tells an event once; the signals drop a second one of an id.
5. `ExperimentLog.to_json` and `ExperimentLog.from_json` are inverse to each other. No id, no item
   and no text of an event is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from client_sdk.experience.experiments.experiment import Experiment
from client_sdk.experience.experiments.metrics import Guard, Metric
from client_sdk.signals.events import Event
from client_sdk.signals.vault import Record
from client_sdk.wire.outcomes import ExperimentOutcome

EXPERIMENT_STREAM: Final = "experiments"


@dataclass(frozen=True, kw_only=True)
class ExperimentLog:
    """One person in one experiment.

    Attributes:
        sha256: The experiment's.
        group: Place of the group that the person was exposed in; None before.
        exposed_at_s: When; None before.
        totals: For each metric, at most its bound.
        guard_totals: For each guard.
        stopped_at_s: When a guard stopped it; None while it goes on.
        stopped_by: The guard's name, or empty.

    Raises:
        ValueError: the fields do not fit each other.
    """

    sha256: str
    totals: tuple[float, ...]
    guard_totals: tuple[float, ...]
    group: int | None = None
    exposed_at_s: float | None = None
    stopped_at_s: float | None = None
    stopped_by: str = ""

    def __post_init__(self) -> None:
        numbers = (*self.totals, *self.guard_totals)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError("totals: expected finite numbers, 0 or more; got another")
        if (self.group is None) != (self.exposed_at_s is None):
            raise ValueError("group: expected a group and a time of exposure, or none; got one")
        if (self.stopped_at_s is None) != (not self.stopped_by):
            raise ValueError("stopped_by: expected a guard and a time, or none; got one")
        if self.exposed_at_s is None and (any(numbers) or self.stopped_by):
            raise ValueError("totals: expected nothing before an exposure; got something")

    @classmethod
    def empty(cls, experiment: Experiment) -> ExperimentLog:
        """Begin a log: nothing was shown."""
        return cls(
            sha256=experiment.sha256,
            totals=(0.0,) * len(experiment.metrics),
            guard_totals=(0.0,) * len(experiment.guards),
        )

    @property
    def stopped(self) -> bool:
        """Whether a guard stopped it."""
        return self.stopped_at_s is not None

    def exposed(self, experiment: Experiment, *, group: int, time_s: float) -> ExperimentLog:
        """Say that the person was shown what their group is shown (the holdout: would have been).

        Args:
            experiment: The one of this log.
            group: The place of the assignment.
            time_s: When it was shown.

        Returns:
            The log with the exposure; the same log where there is one already, or where the
            exposure window is not open.

        Raises:
            ValueError: the log is another experiment's, or there is no such group.
        """
        self.check(experiment)
        if not 0 <= group < len(experiment.groups):
            raise ValueError(
                f"group: expected a place below {len(experiment.groups)}; got another; "
                "give the one of the assignment"
            )
        if self.group is not None or not experiment.start_s <= time_s < experiment.exposure_end_s:
            return self
        return replace(self, group=group, exposed_at_s=time_s)

    def told(self, experiment: Experiment, event: Event, *, now_s: float) -> ExperimentLog:
        """Count an event for the metrics and guards whose kind it is.

        Args:
            experiment: The one of this log.
            event: What the person did.
            now_s: When it is told.

        Returns:
            The log after it; an equal one where it counts for nothing.

        Raises:
            ValueError: the log is another experiment's.
        """
        self.check(experiment)
        if self.exposed_at_s is None:
            return self
        log = self
        if now_s < self.due_s(experiment):
            totals = _added(
                experiment.metrics, self.totals, event, event.time_s - self.exposed_at_s
            )
            log = replace(self, totals=totals)
        if self.stopped or self.group == len(experiment.arms):
            return log
        parts = experiment.guards
        totals = _added(parts, self.guard_totals, event, event.time_s - self.exposed_at_s)
        log = replace(log, guard_totals=totals)
        above = [guard for guard, total in zip(parts, totals, strict=True) if total > guard.limit]
        return replace(log, stopped_at_s=now_s, stopped_by=above[0].name) if above else log

    def due_s(self, experiment: Experiment) -> float:
        """Say from when on the outcome stands; infinity before an exposure."""
        if self.exposed_at_s is None:
            return math.inf
        windows = (metric.window_s for metric in experiment.metrics)
        return self.exposed_at_s + max(windows) + experiment.late_s

    def outcome(self, experiment: Experiment, *, now_s: float) -> ExperimentOutcome | None:
        """Give the person's bounded outcome; None before it stands.

        Raises:
            ValueError: the log is another experiment's.
        """
        self.check(experiment)
        if self.group is None or now_s < self.due_s(experiment):
            return None
        parts = zip(experiment.metrics, self.totals, strict=True)
        return ExperimentOutcome(
            group=self.group, outcomes=tuple(min(1.0, total / m.bound) for m, total in parts)
        )

    def to_record(self) -> Record:
        """Give the record that keeps this log: one for each experiment."""
        return Record(stream=EXPERIMENT_STREAM, key=self.sha256, value=self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Give the log as plain JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ExperimentLog:
        """Read what `to_json` wrote, and nothing else.

        Raises:
            ValueError: a field is missing, unknown or not as `to_json` gives it.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(value, Mapping) or set(value) != names:
            raise ValueError(f"expected an object with the fields {sorted(names)}; got another")
        given = dict(value)
        for name, kind in _KINDS.items():
            if not isinstance(given[name], kind) or isinstance(given[name], bool):
                raise ValueError(f"{name}: expected what to_json gives; got another type")  # noqa: TRY004 - every refusal is a ValueError
        for name in ("totals", "guard_totals"):
            if not all(type(number) is float for number in given[name]):
                raise ValueError(f"{name}: expected a list of numbers; got another")
            given[name] = tuple(given[name])
        if given["group"] is not None and given["group"] < 0:
            raise ValueError("group: expected a place from 0; got one below")
        return cls(**given)

    def check(self, experiment: Experiment) -> None:
        """Refuse a log that is not this experiment's.

        Raises:
            ValueError: it is another definition's, or has a group that the experiment has not.
        """
        if experiment.sha256 != self.sha256:
            raise ValueError(
                "log: expected the one of this experiment; got another definition's; "
                "begin one with ExperimentLog.empty(experiment)"
            )
        if self.group is not None and self.group >= len(experiment.groups):
            raise ValueError("log: expected a group of this experiment; got another; begin anew")


def _added(
    parts: Sequence[Metric | Guard],
    totals: tuple[float, ...],
    event: Event,
    after_s: float,
) -> tuple[float, ...]:
    return tuple(
        part.added(total, event)
        if part.event == event.kind and 0 <= after_s < part.window_s
        else total
        for part, total in zip(parts, totals, strict=True)
    )


_NONE: Final = type(None)
_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "sha256": str,
    "totals": list,
    "guard_totals": list,
    "group": (int, _NONE),
    "exposed_at_s": (int, float, _NONE),
    "stopped_at_s": (int, float, _NONE),
    "stopped_by": str,
}
