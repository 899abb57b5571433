"""What ``homebody demo`` and ``homebody simulate`` run: people learn together, and are asked again.

For each seed and arm, everyone is asked for consent, the real tasks run through one of the engines
(`simulations.engines.engine`), and everyone's list is judged on what they took next. Where people
have real devices, the first seed's most generous private release is also published over HTTP:
every device verifies and loads it, and its own ``rank`` is compared with the vectorised score that
judged the arms.

What a seed changes: the noise, the targets that are asked for, and the cohorts. Who consents is
drawn once from the first seed, because people are real or remember.

More than 400 lines: the order of an experiment, from the split to its findings, stands on one page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.campaign import PrivacyTarget, UnsafeNoPrivacy
from aggregator.item_training import OnRound
from aggregator.learning import (
    COUNTS_SHARE,
    TRAINING_RIDGE,
    Learned,
    TrainingRecipe,
    learn_item_statistics,
    learn_item_training,
)
from aggregator.publishing import CheckedGraph, export_checked_graph, ranker_table
from client_sdk.intelligence import RankerSettings, RankerTable
from client_sdk.ports import Clock
from models.item_statistics import StatisticsSettings, suggest_top_items
from models.item_training import TrainingState, initial_state
from privacy.budget import Budget
from privacy.events import AssumedPopulation
from privacy.gaussian import noise_multipliers_for
from privacy.noise import GaussianNoise
from simulations.course import WHAT, Course
from simulations.data.bundled import load_bundled
from simulations.engines.choice import (
    Choice,
    OpenEngine,
    choose_engine,
    clock_for,
    open_engine,
)
from simulations.engines.crowd import Circumstances
from simulations.engines.encoders import UnsupportedByKernelError
from simulations.engines.engine import Engine, FirstTable, Setup, Terms
from simulations.engines.pool import Pool, Threads
from simulations.evaluation.metrics import Scorer
from simulations.findings import AS_IS, Findings, consent_of
from simulations.house import House
from simulations.population import Population
from simulations.progress import Progress
from simulations.rollout import choose_example, history_of, list_of, roll_out
from simulations.settings import DemoSettings, SettingsError, SimulationSettings, arm_name
from simulations.studies import EventStudy, Judge, Study, SyntheticStudy
from simulations.task_progress import TaskProgress
from simulations.workspace import temporary_workspace

NO_NOISE_ARM: Final = "together-no-noise"
# Chosen by `python -m simulations.tune_training`.
TRAINED: Final = RankerSettings(form="ridge", ridge=TRAINING_RIDGE, together_weight=0.01)
TRAINING_RANK: Final = 32
MAX_TOP_ITEMS: Final = 4_096
_QUORUM_SHARE: Final = 0.5


def run_demo(settings: DemoSettings, progress: Progress) -> dict[str, Any]:
    """Run the demo on the bundled data.

    Returns:
        What `simulations.report` shows.

    Raises:
        SettingsError: the assumed population is smaller than the real one.
        AggregatorError: a task could not be finished.
    """
    progress.stage("reading the bundled sample")
    if settings.superlink:
        from simulations.superlink_round import run_superlink_round

        return run_superlink_round(load_bundled(), progress)
    simulation = SimulationSettings(
        events=Path("online-retail-sample"),
        epsilons=settings.epsilons,
        delta=settings.delta,
        population=settings.population,
        seeds=settings.seeds,
        engine="devices",
    )
    result = _run(simulation, EventStudy(data=load_bundled()), progress, Choice.for_demo())
    result["settings"] = settings.to_json()
    result["data"] |= {
        "name": "Online Retail, a sample",
        "source": "Chen, Sain, Guo (2012), doi 10.24432/C5BW33",
    }
    return result


def run_simulation(
    settings: SimulationSettings,
    progress: Progress,
    *,
    conditions: Circumstances | None = None,
    pool: Pool | None = None,
    open_with: OpenEngine = open_engine,
) -> dict[str, Any]:
    """Run the demo's experiment on anyone's events, or on synthetic people.

    Args:
        settings: What to run.
        progress: Told the stages.
        conditions: What happens to people in the engine ``kernel`` (`simulations.scenarios`).
        pool: Who adds up in the engine ``kernel``; by default threads of this process.
        open_with: Makes the engine that was chosen.

    Returns:
        What `simulations.report` shows.

    Raises:
        DataError: the files cannot be used.
        SettingsError: the settings do not fit the data or this machine.
        AggregatorError: a task could not be finished.
    """
    study: Study
    if settings.people is not None:
        progress.stage("opening the synthetic people")
        study = SyntheticStudy.open(settings.people)
        settings.check(people=study.histories.people, items=len(study.catalogue.items))
    else:
        progress.stage("reading the events")
        study = EventStudy(data=settings.load())
    people = study.histories.people
    choice = choose_engine(settings.engine, people=people, have_events=study.split is not None)
    if choice.name != "kernel" and (conditions is not None or pool is not None):
        raise SettingsError(
            f"conditions and pools are for the engine kernel; this run is on {choice.name}"
        )
    return _run(
        settings, study, progress, choice, conditions=conditions, pool=pool, open_with=open_with
    )


def _run(
    settings: SimulationSettings,
    study: Study,
    progress: Progress,
    choice: Choice,
    *,
    conditions: Circumstances | None = None,
    pool: Pool | None = None,
    open_with: OpenEngine = open_engine,
) -> dict[str, Any]:
    people = study.histories.people
    if settings.population is not None and settings.population < people:
        raise SettingsError(
            f"population must be at least the {people} people in the data; "
            f"got {settings.population}"
        )
    with temporary_workspace() as folder:
        experiment = _Experiment(
            settings=settings,
            study=study,
            progress=progress,
            folder=folder,
            choice=choice,
            clock=clock_for(choice.name, now_s=study.histories.now_s),
            conditions=conditions,
            pool=pool or Threads(workers=settings.workers),
            open_with=open_with,
        )
        try:
            return experiment.run()
        except UnsupportedByKernelError as error:
            raise SettingsError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """One arm that learns together."""

    name: str
    epsilon: float | None
    assumed: AssumedPopulation | None


@dataclass(kw_only=True)
class _Experiment:
    """One experiment: the house, the people, and the results as they come."""

    settings: SimulationSettings
    study: Study
    progress: Progress
    folder: Path
    choice: Choice
    clock: Clock
    conditions: Circumstances | None
    pool: Pool
    open_with: OpenEngine
    findings: Findings = field(default_factory=Findings)

    def run(self) -> dict[str, Any]:
        """Run every seed and arm, and put the result together."""
        with self.findings.timed("total"), ExitStack() as stack:
            house = stack.enter_context(
                House(
                    self.folder / "house",
                    catalogue=self.study.catalogue,
                    budgets=self._budgets(),
                    clock=self.clock.now_s,
                )
            )
            setup = self._setup(house)
            with self.findings.timed("devices"):
                engine = stack.enter_context(self.open_with(self.choice.name, setup))
            for seed in self._seeds:
                self._run_seed(seed, house, engine)
        self.findings.engine = {"name": engine.name, "why": self.choice.why}
        self.findings.left_out = dict(self.study.left_out)
        self.findings.note_judged(
            self.study.segments, people=self.study.judged_people, of=self._people
        )
        return self.findings.result(
            data=self.study.facts,
            settings=self.settings.to_json(),
            assumed=self.settings.population or self._people,
            real=self._people,
            main=self._main,
        )

    def _setup(self, house: House) -> Setup:
        """Say what the engine is made from; for training, with the table that it starts from."""
        first = None
        if self._training:
            start = self._start(self.settings.seed)
            table = RankerTable.from_arrays(factors=start.factors, settings=self._ranker_settings)
            first = FirstTable(table=table, graph=lambda: self.graph, rank=TRAINING_RANK)
        return Setup(
            folder=self.folder,
            house=house,
            catalogue=self.study.catalogue,
            histories=self.study.histories,
            split=self.study.split,
            clock=self.clock,
            seed=self.settings.seed,
            first=first,
            progress=self.progress,
            pool=self.pool,
            conditions=self.conditions,
        )

    @property
    def _people(self) -> int:
        return self.study.histories.people

    @property
    def _seeds(self) -> Sequence[int]:
        return range(self.settings.seed, self.settings.seed + self.settings.seeds)

    @property
    def _cohort(self) -> int:
        return self.settings.cohort or self._people

    @cached_property
    def graph(self) -> CheckedGraph:
        """The graph that every release of this experiment carries."""
        self.progress.stage("exporting the graph through the parity gate")
        with self.findings.timed("export"):
            return export_checked_graph(self._rank)

    @property
    def _training(self) -> bool:
        return self.settings.task == "item-training"

    @property
    def _rank(self) -> int:
        return TRAINING_RANK if self._training else StatisticsSettings().rank

    @property
    def _ranker_settings(self) -> RankerSettings:
        return TRAINED if self._training else RankerSettings()

    @property
    def _plans(self) -> list[_Plan]:
        population = self.settings.population
        assumed = None
        if population is not None and population != self._people:
            assumed = AssumedPopulation(simulated_people=self._people, people=population)
        plans = [_Plan(name=NO_NOISE_ARM, epsilon=None, assumed=None)]
        for epsilon in self.settings.epsilons:
            name = arm_name(epsilon)
            plans.append(_Plan(name=name, epsilon=epsilon, assumed=assumed))
            if assumed is not None:
                plans.append(_Plan(name=name + AS_IS, epsilon=epsilon, assumed=None))
        return plans

    @property
    def _main(self) -> str:
        """The arm that is rolled out: the most generous budget."""
        return arm_name(max(self.settings.epsilons))

    def _budgets(self) -> dict[str, Budget]:
        return {
            _account(plan.name, seed): Budget(epsilon=plan.epsilon, delta=self.settings.delta)
            for plan in self._plans
            if plan.epsilon is not None
            for seed in self._seeds
        }

    def _run_seed(self, seed: int, house: House, engine: Engine) -> None:
        judge = self.study.judge_for(seed)
        with self.findings.timed("judging"):
            for name, scorer in self.study.simple_arms().items():
                self._judge(name, scorer, judge)
        for plan in self._plans:
            attitudes = engine.ask_consent()
            with self.findings.timed("learning together"):
                learned = self._learn(plan, seed, engine)
            scorer = self.study.together(ranker_table(learned.ranker, self._ranker_settings))
            with self.findings.timed("judging"):
                self._judge(plan.name, scorer, judge)
            if seed == self.settings.seed:
                self.findings.note_tasks(plan.name, learned.tasks)
            if plan.epsilon is not None:
                self.findings.note_release(
                    plan.name,
                    learned.events,
                    epsilon=plan.epsilon,
                    delta=self.settings.delta,
                    assumed=plan.assumed,
                )
            if plan.name == self._main and seed == self.settings.seed:
                self.findings.consent = consent_of(attitudes, learned.tasks)
                if engine.devices is not None:
                    with self.findings.timed("roll-out"):
                        self._roll_out(learned, house, engine.devices, scorer)

    def _learn(self, plan: _Plan, seed: int, engine: Engine) -> Learned:
        def words(task: int, _: int) -> str:
            return f"{plan.name}, seed {seed}: task {task}"

        # Hundreds of rounds of a few milliseconds are one stage, not hundreds.
        in_bulk = engine.name == "kernel" and self._training
        if in_bulk:
            rounds = self.settings.rounds
            self.progress.stage(f"{plan.name}, seed {seed}: {rounds} rounds", total=rounds)
        campaign = engine.campaign(
            Terms(
                population=_account(plan.name, seed),
                privacy=self._privacy(plan, seed),
                report_goal=self._cohort,
                quorum=max(1, round(_QUORUM_SHARE * self._cohort)),
                on_progress=None if in_bulk else TaskProgress(self.progress, words),
            )
        )
        if self._training:
            return learn_item_training(
                campaign,
                start=self._start(seed),
                recipe=TrainingRecipe(
                    rounds=self.settings.rounds,
                    seed=seed << 20,
                    min_separation=self._people // self._cohort,
                ),
                cohort_of=lambda number: self._turn(seed, number),
                on_round=self._watch(plan, seed, step=self.progress.step if in_bulk else _nothing),
            )
        return learn_item_statistics(
            campaign,
            top_items=self._top_items(plan),
            cohort=None if self.settings.cohort is None else self._draw_cohort(seed, 0),
        )

    def _watch(self, plan: _Plan, seed: int, *, step: Callable[[], None]) -> OnRound:
        """Give what is called after each round; the first seed's tables are looked at."""
        course = self._course if seed == self.settings.seed else None
        if course is None:
            return lambda _number, _state: step()
        seen = self.findings.begin_course(plan.name, what=WHAT, people=course.histories.people)
        seen.append(course.look(self._start(seed).factors, done=0))

        def on_round(number: int, state: TrainingState) -> None:
            step()
            if course.is_due(number + 1):
                seen.append(course.look(state.factors, done=number + 1))

        return on_round

    @cached_property
    def _course(self) -> Course | None:
        return Course.of(
            self.study.histories,
            settings=self._ranker_settings,
            rounds=self.settings.rounds,
            seed=self.settings.seed,
        )

    def _roll_out(
        self, learned: Learned, house: House, population: Population, scorer: Scorer
    ) -> None:
        study = self.study
        if not isinstance(study, EventStudy):
            raise TypeError("devices are made of events")
        targets = study.targets(self.settings.seed)
        shown = choose_example(population, study.split)
        if shown is not None:
            device = population.people[shown].device
            self.findings.example = {
                "history": history_of(device, study.split, shown),
                "before": list_of(device, study.split, shown),
            }
        manifest = house.publisher.publish_learned(
            learned,
            settings=self._ranker_settings,
            graph=self.graph,
            delta=self.settings.delta,
        )
        self.progress.stage(
            f"{len(population):,} devices verify and load release {manifest.version}",
            total=len(population) + len(targets.next_people),
        )
        self.findings.rollout = roll_out(
            population,
            version=manifest.version,
            scorer=scorer,
            targets=targets,
            tick=self.progress.step,
        ).to_json()
        if shown is not None:
            self.findings.example["after"] = list_of(
                population.people[shown].device, study.split, shown
            )

    def _start(self, seed: int) -> TrainingState:
        return initial_state(n_items=len(self.study.catalogue.items), rank=TRAINING_RANK, seed=seed)

    def _privacy(self, plan: _Plan, seed: int) -> PrivacyTarget | UnsafeNoPrivacy:
        if plan.epsilon is None:
            return UnsafeNoPrivacy()
        return PrivacyTarget(
            epsilon=plan.epsilon,
            delta=self.settings.delta,
            new_noise=_SeededNoise(f"{plan.name}/{seed}"),
            assumed=plan.assumed,
        )

    def _top_items(self, plan: _Plan) -> int:
        n_items = len(self.study.catalogue.items)
        if self.settings.top_items is not None:
            return self.settings.top_items
        std = 0.0
        if plan.epsilon is not None:
            shares = (COUNTS_SHARE, 1.0 - COUNTS_SHARE)
            std = noise_multipliers_for(
                epsilon=plan.epsilon, delta=self.settings.delta, shares=shares
            )[1]
            std *= 1.0 if plan.assumed is None else plan.assumed.scale
        most = min(n_items, MAX_TOP_ITEMS)
        return min(most, suggest_top_items(people=self._cohort, noise_std=std, n_items=n_items))

    def _draw_cohort(self, seed: int, number: int) -> Sequence[int]:
        """Draw who is invited to a round; node ids start at 1."""
        rng = np.random.default_rng((seed, number))
        chosen = rng.choice(self._people, self._cohort, replace=False)
        return [int(person) + 1 for person in np.sort(chosen)]

    def _turn(self, seed: int, number: int) -> Sequence[int]:
        """Give a round of training its cohort: people take turns, in an order drawn once.

        So nobody is in two rounds that are closer than ``people // cohort``.
        """
        order = np.random.default_rng((seed, self._people)).permutation(self._people)
        turn = (number * self._cohort + np.arange(self._cohort)) % self._people
        return [int(person) + 1 for person in np.sort(order[turn])]

    def _judge(self, arm: str, scorer: Scorer, judge: Judge) -> None:
        self.findings.judged.setdefault(arm, []).append(judge(scorer))


def _nothing() -> None:
    """Where a stage shows its own steps."""


class _SeededNoise:
    """A fresh noise source for each release, repeatable from the run's seed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._drawn = 0

    def __call__(self) -> GaussianNoise:
        self._drawn += 1
        digest = hashlib.sha256(f"{self._name}/{self._drawn}".encode()).digest()
        return GaussianNoise.from_seed_for_simulation(int.from_bytes(digest[:7], "big"))


def _account(arm: str, seed: int) -> str:
    """Name the population whose budget an arm is paid from: each run is a world of its own."""
    return f"{arm}/seed-{seed}"
