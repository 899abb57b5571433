"""TUF metadata on disk: keys, signatures, expiry dates, and the order of writing.

Rules a reader can check line by line:

1. Files are written whole (temporary file, fsync, rename). Nothing that is served is overwritten
   but ``timestamp.json``, which is written last: a crash at any step leaves the old state served,
   and what it left behind is overwritten by the next writer.
2. Versions of each role only rise.
3. Signatures are checked before anything is built on the metadata that is on disk.
4. A role is signed anew when half of its lifetime is over; the root lasts ten years.

`aggregator.repository` says what the targets mean. Test: tests/aggregator/test_repository.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

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

LIFETIME: Final[Mapping[str, timedelta]] = {
    Root.type: timedelta(days=3650),
    Targets.type: timedelta(days=365),
    Snapshot.type: timedelta(days=90),
    Timestamp.type: timedelta(days=7),
}

_ROOT: Final = "1.root.json"
_TIMESTAMP: Final = "timestamp.json"
_TARGETS_META: Final = "targets.json"

_S = TypeVar("_S", Root, Targets, Snapshot, Timestamp)


class ReleaseRepositoryError(AggregatorError):
    """The repository cannot do what was asked; the message says why. Nothing was published."""


class RepositoryMissingError(ReleaseRepositoryError):
    """There is no repository in the directory: make one with ``homebody server init``."""


@dataclass(frozen=True, kw_only=True)
class SignedState:
    """The metadata that devices see now; signatures checked, expiry not judged."""

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets

    @property
    def fresh_until_s(self) -> float:
        """When the first of the four expires, seconds since 1970."""
        every = (self.root, self.timestamp, self.snapshot, self.targets)
        return min(signed.expires.timestamp() for signed in every)

    @property
    def refresh_at_s(self) -> float:
        """When half of the timestamp's lifetime is over, seconds since 1970."""
        return half_life_s(self.timestamp)


class FileWriter(Protocol):
    """Writes a file whole or not at all, and durably."""

    def __call__(self, path: Path, content: bytes, *, mode: int = 0o644) -> None:
        """Write ``content`` to ``path``, in place of an older file."""
        ...


def write_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all, and durably: temporary file, fsync, rename, fsync."""
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


class SignedMetadata:
    """The metadata directory of one repository, and the keys to advance it.

    Args:
        directory: Where the metadata files are.
        keys_directory: Where the keys are; read only when something is signed.
        now_s: The clock, seconds since 1970; it sets expiry dates.
        write: Writes files.
    """

    def __init__(
        self,
        *,
        directory: Path,
        keys_directory: Path,
        now_s: Callable[[], float],
        write: FileWriter = write_file,
    ) -> None:
        self._directory = directory
        self._keys_directory = keys_directory
        self._now_s = now_s
        self._write = write

    @property
    def exists(self) -> bool:
        """Whether there is a repository."""
        return (self._directory / _TIMESTAMP).is_file()

    def init(self) -> None:
        """Make four keys and sign an empty repository.

        Raises:
            ReleaseRepositoryError: there are keys or metadata already.
        """
        for taken in (self._keys_directory, self._directory):
            if taken.exists():
                raise ReleaseRepositoryError(f"{taken} exists already; nothing was overwritten")
        signers = {role: CryptoSigner.generate_ed25519() for role in LIFETIME}
        self._keys_directory.mkdir(parents=True, mode=0o700)
        for role, signer in signers.items():
            self._write(self._key_path(role), signer.private_bytes, mode=0o600)
        self._directory.mkdir(parents=True)
        root = Root(expires=self._expiry(Root.type))
        for role, signer in signers.items():
            root.add_key(signer.public_key, role)
        self._sign(root, _ROOT)
        meta = self._sign(Targets(expires=self._expiry(Targets.type)), "1.targets.json")
        snapshot = Snapshot(expires=self._expiry(Snapshot.type), meta={_TARGETS_META: meta})
        meta = self._sign(snapshot, "1.snapshot.json")
        timestamp = Timestamp(expires=self._expiry(Timestamp.type), snapshot_meta=meta)
        self._sign(timestamp, _TIMESTAMP)

    def trusted_root(self) -> bytes:
        """The root metadata that an app embeds."""
        return (self._directory / _ROOT).read_bytes()

    def served(self) -> SignedState:
        """Read what devices see now.

        Raises:
            ReleaseRepositoryError: a file is missing, malformed or not signed by its role.
        """
        try:
            anchor = Metadata[Root].from_bytes(self.trusted_root())
            root = anchor.signed
            root.verify_delegate(Root.type, anchor.signed_bytes, anchor.signatures)
            timestamp = self._load(Timestamp, root, _TIMESTAMP)
            version = timestamp.snapshot_meta.version
            snapshot = self._load(Snapshot, root, f"{version}.snapshot.json")
            version = snapshot.meta[_TARGETS_META].version
            targets = self._load(Targets, root, f"{version}.targets.json")
        except (OSError, KeyError, RepositoryError, DeserializationError) as error:
            raise ReleaseRepositoryError(
                f"the metadata in {self._directory} is damaged; restore it from a backup"
            ) from error
        return SignedState(root=root, timestamp=timestamp, snapshot=snapshot, targets=targets)

    def targets_of(self, state: SignedState, version: int) -> Targets | None:
        """Read older targets metadata; None where it is gone, damaged or not signed."""
        try:
            return self._load(Targets, state.root, f"{version}.targets.json")
        except (OSError, RepositoryError, DeserializationError):
            return None

    def advance(self, state: SignedState, *, targets: Mapping[str, TargetFile] | None) -> None:
        """Sign the next state: new targets (or None: the same), and whatever is due.

        Raises:
            ReleaseRepositoryError: a key is missing; devices still see the old state.
        """
        snapshot_meta = state.timestamp.snapshot_meta
        targets_meta = state.snapshot.meta[_TARGETS_META]
        if targets is not None or self._is_due(state.targets):
            successor = Targets(
                version=state.targets.version + 1,
                expires=self._expiry(Targets.type),
                targets=dict(state.targets.targets if targets is None else targets),
            )
            targets_meta = self._sign(successor, f"{successor.version}.targets.json")
        if targets_meta.version != state.targets.version or self._is_due(state.snapshot):
            snapshot = Snapshot(
                version=state.snapshot.version + 1,
                expires=self._expiry(Snapshot.type),
                meta={_TARGETS_META: targets_meta},
            )
            snapshot_meta = self._sign(snapshot, f"{snapshot.version}.snapshot.json")
        timestamp = Timestamp(
            version=state.timestamp.version + 1,
            expires=self._expiry(Timestamp.type),
            snapshot_meta=snapshot_meta,
        )
        self._sign(timestamp, _TIMESTAMP)

    def _sign(self, signed: Root | Targets | Snapshot | Timestamp, name: str) -> MetaFile:
        path = self._key_path(signed.type)
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise ReleaseRepositoryError(f"the key {path} cannot be read") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ReleaseRepositoryError(f"the key {path} is not an Ed25519 key")
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(CryptoSigner(key))
        data = metadata.to_bytes()
        self._write(self._directory / name, data)
        return MetaFile.from_data(signed.version, data, ["sha256"])

    def _load(self, kind: type[_S], root: Root, name: str) -> _S:
        metadata = Metadata[_S].from_bytes((self._directory / name).read_bytes())
        if not isinstance(metadata.signed, kind):
            raise RepositoryError(f"{name} is not of the role {kind.type}")
        root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures)
        return metadata.signed

    def _key_path(self, role: str) -> Path:
        return self._keys_directory / f"{role}.pem"

    def _expiry(self, role: str) -> datetime:
        return datetime.fromtimestamp(int(self._now_s()), tz=UTC) + LIFETIME[role]

    def _is_due(self, signed: Signed) -> bool:
        return self._now_s() >= half_life_s(signed)


def half_life_s(signed: Signed) -> float:
    """When half of the lifetime of a role's metadata is over, seconds since 1970."""
    return float((signed.expires - LIFETIME[signed.type] / 2).timestamp())
