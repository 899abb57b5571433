"""A signed policy from the planner to the ledger, and every way around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.approved import ApprovedCampaign, budgets_of
from aggregator.campaign import UnsafeNoPrivacy
from aggregator.ledger import Ledger
from aggregator.strategy import Collected, TaskResult
from aggregator.training_run import TrainingRun
from client_sdk.keys import DeviceKey
from client_sdk.wire import TaskKind
from privacy.budget import Budget
from privacy.chain import RowKind
from privacy.cli import main as plan_command
from privacy.errors import BudgetExhaustedError, BudgetMissingError, PolicyUntrustedError
from privacy.events import MechanismName
from privacy.gaussian import noise_multiplier_for
from privacy.policy import Policy
from privacy.policy_commands import main as sign_command
from privacy.signed_policy import VerifiedPolicy, load_policy, sign_policy, verify_policy
from tests.aggregator.training_town import BLT, DIMENSION, NOW_S, PEOPLE, ROUNDS, TrainingTown
from tests.privacy.test_policy_commands import write_key

OFFICER = DeviceKey(bytes([9]) * 32)
RUN = Policy(
    population="town",
    people=PEOPLE,
    report_goal=PEOPLE // 2,
    rounds=ROUNDS,
    task=TaskKind.ITEM_COUNTS,
    epsilon=2.0,
    delta=1e-6,
    mechanism=MechanismName.BLT,
    noise_multiplier=noise_multiplier_for(epsilon=2.0, delta=1e-6),
    factorisation=BLT,
    window="2027-Q1",
    clip_norm=0.5,
)
ONE = replace(RUN, rounds=1, mechanism=MechanismName.GAUSSIAN, factorisation=None)


def approved(policy: Policy, *, valid_days: int = 30) -> VerifiedPolicy:
    """Sign and verify."""
    signed = sign_policy(
        policy, signer=OFFICER, by="A. Officer", now_s=NOW_S, valid_days=valid_days
    )
    return verify_policy(signed, trusted_keys=[OFFICER.public_key_hex], now_s=NOW_S)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[TrainingTown]:
    """A town whose ledger has the budget of the policy."""
    opened = TrainingTown(
        f"sqlite:///{tmp_path / 'house.db'}",
        tmp_path / "keys",
        budget=budgets_of([approved(RUN)])["town"],
    )
    yield opened
    opened.close()


def under(town: TrainingTown, policy: Policy, **changes: object) -> ApprovedCampaign:
    """The town's campaign under a policy."""
    return ApprovedCampaign.under(
        approved(policy), campaign=town.campaign(**changes), ledger=town.ledger
    )


def take_all_rounds(approval: ApprovedCampaign, town: TrainingTown, run: TrainingRun) -> None:
    """Ask the odd people in the odd rounds, the even ones in the even."""
    while not run.is_complete:
        collected = approval.campaign.collect_round(
            run, parameters={}, payload=b"", cohort=town.cohort(run.rounds_done)
        )
        run.close_round(collected, lambda noisy_sum: noisy_sum.tobytes())
    run.finish()


def test_plan_sign_run_books_what_the_policy_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: planner, officer's signature, verified load, devices, and the ledger's row."""
    file, key = tmp_path / "policy.toml", tmp_path / "officer.pem"
    write_key(key, Ed25519PrivateKey.from_private_bytes(OFFICER.seed))
    wanted = "--population 6 --report-goal 3 --rounds 6 --min-separation 2 --epsilon 4 --delta 1e-6"
    planned = ["plan", *wanted.split(), "--task", "item-counts", "--population-name", "town"]
    chosen = ["--mechanism", "blt", "--clip-norm", "0.5", "--out", str(file)]
    assert plan_command([*planned, "--availability", "1", *chosen]) == 0
    by = ["--by", "A. Officer"]
    assert sign_command(["sign", str(file), "--key", str(key), *by], now_s=lambda: NOW_S) == 0
    capsys.readouterr()

    policy = load_policy(file.read_bytes(), trusted_keys=[OFFICER.public_key_hex], now_s=NOW_S)
    url = f"sqlite:///{tmp_path / 'house.db'}"
    town = TrainingTown(url, tmp_path / "keys", budget=policy.budget)
    approval = ApprovedCampaign.under(policy, campaign=town.campaign(), ledger=town.ledger)
    run = approval.begin_run(dimension=DIMENSION, model=np.zeros(DIMENSION).tobytes())
    take_all_rounds(approval, town, run)

    (booked,) = town.ledger.reservations()
    terms = policy.policy
    assert booked.state is RowKind.COMMIT
    assert booked.event == terms.event(task_id=run.plan.run_id, dimension=DIMENSION)
    assert booked.event.clip_norm == 0.5
    assert town.ledger.spent("town").epsilon_exact == pytest.approx(4.0, abs=1e-6)
    with pytest.raises(BudgetExhaustedError):
        approval.begin_run(dimension=DIMENSION, model=b"")
    town.close()


def test_policy_of_one_round_is_one_release(town: TrainingTown) -> None:
    """Task, noise, clip, report goal and window are the policy's, whatever the campaign had."""
    result = under(town, ONE, report_goal=5, population="elsewhere").ask(dimension=DIMENSION)
    assert result.accepted == PEOPLE
    (booked,) = town.ledger.reservations()
    assert booked.event == ONE.event(task_id=result.order.task_id, dimension=DIMENSION)
    assert result.order.promise["epsilon"] == ONE.epsilon


def test_policy_is_spent_once(town: TrainingTown) -> None:
    """What was signed is one release, not one a day; nobody is asked a second time."""
    approval = under(town, ONE)
    approval.ask(dimension=DIMENSION)
    with pytest.raises(BudgetExhaustedError):
        approval.ask(dimension=DIMENSION)


def test_policy_that_expires_meanwhile_begins_nothing(town: TrainingTown) -> None:
    """The aggregator was started in time; the run wasn't."""
    now_s = [float(NOW_S)]
    campaign = town.campaign(clock=lambda: now_s[0])
    both = [
        ApprovedCampaign.under(approved(policy), campaign=campaign, ledger=town.ledger)
        for policy in (ONE, RUN)
    ]
    now_s[0] += 31 * 86_400
    with pytest.raises(PolicyUntrustedError, match="sign it again"):
        both[0].ask(dimension=DIMENSION)
    with pytest.raises(PolicyUntrustedError, match="sign it again"):
        both[1].begin_run(dimension=DIMENSION, model=b"")
    with pytest.raises(PolicyUntrustedError, match="sign it again"):
        ApprovedCampaign.under(approved(RUN), campaign=campaign, ledger=town.ledger)
    assert town.ledger.reservations() == ()


def test_policy_of_the_other_kind_is_refused(town: TrainingTown) -> None:
    """One round is asked, a run is begun."""
    with pytest.raises(ValueError, match="begin_run"):
        under(town, RUN).ask(dimension=DIMENSION)
    with pytest.raises(ValueError, match="ask"):
        under(town, ONE).begin_run(dimension=DIMENSION, model=b"")


@pytest.mark.parametrize(
    "budget", [Budget(epsilon=2.01, delta=1e-6), Budget(epsilon=2.0, delta=1e-5)]
)
def test_ledger_that_allows_more_than_was_signed_is_refused(tmp_path: Path, budget: Budget) -> None:
    """The signature is the upper bound; a smaller budget may stand."""
    town = TrainingTown(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "keys", budget=budget)
    with pytest.raises(ValueError, match="what was signed is"):
        under(town, RUN)
    town.close()


def test_ledger_without_a_budget_for_the_population_is_refused(town: TrainingTown) -> None:
    """Nothing is taken for granted."""
    with pytest.raises(BudgetMissingError):
        under(town, replace(RUN, population="village"))


def test_campaign_that_books_elsewhere_is_refused(town: TrainingTown, tmp_path: Path) -> None:
    """The budget that was checked has to be the one that is spent."""
    other = Ledger(f"sqlite:///{tmp_path / 'other.db'}", {"town": Budget(epsilon=1.0, delta=1e-6)})
    with pytest.raises(ValueError, match="another ledger"):
        ApprovedCampaign.under(approved(RUN), campaign=town.campaign(), ledger=other)
    other.close()


def test_campaign_without_noise_is_refused(town: TrainingTown) -> None:
    """There is no policy for that."""
    with pytest.raises(ValueError, match="without noise has no policy"):
        under(town, RUN, privacy=UnsafeNoPrivacy())


def test_campaign_of_a_simulated_crowd_is_refused(town: TrainingTown) -> None:
    """Whatever does not ask devices through the ledger is not what was approved."""

    class Crowd:
        """A strategy that asks nobody."""

        def start(self, *words: object, **more: object) -> TaskResult:
            raise AssertionError

        def collect(self, *words: object, **more: object) -> Collected:
            raise AssertionError

    with pytest.raises(ValueError, match="real devices"):
        under(town, RUN, strategy=Crowd())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sampling_probability": 0.5}, "Poisson"),
        ({"mechanism": MechanismName.DISCRETE_GAUSSIAN}, "can't release by discrete-gaussian"),
    ],
)
def test_policy_that_no_campaign_keeps_is_refused(
    town: TrainingTown, changes: dict[str, object], says: str
) -> None:
    """Better refused than run as something else."""
    with pytest.raises(ValueError, match=says):
        under(town, replace(ONE, noise_multiplier=8.0, **changes))  # type: ignore[arg-type]


def test_budgets_of_two_policies_of_one_population_are_refused() -> None:
    """ε of the same people composes; two signatures don't make two budgets."""
    village = replace(RUN, population="village", epsilon=3.0)
    budgets = budgets_of([approved(RUN), approved(village)])
    assert {name: each.epsilon for name, each in budgets.items()} == {"town": 2.0, "village": 3.0}
    with pytest.raises(ValueError, match="two policies"):
        budgets_of([approved(RUN), approved(ONE)])
