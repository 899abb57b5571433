"""What one process of a sweep does: one cell, or one arm to compare with, on one split and seed.

A process opens the people once for each split, and keeps nothing else between two jobs.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aggregator.campaign import refusals_of
from aggregator.errors import AggregatorError
from client_sdk.wire import canonical_json
from models.item_training import TrainingState
from privacy.accounting import epsilon_pld
from privacy.budget import Budget
from privacy.errors import PrivacyError
from privacy.events import AssumedPopulation
from simulations.arms.errors import ArmError
from simulations.arms.registry import ARMS, Request, make_arm
from simulations.course import Course
from simulations.evaluation.metrics import Scorer
from simulations.evaluation.split import Part
from simulations.judging import Judged
from simulations.report.files import to_plain
from simulations.scenarios.play import NO_NOISE, Play, Told, open_study
from simulations.scenarios.scenario import Scenario
from simulations.settings import arm_name
from simulations.studies import EventStudy, Study, SyntheticStudy
from simulations.sweeps.plan import Cell, Goal, Sweep

TOGETHER: Final = "together"
_PEOPLE: Final = "people"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing to find out.

    Attributes:
        arm: `TOGETHER`, or the name of an arm to compare with.
        split: What is held out.
        seed: Of everything that is drawn.
        cell: The settings; None for an arm without any.
        goal: Which budget a private arm to compare with may spend; None for the others.
        watched: Whether training is looked at round by round.
    """

    arm: str
    split: Part
    seed: int
    cell: Cell | None = None
    goal: Goal | None = None
    watched: bool = False

    def identity(self, base: Scenario, *, people: str, code: str) -> str:
        """Name the job by everything that decides what it finds.

        Args:
            base: What stays in the sweep.
            people: Digest of the data (`people_sha256`).
            code: Digest of the code.
        """
        goal = self.cell.goal if self.cell is not None else self.goal
        told = {
            "arm": self.arm,
            "split": self.split,
            "watched": self.watched,
            "private": goal is not None and goal.is_private,
            "goal": None if goal is None else [repr(goal.epsilon), goal.population],
            "seed": self.seed,
            "scenario": asdict(base if self.cell is None else self._scenario(base)),
            "people": people,
            "code": code,
        }
        return hashlib.sha256(canonical_json(told)).hexdigest()

    def _scenario(self, base: Scenario) -> Scenario:
        return base if self.cell is None else self.cell.scenario(base, seed=self.seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """The people of a sweep, and where work is done.

    Attributes:
        base: What stays.
        beside: The folder that the base's file names are seen from.
        workspace: A private folder; synthetic people are in it, once for all processes.
    """

    base: Scenario
    beside: Path
    workspace: Path
    _unseeded: dict[tuple[Part, str], Scorer] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, sweep: Sweep, workspace: Path) -> Bench:
        """Take what a sweep says."""
        return cls(base=sweep.base, beside=sweep.beside, workspace=workspace)

    @cached_property
    def test(self) -> Study:
        """The people, judged on what is held out for the end."""
        if (self.workspace / _PEOPLE).is_dir():
            return replace(SyntheticStudy.open(self.workspace / _PEOPLE), part="test")
        found = open_study(self.base, beside=self.beside, workspace=self.workspace)
        return replace(found, part="test") if isinstance(found, SyntheticStudy) else found

    @cached_property
    def validation(self) -> Study:
        """The same people, judged on what settings are chosen by."""
        if not isinstance(self.test, EventStudy | SyntheticStudy):
            raise TypeError("only events and synthetic people have a part for validation")
        return replace(self.test, part="validation")

    def study(self, split: Part) -> Study:
        """Give the people with one split."""
        return self.test if split == "test" else self.validation

    def people_sha256(self) -> str:
        """Give the digest of everything that the data is: histories, and what is held out."""
        digest = hashlib.sha256()
        study = self.test
        if isinstance(study, SyntheticStudy):
            held = study.histories
            arrays: list[NDArray[Any]] = [
                held.offsets,
                held.items,
                held.counts,
                held.last_time_s,
                study.made.targets,
            ]
        elif isinstance(study, EventStudy):
            events = study.data.interactions
            arrays = [
                events.users, events.items, events.times_s, events.quantities, events.kinds,
                events.occasions,
            ]  # fmt: skip
        else:
            raise TypeError("only events and synthetic people have a digest")
        digest.update(study.catalogue.sha256.encode())
        for array in arrays:
            digest.update(f"{array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()

    def find(self, job: Job) -> dict[str, Any]:
        """Do a job.

        Returns:
            Plain values: ``metrics``, ``segments``, ``asked``, ``tasks``, ``course``, ``spent``
            (ε by the accountant), ``trusted``, ``sha256`` of the table; and ``failed``, why there
            are none.
        """
        try:
            found = self._together(job) if job.cell is not None else self._beside(job)
        except (AggregatorError, PrivacyError, ArmError) as error:
            return {"failed": " ".join(str(error).split())}
        plain: dict[str, Any] = to_plain(found)
        return plain

    def _together(self, job: Job) -> dict[str, Any]:
        cell, study = job.cell, self.study(job.split)
        if cell is None:
            raise TypeError("a job without a cell has nothing to train")
        scenario = cell.scenario(self.base, seed=job.seed)
        arm = arm_name(cell.goal.epsilon) if cell.goal.is_private else NO_NOISE
        course: list[dict[str, Any]] = []
        with tempfile.TemporaryDirectory(dir=self.workspace) as folder:
            play = Play(scenario=scenario, study=study, workspace=Path(folder))
            if job.watched and scenario.task.kind == "item-training":
                play = _watched(play, course)
            table, told = play.learn(arm)
        if table is None:
            return {
                "failed": f"task {len(told.accepted)} was accepted by {told.accepted[-1]:,}, fewer "
                "than its quorum",
                "tasks": _tasks(told),
            }
        judged = study.judge_for(job.seed)(study.together(table))
        bits = np.ascontiguousarray(table.factors, "<f4").tobytes()
        delta = scenario.privacy.delta
        return {
            **_values(judged),
            "tasks": _tasks(told),
            "course": course,
            "spent": epsilon_pld(told.events, delta) if cell.goal.is_private else None,
            "sha256": hashlib.sha256(bits).hexdigest(),
        }

    def _beside(self, job: Job) -> dict[str, Any]:
        study = self.study(job.split)
        scorer, spent = self._scorer(study, job)
        if scorer is None:
            return {"failed": study.left_out.get(job.arm, "there are no events to make it from")}
        return {
            **_values(study.judge_for(job.seed)(scorer)),
            "spent": spent,
            "trusted": ARMS[job.arm].trusted,
        }

    def _scorer(self, study: Study, job: Job) -> tuple[Scorer | None, float | None]:
        """Make an arm to compare with; None where these people have none of it."""
        if job.arm in study.left_out:
            return None, None
        if not isinstance(study, EventStudy):
            return study.simple_arms().get(job.arm), None
        if not ARMS[job.arm].seeded:
            name = (job.split, job.arm)
            if name not in self._unseeded:
                self._unseeded[name] = make_arm(job.arm, study.material).scorer
            return self._unseeded[name], None
        budget = assumed = None
        if job.goal is not None:
            budget = Budget(epsilon=job.goal.epsilon, delta=self.base.privacy.delta)
            people, population = study.histories.people, job.goal.population
            if population is not None and population != people:
                assumed = AssumedPopulation(simulated_people=people, people=population)
        request = Request(seed=job.seed, budget=budget, assumed=assumed)
        made = make_arm(job.arm, study.material, request)
        return made.scorer, None if made.claim is None else made.claim.epsilon


def _watched(play: Play, course: list[dict[str, Any]]) -> Play:
    """Look at training round by round, from the side of those who train."""
    rounds = play.scenario.task.rounds
    seen = Course.of(
        play.study.histories, settings=play.settings, rounds=rounds, seed=play.scenario.seed
    )
    if seen is None:
        return play

    def look(number: int, state: TrainingState) -> None:
        if seen.is_due(number + 1):
            course.append(seen.look(state.factors, done=number + 1))

    return replace(play, on_round=look)


def _values(judged: Judged) -> dict[str, Any]:
    return {"metrics": judged.measured, "segments": judged.segments, "asked": judged.asked}


def _tasks(told: Told) -> list[dict[str, Any]]:
    """Say what became of each task's invitations."""
    if told.tasks:
        return [
            {
                "task": each.event.kind.value,
                "invited": each.invited,
                "accepted": each.accepted,
                "rejected": dict(refusals_of([each])),
            }
            for each in told.tasks
        ]
    counts = [{reason.value: n for reason, n in each.items() if n} for each in told.refusals]
    return [
        {"task": "", "invited": accepted + sum(why.values()), "accepted": accepted, "rejected": why}
        for accepted, why in zip(told.accepted, counts, strict=True)
    ]


def summary_of(found: Mapping[str, Any]) -> dict[str, int]:
    """Add up invitations over all tasks.

    >>> summary_of({"tasks": [{"invited": 3, "accepted": 1}, {"invited": 2, "accepted": 2}]})
    {'tasks': 2, 'invited': 5, 'accepted': 3, 'refused': 2}
    """
    tasks = found.get("tasks", ())
    invited = sum(each["invited"] for each in tasks)
    accepted = sum(each["accepted"] for each in tasks)
    return {
        "tasks": len(tasks), "invited": invited, "accepted": accepted,
        "refused": invited - accepted,
    }  # fmt: skip
