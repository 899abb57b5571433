"""The decision log in a real vault: what was acknowledged lasts, is bounded, and still counts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from client_sdk import VaultError
from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.decision_log import (
    ACTIONS,
    DECISIONS,
    POLICIES,
    RESULTS,
    DecisionLog,
    LogLimits,
    UnknownDecisionError,
)
from client_sdk.experience.decisions import Decision, Stage, Status
from client_sdk.experience.evidence import Evidence
from client_sdk.experience.guardrails.matter import SoldOut
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.ledger import WEEK_S
from client_sdk.experience.review import Label, Outcome, Result
from client_sdk.experience.scoring import Results, Scores
from client_sdk.experience.situation import Situation
from client_sdk.signals.vault import Vault
from client_sdk.testing import MemoryKeyStore

POLICY = GuardrailPolicy.from_toml("version = 1\n[channels.in-app]\nopt_in = false\nper_day = 9\n")
ACTION = Action(action_id="a", kind="offer", item_id="tea", features=(0.1, 0.2))
TABLE = ActionTable([ACTION, Action(action_id="b")])

SCORES = Scores(expected=np.array([0.1, 1e-30]), confidence=np.array([1 / 3, 1.0])).of_rows(
    np.array([0, 1])
)


@pytest.fixture
def vault(tmp_path: Path, keys: MemoryKeyStore) -> Iterator[Vault]:
    """A new vault, closed after the test."""
    opened = Vault.open(tmp_path / "vault", keys)
    yield opened
    opened.close()


def decision(number: int, status: Status = Status.CHOSEN) -> Decision:
    """One decision an hour."""
    waits = status is Status.WAITING
    return Decision(
        decision_id=f"d{number}",
        time_s=number * 3_600.0,
        moment=Moment(name="home", session="s"),
        action=ACTION if status is Status.CHOSEN else None,
        proposed=ACTION if waits else None,
        status=status,
        reason="Because.",
        model="prior",
        policy="shop",
        confidence=0.1 + 0.2,
        propensity=1 / 3,
        stages=(Stage(name="draw", left=1, refused={"never": 2}),),
    )


def evidence(
    actions: ActionTable = TABLE, policy: GuardrailPolicy = POLICY, number: int = 0
) -> Evidence:
    """What a decision was made from."""
    return Evidence(
        actions=actions,
        situation=Situation(now_s=float(number), less=frozenset({"tea"})),
        policy=policy,
        seed=7,
        scores=SCORES,
    )


def counts(vault: Vault) -> dict[str, int]:
    """How many records each stream has."""
    return {
        stream: sum(1 for _ in vault.records(stream)) for stream in (DECISIONS, ACTIONS, POLICIES)
    }


def test_log_reopened_has_everything(vault: Vault) -> None:
    """Decisions, evidence to the last bit, results, counts, the next number."""
    log = DecisionLog(vault)
    log.append(decision(1), evidence())
    log.append(decision(2, Status.WAITING), evidence())
    log.append(decision(3, Status.NOTHING), evidence())
    label = Label(decision_id="d2", approved=True, by="ann", time_s=9_000.0)
    log.change_result("d2", Result(label=label, shown_s=9_000.0))
    log.change_result("d1", Result(outcomes=(Outcome(kind="clicked", time_s=4_000.0),)))
    again = DecisionLog(vault)
    for each in (log, again):
        assert each.decisions() == (
            decision(1),
            decision(2, Status.WAITING),
            decision(3, Status.NOTHING),
        )
        assert each.labels() == (label,)
        assert each.results_by_kind() == {"offer": Results(shown=2, worked=1)}
        assert each.ledger.counts(session="s", now_s=9_001.0) == {"in-app": (2, 2, 2)}
        assert (each.next_number, len(each)) == (4, 3)
        assert [each.shown_s(f"d{n}") for n in (1, 2, 3)] == [3_600.0, 9_000.0, None]
    assert again.n_bytes == log.n_bytes
    read = again.evidence("d1", POLICY)
    assert read.actions.actions == TABLE.actions
    assert read.situation == evidence().situation
    assert read.scores is not None
    assert read.scores.expected.tolist() == SCORES.expected.tolist()
    assert read.scores.confidence.tolist() == SCORES.confidence.tolist()
    assert counts(vault) == {DECISIONS: 3, ACTIONS: 1, POLICIES: 1}


def test_log_bounded_in_number_lets_the_oldest_go_and_counts_them(vault: Vault) -> None:
    """What left the log still counts for caps, here and after reopening."""
    log = DecisionLog(vault, limits=LogLimits(max_decisions=20))
    gone: list[str] = []
    for number in range(50):
        gone += log.append(decision(number), evidence(number=number))
    assert gone == [f"d{number}" for number in range(len(gone))]
    again = DecisionLog(vault, limits=LogLimits(max_decisions=20))
    for each in (log, again):
        assert len(each) == 50 - len(gone) <= 20
        assert each.ledger.counts(session="s", now_s=50 * 3_600.0)["in-app"].week == 50
        assert each.ledger.names_since({"offer"}, 0.0) == {"a", "tea"}
        assert each.next_number == 51
        assert each.results_by_kind() == {"offer": Results(shown=len(each), worked=0)}
        with pytest.raises(UnknownDecisionError, match="let go"):
            each.decision("d0")
    assert counts(vault) == {DECISIONS: len(log), ACTIONS: 1, POLICIES: 1}


def test_log_letting_decisions_go_lets_their_results_go(vault: Vault) -> None:
    """Of a decision that left, nothing of what came of it stays, in memory or in the vault."""
    log = DecisionLog(vault, limits=LogLimits(max_decisions=10))
    log.append(decision(0), evidence())
    log.append(decision(1), evidence())
    log.change_result("d1", Result(outcomes=(Outcome(kind="clicked", time_s=4_000.0),)))
    for number in range(2, 9):
        log.append(decision(number), evidence(number=number))
    log.change_result("d8", Result(outcomes=(Outcome(kind="clicked", time_s=9_000.0),)))
    gone = log.append(decision(9), evidence()) + log.append(decision(10), evidence())
    assert "d1" in gone
    assert [record.key for record in vault.records(RESULTS)] == ["d8"]
    assert DecisionLog(vault).results_by_kind() == log.results_by_kind()


def test_log_bounded_in_bytes_drops_actions_that_nothing_needs(vault: Vault) -> None:
    """Many different questions do not fill the store."""
    log = DecisionLog(vault, limits=LogLimits(max_bytes=24_000))
    for number in range(40):
        actions = ActionTable([ACTION, Action(action_id=f"other-{number}")])
        log.append(decision(number), evidence(actions))
        assert log.n_bytes <= 24_000
    assert counts(vault)[ACTIONS] == len(log) < 20
    assert DecisionLog(vault).n_bytes == log.n_bytes
    for kept in log.decisions():
        assert log.question(kept.decision_id)[0].actions[0] == ACTION


def test_log_old_shows_leave_the_counts_after_a_week(vault: Vault) -> None:
    """Tidying does not keep them for ever."""
    log = DecisionLog(vault, limits=LogLimits(max_decisions=2))
    for number in range(5):
        log.append(decision(number), evidence())
    assert log.ledger.counts(session="s", now_s=WEEK_S + 5 * 3_600.0) == {}


def test_log_policy_with_own_rules_needs_that_policy(vault: Vault) -> None:
    """Rules in code are not in the log; a policy file is, also when it is in use no more."""
    own = POLICY.and_also(SoldOut())
    log = DecisionLog(vault)
    log.append(decision(1), evidence(policy=own))
    log.append(decision(2), evidence())
    assert log.evidence("d1", own).policy is own
    assert log.evidence("d2", own).policy == POLICY
    with pytest.raises(UnknownDecisionError, match="own"):
        log.evidence("d1", POLICY)
    assert log.question("d1")[1] == evidence().situation


def test_log_write_fails_keeps_nothing(vault: Vault) -> None:
    """What is in memory equals what is in the vault."""
    log = DecisionLog(vault)
    log.append(decision(1), evidence())
    vault.close()
    before = (log.decisions(), log.n_bytes, log.next_number, log.results_by_kind())
    with pytest.raises(VaultError):
        log.append(decision(2), evidence())
    with pytest.raises(VaultError):
        log.change_result("d1", Result(shown_s=5.0))
    assert before == (log.decisions(), log.n_bytes, log.next_number, log.results_by_kind())
    assert log.result("d1") == Result()


@pytest.mark.parametrize("bad", [{"max_decisions": 0}, {"max_bytes": 0}])
def test_limits_of_nothing_are_refused(bad: dict[str, int]) -> None:
    """A log holds at least one decision."""
    with pytest.raises(ValueError, match="limits"):
        LogLimits(**bad)
