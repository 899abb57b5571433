"""From willing devices to something learned: which tasks are asked, and in what order.

`learn_item_statistics` asks two tasks: item counts choose the top items and are the popularity,
item statistics give the factors in closed form. `learn_item_training` asks for item counts, then
for the rounds of one training run; each round's table travels in the signed order.

What comes back is a `DecodedRanker`: post-processing of noisy sums, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aggregator.campaign import Campaign, TaskRecord, UnsafeNoPrivacy
from aggregator.item_training import (
    TRAINING_RIDGE,
    CohortOf,
    ItemModel,
    OnRound,
    TrainingRecipe,
    decode_run,
    train_rounds,
    train_rounds_without_privacy,
)
from aggregator.training_run import TrainingRun
from client_sdk.wire import TaskKind, packed_length
from models.decoded import DecodedRanker
from models.item_prior import ItemPrior
from models.item_statistics import (
    StatisticsSettings,
    decode_item_statistics,
    select_top_items,
)
from models.item_training import TrainingState, decode_trained
from privacy.events import ReleaseEvent

__all__ = [
    "COUNTS_SHARE",
    "TRAINING_RIDGE",
    "Learned",
    "TrainingRecipe",
    "learn_item_statistics",
    "learn_item_training",
    "resume_item_training",
]

COUNTS_SHARE: Final = 0.1
"""Share of ρ that pays for the item counts; chosen by ``python -m simulations.tune``."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a campaign gave, and what it rests on.

    Attributes:
        ranker: The arrays of the next release.
        tasks: The tasks that it was decoded from, in order; their sums were dropped. The rounds of
            a training run share one release.
        top_items: int32[K], the items that the statistics covered; None for item training.
        run_events: The training run's release, and what was booked for it beyond that.
    """

    ranker: DecodedRanker
    tasks: tuple[TaskRecord, ...]
    top_items: NDArray[np.int32] | None = None
    run_events: tuple[ReleaseEvent, ...] = ()

    @property
    def events(self) -> list[ReleaseEvent]:
        """The releases, each once, for an accountant."""
        return list(dict.fromkeys([*(task.event for task in self.tasks), *self.run_events]))


def learn_item_statistics(
    campaign: Campaign,
    *,
    top_items: int,
    counts_share: float = COUNTS_SHARE,
    settings: StatisticsSettings | None = None,
    prior: ItemPrior | None = None,
    cohort: Sequence[int] | None = None,
) -> Learned:
    """Ask for item counts, choose the top items, ask for their statistics, decode.

    Args:
        campaign: Whom to ask, and at what price.
        top_items: K, how many items the statistics cover; at least 1, at most the catalogue.
        counts_share: Share of ρ for the counts, in (0, 1).
        settings: How to decode.
        prior: What the catalogue's public attributes say; choose K with it in mind
            (`models.item_statistics.suggest_top_items`).
        cohort: Node ids to invite to both tasks; by default everyone.

    Raises:
        BudgetExhaustedError: the ledger refused one of the two releases.
        QuorumNotReachedError: too few contributions to one of them.
    """
    if not 1 <= top_items <= campaign.n_items:
        raise ValueError(f"top_items must be from 1 to {campaign.n_items}; got {top_items}")
    for_counts, for_statistics = campaign.noise_multipliers([counts_share, 1.0 - counts_share])
    counts = campaign.ask(
        TaskKind.ITEM_COUNTS,
        dimension=campaign.n_items,
        noise_multiplier=for_counts,
        cohort=cohort,
    )
    top = select_top_items(counts.noisy_sum, top_items)
    statistics = campaign.ask(
        TaskKind.ITEM_STATISTICS,
        dimension=packed_length(len(top)),
        noise_multiplier=for_statistics,
        parameters={"top_items": len(top)},
        payload=top.astype("<i4").tobytes(),
        round_number=1,
        cohort=cohort,
    )
    ranker = decode_item_statistics(
        statistics.noisy_sum,
        top_items=top,
        n_items=campaign.n_items,
        noise_std=statistics.event.noise_std,
        noisy_counts=counts.noisy_sum,
        settings=settings,
        prior=prior,
    )
    tasks = (TaskRecord.of(counts), TaskRecord.of(statistics))
    return Learned(ranker=ranker, tasks=tasks, top_items=top)


def learn_item_training(
    campaign: Campaign,
    *,
    start: TrainingState,
    recipe: TrainingRecipe,
    cohort_of: CohortOf | None = None,
    counts_share: float = COUNTS_SHARE,
    on_round: OnRound | None = None,
) -> Learned:
    """Ask for item counts, then train the table round by round.

    The rounds are one release, reserved as a whole before the first of them. Nothing is claimed
    for being sampled, because devices come when they can; what is claimed is that nobody is in two
    rounds closer than the recipe's ``min_separation``, nor in more than its
    ``max_participations``, which devices and aggregator both see to.

    Args:
        campaign: Whom to ask, and at what price.
        start: The first table; public.
        recipe: What is done in each round.
        cohort_of: Round number to the node ids to invite; by default everyone.
        counts_share: Share of ρ for the counts; the run has the rest.
        on_round: Called after each round.

    Raises:
        BudgetExhaustedError: the ledger refused the counts or the run.
        QuorumNotReachedError: too few contributions to a round. Where no round was done, the run
            is voided; else it waits for `resume_item_training`.
        ValueError: a table of another catalogue; or noise without `Campaign.runs`.
    """
    n_items, rank = start.factors.shape
    if n_items != campaign.n_items:
        raise ValueError(f"the table has {n_items} items, the catalogue {campaign.n_items}")
    for_counts, for_rounds = campaign.noise_multipliers([counts_share, 1.0 - counts_share])
    counts = campaign.ask(TaskKind.ITEM_COUNTS, dimension=n_items, noise_multiplier=for_counts)
    counted = TaskRecord.of(counts)
    if isinstance(campaign.privacy, UnsafeNoPrivacy):
        state, records = train_rounds_without_privacy(
            campaign, start, recipe, cohort_of=cohort_of, on_round=on_round
        )
        ranker = decode_trained(state, counts.noisy_sum)
        return Learned(ranker=ranker, tasks=(counted, *records))
    first = ItemModel(state=start, noisy_counts=counts.noisy_sum, counts_event=counts.event)
    run = campaign.begin_run(
        TaskKind.ITEM_TRAINING,
        dimension=n_items * rank,
        noise_multiplier=for_rounds,
        factorisation=recipe.factorisation(),
        clipping=recipe.clipping,
        model=first.to_bytes(),
    )
    records = train_rounds(campaign, run, recipe, cohort_of=cohort_of, on_round=on_round)
    return _learned(run, recipe, [counted, *records])


def resume_item_training(
    campaign: Campaign,
    run_id: str,
    *,
    recipe: TrainingRecipe,
    cohort_of: CohortOf | None = None,
    on_round: OnRound | None = None,
) -> Learned:
    """Take a training run up where a crash or a missing quorum left it, and finish it.

    Args:
        campaign: Whom to ask; its ``runs`` have the run.
        run_id: One of ``campaign.runs.store.running()``.
        recipe: The same that the run was begun with.
        cohort_of: Round number to the node ids to invite; by default everyone.
        on_round: Called after each round that is still to come.

    Returns:
        What was learned; ``tasks`` tells of the rounds since the restart alone, and the release of
        the counts is among its ``events``.

    Raises:
        RunStateError: the run is over, or contradicts the ledger.
        RunKeyError: its key is lost.
        QuorumNotReachedError, BudgetExhaustedError: as `learn_item_training`.
    """
    if campaign.runs is None:
        raise ValueError("a campaign without runs has none to resume")
    run = campaign.runs.resume(run_id)
    counted = TaskRecord(
        event=ItemModel.from_bytes(run.model).counts_event,
        invited=0,
        accepted=0,
        refusals={},
        seconds=0.0,
    )
    records = train_rounds(campaign, run, recipe, cohort_of=cohort_of, on_round=on_round)
    return _learned(run, recipe, [counted, *records])


def _learned(run: TrainingRun, recipe: TrainingRecipe, tasks: list[TaskRecord]) -> Learned:
    return Learned(
        ranker=decode_run(run, recipe.optimizer),
        tasks=tuple(tasks),
        run_events=(run.plan.event, *run.supplements),
    )
