"""`Decider`: the next best action on the device, within limits, with a reason, and in the log.

Rules a reader can check line by line:

1. Without a yes to personalise nothing of the person is read, scored or logged: a fallback of the
   policy is given, if it passes every guardrail.
2. No policy refuses everything. A scorer that fails or gives something else than scores is an error
   of the caller: nothing is decided.
3. A decision is in the vault before it is returned, and what it shows counts for caps from then on.
4. `Decider.why` decides again from what was logged and says whether the result is the same.
5. What waits for approval was not shown and counts for no cap. When a person approves it, every
   guardrail is asked again, at that moment.
6. One lock, shared with whoever else uses the vault, held through each call.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from client_sdk.experience.action_table import ActionTable, TableCache
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.compiled import CompiledPolicy
from client_sdk.experience.decision_log import DecisionLog, LogLimits, RecordStore
from client_sdk.experience.decisions import (
    Conclusion,
    Decision,
    Status,
    Verdict,
    conclude,
)
from client_sdk.experience.evidence import Evidence
from client_sdk.experience.guardrails.dry_run import DryRun, Question, dry_run
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.person import (
    Asked,
    Person,
    PersonMemory,
    PersonReader,
    PreferenceReader,
    Purchases,
    Shop,
    reason_of,
    situation_of,
)
from client_sdk.experience.review import (
    MAX_OUTCOMES,
    Attributed,
    Label,
    Outcome,
    OutcomeWindows,
    Waiting,
)
from client_sdk.experience.review_queue import ReviewQueue
from client_sdk.experience.scoring import PriorScorer, Scorer, Scores
from client_sdk.experience.situation import Situation
from client_sdk.experience.why import Why, decided_again
from client_sdk.ports import Clock
from client_sdk.signals.features.vector import FeatureVector
from client_sdk.signals.signals import ConsentGate
from client_sdk.wire import Purpose

_KEPT_TABLES = 8


class Decider:
    """Decides what to do next; made with what it may read.

    Args:
        store: The vault.
        consent: Is asked before anything of the person is read.
        clock: Tells the time.
        lock: Shared with whoever else uses the vault.
        person: Reads features, activity and last times.
        preferences: Gives what the person asked for.
        policy: The guardrails; none refuses everything.
        scorer: Scores the actions; by default `PriorScorer`, which learns from the log's outcomes.
        model: What the log calls the scorer.
        shop: What the app knows of stock and offers.
        windows: For how long an outcome counts.
        limits: How much the log keeps.
    """

    def __init__(
        self,
        *,
        store: RecordStore,
        consent: ConsentGate,
        clock: Clock,
        lock: AbstractContextManager[object],
        person: PersonReader,
        preferences: PreferenceReader,
        policy: GuardrailPolicy | None = None,
        scorer: Scorer | None = None,
        model: str = "",
        shop: Shop | None = None,
        windows: OutcomeWindows | None = None,
        limits: LogLimits | None = None,
    ) -> None:
        self._consent = consent
        self._clock = clock
        self._lock = lock
        self._memory = PersonMemory(person)
        self._preferences = preferences
        self._policy = GuardrailPolicy() if policy is None else policy
        self._log = DecisionLog(store, limits=limits)
        self._scorer = PriorScorer(self._log.results_by_kind) if scorer is None else scorer
        self._model = model or ("prior" if scorer is None else type(scorer).__name__)
        self._shop = Shop() if shop is None else shop
        self._windows = OutcomeWindows() if windows is None else windows
        self._tables = TableCache()
        self._compiled: dict[ActionTable, tuple[CompiledPolicy, Purchases]] = {}
        self._queue = ReviewQueue(
            decision
            for decision in self._log.decisions()
            if self._log.result(decision.decision_id).label is None
        )

    @property
    def policy(self) -> GuardrailPolicy:
        """The guardrails in use."""
        return self._policy

    def change_policy(self, policy: GuardrailPolicy) -> None:
        """Use other guardrails from the next decision on."""
        with self._lock:
            self._policy = policy
            self._compiled.clear()

    def decide(
        self, moment: Moment, actions: Sequence[Action], *, seed: int | None = None
    ) -> Decision:
        """Decide what to do now.

        Args:
            moment: When and where the app asks.
            actions: What it could do, with different ids; give the same actions again where they
                are the same, that is fast.
            seed: Of the draw, 0 to 2**63 - 1; random by default. It is logged.

        Returns:
            The action, or none, with the reason. What it shows counts for caps from now on.

        Raises:
            ValueError: the actions or the seed are not as promised, or the scorer gave no scores.
            VaultError: it could not be written; nothing was decided.
        """
        seed = secrets.randbits(63) if seed is None else seed
        if type(seed) is not int or not 0 <= seed < 1 << 63:
            raise ValueError("seed: expected a whole number from 0 to 2**63 - 1; got another")
        with self._lock:
            now_s = self._clock.now_s()
            asked = Asked(actions=self._tables.table(actions), moment=moment, now_s=now_s)
            personal = self._consent.allows(Purpose.PERSONALISE)
            person = self._memory.read(moment.context, now_s) if personal else None
            waiting = self._queue.action_ids(now_s, self._policy.review)
            compiled, situation = self._situation(asked, person, waiting)
            verdict = compiled.judge(situation)
            scores = None
            if person is not None:
                scores = self._scored(asked.actions, verdict, person.features)
            conclusion = conclude(asked.actions, verdict, scores, self._policy, seed=seed)
            decision = self._decision(asked, conclusion, person, seed)
            if personal:
                evidence = Evidence(
                    actions=asked.actions,
                    situation=situation,
                    policy=self._policy,
                    seed=seed,
                    scores=scores,
                )
                gone = self._log.append(decision, evidence)
                self._queue.add(decision)
                self._queue.drop(gone)
            else:
                self._log.count_unlogged(decision)
            return decision

    def outcome(
        self, decision_id: str, kind: str, *, value: float = 1.0, time_s: float | None = None
    ) -> Attributed:
        """Say what came of a decision.

        Args:
            decision_id: Of a decision in the log.
            kind: Such as ``"clicked"`` or ``"purchase"``; each has a window.
            value: What it was worth; 0 or less says that it did not work.
            time_s: When; now by default.

        Raises:
            UnknownDecisionError: it is not in the log.
            ValueError: the kind or the value is not as promised.
        """
        with self._lock:
            at_s = self._clock.now_s() if time_s is None else time_s
            outcome = Outcome(kind=kind, time_s=at_s, value=value)
            shown_s = self._log.shown_s(decision_id)
            if not self._consent.allows(Purpose.PERSONALISE):
                return Attributed(attributed=False, reason="not kept: no consent")
            if shown_s is None:
                return Attributed(attributed=False, reason="not kept: nothing was shown")
            if not self._windows.within(kind, at_s - shown_s):
                return Attributed(attributed=False, reason="not kept: outside of its window")
            result = self._log.result(decision_id)
            if len(result.outcomes) >= MAX_OUTCOMES:
                return Attributed(attributed=False, reason="not kept: there are enough")
            self._log.change_result(decision_id, result.with_outcome(outcome))
            return Attributed(attributed=True, reason="kept: within its window")

    def why(self, decision_id: str) -> Why:
        """Decide again from what was logged, and say what came of each action.

        Raises:
            UnknownDecisionError: it is not in the log, or can't be replayed any more.
        """
        with self._lock:
            decision = self._log.decision(decision_id)
            evidence = self._log.evidence(decision_id, self._policy)
        return decided_again(decision, evidence)

    def decisions(
        self, *, status: Status | None = None, since_s: float = 0.0
    ) -> tuple[Decision, ...]:
        """Look into the log: the decisions of a status since a time, oldest first."""
        with self._lock:
            return tuple(
                decision
                for decision in self._log.decisions()
                if decision.time_s >= since_s and status in (None, decision.status)
            )

    def outcomes(self, decision_id: str) -> tuple[Outcome, ...]:
        """What came of a decision.

        Raises:
            UnknownDecisionError: it is not in the log.
        """
        with self._lock:
            return self._log.result(self._log.decision(decision_id).decision_id).outcomes

    def waiting(self) -> list[Waiting]:
        """What waits for a person's approval, oldest first."""
        with self._lock:
            return self._queue.waiting(self._clock.now_s(), self._policy.review)

    def approve(self, decision_id: str, *, by: str, note: str = "") -> Decision:
        """Say yes to what waits; every guardrail is asked again.

        Args:
            decision_id: Of what waits.
            by: Who says it.
            note: Why.

        Returns:
            The decision with its action, or without one where a guardrail refuses it by now.

        Raises:
            ValueError: it does not wait, or waited too long.
            ConsentRequiredError: there is no yes to personalise any more.
        """
        with self._lock:
            decision, label = self._labelled(decision_id, by=by, note=note, approved=True)
            action = decision.proposed
            actions = self._tables.table(() if action is None else (action,))
            asked = Asked(actions=actions, moment=decision.moment, now_s=label.time_s)
            person = self._memory.read(decision.moment.context, label.time_s)
            compiled, situation = self._situation(asked, person, frozenset())
            verdict = compiled.judge(situation)
            result = replace(self._log.result(decision_id), label=label)
            if len(verdict.rows):
                self._log.change_result(decision_id, replace(result, shown_s=label.time_s))
                self._queue.remove(decision_id)
                return replace(decision, action=action, proposed=None, status=Status.CHOSEN)
            self._log.change_result(decision_id, result)
            self._queue.remove(decision_id)
            rules = ", ".join(verdict.refused)
            reason = f"It was approved, and is refused by now: {rules}."
            return replace(decision, proposed=None, status=Status.NOTHING, reason=reason)

    def refuse(self, decision_id: str, *, by: str, note: str = "") -> Label:
        """Say no to what waits; raises as `approve` does."""
        with self._lock:
            _, label = self._labelled(decision_id, by=by, note=note, approved=False)
            self._log.change_result(
                decision_id, replace(self._log.result(decision_id), label=label)
            )
            self._queue.remove(decision_id)
            return label

    def labels(self) -> tuple[Label, ...]:
        """What persons said of decisions that waited, in the order of the decisions."""
        with self._lock:
            return self._log.labels()

    def dry_run(self, policy: GuardrailPolicy) -> DryRun:
        """Try a policy on the decisions in the log; nothing changes.

        Raises:
            UnknownDecisionError: something that a decision was made from is lost.
        """
        with self._lock:
            return dry_run(policy, list(self._questions()))

    def tidy(self) -> None:
        """Let the oldest decisions go until the log is within its limits."""
        with self._lock:
            self._queue.drop(self._log.tidy(self._clock.now_s()))

    def forget(self) -> None:
        """Drop what is in memory, after the vault was erased."""
        with self._lock:
            self._log.forget()
            self._queue.clear()
            self._compiled.clear()
            self._memory.forget()

    def _situation(
        self, asked: Asked, person: Person | None, waiting: frozenset[str]
    ) -> tuple[CompiledPolicy, Situation]:
        known = self._compiled.get(asked.actions)
        if known is None:
            if len(self._compiled) >= _KEPT_TABLES:
                self._compiled.clear()
            known = CompiledPolicy(asked.actions, self._policy), Purchases(asked.actions)
            self._compiled[asked.actions] = known
        compiled, purchases = known
        return compiled, situation_of(
            asked,
            policy=self._policy,
            preferences=self._preferences(),
            shop=self._shop,
            ledger=self._log.ledger,
            waiting=waiting,
            person=person,
            purchases=purchases,
        )

    def _scored(self, actions: ActionTable, verdict: Verdict, features: FeatureVector) -> Scores:
        if not len(verdict.rows):
            return Scores(expected=np.zeros(0), confidence=np.zeros(0))
        scores = self._scorer.score(actions, features.values)
        if len(scores.expected) != len(actions):
            raise ValueError("scorer: expected one score for each action; got another number")
        return scores.of_rows(verdict.rows)

    def _decision(
        self,
        asked: Asked,
        conclusion: Conclusion,
        person: Person | None,
        seed: int,
    ) -> Decision:
        number = self._log.next_number
        named = hashlib.blake2b(f"{number} {asked.now_s!r} {seed}".encode(), digest_size=16)
        row, waits = conclusion.row, conclusion.status is Status.WAITING
        action = None if row is None else asked.actions.actions[row]
        preferences = self._preferences()
        return Decision(
            decision_id=named.hexdigest() if person is not None else secrets.token_hex(16),
            time_s=asked.now_s,
            moment=asked.moment,
            action=None if waits else action,
            proposed=action if waits else None,
            status=conclusion.status,
            reason=reason_of(conclusion, action, person=person, preferences=preferences),
            model="" if conclusion.confidence is None else self._model,
            policy=self._policy.name,
            confidence=conclusion.confidence,
            propensity=conclusion.propensity,
            stages=conclusion.stages,
            logged=person is not None,
        )

    def _labelled(
        self, decision_id: str, *, by: str, note: str, approved: bool
    ) -> tuple[Decision, Label]:
        now_s = self._clock.now_s()
        decision = self._queue.decision(decision_id, now_s, self._policy.review)
        self._consent.require(Purpose.PERSONALISE)
        label = Label(decision_id=decision_id, approved=approved, by=by, time_s=now_s, note=note)
        return decision, label

    def _questions(self) -> Iterator[Question]:
        for decision in self._log.decisions():
            actions, situation = self._log.question(decision.decision_id)
            done = self._log.shown_s(decision.decision_id) is not None
            action = decision.action or decision.proposed
            yield Question(
                actions=actions,
                situation=situation,
                session=decision.moment.session,
                done=action.action_id if done and action is not None else None,
            )
