"""`Homebody`: the one object that an app opens. It connects the rooms and decides nothing itself.

Ten lines to a first recommendation, offline:

>>> import tempfile
>>> from pathlib import Path
>>> from client_sdk.testing import FixedClock, MemoryKeyStore, sample_catalogue
>>> folder = tempfile.TemporaryDirectory()
>>> home = Homebody.open(Path(folder.name) / "home", catalogue=sample_catalogue(),
...                      key_store=MemoryKeyStore(), clock=FixedClock())
>>> home.consent.grant("personalise")
>>> home.track("purchase", item="green-tea").stored
True
>>> best = home.rank(k=1)[0]
>>> best.name, best.reason
('Green tea', 'You bought it.')
>>> home.close(); folder.cleanup()

Rules a reader can check line by line:

1. Without consent to personalise, or during a pause, nothing is stored, and `Homebody.rank` answers
   with the list that everybody gets. Both hold from the call after a withdrawal on.
2. Everything works offline and before any model.
3. One lock: an object may be shared by threads. The work of a federated task runs outside of it.

More than 400 lines: all that an app calls stands on one page, and most of it says what that does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import TracebackType
from typing import Self

from client_sdk.anticipator import Anticipator
from client_sdk.archive import archive_lines, read_archive, write_archive
from client_sdk.catalogue_updates import CatalogueUpdates
from client_sdk.clock import SystemClock
from client_sdk.errors import ConsentRequiredError
from client_sdk.experience.decider import Decider
from client_sdk.experience.decision_log import DecisionLog
from client_sdk.experience.decisions import Decision
from client_sdk.experience.experiments.desk import Desk
from client_sdk.experience.experiments.experiment import Experiment
from client_sdk.experience.experiments.log import EXPERIMENT_STREAM
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.journeys.desk import JourneyDesk
from client_sdk.experience.journeys.store import STREAM as JOURNEY_STREAM
from client_sdk.experience.journeys.store import JourneyStore
from client_sdk.experience.person import PersonReader, Shop
from client_sdk.experience.preferences import NO_PREFERENCES, PreferenceCentre
from client_sdk.experience.review import OutcomeWindows
from client_sdk.experience.scoring import Scorer
from client_sdk.federation.consent import CONSENT_STREAM, ConsentAnswer, ConsentCentre
from client_sdk.federation.eligibility import EligibilityRules
from client_sdk.federation.encoders import EncoderInput
from client_sdk.federation.participant import DeviceState, Participant
from client_sdk.federation.transparency import TRANSPARENCY_STREAM, TransparencyEntry
from client_sdk.installed import (
    InstalledRelease,
    ReleaseSource,
    active_release,
    without_release,
)
from client_sdk.intelligence.anticipation import Anticipation
from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.history import History
from client_sdk.keys import DeviceKey, FileKeyStore
from client_sdk.learned_models import LearnedModels
from client_sdk.opening import delivery_of, policy_of, signer_of
from client_sdk.outcomes import (
    DUPLICATE,
    NO_CONSENT,
    STORED,
    Imported,
    Tracked,
    TrackedMany,
    UpdateResult,
)
from client_sdk.ports import Clock, Connection, DeviceConditions, KeyStore
from client_sdk.shelf import RankedItem, ShelfMemory, rank_items, similar_items
from client_sdk.signals.activity import Activity
from client_sdk.signals.events import Event, EventKind, PropertyValue, new_event_id
from client_sdk.signals.features import Context, FeatureVector
from client_sdk.signals.signals import SignalRules, Signals
from client_sdk.signals.vault import Vault
from client_sdk.storefront import Storefront
from client_sdk.wire import Catalogue, ConsentPolicy, Purpose


class Homebody:
    """Everything about one person on one device; make one with `Homebody.open`."""

    def __init__(
        self,
        *,
        vault: Vault,
        signer: DeviceKey,
        clock: Clock,
        installed: InstalledRelease,
        releases: ReleaseSource | None,
        rules: SignalRules,
        experiments: Sequence[Experiment],
        conditions: DeviceConditions | None = None,
        eligibility: EligibilityRules | None = None,
    ) -> None:
        self._vault = vault
        self._open = True
        self._clock = clock
        self._lock = threading.RLock()
        self._device = signer.public_key_hex
        self._preferences = PreferenceCentre(vault=vault, clock=clock, lock=self._lock)
        self._shelf = ShelfMemory()
        self._consent = ConsentCentre(
            vault=vault,
            signer=signer,
            policy=installed.policy,
            clock=clock,
            lock=self._lock,
            answers=[
                ConsentAnswer.from_json(record.value) for record in vault.records(CONSENT_STREAM)
            ],
            paused=self._preferences.paused,
            withdrawn=self._forget_withdrawn,
        )
        self._shop = Storefront(
            vault=vault,
            lock=self._lock,
            installed=installed,
            releases=releases,
            features=rules.features.names,
            swapped=self._swapped,
        )
        self._decider: Decider | None = None
        self._own_guardrails = GuardrailPolicy()
        self._experiments = Desk(
            vault=vault,
            consent=self._consent,
            clock=clock,
            lock=self._lock,
            experiments=experiments,
        )
        self._signals = Signals(
            vault=vault,
            consent=self._consent,
            clock=clock,
            lock=self._lock,
            rules=rules,
            catalogue=lambda: self.catalogue,
            listener=self._experiments,
        )
        self._journeys = JourneyDesk(
            store=JourneyStore(vault=vault, lock=self._lock),
            consent=self._consent,
            clock=clock,
            lock=self._lock,
            features=lambda context: self._signals.features(Purpose.PERSONALISE, context),
            preferences=self._preferences.current,
            decider=self.decider,
            item=self._shop.item,
            key=self._device,
        )
        self._journeys.take_release(installed.programmes)
        self._anticipator = Anticipator(
            signals=self._signals,
            catalogue=lambda: self.catalogue,
            clock=clock,
            lock=self._lock,
        )
        self._models = LearnedModels(
            vault=vault,
            consent=self._consent,
            clock=clock,
            lock=self._lock,
            priors=lambda: self._shop.installed.bandits,
        )
        self._participant = Participant(
            vault=vault,
            consent=self._consent,
            signer=signer,
            clock=clock,
            lock=self._lock,
            device_state=self._device_state,
            conditions=conditions,
            rules=eligibility,
        )

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        catalogue: Catalogue | None = None,
        policy: ConsentPolicy | None = None,
        key_store: KeyStore | None = None,
        clock: Clock | None = None,
        server_url: str | None = None,
        trusted_root: bytes | None = None,
        releases: ReleaseSource | None = None,
        rules: SignalRules | None = None,
        experiments: Sequence[Experiment] = (),
        conditions: DeviceConditions | None = None,
        eligibility: EligibilityRules | None = None,
    ) -> Self:
        """Open the store of one person, or make a new one.

        Args:
            path: A directory of its own, for one person; made where it does not exist.
            catalogue: What the app can show before its first release; later the release's counts.
            policy: The consent text before the first release; later the release's counts. By
                default what the store was last opened with, or the SDK's own.
            key_store: Where the vault's key lies. By default files in ``<path>.keys``, beside the
                store: an app on a phone passes the platform's key store.
            clock: By default the operating system's.
            server_url: The model server; with ``trusted_root`` it makes `update` work.
            trusted_root: The first TUF root metadata, shipped with the app.
            releases: Another source of releases, instead of those two.
            rules: Own kinds of events, own features, how long what is kept; see `SignalRules`.
            experiments: Those that run now.
            conditions: Tells whether the device is idle, charging and so on. Without it the app
                chooses the moment: it calls `participate` when it suits.
            eligibility: When the device takes part in learning together.

        Raises:
            VaultError: already open, its key is lost, or the store is damaged.
            ValueError: a server without a trusted root, or the other way round.
        """
        folder = Path(path)
        known = rules or SignalRules()
        features = known.features.names
        source = releases or delivery_of(folder, server_url, trusted_root, features=features)
        keys = key_store or FileKeyStore(folder.with_name(f"{folder.name}.keys"))
        vault = Vault.open(folder, keys)
        try:
            return cls(
                vault=vault,
                signer=signer_of(vault),
                clock=clock or SystemClock(),
                installed=active_release(source, features=features)
                or without_release(catalogue, policy_of(vault, policy)),
                releases=source,
                rules=known,
                experiments=experiments,
                conditions=conditions,
                eligibility=eligibility,
            )
        except BaseException:
            vault.close()
            raise

    @property
    def consent(self) -> ConsentCentre:
        """What the person said yes to; ask there, withdraw there."""
        return self._consent

    @property
    def preferences(self) -> PreferenceCentre:
        """What the person wants more or less of, by which channels, and their pause."""
        return self._preferences

    @property
    def signals(self) -> Signals:
        """The events: how many, how good, read for a purpose, tidied."""
        return self._signals

    @property
    def experiments(self) -> Desk:
        """Which arm of an experiment the person is to see; say there when it was shown."""
        return self._experiments

    @property
    def journeys(self) -> JourneyDesk:
        """What journeys say next, each proposal judged by `decider`; and where the person is."""
        return self._journeys

    @property
    def models(self) -> LearnedModels:
        """What models of this device learned: ask for one there, and keep what it learned."""
        return self._models

    @property
    def device(self) -> str:
        """The device's pseudonym: its public key in hexadecimal. An aggregator enrols it."""
        return self._device

    @property
    def catalogue(self) -> Catalogue:
        """The items in use: the active release's, or the app's, with what changed since."""
        return self._shop.assortment().catalogue

    @property
    def version(self) -> int:
        """The number of the active release; 0 before any."""
        return self._shop.installed.version

    def track(
        self,
        kind: EventKind | str,
        *,
        item: str | None = None,
        time_s: float | None = None,
        event_id: str | None = None,
        quantity: float | None = None,
        price: float | None = None,
        **properties: PropertyValue,
    ) -> Tracked:
        """Store one thing that the person did, if they consented to it.

        Args:
            kind: One of `EventKind`, such as ``"product_view"``, or one of the app's own kinds.
            item: The item's id; it need not be in the catalogue.
            time_s: When, seconds since 1970 (UTC); now by default.
            event_id: The app's id of the event; a second event with it is not stored.
            quantity: Above 0.
            price: Of one piece.
            properties: Further facts.

        Raises:
            ValueError: a field is not as promised; nothing was stored.
            VaultError: the event could not be written; nothing was stored.
        """
        event = Event(
            kind=kind,
            time_s=self._clock.now_s() if time_s is None else time_s,
            event_id=new_event_id() if event_id is None else event_id,
            item_id=item,
            quantity=quantity,
            price=price,
            properties=properties,
        )
        tracked = self._signals.take_in((event,))
        if tracked.without_consent:
            return Tracked(stored=False, reason=NO_CONSENT)
        if tracked.duplicates:
            return Tracked(stored=False, reason=DUPLICATE)
        return Tracked(stored=True, reason=STORED)

    def track_many(
        self, events: Iterable[Event | Mapping[str, object]], *, quarantine: bool = False
    ) -> TrackedMany:
        """Store many events in one transaction: all that are new, or none.

        Args:
            events: Events, or their JSON form (see `Event.from_json`).
            quarantine: Set events that are not valid aside, with reasons, and store the others.

        Raises:
            ValueError: one of the events is not valid, and ``quarantine`` is off; nothing was
                stored.
            VaultError: they could not be written; nothing was stored.
        """
        return self._signals.take_in(events, quarantine=quarantine)

    def rank(
        self,
        candidates: Sequence[str] | None = None,
        *,
        k: int = 10,
        slot: str = "home",
        include_owned: bool = True,
        in_stock_only: bool = True,
    ) -> list[RankedItem]:
        """Sort what the app could show for this person, and say why.

        Args:
            candidates: Item ids; the whole catalogue by default. Ids that the catalogue does not
                have are left out.
            k: At most how many, 0 or more.
            slot: The place in the app; it does not change the order yet.
            include_owned: False leaves out what the person bought and kept.
            in_stock_only: False shows what is sold out too.

        Returns:
            The best first; what the person wants less of, last. Without consent to personalise:
            the order that everybody gets.
        """
        if not slot:
            raise ValueError("slot: expected the name of a place in the app; got none")
        with self._lock:
            try:
                history, activity = self._signals.taste(
                    Purpose.PERSONALISE, self._shop.assortment().position
                )
                preferences, memory = self._preferences.current(), self._shelf
            except ConsentRequiredError:
                # A yes also ends by time, by a new text and by a pause.
                self._shelf.forget()
                history, activity = History.empty(now_s=self._clock.now_s()), Activity()
                preferences, memory = NO_PREFERENCES, None
            return rank_items(
                self._shop.installed,
                history=history,
                activity=activity,
                candidates=candidates,
                k=k,
                include_owned=include_owned,
                preferences=preferences,
                updates=self._shop.updates,
                in_stock_only=in_stock_only,
                memory=memory,
            )

    def features(self, context: Context | None = None) -> FeatureVector:
        """Read every feature of the person as it is now: numbers for a model, words for them.

        Args:
            context: The local time, the kind of device and the coarse region; unknown by default.

        Raises:
            ConsentRequiredError: no consent to personalise.
        """
        return self._signals.features(Purpose.PERSONALISE, context)

    def anticipate(self, *, utc_offset_s: int = 0) -> tuple[Anticipation, ...]:
        """Say what the person may need next: what is due, whether they may leave, what changed.

        Args:
            utc_offset_s: Local time minus UTC, seconds, within 15 hours: where a month begins.

        Returns:
            Each with a sentence for the person and how sure it is; nothing where too little is
            known. See `client_sdk.intelligence.anticipation`.

        Raises:
            ConsentRequiredError: no consent to personalise.
        """
        return self._anticipator.anticipate(utc_offset_s=utc_offset_s)

    def decider(
        self,
        policy: GuardrailPolicy | None = None,
        *,
        scorer: Scorer | None = None,
        windows: OutcomeWindows | None = None,
        active_offers: Callable[[], AbstractSet[str]] = frozenset,
    ) -> Decider:
        """Give what decides the next best action for this person.

        A store has one: the first call makes it, a later one changes its guardrails.

        Args:
            policy: The app's guardrails; an empty one refuses everything. None for those in use.
                They count until a release brings some; rules of the app's own count in any case.
            scorer: Scores the actions; by default what their kinds earned so far.
            windows: For how long an outcome counts.
            active_offers: Gives ids of actions and items whose offer is active.

        Returns:
            The decider of this store; it ends with it.

        Raises:
            ValueError: a later call says more than the guardrails.
        """
        if self._decider is not None:
            if scorer is not None or windows is not None or active_offers is not frozenset:
                raise ValueError("the store has a decider: only its policy can be changed")
            if policy is not None:
                self._own_guardrails = policy
                self._decider.change_policy(self._guardrails())
            return self._decider
        if policy is not None:
            self._own_guardrails = policy
        signals, personalise = self._signals, Purpose.PERSONALISE
        person = PersonReader(
            features=lambda context: signals.features(personalise, context),
            activity=lambda: signals.activity(personalise),
            last_s=lambda kind: signals.last_s(personalise, kind),
            n_events=lambda: signals.count,
        )
        self._decider = Decider(
            store=self._vault,
            consent=self._consent,
            clock=self._clock,
            lock=self._lock,
            person=person,
            preferences=self._preferences.current,
            policy=self._guardrails(),
            scorer=scorer,
            shop=Shop(sold_out=self._shop.sold_out, active_offers=active_offers),
            windows=windows,
        )
        return self._decider

    def similar(self, item_id: str, k: int = 10) -> list[RankedItem]:
        """Give items like one item; nothing of the person is used.

        Returns:
            The most alike first; of one category where nothing was learned yet; empty for an item
            that the catalogue does not have.
        """
        return similar_items(self._shop.installed, item_id, k, updates=self._shop.updates)

    def update_catalogue(self, updates: CatalogueUpdates) -> None:
        """Take what changed in the shop since the release: prices, stock, items gone, items new.

        It counts from the next call on, on top of earlier updates, until the next release, whose
        catalogue is the newer one.

        Raises:
            VaultError: it could not be written; nothing changed.
        """
        self._shop.change(updates)

    def update(self) -> UpdateResult:
        """Ask for a new release, and use it if it is good. The only door in.

        Raises:
            ReleaseRejectedError: it was refused; the last good one stays in use.
            ServerUnreachableError: no answer; nothing changed.
            ValueError: `open` got no server.
        """
        return self._shop.update()

    def participate(self, connection: Connection, *, timeout_s: float = 0.0) -> int:
        """Answer the aggregator's messages, and say how many there were. The only door out."""
        return connection.exchange(self.answer, timeout_s=timeout_s)

    def answer(self, frame: bytes) -> bytes:
        """Answer one invitation or order; see `Participant.answer`. Never raises."""
        return self._participant.answer(frame)

    def transparency(self) -> list[TransparencyEntry]:
        """Everything that left this device, oldest first; each entry has a plain `sentence`."""
        with self._lock:
            return [
                TransparencyEntry.from_json(record.value)
                for record in self._vault.records(TRANSPARENCY_STREAM)
            ]

    def export(self, path: Path | str) -> int:
        """Write everything about the person to a file: JSON Lines, for the owner only.

        Returns:
            How many lines; `client_sdk.archive` says what they hold.
        """
        with self._lock:
            return write_archive(
                Path(path),
                archive_lines(
                    device=self._device,
                    preferences=self._preferences.current(),
                    events=self._signals.own_events(),
                    quarantined=self._signals.quarantined(),
                    answers=self._consent.history(),
                    sent=self.transparency(),
                    decisions=self._decisions(),
                    experiments=self._vault.records(EXPERIMENT_STREAM),
                    models=self._models.export_lines(),
                    journeys=self._vault.records(JOURNEY_STREAM),
                ),
            )

    def import_from(self, path: Path | str) -> Imported:
        """Take the events and the preferences of an export: all of them, or none.

        Raises:
            ConsentRequiredError: no consent to personalise, so nothing may be stored.
            ArchiveRejectedError: the file is no whole export, or an event in it is not valid.
            OSError: the file cannot be read.
        """
        archive = read_archive(Path(path))
        with self._lock:
            self._consent.require(Purpose.PERSONALISE)
            taken = archive.events_to_take(self._signals.check(archive.events))
            done = self._signals.take_in(taken)
            if archive.preferences is not None:
                self._preferences.unite(archive.preferences)
        return Imported(
            events=done.stored,
            duplicates=done.duplicates,
            expired=len(archive.events) - len(taken),
            left_behind=archive.left_behind,
        )

    def rotate_keys(self) -> None:
        """Make the store's keys anew and seal everything under them; the old key is destroyed.

        Raises:
            VaultError: the disk or the key store refused; nothing was lost.
        """
        with self._lock:
            self._vault.rotate_keys()

    def erase(self) -> None:
        """Destroy the vault's key, then its files, and close: nothing can be restored."""
        with self._lock:
            self._shelf.forget()
            self._vault.erase()
            self._open = False
            self._signals.forget()
            self._models.drop_memory()
            self._anticipator.forget()
            if self._decider is not None:
                self._decider.forget()

    def close(self) -> None:
        """Close the store; closing twice is fine."""
        with self._lock:
            self._shelf.forget()
            if self._open:
                self._open = False
                try:
                    self._models.close()
                    self._signals.close()
                finally:
                    self._vault.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _forget_withdrawn(self) -> None:
        self._shelf.forget()
        self._models.forget_withdrawn()
        self._anticipator.forget()

    def _guardrails(self) -> GuardrailPolicy:
        released = self._shop.installed.guardrails
        if released is None:
            return self._own_guardrails
        return released.and_also(*self._own_guardrails.own_rules)

    def _swapped(self, installed: InstalledRelease) -> None:
        """Use the parts of a new release, all of them between two calls."""
        self._consent.change_policy(installed.policy)
        self._journeys.take_release(installed.programmes)
        if self._decider is not None:
            self._decider.change_policy(self._guardrails())

    def _decisions(self) -> tuple[Decision, ...]:
        if self._decider is not None:
            return self._decider.decisions()
        return DecisionLog(self._vault).decisions()

    def _device_state(self) -> DeviceState | None:
        installed = self._shop.installed
        if not installed.version:
            return None
        return DeviceState(
            aggregator_key=installed.aggregator_key,
            catalogue_sha256=installed.catalogue.sha256,
            given=lambda purpose: EncoderInput(
                history=self._signals.history(purpose, installed.catalogue.position),
                n_items=len(installed.catalogue.items),
                graph=installed.graph,
                settings=None if installed.graph is None else installed.table.settings,
                experiments=self._experiments.outcomes(),
                bandits=self._models.evidence(),
                propensities=self._models.cases(),
                features=lambda: self._signals.features(purpose),
                categories=lambda: ItemCategories.from_names(
                    [item.category for item in installed.catalogue.items]
                ),
            ),
        )
