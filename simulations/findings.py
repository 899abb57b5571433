"""What an experiment found, as it comes, and the dict that JSON and the report are made of."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aggregator.campaign import TaskRecord, refusals_of
from privacy.accounting import epsilon_pld
from privacy.events import ADJACENCY, TRUSTED, AssumedPopulation, ReleaseEvent
from simulations.evaluation.metrics import Measured, summarise_arms
from simulations.population import Attitude

AS_IS: Final = "-as-is"
"""Ends the name of an arm whose noise is for the people there are."""

_MECHANISM: Final = (
    "Gaussian noise on each clipped sum, and on all rounds of a training run together; ε over all "
    "releases of an arm by a PLD accountant; seeded noise, as this is a simulation"
)


@dataclass(kw_only=True)
class Findings:
    """What was found so far.

    Attributes:
        metrics: Arm to one measurement a seed.
        releases: Arm to what its first run released and spent.
        seconds: Stage to its time.
        consent: Who said what, in the run that was rolled out.
        rollout: What the devices said of the release.
        example: One person's list before and after.
    """

    metrics: dict[str, list[Measured]] = field(default_factory=dict)
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    consent: dict[str, Any] = field(default_factory=dict)
    rollout: dict[str, Any] = field(default_factory=dict)
    example: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def note_release(
        self,
        arm: str,
        events: Sequence[ReleaseEvent],
        *,
        epsilon: float,
        delta: float,
        assumed: AssumedPopulation | None,
    ) -> None:
        """Note what an arm's first run released; later seeds release the same at the same price."""
        if arm in self.releases:
            return
        self.releases[arm] = {
            "arm": arm,
            "epsilon": epsilon_pld(events, delta),
            "delta": delta,
            "budget": epsilon,
            "noise_multiplier": [event.noise_multiplier for event in events],
            "tasks": [event.kind.value for event in events],
            "assumed": None if assumed is None else assumed.label,
        }

    def result(
        self,
        *,
        data: Mapping[str, Any],
        settings: Mapping[str, Any],
        assumed: int,
        real: int,
        main: str,
    ) -> dict[str, Any]:
        """Put everything together as `simulations.report` wants it.

        Args:
            data: What was loaded.
            settings: What was asked for.
            assumed: People that the noise was planned for.
            real: People in the data.
            main: The arm that was rolled out.
        """
        summary = summarise_arms(self.metrics)
        return {
            "data": dict(data),
            "settings": dict(settings),
            "metrics": summary,
            "privacy": {
                "adjacency": ADJACENCY,
                "trust": TRUSTED,
                "mechanism": _MECHANISM,
                "population": {"assumed": assumed, "real": real},
                "releases": list(self.releases.values()),
                "real": _real_sentence(summary, main, real),
            },
            "consent": self.consent,
            "rollout": self.rollout,
            "seconds": self.seconds,
            "example": self.example,
        }


def consent_of(attitudes: Counter[Attitude], tasks: Sequence[TaskRecord]) -> dict[str, Any]:
    """Count who said what, and what became of the last task's answers."""
    return {
        "granted": attitudes[Attitude.WILLING] + attitudes[Attitude.WITHDRAWS_MIDWAY],
        "refused": attitudes[Attitude.REFUSES],
        "withdrawn": attitudes[Attitude.WITHDRAWS_MIDWAY],
        "accepted": tasks[-1].accepted,
        "rejected": dict(refusals_of(tasks[-1:])),
    }


def _real_sentence(summary: Mapping[str, Any], arm: str, people: int) -> str:
    """Say plainly what the people in the data would get, without any assumption."""
    real = arm + AS_IS if arm + AS_IS in summary else arm
    found = summary[real]["discover"]["hr@10"]["mean"]
    popular = summary["popularity"]["discover"]["hr@10"]["mean"]
    if found is None or popular is None:
        return f"{people:,} people are too few to say anything."
    return (
        f"With the noise that these {people:,} people need, and no assumption, the same run finds "
        f"{found:.1%} of new favourites (best sellers: {popular:.1%})."
    )
