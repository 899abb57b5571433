"""The decision log: what was decided, from what, and what came of it; sealed, on the device.

Rules a reader can check line by line:

1. A decision is one record: the decision and what it was made from; with it, the first time only,
   come the actions and the policy, kept under their hashes, in one transaction. What was returned
   is in the vault.
2. What is in memory equals what is in the vault; a write that fails changes neither.
3. The log is bounded in number and in bytes: the oldest decisions go first, with what only they
   needed. What was shown in the last week counts for caps all the same.
4. Counts for caps are kept as decisions come; nothing scans the log but its opening.

This is the one file of decisions that touches the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from client_sdk.errors import HomebodyError
from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.decisions import Decision, Status
from client_sdk.experience.evidence import (
    Evidence,
    EvidenceWriter,
    packed_actions,
    unpacked_actions,
)
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.ledger import Ledger, Shown
from client_sdk.experience.log_entry import LogEntry
from client_sdk.experience.review import NO_RESULT, Label, Result
from client_sdk.experience.scoring import Results
from client_sdk.experience.situation import Situation
from client_sdk.signals.records import EncodedRecord, Record

DECISIONS: Final = "decided"
RESULTS: Final = "decision-results"
ACTIONS: Final = "decision-actions"
POLICIES: Final = "decision-policies"
STATE: Final = ("decision-log", "state")
# Letting go costs milliseconds: it is done for many at once, so that it is rare.
_KEEP: Final = 0.7
# The two parts of the record of a decision: the second is used only for a replay.
_ENTRY: Final = "entry"
_EVIDENCE: Final = "evidence"
# What a record takes beside its evidence: the decision, the seal, the name, the padding.
_ENTRY_BYTES: Final = 1_024


class UnknownDecisionError(HomebodyError):
    """No decision of that id is in the log: never made, made without consent, or let go."""


class RecordStore(Protocol):
    """What the log needs of the vault."""

    def write(self, *records: Record, durable: bool = False) -> None:
        """Store records in one transaction."""
        ...

    def read(self, stream: str, key: str) -> Mapping[str, Any] | None:
        """Give one record's value, or None."""
        ...

    def records(self, stream: str | None = None) -> Iterator[Record]:
        """Give the records of a stream in the order of their first writing."""
        ...

    def forget_records(self, stream: str, *keys: str) -> int:
        """Delete records."""
        ...


@dataclass(frozen=True, kw_only=True)
class LogLimits:
    """How much is kept: decisions, and about how many bytes with what they need."""

    max_decisions: int = 2_000
    max_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.max_decisions < 1 or self.max_bytes < 1:
            raise ValueError("limits: expected at least 1 decision and 1 byte; got less")


class DecisionLog:
    """The decisions of one person.

    Args:
        store: The vault.
        limits: How much is kept.

    Attributes:
        ledger: What was shown, counted for caps; read it, don't change it.
    """

    def __init__(self, store: RecordStore, *, limits: LogLimits | None = None) -> None:
        self._store = store
        self._limits = LogLimits() if limits is None else limits
        self.forget()
        self._open()

    def forget(self) -> None:
        """Drop what is in memory, after the vault was erased."""
        self.ledger = Ledger()
        self._entries: dict[str, LogEntry] = {}
        self._results: dict[str, Result] = {}
        # The place among all that were shown, of those that a person approved.
        self._results_shown: dict[str, int] = {}
        self._actions_bytes: dict[str, int] = {}
        # Hash of actions or a policy -> how many decisions need it.
        self._needed: Counter[str] = Counter()
        self._bytes = self._number = self._shown = 0
        self._by_kind: dict[str, list[int]] = {}
        # It remembers what it wrote last, so it is forgotten with the rest.
        self._writer = EvidenceWriter()

    def __len__(self) -> int:
        """How many decisions are kept."""
        return len(self._entries)

    @property
    def next_number(self) -> int:
        """The number of the next decision; it never falls."""
        return self._number + 1

    @property
    def n_bytes(self) -> int:
        """About how many bytes the log takes."""
        return self._bytes

    def results_by_kind(self) -> dict[str, Results]:
        """How often actions of each kind were shown and worked, of the decisions that are kept."""
        return {kind: Results(shown=n[0], worked=n[1]) for kind, n in self._by_kind.items()}

    def decisions(self) -> tuple[Decision, ...]:
        """Every decision that is kept, oldest first."""
        return tuple(entry.decision for entry in self._entries.values())

    def decision(self, decision_id: str) -> Decision:
        """Give one decision, or raise `UnknownDecisionError` where it is not in the log."""
        return self._entry(decision_id).decision

    def labels(self) -> tuple[Label, ...]:
        """What persons said of decisions that waited, in the order of the decisions."""
        results = (self.result(decision_id) for decision_id in self._entries)
        return tuple(result.label for result in results if result.label is not None)

    def result(self, decision_id: str) -> Result:
        """What came of a decision so far."""
        return self._results.get(decision_id, NO_RESULT)

    def shown_s(self, decision_id: str) -> float | None:
        """When the action of a decision was shown; None where it was not."""
        entry = self._entry(decision_id)
        return entry.decision.time_s if entry.shown else self.result(decision_id).shown_s

    def evidence(self, decision_id: str, in_use: GuardrailPolicy) -> Evidence:
        """Read what a decision was made from.

        Args:
            decision_id: Of a decision in the log.
            in_use: The policy in use; a policy with rules of the app's own is not in the log.

        Raises:
            UnknownDecisionError: it is not in the log, or its policy can't be had any more.
        """
        entry = self._entry(decision_id)
        policy = in_use
        if in_use.sha256 != entry.policy:
            kept = self._read(POLICIES, entry.policy)
            if kept["own_rules"]:
                raise UnknownDecisionError(
                    "the decision was made under guardrails of the app's own that are not in use "
                    "any more: use that policy again to replay it"
                )
            policy = GuardrailPolicy.from_toml(kept["source"])
        return self._evidence(entry, policy)

    def question(self, decision_id: str) -> tuple[ActionTable, Situation]:
        """Read what was asked, whatever became of the policy.

        Raises:
            UnknownDecisionError: it is not in the log.
        """
        evidence = self._evidence(self._entry(decision_id), GuardrailPolicy())
        return evidence.actions, evidence.situation

    def append(self, decision: Decision, evidence: Evidence) -> tuple[str, ...]:
        """Keep a decision and what it was made from, in one transaction.

        Returns:
            The ids of older decisions that were let go for it; mostly none.

        Raises:
            VaultError: it could not be written; nothing was kept.
        """
        actions, policy = evidence.actions.sha256, evidence.policy.sha256
        records: list[Record] = []
        actions_bytes = self._actions_bytes.get(actions, 0)
        if not self._needed[actions]:
            packed = packed_actions(evidence.actions)
            actions_bytes = len(packed)
            records.append(Record(stream=ACTIONS, key=actions, value={"packed": packed}))
        if not self._needed[policy]:
            rules = {"source": evidence.policy.source, "own_rules": bool(evidence.policy.own_rules)}
            records.append(Record(stream=POLICIES, key=policy, value=rules))
        shown = decision.status in (Status.CHOSEN, Status.FALLBACK)
        made_from = self._writer.text(evidence)
        entry = LogEntry(
            number=self._number + 1,
            shown=self._shown + 1 if shown else 0,
            decision=decision,
            actions=actions,
            actions_bytes=actions_bytes,
            policy=policy,
            n_bytes=_ENTRY_BYTES + len(made_from),
        )
        text = f'{{"{_ENTRY}":{entry.text(evidence.actions)},"{_EVIDENCE}":{made_from}}}'
        records.append(EncodedRecord(stream=DECISIONS, key=decision.decision_id, text=text))
        self._store.write(*records)
        self._take(entry)
        if shown:
            self._count(decision, decision.time_s)
        return self.tidy(decision.time_s) if self._over(1.0) else ()

    def change_result(self, decision_id: str, result: Result) -> None:
        """Keep what came of a decision; durable where a person said it.

        Raises:
            UnknownDecisionError: it is not in the log.
            VaultError: it could not be written; nothing changed.
        """
        decision = self._entry(decision_id).decision
        before = self.result(decision_id)
        newly_shown = result.shown_s is not None and before.shown_s is None
        shown = self._shown + 1 if newly_shown else self._results_shown.get(decision_id, 0)
        value = {"result": result.to_json(), "shown": shown}
        self._store.write(
            Record(stream=RESULTS, key=decision_id, value=value),
            durable=result.label != before.label,
        )
        self._results[decision_id] = result
        self._results_shown[decision_id] = shown
        self._shown = max(self._shown, shown)
        if newly_shown and result.shown_s is not None:
            self._count(decision, result.shown_s)
            self._tally(decision, 1, 0)
        if result.worked and not before.worked:
            self._tally(decision, 0, 1)

    def count_unlogged(self, decision: Decision) -> None:
        """Count what was shown without consent for caps; it is kept in memory only."""
        self._count(decision, decision.time_s)

    def tidy(self, now_s: float) -> tuple[str, ...]:
        """Let the oldest decisions go until the log is well below its limits; give their ids."""
        leaving: list[LogEntry] = []
        with_results: list[str] = []
        for entry in list(self._entries.values()):
            if not self._over(_KEEP):
                break
            leaving.append(entry)
            if entry.decision.decision_id in self._results:
                with_results.append(entry.decision.decision_id)
            self._drop(entry)
        if not leaving:
            return ()
        # First what the caps need: a kill between the two writes loses nothing that counts.
        stream, key = STATE
        state = {
            "number": self._number,
            "shown": self._shown,
            "ledger": self.ledger.to_json(now_s),
        }
        self._store.write(Record(stream=stream, key=key, value=state))
        ids = tuple(entry.decision.decision_id for entry in leaving)
        self._store.forget_records(DECISIONS, *ids)
        # Forgetting is durable, and waits for the disk each time: not for what is not there.
        if with_results:
            self._store.forget_records(RESULTS, *with_results)
        for name, hashes in (
            (ACTIONS, {entry.actions for entry in leaving}),
            (POLICIES, {entry.policy for entry in leaving}),
        ):
            gone = [digest for digest in hashes if not self._needed[digest]]
            if gone:
                self._store.forget_records(name, *gone)
        return ids

    def _entry(self, decision_id: str) -> LogEntry:
        entry = self._entries.get(decision_id)
        if entry is None:
            raise UnknownDecisionError(
                "expected the id of a decision in the log; got another: it was never made, was "
                "made without consent, or was let go to keep the log small"
            )
        return entry

    def _evidence(self, entry: LogEntry, policy: GuardrailPolicy) -> Evidence:
        actions = unpacked_actions(self._read(ACTIONS, entry.actions)["packed"])
        value = self._read(DECISIONS, entry.decision.decision_id)[_EVIDENCE]
        return Evidence.from_json(value, actions=actions, policy=policy)

    def _read(self, stream: str, key: str) -> Mapping[str, Any]:
        value = self._store.read(stream, key)
        if value is None:
            raise UnknownDecisionError(
                "what the decision was made from is not in the store any more: it can't be replayed"
            )
        return value

    def _open(self) -> None:
        state = self._store.read(*STATE)
        through = 0
        if state is not None:
            self.ledger = Ledger.from_json(state["ledger"])
            self._number, self._shown = state["number"], state["shown"]
            through = self._shown
        for record in self._store.records(RESULTS):
            self._results[record.key] = Result.from_json(record.value["result"])
            self._results_shown[record.key] = record.value["shown"]
        for record in self._store.records(DECISIONS):
            entry = LogEntry.read(record.key, record.value[_ENTRY])
            self._take(entry)
            result = self.result(record.key)
            if entry.shown > through:
                self._count(entry.decision, entry.decision.time_s)
            if self._results_shown.get(record.key, 0) > through and result.shown_s is not None:
                self._count(entry.decision, result.shown_s)

    def _take(self, entry: LogEntry) -> None:
        decision_id = entry.decision.decision_id
        self._entries[decision_id] = entry
        self._bytes += entry.n_bytes
        if not self._needed[entry.actions]:
            self._bytes += entry.actions_bytes
            self._actions_bytes[entry.actions] = entry.actions_bytes
        self._needed[entry.actions] += 1
        self._needed[entry.policy] += 1
        self._number = max(self._number, entry.number)
        self._shown = max(self._shown, entry.shown)
        result = self._results.get(decision_id)
        if result is None:
            self._tally(entry.decision, int(bool(entry.shown)), 0)
            return
        self._shown = max(self._shown, self._results_shown.get(decision_id, 0))
        was_shown = bool(entry.shown) or result.shown_s is not None
        self._tally(entry.decision, int(was_shown), int(result.worked))

    def _drop(self, entry: LogEntry) -> None:
        decision_id = entry.decision.decision_id
        del self._entries[decision_id]
        result = self._results.pop(decision_id, NO_RESULT)
        self._results_shown.pop(decision_id, None)
        self._bytes -= entry.n_bytes
        self._needed.subtract((entry.actions, entry.policy))
        if not self._needed[entry.actions]:
            self._bytes -= self._actions_bytes.pop(entry.actions)
        was_shown = bool(entry.shown) or result.shown_s is not None
        self._tally(entry.decision, -int(was_shown), -int(result.worked))

    def _tally(self, decision: Decision, shown: int, worked: int) -> None:
        action = decision.action or decision.proposed
        if action is not None and (shown or worked):
            counts = self._by_kind.setdefault(action.kind, [0, 0])
            counts[0] += shown
            counts[1] += worked

    def _count(self, decision: Decision, time_s: float) -> None:
        action = decision.action or decision.proposed
        if action is not None:
            self.ledger.add(
                Shown(
                    time_s=time_s,
                    channel=action.channel,
                    session=decision.moment.session,
                    kind=action.kind,
                    action_id=action.action_id,
                    item_id=action.item_id,
                )
            )

    def _over(self, share: float) -> bool:
        limits = self._limits
        return len(self._entries) > max(1, int(share * limits.max_decisions)) or (
            len(self._entries) > 1 and self._bytes > share * limits.max_bytes
        )
