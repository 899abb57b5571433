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
from simulations.evaluation.metrics import summarise_arms
from simulations.judging import Judged, Segments
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
        judged: Arm to what it was worth, one a seed.
        releases: Arm to what its first run released and spent.
        seconds: Stage to its time.
        consent: Who said what, in the run that was rolled out.
        rollout: What the devices said of the release.
        example: One person's list before and after.
        engine: Which one ran, and why.
        left_out: Arm to why it could not be had.
        tasks: Arm to what became of each task's invitations, in the first seed.
        courses: What training looked like round by round, in the first seed.
        evaluated: How many people were asked, of how many.
        segments: Who has how much history.
    """

    judged: dict[str, list[Judged]] = field(default_factory=dict)
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    consent: dict[str, Any] = field(default_factory=dict)
    rollout: dict[str, Any] = field(default_factory=dict)
    example: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    courses: dict[str, Any] = field(default_factory=dict)
    evaluated: dict[str, int] = field(default_factory=dict)
    segments: list[dict[str, Any]] = field(default_factory=list)

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

    def note_tasks(self, arm: str, tasks: Sequence[TaskRecord]) -> None:
        """Note who was invited to each task of an arm, and why people are not in its sum."""
        rounds: Counter[str] = Counter()
        rows = self.tasks[arm] = []
        for task in tasks:
            kind = task.event.kind.value
            rounds[kind] += 1
            rows.append(
                {
                    "task": kind,
                    "round": rounds[kind],
                    "invited": task.invited,
                    "accepted": task.accepted,
                    "rejected": dict(refusals_of([task])),
                }
            )

    def begin_course(self, arm: str, *, what: str, people: int) -> list[dict[str, Any]]:
        """Give the list to which an arm's looks at its training are added."""
        seen: list[dict[str, Any]] = []
        self.courses |= {"what": what, "people": people}
        self.courses.setdefault("arms", {})[arm] = seen
        return seen

    def note_judged(self, segments: Segments, *, people: int, of: int) -> None:
        """Note who was asked, and who has how much history."""
        self.evaluated = {"people": people, "of": of}
        asked = next(iter(self.judged.values()))[0].asked
        self.segments = [{**each, "asked": asked[each["name"]]} for each in segments.to_json()]

    def result(
        self,
        *,
        data: Mapping[str, Any],
        settings: Mapping[str, Any],
        assumed: int,
        real: int,
        main: str | None,
    ) -> dict[str, Any]:
        """Put everything together as `simulations.report` wants it.

        Args:
            data: What was loaded.
            settings: What was asked for.
            assumed: People that the noise was planned for.
            real: People in the data.
            main: The arm to compare with best sellers in a sentence; None says nothing.
        """
        runs = self.judged.items()
        summary = summarise_arms({arm: [one.measured for one in each] for arm, each in runs})
        by_segment = summarise_arms({arm: [one.segments for one in each] for arm, each in runs})
        return {
            "data": dict(data),
            "settings": dict(settings),
            "engine": self.engine,
            "metrics": summary,
            "left_out": self.left_out,
            "evaluated": self.evaluated,
            "segments": {"groups": self.segments, "metrics": by_segment},
            "convergence": self.courses,
            "tasks": self.tasks,
            "privacy": {
                "adjacency": ADJACENCY,
                "trust": TRUSTED,
                "mechanism": _MECHANISM,
                "population": {"assumed": assumed, "real": real, **_kind_of(data)},
                "releases": list(self.releases.values()),
                "real": "" if main is None else _real_sentence(summary, main, real),
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


def _kind_of(data: Mapping[str, Any]) -> dict[str, bool]:
    """Mark people that never lived."""
    return {"synthetic": True} if data.get("synthetic") else {}


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
