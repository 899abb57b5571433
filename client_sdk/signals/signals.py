"""What the device knows from events: taken in, kept, folded, and read for a purpose.

Rules a reader can check line by line:

1. Nothing is taken in without a yes to personalise; a pause counts as a no.
2. Every read names its purpose and raises `ConsentRequiredError` where there is no yes to it. What
   is kept was kept to personalise, so a read for another purpose needs both. Only the person's own
   look (`Signals.own_events`: show, export, merge) needs no consent.
3. What was acknowledged is in the vault and in the digest; what was refused is in neither. A batch
   is kept as a whole or not at all; with ``quarantine`` its bad events are set aside, with reasons.
4. The digest equals the fold of the events in the vault. It is restored from a sealed snapshot and
   the pages after it (`kept`); one that does not fit is dropped and everything is folded again.
5. Events older than their kind may be kept, or beyond the bound of the store, go with `tidy`: when
   the store opens and something is overdue by a day, when it is full, and when the app asks.
6. An account's name in an event is replaced by a keyed hash before the event is kept.
7. The counts of what was not kept are written with the snapshot: a kill may lose the last of them.
8. A snapshot or a tidying that can't be written (a full disk) fails nothing that was acknowledged:
   it is tried again after the next events, or when the store opens again.
"""

from __future__ import annotations

import dataclasses
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from client_sdk.errors import VaultError
from client_sdk.intelligence.history import History
from client_sdk.outcomes import TrackedMany
from client_sdk.ports import Clock
from client_sdk.signals import kept
from client_sdk.signals.activity import Activity
from client_sdk.signals.digest import Digest
from client_sdk.signals.events import Event
from client_sdk.signals.features.context import Context
from client_sdk.signals.features.feature_set import FeatureSet
from client_sdk.signals.features.vector import FeatureVector
from client_sdk.signals.quality import (
    Intake,
    QualityCounters,
    QualityRules,
    Quarantined,
    Rejected,
    set_aside,
)
from client_sdk.signals.retention import RetentionPolicy, choose_evicted
from client_sdk.signals.taxonomy import STANDARD, Taxonomy
from client_sdk.signals.vault import Record, Vault
from client_sdk.wire import Catalogue, Purpose

SNAPSHOT_EVERY: Final = 4_000
"""After how many events the digest is written anew; a kill costs at most as many to fold again."""

_HASHED: Final = re.compile(r"account:[0-9a-f]{32}\Z")
_DAY_S: Final = 86_400.0


class ConsentGate(Protocol):
    """Answers whether there is a yes to a purpose now."""

    def allows(self, purpose: Purpose | str) -> bool:
        """Say whether there is a yes."""
        ...

    def require(self, purpose: Purpose | str) -> None:
        """Raise `ConsentRequiredError` where there is none."""
        ...


class Listener(Protocol):
    """Hears of new events, and keeps what it makes of them in their transaction."""

    def heard(self, events: Sequence[Event]) -> Sequence[Record]:
        """Give the records to write with the events; nothing counts yet."""
        ...

    def kept(self) -> None:
        """Let count what was heard last: it is written."""
        ...


@dataclass(frozen=True, kw_only=True)
class SignalRules:
    """What an app decides about its events.

    Attributes:
        taxonomy: The kinds that there are: the standard ones, and the app's own.
        quality: What counts as late, as ahead, and how much is set aside.
        retention: How long each kind is kept, and how many events at most.
        features: The features that are computed: the standard ones, and the app's own.
    """

    taxonomy: Taxonomy = STANDARD
    quality: QualityRules = dataclasses.field(default_factory=QualityRules)
    retention: RetentionPolicy = dataclasses.field(default_factory=RetentionPolicy)
    features: FeatureSet = dataclasses.field(default_factory=FeatureSet)


@dataclass(frozen=True, kw_only=True)
class Tidied:
    """What `Signals.tidy` let go: events past their time, and events beyond the store's bound."""

    expired: int
    evicted: int


class Signals:
    """The room of events; `Homebody` makes it.

    Args:
        vault: Keeps the events.
        consent: Is asked before anything is taken in or read.
        clock: Tells the time.
        lock: Shared with whoever else uses the vault.
        rules: What the app decided.
        catalogue: Gives the items in use.
        listener: Hears of the events that are new.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        consent: ConsentGate,
        clock: Clock,
        lock: AbstractContextManager[object],
        rules: SignalRules,
        catalogue: Callable[[], Catalogue],
        listener: Listener,
    ) -> None:
        self._vault = vault
        self._consent = consent
        self._clock = clock
        self._lock = lock
        self._rules = rules
        self._catalogue = catalogue
        self._listener = listener
        self._intake = Intake(rules.taxonomy, rules.quality, self._oldest_s)
        self._counters = kept.read_counters(vault)
        self._digest, self._not_in_snapshot = kept.restored_digest(vault, rules.features)
        self._counted = False
        self._account_key: bytes | None = None
        if self._overdue():
            with suppress(VaultError):
                self.tidy()

    @property
    def count(self) -> int:
        """How many events are kept."""
        with self._lock:
            return self._digest.n_events

    def count_by_kind(self) -> dict[str, int]:
        """How many events of each kind are kept."""
        with self._lock:
            return self._digest.n_by_kind

    def take_in(
        self, raws: Iterable[Event | Mapping[str, Any]], *, quarantine: bool = False
    ) -> TrackedMany:
        """Keep the events that are new, in one transaction.

        Args:
            raws: Events, or their JSON form.
            quarantine: Set bad events aside, with reasons, and keep the others.

        Raises:
            EventError: one is not valid, and ``quarantine`` is off; nothing was kept.
            VaultError: they could not be written; nothing was kept.
        """
        batch = list(raws)
        with self._lock:
            if not self._consent.allows(Purpose.PERSONALISE):
                self._count(QualityCounters(without_consent=len(batch)))
                return TrackedMany(without_consent=len(batch))
            now_s = self._clock.now_s()
            checked = self._intake.check_many(
                batch,
                now_s=now_s,
                latest_s=self._digest.latest_s,
                known_items=self._catalogue().position,
            )
            if checked.rejected and not quarantine:
                self._count(QualityCounters(rejected=checked.counters.rejected))
                raise checked.rejected[0].error
            events = [
                self._without_account(event) if event.user_id else event for event in checked.events
            ]
            counters = checked.counters
            aside, counters.quarantined_dropped = self._set_aside(checked.rejected, now_s)
            stored = self._vault.append(
                events, lambda stored: [*aside, *self._listener.heard(_new(events, stored))]
            )
            new = _new(events, stored)
            counters.accepted, counters.duplicates = len(new), len(events) - len(new)
            self._listener.kept()
            self._digest.add(new)
            self._count(counters)
            self._not_in_snapshot += len(new)
            # The events are kept: what fails now is tried again after the next ones.
            with suppress(VaultError):
                self._keep_house()
            return TrackedMany(
                stored=counters.accepted,
                duplicates=counters.duplicates,
                rejected=len(checked.rejected),
            )

    def check(self, raws: Iterable[Event | Mapping[str, Any]]) -> list[Rejected]:
        """Say which events would be refused, and why; nothing is kept or counted."""
        with self._lock:
            return self._intake.check_many(raws, now_s=self._clock.now_s()).rejected

    def history(self, purpose: Purpose, position: Mapping[str, int]) -> History:
        """Read what the ranker and the federated tasks use; counts and last times of items.

        Args:
            purpose: What for.
            position: Item id to row of the catalogue.

        Raises:
            ConsentRequiredError: no yes to the purpose, or to personalise.
        """
        with self._lock:
            self._require(purpose)
            return self._digest.history(position, now_s=self._clock.now_s())

    def activity(self, purpose: Purpose) -> Activity:
        """Read what was done with each item; valid under the lock that this object shares.

        Raises:
            ConsentRequiredError: no yes to the purpose, or to personalise.
        """
        with self._lock:
            self._require(purpose)
            return self._digest.activity

    def taste(self, purpose: Purpose, position: Mapping[str, int]) -> tuple[History, Activity]:
        """Read the history, and what was done with each item, to rank and to say why.

        Returns:
            The history, and the `activity`.

        Raises:
            ConsentRequiredError: no yes to the purpose, or to personalise.
        """
        with self._lock:
            return self.history(purpose, position), self._digest.activity

    def last_s(self, purpose: Purpose, kind: str) -> float | None:
        """Read when a kind of event last happened, seconds since 1970 (UTC); None for never.

        Raises:
            ConsentRequiredError: no yes to the purpose, or to personalise.
        """
        with self._lock:
            self._require(purpose)
            return self._digest.last_s(kind)

    def features(self, purpose: Purpose, context: Context | None = None) -> FeatureVector:
        """Read every feature as it is now.

        Raises:
            ConsentRequiredError: no yes to the purpose, or to personalise.
        """
        with self._lock:
            self._require(purpose)
            now_s = self._clock.now_s()
            return self._digest.features(self._catalogue(), now_s=now_s, context=context)

    def events(self, purpose: Purpose) -> list[Event]:
        """Read the events themselves, in the order in which they came.

        Raises:
            ConsentRequiredError: no yes to the purpose, or to personalise.
        """
        with self._lock:
            self._require(purpose)
            return list(self.own_events())

    def own_events(self) -> Iterator[Event]:
        """Give the person's events to the person: an export, a look, a merge of their profiles."""
        return (event for _, event in self._vault.events())

    def quality(self) -> QualityCounters:
        """How the events were that came: counts, nothing of a person's data."""
        with self._lock:
            return dataclasses.replace(self._counters)

    def quarantined(self) -> list[Quarantined]:
        """The refused events that are set aside, oldest first."""
        with self._lock:
            return kept.read_quarantine(self._vault)

    def tidy(self) -> Tidied:
        """Let go of what is past its time or beyond the store's bound, and merge small pages.

        It costs about as much as reading the store: call it where the device is idle.
        """
        with self._lock:
            now_s = self._clock.now_s()
            retention = self._rules.retention
            expired = evicted = 0
            if self._any_expired(now_s):
                expired = self._remove(lambda event: not retention.expired(event, now_s))
            if self._digest.n_events > retention.max_events:
                gone = choose_evicted(self.own_events(), retention)
                evicted = self._remove(lambda event: event.event_id not in gone)
            self._vault.compact()
            self._snapshot()
            return Tidied(expired=expired, evicted=evicted)

    def equals_refold(self) -> bool:
        """Say whether the digest is what folding every event again gives."""
        with self._lock:
            again = Digest(self._rules.features)
            again.add(list(self.own_events()))
            return again.to_bytes() == self._digest.to_bytes()

    def close(self) -> None:
        """Write the digest, so that the next opening reads it; the vault stays open."""
        with self._lock:
            if self._not_in_snapshot or self._counted:
                with suppress(VaultError):
                    self._snapshot()

    def forget(self) -> None:
        """Drop what is in memory, after the vault was erased."""
        with self._lock:
            self._digest = Digest(self._rules.features)
            self._not_in_snapshot, self._counted = 0, False

    def _keep_house(self) -> None:
        if self._digest.n_events > self._rules.retention.max_events:
            self.tidy()
        elif self._not_in_snapshot >= SNAPSHOT_EVERY:
            self._snapshot()

    def _require(self, purpose: Purpose) -> None:
        self._consent.require(purpose)
        if purpose is not Purpose.PERSONALISE:
            self._consent.require(Purpose.PERSONALISE)

    def _count(self, more: QualityCounters) -> None:
        self._counters.add(more)
        self._counted = True

    def _oldest_s(self, kind: str) -> float:
        return self._rules.retention.oldest_s(kind, self._clock.now_s())

    def _any_expired(self, now_s: float) -> bool:
        oldest_of = self._rules.retention.oldest_s
        return any(
            oldest_s < oldest_of(kind, now_s) for kind, oldest_s in self._digest.oldest_s.items()
        )

    def _overdue(self) -> bool:
        return (
            self._any_expired(self._clock.now_s() - _DAY_S)
            or self._digest.n_events > self._rules.retention.max_events
        )

    def _remove(self, keep: Callable[[Event], bool]) -> int:
        removed = self._vault.remove(keep)
        self._digest = Digest(self._rules.features)
        self._digest.add(list(self.own_events()))
        return removed

    def _snapshot(self) -> None:
        self._vault.write(kept.snapshot(self._digest, self._vault), kept.counters(self._counters))
        self._not_in_snapshot, self._counted = 0, False

    def _set_aside(self, rejected: Sequence[Rejected], now_s: float) -> tuple[list[Record], int]:
        if not rejected:
            return [], 0
        rules = self._rules.quality
        more = [one.quarantined(received_s=now_s, rules=rules) for one in rejected]
        held, dropped = set_aside(
            kept.read_quarantine(self._vault), more, limit=rules.max_quarantined
        )
        return [kept.quarantine(held)], dropped

    def _without_account(self, event: Event) -> Event:
        if _HASHED.match(event.user_id):
            return event
        if self._account_key is None:
            self._account_key = kept.account_key(self._vault)
        digest = hmac.digest(self._account_key, event.user_id.encode(), "sha256")
        return dataclasses.replace(event, user_id=f"account:{digest.hex()[:32]}")


def _new(events: Sequence[Event], stored: Sequence[bool]) -> list[Event]:
    return [event for event, is_new in zip(events, stored, strict=True) if is_new]
