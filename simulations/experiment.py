"""What ``homebody demo`` and ``homebody simulate`` run: people learn together, and are asked again.

For each seed and arm, every device is asked for consent, the real tasks run over a real Flower
strategy (`aggregator.learning`), and everyone's list is judged on what they took next. The first
seed's most generous private release is also published over HTTP: every device verifies and loads
it, and its own ``rank`` is compared with the vectorised score that judged the arms.

What a seed changes: the noise, the targets that are asked for, and the cohorts. Who consents is
drawn once from the first seed, because the devices are real and remember.

More than 400 lines: the order of an experiment, from the split to its findings, stands on one page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.campaign import PrivacyTarget, UnsafeNoPrivacy
from aggregator.in_process import InProcessGrid
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
from models.item_statistics import StatisticsSettings, suggest_top_items
from models.item_training import initial_state
from privacy.budget import Budget
from privacy.events import AssumedPopulation
from privacy.gaussian import noise_multipliers_for
from privacy.noise import GaussianNoise
from simulations.arms import Arms
from simulations.data.bundled import load_bundled
from simulations.data.interactions import LoadedData
from simulations.evaluation.metrics import measure
from simulations.evaluation.split import Targets, draw_targets, hold_out
from simulations.findings import AS_IS, Findings, consent_of
from simulations.house import House
from simulations.population import SIMULATED_NOW_S, Population
from simulations.progress import Progress
from simulations.rollout import choose_example, history_of, list_of, roll_out, update_all
from simulations.settings import DemoSettings, SettingsError, SimulationSettings, arm_name
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
    )
    result = _run(simulation, load_bundled(), progress)
    result["settings"] = settings.to_json()
    result["data"] |= {
        "name": "Online Retail, a sample",
        "source": "Chen, Sain, Guo (2012), doi 10.24432/C5BW33",
    }
    return result


def run_simulation(settings: SimulationSettings, progress: Progress) -> dict[str, Any]:
    """Run the demo's experiment on anyone's events.

    Returns:
        What `simulations.report` shows.

    Raises:
        DataError: the files cannot be used.
        SettingsError: the settings do not fit the data.
        AggregatorError: a task could not be finished.
    """
    progress.stage("reading the events")
    return _run(settings, settings.load(), progress)


def _run(settings: SimulationSettings, data: LoadedData, progress: Progress) -> dict[str, Any]:
    people = data.quality.people
    if settings.population is not None and settings.population < people:
        raise SettingsError(
            f"population must be at least the {people} people in the data; "
            f"got {settings.population}"
        )
    with temporary_workspace() as folder:
        return _Experiment(settings=settings, data=data, progress=progress, folder=folder).run()


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """One arm that learns together."""

    name: str
    epsilon: float | None
    assumed: AssumedPopulation | None


@dataclass(kw_only=True)
class _Experiment:
    """One experiment: the house, the devices, and the results as they come."""

    settings: SimulationSettings
    data: LoadedData
    progress: Progress
    folder: Path
    findings: Findings = field(default_factory=Findings)

    def run(self) -> dict[str, Any]:
        """Run every seed and arm, and put the result together."""
        with (
            self.findings.timed("total"),
            House(
                self.folder / "house",
                catalogue=self.data.catalogue,
                budgets=self._budgets(),
                clock=lambda: SIMULATED_NOW_S,
            ) as house,
        ):
            self._publish_first(house)
            with self.findings.timed("devices"):
                population = self._fill(house)
            with population:
                arms = Arms(
                    train=self.split.train,
                    histories=population.histories,
                    catalogue=self.data.catalogue,
                )
                for seed in self._seeds:
                    self._run_seed(seed, house, population, arms)
        return self.findings.result(
            data=self.data.quality.to_json(),
            settings=self.settings.to_json(),
            assumed=self.settings.population or self._people,
            real=self._people,
            main=self._main,
        )

    @property
    def _people(self) -> int:
        return self.data.quality.people

    @property
    def _seeds(self) -> Sequence[int]:
        return range(self.settings.seed, self.settings.seed + self.settings.seeds)

    @property
    def _cohort(self) -> int:
        return self.settings.cohort or self._people

    @cached_property
    def split(self) -> Any:
        """The test split."""
        return hold_out(self.data.interactions)

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

    def _publish_first(self, house: House) -> None:
        """Publish what devices need to take part: the catalogue, and for training a first table."""
        if self._training:
            start = self._start(self.settings.seed)
            table = RankerTable.from_arrays(factors=start.factors, settings=self._ranker_settings)
            house.publisher.publish_start(table=table, graph=self.graph)
        else:
            house.publisher.publish_base()

    def _fill(self, house: House) -> Population:
        total = self._people
        self.progress.stage(f"filling {total:,} devices", total=total)
        population = Population(
            self.folder / "devices",
            split=self.split,
            catalogue=self.data.catalogue,
            server_url=house.url,
            trusted_root=house.trusted_root,
            seed=self.settings.seed,
            on_device=self.progress.step,
        )
        self.progress.stage(f"{total:,} devices fetch the first release", total=total)
        update_all(population, tick=self.progress.step)
        return population

    def _run_seed(self, seed: int, house: House, population: Population, arms: Arms) -> None:
        targets = draw_targets(self.split, seed=seed)
        with self.findings.timed("judging"):
            self._judge("popularity", arms.popularity(), targets)
            self._judge("device-alone", arms.alone(), targets)
            central = arms.central(RankerSettings())
            self._judge("central", central, targets)
        for plan in self._plans:
            attitudes = population.ask_consent()
            with self.findings.timed("learning together"):
                learned = self._learn(plan, seed, house, population)
            table = ranker_table(learned.ranker, self._ranker_settings)
            scorer = arms.together(table)
            with self.findings.timed("judging"):
                self._judge(plan.name, scorer, targets)
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
                with self.findings.timed("roll-out"):
                    self._roll_out(learned, house, population, arms, targets)

    def _learn(self, plan: _Plan, seed: int, house: House, population: Population) -> Learned:
        campaign = house.campaign(
            population=_account(plan.name, seed),
            privacy=self._privacy(plan, seed),
            grid=InProcessGrid(population.nodes),
            enrolled=population.directory,
            report_goal=self._cohort,
            quorum=max(1, round(_QUORUM_SHARE * self._cohort)),
            on_progress=TaskProgress(
                self.progress, lambda task, _: f"{plan.name}, seed {seed}: task {task}"
            ),
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
            )
        return learn_item_statistics(
            campaign,
            top_items=self._top_items(plan),
            cohort=None if self.settings.cohort is None else self._draw_cohort(seed, 0),
        )

    def _roll_out(
        self,
        learned: Learned,
        house: House,
        population: Population,
        arms: Arms,
        targets: Targets,
    ) -> None:
        shown = choose_example(population, self.split)
        if shown is not None:
            device = population.people[shown].device
            self.findings.example = {
                "history": history_of(device, self.split, shown),
                "before": list_of(device, self.split, shown),
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
        table = ranker_table(learned.ranker, self._ranker_settings)
        self.findings.rollout = roll_out(
            population,
            version=manifest.version,
            scorer=arms.together(table),
            targets=targets,
            tick=self.progress.step,
        ).to_json()
        if shown is not None:
            self.findings.example["after"] = list_of(
                population.people[shown].device, self.split, shown
            )

    def _start(self, seed: int) -> Any:
        return initial_state(n_items=len(self.data.catalogue.items), rank=TRAINING_RANK, seed=seed)

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
        n_items = len(self.data.catalogue.items)
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

    def _judge(self, arm: str, scorer: Any, targets: Targets) -> None:
        self.findings.metrics.setdefault(arm, []).append(measure(scorer, self.split, targets))


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
