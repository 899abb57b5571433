"""A simulation whose tasks are done once, however many processes it takes.

A resumed simulation is run again from its beginning, by the same code: what was asked before is
answered from the checkpoint, and the first thing that was not is asked of the people as they were.

Rules a reader can check line by line:

1. A task that was released is never asked again: its noisy sum, which everybody may see, is read.
2. A round of a run with noise is written down after it was collected and before it is closed. Where
   the store of runs says that it was closed, the simulation goes on behind it; where it says that
   it was not, people are put back to before the round, and it is asked again: the same people, the
   same sum, the same noise. Sums without noise are never written down.
3. The ledger is never put back. A release that was reserved or committed by the process that was
   killed keeps its row, and is not booked twice: with seeded noise it is the same release, bit for
   bit. With noise of the operating system it would be another one, and that is refused.
4. People are put back when the last task that was written down is passed; what a simulation does
   with them between two tasks (`Crowd.ask_again`) happens on the way, again.
5. Task ids come from the seed, so that a run and a release have the same name in every process.
6. What does not fit together is an error: another task than the one that was asked, a store of runs
   or a folder of checkpoints that somebody put back.

The clock has to stand still, or to be a function of the round. A task that failed is not written
down: the same failure meets whoever resumes. A run that was interrupted (not killed) before its
first round was closed is voided, and can't be resumed: take another folder.

More than 400 lines: what is written down, and what a resume makes of it, are read together.

Test: tests/simulations/checkpoints/test_resuming.py, which kills real processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flwr.serverapp import Grid

from aggregator.admission import MayTakePart
from aggregator.campaign import Campaign, TaskRecord, UnsafeNoPrivacy
from aggregator.collection import CollectionPlan
from aggregator.item_training import CohortOf, ItemModel, train_rounds_without_privacy
from aggregator.learning import (
    COUNTS_SHARE,
    Learned,
    TrainingRecipe,
    learn_item_training,
)
from aggregator.run_plan import RunPlan
from aggregator.strategy import Collected, TaskPlan, TaskResult, TaskStrategy
from aggregator.training_run import TrainingRun, TrainingRuns
from client_sdk.wire import Order, TaskKind
from models.item_training import TrainingState, decode_trained
from simulations.checkpoints.errors import CheckpointDamagedError, CheckpointForeignError
from simulations.checkpoints.files import Checkpoints, Snapshot
from simulations.checkpoints.fingerprint import Fingerprint
from simulations.checkpoints.memory import put_back, written_down
from simulations.checkpoints.once_booked import OnceBooked
from simulations.checkpoints.written import Step, Written
from simulations.engines.crowd import Crowd
from simulations.engines.kernel import KernelStrategy

Judge = Callable[[int, TrainingState], Any]
"""Says what a round's table is worth, as a plain JSON value: the same for the same table."""


class ResumableSimulation:
    """One simulation on the engine ``kernel``, from its folder of checkpoints; for one thread.

    Args:
        checkpoints: Of this simulation alone.
        fingerprint: Of the simulation.
        crowd: The people as they are before anything was asked.
        runs: Where runs and the ledger are; they outlive the process.
        seed: Of the task ids.

    Raises:
        CheckpointError: the folder is another simulation's, or damaged.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        fingerprint: Fingerprint,
        crowd: Crowd,
        runs: TrainingRuns,
        seed: int,
    ) -> None:
        self._checkpoints = checkpoints
        self._fingerprint = fingerprint
        self._crowd = crowd
        self._runs = runs
        self._seed = seed
        self._ids = 0
        self._passed = 0
        self._written = Written()
        self._snapshot: Snapshot | None = None
        found = checkpoints.load(fingerprint)
        if found:
            self._begin_from(found)
            return
        if runs.ledger.reservations():
            raise CheckpointDamagedError(
                f"{checkpoints.folder} has no checkpoint, and its ledger has rows: the checkpoints "
                "were removed; take another folder"
            )
        self._save()

    @property
    def steps_done(self) -> int:
        """How many tasks and rounds were asked so far, by any process."""
        return len(self._written.steps)

    def new_task_id(self) -> str:
        """Give the next task's id."""
        self._ids += 1
        drawn = f"homebody simulated task {self._seed} {self._ids}"
        return hashlib.sha256(drawn.encode()).hexdigest()[:32]

    def over(self, campaign: Campaign, *, judge: Judge | None = None) -> Campaign:
        """Make a campaign resumable; its tasks are to be asked in the same order every time.

        Args:
            campaign: On the engine ``kernel``, over this simulation's people.
            judge: Called on what a killed process left unjudged of a run.

        Raises:
            ValueError: another engine, or other people.
        """
        strategy = campaign.strategy
        if not isinstance(strategy, KernelStrategy) or strategy.crowd is not self._crowd:
            raise ValueError("only campaigns of the engine kernel, over these people, can resume")
        booking = OnceBooked(inner=strategy.ledger, booked=self._runs.ledger)
        return replace(
            campaign,
            strategy=_Remembering(simulation=self, inner=replace(strategy, ledger=booking)),
            runs=_ContinuedRuns(**vars(self._runs), simulation=self, judge=judge),
            new_task_id=self.new_task_id,
        )

    def learn_item_training(
        self,
        campaign: Campaign,
        *,
        start: TrainingState,
        recipe: TrainingRecipe,
        cohort_of: CohortOf | None = None,
        counts_share: float = COUNTS_SHARE,
        judge: Judge | None = None,
    ) -> tuple[Learned, list[tuple[int, Any]]]:
        """Do what `aggregator.learning.learn_item_training` does, once over all processes.

        Args:
            campaign: As `over` takes it.
            start: The first table.
            recipe: What is done in each round.
            cohort_of: Round number to the node ids to invite; a function of the number alone.
            counts_share: Share of ρ for the counts.
            judge: Called once for each round.

        Returns:
            What was learned, with the tasks of all processes; and what the judge said of each
            round.

        Raises:
            CheckpointError: what is asked is not what was asked before.
            BudgetExhaustedError, QuorumNotReachedError: as the original.
        """
        over = self.over(campaign, judge=judge)
        if isinstance(campaign.privacy, UnsafeNoPrivacy):
            return self._learn_without_privacy(
                over, start=start, recipe=recipe, cohort_of=cohort_of, judge=judge
            )

        def on_round(number: int, state: TrainingState) -> None:
            self._judge(self._written.steps[-1].run_id or "", number, state, judge)

        learned = learn_item_training(
            over,
            start=start,
            recipe=recipe,
            cohort_of=cohort_of,
            counts_share=counts_share,
            on_round=on_round,
        )
        event = learned.run_events[0]
        run_id = event.task_id
        rounds = [each.record(event) for each in self._written.steps if each.run_id == run_id]
        return replace(learned, tasks=(learned.tasks[0], *rounds)), self._findings(run_id)

    def _learn_without_privacy(
        self,
        campaign: Campaign,
        *,
        start: TrainingState,
        recipe: TrainingRecipe,
        cohort_of: CohortOf | None,
        judge: Judge | None,
    ) -> tuple[Learned, list[tuple[int, Any]]]:
        n_items = len(start.factors)
        counts = campaign.ask(TaskKind.ITEM_COUNTS, dimension=n_items, noise_multiplier=0.0)
        run_id = self.new_task_id()
        started_at_s = self._written.started_at_s.setdefault(run_id, int(campaign.clock()))
        done = self._rounds_ahead(run_id)
        if done:
            start = self._table(run_id, rounds=start.rounds + done)
        self._pass(done)

        def on_round(number: int, state: TrainingState) -> None:
            self._written.arrays[f"factors.{run_id}"] = state.factors
            self._written.arrays[f"velocity.{run_id}"] = state.velocity
            self._judge(run_id, number, state, judge)
            self._save()

        state, _ = train_rounds_without_privacy(
            campaign,
            start,
            recipe,
            cohort_of=cohort_of,
            on_round=on_round,
            terms=recipe.terms(run_id=run_id, started_at_s=started_at_s),
            first_round=done,
        )
        rounds = [
            each.record(
                replace(
                    counts.event,
                    kind=TaskKind.ITEM_TRAINING,
                    task_id=each.task_id,
                    dimension=start.factors.size,
                    clip_norm=recipe.clip_norm,
                )
            )
            for each in self._written.steps
            if each.run_id == run_id
        ]
        learned = Learned(
            ranker=decode_trained(state, counts.noisy_sum),
            tasks=(TaskRecord.of(counts), *rounds),
        )
        return learned, self._findings(run_id)

    def _table(self, run_id: str, *, rounds: int) -> TrainingState:
        arrays = self._written.arrays
        try:
            factors, velocity = arrays[f"factors.{run_id}"], arrays[f"velocity.{run_id}"]
        except KeyError as error:
            raise CheckpointDamagedError("the checkpoint has no table of its run") from error
        return TrainingState(factors=factors.copy(), velocity=velocity.copy(), rounds=rounds)

    def _findings(self, run_id: str) -> list[tuple[int, Any]]:
        return [(number, said) for number, said in self._written.findings.get(run_id, [])]

    def _judge(self, run_id: str, number: int, state: TrainingState, judge: Judge | None) -> None:
        said = self._written.findings.setdefault(run_id, [])
        if judge is not None and number not in {each[0] for each in said}:
            said.append([number, judge(number, state)])

    def _begin_from(self, found: Sequence[Snapshot]) -> None:
        """Take the newest checkpoint, or the one before where its round was not closed (rule 2)."""
        newest, *earlier = found
        written = Written.read(newest)
        last = written.steps[-1] if written.steps else None
        stored = self._runs.store.load(last.run_id) if last and last.run_id else None
        if last is not None and stored is not None and stored.rounds_done == last.round:
            if not earlier or earlier[0].step != newest.step - 1:
                raise CheckpointDamagedError(
                    f"{self._checkpoints.folder} lacks checkpoint {newest.step - 1}, and the round "
                    "after it was not closed; put it back from a copy"
                )
            newest = earlier[0]
            written = Written.read(newest)
        self._snapshot, self._written = newest, written

    def _rounds_ahead(self, run_id: str) -> int:
        """Count the rounds of a run that come next among what was written down."""
        ahead = self._written.steps[self._passed :]
        return next((at for at, each in enumerate(ahead) if each.run_id != run_id), len(ahead))

    def _pass(self, steps: int) -> None:
        """Pass steps that were done before; behind the last, people are put back (rule 4)."""
        if not steps:
            return
        self._passed += steps
        self._ids = self._written.steps[self._passed - 1].ids
        if self._passed == len(self._written.steps) and self._snapshot is not None:
            put_back(self._crowd, self._snapshot.facts["crowd"], self._snapshot.arrays)

    def recall(self, plan: TaskPlan) -> TaskResult | None:
        """Give the result of a task that was released before, and pass it; None where it was not.

        Raises:
            CheckpointForeignError: something else was asked at this place.
        """
        if self._is_live:
            return None
        step, place = self._written.steps[self._passed], f"sum.{self._passed}"
        asked = (plan.order.task_id, plan.order.kind.value, plan.order.round, None)
        if asked != (step.task_id, step.kind, step.round, step.run_id):
            raise CheckpointForeignError(
                f"the simulation asks for {plan.order.kind.value} where it asked for {step.kind}; "
                "run it as it was begun"
            )
        if place not in self._written.arrays:
            raise CheckpointDamagedError(f"the checkpoint has no sum of step {self._passed}")
        noisy_sum = self._written.arrays[place].copy()
        self._pass(1)
        return TaskResult(
            order=plan.order,
            event=plan.event,
            noisy_sum=noisy_sum,
            invited=step.invited,
            accepted=step.accepted,
            refusals=step.reasons(),
            ignored=step.ignored,
            seconds=step.seconds,
        )

    def note(self, order: Order, done: TaskResult | Collected) -> None:
        """Write down what was just asked; the table of a round without noise is still to come."""
        place = f"sum.{len(self._written.steps)}"
        self._written.steps.append(Step.of(order, done, ids=self._ids))
        self._passed += 1
        if isinstance(done, TaskResult) and order.run is not None:
            return
        if isinstance(done, TaskResult):
            self._written.arrays[place] = done.noisy_sum.copy()
        self._save()

    def require_live(self) -> None:
        """Make sure that everything written down was passed.

        Raises:
            CheckpointForeignError: there is more.
        """
        if not self._is_live:
            raise CheckpointForeignError(
                f"the simulation begins a run where it asked for "
                f"{self._written.steps[self._passed].kind}; run it as it was begun"
            )

    def pass_rounds(self, run: TrainingRun, judge: Judge | None) -> None:
        """Pass the rounds of a run that are over, and judge the last one if nobody did.

        Raises:
            CheckpointDamagedError: the store of runs knows of other rounds.
        """
        run_id, done = run.plan.run_id, run.rounds_done
        known = self._rounds_ahead(run_id)
        if known != done:
            raise CheckpointDamagedError(
                f"the checkpoint knows of {known} rounds of a run, and the store of runs of "
                f"{done}: one of them was put back; take another folder"
            )
        self._pass(done)
        if done:
            self._judge(run_id, done - 1, ItemModel.from_bytes(run.model).state, judge)

    @property
    def _is_live(self) -> bool:
        return self._passed == len(self._written.steps)

    def _save(self) -> None:
        crowd, arrays = written_down(self._crowd)
        self._checkpoints.save(
            Snapshot(
                fingerprint=self._fingerprint,
                step=len(self._written.steps),
                facts={**self._written.facts(), "crowd": crowd},
                arrays={**arrays, **self._written.arrays},
            )
        )


@dataclass(frozen=True, kw_only=True)
class _Remembering:
    """A strategy that asks once; an `aggregator.strategy.TaskStrategy`."""

    simulation: ResumableSimulation
    inner: TaskStrategy

    def start(
        self, grid: Grid, plan: TaskPlan, *, node_ids: Sequence[int] | None = None
    ) -> TaskResult:
        """Give what was released before, or ask."""
        result = self.simulation.recall(plan)
        if result is None:
            result = self.inner.start(grid, plan, node_ids=node_ids)
            self.simulation.note(plan.order, result)
        return result

    def collect(
        self,
        grid: Grid,
        plan: CollectionPlan,
        *,
        node_ids: Sequence[int] | None = None,
        may_take_part: MayTakePart | None = None,
    ) -> Collected:
        """Ask for a round, and write it down before anybody can close it."""
        self.simulation.require_live()
        collected = self.inner.collect(grid, plan, node_ids=node_ids, may_take_part=may_take_part)
        self.simulation.note(plan.order, collected)
        return collected


@dataclass(frozen=True, kw_only=True)
class _ContinuedRuns(TrainingRuns):
    """Begins a run once; after that, beginning it is resuming it."""

    simulation: ResumableSimulation
    judge: Judge | None

    def begin(self, plan: RunPlan, *, model: bytes, key: bytes) -> TrainingRun:
        """Begin a run, or take it up; see `TrainingRuns.begin` and `TrainingRuns.resume`."""
        stored = self.store.load(plan.run_id)
        if stored is None:
            self.simulation.require_live()
            # A key without its run is what a kill between the first two steps leaves behind.
            self.keys.destroy(plan.run_id)
            return super().begin(plan, model=model, key=key)
        begun = RunPlan.from_json(stored.plan)
        if replace(begun, started_at_s=plan.started_at_s) != plan:
            raise CheckpointForeignError("the run was begun by another plan; take another folder")
        run = self.resume(plan.run_id)
        self.simulation.pass_rounds(run, self.judge)
        return run
