"""Checkpoints on the disk: written whole or not at all, read whole or not at all.

Rules a reader can check line by line:

1. A file is: one line with a digest of all that follows; one line of canonical JSON; arrays as npz,
   without pickles. A bit that changed anywhere is `CheckpointDamagedError`.
2. A checkpoint is written beside its name, brought to the disk, then renamed, and the folder too is
   brought to the disk. So a name stands for a whole file, at any kill.
3. The newest two are kept: whoever closes a round elsewhere after a checkpoint was written may have
   to go back by one.
4. One process at a time: the folder is locked while it is used, and a lock ends with its process.
5. Nothing is repaired and nothing is skipped: where the newest checkpoint does not read, or is
   another simulation's, that is an error, never a silent start from the beginning.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import canonical_json
from simulations.checkpoints.errors import (
    CheckpointDamagedError,
    CheckpointError,
    CheckpointForeignError,
    FolderInUseError,
)
from simulations.checkpoints.fingerprint import Fingerprint

KEPT: Final = 2
_MAGIC: Final = b"homebody checkpoint 1 "
_NAME: Final = re.compile(r"checkpoint-([0-9]{12})")
_LOCK: Final = "lock"
_UNFINISHED: Final = "unfinished"


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """Where a simulation stands.

    Attributes:
        fingerprint: Of the simulation.
        step: How many tasks and rounds are in it; numbers the file.
        facts: Plain JSON values.
        arrays: By name.
    """

    fingerprint: Fingerprint
    step: int
    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Encode (rule 1).

        Raises:
            ValueError: facts that are no JSON values, or not finite.
        """
        header = canonical_json(
            {
                "fingerprint": self.fingerprint.to_values(),
                "step": self.step,
                "facts": self.facts,
            }
        )
        arrays = io.BytesIO()
        np.savez(arrays, allow_pickle=False, **dict(self.arrays))
        body = header + b"\n" + arrays.getvalue()
        return _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Snapshot:
        """Read what `to_bytes` wrote.

        Raises:
            CheckpointDamagedError: anything else.
        """
        first, _, body = data.partition(b"\n")
        if first != _MAGIC + hashlib.sha256(body).hexdigest().encode():
            raise CheckpointDamagedError("the checkpoint is damaged, cut or of another version")
        header, _, arrays = body.partition(b"\n")
        try:
            values = json.loads(header)
            with np.load(io.BytesIO(arrays), allow_pickle=False) as found:
                return cls(
                    fingerprint=Fingerprint.from_values(values["fingerprint"]),
                    step=int(values["step"]),
                    facts=dict(values["facts"]),
                    arrays={name: found[name] for name in found.files},
                )
        except (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise CheckpointDamagedError("the checkpoint describes no simulation") from error


class Checkpoints:
    """The checkpoints of one simulation, in a folder of their own; locked until `close`.

    Args:
        folder: Made where it is not there.

    Raises:
        FolderInUseError: another process has it.
        CheckpointError: it can't be used as a folder.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CheckpointError(f"{folder} can't hold checkpoints: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise FolderInUseError(
                f"another process works on the simulation in {folder}; wait for it, or stop it"
            ) from error
        self.folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others work on it; again is no error."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint; it is on the disk when this returns (rules 2 and 3).

        Raises:
            CheckpointError: it can't be written.
        """
        unfinished = self.folder / _UNFINISHED
        try:
            with unfinished.open("wb") as file:
                file.write(snapshot.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.folder / f"checkpoint-{snapshot.step:012d}")
            self._sync()
            for old in self._files()[:-KEPT]:
                old.unlink()
        except OSError as error:
            raise CheckpointError(
                f"no checkpoint could be written to {self.folder}: {error.strerror}"
            ) from error

    def load(self, fingerprint: Fingerprint) -> list[Snapshot]:
        """Read what there is: the newest first, then the one before it; nothing at the beginning.

        Raises:
            CheckpointDamagedError: one of them does not read.
            CheckpointForeignError: they are another simulation's.
        """
        found = []
        for file in reversed(self._files()[-KEPT:]):
            try:
                snapshot = Snapshot.from_bytes(file.read_bytes())
            except OSError as error:
                raise CheckpointDamagedError(f"{file} can't be read: {error.strerror}") from error
            except CheckpointDamagedError as error:
                raise CheckpointDamagedError(
                    f"{file}: {error}; put it back from a copy, or start anew in another folder"
                ) from error
            differences = fingerprint.differences(snapshot.fingerprint)
            if differences:
                raise CheckpointForeignError(
                    f"{self.folder} holds another simulation ({', '.join(differences)}); run it "
                    "as it was begun, or take another folder"
                )
            if file.name != f"checkpoint-{snapshot.step:012d}":
                raise CheckpointDamagedError(f"{file} holds step {snapshot.step}; it was renamed")
            found.append(snapshot)
        return found

    def _files(self) -> list[Path]:
        return sorted(each for each in self.folder.iterdir() if _NAME.fullmatch(each.name))

    def _sync(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
