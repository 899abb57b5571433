"""The door in: asks the model server for a release, trusts the signatures, never the server.

Rules a reader can check line by line:

1. The app embeds the root of trust. python-tuf's client refuses metadata that is unsigned, altered,
   older than what was seen (roll-back), expired (freeze), or does not belong together
   (mix-and-match), and files whose length or hash is not the signed one.
2. Above that, `client_sdk.delivery.release` decides: numbers only rise, sizes are bounded.
3. Files that the device has already are not downloaded again.
4. A release is in use only after it was written whole (`client_sdk.delivery.store`) and, where the
   app gave a ``check``, passed it. Whatever goes wrong, the last good release stays in use.

Test: tests/client_sdk/delivery/test_delivery.py, over real HTTP against the real server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from client_sdk.delivery.release import (
    Limits,
    Release,
    check_size,
    judge_files,
    judge_manifest,
)
from client_sdk.delivery.store import ReleaseStore
from client_sdk.errors import ReleaseRejectedError, ServerUnreachableError, VaultError
from client_sdk.wire import MANIFEST_TARGET, ReleaseManifest, sha256_hex

if TYPE_CHECKING:
    from tuf.ngclient import FetcherInterface, TargetFile, Updater

_TUF_FOLDER: Final = "tuf"
_MAX_ROOT_ROTATIONS: Final = 32
_MAX_TIMESTAMP_BYTES: Final = 16 * 1024


class Delivery:
    """Fetches and keeps releases.

    Args:
        directory: A folder of its own, made on use; one `Delivery` at a time uses it.
        server_url: The model server, ``https://…`` (``http://`` is accepted: signatures, not the
            transport, are what is trusted; only https hides which release was fetched).
        trusted_root: The repository's root metadata (`Repository.trusted_root`), from the app.
        check: Called with a new release before it is put to use; may raise `ReleaseRejectedError`.
        limits: Sizes and timeouts.

    Raises:
        ValueError: the URL is not http or https.
    """

    def __init__(
        self,
        directory: Path,
        server_url: str,
        trusted_root: bytes,
        *,
        check: Callable[[Release], object] | None = None,
        limits: Limits | None = None,
    ) -> None:
        parts = urlsplit(server_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("server_url must look like https://host[:port]")
        self._directory = directory
        self._server_url = server_url.rstrip("/")
        self._trusted_root = trusted_root
        self._check = check
        self._limits = limits or Limits()
        self._store = ReleaseStore(directory)
        self._one_at_a_time = threading.Lock()

    def active(self) -> Release | None:
        """Return the last good release from disk, hashed again, or None. Never raises."""
        return self._store.active()

    def fetch(self) -> Release | None:
        """Ask the server for a newer release and put it to use.

        Returns:
            The new release; None where there is nothing newer.

        Raises:
            ReleaseRejectedError: what came was refused; the last good release stays in use.
            ServerUnreachableError: no, or a broken, answer; nothing changed.
            VaultError: the disk refused; nothing changed.
        """
        # Loaded on use: 0.15 s and 20 MB that a device without a server never needs.
        from tuf.api.exceptions import (
            DownloadError,
            DownloadHTTPError,
            DownloadLengthMismatchError,
            RepositoryError,
        )

        with self._one_at_a_time:
            try:
                return self._fetch()
            except DownloadLengthMismatchError as error:
                raise ReleaseRejectedError("an answer was longer than its signed length") from error
            except RepositoryError as error:
                raise ReleaseRejectedError(
                    f"the server's metadata or file was refused ({type(error).__name__}); "
                    "the last good release stays in use"
                ) from error
            except DownloadHTTPError as error:
                raise ServerUnreachableError(
                    f"the server answered {error.status_code}; nothing changed, try again later"
                ) from error
            except DownloadError as error:
                raise ServerUnreachableError(
                    "the server did not answer as expected; nothing changed, try again later"
                ) from error
            except OSError as error:
                raise VaultError(
                    "the delivery folder cannot be written; free space or repair its permissions"
                ) from error

    def _fetch(self) -> Release | None:
        from client_sdk.delivery.fetcher import BoundedFetcher

        (self._directory / _TUF_FOLDER).mkdir(parents=True, exist_ok=True)
        active = self._store.active()
        fetcher = BoundedFetcher(server_url=self._server_url, limits=self._limits)
        try:
            updater = self._updater(fetcher)
            known = None if active is None else active.manifest
            manifest = self._manifest(updater, fetcher, known)
            if manifest is None:
                return None
            release = self._release(updater, fetcher, manifest, active)
        finally:
            fetcher.close()
        if self._check is not None:
            self._check(release)
        self._store.activate(release)
        return release

    def _updater(self, fetcher: FetcherInterface) -> Updater:
        from tuf.ngclient import Updater, UpdaterConfig

        largest = self._limits.max_metadata_bytes
        updater = Updater(
            metadata_dir=str(self._directory / _TUF_FOLDER),
            metadata_base_url=f"{self._server_url}/metadata/",
            fetcher=fetcher,
            config=UpdaterConfig(
                max_root_rotations=_MAX_ROOT_ROTATIONS,
                max_delegations=0,
                root_max_length=largest,
                timestamp_max_length=min(largest, _MAX_TIMESTAMP_BYTES),
                snapshot_max_length=largest,
                targets_max_length=largest,
            ),
            bootstrap=self._trusted_root,
        )
        updater.refresh()
        return updater

    def _manifest(
        self, updater: Updater, fetcher: FetcherInterface, active: ReleaseManifest | None
    ) -> ReleaseManifest | None:
        target = updater.get_targetinfo(MANIFEST_TARGET)
        if target is None:
            return None
        if active is not None and target.hashes.get("sha256") == sha256_hex(active.to_bytes()):
            return None
        check_size(MANIFEST_TARGET, target.length, self._limits.max_manifest_bytes)
        return judge_manifest(self._download(fetcher, target), active=active)

    def _release(
        self,
        updater: Updater,
        fetcher: FetcherInterface,
        manifest: ReleaseManifest,
        active: Release | None,
    ) -> Release:
        targets = {}
        for name in manifest.files:
            target = updater.get_targetinfo(manifest.target_path(name))
            if target is None:
                raise ReleaseRejectedError(f"{name} of release {manifest.version} is not signed")
            targets[name] = target
        judge_files(
            manifest,
            {name: (target.length, target.hashes["sha256"]) for name, target in targets.items()},
            limits=self._limits,
        )
        present = {} if active is None else active.by_hash()
        files = {
            name: present[manifest.files[name]]
            if manifest.files[name] in present
            else self._download(fetcher, target)
            for name, target in targets.items()
        }
        return Release(manifest=manifest, files=files)

    def _download(self, fetcher: FetcherInterface, target: TargetFile) -> bytes:
        """Download one target in memory; nothing unchecked is written to the device's folder."""
        path = target.get_prefixed_paths()[0]
        content = fetcher.download_bytes(f"{self._server_url}/targets/{path}", target.length)
        target.verify_length_and_hashes(content)
        return content
