"""The storefront: what can be shown now, from the release in use and what changed since.

Rules a reader can check line by line:

1. A release is in use only after it was checked (`installed.check`); a refused one changes nothing.
2. Changes of the catalogue are in the vault before they count, and go with the next release, whose
   catalogue is the newer one.
3. Nothing of a person is here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from client_sdk.assortment import Assortment
from client_sdk.catalogue_updates import NO_UPDATES, CatalogueUpdates
from client_sdk.installed import InstalledRelease, ReleaseSource, check
from client_sdk.outcomes import UpdateResult
from client_sdk.signals.vault import Record, Vault
from client_sdk.wire import Item

_UPDATES: Final = ("catalogue", "updates")


class Storefront:
    """The release in use, and the changes since.

    Args:
        vault: Keeps the changes.
        lock: Shared with whoever else uses the vault.
        installed: The release in use, or what the app brought along.
        releases: Where newer ones come from; None without a server.
        features: The names of the features that the app has, for the journeys of a release.
        swapped: Is told the new release in use, under the lock.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        lock: AbstractContextManager[object],
        installed: InstalledRelease,
        releases: ReleaseSource | None,
        features: Sequence[str],
        swapped: Callable[[InstalledRelease], None],
    ) -> None:
        self._vault = vault
        self._lock = lock
        self._installed = installed
        self._releases = releases
        self._features = tuple(features)
        self._swapped = swapped
        self._updating = threading.Lock()
        kept = vault.read(*_UPDATES)
        self._updates = NO_UPDATES if kept is None else CatalogueUpdates.from_json(kept)

    @property
    def installed(self) -> InstalledRelease:
        """The release in use, as it came."""
        return self._installed

    @property
    def updates(self) -> CatalogueUpdates:
        """What changed since."""
        return self._updates

    def assortment(self) -> Assortment:
        """What can be shown now."""
        return self._installed.assortment(self._updates)

    def item(self, item_id: str) -> Item | None:
        """Find an item of the catalogue in use."""
        catalogue = self.assortment().catalogue
        row = catalogue.position.get(item_id)
        return None if row is None else catalogue.items[row]

    def sold_out(self) -> frozenset[str]:
        """The ids of the items that are out of stock."""
        shop = self.assortment()
        return frozenset(shop.catalogue.items[row].item_id for row in shop.sold_out)

    def change(self, updates: CatalogueUpdates) -> None:
        """Put changes on top of those there are.

        Raises:
            VaultError: they could not be written; nothing changed.
        """
        with self._lock:
            self._write(self._updates.then(updates))

    def update(self) -> UpdateResult:
        """Ask for a new release, and use it if it is good.

        Raises:
            ReleaseRejectedError: it was refused; the last good one stays in use.
            ServerUnreachableError: no answer; nothing changed.
            ValueError: there is no server.
        """
        if self._releases is None:
            raise ValueError("no server: open with server_url and trusted_root")
        with self._updating:
            release = self._releases.fetch()
            if release is None:
                return UpdateResult(updated=False, version=self._installed.version)
            installed = check(release, features=self._features)
            with self._lock:
                self._installed = installed
                self._swapped(installed)
                if self._updates:
                    self._write(NO_UPDATES)
        return UpdateResult(updated=True, version=installed.version)

    def _write(self, updates: CatalogueUpdates) -> None:
        stream, key = _UPDATES
        self._vault.write(Record(stream=stream, key=key, value=updates.to_json()))
        self._updates = updates
