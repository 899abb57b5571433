"""The experiments of one person: assigned, shown, told what came of it. The file that keeps logs.

Rules a reader can check line by line:

1. Without a yes to personalise nobody is in an experiment, nothing is told, and nothing is kept.
2. The key of the assignment is random, of this store, and sealed in it: two stores are independent,
   and nobody else can say who is in which arm.
3. A log is in the vault before `Desk.shown` returns; what an event changes in it is written in the
   event's own transaction, so that both are kept or neither. Only a change is written.
4. Outcomes are given only where they stand (`ExperimentLog.due_s`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from client_sdk.experience.experiments.assignment import Assignment, Standing, assign
from client_sdk.experience.experiments.experiment import Experiment, check_together
from client_sdk.experience.experiments.log import EXPERIMENT_STREAM, ExperimentLog
from client_sdk.ports import Clock
from client_sdk.signals.events import Event
from client_sdk.signals.signals import ConsentGate
from client_sdk.signals.vault import Record, Vault
from client_sdk.wire import Purpose
from client_sdk.wire.outcomes import ExperimentOutcome

_KEY = ("identity", "experiment-key")
_KEY_BYTES = 32


class Desk:
    """Where an app asks which arm to show, and says that it showed it.

    Args:
        vault: Keeps the logs and the key.
        consent: Is asked before anybody is in an experiment.
        clock: Tells the time.
        lock: Shared with whoever else uses the vault.
        experiments: Those that run now; ``Homebody.open`` passes the app's.

    Raises:
        ValueError: two have one name, or two of a layer overlap.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        consent: ConsentGate,
        clock: Clock,
        lock: AbstractContextManager[object],
        experiments: Sequence[Experiment],
    ) -> None:
        check_together(experiments)
        self._vault = vault
        self._consent = consent
        self._clock = clock
        self._lock = lock
        self._experiments = {experiment.name: experiment for experiment in experiments}
        kept = {
            record.key: ExperimentLog.from_json(record.value)
            for record in (vault.records(EXPERIMENT_STREAM) if experiments else ())
        }
        self._logs = {
            name: kept.get(experiment.sha256) or ExperimentLog.empty(experiment)
            for name, experiment in self._experiments.items()
        }
        self._heard: dict[str, ExperimentLog] = {}
        self._key = _key(vault) if experiments else b""

    def assignment(self, name: str) -> Assignment:
        """Say which arm of an experiment the person is to see now; nothing is counted.

        Raises:
            ValueError: there is no experiment of that name.
        """
        experiment = self._experiment(name)
        with self._lock:
            if not self._consent.allows(Purpose.PERSONALISE):
                return Assignment(standing=Standing.NO_CONSENT)
            return assign(
                experiment, key=self._key, now_s=self._clock.now_s(), log=self._logs[name]
            )

    def shown(self, name: str) -> Assignment:
        """Say that the person was shown their arm now (the holdout: would have been shown one).

        Returns:
            The assignment that counts.

        Raises:
            ValueError: there is no experiment of that name.
            VaultError: it could not be written; nothing was counted.
        """
        experiment = self._experiment(name)
        with self._lock:
            found = self.assignment(name)
            if found.group is not None:
                now_s = self._clock.now_s()
                log = self._logs[name].exposed(experiment, group=found.group, time_s=now_s)
                if log != self._logs[name]:
                    self._vault.write(log.to_record())
                    self._logs[name] = log
            return found

    def heard(self, events: Sequence[Event]) -> list[Record]:
        """Count events for every experiment that they were shown in; `kept` makes it stand.

        Returns:
            The records to write in the transaction of the events.
        """
        if not self._experiments:
            return []
        now_s = self._clock.now_s()
        logs = dict(self._logs)
        for event in events:
            for name, experiment in self._experiments.items():
                logs[name] = logs[name].told(experiment, event, now_s=now_s)
        self._heard = {name: log for name, log in logs.items() if log != self._logs[name]}
        return [log.to_record() for log in self._heard.values()]

    def kept(self) -> None:
        """Let count what was heard last."""
        self._logs.update(self._heard)
        self._heard = {}

    def outcomes(self) -> Mapping[str, ExperimentOutcome]:
        """Give what stands, by the hash of the definition: what a federated task may ask for."""
        with self._lock:
            now_s = self._clock.now_s()
            found = {
                experiment.sha256: self._logs[name].outcome(experiment, now_s=now_s)
                for name, experiment in self._experiments.items()
            }
            return {sha256: outcome for sha256, outcome in found.items() if outcome is not None}

    def _experiment(self, name: str) -> Experiment:
        if name not in self._experiments:
            raise ValueError(
                f"name: expected one of {sorted(self._experiments)}; got another; "
                "pass the experiment to Homebody.open"
            )
        return self._experiments[name]


def _key(vault: Vault) -> bytes:
    stream, key = _KEY
    kept = vault.read(stream, key)
    if kept is not None:
        return bytes.fromhex(kept["key"])
    made = secrets.token_bytes(_KEY_BYTES)
    vault.write(Record(stream=stream, key=key, value={"key": made.hex()}))
    return made
