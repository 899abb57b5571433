"""Item training as one run: which rounds are asked, what a round makes of the model, and resuming.

All rounds are one release (`aggregator.training_run`), by default with the noise of BLT-DP-FTRL.
What is asked in each round, how the server steps and how often a person may take part is the
`TrainingRecipe`. The model that the run stores after each round holds the table, the server's
velocity and the noisy counts that the run started from, so that a restart needs nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aggregator.campaign import CLIP_NORM, Campaign, TaskRecord
from aggregator.errors import RunStateError
from aggregator.training_run import TrainingRun
from client_sdk.wire import RunTerms, TaskKind, canonical_json
from models.decoded import DecodedRanker
from models.item_training import (
    ServerOptimizer,
    TrainingState,
    apply_sum,
    decode_trained,
    gathered_noise_std,
)
from privacy.clipping import Adaptation, ClippingPolicy
from privacy.events import ReleaseEvent
from privacy.factorisation import Factorisation, FactorisationName
from privacy.optimise import factorisation_for

TRAINING_RIDGE: Final = 1.0
"""Penalty of the private vector's solve in the trained form; chosen by
``python -m simulations.tune_training``."""

_NEWLINE: Final = b"\n"
_TREES: Final = (FactorisationName.TREE, FactorisationName.TREE_HONAKER)

OnRound = Callable[[int, TrainingState], None]
CohortOf = Callable[[int], Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """What every device does in every round of item training, and how the server steps.

    The defaults were chosen on validation by ``python -m simulations.tune_training``.

    Attributes:
        rounds: At least 1.
        steps: Gradient steps on the device a round.
        device_learning_rate: Of those steps.
        negatives: Items drawn for each item of the history.
        ridge: Penalty of the private vector's solve.
        clip_norm: L2 bound of one device's change of the table; of the first round, if it adapts.
        adaptation: How the clip moves; None keeps it.
        optimizer: The server's step.
        seed: Of the negatives; each round adds its number.
        mechanism: How the rounds' noise hangs together.
        min_separation: Fewest rounds between two rounds of one person, as a difference of their
            numbers; 1 lets everybody be in every round, which costs the most.
        max_participations: Most rounds of one person; by default as many as fit.
    """

    rounds: int
    steps: int = 1
    device_learning_rate: float = 0.3
    negatives: int = 4
    ridge: float = TRAINING_RIDGE
    clip_norm: float = CLIP_NORM
    adaptation: Adaptation | None = None
    optimizer: ServerOptimizer = field(default_factory=ServerOptimizer)
    seed: int = 0
    mechanism: FactorisationName = FactorisationName.BLT
    min_separation: int = 1
    max_participations: int | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1; got {self.rounds}")
        if self.min_separation < 1:
            raise ValueError(f"min_separation must be at least 1; got {self.min_separation}")
        most = self.max_participations
        if most is not None and most < 1:
            raise ValueError(f"max_participations must be at least 1; got {most}")

    @property
    def participations(self) -> int:
        """Most rounds of one person."""
        fitting = -(-self.rounds // self.min_separation)
        return min(fitting, self.max_participations or fitting)

    @property
    def clipping(self) -> ClippingPolicy:
        """How updates are clipped."""
        if self.adaptation is None:
            return ClippingPolicy(clip_norm=self.clip_norm)
        return ClippingPolicy.adaptive(clip_norm=self.clip_norm, adaptation=self.adaptation)

    def terms(self, *, run_id: str, started_at_s: int) -> RunTerms:
        """Give what every order says of a run that has no noise, and so no plan."""
        return RunTerms(
            run_id=run_id,
            started_at_s=started_at_s,
            rounds=self.rounds,
            min_separation=self.min_separation,
            max_participations=self.participations,
        )

    def factorisation(self) -> Factorisation:
        """Find the best strategy of the mechanism for these rounds; seconds at first."""
        return factorisation_for(
            self.mechanism,
            rounds=self.rounds,
            min_separation=self.min_separation,
            max_participations=self.participations,
        )

    def parameters(self, number: int, *, rank: int) -> dict[str, Any]:
        """Give the parameters of a round's order."""
        return {
            "rank": rank,
            "learning_rate": self.device_learning_rate,
            "steps": self.steps,
            "negatives": self.negatives,
            "ridge": self.ridge,
            "seed": self.seed + number,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemModel:
    """What a run stores after each round; all of it is post-processing of what was released.

    Attributes:
        state: The table and the server's velocity.
        noisy_counts: float64[n], the release of item counts that the run started from.
        counts_event: That release.
    """

    state: TrainingState
    noisy_counts: NDArray[np.float64]
    counts_event: ReleaseEvent

    def to_bytes(self) -> bytes:
        """Encode: one line of canonical JSON, then the arrays, little-endian."""
        n_items, rank = self.state.factors.shape
        header = {
            "n_items": n_items,
            "rank": rank,
            "rounds": self.state.rounds,
            "counts_event": json.loads(self.counts_event.to_json()),
        }
        arrays = (
            self.state.factors.astype("<f4").tobytes(),
            self.state.velocity.astype("<f4").tobytes(),
            self.noisy_counts.astype("<f8").tobytes(),
        )
        return canonical_json(header) + _NEWLINE + b"".join(arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> ItemModel:
        """Read what `to_bytes` wrote.

        Raises:
            RunStateError: anything else.
        """
        first, _, body = data.partition(_NEWLINE)
        try:
            header = json.loads(first)
            n_items, rank = header["n_items"], header["rank"]
            table = 4 * n_items * rank
            if len(body) != 2 * table + 8 * n_items:
                raise RunStateError("the stored model has another length than it says")
            factors, velocity = (
                np.frombuffer(body, "<f4", n_items * rank, offset)
                .reshape(n_items, rank)
                .astype(np.float32)
                for offset in (0, table)
            )
            return cls(
                state=TrainingState(
                    factors=factors, velocity=velocity, rounds=int(header["rounds"])
                ),
                noisy_counts=np.frombuffer(body, "<f8", n_items, 2 * table).astype(np.float64),
                counts_event=ReleaseEvent.from_json(json.dumps(header["counts_event"])),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RunStateError("the stored model of the run does not read") from error


def train_rounds(
    campaign: Campaign,
    run: TrainingRun,
    recipe: TrainingRecipe,
    *,
    cohort_of: CohortOf | None,
    on_round: OnRound | None,
) -> list[TaskRecord]:
    """Take a run from where it stands to its end, and account for who was in it.

    Args:
        campaign: Whom to ask.
        run: Begun or resumed; finished when this returns.
        recipe: The same that the run was begun with.
        cohort_of: Round number to node ids.
        on_round: Called after each round.

    Raises:
        QuorumNotReachedError: too few contributions to a round. Where no round was done before,
            the reservation is voided; else the run waits to be resumed.
        BudgetExhaustedError: what really happened costs more than is left; the run is stopped.
    """
    records: list[TaskRecord] = []
    try:
        while not run.is_complete:
            records.append(_train_round(campaign, run, recipe, cohort_of))
            if on_round is not None:
                on_round(run.rounds_done - 1, ItemModel.from_bytes(run.model).state)
    except BaseException as error:
        if run.rounds_done == 0 and run.is_running:
            run.stop(type(error).__name__)
        raise
    run.finish()
    return records


def _train_round(
    campaign: Campaign, run: TrainingRun, recipe: TrainingRecipe, cohort_of: CohortOf | None
) -> TaskRecord:
    model, number = ItemModel.from_bytes(run.model), run.rounds_done
    n_items, rank = model.state.factors.shape
    collected = campaign.collect_round(
        run,
        parameters=recipe.parameters(number, rank=rank),
        payload=np.ascontiguousarray(model.state.factors, dtype="<f4").tobytes(),
        cohort=None if cohort_of is None else cohort_of(number),
    )

    def step(noisy_sum: NDArray[np.float64]) -> bytes:
        mean = (noisy_sum / run.plan.event.report_goal).reshape(n_items, rank)
        state = apply_sum(model.state, mean.astype(np.float32), recipe.optimizer)
        return ItemModel(
            state=state, noisy_counts=model.noisy_counts, counts_event=model.counts_event
        ).to_bytes()

    run.close_round(collected, step)
    return TaskRecord.of_round(run.plan.event, collected)


def train_rounds_without_privacy(
    campaign: Campaign,
    start: TrainingState,
    recipe: TrainingRecipe,
    *,
    cohort_of: CohortOf | None,
    on_round: OnRound | None,
    terms: RunTerms | None = None,
    first_round: int = 0,
) -> tuple[TrainingState, list[TaskRecord]]:
    """Train on exact sums, under the same rules of participation: the ceiling of a simulation.

    Args:
        campaign: Whom to ask.
        start: The table before the first round that is asked.
        recipe: What is done in each round.
        cohort_of: Round number to node ids.
        on_round: Called after each round.
        terms: Of a run that was begun before; by default it begins now.
        first_round: Number of the first round that is asked.

    Raises:
        QuorumNotReachedError: too few contributions to a round.
    """
    n_items, rank = start.factors.shape
    if terms is None:
        terms = recipe.terms(run_id=campaign.new_task_id(), started_at_s=int(campaign.clock()))
    state, records = start, []
    for number in range(first_round, recipe.rounds):
        result = campaign.ask(
            TaskKind.ITEM_TRAINING,
            dimension=n_items * rank,
            noise_multiplier=0.0,
            parameters=recipe.parameters(number, rank=rank),
            payload=np.ascontiguousarray(state.factors, dtype="<f4").tobytes(),
            round_number=number,
            clip_norm=recipe.clip_norm,
            cohort=None if cohort_of is None else cohort_of(number),
            run=terms,
        )
        mean = (result.noisy_sum / result.report_goal).reshape(n_items, rank)
        state = apply_sum(state, mean.astype(np.float32), recipe.optimizer)
        records.append(TaskRecord.of(result))
        if on_round is not None:
            on_round(number, state)
    return state, records


def decode_run(run: TrainingRun, optimizer: ServerOptimizer) -> DecodedRanker:
    """Decode the model of a run, its gathered noise removed as far as it can be told apart."""
    model = ItemModel.from_bytes(run.model)
    return decode_trained(
        model.state, model.noisy_counts, table_noise_std=_table_noise_std(run, optimizer)
    )


def _table_noise_std(run: TrainingRun, optimizer: ServerOptimizer) -> float:
    """Give the noise in each entry of the table; with an adaptive clip, that of the last clip."""
    event, plan = run.plan.event, run.plan.factorisation
    in_clips = event.noise_std / event.clip_norm * run.plan.clipping.update_noise_factor
    white = in_clips * run.clip.clip_norm / event.report_goal
    if plan.name in _TREES:
        # A tree has no one column. With momentum every noise is added 1/(1-m) times in the end.
        last = float(np.sqrt(plan.prefix_errors()[run.rounds_done - 1]))
        return white * last * optimizer.learning_rate / (1.0 - optimizer.momentum)
    return gathered_noise_std(
        noise_std=white,
        rounds=run.rounds_done,
        optimizer=optimizer,
        noise_column=plan.inverse_column(),
    )
