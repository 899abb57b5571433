"""Where the noise key of a training run lies while the run goes on.

Whoever has the key can subtract the noise of every round that was published. So:

1. A key exists from the start of its run to its end, and is destroyed at the end, also where the
   run stops early.
2. It is never in the database: who reads the database, or a copy of it, learns nothing from the
   sealed noise state that lies there (`aggregator.run_store`).
3. In files, a key is readable by the aggregator's own user only (0600, in a folder of 0700). One
   that others may read is not used (`RunKeyError`).
4. Destroyed means overwritten and unlinked. On a file system that copies on write, or a disk that
   wears evenly, an old block may survive: put the folder on an encrypted or a memory file system,
   or plug in a key store of the platform.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from aggregator.errors import RunKeyError

KEY_BYTES: Final = 32


class NoiseKeys(Protocol):
    """Keeps the noise key of each run; plug in a hardware key store here."""

    def load(self, run_id: str) -> bytes | None:
        """Return the key, or None where there is none."""
        ...

    def store(self, run_id: str, key: bytes) -> None:
        """Keep the key durably; there is none of that run yet."""
        ...

    def destroy(self, run_id: str) -> None:
        """Make the key irrecoverable; nothing happens where there is none."""
        ...


class MemoryNoiseKeys:
    """Keys in memory: a run ends with its process. For tests and simulations."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def load(self, run_id: str) -> bytes | None:
        """Return the key, or None."""
        return self._keys.get(run_id)

    def store(self, run_id: str, key: bytes) -> None:
        """Keep the key."""
        self._keys[run_id] = key

    def destroy(self, run_id: str) -> None:
        """Forget the key."""
        self._keys.pop(run_id, None)


class FileNoiseKeys:
    """One file for each running run, beside the database; see the module's rules.

    Args:
        directory: Made for the owner only where it does not exist.

    Raises:
        RunKeyError: others may look into the folder.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_private(directory)
        self._directory = directory

    def load(self, run_id: str) -> bytes | None:
        """Return the key, or None.

        Raises:
            RunKeyError: others may read the file, or it is not a key.
        """
        path = self._path(run_id)
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            return None
        _require_private(path)
        if len(key) != KEY_BYTES:
            raise RunKeyError(f"the noise key of run {run_id} is damaged; abandon the run")
        return key

    def store(self, run_id: str, key: bytes) -> None:
        """Write the key; it is on the disk when this returns.

        Raises:
            RunKeyError: there is a key of that run.
        """
        path = self._path(run_id)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise RunKeyError(f"run {run_id} has a noise key already; resume it") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        self._sync()

    def destroy(self, run_id: str) -> None:
        """Overwrite the key, and unlink it."""
        path = self._path(run_id)
        try:
            with path.open("r+b") as file:
                file.write(bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except FileNotFoundError:
            return
        path.unlink()
        self._sync()

    def _path(self, run_id: str) -> Path:
        if len(run_id) != 32 or not set(run_id) <= set("0123456789abcdef"):
            raise ValueError("a run's id is 32 hexadecimal digits")
        return self._directory / f"{run_id}.key"

    def _sync(self) -> None:
        with _opened(self._directory) as descriptor:
            os.fsync(descriptor)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _require_private(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        raise RunKeyError(f"{path} may be read by others; make it the owner's alone (chmod go=)")
