"""What ``homebody simulate --scenario FILE`` runs: a whole scenario, in the shape of every report.

The arms that learn together are `simulations.scenarios.play`'s; beside them stand those that learn
nothing together, judged with the same targets. An arm whose round missed its quorum has no numbers,
and the result says why.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from privacy.events import AssumedPopulation
from simulations.engines.crowd import Answer
from simulations.engines.pool import ONE_THREAD, Pool
from simulations.experiment import NO_NOISE_ARM
from simulations.findings import Findings
from simulations.progress import Progress
from simulations.scenarios.play import NO_NOISE, Play, Told, open_study
from simulations.scenarios.reading import read_scenario
from simulations.settings import SettingsError
from simulations.studies import Study
from simulations.workspace import temporary_workspace

_WHY: Final = "a scenario is played on the engine kernel alone"


def run_scenario(
    file: Path, progress: Progress, *, seed: int | None = None, pool: Pool = ONE_THREAD
) -> dict[str, Any]:
    """Play every arm of a scenario, and judge it beside the arms that learn nothing together.

    Args:
        file: The scenario.
        progress: Told the stages.
        seed: In place of the file's.
        pool: Who adds up; the result does not depend on it.

    Returns:
        What `simulations.report` shows.

    Raises:
        FileMistakeError: the file cannot be used; it names file, line and remedy.
        ScenarioError, SettingsError, DataError: what it asks for cannot be had.
        OSError: the file cannot be read.
    """
    scenario = read_scenario(file)
    if seed is not None:
        scenario = replace(scenario, seed=seed)
    findings = Findings()
    with temporary_workspace() as workspace, findings.timed("total"):
        progress.stage("putting the people together")
        study = open_study(scenario, beside=file.parent, workspace=workspace)
        if scenario.privacy.population is not None:
            _check_population(scenario.privacy.population, study)
        play = Play(scenario=scenario, study=study, workspace=workspace, pool=pool)
        judge = study.judge_for(scenario.seed)
        progress.stage("judging what needs no learning")
        for name, scorer in study.simple_arms().items():
            findings.judged[name] = [judge(scorer)]
        findings.left_out = dict(study.left_out)
        for arm, epsilon in play.arms.items():
            _play(play, arm, epsilon, findings, progress)
        findings.engine = {"name": "kernel", "why": _WHY}
        findings.note_judged(study.segments, people=study.judged_people, of=play.people)
        result = findings.result(
            data=study.facts,
            settings={"scenario": file.name, "seed": scenario.seed, **asdict(scenario.task)},
            assumed=scenario.privacy.population or play.people,
            real=play.people,
            main=None,
        )
    result["seconds"] = dict(findings.seconds)
    return result


def _play(
    play: Play, arm: str, epsilon: float | None, findings: Findings, progress: Progress
) -> None:
    """Play one arm, and note what came of it under its name in reports."""
    name, task = NO_NOISE_ARM if arm == NO_NOISE else arm, play.scenario.task
    progress.stage(f"{name}, seed {play.scenario.seed}: {task.kind}", total=task.rounds)
    with findings.timed("learning together"):
        table, told = replace(play, on_round=lambda _number, _state: progress.step()).learn(arm)
    findings.consent = _consent(play, told)
    if table is None:
        findings.left_out[name] = (
            f"its task {len(told.accepted)} was accepted by {told.accepted[-1]:,} people, fewer "
            "than its quorum, so that the arm ended there"
        )
        return
    with findings.timed("judging"):
        judge = play.study.judge_for(play.scenario.seed)
        findings.judged[name] = [judge(play.study.together(table))]
    findings.note_tasks(name, told.tasks)
    if epsilon is not None:
        findings.note_release(
            name,
            told.events,
            epsilon=epsilon,
            delta=play.scenario.privacy.delta,
            assumed=assumed_of(play.scenario.privacy.population, people=play.people),
        )


def assumed_of(population: int | None, *, people: int) -> AssumedPopulation | None:
    """Give the assumption behind a population, None where it is who is there."""
    if population is None or population == people:
        return None
    return AssumedPopulation(simulated_people=people, people=population)


def _check_population(population: int, study: Study) -> None:
    people = study.histories.people
    if population < people:
        raise SettingsError(
            f"population must be at least the {people} people in the data; got {population}"
        )


def _consent(play: Play, told: Told) -> dict[str, Any]:
    """Count what people said before the first round, and what became of the last task's answers."""
    answers = play.conditions.first_answers(np.arange(play.people))
    granted = int(np.count_nonzero(answers == Answer.GRANTED))
    last = {reason.value: count for reason, count in told.refusals[-1].items() if count}
    return {
        "granted": granted,
        "refused": play.people - granted,
        "withdrawn": last.get("consent-withdrawn", 0),
        "accepted": told.accepted[-1],
        "rejected": last,
    }
