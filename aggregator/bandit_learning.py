"""From willing devices to the priors of bandits: one task each, one campaign's price together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aggregator.campaign import CLIP_NORM, Campaign, TaskRecord
from client_sdk.wire import TaskKind
from client_sdk.wire.bandit import ArmEvidence, arms_payload, contribution_length
from models.bandit_priors import MAX_WEIGHT, decode_bandit_priors
from privacy.events import ReleaseEvent


@dataclass(frozen=True, kw_only=True)
class BanditTask:
    """What is asked of one bandit.

    Attributes:
        name: The bandit's, on the devices.
        arms: Whose answers are asked for; public.
        n_features: Numbers that describe a moment, on the devices.
        clip_norm: L2 bound of one device's vector.
        max_weight: How many answers an arm's prior may count as.
    """

    name: str
    arms: Sequence[str]
    n_features: int
    clip_norm: float = CLIP_NORM
    max_weight: float = MAX_WEIGHT


@dataclass(frozen=True, kw_only=True)
class LearnedBandits:
    """What a campaign gave, and what it rests on.

    Attributes:
        priors: By the bandit's name, from where its arms start.
        tasks: The releases that they were decoded from, in order; their sums were dropped.
    """

    priors: Mapping[str, ArmEvidence]
    tasks: tuple[TaskRecord, ...]

    @property
    def events(self) -> list[ReleaseEvent]:
        """The releases, for an accountant."""
        return [task.event for task in self.tasks]


def learn_bandit_priors(
    campaign: Campaign,
    tasks: Sequence[BanditTask],
    *,
    cohort: Sequence[int] | None = None,
) -> LearnedBandits:
    """Ask what devices saw of each bandit's arms, and decode the noisy sums.

    Args:
        campaign: Whom to ask, and at what price; the bandits share it evenly.
        tasks: One for each bandit, at least one.
        cohort: Node ids to invite; by default everyone.

    Raises:
        ValueError: no bandit, or one twice; nobody was asked.
        BudgetExhaustedError: the ledger refused a release; earlier ones stay booked.
        QuorumNotReachedError: too few contributions to one of them.
    """
    names = [task.name for task in tasks]
    if not names or len(set(names)) != len(names):
        raise ValueError("tasks: expected at least one bandit, each once; got none or one twice")
    shares = [1.0 / len(tasks)] * len(tasks)
    priors: dict[str, ArmEvidence] = {}
    records = []
    for number, (task, noise) in enumerate(
        zip(tasks, campaign.noise_multipliers(shares), strict=True)
    ):
        result = campaign.ask(
            TaskKind.BANDIT_STATISTICS,
            dimension=contribution_length(n_arms=len(task.arms), n_features=task.n_features),
            noise_multiplier=noise,
            parameters={
                "bandit": task.name,
                "arms": len(task.arms),
                "features": task.n_features,
            },
            payload=arms_payload(task.arms),
            round_number=number,
            clip_norm=task.clip_norm,
            cohort=cohort,
        )
        priors[task.name] = decode_bandit_priors(
            result.noisy_sum,
            arms=task.arms,
            n_features=task.n_features,
            noise_std=result.event.noise_std,
            max_weight=task.max_weight,
        )
        records.append(TaskRecord.of(result))
    return LearnedBandits(priors=priors, tasks=tuple(records))
