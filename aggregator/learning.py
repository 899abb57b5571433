"""From willing devices to something learned: which tasks are asked, and in what order.

`learn_item_statistics` asks two tasks: item counts choose the top items and are the popularity,
item statistics give the factors in closed form. `learn_item_training` asks for item counts, then
one task a round; each round's table travels in the signed order.

What comes back is a `DecodedRanker`: post-processing of noisy sums, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aggregator.campaign import CLIP_NORM, Campaign, TaskRecord
from client_sdk.wire import TaskKind, packed_length
from models.decoded import DecodedRanker
from models.item_statistics import (
    StatisticsSettings,
    decode_item_statistics,
    select_top_items,
)
from models.item_training import (
    ServerOptimizer,
    TrainingState,
    apply_sum,
    decode_trained,
    gathered_noise_std,
)
from privacy.events import ReleaseEvent

COUNTS_SHARE: Final = 0.1
"""Share of ρ that pays for the item counts; chosen by ``python -m simulations.tune``."""

TRAINING_RIDGE: Final = 1.0
"""Penalty of the private vector's solve in the trained form; chosen by
``python -m simulations.tune_training``."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a campaign gave, and what it rests on.

    Attributes:
        ranker: The arrays of the next release.
        tasks: The releases that it was decoded from, in order; their sums were dropped.
        top_items: int32[K], the items that the statistics covered; None for item training.
    """

    ranker: DecodedRanker
    tasks: tuple[TaskRecord, ...]
    top_items: NDArray[np.int32] | None = None

    @property
    def events(self) -> list[ReleaseEvent]:
        """The releases, for an accountant."""
        return [task.event for task in self.tasks]


def learn_item_statistics(
    campaign: Campaign,
    *,
    top_items: int,
    counts_share: float = COUNTS_SHARE,
    settings: StatisticsSettings | None = None,
    cohort: Sequence[int] | None = None,
) -> Learned:
    """Ask for item counts, choose the top items, ask for their statistics, decode.

    Args:
        campaign: Whom to ask, and at what price.
        top_items: K, how many items the statistics cover; at least 1, at most the catalogue.
        counts_share: Share of ρ for the counts, in (0, 1).
        settings: How to decode.
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
    )
    tasks = (TaskRecord.of(counts), TaskRecord.of(statistics))
    return Learned(ranker=ranker, tasks=tasks, top_items=top)


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """What every device does in every round of item training, and how the server steps.

    The defaults were chosen on validation by ``python -m simulations.tune_training``.

    Attributes:
        rounds: One release each; at least 1.
        steps: Gradient steps on the device a round.
        device_learning_rate: Of those steps.
        negatives: Items drawn for each item of the history.
        ridge: Penalty of the private vector's solve.
        clip_norm: L2 bound of one device's change of the table.
        optimizer: The server's step.
        seed: Of the negatives; each round adds its number.
    """

    rounds: int
    steps: int = 1
    device_learning_rate: float = 0.3
    negatives: int = 4
    ridge: float = TRAINING_RIDGE
    clip_norm: float = CLIP_NORM
    optimizer: ServerOptimizer = field(default_factory=ServerOptimizer)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1; got {self.rounds}")


def learn_item_training(
    campaign: Campaign,
    *,
    start: TrainingState,
    recipe: TrainingRecipe,
    cohort_of: Callable[[int], Sequence[int]] | None = None,
    counts_share: float = COUNTS_SHARE,
    on_round: Callable[[int, TrainingState], None] | None = None,
) -> Learned:
    """Ask for item counts, then train the table round by round.

    A person may be in every round, so every round is paid for in full: nothing is claimed for
    being sampled, because devices come when they can.

    Args:
        campaign: Whom to ask, and at what price.
        start: The first table; public.
        recipe: What is done in each round.
        cohort_of: Round number to the node ids to invite; by default everyone.
        counts_share: Share of ρ for the counts; the rounds share the rest evenly.
        on_round: Called after each round.

    Raises:
        BudgetExhaustedError: the ledger refused a release; earlier rounds stay booked.
        QuorumNotReachedError: too few contributions to a round; earlier rounds stay booked.
    """
    n_items, rank = start.factors.shape
    if n_items != campaign.n_items:
        raise ValueError(f"the table has {n_items} items, the catalogue {campaign.n_items}")
    each = (1.0 - counts_share) / recipe.rounds
    for_counts, *for_rounds = campaign.noise_multipliers([counts_share, *[each] * recipe.rounds])
    counts = campaign.ask(TaskKind.ITEM_COUNTS, dimension=n_items, noise_multiplier=for_counts)
    tasks = [TaskRecord.of(counts)]
    state = start
    for number, noise_multiplier in enumerate(for_rounds):
        result = campaign.ask(
            TaskKind.ITEM_TRAINING,
            dimension=n_items * rank,
            noise_multiplier=noise_multiplier,
            parameters={
                "rank": rank,
                "learning_rate": recipe.device_learning_rate,
                "steps": recipe.steps,
                "negatives": recipe.negatives,
                "ridge": recipe.ridge,
                "seed": recipe.seed + number,
            },
            payload=np.ascontiguousarray(state.factors, dtype="<f4").tobytes(),
            round_number=number + 1,
            clip_norm=recipe.clip_norm,
            cohort=None if cohort_of is None else cohort_of(number),
        )
        mean = (result.noisy_sum / result.report_goal).reshape(n_items, rank)
        state = apply_sum(state, mean.astype(np.float32), recipe.optimizer)
        tasks.append(TaskRecord.of(result))
        if on_round is not None:
            on_round(number, state)
    noise_std = tasks[-1].event.noise_std / campaign.report_goal
    ranker = decode_trained(
        state,
        counts.noisy_sum,
        table_noise_std=gathered_noise_std(
            noise_std=noise_std, rounds=recipe.rounds, optimizer=recipe.optimizer
        ),
    )
    return Learned(ranker=ranker, tasks=tuple(tasks))
