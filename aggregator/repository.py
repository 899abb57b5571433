"""The signed repository of releases on disk: what the TUF targets mean.

Layout of a repository directory::

    metadata/   1.root.json, N.targets.json, N.snapshot.json, timestamp.json
    targets/    <sha256>.release.json, <version>/<sha256>.<file>, and a .gz where it is smaller
    keys/       root.pem, targets.pem, snapshot.pem, timestamp.pem (mode 0600; never served)

Rules a reader can check line by line:

1. Release numbers only rise. A roll-back is a new release with the old files.
2. The files of a release are on disk before any metadata names them, and the timestamp is written
   last (`aggregator.signed_metadata`): a crash at any step leaves the old release served.
3. Writers take turns (a lock file); readers need no lock.
4. A catalogue or policy that a device could not read is refused here; so are guardrails, journeys
   and contents (`aggregator.experience_parts`).

The root key is not needed after `Repository.init`: move it to a safe place. To publish, and to keep
the repository fresh, takes the keys of targets, snapshot and timestamp.

Test: tests/aggregator/test_repository.py, and tests/client_sdk/delivery over real HTTP.
"""

from __future__ import annotations

import fcntl
import gzip
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import TargetFile, Targets

from aggregator.experience_parts import check_experience
from aggregator.signed_metadata import (
    FileWriter,
    ReleaseRepositoryError,
    RepositoryMissingError,
    SignedMetadata,
    SignedState,
    write_file,
)
from client_sdk.wire import (
    CATALOGUE_FILE,
    MANIFEST_TARGET,
    POLICY_FILE,
    Catalogue,
    ConsentPolicy,
    ReleaseManifest,
    WireFormatError,
    is_experience_file,
    sha256_hex,
)

__all__ = [
    "ReleaseRepositoryError",
    "Repository",
    "RepositoryMissingError",
    "RepositoryStatus",
]

METADATA_DIRECTORY: Final = "metadata"
TARGETS_DIRECTORY: Final = "targets"
KEYS_DIRECTORY: Final = "keys"

_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_WORTH_COMPRESSING: Final = 0.9


@dataclass(frozen=True, kw_only=True)
class RepositoryStatus:
    """What a repository serves.

    Attributes:
        manifest: The release that is served, or None before the first.
        timestamp_version: Number of the timestamp.
        fresh_until_s: When the first of the served metadata expires, seconds since 1970 (UTC);
            from then on devices refuse the repository.
        refresh_at_s: When half of the timestamp's lifetime is over; refresh from then on.
    """

    manifest: ReleaseManifest | None
    timestamp_version: int
    fresh_until_s: float
    refresh_at_s: float


class Repository:
    """A repository that one operator writes and every device reads.

    Args:
        directory: Where `init` made it.
        keys_directory: Where the keys are; by default ``directory / "keys"``.
        now_s: The clock, seconds since 1970; it sets expiry dates.
        write: Writes files.

    Raises:
        RepositoryMissingError: there is none.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keys_directory: Path | None = None,
        now_s: Callable[[], float] = time.time,
        write: FileWriter = write_file,
    ) -> None:
        self._directory = directory
        self._metadata = SignedMetadata(
            directory=directory / METADATA_DIRECTORY,
            keys_directory=keys_directory or directory / KEYS_DIRECTORY,
            now_s=now_s,
            write=write,
        )
        self._now_s = now_s
        self._write = write
        if not self._metadata.exists:
            raise RepositoryMissingError(
                f"no repository in {directory}; make one with: homebody server init --dir DIR"
            )

    @classmethod
    def init(
        cls,
        directory: Path,
        *,
        keys_directory: Path | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> Repository:
        """Make keys and an empty, signed repository.

        Raises:
            ReleaseRepositoryError: there is one, or there are keys, already.
        """
        SignedMetadata(
            directory=directory / METADATA_DIRECTORY,
            keys_directory=keys_directory or directory / KEYS_DIRECTORY,
            now_s=now_s,
        ).init()
        (directory / TARGETS_DIRECTORY).mkdir(exist_ok=True)
        return cls(directory, keys_directory=keys_directory, now_s=now_s)

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._directory

    def trusted_root(self) -> bytes:
        """The root metadata that an app embeds: with it a device knows this repository."""
        return self._metadata.trusted_root()

    def publish(
        self,
        *,
        files: Mapping[str, bytes],
        aggregator_key: str,
        minimum_sdk_version: str = "0.1.0",
        guarantee: Mapping[str, Any] | None = None,
        own_features: Sequence[str] = (),
    ) -> ReleaseManifest:
        """Publish a release under the next number.

        Args:
            files: Name, as `client_sdk.wire.ReleaseManifest` has them, to content.
            aggregator_key: The Ed25519 public key whose orders devices obey, hexadecimal.
            minimum_sdk_version: The oldest SDK that can use it, ``"major.minor.patch"``.
            guarantee: The privacy claim of what was learned; None where nothing was.
            own_features: The app's own features that journeys may ask for.

        Returns:
            The manifest as published.

        Raises:
            ValueError: the files do not make a release, or one of them is not as promised.
            ReleaseRepositoryError: keys are missing, or the repository on disk is damaged.
        """
        draft = ReleaseManifest(
            version=1,
            created_at_s=int(self._now_s()),
            minimum_sdk_version=minimum_sdk_version,
            aggregator_key=aggregator_key,
            files={name: sha256_hex(content) for name, content in files.items()},
            guarantee=dict(guarantee or {}),
        )
        ReleaseManifest.from_bytes(draft.to_bytes())
        if not _VERSION.fullmatch(minimum_sdk_version):
            raise ValueError("minimum_sdk_version must look like 1.2.3")
        Catalogue.from_bytes(files[CATALOGUE_FILE])
        ConsentPolicy.from_bytes(files[POLICY_FILE])
        with self._lock():
            served = self._metadata.served()
            current = self._manifest(served.targets)
            known = {} if current is None else self.files_of(current, of=is_experience_file)
            check_experience(files, served=known, own_features=own_features)
            return self._publish(served, current, draft, files)

    def files_of(
        self, manifest: ReleaseManifest, *, of: Callable[[str], bool] = bool
    ) -> dict[str, bytes]:
        """Read files of a release that was published.

        Args:
            manifest: Of the release.
            of: Says of a name whether it is wanted; all are by default.

        Raises:
            ReleaseRepositoryError: a file is gone, or was changed on disk.
        """
        return {name: self._read_file(manifest, name) for name in manifest.files if of(name)}

    def rollback(self, to_version: int) -> ReleaseManifest:
        """Publish the files of an older release again, under the next number.

        Files, guarantee and minimum SDK are the old ones; the aggregator's key is the present one.

        Raises:
            ReleaseRepositoryError: it is what is served, or there is no such release, or its files
                are gone or damaged.
        """
        with self._lock():
            served = self._metadata.served()
            history = {manifest.version: manifest for manifest in self._history(served)}
            current = max(history.values(), key=lambda manifest: manifest.version, default=None)
            old = history.get(to_version)
            if old is None or current is None:
                known = ", ".join(str(version) for version in sorted(history)) or "none"
                raise ReleaseRepositoryError(f"no release {to_version}; known releases: {known}")
            if old is current:
                raise ReleaseRepositoryError(f"release {to_version} is what is served already")
            files = self.files_of(old)
            draft = replace(
                old, created_at_s=int(self._now_s()), aggregator_key=current.aggregator_key
            )
            return self._publish(served, current, draft, files)

    def refresh_timestamp(self) -> None:
        """Sign a new timestamp, and whatever else is past half of its lifetime.

        Raises:
            ReleaseRepositoryError: keys are missing, or the repository on disk is damaged.
        """
        with self._lock():
            self._metadata.advance(self._metadata.served(), targets=None)

    def status(self) -> RepositoryStatus:
        """Return what is served; signatures are checked, expiry is for the caller to judge.

        Raises:
            ReleaseRepositoryError: the repository on disk is damaged.
        """
        served = self._metadata.served()
        return RepositoryStatus(
            manifest=self._manifest(served.targets),
            timestamp_version=served.timestamp.version,
            fresh_until_s=served.fresh_until_s,
            refresh_at_s=served.refresh_at_s,
        )

    def history(self) -> tuple[ReleaseManifest, ...]:
        """Return every release that was served, oldest first.

        Raises:
            ReleaseRepositoryError: the repository on disk is damaged.
        """
        return tuple(reversed(list(self._history(self._metadata.served()))))

    def _publish(
        self,
        served: SignedState,
        current: ReleaseManifest | None,
        draft: ReleaseManifest,
        files: Mapping[str, bytes],
    ) -> ReleaseManifest:
        manifest = replace(draft, version=1 if current is None else current.version + 1)
        contents = {manifest.target_path(name): content for name, content in files.items()}
        contents[MANIFEST_TARGET] = manifest.to_bytes()
        targets = {}
        for path, content in contents.items():
            targets[path] = TargetFile.from_data(path, content)
            self._write_target(path, content)
        self._metadata.advance(served, targets=targets)
        return manifest

    def _history(self, served: SignedState) -> Iterator[ReleaseManifest]:
        """Newest first; metadata that was signed but never served is newer, so it is not seen."""
        newest: int | None = None
        for version in range(served.targets.version, 0, -1):
            targets = self._metadata.targets_of(served, version)
            manifest = None if targets is None else self._manifest(targets)
            if manifest is not None and (newest is None or manifest.version < newest):
                newest = manifest.version
                yield manifest

    def _manifest(self, targets: Targets) -> ReleaseManifest | None:
        target = targets.targets.get(MANIFEST_TARGET)
        if target is None:
            return None
        try:
            return ReleaseManifest.from_bytes(
                self._read_target(MANIFEST_TARGET, target.hashes["sha256"])
            )
        except (WireFormatError, KeyError) as error:
            raise ReleaseRepositoryError("a published manifest cannot be read") from error

    def _read_file(self, manifest: ReleaseManifest, name: str) -> bytes:
        return self._read_target(manifest.target_path(name), manifest.files[name])

    def _read_target(self, path: str, sha256: str) -> bytes:
        try:
            content = self._hashed_path(path, sha256).read_bytes()
        except OSError as error:
            raise ReleaseRepositoryError(f"the published file {path} is gone") from error
        if sha256_hex(content) != sha256:
            raise ReleaseRepositoryError(f"the published file {path} was changed on disk")
        return content

    def _write_target(self, path: str, content: bytes) -> None:
        place = self._hashed_path(path, sha256_hex(content))
        place.parent.mkdir(exist_ok=True)
        self._write(place, content)
        compressed = gzip.compress(content, mtime=0)
        if len(compressed) < _WORTH_COMPRESSING * len(content):
            self._write(place.with_name(place.name + ".gz"), compressed)

    def _hashed_path(self, path: str, sha256: str) -> Path:
        place = self._directory / TARGETS_DIRECTORY / path
        return place.with_name(f"{sha256}.{place.name}")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
