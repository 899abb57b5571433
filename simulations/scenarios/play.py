"""Play a scenario on the engine ``kernel``: every arm of its file, from the same beginning.

Rules a reader can check line by line:

1. An arm is a world of its own: fresh people, the clock set back, an own budget. So arms differ
   in their noise alone, and the order in which they are played changes nothing.
2. File, seed and code fix every bit: people, conditions, cohorts and noise are drawn by the seed.
   ``sha256`` names the bits of what was learned.
3. A round that misses its quorum ends the arm; what happened until then is reported, never hidden.
4. Where the noise is scaled to a larger population than there is, the result says so.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from flwr.serverapp import Grid

from aggregator.admission import MayTakePart
from aggregator.campaign import CLIP_NORM, Campaign, PrivacyTarget, TaskRecord, UnsafeNoPrivacy
from aggregator.collection import CollectionPlan
from aggregator.errors import QuorumNotReachedError
from aggregator.in_process import InProcessGrid
from aggregator.item_training import OnRound
from aggregator.learning import (
    Learned,
    TrainingRecipe,
    learn_item_statistics,
    learn_item_training,
)
from aggregator.publishing import ranker_table
from aggregator.strategy import Collected, TaskPlan, TaskResult, TaskStrategy
from client_sdk.testing import FixedClock
from client_sdk.wire import DEFAULT_POLICY, Refusal
from client_sdk.wire.table import RankerSettings, RankerTable
from models.item_statistics import suggest_top_items
from models.item_training import initial_state
from privacy.budget import Budget
from privacy.events import AssumedPopulation, ReleaseEvent
from privacy.noise import GaussianNoise
from simulations.data.bundled import load_bundled
from simulations.data.loader import load_events
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import Crowd
from simulations.engines.holdings import ActiveRelease, Holdings
from simulations.engines.kernel import KernelStrategy
from simulations.engines.pool import ONE_THREAD, Pool
from simulations.experiment import TRAINED, TRAINING_RANK
from simulations.house import House
from simulations.scenarios.attacks import HostilePool, sybil_profile
from simulations.scenarios.conditions import Conditions
from simulations.scenarios.pace import PacedStrategy
from simulations.scenarios.scenario import Scenario
from simulations.settings import SettingsError, arm_name
from simulations.studies import EventStudy, Study, SyntheticStudy
from simulations.synthetic.fit import fit_population
from simulations.synthetic.generate import write_population
from simulations.synthetic.model import PopulationModel

NO_NOISE: Final = "no-noise"
_DAY_S: Final = 86_400.0
_HOUR_S: Final = 3_600.0
# The catalogue of a small sample is wholly covered without noise; a large one up to here.
_MOST_TOP_ITEMS: Final = 1_000

Around = Callable[[TaskStrategy], TaskStrategy]


def open_study(scenario: Scenario, *, beside: Path, workspace: Path) -> Study:
    """Give the people of a scenario.

    Args:
        scenario: Whom.
        beside: The folder that file names are seen from.
        workspace: Where synthetic people are written.

    Raises:
        DataError: the events cannot be used.
        SettingsError: no such file, or no fitted population in it.
        ScenarioError: fewer people than the scenario's cohort.
    """
    people = scenario.people
    if people.source == "synthetic":
        model = _model_of(None if people.model is None else beside / people.model)
        folder = workspace / "people"
        write_population(folder, model, people=people.count or 1, seed=scenario.seed)
        return SyntheticStudy.open(folder)
    if people.source == "bundled":
        data = load_bundled()
    else:
        events = _existing(beside / (people.events or ""))
        data = load_events(
            events, None if people.items is None else _existing(beside / people.items)
        )
    scenario.check_people(data.quality.people)
    return EventStudy(data=data)


@dataclass(kw_only=True)
class Told:
    """What the tasks of one arm reported, in order.

    Attributes:
        accepted: Contributions of each task.
        invited: People asked, of each task.
        refusals: Everybody else, by reason, of each task.
        tasks: The record of each, where all of them were finished.
        events: What was released then.
    """

    accepted: list[int] = field(default_factory=list)
    invited: list[int] = field(default_factory=list)
    refusals: list[Counter[Refusal]] = field(default_factory=list)
    tasks: Sequence[TaskRecord] = ()
    events: Sequence[ReleaseEvent] = ()

    def note(self, found: TaskResult | Collected) -> None:
        """Note one task."""
        self.accepted.append(found.accepted)
        self.invited.append(found.invited)
        self.refusals.append(found.refusals)

    @property
    def reasons(self) -> dict[str, int]:
        """All refusals, by reason, rarest last."""
        total: Counter[str] = Counter()
        for each in self.refusals:
            total.update({reason.value: count for reason, count in each.items()})
        return dict(total.most_common())


@dataclass(frozen=True, kw_only=True)
class _Telling:
    """Passes tasks on, and notes what came of them."""

    inner: TaskStrategy
    told: Told

    def start(
        self, grid: Grid, plan: TaskPlan, *, node_ids: Sequence[int] | None = None
    ) -> TaskResult:
        """Run one task to its release."""
        found = self.inner.start(grid, plan, node_ids=node_ids)
        self.told.note(found)
        return found

    def collect(
        self,
        grid: Grid,
        plan: CollectionPlan,
        *,
        node_ids: Sequence[int] | None = None,
        may_take_part: MayTakePart | None = None,
    ) -> Collected:
        """Run one round of a run."""
        found = self.inner.collect(grid, plan, node_ids=node_ids, may_take_part=may_take_part)
        self.told.note(found)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Play:
    """One scenario with its people, ready to be played arm by arm.

    Attributes:
        scenario: What happens.
        study: To whom.
        workspace: A private folder; ledgers go there.
        pool: Who adds up; the result does not depend on it.
        around: Wraps the engine, for who wants to look at tasks or to change their sums.
        on_round: Called after each round of training.
    """

    scenario: Scenario
    study: Study
    workspace: Path
    pool: Pool = ONE_THREAD
    around: Around = lambda engine: engine
    on_round: OnRound | None = None

    @property
    def arms(self) -> Mapping[str, float | None]:
        """The name and ε of each arm; None for no noise."""
        budgets = {arm_name(each): each for each in self.scenario.privacy.epsilon}
        return {NO_NOISE: None, **budgets}

    @property
    def people(self) -> int:
        """How many there are."""
        return self.study.histories.people

    @property
    def cohort(self) -> int:
        """How many are invited to a round."""
        return self.scenario.task.cohort or self.people

    @property
    def starts_at_s(self) -> float:
        """The first task: the scenario's hour on the day after the last event."""
        day_s = -(-self.study.histories.now_s // _DAY_S) * _DAY_S
        return float(day_s + self.scenario.task.first_hour_utc * _HOUR_S)

    @property
    def conditions(self) -> Conditions:
        """How people are at each round."""
        return Conditions.of(self.scenario, starts_at_s=self.starts_at_s)

    @property
    def settings(self) -> RankerSettings:
        """How devices rank with what is learned."""
        return TRAINED if self._trains else RankerSettings()

    def hostile_pool(self) -> Pool:
        """Give the pool with the scenario's attackers in it."""
        hostile = self.scenario.hostile
        if not any(hostile.shares):
            return self.pool
        return HostilePool(
            inner=self.pool,
            attackers=self.conditions,
            boost_factor=hostile.boost_factor,
            profile=self.profile() if hostile.sybils else None,
        )

    def profile(self) -> HistoryColumns:
        """Give the history that each sybil claims to have; the whole of a smaller catalogue."""
        histories, n_items = self.study.histories, len(self.study.catalogue.items)
        items = min(self.scenario.hostile.sybil_items, n_items)
        return sybil_profile(histories, n_items=n_items, items=items)

    def learn(self, arm: str) -> tuple[RankerTable | None, Told]:
        """Play one arm.

        Returns:
            What was learned, None where a quorum was missed; and what the tasks reported.
        """
        told, clock = Told(), FixedClock(self.starts_at_s)
        crowd = Crowd.under(self.conditions, holdings=self.holdings(), now_s=clock.now_s())

        def wait() -> None:
            clock.advance(self.scenario.task.round_every_hours * _HOUR_S)
            crowd.now_s = clock.now_s()

        epsilon = self.arms[arm]
        budgets = {}
        if epsilon is not None:
            budgets[arm] = Budget(epsilon=epsilon, delta=self.scenario.privacy.delta)
        with House(
            self.workspace / f"house-{hashlib.sha256(arm.encode()).hexdigest()[:12]}",
            catalogue=self.study.catalogue,
            budgets=budgets,
            clock=clock.now_s,
        ) as house:
            campaign = house.campaign(
                population=arm,
                privacy=self._price(arm, epsilon),
                grid=InProcessGrid({}),
                enrolled={},
                report_goal=self.cohort,
                quorum=max(1, round(self.scenario.task.quorum * self.cohort)),
            )
            ledger = house.ledger_for(campaign.privacy)
            engine = self.around(
                KernelStrategy(
                    ledger=ledger, crowd=crowd, pool=self.hostile_pool(), clock=clock.now_s
                )
            )
            strategy = PacedStrategy(inner=_Telling(inner=engine, told=told), wait=wait)
            try:
                learned = self._learn(replace(campaign, strategy=strategy))
            except QuorumNotReachedError as error:
                told.accepted.append(error.accepted)
                told.refusals.append(
                    Counter({Refusal(name): count for name, count in error.refusals.items()})
                )
                return None, told
        told.tasks, told.events = learned.tasks, learned.events
        return ranker_table(learned.ranker, self.settings), told

    def result(self, arm: str) -> dict[str, Any]:
        """Play one arm, judge it, and put it into plain values."""
        table, told = self.learn(arm)
        population, people = self.scenario.privacy.population, self.people
        epsilon = self.arms[arm]
        found: dict[str, Any] = {
            "arm": arm,
            "epsilon": epsilon,
            "people": people,
            "noise_scaled_to_people": None if epsilon is None else population or people,
            "accepted": told.accepted,
            "refusals": told.reasons,
            "sha256": None,
            "discover": None,
        }
        if table is not None:
            judged = self.study.judge_for(self.scenario.seed)(self.study.together(table))
            bits = np.ascontiguousarray(table.factors, "<f4").tobytes()
            found["sha256"] = hashlib.sha256(bits).hexdigest()
            found["discover"] = judged.measured["discover"]
        return found

    @property
    def _trains(self) -> bool:
        return self.scenario.task.kind == "item-training"

    def _learn(self, campaign: Campaign) -> Learned:
        task, seed = self.scenario.task, self.scenario.seed
        turns = np.random.default_rng((seed, self.people)).permutation(self.people)

        def cohort_of(number: int) -> list[int]:
            turn = (number * self.cohort + np.arange(self.cohort)) % self.people
            return [int(person) + 1 for person in np.sort(turns[turn])]

        if not self._trains:
            everyone = None if task.cohort is None else cohort_of(0)
            return learn_item_statistics(campaign, top_items=self._top_items(), cohort=everyone)
        n_items = len(self.study.catalogue.items)
        return learn_item_training(
            campaign,
            start=initial_state(n_items=n_items, rank=TRAINING_RANK, seed=seed % 2**31),
            recipe=TrainingRecipe(
                rounds=task.rounds,
                clip_norm=task.clip or CLIP_NORM,
                seed=(seed % 2**31) << 20,
                min_separation=task.min_separation or max(1, self.people // self.cohort),
            ),
            cohort_of=cohort_of,
            on_round=self.on_round,
        )

    def holdings(self) -> Holdings:
        """Give what devices hold."""
        catalogue = self.study.catalogue
        release = ActiveRelease(
            catalogue_sha256=catalogue.sha256,
            policy_sha256=DEFAULT_POLICY.sha256,
            n_items=len(catalogue.items),
            settings=TRAINED if self._trains else None,
            rank=TRAINING_RANK if self._trains else None,
        )
        return Holdings(release=release, histories=self.study.histories)

    def _price(self, arm: str, epsilon: float | None) -> PrivacyTarget | UnsafeNoPrivacy:
        if epsilon is None:
            return UnsafeNoPrivacy()
        population, assumed = self.scenario.privacy.population, None
        if population is not None and population != self.people:
            assumed = AssumedPopulation(simulated_people=self.people, people=population)
        drawn = iter(range(10**9))

        def new_noise() -> GaussianNoise:
            name = f"scenario {self.scenario.seed} {arm} {next(drawn)}"
            digest = hashlib.sha256(name.encode()).digest()
            return GaussianNoise.from_seed_for_simulation(int.from_bytes(digest[:7], "big"))

        return PrivacyTarget(
            epsilon=epsilon,
            delta=self.scenario.privacy.delta,
            new_noise=new_noise,
            assumed=assumed,
        )

    def _top_items(self) -> int:
        n_items = len(self.study.catalogue.items)
        asked = self.scenario.task.top_items
        if asked is None:
            suggested = suggest_top_items(people=self.cohort, noise_std=1.0, n_items=n_items)
            return min(n_items, _MOST_TOP_ITEMS, suggested)
        if asked > n_items:
            raise SettingsError(
                f"top_items must be at most the number of items, {n_items}; got {asked}"
            )
        return asked


def _model_of(path: Path | None) -> PopulationModel:
    if path is None:
        return fit_population(load_bundled().interactions)
    try:
        return PopulationModel.from_json(_existing(path).read_bytes())
    except ValueError as error:
        raise SettingsError(f"{path.name} holds no fitted population: {error}") from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise SettingsError(f"{path.name} is no file beside the scenario; correct its name")
    return path
