"""The signed repository on disk: releases as TUF targets, consistent snapshots, Ed25519 keys.

Layout of a repository directory::

    metadata/   1.root.json, N.targets.json, N.snapshot.json, timestamp.json
    targets/    <sha256>.release.json, <version>/<sha256>.<file>, and a .gz where it is smaller
    keys/       root.pem, targets.pem, snapshot.pem, timestamp.pem (mode 0600; never served)

Rules a reader can check line by line:

1. Files are written whole (temporary file, fsync, rename). Nothing that is served is overwritten
   but ``timestamp.json``, which is written last: a crash at any step leaves the old release served,
   and what it left behind is overwritten by the next publication.
2. Release numbers only rise. A roll-back is a new release with the old files.
3. Writers take turns (a lock file); readers need no lock.
4. Signatures are checked before anything is built on the metadata that is on disk.

The root key is not needed after `Repository.init`: move it to a safe place. To publish takes the
keys of targets, snapshot and timestamp; to keep the repository fresh, the same three.

Test: tests/aggregator/test_repository.py, and tests/client_sdk/delivery over real HTTP.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from aggregator.errors import AggregatorError
from client_sdk.wire import (
    CATALOGUE_FILE,
    MANIFEST_TARGET,
    POLICY_FILE,
    Catalogue,
    ConsentPolicy,
    ReleaseManifest,
    WireFormatError,
    sha256_hex,
)

METADATA_DIRECTORY: Final = "metadata"
TARGETS_DIRECTORY: Final = "targets"
KEYS_DIRECTORY: Final = "keys"
LIFETIME: Final[Mapping[str, timedelta]] = {
    Root.type: timedelta(days=3650),
    Targets.type: timedelta(days=365),
    Snapshot.type: timedelta(days=90),
    Timestamp.type: timedelta(days=7),
}

_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_WORTH_COMPRESSING: Final = 0.9

_S = TypeVar("_S", Root, Targets, Snapshot, Timestamp)


class ReleaseRepositoryError(AggregatorError):
    """The repository cannot do what was asked; the message says why. Nothing was published."""


class RepositoryMissingError(ReleaseRepositoryError):
    """There is no repository in the directory: make one with ``homebody server init``."""


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


@dataclass(frozen=True, kw_only=True)
class _Served:
    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets


class Repository:
    """A repository that one operator writes and every device reads.

    Args:
        directory: Where `init` made it.
        keys_directory: Where the keys are; by default ``directory / "keys"``.
        now_s: The clock, seconds since 1970; it sets expiry dates.

    Raises:
        RepositoryMissingError: there is none.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keys_directory: Path | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        if not (directory / METADATA_DIRECTORY / "timestamp.json").is_file():
            raise RepositoryMissingError(
                f"no repository in {directory}; make one with: homebody server init --dir DIR"
            )
        self._directory = directory
        self._keys_directory = keys_directory or directory / KEYS_DIRECTORY
        self._now_s = now_s

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
        keys = keys_directory or directory / KEYS_DIRECTORY
        for taken in (keys, directory / METADATA_DIRECTORY, directory / TARGETS_DIRECTORY):
            if taken.exists():
                raise ReleaseRepositoryError(f"{taken} exists already; nothing was overwritten")
        signers = {role: CryptoSigner.generate_ed25519() for role in LIFETIME}
        keys.mkdir(parents=True, mode=0o700)
        for role, signer in signers.items():
            _write(keys / f"{role}.pem", signer.private_bytes, mode=0o600)
        (directory / METADATA_DIRECTORY).mkdir(parents=True)
        (directory / TARGETS_DIRECTORY).mkdir()

        root = Root(expires=_expiry(now_s(), Root.type))
        for role, signer in signers.items():
            root.add_key(signer.public_key, role)
        targets = Metadata(Targets(expires=_expiry(now_s(), Targets.type)))
        _sign_and_write(directory, Metadata(root), signers[Root.type], "1.root.json")
        meta = _sign_and_write(directory, targets, signers[Targets.type], "1.targets.json")
        snapshot = Metadata(
            Snapshot(expires=_expiry(now_s(), Snapshot.type), meta={"targets.json": meta})
        )
        meta = _sign_and_write(directory, snapshot, signers[Snapshot.type], "1.snapshot.json")
        timestamp = Metadata(
            Timestamp(expires=_expiry(now_s(), Timestamp.type), snapshot_meta=meta)
        )
        _sign_and_write(directory, timestamp, signers[Timestamp.type], "timestamp.json")
        return cls(directory, keys_directory=keys, now_s=now_s)

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._directory

    def trusted_root(self) -> bytes:
        """The root metadata that an app embeds: with it a device knows this repository."""
        return (self._directory / METADATA_DIRECTORY / "1.root.json").read_bytes()

    def publish(
        self,
        *,
        files: Mapping[str, bytes],
        aggregator_key: str,
        minimum_sdk_version: str = "0.1.0",
        guarantee: Mapping[str, Any] | None = None,
    ) -> ReleaseManifest:
        """Publish a release under the next number.

        Args:
            files: Name (one of `client_sdk.wire.RELEASE_FILES`) to content.
            aggregator_key: The Ed25519 public key whose orders devices obey, hexadecimal.
            minimum_sdk_version: The oldest SDK that can use it, ``"major.minor.patch"``.
            guarantee: The privacy claim of what was learned; None where nothing was.

        Returns:
            The manifest as published.

        Raises:
            ValueError: the files do not make a release, or the catalogue or policy is malformed.
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
            served = self._served()
            current = self._manifest(served.targets)
            return self._publish(served, current, draft, files)

    def rollback(self, to_version: int) -> ReleaseManifest:
        """Publish the files of an older release again, under the next number.

        Files, guarantee and minimum SDK are the old ones; the aggregator's key is the present one.

        Raises:
            ReleaseRepositoryError: it is what is served, or there is no such release, or its files
                are gone or damaged.
        """
        with self._lock():
            served = self._served()
            history = {manifest.version: manifest for manifest in self._history(served)}
            current = max(history.values(), key=lambda manifest: manifest.version, default=None)
            old = history.get(to_version)
            if old is None or current is None:
                known = ", ".join(str(version) for version in sorted(history)) or "none"
                raise ReleaseRepositoryError(f"no release {to_version}; known releases: {known}")
            if old is current:
                raise ReleaseRepositoryError(f"release {to_version} is what is served already")
            files = {name: self._read_file(old, name) for name in old.files}
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
            self._advance(self._served(), targets=None)

    def status(self) -> RepositoryStatus:
        """Return what is served; signatures are checked, expiry is for the caller to judge.

        Raises:
            ReleaseRepositoryError: the repository on disk is damaged.
        """
        served = self._served()
        expiries = [
            signed.expires.timestamp()
            for signed in (served.root, served.timestamp, served.snapshot, served.targets)
        ]
        half = LIFETIME[Timestamp.type] / 2
        return RepositoryStatus(
            manifest=self._manifest(served.targets),
            timestamp_version=served.timestamp.version,
            fresh_until_s=min(expiries),
            refresh_at_s=(served.timestamp.expires - half).timestamp(),
        )

    def history(self) -> tuple[ReleaseManifest, ...]:
        """Return every release that was served, oldest first.

        Raises:
            ReleaseRepositoryError: the repository on disk is damaged.
        """
        return tuple(reversed(list(self._history(self._served()))))

    def _publish(
        self,
        served: _Served,
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
        self._advance(served, targets=targets)
        return manifest

    def _advance(self, served: _Served, *, targets: Mapping[str, TargetFile] | None) -> None:
        now_s = self._now_s()
        snapshot_meta = served.timestamp.snapshot_meta
        targets_meta = served.snapshot.meta["targets.json"]
        if targets is not None or _is_due(served.targets, now_s):
            successor = Targets(
                version=served.targets.version + 1,
                expires=_expiry(now_s, Targets.type),
                targets=dict(served.targets.targets if targets is None else targets),
            )
            targets_meta = self._sign(successor, f"{successor.version}.targets.json")
        if targets_meta.version != served.targets.version or _is_due(served.snapshot, now_s):
            snapshot = Snapshot(
                version=served.snapshot.version + 1,
                expires=_expiry(now_s, Snapshot.type),
                meta={"targets.json": targets_meta},
            )
            snapshot_meta = self._sign(snapshot, f"{snapshot.version}.snapshot.json")
        timestamp = Timestamp(
            version=served.timestamp.version + 1,
            expires=_expiry(now_s, Timestamp.type),
            snapshot_meta=snapshot_meta,
        )
        self._sign(timestamp, "timestamp.json")

    def _sign(self, signed: Targets | Snapshot | Timestamp, name: str) -> MetaFile:
        path = self._keys_directory / f"{signed.type}.pem"
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise ReleaseRepositoryError(f"the key {path} cannot be read") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ReleaseRepositoryError(f"the key {path} is not an Ed25519 key")
        return _sign_and_write(self._directory, Metadata(signed), CryptoSigner(key), name)

    def _served(self) -> _Served:
        try:
            root = Metadata[Root].from_bytes(self.trusted_root()).signed
            timestamp = self._load(Timestamp, root, "timestamp.json")
            snapshot = self._load(
                Snapshot, root, f"{timestamp.snapshot_meta.version}.snapshot.json"
            )
            version = snapshot.meta["targets.json"].version
            targets = self._load(Targets, root, f"{version}.targets.json")
        except (OSError, KeyError, RepositoryError, DeserializationError) as error:
            raise ReleaseRepositoryError(
                f"the repository in {self._directory} is damaged; restore it from a backup"
            ) from error
        return _Served(root=root, timestamp=timestamp, snapshot=snapshot, targets=targets)

    def _load(self, kind: type[_S], root: Root, name: str) -> _S:
        data = (self._directory / METADATA_DIRECTORY / name).read_bytes()
        metadata = Metadata[_S].from_bytes(data)
        if not isinstance(metadata.signed, kind):
            raise RepositoryError(f"{name} is not a {kind.type}")
        root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures)
        return metadata.signed

    def _history(self, served: _Served) -> Iterator[ReleaseManifest]:
        """Newest first; metadata that was signed but never served is newer, so it is not seen."""
        newest: int | None = None
        for version in range(served.targets.version, 0, -1):
            try:
                targets = self._load(Targets, served.root, f"{version}.targets.json")
            except (OSError, RepositoryError, DeserializationError):
                continue
            manifest = self._manifest(targets)
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
        _write(place, content)
        compressed = gzip.compress(content, mtime=0)
        if len(compressed) < _WORTH_COMPRESSING * len(content):
            _write(place.with_name(place.name + ".gz"), compressed)

    def _hashed_path(self, path: str, sha256: str) -> Path:
        place = self._directory / TARGETS_DIRECTORY / path
        return place.with_name(f"{sha256}.{place.name}")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _sign_and_write(
    directory: Path, metadata: Metadata[Any], signer: CryptoSigner, name: str
) -> MetaFile:
    metadata.sign(signer)
    data = metadata.to_bytes()
    _write(directory / METADATA_DIRECTORY / name, data)
    return MetaFile.from_data(metadata.signed.version, data, ["sha256"])


def _write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _expiry(now_s: float, role: str) -> datetime:
    return datetime.fromtimestamp(int(now_s), tz=UTC) + LIFETIME[role]


def _is_due(signed: Signed, now_s: float) -> bool:
    half = LIFETIME[signed.type] / 2
    return now_s >= (signed.expires - half).timestamp()
