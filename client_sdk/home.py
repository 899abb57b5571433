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

1. Without consent to personalise nothing is stored, and `Homebody.rank` answers with the list that
   everybody gets. Both hold from the call after a withdrawal on.
2. Everything works offline and before any model.
3. One lock: an object may be shared by threads. The work of a federated task runs outside of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from client_sdk.clock import SystemClock
from client_sdk.export import export_lines, write_export
from client_sdk.federation.consent import CONSENT_STREAM, ConsentAnswer, ConsentCentre
from client_sdk.federation.encoders import EncoderInput
from client_sdk.federation.participant import DeviceState, Participant
from client_sdk.federation.transparency import TRANSPARENCY_STREAM, TransparencyEntry
from client_sdk.installed import (
    InstalledRelease,
    ReleaseSource,
    active_release,
    check,
    without_release,
)
from client_sdk.intelligence.history import History
from client_sdk.keys import DeviceKey, FileKeyStore
from client_sdk.outcomes import DUPLICATE, NO_CONSENT, STORED, Tracked, TrackedMany, UpdateResult
from client_sdk.ports import Clock, Connection, KeyStore
from client_sdk.shelf import RankedItem, rank_items, similar_items
from client_sdk.signals.activity import Activity
from client_sdk.signals.events import Event, EventKind, PropertyValue, new_event_id
from client_sdk.signals.vault import Record, Vault
from client_sdk.wire import DEFAULT_POLICY, Catalogue, ConsentPolicy, Purpose

_IDENTITY: Final = ("identity", "device")
_DELIVERY_FOLDER: Final = "delivery"


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
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._installed = installed
        self._releases = releases
        self._lock = threading.RLock()
        self._updating = threading.Lock()
        self._not_stored = 0
        self._activity = Activity(event for _, event in vault.events())
        self._consent = ConsentCentre(
            vault=vault,
            signer=signer,
            policy=installed.policy,
            clock=clock,
            lock=self._lock,
            answers=[
                ConsentAnswer.from_json(record.value)
                for record in vault.records()
                if record.stream == CONSENT_STREAM
            ],
        )
        self._participant = Participant(
            vault=vault,
            consent=self._consent,
            signer=signer,
            clock=clock,
            lock=self._lock,
            device_state=self._device_state,
        )
        self._device = signer.public_key_hex

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        catalogue: Catalogue | None = None,
        policy: ConsentPolicy = DEFAULT_POLICY,
        key_store: KeyStore | None = None,
        clock: Clock | None = None,
        server_url: str | None = None,
        trusted_root: bytes | None = None,
        releases: ReleaseSource | None = None,
    ) -> Self:
        """Open the store of one person, or make a new one.

        Args:
            path: A directory of its own, for one person; made where it does not exist.
            catalogue: What the app can show before its first release; later the release's counts.
            policy: The consent text before the first release; later the release's counts.
            key_store: Where the vault's key lies. By default files in ``<path>.keys``, beside the
                store: an app on a phone passes the platform's key store.
            clock: By default the operating system's.
            server_url: The model server; with ``trusted_root`` it makes `update` work.
            trusted_root: The first TUF root metadata, shipped with the app.
            releases: Another source of releases, instead of those two.

        Raises:
            VaultError: already open, its key is lost, or the store is damaged.
            ValueError: a server without a trusted root, or the other way round.
        """
        folder = Path(path)
        source = releases or _delivery(folder, server_url, trusted_root)
        keys = key_store or FileKeyStore(folder.with_name(f"{folder.name}.keys"))
        vault = Vault.open(folder, keys)
        try:
            return cls(
                vault=vault,
                signer=_signer(vault),
                clock=clock or SystemClock(),
                installed=active_release(source) or without_release(catalogue, policy),
                releases=source,
            )
        except BaseException:
            vault.close()
            raise

    @property
    def consent(self) -> ConsentCentre:
        """What the person said yes to; ask there, withdraw there."""
        return self._consent

    @property
    def device(self) -> str:
        """The device's pseudonym: its public key in hexadecimal. An aggregator enrols it."""
        return self._device

    @property
    def catalogue(self) -> Catalogue:
        """The items in use: the active release's, or the app's."""
        return self._installed.catalogue

    @property
    def version(self) -> int:
        """The number of the active release; 0 before any."""
        return self._installed.version

    @property
    def not_stored(self) -> int:
        """How many events were dropped for want of consent since `open`."""
        return self._not_stored

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
            kind: One of `EventKind`, such as ``"product_view"`` or ``"purchase"``.
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
        tracked = self.track_many((event,))
        if tracked.without_consent:
            return Tracked(stored=False, reason=NO_CONSENT)
        if tracked.duplicates:
            return Tracked(stored=False, reason=DUPLICATE)
        return Tracked(stored=True, reason=STORED)

    def track_many(self, events: Iterable[Event | Mapping[str, object]]) -> TrackedMany:
        """Store many events in one transaction: all that are new, or none.

        Args:
            events: Events, or their JSON form (see `Event.from_json`).

        Raises:
            ValueError: one of the events is not valid; nothing was stored.
            VaultError: they could not be written; nothing was stored.
        """
        batch = [event if isinstance(event, Event) else Event.from_json(event) for event in events]
        with self._lock:
            if not self._consent.allows(Purpose.PERSONALISE):
                self._not_stored += len(batch)
                return TrackedMany(without_consent=len(batch))
            stored = self._vault.append(batch)
            for event, new in zip(batch, stored, strict=True):
                if new:
                    self._activity.add(event)
        return TrackedMany(stored=sum(stored), duplicates=len(stored) - sum(stored))

    def rank(
        self,
        candidates: Sequence[str] | None = None,
        *,
        k: int = 10,
        slot: str = "home",
        include_owned: bool = True,
    ) -> list[RankedItem]:
        """Sort what the app could show for this person, and say why.

        Args:
            candidates: Item ids; the whole catalogue by default. Ids that the catalogue does not
                have are left out.
            k: At most how many, 0 or more.
            slot: The place in the app; it does not change the order yet.
            include_owned: False leaves out what the person bought and kept.

        Returns:
            The best first. Without consent to personalise: the order that everybody gets.
        """
        if not slot:
            raise ValueError("slot: expected the name of a place in the app; got none")
        with self._lock:
            personal = self._consent.allows(Purpose.PERSONALISE)
            return rank_items(
                self._installed,
                history=self._history(),
                activity=self._activity if personal else Activity(),
                candidates=candidates,
                k=k,
                include_owned=include_owned,
            )

    def similar(self, item_id: str, k: int = 10) -> list[RankedItem]:
        """Give items like one item; nothing of the person is used.

        Returns:
            The most alike first; of one category where nothing was learned yet; empty for an item
            that the catalogue does not have.
        """
        return similar_items(self._installed, item_id, k)

    def update(self) -> UpdateResult:
        """Ask for a new release, and use it if it is good. The only door in.

        Raises:
            ReleaseRejectedError: it was refused; the last good one stays in use.
            ServerUnreachableError: no answer; nothing changed.
            ValueError: `open` got no server.
        """
        if self._releases is None:
            raise ValueError("no server: open with server_url and trusted_root")
        with self._updating:
            release = self._releases.fetch()
            if release is None:
                return UpdateResult(updated=False, version=self.version)
            installed = check(release)
            with self._lock:
                self._installed = installed
                self._consent.change_policy(installed.policy)
        return UpdateResult(updated=True, version=installed.version)

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
                for record in self._vault.records()
                if record.stream == TRANSPARENCY_STREAM
            ]

    def export(self, path: Path | str) -> int:
        """Write everything about the person to a file: JSON Lines, for the owner only.

        Returns:
            How many lines: events, consent answers, and what left the device.
        """
        with self._lock:
            lines = export_lines(
                device=self._device,
                events=(event for _, event in self._vault.events()),
                answers=self._consent.history(),
                sent=self.transparency(),
            )
        write_export(Path(path), lines)
        return len(lines)

    def erase(self) -> None:
        """Destroy the vault's key, then its files, and close: nothing can be restored."""
        with self._lock:
            self._vault.erase()
            self._activity = Activity()

    def close(self) -> None:
        """Close the store; closing twice is fine."""
        with self._lock:
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

    def _history(self) -> History:
        now_s = self._clock.now_s()
        if not self._consent.allows(Purpose.PERSONALISE):
            return History.empty(now_s=now_s)
        return self._activity.history(self._installed.catalogue.position, now_s=now_s)

    def _device_state(self) -> DeviceState | None:
        installed = self._installed
        if not installed.version:
            return None
        return DeviceState(
            aggregator_key=installed.aggregator_key,
            catalogue_sha256=installed.catalogue.sha256,
            given=EncoderInput(
                history=self._history(),
                n_items=len(installed.catalogue.items),
                graph=installed.graph,
                settings=None if installed.graph is None else installed.table.settings,
            ),
        )


def _signer(vault: Vault) -> DeviceKey:
    kept = vault.read(*_IDENTITY)
    if kept is not None:
        return DeviceKey(bytes.fromhex(kept["seed"]))
    signer = DeviceKey.generate()
    stream, key = _IDENTITY
    vault.write(Record(stream=stream, key=key, value={"seed": signer.seed.hex()}))
    return signer


def _delivery(
    folder: Path, server_url: str | None, trusted_root: bytes | None
) -> ReleaseSource | None:
    if server_url is None and trusted_root is None:
        return None
    if server_url is None or trusted_root is None:
        raise ValueError("server_url and trusted_root belong together; got one of them")
    from client_sdk.delivery import Delivery

    # Refused before it is put to use, so that the last good one is what the next `open` finds.
    return Delivery(folder / _DELIVERY_FOLDER, server_url, trusted_root, check=check)
