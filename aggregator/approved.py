"""What an aggregator may do under a signed policy: exactly the release that was signed, and once.

Guarantee: an `ApprovedCampaign` asks for nothing but its policy's task, with the policy's noise,
clip, report goal, participation and window, in the policy's population; and only through a ledger
whose budget for that population is no larger than what was signed. So what the ledger books is what
somebody approved, and a second run under the same policy is refused by the ledger: the budget is
spent. An expired policy begins nothing; what was begun before goes on, because it was paid for.

Neighbouring relation: that of the policy, `privacy.events.ADJACENCY`.

Edge cases:

| case | outcome |
|---|---|
| a policy that isn't verified | there is no `VerifiedPolicy` of it, hence no campaign |
| a policy that expired since it was verified | `PolicyUntrustedError`; nobody is asked |
| a ledger with a larger ε or δ than signed | `ValueError` |
| a ledger without a budget for the population | `BudgetMissingError` |
| a campaign whose strategy or runs book elsewhere | `ValueError` |
| a campaign without noise, or of a simulated crowd | `ValueError` |
| Poisson sampling, local or discrete noise | `ValueError`: a campaign has no such release |
| `begin_run` with a policy of one round, `ask` with one of many | `ValueError` |
| two policies of one population | `ValueError`: they share one budget; plan them together |

Test: tests/aggregator/test_approved.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aggregator.campaign import Campaign, PrivacyTarget
from aggregator.ledger import Ledger
from aggregator.strategy import BoundedSumStrategy, TaskResult
from aggregator.training_run import TrainingRun
from privacy.budget import Budget
from privacy.events import FACTORISED, MechanismName
from privacy.policy import Policy
from privacy.signed_policy import VerifiedPolicy


def budgets_of(policies: Sequence[VerifiedPolicy]) -> dict[str, Budget]:
    """Give what a ledger needs of the policies: each population's budget.

    Raises:
        ValueError: two policies are of one population.
    """
    budgets: dict[str, Budget] = {}
    for each in policies:
        if each.policy.population in budgets:
            raise ValueError(
                f"two policies are for population {each.policy.population!r}; its releases share "
                "one budget, so plan them together"
            )
        budgets[each.policy.population] = each.budget
    return budgets


@dataclass(frozen=True, kw_only=True)
class ApprovedCampaign:
    """A campaign that can only do what its policy says.

    Attributes:
        policy: What was signed.
        campaign: The campaign with the policy's terms; from `under`.
    """

    policy: VerifiedPolicy
    campaign: Campaign

    @classmethod
    def under(
        cls, policy: VerifiedPolicy, *, campaign: Campaign, ledger: Ledger
    ) -> ApprovedCampaign:
        """Put the policy's terms in place of the campaign's own.

        Args:
            policy: What was signed.
            campaign: Whom to ask, and how. Its noise source, quorum and catalogue are kept; its
                population, report goal, price and window are the policy's from now on.
            ledger: Where the campaign books; made with `budgets_of`.

        Raises:
            ValueError: see the module's table.
            BudgetMissingError: the ledger has no budget for the population.
            PolicyUntrustedError: the policy is expired by now.
        """
        terms = policy.policy
        policy.require_valid(campaign.clock())
        _require_campaign_can(terms)
        if not isinstance(campaign.privacy, PrivacyTarget):
            raise ValueError("a campaign without noise has no policy")  # noqa: TRY004
        if not isinstance(campaign.strategy, BoundedSumStrategy):
            raise ValueError("only real devices are asked under a policy")  # noqa: TRY004
        books: list[object] = [campaign.strategy.ledger]
        if campaign.runs is not None:
            books.append(campaign.runs.ledger)
        if any(each is not ledger for each in books):
            raise ValueError("the campaign books in another ledger than the one that was named")
        allowed, signed = ledger.budget_of(terms.population), policy.budget
        if allowed.epsilon > signed.epsilon or allowed.delta > signed.delta:
            raise ValueError(f"the ledger allows {allowed}, but what was signed is {signed}")
        target = replace(
            campaign.privacy, epsilon=terms.epsilon, delta=terms.delta, window=terms.window
        )
        own = replace(
            campaign,
            population=terms.population,
            report_goal=terms.report_goal,
            privacy=target,
        )
        return cls(policy=policy, campaign=own)

    def ask(
        self,
        *,
        dimension: int,
        parameters: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        cohort: Sequence[int] | None = None,
    ) -> TaskResult:
        """Make the one release of a policy of one round.

        Args:
            dimension: Length of the vector.
            parameters: What the encoder needs.
            payload: Arrays that the encoder needs.
            cohort: Node ids to invite; by default everyone.

        Raises:
            ValueError: the policy is of many rounds.
            PolicyUntrustedError: it is expired; nobody was asked.
            BudgetExhaustedError: it was spent already; nobody was asked.
            QuorumNotReachedError: nothing was released.
        """
        terms = self._terms_for(one_round=True)
        return self.campaign.ask(
            terms.task,
            dimension=dimension,
            noise_multiplier=terms.noise_multiplier,
            parameters=parameters,
            payload=payload,
            clip_norm=terms.clip_norm,
            cohort=cohort,
        )

    def begin_run(self, *, dimension: int, model: bytes) -> TrainingRun:
        """Reserve the whole run of a policy of many rounds; `campaign.collect_round` goes on.

        Args:
            dimension: Length of the vector.
            model: The first model, encoded; public.

        Raises:
            ValueError: the policy is of one round, or the campaign has no `Campaign.runs`.
            PolicyUntrustedError: it is expired; nobody was asked.
            BudgetExhaustedError: it was spent already; nobody was asked.
        """
        terms = self._terms_for(one_round=False)
        if terms.factorisation is None:
            raise ValueError("a run's policy has a factorisation")
        return self.campaign.begin_run(
            terms.task,
            dimension=dimension,
            noise_multiplier=terms.noise_multiplier,
            factorisation=terms.factorisation,
            clipping=self.policy.clipping,
            model=model,
        )

    def _terms_for(self, *, one_round: bool) -> Policy:
        terms = self.policy.policy
        if (terms.factorisation is None) is not one_round:
            rounds = "one round" if terms.factorisation is None else f"a run of {terms.rounds:,}"
            raise ValueError(f"the policy is of {rounds}: {'begin_run' if one_round else 'ask'}")
        self.policy.require_valid(self.campaign.clock())
        return terms


def _require_campaign_can(policy: Policy) -> None:
    if policy.sampling_probability is not None:
        raise ValueError(
            "the policy assumes Poisson sampling, which devices that check in when they can do not "
            "keep; sign a plan without it"
        )
    if policy.mechanism not in {MechanismName.GAUSSIAN, *FACTORISED}:
        raise ValueError(f"a campaign can't release by {policy.mechanism.value}")
